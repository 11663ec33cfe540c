//! Requests that the host signs.

use std::time::SystemTime;

use stagewright_model::{
    BodyDigest, CredentialDeclaration, CredentialKind, OriginTarget, RequestSigner, RequestToSign, SecretValue,
    SignedHeaders, SigningError, TlsSettings,
};

use super::*;
use crate::capability::credentials::SignerSource;

mod tls;

/// Adds `authorization: Signed TOKEN-NAME`, and notes what it signs.
#[derive(Debug)]
struct TestSigner {
    name: String,
    origins: Vec<OriginTarget>,
    tls: TlsSettings,
    header: &'static str,
    signed: Arc<StdMutex<Vec<RequestToSign>>>,
}

impl RequestSigner for TestSigner {
    fn origins(&self) -> &[OriginTarget] {
        &self.origins
    }

    fn tls(&self) -> &TlsSettings {
        &self.tls
    }

    fn covers_content(&self) -> bool {
        true
    }

    fn confidential(&self) -> Vec<SecretValue> {
        vec!["base-secret-1".into()]
    }

    fn expires(&self) -> Option<SystemTime> {
        (self.name == "old").then(|| SystemTime::now() - Duration::from_secs(3 * 3600 + 60))
    }

    fn sign(&self, request: &RequestToSign) -> Result<SignedHeaders, SigningError> {
        self.signed.lock().unwrap().push(request.clone());
        if request.url.path() == "/refused" {
            let (message, help) = ("the authority issued no token".to_owned(), "ask for one".to_owned());
            return Err(SigningError { message, help });
        }
        let token = format!("token-{}", self.name);
        let value = SecretValue::from(format!("Signed {token}").as_str());
        Ok(SignedHeaders { headers: vec![(self.header, value)], confidential: vec![token.as_str().into()] })
    }
}

/// The declared credentials with their signers, and the names of those that were asked for.
#[derive(Default)]
struct TestSigners {
    all: BTreeMap<String, (CredentialDeclaration, Arc<TestSigner>)>,
    asked: StdMutex<Vec<String>>,
    signed: Arc<StdMutex<Vec<RequestToSign>>>,
}

impl SignerSource for TestSigners {
    fn declared(&self, name: &str) -> Option<&CredentialDeclaration> {
        Some(&self.all.get(name)?.0)
    }

    fn signer(&self, name: &str) -> Result<Arc<dyn RequestSigner>, SigningError> {
        self.asked.lock().unwrap().push(name.to_owned());
        Ok(self.all[name].1.clone())
    }

    fn private_key(&self, name: &str) -> Result<Option<SecretValue>, SigningError> {
        unreachable!("requests need no key for SSH, not even `{name}`")
    }
}

impl TestSigners {
    /// Adds a credential for `origins`.
    fn with(self, name: &str, origins: &[&str]) -> TestSigners {
        let kind = CredentialKind::Bearer { token: "t".to_owned() };
        self.with_kind(name, kind, origins, origins, TlsSettings::default())
    }

    /// `declared`: the origins in the pipeline file. `actual`: those of the signer.
    fn with_kind(
        mut self,
        name: &str,
        kind: CredentialKind,
        declared: &[&str],
        actual: &[&str],
        tls: TlsSettings,
    ) -> TestSigners {
        let parsed = |origins: &[&str]| {
            origins.iter().map(|origin| origin.parse().unwrap()).collect::<Vec<stagewright_model::CredentialOrigin>>()
        };
        let header = match kind {
            CredentialKind::DockerRegistry { .. } => "x-registry-auth",
            _ => "authorization",
        };
        let signer = TestSigner {
            name: name.to_owned(),
            origins: parsed(actual).iter().map(|origin| origin.target().clone()).collect(),
            tls,
            header,
            signed: self.signed.clone(),
        };
        let declared = CredentialDeclaration { kind, origins: parsed(declared), ca: None };
        self.all.insert(name.to_owned(), (declared, Arc::new(signer)));
        self
    }

