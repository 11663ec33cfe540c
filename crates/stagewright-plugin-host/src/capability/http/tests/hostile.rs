//! Attacks by a hostile guest, a hostile server and a hostile name server.

use std::net::IpAddr;

use futures_util::future::BoxFuture;

use super::*;
use crate::net::Lookup;

/// A name server that returns the same addresses for every name.
struct Leads(&'static [&'static str]);

impl Lookup for Leads {
    fn lookup(&self, _name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let addresses = self.0.iter().map(|address| address.parse().unwrap()).collect();
        Box::pin(async { Ok(addresses) })
    }
}

fn named(server: &Server, name: &str) -> String {
    server.address.replace("127.0.0.1", name)
}

async fn refused(http: &Http, request: &RequestBuilder) -> CapabilityError {
    http.send(request).await.err().expect("a refusal")
}

#[tokio::test]
async fn a_granted_name_that_resolves_to_this_machine_is_denied() {
    let server = Server::start(|_| answer("200 OK", "", "secret")).await;
    let url = named(&server, "rebound.example.org");
    let mut fixture = fixture(&[&url]);
    fixture.http.client = client(&Upstream::default(), Arc::new(Leads(&["127.0.0.1", "::1"]))).unwrap();
    let error = refused(&fixture.http, &get(&url)).await;
    assert_eq!((error.code, error.retryable), (ErrorCode::PermissionDenied, None));
    assert!(error.message.contains("`rebound.example.org` resolves to 127.0.0.1"), "{}", error.message);
    assert!(error.help.unwrap().contains(&format!("\"{}\"", server.address)));
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn a_redirect_to_a_granted_name_that_resolves_to_this_machine_is_denied() {
    let astray = Server::start(|_| answer("200 OK", "", "secret")).await;
    let target = named(&astray, "rebound.example.org");
    let location = target.clone();
    let server = Server::start(move |_| answer("302 Found", &format!("location: {location}\r\n"), "")).await;
    let mut fixture = fixture(&[&server.address, &target]);
    fixture.http.client = client(&Upstream::default(), Arc::new(Leads(&["::ffff:127.0.0.1"]))).unwrap();
    assert_eq!(refused(&fixture.http, &get(&server.address)).await.code, ErrorCode::PermissionDenied);
    assert_eq!((server.seen().len(), astray.seen().len()), (1, 0));
}

#[tokio::test]
async fn localhost_can_be_called_by_its_name() {
    let server = Server::start(|_| answer("200 OK", "", "here")).await;
    let url = named(&server, "localhost");
    let mut fixture = fixture(&[&url]);
    fixture.http.client = client(&Upstream::default(), Arc::new(Leads(&["127.0.0.1"]))).unwrap();
    assert_eq!(body(&mut fixture.http.send(&get(&url)).await.unwrap()).await, "here");
    fixture.http.client = client(&Upstream::default(), Arc::new(Leads(&["93.184.215.14"]))).unwrap();
    assert_eq!(refused(&fixture.http, &get(&url)).await.code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn the_engines_own_proxy_may_be_on_this_machine() {
    let proxy = Server::start(|_| answer("200 OK", "", "by proxy")).await;
    let mut fixture = fixture(&["http://example.org"]);
    let variables = [("HTTP_PROXY".to_owned(), named(&proxy, "proxy.example.org"))].into();
    fixture.http.client = client(&Upstream::of(&variables), Arc::new(Leads(&["127.0.0.1"]))).unwrap();
    let answer = body(&mut fixture.http.send(&get("http://example.org/a")).await.unwrap()).await;
    assert_eq!(answer, "by proxy");
    assert!(proxy.seen()[0].starts_with("GET http://example.org/a "), "{:?}", proxy.seen());
}

#[tokio::test]
async fn the_number_of_open_responses_is_limited() {
    let server = Server::start(|_| answer("200 OK", "", "body")).await;
    let fixture = fixture(&[&server.address]);
    let request = get(&server.address);
    let mut first = fixture.http.send(&request).await.unwrap();
    let second = fixture.http.send(&request).await.unwrap();
    let error = refused(&fixture.http, &request).await;
    assert_eq!(error.code, ErrorCode::ResourceExhausted);
    assert_eq!(error.help.as_deref(), Some("close some, or raise in [stages.test.limits]: requests = 4"));
    assert_eq!(server.seen().len(), 2, "refused before it was sent");
    assert_eq!(body(&mut first).await, "body");
    let third = fixture.http.send(&request).await.expect("a response that was read to its end is closed");
    assert!(fixture.http.send(&request).await.is_err());
    drop((second, third));
    assert!(fixture.http.send(&request).await.is_ok());
}

#[tokio::test]
async fn the_data_of_requests_is_limited_by_the_stages_memory() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let fixture = fixture(&[&server.address]);
    let quota = &fixture.http.quota;
    let put = |size: usize| {
        let mut request = fixture.http.request("PUT".into(), server.address.clone());
        request.bytes(quota, vec![0; size]);
        request
    };
    let mut first = put(900 << 10);
    let second = put(200 << 10);
    let error = refused(&fixture.http, &second).await;
    assert_eq!(error.code, ErrorCode::ResourceExhausted);
    assert!(error.message.contains("1MiB"), "{}", error.message);
    first.bytes(quota, vec![0; 10]);
    assert!(fixture.http.send(&put(200 << 10)).await.is_ok(), "a replaced body doesn't count");
    drop(first);
    let mut headers = fixture.http.request("GET".into(), server.address.clone());
    for _ in 0..20 {
        headers.header(quota, "x-long".into(), "v".repeat(100 << 10));
    }
    assert_eq!(refused(&fixture.http, &headers).await.code, ErrorCode::ResourceExhausted);
    assert!(headers.headers.len() < 11);
    drop(headers);
    // A guest that repeats a secret must not fill the host's memory with it.
    let mut secrets = fixture.http.request("PUT".into(), server.address.clone());
    let secret = token(&fixture).await.secret;
    (0..1000).for_each(|_| secrets.append_secret(quota, secret.clone(), "json"));
    assert_eq!(refused(&fixture.http, &secrets).await.code, ErrorCode::ResourceExhausted);
    assert!(secrets.body.secrets().count() <= 16);
    drop(secrets);
    let mut pieces = fixture.http.request("PUT".into(), server.address.clone());
    (0..100_000).for_each(|_| pieces.append(quota, Vec::new()));
    assert_eq!(refused(&fixture.http, &pieces).await.code, ErrorCode::ResourceExhausted);
    drop(pieces);
    assert!(fixture.http.send(&put(1000 << 10)).await.is_ok());
}

#[tokio::test]
async fn headers_are_masked_like_bodies() {
    let server = Server::start(|request| {
        let sent = request.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap();
        answer("200 OK", &format!("x-echo: {sent}\r\n"), "")
    })
    .await;
    let fixture = fixture(&[&server.address]);
    let mut request = get(&server.address);
    request.headers.push(("Accept-Encoding".into(), "gzip".into()));
    request.secret_headers.push(token(&fixture).await);
    let response = fixture.http.send(&request).await.unwrap();
    let masker = fixture.log.log.masker();
    assert_eq!(response.header("X-Echo", masker), ["Bearer ***"]);
    assert!(response.header("x-none", masker).is_empty() && response.header("no name", masker).is_empty());
    assert!(server.seen()[0].contains("accept-encoding: identity"), "a compressed response can't be masked");
    masker.add("hunter2hunter2", true);
    assert_eq!(response.header("x-echo", masker), ["Bearer hunter2hunter2"], "it was revealed");
}

#[tokio::test]
async fn a_url_with_a_password_is_refused_from_guests_and_redirects() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let to = server.address.replace("//", "//ada:pass-word@");
    let fixture = fixture(&[&server.address]);
    for url in [to.clone(), server.address.replace("//", "//ada@")] {
        let error = refused(&fixture.http, &get(&url)).await;
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(!format!("{error:?}").contains("pass-word"), "{error:?}");
    }
    assert_eq!(server.seen(), [""; 0]);
    let redirecting = Server::start(move |_| answer("302 Found", &format!("location: {to}\r\n"), "")).await;
    fixture.http.own.add(&redirecting.address);
    assert_eq!(refused(&fixture.http, &get(&redirecting.address)).await.code, ErrorCode::InvalidArgument);
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn headers_and_methods_cannot_inject_into_a_request() {
    let server = Server::start(|_| answer("200 OK", "", "")).await;
    let fixture = fixture(&[&server.address]);
    let bad = [
        ("x", "a\r\nhost: evil"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x\r\ny", "a"),
        ("x: y", "a"),
        ("", "a"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Expect", "100-continue"),
    ];
    for (name, value) in bad {
        let mut request = get(&server.address);
        request.headers.push((name.into(), value.into()));
        assert_eq!(refused(&fixture.http, &request).await.code, ErrorCode::InvalidArgument, "{name:?} {value:?}");
    }
    let mut request = get(&server.address);
    let header = token(&fixture).await;
    request.secret_headers.push(SecretHeader { prefix: "a\r\nx: ".into(), ..header });
    let error = refused(&fixture.http, &request).await;
    assert!(error.code == ErrorCode::InvalidArgument && !format!("{error:?}").contains("hunter2"), "{error:?}");
    for method in ["GET / HTTP/1.1\r\nx: y\r\n\r\nGET", "A B", ""] {
        let request = RequestBuilder { method: method.into(), ..get(&server.address) };
        assert_eq!(refused(&fixture.http, &request).await.code, ErrorCode::InvalidArgument, "{method:?}");
    }
    assert_eq!(server.seen(), [""; 0]);
    let path = format!("{}/a b\r\nx: y", server.address);
    fixture.http.send(&get(&path)).await.unwrap();
    assert!(server.seen()[0].starts_with("GET /a%20bx:%20y HTTP/1.1\r\n"), "{:?}", server.seen());
}

#[tokio::test]
async fn secrets_and_authorising_headers_are_dropped_when_the_origin_changes() {
    let fixture = fixture(&[]);
    let secret = token(&fixture).await;
    let hop = || {
        let mut request = get("https://a.example/x");
        request.headers = ["authorization", "cookie", "x-own"].map(|name| (name.into(), "v".into())).into();
        request.secret_headers.push(secret.clone());
        first_hop(&request).unwrap()
    };
    let left = |location: &str| {
        let mut hop = hop();
        hop.follow(reqwest::StatusCode::TEMPORARY_REDIRECT, location).unwrap();
        (hop.secrets.len(), hop.headers.len(), hop.to.shown())
    };
    assert_eq!(left("/y"), (1, 3, "https://a.example/y".into()));
    assert_eq!(left("http://a.example/y").0, 0, "plain text is another origin");
    assert_eq!(left("http://a.example/y").1, 1);
    assert_eq!(left("//b.example/y"), (0, 1, "https://b.example/y".into()));
    assert_eq!(left("https://a.example:444/").0, 0);
}

#[tokio::test]
async fn the_number_of_redirects_is_limited() {
    let server = Server::start(|_| answer("302 Found", "location: /\r\n", "")).await;
    let fixture = fixture(&[&server.address]);
    let request = RequestBuilder { max_redirects: u32::MAX, ..get(&server.address) };
    assert_eq!(fixture.http.send(&request).await.unwrap().status, 302);
    assert_eq!(server.seen().len(), MOST_REDIRECTS as usize + 1);
}
