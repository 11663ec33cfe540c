//! Secrets in URLs.

use super::*;
use crate::capability::http::hop::with_secret;

#[tokio::test]
async fn a_secret_in_a_url_goes_where_one_in_a_header_may_go_and_nowhere_else() {
    let server = Server::start(|request| match request.split(' ').nth(1).unwrap() {
        "/away/hunter2hunter2" => answer("302 Found", "location: /next\r\n", ""),
        path => answer("200 OK", "", path),
    })
    .await;
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let fixture = fixture(&[&server.address, &format!("http://localhost:{port}")]);
    let with_token = async |url: &str| {
        let mut request = get(url);
        request.url_secret(&fixture.http.quota, token(&fixture).await.secret);
        request
    };
    let mut response = fixture.http.send(&with_token(&format!("{}/hook/", server.address)).await).await.unwrap();
    assert!(server.seen()[0].starts_with("GET /hook/hunter2hunter2 "), "{:?}", server.seen());
    assert_eq!(response.url(fixture.log.log.masker()), format!("{}/hook/", server.address));
    assert_eq!(body(&mut response).await, "/hook/***");

    // A server that redirects it gets the next request without it.
    let response = fixture.http.send(&with_token(&format!("{}/away", server.address)).await).await.unwrap();
    assert!(server.seen()[2].starts_with("GET /next "), "{:?}", server.seen());
    assert_eq!(response.url(fixture.log.log.masker()), format!("{}/next", server.address));

    let refused = fixture.http.send(&with_token(&format!("http://localhost:{port}/")).await).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::PermissionDenied);
    assert_eq!(server.seen().len(), 3);
    // Without a server, the error has no secret either.
    drop(server);
    let closed = fixture.http.send(&with_token("http://127.0.0.1:9/hook").await).await.err().unwrap();
    assert!(!format!("{closed:?}").contains("hunter2"), "{closed:?}");
}

#[test]
fn the_value_is_a_path_or_a_url_of_the_same_origin() {
    let url = Url::parse("https://hooks.example/services/").unwrap();
    let origin = Origin::of(&url).unwrap();
    let with = |value: &str| with_secret(url.clone(), &origin, value).map(String::from);
    assert_eq!(with("T/B/x").as_deref(), Some("https://hooks.example/services/T/B/x"));
    assert_eq!(with("/T/B/x\n").as_deref(), Some("https://hooks.example/services/T/B/x"));
    assert_eq!(with("https://hooks.example/T?sig=1").as_deref(), Some("https://hooks.example/T?sig=1"));
    let others = [
        "https://other.example/T",
        "http://hooks.example/T",
        "https://hooks.example:8443/T",
        "https://ada@hooks.example/T",
        "https://hooks.example/T#x",
        "../admin",
        "a/../b",
        "a?b",
        "a b",
        "a\\b",
        "",
    ];
    for value in others {
        assert_eq!(with(value), None, "{value}");
    }
}
