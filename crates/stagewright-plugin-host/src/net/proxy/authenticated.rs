//! Requests to the hosts for which the proxy has a credential.
//!
//! A secret is for downloads: only GET and HEAD requests without a body carry it, so that a program can't publish or change
//! anything with it. Other requests are forwarded as the program sent them. A credential signs all requests to its origins.
//!
//! ```text
//! program ── TLS (certificate of the attempt) ── proxy ── TLS (verified like the engine's own) ── host
//! ```
//!
//! Redirects are left to the program: neither is ever sent to another host. What a host sends back of the request is
//! masked, and a session that it opens isn't handed to the program, which could use it for other requests.

use std::convert::Infallible;
use std::time::SystemTime;

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, SET_COOKIE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use rustls::server::Acceptor;
use stagewright_model::{BodyDigest, Origin, RequestToSign, is_localhost};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;

use super::{ACCESS_DENIED, Body, protocol, refusal, without_the_connection};
use crate::error::{CapabilityError, ErrorCode, causes_of};
use crate::mask::{Audience, MaskStream, Masker};
use crate::net::client::refused_address;
use crate::net::credentials::{OriginCredential, ProxyCredentials};
use crate::net::egress::EgressGuard;

/// Headers by which some servers turn a GET into another method.
const OTHER_METHODS: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Serves the requests to `origin` that a program sends over `stream`, which is encrypted if the origin is an https one.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    origin: &Origin,
    egress: &EgressGuard,
    credentials: &ProxyCredentials,
) {
    if !origin.is_https() {
        return converse(stream, origin, egress, credentials).await;
    }
    // These fail when the program doesn't trust the certificate, or sends something other than TLS.
    let Ok(mut start) = LazyConfigAcceptor::new(Acceptor::default(), stream).await else { return };
    let requested = start.client_hello().server_name().map(str::to_ascii_lowercase);
    if !is_for(requested.as_deref(), origin) {
        egress.fronted(origin, &requested.map_or("no host".to_owned(), |name| format!("`{name}`")));
        // The program may have closed the connection already.
        let _ = start.io.write_all(&ACCESS_DENIED).await;
        return;
    }
    let Ok(config) = credentials.authority.server(origin) else { return };
    if let Ok(stream) = start.into_stream(config).await {
        converse(stream, origin, egress, credentials).await;
    }
}

