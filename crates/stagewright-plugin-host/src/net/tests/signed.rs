//! Requests that the proxy signs with a credential.

use reqwest::{Client, Method};
use stagewright_model::{
    Origin, OriginTarget, RequestSigner, RequestToSign, SecretValue, SignedHeaders, SigningError, TlsSettings,
};

use super::download::{Registry, client};
use super::*;
use crate::mask::{Audience, Masker};
use crate::net::client::SharedClient;
use crate::net::credentials::ProxySigner;
use crate::net::forward::{AuthenticatedOrigin, ForwardTarget, forward};
use crate::net::signing::Signing;

const TOKEN: &str = "issued-token-1";

/// Adds a token that is known from the first request on; fails for the path `/expired`.
#[derive(Debug)]
struct Issuer {
    origins: [OriginTarget; 1],
    tls: TlsSettings,
}

impl RequestSigner for Issuer {
    fn origins(&self) -> &[OriginTarget] {
        &self.origins
    }

    fn tls(&self) -> &TlsSettings {
        &self.tls
    }

    fn covers_content(&self) -> bool {
        false
    }

    fn confidential(&self) -> Vec<SecretValue> {
        Vec::new()
    }

    fn sign(&self, request: &RequestToSign) -> Result<SignedHeaders, SigningError> {
        if request.url.path() == "/expired" {
            return Err(SigningError { message: "the key has expired".to_owned(), help: "renew it".to_owned() });
        }
        let value = SecretValue::from(format!("Bearer {TOKEN}").as_str());
        Ok(SignedHeaders { headers: vec![("authorization", value)], confidential: vec![TOKEN.into()] })
    }
}

/// The proxy of a stage with a credential for the server and no other grant, and the masker of its log.
async fn proxy(server: &Registry) -> (Fixture, Arc<ProxyCredentials>, Masker) {
    let shared = SharedClient::trusting(Arc::new(Script::new(&[&["127.0.0.1"]])), &server.authority.certificate());
    let issuer = Issuer { origins: [OriginTarget::Host(server.origin.clone())], tls: TlsSettings::default() };
    let client = shared.get().unwrap().clone();
    let signing = Signing { name: "cluster".to_owned(), signer: Arc::new(issuer), client };
    let signer = ProxySigner { origins: vec![server.origin.clone()], headers: &["authorization"], signing };
    let log = Masker::default();
    let credentials = Arc::new(ProxyCredentials::new(Vec::new(), vec![signer], shared, log.clone()).unwrap());
    let fixture = Setup { credentials: Some(credentials.clone()), ..Setup::default() }.start().await;
    fixture.egress.admit_signed(credentials.signed_origins());
    (fixture, credentials, log)
}

#[tokio::test]
async fn every_request_to_the_origin_is_signed_and_there_is_no_other() {
    for scheme in ["http", "https"] {
        let server = Registry::start(scheme).await;
        let (proxy, credentials, log) = proxy(&server).await;
        let client = client(&proxy, &credentials);
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let sent = client.request(method, format!("{}/a?b=c", server.origin)).bearer_auth("mine").body("text");
            let response = sent.send().await.unwrap();
            assert_eq!(response.headers()["x-seen"], "authorization: Bearer ***");
            let body = response.text().await.unwrap();
            assert!(body.contains("/a?b=c") && body.ends_with("text") && !body.contains(TOKEN), "{body}");
        }
        assert_eq!(log.bytes(Audience::Guest, TOKEN.as_bytes()), b"***");
        let seen = server.seen();
        let is_signed = |head: &&String| head.contains(&format!("authorization: Bearer {TOKEN}\r\n"));
        assert!(seen.iter().filter(is_signed).count() == 3 && !seen.concat().contains("mine"), "{seen:?}");

        let expired = client.post(format!("{}/expired", server.origin)).send().await.unwrap();
        assert!(!expired.status().is_success() && expired.text().await.unwrap().contains("the key has expired"));
        let other = client.get("https://other.example.org/").send().await.unwrap_err();
        assert!(other.is_connect() && proxy.denials()[0].contains("https://other.example.org"), "{other:?}");
        assert_eq!(server.seen().len(), 3);
    }
}

#[tokio::test]
async fn a_port_of_this_machine_is_forwarded_for_a_credential() {
    let server = Registry::start("https").await;
    let (proxy, credentials, _) = proxy(&server).await;
    let to: SocketAddr = format!("127.0.0.1:{}", server.origin.port()).parse().unwrap();
    assert!(proxy.egress.signed_on_loopback(to).eq([server.origin.clone()]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let authenticated = AuthenticatedOrigin { origin: server.origin.clone(), credentials: credentials.clone() };
    let _forwarding = forward(listener, ForwardTarget::Authenticated(to, authenticated), proxy.egress.clone()).unwrap();
    let authority = reqwest::Certificate::from_der(&credentials.authority.certificate()).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap();
    let host = format!("localhost:{}", server.origin.port());
    let request = client.put(format!("https://localhost:{port}/a")).header(reqwest::header::HOST, host).body("text");
    assert!(request.send().await.unwrap().status().is_success());
    assert!(server.seen()[0].contains(TOKEN), "{:?}", server.seen());
    let elsewhere = Origin::of_url("https://localhost:1").unwrap();
    assert!(!credentials.has_for(&elsewhere) && proxy.egress.tunnel(&elsewhere).is_err());
}