    /// A stage that is granted all of these credentials, and `net`.
    fn stage(self, net: &[&str]) -> (Fixture, Arc<TestSigners>) {
        let mut fixture = fixture(net);
        let granted = self.all.keys().map(|name| name.parse().unwrap()).collect();
        let permissions = Permissions {
            net: net.iter().map(|entry| entry.parse().unwrap()).collect(),
            write: vec!["out".parse().unwrap()],
            secrets: vec!["token".parse().unwrap()],
            credentials: granted,
            ..Permissions::default()
        };
        let policy = Arc::new(Policy::new("stages.test", &permissions, &Default::default(), Arc::default()));
        let source = Arc::new(self);
        fixture.http.policy = policy.clone();
        fixture.http.credentials = StageCredentials::new(
            source.clone(),
            policy,
            Rehearsal::none(),
            fixture.log.log.masker().clone(),
            fixture.http.client.clone(),
        );
        (fixture, source)
    }
}

/// A stage in a rehearsal that grants `real` credentials.
fn rehearsed(source: TestSigners, real: &[&str]) -> (Fixture, Arc<TestSigners>, AttemptAborter) {
    let (mut fixture, source) = source.stage(&[]);
    let real =
        Permissions { credentials: real.iter().map(|name| name.parse().unwrap()).collect(), ..Permissions::default() };
    let terms = RehearsalTerms { is_configured: true, real, offline: false };
    let own = Permissions::default();
    let (rehearsal, aborter) = crate::testing::rehearsal(fixture.folder.path(), &own, &terms, &fixture.log);
    fixture.http.rehearsal = rehearsal.clone();
    fixture.http.credentials = StageCredentials::new(
        source.clone(),
        fixture.http.policy.clone(),
        rehearsal,
        fixture.log.log.masker().clone(),
        fixture.http.client.clone(),
    );
    (fixture, source, aborter)
}

fn kubeconfig() -> CredentialKind {
    CredentialKind::Kubeconfig { file: "kube".to_owned(), context: None }
}

#[tokio::test]
async fn requests_to_the_origins_of_a_credential_are_granted_signed_and_masked() {
    let server = Server::start(|request| answer("200 OK", "x-echo: base-secret-1\r\n", request)).await;
    let (fixture, _) = TestSigners::default().with("api", &[&server.address]).stage(&[]);
    let mut response = fixture.http.send(&get(&format!("{}/x?q=1", server.address))).await.unwrap();
    assert!(server.seen()[0].contains("authorization: Signed token-api\r\n"), "{:?}", server.seen());
    assert!(server.seen()[0].contains("accept-encoding: identity\r\n"), "a compressed echo could not be masked");
    assert_eq!(response.header("x-echo", fixture.log.log.masker()), ["***"]);
    let echoed = body(&mut response).await;
    assert!(echoed.contains("authorization: Signed ***\r\n") && !echoed.contains("token-api"), "{echoed}");
    let denied = fixture.http.send(&get("http://127.0.0.1:1/")).await.err().unwrap();
    assert_eq!(denied.code, ErrorCode::PermissionDenied, "no other origin is granted");
}

#[tokio::test]
async fn the_log_says_since_when_a_refused_credential_has_expired() {
    let server = Server::start(|request| match request.contains("/refused-by-server") {
        true => answer("401 Unauthorized", "", ""),
        false => answer("200 OK", "", ""),
    })
    .await;
    let (mut fixture, _) = TestSigners::default().with("old", &[&server.address]).stage(&[]);
    assert_eq!(fixture.http.send(&get(&server.address)).await.unwrap().status, 200);
    assert_eq!(fixture.log.lines(), [""; 0], "the server has accepted it");
    fixture.http.send(&get(&format!("{}/refused-by-server", server.address))).await.unwrap();
    let notice = "the token of the credential `old` expired 3 h ago, by this machine's clock: renew its secret";
    assert_eq!(fixture.log.lines(), [notice]);
    let (mut fixture, _) = TestSigners::default().with("new", &[&server.address]).stage(&[]);
    fixture.http.send(&get(&format!("{}/refused-by-server", server.address))).await.unwrap();
    assert_eq!(fixture.log.lines(), [""; 0], "it hasn't expired");
}

