//! Client certificates and private authorities, against a real TLS server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::*;

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// An authority of its own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> SecretValue {
        pem("CERTIFICATE", self.0.der()).as_str().into()
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        (params.signed_by(&key, issuer).unwrap(), key)
    }

    /// The certificate and the key of a client, in PEM.
    fn identity(&self) -> SecretValue {
        let (certificate, key) = self.issue("client.example");
        let (certificate, key) = (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()));
        format!("{certificate}\n{key}").as_str().into()
    }
}

/// A server for `name` that accepts clients with a certificate of `clients`. Returns its port, and the requests.
async fn start(name: &str, server: &Authority, clients: &Authority) -> (u16, Arc<StdMutex<Vec<String>>>) {
    let (certificate, key) = server.issue(name);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.root()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(StdMutex::new(Vec::new()));
    let log = seen.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            let request = read_request(&mut socket).await;
            log.lock().unwrap().push(request);
            let _ = socket.write_all(answer("200 OK", "", "welcome").as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    (port, seen)
}

/// What a request to `https://127.0.0.1:PORT` returns with these settings.
async fn call(port: u16, tls: TlsSettings) -> Result<String, CapabilityError> {
    let origin = format!("https://127.0.0.1:{port}");
    let kind = CredentialKind::ClientCertificate { certificate: "c".to_owned(), key: "k".to_owned() };
    let (fixture, _) = TestSigners::default().with_kind("api", kind, &[&origin], &[&origin], tls).stage(&[]);
    Ok(body(&mut fixture.http.send(&get(&origin)).await?).await)
}

#[tokio::test]
async fn a_client_authenticates_with_its_certificate_at_a_server_of_a_private_authority() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let (port, seen) = start("127.0.0.1", &servers, &clients).await;
    let tls = |authorities: &Authority, identity: Option<SecretValue>| TlsSettings {
        authorities: Some(authorities.pem()),
        identity,
    };
    assert_eq!(call(port, tls(&servers, Some(clients.identity()))).await.unwrap(), "welcome");
    for (settings, why) in [
        (tls(&servers, None), "no certificate"),
        (tls(&servers, Some(Authority::new().identity())), "a certificate of another authority"),
        (tls(&clients, Some(clients.identity())), "the server's authority isn't the one to trust"),
        (TlsSettings { authorities: None, identity: Some(clients.identity()) }, "the machine doesn't trust it either"),
    ] {
        assert_eq!(call(port, settings).await.unwrap_err().code, ErrorCode::Unavailable, "{why}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_with_a_certificate_for_another_name_gets_no_request() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let (port, seen) = start("other.example", &servers, &clients).await;
    let tls = TlsSettings { authorities: Some(servers.pem()), identity: Some(clients.identity()) };
    assert_eq!(call(port, tls).await.unwrap_err().code, ErrorCode::Unavailable);
    assert_eq!(seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn an_invalid_certificate_or_key_is_refused_without_its_text() {
    for (authorities, identity) in [(None, Some("hunter2hunter2")), (Some("hunter2hunter2"), None)] {
        let tls = TlsSettings { authorities: authorities.map(Into::into), identity: identity.map(Into::into) };
        let refused = call(1, tls).await.unwrap_err();
        assert_eq!(refused.message, "the credential `api` can't be used: its certificates or its key aren't valid PEM");
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }
}
