//! The allow-list proxy: the way out for the programs of a stage, which see nothing else of the network.
//!
//! It speaks HTTP/1.1 as proxies do: `CONNECT host:port` opens a tunnel (`tunnel`), a request in absolute form
//! (`GET http://host/…`) is sent on (`plain`). Each is asked of the [`EgressGuard`] first. What is refused is answered with
//! 403 and what to write into the pipeline's file; what isn't a request to a proxy, with 400.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::background::Background;
use super::egress::EgressGuard;
use super::idle::Watched;
use crate::error::{CapabilityError, ErrorCode};
use tunnel::Tunnel;

mod plain;
mod tunnel;

/// A connection over which nothing went for so long is closed. Longer than any answer that a stage can wait for by the
/// limits of guests' requests.
pub(crate) const IDLE: Duration = Duration::from_secs(15 * 60);
/// Of a request's head, bytes.
const HEAD: usize = 64 * 1024;
/// Header lines of a request.
const HEADERS: usize = 128;
/// For one that is turned away, to take note of it.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// When no connection can be accepted, which is so when the engine has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

type Body = BoxBody<Bytes, hyper::Error>;

/// Serves whoever connects to `listener`, until the handle is dropped, which ends all connections too. `idle`: see
/// [`IDLE`]. Must be called within the runtime.
pub(crate) fn serve(listener: TcpListener, egress: Arc<EgressGuard>, idle: Duration) -> Background {
    Background::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match (accepted, egress.place()) {
                    (Err(_), _) => sleep(PAUSE).await,
                    // One after the other: those who come next wait in the listener's queue.
                    (Ok((stream, _)), Err(denied)) => turn_away(stream, &denied).await,
                    (Ok((stream, _)), Ok(place)) => {
                        let egress = egress.clone();
                        connections.spawn(async move {
                            let (stream, activity) = Watched::new(stream);
                            tokio::select! {
                                () = converse(stream, &egress) => {}
                                () = activity.silent_for(idle) => {}
                            }
                            drop(place);
                        });
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    })
}

/// Answers the requests of one connection, until it becomes a tunnel or ends.
async fn converse(stream: Watched<TcpStream>, egress: &EgressGuard) {
    let opened = Mutex::new(None);
    let service = service_fn(|request| async {
        let answer = answer(request, egress, &opened).await;
        Ok::<_, Infallible>(answer.unwrap_or_else(|error| refusal(&error)))
    });
    let mut protocol = http1::Builder::new();
    protocol.max_buf_size(HEAD).max_header_size(HEAD).max_headers(HEADERS);
    let connection = protocol.serve_connection(TokioIo::new(stream), service).with_upgrades();
    // It fails when the program breaks off, or doesn't speak HTTP; that was answered.
    let ended = connection.await;
    let tunnel = opened.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let (Ok(()), Some(tunnel)) = (ended, tunnel) {
        tunnel.run(egress).await;
    }
}

/// The tunnel that a CONNECT opens is left in `opened`, and begins when the answer is sent.
async fn answer(
    request: Request<Incoming>,
    egress: &EgressGuard,
    opened: &Mutex<Option<Tunnel>>,
) -> Result<Response<Body>, CapabilityError> {
    if request.method() != Method::CONNECT {
        return plain::forward(request, egress).await;
    }
    let tunnel = Tunnel::open(request, egress).await?;
    *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    Ok(Response::new(text(String::new())))
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

/// Answers before anything was asked.
async fn turn_away(mut stream: TcpStream, denied: &CapabilityError) {
    let (status, words) = (status(denied), words(denied));
    let length = words.len();
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{words}");
    let work = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // To close while its request is on the way would take the answer back.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // It may as well not listen.
    let _ = timeout(TURN_AWAY, work).await;
}
