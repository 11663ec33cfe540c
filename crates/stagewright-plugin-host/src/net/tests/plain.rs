//! Plain HTTP through the proxy.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: a\r\nx-end: b\r\ncontent-length: 2\r\n\r\nhi";

#[tokio::test]
async fn a_granted_request_is_forwarded_without_headers_of_the_connection() {
    let host = Host::start("", "\r\n\r\n", OK).await;
    let origin = format!("http://127.0.0.1:{}", host.port);
    let proxy = proxy(&[&origin]).await;
    let request = format!(
        "GET {origin}/a/../b?c#d HTTP/1.1\r\nHost: evil.example.org\r\nProxy-Authorization: Basic eDp5\r\n\
         Connection: close, X-Mine\r\nX-Mine: 1\r\nX-End: 2\r\nUpgrade: h2c\r\nTE: trailers\r\n\r\n"
    );
    let answer = proxy.ask(&request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");
    assert!(answer.contains("x-end: b") && !answer.contains("x-hop"), "{answer}");
    let seen = host.seen();
    assert!(seen[0].starts_with("GET /a/../b?c HTTP/1.1\r\n"), "{seen:?}");
    assert!(
        seen[0].contains(&format!("host: 127.0.0.1:{}\r\n", host.port)) && seen[0].contains("x-end: 2"),
        "{seen:?}"
    );
    for gone in ["evil", "proxy-", "connection", "x-mine", "upgrade", "te:"] {
        assert!(!seen[0].contains(gone), "{gone}: {seen:?}");
    }
}

#[tokio::test]
async fn bodies_are_forwarded_and_framed_again() {
    let host = Host::start("", "end\r\n0\r\n\r\n", OK).await;
    let origin = format!("http://127.0.0.1:{}", host.port);
    let proxy = proxy(&[&origin]).await;
    let head = format!("POST {origin}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    let sized = proxy.ask(&format!("{head}content-length: 10\r\n\r\nend\r\n0\r\n\r\nGET /")).await;
    assert!(sized.contains("200 OK") && host.seen()[0].ends_with("\r\n\r\nend\r\n0\r\n\r\n"), "{sized}");
    // With both headers, a server that went by the other one would take the rest of the body for another request.
    for length in ["", "content-length: 3\r\n"] {
        let chunked = format!("{head}{length}transfer-encoding: chunked\r\n\r\n3\r\nend\r\n0\r\n\r\n");
        assert!(proxy.ask(&chunked).await.contains("200 OK"), "{length}");
    }
    let seen = host.seen();
    let both = |seen: &String| seen.contains("content-length") && seen.contains("transfer-encoding");
    assert!(!seen.iter().any(both), "{seen:?}");
}

#[tokio::test]
async fn a_denied_request_is_refused_with_a_message_and_reported_once() {
    let host = Host::start("", "\r\n\r\n", OK).await;
    let proxy = proxy(&["https://example.org"]).await;
    let url = format!("http://127.0.0.1:{}", host.port);
    for path in ["/a", "/b"] {
        let answer = proxy.ask(&format!("GET {url}{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(answer.contains(&format!("stagewright: the stage may not call {url}\n")), "{answer}");
        let line = format!("change in [stages.test.permissions]: net = [\"{url}\", \"https://example.org\"]\n");
        assert!(answer.ends_with(&line), "{answer}");
    }
    assert_eq!(proxy.denials(), [format!("the stage may not call {url}")]);
    let other = proxy.ask("GET http://example.org/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(other.contains("403"), "only https is granted: {other}");
    assert_eq!((proxy.denials().len(), host.seen().len()), (2, 0));
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused_and_localhost_is_not() {
    let host = Host::start("", "\r\n\r\n", OK).await;
    let (named, local) =
        (format!("http://rebound.example.org:{}", host.port), format!("http://localhost:{}", host.port));
    let proxy = proxy(&[&named, &local]).await;
    let ask = |url| format!("GET {url}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = proxy.ask(&ask(&named)).await;
    assert!(answer.contains("403") && answer.contains("`rebound.example.org` resolves to 127.0.0.1"), "{answer}");
    assert_eq!((proxy.denials().len(), host.seen().len()), (1, 0));
    assert!(proxy.ask(&ask(&local)).await.contains("200 OK"));
}

#[tokio::test]
async fn a_service_of_the_attempt_needs_no_grant() {
    let host = Host::start("", "\r\n\r\n", OK).await;
    let proxy = proxy(&[]).await;
    let url = format!("http://127.0.0.1:{}", host.port);
    proxy.own.add(&url);
    let answer = proxy.ask(&format!("GET {url}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.contains("200 OK"), "{answer}");
    assert!(proxy.tunnel(&format!("127.0.0.1:{}", host.port)).await.1.contains("200 OK"));
    assert!(proxy.tunnel("127.0.0.1:1").await.1.contains("403"));
}

#[tokio::test]
async fn anything_but_a_proxy_request_is_an_error() {
    let proxy = proxy(&["http://example.org"]).await;
    let long = format!("GET http://example.org/ HTTP/1.1\r\nconnection: close\r\nx: {}\r\n\r\n", "x".repeat(100 << 10));
    let many = format!("GET http://example.org/ HTTP/1.1\r\nconnection: close\r\n{}\r\n", "x: y\r\n".repeat(200));
    let table = [
        ("GET / HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n", "400"),
        ("GET https://example.org/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "400"),
        ("GET ftp://example.org/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "400"),
        ("GET http://ada:pw@example.org/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "400"),
        ("\x05\x01\x00 what is this\r\n\r\n", "400"),
        (
            "GET http://example.org/ HTTP/1.1\r\nconnection: close\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "400",
        ),
        (&long, "431"),
        (&many, "431"),
    ];
    for (request, status) in table {
        let answer = proxy.ask(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.80}: {answer}");
    }
    assert_eq!(proxy.denials(), [""; 0], "none of them counts as a denial");
}

#[tokio::test]
async fn an_unreachable_host_is_not_reported_as_a_denial() {
    let proxy = proxy(&["http://127.0.0.1:1", "http://nowhere.example.org"]).await;
    let answer = proxy.ask("GET http://127.0.0.1:1/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && answer.contains("could not connect to 127.0.0.1:1"),
        "{answer}"
    );
    assert!(proxy.tunnel("127.0.0.1:1").await.1.contains("502"));
    assert_eq!(proxy.denials(), [""; 0]);
}

#[tokio::test]
async fn a_common_http_client_can_use_the_proxy() {
    let host = Host::start("", "\r\n\r\n", OK).await;
    let origin = format!("http://127.0.0.1:{}", host.port);
    let proxy = proxy(&[&origin]).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let through = reqwest::Proxy::all(format!("http://{}", proxy.address)).unwrap();
    let client = reqwest::Client::builder().proxy(through).build().unwrap();
    for _ in 0..3 {
        assert_eq!(client.get(&origin).send().await.unwrap().text().await.unwrap(), "hi");
    }
    let refused = client.get("http://other.example.org").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(client.get("https://other.example.org").send().await.is_err());
    assert_eq!(proxy.denials().len(), 2);
}
