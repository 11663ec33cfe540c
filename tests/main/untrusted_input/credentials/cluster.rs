//! A server behind TLS that requires a certificate of its clients, as the API server of a cluster.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// Runs until the test process ends.
pub(super) struct Cluster {
    pub(super) origin: String,
    asked: Arc<Mutex<Vec<String>>>,
    authority: String,
    /// A client's certificate and its key.
    client: [String; 2],
}

impl Cluster {
    pub(super) fn start() -> Cluster {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let issued = |name: &str| {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
            (params.signed_by(&key, &authority).expect("a certificate"), key)
        };
        let (client, client_key) = issued("client.example");
        let (server, server_key) = issued("127.0.0.1");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).expect("a certificate");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocols")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![server.der().clone()], PrivateKeyDer::Pkcs8(server_key.serialize_der().into()))
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("https://{}", listener.local_addr().expect("an address"));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (config, remembered) = (Arc::new(config), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(config.clone()).expect("a connection");
                let (mut stream, mut head, mut byte) = (StreamOwned::new(connection, stream), Vec::new(), [0]);
                // Fails for a client without a certificate, or one that doesn't trust the server.
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                if head.ends_with(b"\r\n\r\n") {
                    remembered.lock().expect("a list").push(String::from_utf8_lossy(&head).into_owned());
                    let _ = stream.write_all(&super::ok("", "v1"));
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            }
        });
        let client = [pem("CERTIFICATE", client.der()), pem("PRIVATE KEY", &client_key.serialize_der())];
        Cluster { origin, asked, authority: pem("CERTIFICATE", authority.der()), client }
    }

    /// The heads of all requests so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a list").clone()
    }

    /// A kubeconfig for a user with the client's certificate, or with a token alone.
    pub(super) fn kubeconfig(&self, has_certificate: bool) -> String {
        let user = match has_certificate {
            true => {
                let [certificate, key] = self.client.each_ref().map(|pem| STANDARD.encode(pem));
                format!("client-certificate-data: {certificate}\n    client-key-data: {key}")
            }
            false => format!("token: {}", super::TOKEN),
        };
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\nclusters:\n- name: one\n  cluster:\n    server: {}\n    \
             certificate-authority-data: {}\ncontexts:\n- name: here\n  context: {{cluster: one, user: me}}\nusers:\n- name: \
             me\n  user:\n    {user}\n",
            self.origin,
            STANDARD.encode(&self.authority)
        )
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines = encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect::<Vec<_>>();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
