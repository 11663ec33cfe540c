//! Connections through the proxy that the engine is configured to use.

use super::*;

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[tokio::test]
async fn tunnels_use_the_engines_proxy_with_its_authorisation() {
    let upstream = Host::start("", "\r\n\r\n", "HTTP/1.1 200 Connection established\r\n\r\n220 ready\r\n").await;
    let url = format!("http://ada:pw@127.0.0.1:{}", upstream.port);
    let environment = [("HTTPS_PROXY", url.as_str())];
    let lookup = Script::new(&[]);
    let net = ["https://example.org"];
    let proxy = Setup { net: &net, environment: &environment, lookup, ..Setup::default() }.start().await;
    let (mut stream, head) = proxy.tunnel("example.org:443").await;
    assert!(head.contains("200 OK"), "{head}");
    assert_eq!(rest(&mut stream).await, "220 ready\r\n", "including bytes that arrive with the proxy's response");
    let seen = upstream.seen();
    assert!(seen[0].starts_with("CONNECT example.org:443 HTTP/1.1\r\n"), "{seen:?}");
    assert!(seen[0].contains("proxy-authorization: Basic YWRhOnB3"), "{seen:?}");
    assert!(proxy.tunnel("other.org:443").await.1.contains("403"), "denied before the proxy is used");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn plain_requests_use_the_engines_proxy_in_absolute_form() {
    let upstream = Host::start("", "\r\n\r\n", ANSWER).await;
    let url = format!("ada:pw@127.0.0.1:{}", upstream.port);
    let environment = [("http_proxy", url.as_str()), ("NO_PROXY", "near.example.org")];
    let net = ["http://example.org:8080", "http://near.example.org"];
    let proxy = Setup { net: &net, environment: &environment, ..Setup::default() }.start().await;
    let ask =
        |url| format!("GET {url}/a HTTP/1.1\r\nhost: x\r\nproxy-authorization: mine\r\nconnection: close\r\n\r\n");
    assert!(proxy.ask(&ask("http://example.org:8080")).await.contains("200 OK"));
    let seen = upstream.seen();
    assert!(seen[0].starts_with("GET http://example.org:8080/a HTTP/1.1\r\n"), "{seen:?}");
    assert!(seen[0].contains("proxy-authorization: Basic YWRhOnB3") && !seen[0].contains("mine"), "{seen:?}");
    let near = proxy.ask(&ask("http://near.example.org")).await;
    assert!(near.contains("403") && near.contains("resolves to 127.0.0.1"), "it is looked up here: {near}");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn the_error_for_a_failing_proxy_hides_its_password() {
    let upstream = Host::start("", "\r\n\r\n", "HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await;
    let refusing = format!("http://ada:pass-word@127.0.0.1:{}", upstream.port);
    for (url, why) in [(refusing.as_str(), "407"), ("https://ada:pass-word@127.0.0.1:1", "begins with http://")] {
        let (environment, net) = ([("ALL_PROXY", url)], ["https://example.org"]);
        let proxy = Setup { net: &net, environment: &environment, ..Setup::default() }.start().await;
        let (mut stream, head) = proxy.tunnel("example.org:443").await;
        assert!(head.contains("502"), "{head}");
        stream.shutdown().await.unwrap();
        let words = rest(&mut stream).await;
        assert!(words.contains(why) && !words.contains("pass-word"), "{words}");
        assert_eq!(proxy.denials(), [""; 0]);
    }
}
