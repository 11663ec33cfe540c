//! Sends one request to a replica, and its response back.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, RETRY_AFTER, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::OwnedSemaphorePermit;

use super::routes::Routes;
use super::upstream::{InFlight, RequestBody};

/// The body of a response to a client.
pub(super) type ResponseBody = Either<Full<Bytes>, TrackedBody>;

/// Headers that are for the next hop alone (RFC 9110, section 7.6.1), beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Why a client gets no response of a release.
#[derive(Debug)]
enum ForwardFailure {
    /// No release serves.
    NoRelease,
    /// No replica of the release accepts connections.
    Unreachable(io::Error),
    /// The replica closed the connection before it had answered. It may have acted on the request, so that the request
    /// isn't sent again.
    Unanswered(hyper::Error),
    /// The client asked for a tunnel (`CONNECT`).
    Unsupported,
}

/// The client at the other end of a connection.
#[derive(Clone)]
pub(super) struct ClientConnection {
    pub(super) address: IpAddr,
    /// Held for as long as the connection is open, including after an upgrade.
    pub(super) _permit: Arc<OwnedSemaphorePermit>,
}

/// The response of a release to a request.
pub(super) async fn forward(
    routes: &Routes,
    client: &ClientConnection,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    relay(routes, client, request).await.unwrap_or_else(ForwardFailure::into_response)
}

async fn relay(
    routes: &Routes,
    client: &ClientConnection,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ForwardFailure> {
    if request.method() == Method::CONNECT {
        return Err(ForwardFailure::Unsupported);
    }
    let upgrade = upgrade_of(request.headers()).is_some().then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let (mut response, in_flight) =
        exchange(routes.next(&parts.headers), outgoing(parts, client.address), body).await?;
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let (true, Some(upgrade)) = (is_upgraded, upgrade) {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(tunnel(upgrade, server, in_flight, client.clone()));
        return Ok(response.map(|_| Either::Left(Full::default())));
    }
    remove_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|body| Either::Right(TrackedBody { body, _in_flight: in_flight })))
}

/// Sends the request to the first replica that accepts a connection.
///
/// A request is sent a second time only if that is safe (RFC 9110, section 9.2.2): its method is, and it has no body. Such
/// a request may use a connection that was used before, which the replica may be closing at this very moment. Others get
/// a connection of their own. A replica that accepts no connection has received nothing, so the next one is tried.
async fn exchange(
    replicas: Vec<InFlight>,
    head: Request<()>,
    body: Incoming,
) -> Result<(Response<Incoming>, InFlight), ForwardFailure> {
    let is_repeatable = head.method().is_safe() && body.is_end_stream() && !head.headers().contains_key(UPGRADE);
    let mut failure = ForwardFailure::NoRelease;
    for replica in replicas {
        let upstream = replica.upstream();
        if is_repeatable
            && let Some(mut sender) = upstream.reuse()
            && let Ok(response) = sender.send_request(with_body(head.clone(), Either::Left(Empty::new()))).await
        {
            upstream.keep(sender);
            return Ok((response, replica));
        }
        match upstream.connect().await {
            Ok(mut sender) => {
                let sent = sender.send_request(with_body(head, Either::Right(body))).await;
                let response = sent.map_err(ForwardFailure::Unanswered)?;
                upstream.keep(sender);
                return Ok((response, replica));
            }
            Err(error) => failure = ForwardFailure::Unreachable(error),
        }
    }
    Err(failure)
}

fn with_body(head: Request<()>, body: RequestBody) -> Request<RequestBody> {
    head.map(|()| body)
}

/// The request as the replica gets it. The host is the one that the client named.
fn outgoing(parts: Parts, peer: IpAddr) -> Request<()> {
    let mut head = Request::from_parts(parts, ());
    let upgrade = upgrade_of(head.headers());
    let accepts_trailers = head.headers().get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let headers = head.headers_mut();
    remove_hop_by_hop(headers);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    } else if accepts_trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Ok(peer) = HeaderValue::try_from(peer.to_string()) {
        headers.append(FORWARDED_FOR, peer);
    }
    // A client that takes this for its proxy sends the whole URL, whose host then counts (RFC 9112, section 3.2.2).
    let authority = head.uri().authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
    if let Some(authority) = authority {
        head.headers_mut().insert(HOST, authority);
    }
    let path = head.uri().path_and_query().cloned();
    *head.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    *head.version_mut() = Version::HTTP_11;
    head
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// The protocol that a client asks to change to, as in `websocket`.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut options =
        headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let is_asked = options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| is_asked).cloned()
}

/// Copies what both sides of an upgraded connection send, until both have ended.
async fn tunnel(client: OnUpgrade, server: OnUpgrade, _in_flight: InFlight, _connection: ClientConnection) {
    if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
        // Whichever side fails, the other one sees its connection end.
        let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
    }
}

impl ForwardFailure {
    fn into_response(self) -> Response<ResponseBody> {
        let (status, reason) = match self {
            ForwardFailure::NoRelease => (StatusCode::SERVICE_UNAVAILABLE, "no release serves".to_owned()),
            ForwardFailure::Unreachable(error) => {
                (StatusCode::BAD_GATEWAY, format!("the release can't be reached: {error}"))
            }
            ForwardFailure::Unanswered(error) => {
                (StatusCode::BAD_GATEWAY, format!("the release didn't answer: {error}"))
            }
            ForwardFailure::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, "this proxy opens no tunnels".to_owned()),
        };
        let mut response = Response::new(Either::Left(Full::from(format!("{reason}\n"))));
        *response.status_mut() = status;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The body of a release's response. The request is in flight until it has been read, or the client has gone.
pub(super) struct TrackedBody {
    body: Incoming,
    _in_flight: InFlight,
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