#[tokio::test]
async fn without_the_grant_of_its_credential_an_origin_is_neither_granted_nor_signed() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let (mut fixture, _) = TestSigners::default().with("api", &[&server.address]).stage(&[]);
    let none = Permissions { net: vec![server.address.parse().unwrap()], ..Permissions::default() };
    let policy = Arc::new(Policy::new("stages.test", &none, &Default::default(), Arc::default()));
    let source = Arc::new(TestSigners::default().with("api", &[&server.address]));
    let (masker, client) = (fixture.log.log.masker().clone(), fixture.http.client.clone());
    fixture.http.credentials = StageCredentials::new(source.clone(), policy, Rehearsal::none(), masker, client);
    assert_eq!(fixture.http.send(&get(&server.address)).await.err().unwrap().code, ErrorCode::PermissionDenied);
    fixture.http.policy = Arc::new(Policy::new("stages.test", &none, &Default::default(), Arc::default()));
    fixture.http.send(&get(&server.address)).await.unwrap();
    assert!(!server.seen()[0].contains("authorization"), "{:?}", server.seen());
    assert_eq!(source.asked.lock().unwrap()[..], [""; 0], "and its secrets aren't fetched");
}

#[tokio::test]
async fn the_grant_of_a_credential_opens_nothing_for_programs() {
    let (fixture, _) = TestSigners::default().with("api", &["https://api.example.org"]).stage(&[]);
    let origin = Origin::of_url("https://api.example.org/").unwrap();
    assert!(fixture.http.policy.origin(&origin).is_err() && fixture.http.policy.tunnel(&origin).is_err());
    assert!(!fixture.http.policy.has_network());
}

#[tokio::test]
async fn a_guest_can_neither_set_nor_replace_a_signed_header() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let (fixture, source) = TestSigners::default().with("api", &[&server.address]).stage(&[]);
    for name in ["Authorization", "authorization"] {
        let mut request = get(&server.address);
        request.headers.push((name.into(), "Bearer mine".into()));
        let refused = fixture.http.send(&request).await.err().unwrap();
        let expected = format!(
            "the plugin sets the header `authorization` in a request to {}/, which the credential `api` signs",
            server.address
        );
        assert_eq!((refused.code, refused.message), (ErrorCode::InvalidArgument, expected));
    }
    let mut request = get(&server.address);
    request.secret_headers.push(SecretHeader { name: "AUTHORIZATION".into(), ..token(&fixture).await });
    assert_eq!(fixture.http.send(&request).await.err().unwrap().code, ErrorCode::InvalidArgument);
    assert_eq!((server.seen(), source.signed.lock().unwrap().len()), (Vec::new(), 0));
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_never_signed_and_needs_a_grant_of_its_own() {
    let other = Server::start(|request| match request.split(' ').nth(1).unwrap() {
        "/back" => answer("302 Found", "location: http://127.0.0.1/\r\n", ""),
        _ => answer("200 OK", "", "other"),
    })
    .await;
    let target = other.address.clone();
    let server = Server::start(move |request| match request.split(' ').nth(1).unwrap() {
        "/away" => answer("307 Temporary Redirect", &format!("location: {target}/x\r\n"), ""),
        "/within" => answer("302 Found", "location: /end?q=2\r\n", ""),
        _ => answer("200 OK", "", "end"),
    })
    .await;
    let away = get(&format!("{}/away", server.address));
    // The other origin is another credential's.
    let both = || TestSigners::default().with("api", &[&server.address]).with("other", &[&other.address]);
    let (fixture, _) = both().stage(&[]);
    let denied = fixture.http.send(&away).await.err().unwrap();
    assert_eq!((denied.code, other.seen()), (ErrorCode::PermissionDenied, Vec::new()));
    let (fixture, source) = both().stage(&[&other.address]);
    assert_eq!(body(&mut fixture.http.send(&away).await.unwrap()).await, "other");
    assert!(!other.seen()[0].contains("authorization"), "{:?}", other.seen());
    assert_eq!(source.asked.lock().unwrap()[..], ["api"]);
    // Within the origin, each request is signed again.
    let (fixture, source) = both().stage(&[]);
    fixture.http.send(&get(&format!("{}/within", server.address))).await.unwrap();
    let paths = |source: &TestSigners| {
        source.signed.lock().unwrap().iter().map(|one| one.url.path().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&source), ["/within", "/end"]);
    assert!(server.seen().last().unwrap().contains("authorization: Signed token-api"));
}

