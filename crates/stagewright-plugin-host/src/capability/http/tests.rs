#![expect(clippy::disallowed_methods, reason = "tests read what they made themselves")]

use std::collections::BTreeMap;
use std::sync::Mutex as StdMutex;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use stagewright_model::{Permissions, RehearsalTerms};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::capability::secrets::{Secret, SecretError, SecretSource, StageSecrets};
use crate::net::client::client;
use crate::net::{SystemLookup, Upstream};
use crate::stop::{AttemptAborter, StopReason};
use crate::testing::TestLog;

mod credentials;
mod hostile;
mod sockets;
mod url_secrets;

/// A server that responds to each request with what `answer` returns for it. `seen` has the requests as text.
struct Server {
    address: String,
    seen: Arc<StdMutex<Vec<String>>>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(StdMutex::new(Vec::new()));
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let request = read_request(&mut socket).await;
                let answer = answer(&request);
                log.lock().unwrap().push(request);
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Server { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read_request(socket: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut data = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = socket.read(&mut piece).await.unwrap();
        data.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&data).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            return text;
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

struct Fixture {
    folder: tempfile::TempDir,
    log: TestLog,
    http: Http,
}

fn fixture(net: &[&str]) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let permissions = Permissions {
        net: net.iter().map(|entry| entry.parse().unwrap()).collect(),
        write: vec!["out".parse().unwrap()],
        secrets: vec!["token".parse().unwrap()],
        ..Permissions::default()
    };
    let policy = Arc::new(Policy::new("stages.test", &permissions, &Default::default(), Arc::default()));
    let root = Arc::new(Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap());
    let workspace = WorkspaceFiles::new(root, policy.clone(), 1 << 20);
    let log = TestLog::new();
    let client = client(&Upstream::default(), Arc::new(SystemLookup)).unwrap();
    let http = Http {
        credentials: StageCredentials::new(
            Arc::new(()),
            policy.clone(),
            Rehearsal::none(),
            log.log.masker().clone(),
            client.clone(),
        ),
        client,
        quota: Quota::new(2, 1 << 20, policy.clone()),
        policy,
        workspace,
        log: log.log.clone(),
        own: OwnOrigins::default(),
        rehearsal: Rehearsal::none(),
        effects: log.effects(),
    };
    Fixture { folder, log, http }
}

fn get(url: &str) -> RequestBuilder {
    RequestBuilder::new("GET".into(), url.into())
}

async fn body(response: &mut ResponseHandle) -> String {
    let mut all = Vec::new();
    loop {
        let data = response.read(7).await.unwrap();
        assert!(data.len() <= 7);
        if data.is_empty() {
            return String::from_utf8(all).unwrap();
        }
        all.extend(data);
    }
}

struct Token;

impl SecretSource for Token {
    fn secret(&self, _name: &str) -> Result<Option<Secret>, SecretError> {
        Ok(Some(Secret {
            value: "hunter2hunter2".into(),
            hosts: vec!["127.0.0.1".parse().unwrap(), "unix:///known.sock".parse().unwrap()],
            programs: vec![],
            scheme: Default::default(),
        }))
    }

    fn stand_in(&self, name: &str) -> Option<Secret> {
        let hosts = vec!["127.0.0.1".parse().unwrap(), "api.example.org".parse().unwrap()];
        Some(Secret {
            value: format!("stand-in-{name}").as_str().into(),
            hosts,
            programs: vec![],
            scheme: Default::default(),
        })
    }
}

async fn token(fixture: &Fixture) -> SecretHeader {
    let secrets = StageSecrets {
        source: Arc::new(Token),
        policy: fixture.http.policy.clone(),
        masker: fixture.log.log.masker().clone(),
        rehearsal: fixture.http.rehearsal.clone(),
    };
    let secret = secrets.get("token").await.unwrap();
    SecretHeader { name: "authorization".into(), prefix: "Bearer ".into(), secret }
}

#[tokio::test]
async fn a_request_with_an_unsafe_method_is_announced_and_not_sent_when_that_is_refused() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let mut fixture = fixture(&[&server.address]);
    let refused = Err(stagewright_engine::EffectRefused::Superseded("staging".into()));
    let (effects, announced) = fixture.log.effects_with_verdict(stagewright_engine::Call::Run, refused);
    fixture.http.effects = effects;
    fixture.http.send(&get(&server.address)).await.unwrap();
    for method in ["POST", "put", "PATCH", "DELETE", "BREW"] {
        let request = RequestBuilder { method: method.into(), ..get(&server.address) };
        assert!(fixture.http.send(&request).await.is_err(), "{method}");
    }
    assert_eq!(server.seen().len(), 1, "only the GET was sent");
    assert_eq!(announced.lock().unwrap().len(), 5);
    assert!(announced.lock().unwrap()[0].starts_with("POST http://127.0.0.1"), "{announced:?}");
}

