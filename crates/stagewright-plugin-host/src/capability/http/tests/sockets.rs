//! Requests over Unix sockets.

use super::*;

/// A server on a socket that responds to each request with its first line and what `answer` adds.
pub(super) struct SocketServer {
    pub(super) folder: tempfile::TempDir,
    seen: Arc<StdMutex<Vec<String>>>,
}

impl SocketServer {
    pub(super) fn start(status: &'static str, headers: &'static str) -> SocketServer {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(folder.path().join("own.sock")).unwrap();
        let seen = Arc::new(StdMutex::new(Vec::new()));
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let request = read_request(&mut socket).await;
                let answer = answer(status, headers, request.lines().next().unwrap());
                log.lock().unwrap().push(request);
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        SocketServer { folder, seen }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("unix://{}/own.sock:{path}", self.folder.path().display())
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn requests_over_a_socket_are_granted_by_method_and_path() {
    let server = SocketServer::start("200 OK", "");
    let grant = format!("GET,POST {}", server.url("/containers/*"));
    let mut fixture = fixture(&[&grant]);
    let (effects, announced) = fixture.log.effects_with_verdict(stagewright_engine::Call::Run, Ok(()));
    fixture.http.effects = effects;
    let mut response = fixture.http.send(&get(&server.url("/containers/json?all=1&x=secret"))).await.unwrap();
    assert_eq!(body(&mut response).await, "GET /containers/json?all=1&x=secret HTTP/1.1");
    assert_eq!(response.url(fixture.log.log.masker()), server.url("/containers/json"));
    assert!(server.seen()[0].contains("\r\nhost: \r\n"), "{:?}", server.seen());
    let create = RequestBuilder { method: "post".into(), ..get(&server.url("/containers/create")) };
    fixture.http.send(&create).await.unwrap();
    assert_eq!(*announced.lock().unwrap(), [format!("POST {}", server.url("/containers/create"))]);

    let delete = RequestBuilder { method: "DELETE".into(), ..get(&server.url("/containers/a")) };
    let denied = fixture.http.send(&delete).await.err().unwrap();
    assert_eq!(denied.code, ErrorCode::PermissionDenied);
    let line = format!("DELETE {}", server.url("/containers/a"));
    assert!(denied.help.as_deref().unwrap().contains(&line), "{denied:?}");
    for elsewhere in ["/images/json", "/containers", "/containers/../images/json", "/containers/%2e%2e/images/json"] {
        assert!(fixture.http.send(&get(&server.url(elsewhere))).await.is_err(), "{elsewhere}");
    }
    let other = server.url("/containers/json").replace("own.sock", "other.sock");
    assert_eq!(fixture.http.send(&get(&other)).await.err().unwrap().code, ErrorCode::PermissionDenied);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_redirect_from_a_socket_is_not_followed_and_a_secret_is_only_sent_to_its_own() {
    let server = SocketServer::start("302 Found", "location: /elsewhere\r\n");
    let fixture = fixture(&[&server.url("")[..server.url("").len() - 1]]);
    let response = fixture.http.send(&get(&server.url("/"))).await.unwrap();
    assert_eq!((response.status, server.seen().len()), (302, 1));
    let mut request = get(&server.url("/"));
    request.secret_headers.push(token(&fixture).await);
    let refused = fixture.http.send(&request).await.err().unwrap();
    assert!(refused.message.contains("`token` may not be sent to the socket /"), "{refused:?}");
    assert!(refused.help.as_deref().is_some_and(|help| help.contains("own.sock\"]")), "{refused:?}");
    assert_eq!(server.seen().len(), 1);
    assert!(token(&fixture).await.secret.for_socket("/known.sock").is_ok());
}

#[tokio::test]
async fn a_rehearsal_sends_over_a_socket_only_what_it_is_granted() {
    let server = SocketServer::start("200 OK", "");
    let (all, read) = (format!("unix://{}/own.sock", server.folder.path().display()), server.url("/info"));
    let read = format!("GET {read}");
    let (fixture, aborter) = rehearsed(&[&all], &[&read]);
    fixture.http.send(&get(&server.url("/info"))).await.unwrap();
    let create = RequestBuilder { method: "POST".into(), ..get(&server.url("/containers/create?name=x")) };
    let would = format!("would send POST {} (0 bytes)", server.url("/containers/create"));
    assert_eq!(withheld(&fixture, &aborter, &create).await, would);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_socket_without_a_server_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}/none.sock", folder.path().display());
    let error = fixture(&[&socket]).http.send(&get(&format!("{socket}:/info"))).await.err().unwrap();
    assert_eq!((&error.code, error.retryable), (&ErrorCode::Unavailable, Some(true)));
    assert!(error.message.contains(&format!("could not call {socket}:/info: connection failed")), "{error:?}");
    assert!(error.causes.iter().any(|cause| cause.contains("No such file")), "{error:?}");
}
