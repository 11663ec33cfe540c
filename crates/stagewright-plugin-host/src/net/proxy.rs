//! The allow-list proxy, through which the programs of a stage reach the network; they have no other access to it.
//!
//! It is an HTTP/1.1 proxy: `CONNECT host:port` opens a tunnel (`tunnel`), and a request in absolute form
//! (`GET http://host/…`) is forwarded (`plain`). The [`EgressGuard`] checks each first. The response to a denied request
//! is 403, with the grant to add to the pipeline's file; to anything that isn't a proxy request, 400.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::background::Background;
use super::credentials::ProxyCredentials;
use super::egress::EgressGuard;
use super::idle::WatchedStream;
use crate::error::{CapabilityError, ErrorCode};
use tunnel::Tunnel;

pub(crate) mod authenticated;
mod plain;
mod tunnel;

/// The idle timeout of a connection, longer than the one for responses to requests of guests.
pub(crate) const IDLE: Duration = Duration::from_secs(15 * 60);
/// The most bytes of a request's head.
const HEAD: usize = 64 * 1024;
/// The most header lines of a request.
const HEADERS: usize = 128;
/// How long a refused client has to read its response.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted, which happens when the engine runs out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A fatal TLS alert, `access_denied` (RFC 8446, section 6), which gives a better message in programs than a connection
/// that is merely closed.
const ACCESS_DENIED: [u8; 7] = [21, 3, 1, 0, 2, 2, 49];

/// Headers of the connection and not of the request (RFC 9110, section 7.6.1). The proxy itself handles `expect`.
const OF_THE_CONNECTION: [HeaderName; 10] = [
    CONNECTION,
    EXPECT,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Serves connections to `listener` until the handle is dropped, which also closes them. `credentials`: none for a stage
/// without secrets for the proxy. `idle`: see [`IDLE`]. Must be called within the async runtime.
pub(crate) fn serve(
    listener: TcpListener,
    egress: Arc<EgressGuard>,
    credentials: Option<Arc<ProxyCredentials>>,
    idle: Duration,
) -> Background {
    Background::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else {
                        sleep(PAUSE).await;
                        continue;
                    };
                    // One at a time, so that refused clients take no more than one task; the next ones wait in the
                    // listener's queue.
                    match egress.place().await {
                        Err(denied) => turn_away(stream, &denied).await,
                        Ok(place) => {
                            let (egress, credentials) = (egress.clone(), credentials.clone());
                            connections.spawn(async move {
                                let (stream, activity) = WatchedStream::new(stream);
                                tokio::select! {
                                    () = converse(stream, &egress, credentials.as_deref()) => {}
                                    () = activity.silent_for(idle) => {}
                                }
                                drop(place);
                            });
                        }
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    })
}

/// Serves the requests of one connection, until it becomes a tunnel or ends.
async fn converse(stream: WatchedStream<TcpStream>, egress: &EgressGuard, credentials: Option<&ProxyCredentials>) {
    let opened = Mutex::new(None);
    let service = service_fn(|request| async {
        let answer = answer(request, egress, credentials, &opened).await;
        Ok::<_, Infallible>(answer.unwrap_or_else(|error| refusal(&error)))
    });
    let connection = protocol().serve_connection(TokioIo::new(stream), service).with_upgrades();
    // This fails when the program resets the connection, or sends invalid HTTP, to which hyper has responded.
    let ended = connection.await;
    let tunnel = opened.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Ok(()), Some(tunnel)) = (ended, tunnel) {
        tunnel.run(egress).await;
    }
}

/// HTTP as the proxy receives it.
fn protocol() -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol.max_buf_size(HEAD).max_header_size(HEAD).max_headers(HEADERS);
    protocol
}

/// The response to a request. For a CONNECT, the tunnel is stored in `opened`, and begins when the response has been sent.
async fn answer<'c>(
    request: Request<Incoming>,
    egress: &EgressGuard,
    credentials: Option<&'c ProxyCredentials>,
    opened: &Mutex<Option<Tunnel<'c>>>,
) -> Result<Response<Body>, CapabilityError> {
    if request.method() != Method::CONNECT {
        return plain::forward(request, egress, credentials).await;
    }
    let tunnel = Tunnel::open(request, egress, credentials).await?;
    *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    Ok(Response::new(text(String::new())))
}

fn without_the_connection(headers: &mut HeaderMap) {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named = named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    let named: Vec<HeaderName> = named.collect();
    for name in named.iter().chain(&OF_THE_CONNECTION) {
        headers.remove(name);
    }
}

fn refusal(error: &CapabilityError) -> Response<Body> {
    let mut response = Response::new(text(words(error)));
    *response.status_mut() = status(error);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn status(error: &CapabilityError) -> StatusCode {
    match error.code {
        ErrorCode::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::ResourceExhausted => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    }
}

fn words(error: &CapabilityError) -> String {
    let help = error.help.iter().map(|help| format!("help: {help}\n"));
    std::iter::once(format!("stagewright: {}\n", error.message)).chain(help).collect()
}

fn text(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}

/// Refuses a connection before its request is read.
async fn turn_away(mut stream: TcpStream, denied: &CapabilityError) {
    let (status, words) = (status(denied), words(denied));
    let length = words.len();
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{words}");
    let work = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing a socket with unread data resets the connection, and the client could lose the response. So its request
        // is read to the end first.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // The client may close the connection early, or not at all.
    let _ = timeout(TURN_AWAY, work).await;
}