#[tokio::test]
async fn a_redirect_that_comes_back_is_not_signed_again() {
    let place = Arc::new(StdMutex::new(String::new()));
    let back = place.clone();
    let other =
        Server::start(move |_| answer("302 Found", &format!("location: {}/end\r\n", back.lock().unwrap()), "")).await;
    let target = other.address.clone();
    let server = Server::start(move |request| match request.split(' ').nth(1).unwrap() {
        "/away" => answer("302 Found", &format!("location: {target}/\r\n"), ""),
        _ => answer("200 OK", "", "end"),
    })
    .await;
    place.lock().unwrap().clone_from(&server.address);
    let (fixture, _) = TestSigners::default().with("api", &[&server.address]).stage(&[&other.address, &server.address]);
    fixture.http.send(&get(&format!("{}/away", server.address))).await.unwrap();
    assert!(!server.seen()[1].contains("authorization"), "{:?}", server.seen());
}

#[tokio::test]
async fn a_signature_covers_what_is_really_sent() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let (fixture, source) = TestSigners::default().with("api", &[&server.address]).stage(&[]);
    std::fs::create_dir(fixture.folder.path().join("out")).unwrap();
    std::fs::write(fixture.folder.path().join("out/in.txt"), "1234").unwrap();
    for body in [Body::Bytes("1234".into()), Body::File("out/in.txt".into()), Body::None] {
        let mut request =
            RequestBuilder { method: "put".into(), body, ..get(&format!("{}/a%20b?q=1", server.address)) };
        request.headers.push(("X-Own".into(), "v".into()));
        request.secret_headers.push(SecretHeader { name: "x-token".into(), ..token(&fixture).await });
        fixture.http.send(&request).await.unwrap();
    }
    let signed = source.signed.lock().unwrap().clone();
    // `printf 1234 | sha256sum`.
    let digest = BodyDigest::Sha256([
        0x03, 0xac, 0x67, 0x42, 0x16, 0xf3, 0xe1, 0x5c, 0x76, 0x1e, 0xe1, 0xa5, 0xe2, 0x55, 0xf0, 0x67, 0x95, 0x36,
        0x23, 0xc8, 0xb3, 0x88, 0xb4, 0x45, 0x9e, 0x13, 0xf9, 0x78, 0xd7, 0xc8, 0x46, 0xf4,
    ]);
    assert_eq!(signed.iter().map(|one| one.body).collect::<Vec<_>>(), [digest, digest, BodyDigest::Empty]);
    for (signed, sent) in signed.iter().zip(server.seen()) {
        assert!(sent.starts_with(&format!("{} /a%20b?q=1 ", signed.method)) && signed.method == "PUT", "{sent}");
        assert_eq!((signed.url.path(), signed.url.query()), ("/a%20b", Some("q=1")));
        for (name, value) in &signed.headers {
            assert!(sent.contains(&format!("\r\n{name}: {value}\r\n")), "{name} isn't sent: {sent}");
        }
        let names = signed.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert!(["x-own", "x-token", "accept-encoding"].iter().all(|name| names.contains(name)), "{names:?}");
    }
    assert!(server.seen()[..2].iter().all(|sent| sent.ends_with("1234")), "the file is sent from its beginning");
}

