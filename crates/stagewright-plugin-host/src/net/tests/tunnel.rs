//! Tunnels, and the hosts that may be requested in them.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// The ClientHello of a TLS client that requests `name`, which may be an address.
fn hello(name: &'static str) -> Vec<u8> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut said = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut said).unwrap();
    }
    said
}

#[tokio::test]
async fn bytes_are_transferred_both_ways_and_the_host_may_send_first() {
    let host = Host::start("220 ready\r\n", "", "bye").await;
    let proxy = proxy(&[&format!("tcp://127.0.0.1:{}", host.port)]).await;
    let (mut stream, head) = proxy.tunnel(&format!("127.0.0.1:{}", host.port)).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    stream.write_all(b"HELO me\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "bye", "the end of one direction doesn't end the other");
    assert_eq!(host.seen(), ["HELO me\r\n"]);
}

#[tokio::test]
async fn a_tunnel_that_is_not_granted_is_refused() {
    let host = Host::start("", "", "").await;
    let proxy = proxy(&["https://example.org", &format!("https://rebound.example.org:{}", host.port)]).await;
    for (authority, line) in [
        (format!("127.0.0.1:{}", host.port), format!("tcp://127.0.0.1:{}", host.port)),
        ("example.org:22".into(), "tcp://example.org:22".into()),
        ("other.org:443".into(), "https://other.org".into()),
        (format!("rebound.example.org:{}", host.port), format!("tcp://127.0.0.1:{}", host.port)),
    ] {
        let (mut stream, head) = proxy.tunnel(&authority).await;
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{authority}: {head}");
        stream.shutdown().await.unwrap();
        let words = rest(&mut stream).await;
        assert!(words.contains(&format!("\"{line}\"")), "{authority}: {words}");
    }
    assert_eq!((proxy.denials().len(), host.seen().len()), (4, 0));
    for authority in ["example.org", "a@example.org:443", "example.org:0"] {
        assert!(proxy.tunnel(authority).await.1.contains("400 Bad Request"), "{authority}");
    }
}

/// Sends `said` in chunks in a tunnel to `authority`. Returns the number of bytes that the host received, and the answer.
async fn say(proxy: &Fixture, host: &Host, authority: &str, said: &[u8], pieces: usize) -> (usize, Vec<u8>) {
    let before = host.seen().len();
    let (mut stream, head) = proxy.tunnel(&format!("{authority}:{}", host.port)).await;
    assert!(head.contains("200 OK"), "{head}");
    stream.set_nodelay(true).unwrap();
    for piece in said.chunks(said.len().div_ceil(pieces)) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    while host.seen().len() == before {
        tokio::task::yield_now().await;
    }
    (host.seen()[before].chars().count(), answer)
}

#[tokio::test]
async fn tls_must_request_the_host_of_its_tunnel() {
    let host = Host::start("", "", "").await;
    let port = host.port;
    let net = [format!("https://localhost:{port}"), format!("https://127.0.0.1:{port}")];
    let proxy = proxy(&[&net[0], &net[1]]).await;
    let alert = vec![21, 3, 1, 0, 2, 2, 49];

    let right = hello("LocalHost");
    for pieces in [1, 7, right.len()] {
        let (heard, answer) = say(&proxy, &host, "localhost", &right, pieces).await;
        assert!(heard == right.len() && answer.is_empty(), "in {pieces} pieces: {heard}, {answer:?}");
    }
    let nameless = hello("127.0.0.1");
    assert_eq!(say(&proxy, &host, "127.0.0.1", &nameless, 1).await, (nameless.len(), vec![]));
    assert_eq!(say(&proxy, &host, "localhost", b"GET / HTTP/1.1", 1).await.0, 14);
    assert_eq!(proxy.denials(), [""; 0]);

    assert_eq!(say(&proxy, &host, "localhost", &hello("fronted.example.org"), 3).await, (0, alert.clone()));
    assert_eq!(say(&proxy, &host, "127.0.0.1", &hello("fronted.example.org"), 1).await, (0, alert.clone()));
    assert_eq!(say(&proxy, &host, "localhost", &nameless, 1).await, (0, alert.clone()));
    assert_eq!(say(&proxy, &host, "localhost", &right[..40], 1).await, (0, alert.clone()));
    let mut broken = right.clone();
    broken.iter_mut().skip(5).for_each(|byte| *byte = 0xff);
    assert_eq!(say(&proxy, &host, "localhost", &broken, 1).await, (0, alert.clone()));
    // An alert before the ClientHello, which some servers skip.
    let warned = [&[21, 3, 1, 0, 2, 1, 90], hello("fronted.example.org").as_slice()].concat();
    assert_eq!(say(&proxy, &host, "localhost", &warned, 1).await, (0, alert));
    let denials = proxy.denials();
    assert_eq!(denials.len(), 4, "{denials:?}");
    let first = format!("opened a tunnel to tcp://localhost:{port}, but requested `fronted.example.org` in it");
    assert!(denials[0].contains(&first), "{denials:?}");
}
