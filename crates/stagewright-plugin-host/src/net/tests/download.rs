//! Downloads that the proxy adds a secret to.

use reqwest::header::{COOKIE, HOST};
use reqwest::{Client, Method};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use stagewright_model::{Origin, SecretScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::mask::Masker;
use crate::net::authority::AttemptAuthority;
use crate::net::client::SharedClient;
use crate::net::credentials::ProxySecret;
use crate::net::forward::{AuthenticatedOrigin, ForwardTarget, forward};

const TOKEN: &str = "hunter2hunter2";

/// A registry that accepts TLS, and repeats the head of each request in its response.
pub(super) struct Registry {
    pub(super) origin: Origin,
    pub(super) authority: AttemptAuthority,
    seen: Arc<Mutex<Vec<String>>>,
    _task: Background,
}

impl Registry {
    /// `scheme`: http or https.
    pub(super) async fn start(scheme: &str) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = Origin::of_url(&format!("{scheme}://localhost:{port}")).unwrap();
        let authority = AttemptAuthority::new().unwrap();
        let acceptor = TlsAcceptor::from(authority.server(&origin).unwrap());
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let (heads, is_encrypted) = (seen.clone(), origin.is_https());
        let task = Background::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if !is_encrypted {
                    repeat(stream, &heads).await;
                } else if let Ok(stream) = acceptor.accept(stream).await {
                    repeat(stream, &heads).await;
                }
            }
        });
        Registry { origin, authority, seen, _task: task }
    }

    fn credentials(&self, hosts: &[&str], lookup: Script) -> Arc<ProxyCredentials> {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let secret =
            ProxySecret { name: "token".to_owned(), value: TOKEN.into(), hosts, scheme: SecretScheme::default() };
        let client = SharedClient::trusting(Arc::new(lookup), &self.authority.certificate());
        Arc::new(ProxyCredentials::new(vec![secret], Vec::new(), client, Masker::default()).unwrap())
    }

    /// The proxy of a stage that may call the registry, with a secret for `hosts`.
    async fn proxy(&self, hosts: &[&str]) -> (Fixture, Arc<ProxyCredentials>) {
        let credentials = self.credentials(hosts, Script::new(&[&["127.0.0.1"]]));
        let net = [self.origin.to_string(), "https://npm.example.org".to_owned()];
        let setup = Setup { net: &[&net[0], &net[1]], credentials: Some(credentials.clone()), ..Setup::default() };
        (setup.start().await, credentials)
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Reads a head and the rest of what is sent with it, and responds with it, in a header as well.
async fn repeat(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, seen: &Mutex<Vec<String>>) {
    let mut said = Vec::new();
    while !said.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut said).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let said = String::from_utf8(said).unwrap();
    let status = if said.contains("/moved") { "302 Found\r\nlocation: https://other.example.org/" } else { "200 OK" };
    let authorization = said.lines().find(|line| line.starts_with("authorization: ")).unwrap_or_default();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\nset-cookie: session=1\r\n");
    let answer = format!("{head}x-seen: {authorization}\r\ncontent-length: {}\r\n\r\n{said}", said.len());
    seen.lock().unwrap().push(said);
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A client in the sandbox, which trusts the attempt's authority.
pub(super) fn client(proxy: &Fixture, credentials: &ProxyCredentials) -> Client {
    let authority = reqwest::Certificate::from_der(&credentials.authority.certificate()).unwrap();
    let through = reqwest::Proxy::all(format!("http://{}", proxy.address)).unwrap();
    Client::builder().proxy(through).tls_certs_only([authority]).build().unwrap()
}

#[tokio::test]
async fn downloads_carry_the_credential_and_nothing_else_does() {
    let registry = Registry::start("https").await;
    let (proxy, credentials) = registry.proxy(&["localhost"]).await;
    let client = client(&proxy, &credentials);
    let url = format!("{}/package?a=b", registry.origin);
    let download = client.get(&url).bearer_auth("mine").header("x-http-method-override", "PUT").header(COOKIE, "a=b");
    let response = download.send().await.unwrap();
    assert_eq!((response.status(), response.headers().get("set-cookie")), (reqwest::StatusCode::OK, None));
    assert_eq!(response.headers()["x-seen"], "authorization: Bearer ***");
    let body = response.text().await.unwrap();
    assert!(body.contains("authorization: Bearer ***\r\n") && !body.contains(TOKEN), "{body}");
    assert!(client.head(&url).send().await.unwrap().status().is_success());
    let seen = registry.seen();
    for (head, method) in seen.iter().zip(["GET", "HEAD"]) {
        assert!(head.starts_with(&format!("{method} /package?a=b HTTP/1.1\r\n")), "{head}");
        assert!(head.contains(&format!("authorization: Bearer {TOKEN}\r\n")) && !head.contains("mine"), "{head}");
        assert!(!head.contains("override") && head.contains("accept-encoding: identity"), "{head}");
    }
    assert!(seen[0].contains("cookie: a=b"), "{seen:?}");

    for method in [Method::PUT, Method::POST, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let published = client.request(method.clone(), &url).bearer_auth("mine").body("package").send().await.unwrap();
        let head = published.text().await.unwrap();
        assert!(head.contains("authorization: Bearer mine\r\n"), "{method}: {head}");
    }
    client.get(&url).body("publish").send().await.unwrap();
    assert_eq!(registry.seen().iter().filter(|head| head.contains(TOKEN)).count(), 2, "{:?}", registry.seen());
}

#[tokio::test]
async fn a_redirect_is_left_to_the_program() {
    let registry = Registry::start("https").await;
    let (proxy, credentials) = registry.proxy(&["localhost"]).await;
    let moved = client(&proxy, &credentials).get(format!("{}/moved", registry.origin)).send().await.unwrap_err();
    // The client follows it through the proxy, which refuses the other host.
    assert!(moved.is_connect() && registry.seen().len() == 1, "{moved:?}");
    assert!(proxy.denials()[0].contains("may not connect to https://other.example.org"), "{:?}", proxy.denials());
}

#[tokio::test]
async fn a_host_that_is_not_the_secrets_has_a_tunnel_of_its_own() {
    let registry = Registry::start("https").await;
    let (proxy, credentials) = registry.proxy(&["npm.example.org"]).await;
    assert!(client(&proxy, &credentials).get(registry.origin.to_string()).send().await.is_err(), "not our certificate");
    let direct = reqwest::Certificate::from_der(&registry.authority.certificate()).unwrap();
    let through = reqwest::Proxy::all(format!("http://{}", proxy.address)).unwrap();
    let trusting = Client::builder().proxy(through).tls_certs_only([direct]).build().unwrap();
    assert!(trusting.get(registry.origin.to_string()).send().await.unwrap().status().is_success());
    assert!(!registry.seen()[0].contains("authorization"), "{:?}", registry.seen());
}

#[tokio::test]
async fn the_proxy_answers_for_no_other_host() {
    let registry = Registry::start("https").await;
    let (proxy, credentials) = registry.proxy(&["localhost"]).await;
    let fronting = client(&proxy, &credentials).get(registry.origin.to_string()).header(HOST, "other.example.org");
    let refused = fronting.send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let mut roots = RootCertStore::empty();
    roots.add(credentials.authority.certificate()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (stream, head) = proxy.tunnel(&format!("localhost:{}", registry.origin.port())).await;
    assert!(head.contains("200 OK"), "{head}");
    let name = ServerName::try_from("other.example.org").unwrap();
    let refused = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap_err();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    let denials = proxy.denials();
    assert!(denials.len() == 1 && denials[0].contains("requested `other.example.org`"), "{denials:?}");
    assert_eq!(registry.seen(), [""; 0]);
}

#[tokio::test]
async fn a_name_of_this_machine_is_refused_as_without_a_credential() {
    let registry = Registry::start("https").await;
    let (proxy, credentials) = registry.proxy(&["npm.example.org"]).await;
    let response = client(&proxy, &credentials).get("https://npm.example.org/package").send().await.unwrap();
    assert_eq!(response.status(), 403);
    assert!(response.text().await.unwrap().contains("resolves to 127.0.0.1"));
    assert_eq!(proxy.denials().len(), 1);
}

#[tokio::test]
async fn a_host_with_an_unknown_certificate_gets_no_credential() {
    let registry = Registry::start("https").await;
    let impostor = Registry { authority: AttemptAuthority::new().unwrap(), ..registry };
    let (proxy, credentials) = impostor.proxy(&["localhost"]).await;
    let response = client(&proxy, &credentials).get(impostor.origin.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 502);
    assert!(response.text().await.unwrap().contains("certificate"));
    assert_eq!(impostor.seen(), [""; 0]);
}

#[tokio::test]
async fn plain_text_carries_a_credential_on_this_machine_alone() {
    let registry = Registry::start("http").await;
    let (proxy, credentials) = registry.proxy(&["localhost"]).await;
    let direct = client(&proxy, &credentials).get(format!("{}/a", registry.origin));
    assert!(direct.send().await.unwrap().status().is_success());
    assert!(registry.seen()[0].contains(TOKEN), "{:?}", registry.seen());
    let elsewhere = Origin::of_url("http://npm.example.org").unwrap();
    let credentials = registry.credentials(&["npm.example.org"], Script::new(&[]));
    assert!(credentials.for_origin(&elsewhere).is_none());
    assert!(credentials.for_origin(&Origin::of_url("https://npm.example.org").unwrap()).is_some());
}

#[tokio::test]
async fn a_forwarded_port_carries_the_credential_by_every_name_of_this_machine() {
    for scheme in ["http", "https"] {
        let registry = Registry::start(scheme).await;
        let (proxy, credentials) = registry.proxy(&["localhost"]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to: SocketAddr = format!("127.0.0.1:{}", registry.origin.port()).parse().unwrap();
        let authenticated = AuthenticatedOrigin { origin: registry.origin.clone(), credentials: credentials.clone() };
        let _forwarding =
            forward(listener, ForwardTarget::Authenticated(to, authenticated), proxy.egress.clone()).unwrap();
        // In a sandbox, the port is the same.
        let authority = reqwest::Certificate::from_der(&credentials.authority.certificate()).unwrap();
        let client = Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap();
        for name in ["localhost", "127.0.0.1"] {
            let request = client.get(format!("{scheme}://{name}:{port}/a"));
            let host = format!("{name}:{}", registry.origin.port());
            assert!(request.header(HOST, host).send().await.unwrap().status().is_success(), "{scheme} {name}");
        }
        let fronted = client.get(format!("{scheme}://localhost:{port}/a")).header(HOST, "example.org");
        assert_eq!(fronted.send().await.unwrap().status(), 403);
        assert_eq!(registry.seen().iter().filter(|head| head.contains(TOKEN)).count(), 2);
    }
}