#[tokio::test]
async fn a_request_that_cannot_be_signed_is_not_sent() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let (fixture, _) = TestSigners::default().with("api", &[&server.address]).stage(&[]);
    let refused = fixture.http.send(&get(&format!("{}/refused", server.address))).await.err().unwrap();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (ErrorCode::FailedPrecondition, "the authority issued no token")
    );
    let mut request = get(&server.address);
    request.headers.push(("x-own".into(), "\u{e9}".into()));
    let refused = fixture.http.send(&request).await.err().unwrap();
    assert_eq!(refused.message, "the header `x-own` can't be signed: its value isn't ASCII");
    assert_eq!(server.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn the_server_of_a_kubeconfig_is_known_from_its_signer_and_belongs_to_one_credential() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let cluster = |source: TestSigners, name| {
        source.with_kind(name, kubeconfig(), &[], &[&server.address], TlsSettings::default())
    };
    let (fixture, _) = cluster(TestSigners::default(), "one").stage(&[]);
    assert_eq!(fixture.http.endpoint("one").await.unwrap(), server.address);
    fixture.http.send(&get(&server.address)).await.unwrap();
    assert!(server.seen()[0].contains("authorization: Signed token-one"));
    let (fixture, _) = cluster(cluster(TestSigners::default(), "one"), "two").stage(&[]);
    let refused = fixture.http.send(&get(&server.address)).await.err().unwrap();
    let expected = format!("the credentials `one` and `two` both sign requests to {}", server.address);
    assert_eq!((refused.message, server.seen().len()), (expected, 1));
}

#[tokio::test]
async fn a_guest_learns_the_endpoint_of_a_granted_credential_and_of_no_other() {
    let source = TestSigners::default()
        .with("api", &["https://api.example.org"])
        .with("two", &["https://a.test", "https://b.test"]);
    let (fixture, source) = source.stage(&[]);
    assert_eq!(fixture.http.endpoint("api").await.unwrap(), "https://api.example.org");
    let several = fixture.http.endpoint("two").await.unwrap_err();
    assert_eq!(
        (several.code, several.message.as_str()),
        (ErrorCode::FailedPrecondition, "the credential `two` has several origins")
    );
    let denied = fixture.http.endpoint("other").await.unwrap_err();
    assert_eq!(denied.code, ErrorCode::PermissionDenied);
    let help = r#"change in [stages.test.permissions]: credentials = ["api", "other", "two"]"#;
    assert_eq!(denied.help.as_deref(), Some(help));
    assert!(source.signed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_rehearsal_neither_signs_nor_sends_nor_fetches_what_it_does_not_grant() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    for method in ["GET", "POST"] {
        let (fixture, source, aborter) = rehearsed(TestSigners::default().with("api", &[&server.address]), &[]);
        let request = RequestBuilder { method: method.into(), ..get(&format!("{}/x?q=1", server.address)) };
        let would = format!("would send {method} {}/x (0 bytes), signed with the credential `api`", server.address);
        assert_eq!(withheld(&fixture, &aborter, &request).await, would);
        assert_eq!(source.asked.lock().unwrap()[..], [""; 0]);
    }
    // The server of a kubeconfig has a stand-in, since its secret isn't fetched.
    let cluster = || {
        TestSigners::default().with_kind("the_cluster", kubeconfig(), &[], &[&server.address], TlsSettings::default())
    };
    let (fixture, source, aborter) = rehearsed(cluster(), &[]);
    let endpoint = fixture.http.endpoint("the_cluster").await.unwrap();
    assert_eq!(endpoint, "https://the-cluster.invalid");
    let would =
        "would send GET https://the-cluster.invalid/version (0 bytes), signed with the credential `the_cluster`";
    assert_eq!(withheld(&fixture, &aborter, &get(&format!("{endpoint}/version"))).await, would);
    assert_eq!(source.asked.lock().unwrap()[..], [""; 0]);
    assert_eq!(server.seen(), Vec::<String>::new());

    let (fixture, _, _aborter) = rehearsed(cluster(), &["the_cluster"]);
    let endpoint = fixture.http.endpoint("the_cluster").await.unwrap();
    fixture.http.send(&get(&endpoint)).await.unwrap();
    assert!(server.seen()[0].contains("authorization: Signed token-the_cluster"));
}

#[tokio::test]
async fn a_service_of_the_stage_itself_gets_no_credential() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let (fixture, source) = TestSigners::default().with("api", &[&server.address]).stage(&[]);
    fixture.http.own.add(&server.address);
    fixture.http.send(&get(&server.address)).await.unwrap();
    assert!(!server.seen()[0].contains("authorization"), "{:?}", server.seen());
    assert_eq!(source.asked.lock().unwrap()[..], [""; 0]);
}

