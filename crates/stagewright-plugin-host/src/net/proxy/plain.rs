//! Forwards plain HTTP requests in absolute form to their origins.
//!
//! Each request has a connection of its own, so that two requests can't be mixed up. No `Via` is added, because some
//! servers then send different responses.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, PROXY_AUTHORIZATION, TRANSFER_ENCODING};
use hyper::{Request, Response, Uri, Version};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use stagewright_model::Origin;

use super::{Body, authenticated, without_the_connection};
use crate::error::{CapabilityError, ErrorCode};
use crate::net::background::Background;
use crate::net::credentials::ProxyCredentials;
use crate::net::egress::EgressGuard;

pub(super) async fn forward(
    request: Request<Incoming>,
    egress: &EgressGuard,
    credentials: Option<&ProxyCredentials>,
) -> Result<Response<Body>, CapabilityError> {
    let origin = origin(request.uri())?;
    egress.request(&origin)?;
    let has_credential = |credentials: &&ProxyCredentials| credentials.has_for(&origin);
    if let Some(credentials) = credentials.filter(|_| egress.grants(&origin)).filter(has_credential) {
        return authenticated::forward(request, &origin, egress, credentials).await;
    }
    let failed = |error: &dyn std::error::Error| {
        CapabilityError::new(ErrorCode::Unavailable, format!("no response from {origin}: {error}")).retryable()
    };
    let (stream, proxy) = egress.dialer.plain(&origin).await.map_err(|error| egress.failed(&origin, &error))?;
    let request = readdressed(request, &origin, proxy.as_ref())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let driver = Background::spawn(async move {
        // Its errors are reported by the response or its body.
        let _ = connection.await;
    });
    let (mut head, body) = sender.send_request(request).await.map_err(|error| failed(&error))?.into_parts();
    without_the_connection(&mut head.headers);
    // The connection is driven as long as the body is read.
    let body = body.map_frame(move |frame| {
        let _held = &driver;
        frame
    });
    Ok(Response::from_parts(head, body.map_err(Into::into).boxed()))
}

fn origin(uri: &Uri) -> Result<Origin, CapabilityError> {
    let invalid = |message: String, help: &str| {
        Err(CapabilityError::new(ErrorCode::InvalidArgument, message).with_help(help.to_owned()))
    };
    if uri.scheme_str() != Some("http") {
        let help = "request `http://HOST/PATH`, or a tunnel with `CONNECT HOST:PORT`";
        return invalid("this is a proxy, but the request isn't a proxy request".to_owned(), help);
    }
    let url = Url::parse(&uri.to_string()).ok();
    match url.as_ref().and_then(|url| Some((url, Origin::of(url)?))) {
        Some((url, origin)) if url.username().is_empty() && url.password().is_none() => Ok(origin),
        Some(_) => {
            invalid("the request's URL contains a user or a password".to_owned(), "send `authorization` instead")
        }
        None => invalid(format!("invalid URL `{uri}`"), "request `http://HOST/PATH`"),
    }
}

/// The request as it is sent to its origin. `Host` is set from the URL that was checked, and not copied from the program's
/// request, where it might name another site behind the same address.
fn readdressed(
    request: Request<Incoming>,
    origin: &Origin,
    proxy: Option<&Intercept>,
) -> Result<Request<Incoming>, CapabilityError> {
    let (mut head, body) = request.into_parts();
    // A request with both headers has two lengths. If the origin went by the other one than this proxy, it would take the
    // rest of the body for another request, which was never checked (request smuggling). The body is framed again here, so
    // only one length is sent.
    if head.headers.contains_key(TRANSFER_ENCODING) {
        head.headers.remove(CONTENT_LENGTH);
    }
    without_the_connection(&mut head.headers);
    let address = origin.to_string();
    let authority = address.split_once("://").map_or("", |(_, authority)| authority);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = if proxy.is_some() { format!("{address}{path}") } else { path.to_owned() };
    let invalid = |error: &dyn std::fmt::Display| {
        CapabilityError::new(ErrorCode::InvalidArgument, format!("could not request {address}: {error}"))
    };
    head.uri = uri.parse().map_err(|error| invalid(&error))?;
    head.headers.insert(HOST, HeaderValue::from_str(authority).map_err(|error| invalid(&error))?);
    if let Some(authorization) = proxy.and_then(Intercept::basic_auth) {
        head.headers.insert(PROXY_AUTHORIZATION, authorization.clone());
    }
    head.version = Version::HTTP_11;
    Ok(Request::from_parts(head, body))
}
