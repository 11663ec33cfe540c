//! One request on the way from a guest's request to its response: where it goes, and where a redirect leads.

use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode, Url};
use stagewright_model::{Origin, SocketUrl};

use super::super::secrets::SecretHandle;
use super::request::{Body, RequestBuilder, SecretHeader};
use crate::error::{CapabilityError, ErrorCode};

/// A request to one origin; redirects lead to the next.
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) to: Destination,
    pub(super) headers: HeaderMap,
    pub(super) secrets: Vec<SecretHeader>,
    pub(super) body: Body,
    /// What is added to the path of the URL. Redirects are followed without it.
    pub(super) url_secret: Option<SecretHandle>,
    /// Whether credentials apply: not any more once a redirect led to another origin.
    pub(super) may_be_signed: bool,
}

/// Where a request goes.
pub(super) enum Destination {
    Host(Url, Origin),
    /// A Unix socket of this machine. Redirects from one aren't followed.
    Socket(SocketUrl),
}

impl Destination {
    fn parse(text: &str) -> Result<Destination, CapabilityError> {
        let invalid = |message: String| CapabilityError::new(ErrorCode::InvalidArgument, message);
        match SocketUrl::parse(text) {
            Some(Ok(url)) => Ok(Destination::Socket(url)),
            Some(Err(error)) => Err(invalid(format!("`{text}` {}", error.message)).with_help(error.help)),
            None => {
                let url = Url::parse(text).map_err(|error| invalid(format!("`{text}` is not a URL: {error}")))?;
                Destination::at(url)
            }
        }
    }

    fn at(url: Url) -> Result<Destination, CapabilityError> {
        let origin = Origin::of(&url).ok_or_else(|| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("`{}` is not an http or https URL", shown(&url)))
        })?;
        Ok(Destination::Host(url, origin))
    }

    /// A secret's value, if it may be sent there.
    pub(super) fn value_of<'a>(&self, secret: &'a SecretHandle) -> Result<&'a str, CapabilityError> {
        match self {
            Destination::Host(_, origin) => secret.for_origin(origin),
            Destination::Socket(url) => secret.for_socket(&url.socket),
        }
    }

    /// For people, without what may contain secrets.
    pub(super) fn shown(&self) -> String {
        match self {
            Destination::Host(url, _) => shown(url),
            Destination::Socket(url) => url.shown(),
        }
    }
}

pub(super) fn first_hop(request: &RequestBuilder) -> Result<Hop, CapabilityError> {
    let invalid = |message: String| CapabilityError::new(ErrorCode::InvalidArgument, message);
    let method = Method::from_bytes(request.method.to_ascii_uppercase().as_bytes())
        .map_err(|_| invalid(format!("`{}` is not an HTTP method", request.method)))?;
    let to = Destination::parse(&request.url)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let (name, value) = parse_header(name, value)?;
        headers.append(name, value);
    }
    let (secrets, body) = (request.secret_headers.clone(), request.body.clone());
    let url_secret = request.url_secret.clone();
    Ok(Hop { method, to, headers, secrets, body, url_secret, may_be_signed: true })
}

impl Hop {
    /// The secrets that it carries, in its URL, in headers and in its body.
    pub(super) fn all_secrets(&self) -> impl Iterator<Item = &SecretHandle> {
        let of_url = self.url_secret.iter();
        of_url.chain(self.secrets.iter().map(|header| &header.secret)).chain(self.body.secrets())
    }

    /// The URL that it is sent with.
    pub(super) fn url(&self) -> Result<Url, CapabilityError> {
        let url = self.to.url()?;
        let Some(secret) = &self.url_secret else { return Ok(url) };
        let Destination::Host(_, origin) = &self.to else {
            let message = "the URL of a socket can't have a secret, because grants restrict its path";
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message));
        };
        with_secret(url, origin, self.to.value_of(secret)?).ok_or_else(|| {
            let message = format!("the secret `{}` is neither a path nor a URL of {origin}", secret.name());
            CapabilityError::new(ErrorCode::InvalidArgument, message).with_help(format!(
                "change the secret's value, or send it to the origin that it names instead of {origin}"
            ))
        })
    }

    /// Turns the request into the one that a redirect demands. By RFC 9110, section 15.4, 303 requires a GET, and 307 and
    /// 308 the same method again; after 301 and 302, clients turn a POST into a GET. Secrets and the headers that authorise
    /// a request are dropped when the origin changes.
    pub(super) fn follow(&mut self, status: StatusCode, location: &str) -> Result<(), CapabilityError> {
        let Destination::Host(url, origin) = &self.to else { return Ok(()) };
        let next = url.join(location).map_err(|error| {
            let message = format!("{} redirects to `{location}`, which is not a URL: {error}", shown(url));
            CapabilityError::new(ErrorCode::FailedPrecondition, message)
        })?;
        let to_get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if to_get {
            self.method = Method::GET;
            self.body = Body::None;
        }
        let next = Destination::at(next)?;
        if !matches!(&next, Destination::Host(_, next) if next == origin) {
            if let Some(secret) = self.body.secrets().next() {
                let message = format!(
                    "{} redirects to another origin, to which the secret `{}` of the body isn't sent",
                    shown(url),
                    secret.name()
                );
                return Err(CapabilityError::new(ErrorCode::FailedPrecondition, message));
            }
            // Otherwise a server that may receive a secret could pass it on to any other granted host by a redirect, and so
            // could an open redirect on it.
            self.secrets.clear();
            self.may_be_signed = false;
            for name in [AUTHORIZATION, COOKIE] {
                self.headers.remove(name);
            }
        }
        self.url_secret = None;
        self.to = next;
        Ok(())
    }
}

/// The URL with a secret in its path, or the secret itself if it is a URL of the same origin.
pub(super) fn with_secret(mut url: Url, origin: &Origin, value: &str) -> Option<Url> {
    let value = value.trim();
    if let Ok(whole) = Url::parse(value) {
        let is_same = Origin::of(&whole).is_some_and(|of| of == *origin);
        let is_plain = whole.username().is_empty() && whole.password().is_none() && whole.fragment().is_none();
        return (is_same && is_plain).then_some(whole);
    }
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\');
    if value.is_empty() || !value.chars().all(fits) || value.split('/').any(|name| matches!(name, "." | "..")) {
        return None;
    }
    let path = format!("{}/{}", url.path().trim_end_matches('/'), value.trim_start_matches('/'));
    url.set_path(&path);
    Some(url)
}

pub(super) fn redirection(answer: &reqwest::Response) -> Option<String> {
    let follows = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers().get(LOCATION).filter(|_| follows)?;
    location.to_str().ok().map(ToOwned::to_owned)
}

/// Headers of the connection, which a guest must not set. With `Host`, it could reach another site behind a granted
/// address; with the ones for the length, it could smuggle a second request.
const OF_THE_CONNECTION: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Parses a header. Errors don't show its value, which may contain a secret.
pub(super) fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), CapabilityError> {
    let invalid = |what: &str| CapabilityError::new(ErrorCode::InvalidArgument, what.to_owned());
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid(&format!("invalid header name `{name}`")))?;
    if OF_THE_CONNECTION.contains(&parsed.as_str()) {
        return Err(invalid(&format!("the header `{name}` is set by the host")));
    }
    let value = HeaderValue::from_str(value)
        .map_err(|_| invalid(&format!("the value of header `{name}` contains invalid characters")))?;
    Ok((parsed, value))
}

/// The URL without user, query and fragment, which may contain secrets.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // These fail for URLs that can't have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