#[tokio::test]
async fn over_a_socket_a_credential_adds_its_header_and_grants_nothing() {
    let server = sockets::SocketServer::start("200 OK", "");
    let registry = |name: &str| CredentialKind::DockerRegistry {
        registry: name.to_owned(),
        username: "ada".to_owned(),
        password: "p".to_owned(),
    };
    let socket = format!("unix://{}/own.sock", server.folder.path().display());
    let with = || {
        let origins = [socket.as_str()];
        TestSigners::default().with_kind("hub", registry("ghcr.io"), &origins, &origins, TlsSettings::default())
    };
    let pull = RequestBuilder { method: "POST".into(), ..get(&server.url("/images/create?fromImage=ghcr.io/a")) };
    let (fixture, _) = with().stage(&[]);
    assert_eq!(fixture.http.send(&pull).await.err().unwrap().code, ErrorCode::PermissionDenied);
    let (fixture, source) = with().stage(&[&socket]);
    fixture.http.send(&pull).await.unwrap();
    assert!(server.seen()[0].contains("x-registry-auth: Signed token-hub\r\n"), "{:?}", server.seen());
    let signed = source.signed.lock().unwrap()[0].clone();
    assert_eq!(
        (signed.method.as_str(), signed.url.as_str(), signed.body),
        ("POST", "http://localhost/images/create?fromImage=ghcr.io/a", BodyDigest::Empty)
    );
    let mut own = pull.clone();
    own.headers.push(("X-Registry-Auth".into(), "mine".into()));
    assert_eq!(fixture.http.send(&own).await.err().unwrap().code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_read_of_a_json_protocol_is_no_effect() {
    let server = Server::start(|_| answer("200 OK", "", "{}")).await;
    let origin = server.address.as_str();
    let aws = |service: &str| CredentialKind::AwsSigV4 {
        access_key_id: "id".to_owned(),
        secret_access_key: "key".to_owned(),
        session_token: None,
        region: "us-east-1".to_owned(),
        service: service.to_owned(),
    };
    let targets =
        ["V1.ListTasks", "V1.DescribeServices", "V1.UpdateService", "V1.Listen", "ListTasks", "ListTasks.Delete"];
    for (service, reads) in [("ecs", 2), ("s3", 0)] {
        let signers = TestSigners::default();
        let (mut fixture, _) =
            signers.with_kind("aws", aws(service), &[origin], &[origin], TlsSettings::default()).stage(&[]);
        fixture.http.effects = fixture.log.effects_with_verdict(stagewright_engine::Call::Observe, Ok(())).0;
        let mut sent = 0;
        for (method, target) in targets.iter().map(|target| ("POST", *target)).chain([("DELETE", targets[0])]) {
            let mut request = RequestBuilder { method: method.into(), ..get(origin) };
            request.headers.push(("x-amz-target".to_owned(), target.to_owned()));
            sent += usize::from(fixture.http.send(&request).await.is_ok());
        }
        assert_eq!(sent, reads, "{service}");
        // What could name a change besides the read.
        let mut twice = RequestBuilder { method: "POST".into(), ..get(origin) };
        twice.headers.extend(["V1.ListTasks", "V1.UpdateService"].map(|target| ("x-amz-target".into(), target.into())));
        assert!(fixture.http.send(&twice).await.is_err(), "{service}");
        let mut hidden = RequestBuilder { method: "POST".into(), ..get(origin) };
        hidden.headers.push(("x-amz-target".into(), "V1.ListTasks".into()));
        hidden.secret_headers.push(SecretHeader { name: "x-amz-target".into(), ..token(&fixture).await });
        assert!(fixture.http.send(&hidden).await.is_err(), "{service}");
    }
}