#[tokio::test]
async fn a_granted_origin_is_called_and_another_is_not() {
    let server = Server::start(|_| answer("200 OK", "x-a: b\r\n", "a longer body than one read")).await;
    let fixture = fixture(&[&server.address]);
    let mut request = get(&format!("{}/path?q=1", server.address));
    request.method = "post".into();
    request.headers.push(("X-Own".into(), "v".into()));
    request.body = Body::Bytes("hello".into());
    let mut response = fixture.http.send(&request).await.unwrap();
    assert_eq!((response.status, response.headers.get("x-a").unwrap().to_str().unwrap()), (200, "b"));
    assert_eq!(body(&mut response).await, "a longer body than one read");
    let seen = &server.seen()[0];
    assert!(seen.starts_with("POST /path?q=1 ") && seen.contains("x-own: v") && seen.ends_with("hello"), "{seen}");

    let error = fixture.http.send(&get("http://127.0.0.1:1/")).await.err().unwrap();
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    assert_eq!(fixture.http.send(&get("file:///etc/passwd")).await.err().unwrap().code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_guest_cannot_set_headers_of_the_connection() {
    let fixture = fixture(&["http://127.0.0.1:1"]);
    for name in ["Host", "transfer-encoding", "content-length"] {
        let mut request = get("http://127.0.0.1:1/");
        request.headers.push((name.into(), "1".into()));
        assert_eq!(fixture.http.send(&request).await.err().unwrap().code, ErrorCode::InvalidArgument, "{name}");
    }
}

#[tokio::test]
async fn each_hop_of_a_redirect_is_checked() {
    let outside = Server::start(|_| answer("200 OK", "", "outside")).await;
    let target = outside.address.clone();
    let server = Server::start(move |request| match request.split(' ').nth(1).unwrap() {
        "/out" => answer("302 Found", &format!("location: {target}/x\r\n"), ""),
        "/loop" => answer("302 Found", "location: /loop\r\n", ""),
        "/post" => answer("303 See Other", "location: /end\r\n", ""),
        path => answer("200 OK", "", path),
    })
    .await;
    let fixture = fixture(&[&server.address]);
    let url = |path: &str| format!("{}{path}", server.address);
    let error = fixture.http.send(&get(&url("/out"))).await.err().unwrap();
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    assert_eq!(outside.seen(), [""; 0]);

    let looped = fixture.http.send(&RequestBuilder { max_redirects: 3, ..get(&url("/loop")) }).await.unwrap();
    assert_eq!((looped.status, server.seen().len()), (302, 5));

    let mut request = get(&url("/post"));
    request.method = "POST".into();
    request.body = Body::Bytes("x".into());
    assert_eq!(body(&mut fixture.http.send(&request).await.unwrap()).await, "/end");
    assert!(server.seen().last().unwrap().starts_with("GET /end "));
}

#[tokio::test]
async fn a_secret_is_sent_to_its_origin_only_and_hidden_from_the_guest() {
    let other = Server::start(|_| answer("200 OK", "", "other")).await;
    let target = other.address.clone();
    let server = Server::start(move |request| match request.split(' ').nth(1).unwrap() {
        "/away" => answer("307 Temporary Redirect", &format!("location: {target}/\r\n"), ""),
        _ => answer("200 OK", "", &format!("echo: {request}")),
    })
    .await;
    let fixture = fixture(&[&server.address, &other.address]);
    let mut request = get(&format!("{}/echo", server.address));
    request.secret_headers.push(token(&fixture).await);
    let echoed = body(&mut fixture.http.send(&request).await.unwrap()).await;
    assert!(server.seen()[0].contains("authorization: Bearer hunter2hunter2"), "it was sent");
    assert!(echoed.contains("authorization: Bearer ***"), "{echoed}");

    request.url = format!("{}/away", server.address);
    fixture.http.send(&request).await.unwrap();
    assert!(!other.seen()[0].contains("authorization"), "{:?}", other.seen());
}

/// `{"value":"SECRET"}`
async fn with_secret_body(fixture: &Fixture, url: &str, encoding: &str) -> RequestBuilder {
    let mut request = RequestBuilder { method: "POST".into(), ..get(url) };
    request.append(&fixture.http.quota, br#"{"value":""#.to_vec());
    request.append_secret(&fixture.http.quota, token(fixture).await.secret, encoding);
    request.append(&fixture.http.quota, br#""}"#.to_vec());
    request
}

#[tokio::test]
async fn a_secret_in_a_body_goes_where_one_in_a_header_may_go() {
    let other = Server::start(|_| answer("200 OK", "", "other")).await;
    let target = other.address.clone();
    let server = Server::start(move |request| match request.split(' ').nth(1).unwrap() {
        "/away" => answer("307 Temporary Redirect", &format!("location: {target}/\r\n"), ""),
        _ => answer("200 OK", "", request.rsplit("\r\n").next().unwrap()),
    })
    .await;
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let fixture = fixture(&[&server.address, &other.address, &format!("http://localhost:{port}")]);
    let echo = with_secret_body(&fixture, &format!("{}/echo", server.address), "json").await;
    let echoed = body(&mut fixture.http.send(&echo).await.unwrap()).await;
    assert!(server.seen()[0].ends_with(r#"{"value":"hunter2hunter2"}"#), "{:?}", server.seen());
    assert_eq!(echoed, r#"{"value":"***"}"#);

    let away = with_secret_body(&fixture, &format!("{}/away", server.address), "plain").await;
    let refused = fixture.http.send(&away).await.err().unwrap();
    assert!(refused.message.contains("to which the secret `token` of the body isn't sent"), "{refused:?}");
    assert_eq!(other.seen(), [""; 0]);

    let elsewhere = with_secret_body(&fixture, &format!("http://localhost:{port}/"), "json").await;
    let refused = fixture.http.send(&elsewhere).await.err().unwrap();
    assert_eq!(
        refused.help.as_deref(),
        Some(r#"change in [secrets.token]: hosts = ["127.0.0.1", "unix:///known.sock", "localhost"]"#)
    );
    let unknown = with_secret_body(&fixture, &server.address, "hex").await;
    assert_eq!(fixture.http.send(&unknown).await.err().unwrap().code, ErrorCode::InvalidArgument);
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_secret_in_a_body_is_encoded_for_its_surroundings() {
    use super::request::Encoding;
    let value = "a\"b\nß";
    assert_eq!(Encoding::Plain.encode(value), value);
    assert_eq!(Encoding::Json.encode(value), r#"a\"b\nß"#);
    assert_eq!(Encoding::Base64.encode(value), "YSJiCsOf");
}

#[tokio::test]
async fn a_secret_for_another_host_is_refused_before_anything_is_sent() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let fixture = fixture(&[&format!("http://localhost:{port}")]);
    let mut request = get(&format!("http://localhost:{port}/"));
    request.secret_headers.push(token(&fixture).await);
    let error = fixture.http.send(&request).await.err().unwrap();
    assert_eq!(
        error.help.as_deref(),
        Some(r#"change in [secrets.token]: hosts = ["127.0.0.1", "unix:///known.sock", "localhost"]"#)
    );
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn bodies_are_sent_from_files_and_saved_to_files() {
    let server = Server::start(|request| answer("200 OK", "", &request[request.len() - 4..])).await;
    let fixture = fixture(&[&server.address]);
    std::fs::create_dir(fixture.folder.path().join("out")).unwrap();
    std::fs::write(fixture.folder.path().join("out/in.txt"), "1234").unwrap();
    let mut request = get(&server.address);
    request.method = "PUT".into();
    request.body = Body::File("out/in.txt".into());
    let mut response = fixture.http.send(&request).await.unwrap();
    assert!(server.seen()[0].contains("content-length: 4"), "{:?}", server.seen());
    assert_eq!(response.save(&fixture.http.workspace, "out/deep/back.txt".into()).await, Ok(4));
    assert_eq!(std::fs::read_to_string(fixture.folder.path().join("out/deep/back.txt")).unwrap(), "1234");

    let mut response = fixture.http.send(&request).await.unwrap();
    let denied = response.save(&fixture.http.workspace, "elsewhere".into()).await.unwrap_err();
    assert_eq!(denied.code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn an_interrupted_body_leaves_no_file() {
    let server = Server::start(|_| "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".into()).await;
    let fixture = fixture(&[&server.address]);
    let mut response = fixture.http.send(&get(&server.address)).await.unwrap();
    let error = response.save(&fixture.http.workspace, "out/half".into()).await.unwrap_err();
    assert_eq!(error.retryable, Some(true), "{error:?}");
    assert!(!fixture.folder.path().join("out/half").exists());
}

/// A stage with the grants `net`, in a rehearsal that grants `real`, and the aborter of its attempt.
fn rehearsed(net: &[&str], real: &[&str]) -> (Fixture, AttemptAborter) {
    let mut fixture = fixture(net);
    let owned = |list: &[&str]| list.iter().map(|rule| rule.parse().unwrap()).collect();
    let own = Permissions { net: owned(net), ..Permissions::default() };
    let real = Permissions { net: owned(real), ..Permissions::default() };
    let terms = RehearsalTerms { is_configured: !real.net.is_empty(), real, offline: false };
    let (rehearsal, aborter) = crate::testing::rehearsal(fixture.folder.path(), &own, &terms, &fixture.log);
    fixture.http.rehearsal = rehearsal;
    (fixture, aborter)
}

/// The description of a withheld request.
async fn withheld(fixture: &Fixture, aborter: &AttemptAborter, request: &RequestBuilder) -> String {
    tokio::select! {
        answer = fixture.http.send(request) => panic!("answered: {:?}", answer.map(|answer| answer.status)),
        stopped = aborter.wait() => match stopped {
            StopReason::Rehearsed(what) => what,
            other => panic!("{other:?}"),
        },
    }
}

#[tokio::test]
async fn a_rehearsal_withholds_requests_with_any_method_and_describes_them() {
    let server = Server::start(|_| answer("200 OK", "", "real")).await;
    for method in ["GET", "HEAD", "OPTIONS", "POST", "DELETE"] {
        let (mut fixture, aborter) = rehearsed(&["https://api.example.org", &server.address], &[]);
        let url = format!("{}/deploy?token=x", server.address);
        let request = RequestBuilder { method: method.into(), ..get(&url) };
        let would = format!("would send {method} {}/deploy (0 bytes)", server.address);
        assert_eq!(withheld(&fixture, &aborter, &request).await, would);
        assert_eq!(fixture.log.lines(), [format!("rehearsal: {would}")]);
    }
    let (fixture, aborter) = rehearsed(&["https://api.example.org"], &[]);
    let mut request = get("https://api.example.org/deploy");
    request.secret_headers.push(SecretHeader { name: "x-token".into(), ..token(&fixture).await });
    let would = "would send GET https://api.example.org/deploy (0 bytes), with the secrets `token`";
    assert_eq!(withheld(&fixture, &aborter, &request).await, would);
    let (fixture, aborter) = rehearsed(&["https://api.example.org"], &[]);
    let request = with_secret_body(&fixture, "https://api.example.org/deploy", "json").await;
    let would = "would send POST https://api.example.org/deploy (12 bytes), with the secrets `token`";
    assert_eq!(withheld(&fixture, &aborter, &request).await, would);
    let refused = fixture.http.send(&get("https://other.example.org/")).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::PermissionDenied, "denied as in a real run");
    assert_eq!(server.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rehearsal_calls_origins_that_it_is_granted_with_a_stand_in_for_the_secret() {
    let server = Server::start(|_| answer("200 OK", "", "real")).await;
    let (fixture, _aborter) = rehearsed(&[&server.address], &[&server.address]);
    let mut request = get(&server.address);
    request.secret_headers.push(token(&fixture).await);
    assert_eq!(fixture.http.send(&request).await.unwrap().status, 200);
    assert!(server.seen()[0].contains("stand-in-token"), "{:?}", server.seen());
}

#[tokio::test]
async fn packages_are_fetched_for_real_unless_the_rehearsal_is_offline() {
    let fixture = fixture(&["npm"]);
    let own = Permissions { net: vec!["npm".parse().unwrap()], ..Permissions::default() };
    let registry = Origin::of_url("https://registry.npmjs.org/left-pad").unwrap();
    for (offline, passage) in [(false, RequestRoute::Real), (true, RequestRoute::Withheld)] {
        let terms = RehearsalTerms { offline, ..RehearsalTerms::default() };
        let (rehearsal, _aborter) = crate::testing::rehearsal(fixture.folder.path(), &own, &terms, &fixture.log);
        assert_eq!(rehearsal.request(&registry, true).await.unwrap(), passage, "offline: {offline}");
        assert_eq!(rehearsal.request(&registry, false).await.unwrap(), RequestRoute::Withheld, "an upload publishes");
    }
}

#[tokio::test]
async fn a_request_to_a_service_of_the_rehearsal_is_sent_to_its_actual_port() {
    let server = Server::start(|_| answer("200 OK", "", "stand-in")).await;
    let port = server.address.rsplit(':').next().unwrap();
    let (fixture, _aborter) = rehearsed(&["http://127.0.0.1:8080"], &[]);
    let service = fixture.folder.path().join("rehearsals/run-1/environments/staging/api");
    std::fs::create_dir_all(&service).unwrap();
    let record = format!(
        r#"{{ "release": "r-1", "image": "x", "address": "{}", "port": {port}, "declared": 8080, "since": 2 }}"#,
        server.address
    );
    std::fs::write(service.join("current.json"), record).unwrap();
    for url in ["http://127.0.0.1:8080/health", &format!("{}/health", server.address)] {
        assert_eq!(fixture.http.send(&get(url)).await.unwrap().status, 200, "{url}");
    }
    let other = fixture.http.send(&get("http://127.0.0.1:8081")).await.err().unwrap();
    assert_eq!(other.code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn a_service_of_the_stage_may_be_called_without_a_grant() {
    let server = Server::start(|_| answer("200 OK", "", "up")).await;
    let fixture = fixture(&[]);
    assert_eq!(fixture.http.send(&get(&server.address)).await.err().unwrap().code, ErrorCode::PermissionDenied);
    fixture.http.own.add(&server.address);
    assert_eq!(fixture.http.send(&get(&server.address)).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_failed_connection_is_retryable_and_its_error_hides_the_query() {
    let fixture = fixture(&["http://127.0.0.1:1"]);
    let error = fixture.http.send(&get("http://127.0.0.1:1/a?key=private")).await.err().unwrap();
    assert!(error.code == ErrorCode::Unavailable && error.retryable == Some(true), "{error:?}");
    assert!(!format!("{error:?}").contains("private"), "{error:?}");
}

/// The folder of the release has no running supervisor, so the server at its address must be another program.
#[tokio::test]
async fn a_response_from_another_program_at_the_address_of_a_release_is_refused() {
    let server = Server::start(|_| answer("200 OK", "", "good")).await;
    let fixture = fixture(&[]);
    let (dir, release) = (fixture.folder.path().join("release"), "r-1".to_owned());
    let port = server.address.rsplit(':').next().unwrap().parse().unwrap();
    fixture.http.own.add_release(&server.address, crate::service::Endpoint { dir, release, port });
    let error = fixture.http.send(&get(&server.address)).await.err().unwrap();
    assert_eq!(error.code, ErrorCode::Unavailable, "{error:?}");
    assert!(error.message.contains(&format!("release r-1 listens nowhere; expected 127.0.0.1:{port}")), "{error:?}");
    assert_eq!(server.seen(), [""; 0]);
}
