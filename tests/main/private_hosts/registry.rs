//! A private registry for npm, pip and cargo on this machine's loopback, behind TLS.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A registry that runs until the test process ends.
pub(super) struct Registry {
    pub(super) port: u16,
    /// The certificate of the authority that issued the registry's own.
    pub(super) authority: String,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    /// A registry that requires this `Authorization`.
    pub(super) fn start(authorization: &'static str) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (config, authority) = tls();
        let (files, asked) = (Arc::<Mutex<BTreeMap<String, Vec<u8>>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (served, remembered) = (files.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(config.clone()).expect("a connection");
                let mut stream = StreamOwned::new(connection, stream);
                // Fails for a client that doesn't trust the certificate.
                let Some(head) = head(&mut stream) else { continue };
                let answer = answer(&head, authorization, &served.lock().expect("the files"));
                remembered.lock().expect("a list").push(head);
                // The client may have disconnected before reading everything.
                let _ = stream.write_all(&answer);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        Registry { port, authority, files, asked }
    }

    pub(super) fn origin(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub(super) fn serve(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.files.lock().expect("the files").insert(path.to_owned(), content.into());
    }

    /// The heads of all requests so far, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a list").clone()
    }

    /// `private-package` 1.0.0 for npm, below `/npm/`.
    pub(super) fn serve_npm(&self) {
        let manifest = json!({ "name": "private-package", "version": "1.0.0" });
        let package = archive(&[("package/package.json", &manifest.to_string()), ("package/index.js", "")]);
        let tarball = format!("{}/npm/private-package.tgz", self.origin());
        let version = json!({ "name": "private-package", "version": "1.0.0", "dist": { "tarball": tarball } });
        let versions = json!({ "1.0.0": version });
        let listed = json!({ "name": "private-package", "dist-tags": { "latest": "1.0.0" }, "versions": versions });
        self.serve("/npm/private-package", listed.to_string());
        self.serve("/npm/private-package.tgz", package);
    }

    /// `private-crate` 1.0.0 in a sparse index at `/cargo/`.
    pub(super) fn serve_cargo(&self) {
        let manifest = "[package]\nname = \"private-crate\"\nversion = \"1.0.0\"\nedition = \"2024\"\n";
        let content = archive(&[
            ("private-crate-1.0.0/Cargo.toml", manifest),
            ("private-crate-1.0.0/src/lib.rs", "pub const ANSWER: u8 = 42;\n"),
        ]);
        let checksum: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let entry = json!({
            "name": "private-crate", "vers": "1.0.0", "deps": [], "cksum": checksum, "features": {}, "yanked": false,
        });
        let config = json!({ "dl": format!("{}/cargo/dl", self.origin()), "auth-required": true });
        self.serve("/cargo/config.json", config.to_string());
        self.serve("/cargo/pr/iv/private-crate", format!("{entry}\n"));
        self.serve("/cargo/dl/private-crate/1.0.0/download", content);
    }

    /// `private-wheel` 1.0.0 in a simple index at `/pip/`. `folder`: where the wheel is made.
    pub(super) fn serve_pip(&self, folder: &Path) {
        const MAKE: &str = r#"
import sys, zipfile
info = "private_wheel-1.0.0.dist-info"
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("private_wheel.py", "answer = 42\n")
    wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\nName: private-wheel\nVersion: 1.0.0\n")
    wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "/RECORD", "")
"#;
        let file = folder.join("wheel.zip");
        let made = std::process::Command::new("python3").args(["-c", MAKE]).arg(&file).status();
        assert!(made.expect("python3").success());
        let link = "<a href=\"/pip/private_wheel-1.0.0-py3-none-any.whl\">private_wheel-1.0.0-py3-none-any.whl</a>";
        self.serve("/pip/private-wheel/", format!("<!DOCTYPE html><html><body>{link}</body></html>"));
        self.serve("/pip/private_wheel-1.0.0-py3-none-any.whl", std::fs::read(&file).expect("the wheel"));
    }
}

/// The configuration of a server with a certificate for `localhost`, and its authority in PEM.
fn tls() -> (Arc<ServerConfig>, String) {
    let mut of_authority = CertificateParams::new(Vec::new()).expect("parameters");
    of_authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(of_authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key));
    (Arc::new(config.expect("a configuration")), pem(authority.der()))
}

/// A certificate in PEM; the length of its line doesn't matter.
fn pem(certificate: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n")
}

fn head(stream: &mut impl std::io::Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn answer(head: &str, authorization: &str, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let with_body = |status: &str, body: &[u8]| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !head.contains(&format!("authorization: {authorization}\r\n")) {
        return with_body("401 Unauthorized\r\nwww-authenticate: Cargo", b"who are you?");
    }
    match files.get(path) {
        Some(content) if method == "GET" && path.ends_with('/') => {
            with_body("200 OK\r\ncontent-type: text/html", content)
        }
        Some(content) if matches!(method, "GET" | "PATCH") => with_body("200 OK", content),
        _ => with_body("404 Not Found", b"nothing here"),
    }
}

/// A compressed archive.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content.as_bytes()).expect("an entry");
    }
    archive.into_inner().and_then(flate2::write::GzEncoder::finish).expect("an archive")
}