/// Whether TLS with this host name may be for `origin`. An address is requested without a name (RFC 6066, section 3).
fn is_for(requested: Option<&str>, origin: &Origin) -> bool {
    match requested {
        Some(name) => name == origin.host() || (origin.is_loopback() && is_localhost(name)),
        None => origin.address().is_some() || origin.is_loopback(),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    origin: &Origin,
    egress: &EgressGuard,
    credentials: &ProxyCredentials,
) {
    let service = service_fn(|request| async {
        let answer = match addressed(&request, origin, egress) {
            Ok(()) => forward(request, origin, egress, credentials).await,
            Err(error) => Err(error),
        };
        Ok::<_, Infallible>(answer.unwrap_or_else(|error| refusal(&error)))
    });
    // This fails when the program resets the connection, or sends invalid HTTP, to which hyper has responded.
    let _ = protocol().serve_connection(TokioIo::new(stream), service).await;
}

/// Checks that a request is for the host that its connection was opened to: another site of the same server isn't granted.
fn addressed(request: &Request<Incoming>, origin: &Origin, egress: &EgressGuard) -> Result<(), CapabilityError> {
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    let in_headers = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let scheme = if origin.is_https() { "https" } else { "http" };
    let is_same = |authority: &str| {
        let named = Origin::of_url(&format!("{scheme}://{authority}"));
        named.is_some_and(|named| {
            named == *origin || (named.is_loopback() && origin.is_loopback() && named.port() == origin.port())
        })
    };
    match in_uri.into_iter().chain(in_headers).find(|authority| !is_same(authority)) {
        Some(other) => Err(egress.fronted(origin, &format!("`{other}`"))),
        None => Ok(()),
    }
}

/// Sends a request to `origin`, with the credential for it, or with the secret if the request is a download.
pub(super) async fn forward(
    request: Request<Incoming>,
    origin: &Origin,
    egress: &EgressGuard,
    credentials: &ProxyCredentials,
) -> Result<Response<Body>, CapabilityError> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let url = Url::parse(&format!("{origin}{path}")).ok().filter(|url| Origin::of(url).as_ref() == Some(origin));
    let url = url.ok_or_else(|| {
        CapabilityError::new(ErrorCode::InvalidArgument, format!("invalid path `{path}` in a request to {origin}"))
    })?;
    without_the_connection(&mut head.headers);
    // They are set from the URL and the body, so that there is one host and one length.
    head.headers.remove(HOST);
    head.headers.remove(CONTENT_LENGTH);
    let is_download = matches!(head.method, Method::GET | Method::HEAD) && body.is_end_stream();
    let sender = match credentials.for_origin(origin) {
        Some(OriginCredential::Signed(signer)) => {
            let request = RequestToSign {
                method: head.method.to_string(),
                url: url.clone(),
                headers: Vec::new(),
                body: BodyDigest::Uncovered,
                now: SystemTime::now(),
            };
            credentials.sign(signer, request, &mut head.headers).await?;
            Some(&signer.signing.client)
        }
        Some(OriginCredential::Download(authorization)) if is_download => {
            head.headers.insert(AUTHORIZATION, authorization.clone());
            OTHER_METHODS.iter().for_each(|name| drop(head.headers.remove(name)));
            Some(credentials.client.get().map_err(|error| failed(origin, &error))?)
        }
        Some(OriginCredential::Download(_)) | None => None,
    };
    if sender.is_some() {
        // The credential couldn't be found in a compressed response.
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let mut sent = reqwest::Request::new(head.method, url);
    *sent.headers_mut() = head.headers;
    if !body.is_end_stream() {
        *sent.body_mut() = Some(reqwest::Body::wrap(body));
    }
    let client = match sender {
        Some(client) => client,
        None => credentials.client.get().map_err(|error| failed(origin, &error))?,
    };
    let response = client.execute(sent).await.map_err(|error| match refused_address(&error) {
        Some(refused) => egress.refused(origin, refused),
        None => failed(origin, &error),
    })?;
    let mut response = Response::<reqwest::Body>::from(response);
    without_the_connection(response.headers_mut());
    Ok(match sender {
        Some(_) => masked(response, &credentials.masker),
        None => response.map(|body| body.map_err(Into::into).boxed()),
    })
}

/// A response without the credential of its request, should the host repeat it.
fn masked(response: Response<reqwest::Body>, masker: &Masker) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    head.headers.remove(SET_COOKIE);
    for value in head.headers.values_mut() {
        let shown = masker.bytes(Audience::Guest, value.as_bytes());
        if shown != value.as_bytes() {
            *value = HeaderValue::from_bytes(&shown).unwrap_or(HeaderValue::from_static("***"));
        }
    }
    if body.is_end_stream() {
        return Response::from_parts(head, body.map_err(Into::into).boxed());
    }
    // Masking can change the length.
    head.headers.remove(CONTENT_LENGTH);
    let mut mask = MaskStream::new(masker.clone(), Audience::Guest);
    let pieces = body.into_data_stream().map_ok(Some).chain(stream::once(future::ready(Ok(None))));
    let frames = pieces.map_ok(move |piece| {
        let mut shown = Vec::new();
        match piece {
            Some(piece) => mask.push(&piece, &mut shown),
            None => mask.finish(&mut shown),
        }
        Frame::data(Bytes::from(shown))
    });
    Response::from_parts(head, BodyExt::boxed(StreamBody::new(frames.map_err(Into::into))))
}

fn failed(origin: &Origin, error: &reqwest::Error) -> CapabilityError {
    let code = if error.is_timeout() { ErrorCode::DeadlineExceeded } else { ErrorCode::Unavailable };
    // The message of reqwest's own error contains the URL with its query.
    let why = causes_of(error).into_iter().next_back().unwrap_or_else(|| "the request failed".to_owned());
    CapabilityError::new(code, format!("no response from {origin}: {why}")).retryable()
}
