//! Limits, timeouts and the end of the proxy, and forwarded ports.

use stagewright_model::Origin;

use super::*;
use crate::net::forward::{ForwardTarget, forward};

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_one_to_end() {
    let proxy = Setup { connections: 1, ..Setup::default() }.start().await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = proxy.connect().await;
    first.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut first).await.contains("400"));
    let mut second = proxy.connect().await;
    second.write_all(request.as_bytes()).await.unwrap();
    assert!(timeout(Duration::from_millis(50), second.read_u8()).await.is_err(), "answered beyond the limit");
    drop(first);
    assert!(head(&mut second).await.contains("400"));
    assert!(proxy.denials().is_empty());
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_if_none_ends() {
    let wait = Duration::from_millis(20);
    let proxy = Setup { connections: 2, wait, ..Setup::default() }.start().await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = proxy.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains("400"), "within the limit");
        open.push(stream);
    }
    for _ in 0..2 {
        let answer = proxy.ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert!(answer.contains("help: close some, or raise in [stages.test.limits]: requests = 4\n"), "{answer}");
    }
    assert_eq!(proxy.denials().len(), 1);
    open.pop();
    while !proxy.ask("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.contains("400") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_number_of_reported_denials_is_limited() {
    let proxy = proxy(&[]).await;
    for number in 0..2000 {
        let origin = Origin::of_tunnel(&format!("host-{number}.test:443")).unwrap();
        assert!(proxy.egress.tunnel(&origin).is_err());
    }
    assert_eq!(proxy.denials().len(), 1000);
}

#[tokio::test]
async fn dropping_the_handle_closes_the_listener_and_all_connections() {
    let host = Host::start("", "", "").await;
    let proxy = proxy(&[&format!("tcp://127.0.0.1:{}", host.port)]).await;
    let mut idle = proxy.connect().await;
    let (mut tunnel, head) = proxy.tunnel(&format!("127.0.0.1:{}", host.port)).await;
    assert!(head.contains("200 OK"));
    let address = proxy.address;
    drop(proxy.handle);
    assert_eq!((rest(&mut idle).await, rest(&mut tunnel).await), (String::new(), String::new()));
    while host.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_timeout() {
    let host = Host::start("", "", "").await;
    let net = format!("tcp://127.0.0.1:{}", host.port);
    let proxy = Setup { net: &[&net], idle: Duration::from_millis(20), ..Setup::default() }.start().await;
    let mut stream = proxy.connect().await;
    assert_eq!(rest(&mut stream).await, "");
    let mut stream = proxy.connect().await;
    let connect = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n\r\n", host.port);
    stream.write_all(connect.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200"), "established, and then closed");
}

#[tokio::test]
async fn forwarded_ports_share_the_limit_on_connections() {
    let host = Host::start("hello ", "", "bye").await;
    let net = format!("tcp://127.0.0.1:{}", host.port);
    let wait = Duration::from_millis(20);
    let proxy = Setup { net: &[&net], connections: 1, wait, ..Setup::default() }.start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], host.port));
    let forwarding = forward(listener, ForwardTarget::Loopback(to), proxy.egress.clone()).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut greeting = [0; 6];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"hello ");

    let mut beyond = TcpStream::connect(address).await.unwrap();
    assert_eq!(rest(&mut beyond).await, "");
    assert!(proxy.ask("GET / HTTP/1.1\r\n\r\n").await.contains("503"), "the limit is shared");
    assert_eq!(proxy.denials().len(), 1);

    stream.write_all(b"x").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "bye");
    assert_eq!(host.seen(), ["x"]);
    drop(forwarding);
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn only_granted_ports_of_this_machine_are_forwarded() {
    let proxy = proxy(&["tcp://127.0.0.1:5432", "tcp://10.0.0.1:5432"]).await;
    for (to, code) in [
        ("127.0.0.1:5433", ErrorCode::PermissionDenied),
        ("[::1]:5432", ErrorCode::PermissionDenied),
        ("10.0.0.1:5432", ErrorCode::InvalidArgument),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = ForwardTarget::Loopback(to.parse().unwrap());
        let error = forward(listener, to, proxy.egress.clone()).unwrap_err();
        assert_eq!(error.code, code);
    }
}

#[tokio::test]
async fn a_granted_port_of_another_host_is_forwarded_to_an_address_that_the_guard_allows() {
    let host = Host::start("hello ", "", "bye").await;
    let net = format!("tcp://db.example.org:{}", host.port);
    let proxy = proxy(&[&net]).await;
    let to = |authority: String| ForwardTarget::Host(Origin::of_tunnel(&authority).unwrap());
    let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = forward(listener().await, to(format!("other.example.org:{}", host.port)), proxy.egress.clone());
    assert_eq!(refused.unwrap_err().code, ErrorCode::PermissionDenied);
    let (granted, to) = (listener().await, to(format!("db.example.org:{}", host.port)));
    let address = granted.local_addr().unwrap();
    let _forwarding = forward(granted, to, proxy.egress.clone()).unwrap();
    // The name resolves to this machine, where a name may not lead.
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
    assert!(host.seen().is_empty());
    assert!(proxy.denials()[1].contains("db.example.org"), "{:?}", proxy.denials());
}
