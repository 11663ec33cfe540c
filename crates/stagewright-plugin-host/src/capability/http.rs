//! `http`: requests to granted origins, with secrets that the guest never sees.
//!
//! Redirects are followed here, so that each hop is checked like a first request, and a secret is only sent to the origin
//! that it was attached for. Bodies and headers are masked before the guest reads them, since a server may echo the
//! request.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, StatusCode, Url};
use stagewright_model::Origin;
use tokio::sync::mpsc;

use super::effects::Effects;
use super::poll::Pollable;
use super::workspace::{FillError, WorkspaceFiles};
use crate::attempt::AttemptContext;
use crate::error::{CapabilityError, ErrorCode, causes_of};
use crate::log::AttemptLog;
use crate::mask::{Audience, Masker};
use crate::net::OwnOrigins;
use crate::net::client::{SharedClient, refused_address};
use crate::policy::Policy;
use crate::rehearsal::{Rehearsal, RequestRoute};

mod incoming;
mod pending;
mod quota;
mod request;

pub(crate) use quota::Quota;

pub use pending::PendingResponse;
pub use request::RequestBuilder;
pub(crate) use request::SecretHeader;

use incoming::IncomingBody;
use quota::Held;
use request::Body;

/// The most redirects, whatever the guest sets: two servers that redirect to each other would occupy a stage until its
/// timeout.
const MOST_REDIRECTS: u32 = 50;

/// A response, whose body is received as the guest reads it.
pub struct ResponseHandle {
    pub(crate) status: u16,
    headers: HeaderMap,
    url: String,
    /// Shared with the pollables that wait for it.
    body: Arc<Mutex<IncomingBody>>,
    /// Its permit among the open responses; none once the body has ended.
    place: Option<Held>,
}

impl ResponseHandle {
    /// The values of a header in the order in which they came, masked.
    pub(crate) fn header(&self, name: &str, masker: &Masker) -> Vec<String> {
        self.headers.get_all(name).iter().map(|value| masked_value(value, masker)).collect()
    }

    /// All headers with their values, masked.
    pub(crate) fn headers(&self, masker: &Masker) -> Vec<(String, String)> {
        self.headers.iter().map(|(name, value)| (name.to_string(), masked_value(value, masker))).collect()
    }

    /// The URL that the response came from, without query and fragment, masked.
    pub(crate) fn url(&self, masker: &Masker) -> String {
        masker.text(&self.url)
    }

    /// Ready once [`ResponseHandle::read`] returns without waiting, be it with an error.
    pub(crate) fn readable(&self) -> Pollable {
        let body = Arc::clone(&self.body);
        Pollable::new(poll_fn(move |context| lock(&body).poll_ready(context)))
    }

    /// The next part of the body; empty at its end.
    async fn next(&mut self) -> Result<Vec<u8>, CapabilityError> {
        match poll_fn(|context| lock(&self.body).poll_next(context)).await {
            Some(Ok(data)) => Ok(data),
            Some(Err(error)) => Err(transport("read the response of", &self.url, &error)),
            None => {
                self.place = None;
                Ok(Vec::new())
            }
        }
    }

    /// Reads at most `max_bytes`; fewer if no more have arrived, none at the end of the body.
    pub(crate) async fn read(&mut self, max_bytes: usize) -> Result<Vec<u8>, CapabilityError> {
        if max_bytes == 0 {
            return Err(CapabilityError::new(
                ErrorCode::InvalidArgument,
                "the number of bytes to read must be at least 1",
            ));
        }
        let mut data = self.next().await?;
        if data.len() > max_bytes {
            lock(&self.body).put_back(data.split_off(max_bytes));
        }
        Ok(data)
    }

    /// Saves the rest of the body in a file of the workspace and returns its size. A body that is interrupted leaves no
    /// file, and an existing file unchanged.
    pub(crate) async fn save(&mut self, workspace: &WorkspaceFiles, path: String) -> Result<u64, CapabilityError> {
        // An empty part marks the end of the body. If the channel closes without one, the body was interrupted.
        let (sender, mut receiver) = mpsc::channel::<Result<Vec<u8>, CapabilityError>>(4);
        let writing = workspace.off_thread(move |files| {
            files.replace(&path, |file| {
                let mut size = 0;
                loop {
                    let piece = receiver.blocking_recv().ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
                    let piece = piece.map_err(FillError::Other)?;
                    if piece.is_empty() {
                        return Ok(size);
                    }
                    file.write_all(&piece)?;
                    size += piece.len() as u64;
                }
            })
        });
        let reading = async {
            loop {
                let piece = self.next().await;
                let last = !matches!(&piece, Ok(data) if !data.is_empty());
                // Sending fails when the writer has failed; its own error is returned.
                if sender.send(piece).await.is_err() || last {
                    return;
                }
            }
        };
        tokio::join!(writing, reading).0
    }
}

fn lock(body: &Mutex<IncomingBody>) -> MutexGuard<'_, IncomingBody> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

fn masked_value(value: &HeaderValue, masker: &Masker) -> String {
    String::from_utf8_lossy(&masker.bytes(Audience::Guest, value.as_bytes())).into_owned()
}

/// Sends requests for one attempt; cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) client: SharedClient,
    pub(crate) policy: Arc<Policy>,
    pub(crate) workspace: WorkspaceFiles,
    pub(crate) log: AttemptLog,
    pub(crate) own: OwnOrigins,
    pub(crate) rehearsal: Rehearsal,
    pub(crate) effects: Effects,
    pub(crate) quota: Quota,
}

/// A request to one origin; redirects lead to the next.
struct Hop {
    method: Method,
    url: Url,
    headers: HeaderMap,
    secrets: Vec<SecretHeader>,
    body: Body,
}

impl Http {
    pub(crate) fn for_attempt(attempt: &AttemptContext<'_>) -> Http {
        Http {
            client: attempt.host.outbound.client.clone(),
            policy: attempt.policy.clone(),
            workspace: attempt.workspace.clone(),
            log: attempt.log.clone(),
            own: attempt.own_origins.clone(),
            rehearsal: attempt.rehearsal.clone(),
            effects: attempt.effects.clone(),
            quota: Quota::new(attempt.bounds.requests, attempt.bounds.memory, attempt.policy.clone()),
        }
    }

    /// A request builder whose size counts against the quota.
    pub(crate) fn request(&self, method: String, url: String) -> RequestBuilder {
        let size = method.len() + url.len();
        let mut request = RequestBuilder::new(String::new(), String::new());
        if request.hold(&self.quota, size) {
            (request.method, request.url) = (method, url);
        }
        request
    }

    pub(crate) async fn send(&self, request: &RequestBuilder) -> Result<ResponseHandle, CapabilityError> {
        if let Some(fault) = &request.fault {
            return Err(fault.clone());
        }
        let mut hop = first_hop(request)?;
        let mut left = request.max_redirects.min(MOST_REDIRECTS);
        let place = self.quota.response()?;
        loop {
            let origin = self.check(&hop.url).await?;
            self.pass(&mut hop, &origin).await?;
            if !hop.method.is_safe() {
                self.effects.announce(&format!("{} {}", hop.method, shown(&hop.url))).await?;
            }
            // A release of the attempt can end at any time, and another program can take its port. The check before the
            // request keeps its data, and secrets, from that program; the one after it keeps the guest from taking that
            // program's response for the release's, as in a health check.
            self.own.check(&origin).await?;
            let answer = self.exchange(&hop, &origin, request.timeout).await?;
            self.own.check(&origin).await?;
            let Some(location) = redirection(&answer) else { return Ok(self.response(answer, place)) };
            if left == 0 {
                // The guest limited the redirects, so it gets the last one as the response.
                return Ok(self.response(answer, place));
            }
            left -= 1;
            hop.follow(answer.status(), &location)?;
        }
    }

    async fn check(&self, url: &Url) -> Result<Origin, CapabilityError> {
        let origin = Origin::of(url).ok_or_else(|| {
            CapabilityError::new(ErrorCode::InvalidArgument, format!("`{}` is not an http or https URL", shown(url)))
        })?;
        if !self.own.contains(&origin) {
            self.policy.origin(&self.rehearsal.granted_as(&origin).await?)?;
        }
        if !url.username().is_empty() || url.password().is_some() {
            let message = format!("the URL of {origin} contains a user or a password, which would end up in logs");
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message)
                .with_help("attach a secret to the request as the header `authorization`"));
        }
        Ok(origin)
    }

    async fn exchange(
        &self,
        hop: &Hop,
        origin: &Origin,
        timeout: Option<Duration>,
    ) -> Result<reqwest::Response, CapabilityError> {
        let mut headers = hop.headers.clone();
        if !hop.secrets.is_empty() {
            // A server may echo the secret, and a compressed response can't be masked.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        for header in &hop.secrets {
            let value = format!("{}{}", header.prefix, header.secret.for_origin(origin)?);
            let (name, mut value) = parse_header(&header.name, &value)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = self.client.get().map_err(|error| transport("call", &shown(&hop.url), &error))?;
        let mut request = client.request(hop.method.clone(), hop.url.clone());
        request = match &hop.body {
            Body::None => request,
            Body::Bytes(data) => request.body(data.clone()),
            Body::File(path) => {
                let path = path.clone();
                let file = self.workspace.off_thread(move |files| files.open(&path)).await?.into_std();
                if let Ok(metadata) = file.metadata() {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(metadata.len()));
                }
                request.body(tokio::fs::File::from_std(file))
            }
        };
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        request.headers(headers).send().await.map_err(|error| match refused_address(&error) {
            Some(refused) => self.policy.deny_address(origin, refused),
            None => transport("call", &shown(&hop.url), &error),
        })
    }

    fn response(&self, answer: reqwest::Response, place: Held) -> ResponseHandle {
        ResponseHandle {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            url: shown(answer.url()),
            body: IncomingBody::new(answer.bytes_stream().map(|piece| piece.map(Vec::from)).boxed(), self.log.masker()),
            place: Some(place),
        }
    }

    /// In a rehearsal, redirects the request to its stand-in, or ends the attempt if it must not be sent.
    async fn pass(&self, hop: &mut Hop, origin: &Origin) -> Result<(), CapabilityError> {
        if self.own.contains(origin) {
            return Ok(());
        }
        let is_fetch = matches!(hop.method, Method::GET | Method::HEAD) && hop.secrets.is_empty();
        match self.rehearsal.request(origin, is_fetch).await? {
            RequestRoute::Real => Ok(()),
            RequestRoute::StandIn(port) => {
                // This can't fail: a URL with a host accepts any port.
                let _ = hop.url.set_port(Some(port));
                Ok(())
            }
            RequestRoute::Withheld => {
                // A rehearsal must fail where a real run would be denied the secret.
                for header in &hop.secrets {
                    header.secret.for_origin(origin)?;
                }
                let secrets = hop.secrets.iter().map(|header| format!("`{}`", header.secret.name()));
                let secrets = secrets.collect::<Vec<_>>().join(", ");
                let with = if secrets.is_empty() { String::new() } else { format!(", with the secrets {secrets}") };
                let size = self.size(hop).await?;
                let what = format!("would send {} {} ({size} bytes){with}", hop.method, shown(&hop.url));
                self.rehearsal.withhold(what).await
            }
        }
    }

    /// The size of the body in bytes.
    async fn size(&self, hop: &Hop) -> Result<u64, CapabilityError> {
        Ok(match &hop.body {
            Body::None => 0,
            Body::Bytes(data) => data.len() as u64,
            Body::File(path) => {
                let path = path.clone();
                let file = self.workspace.off_thread(move |files| files.open(&path)).await?;
                file.metadata().map_or(0, |metadata| metadata.len())
            }
        })
    }
}

fn first_hop(request: &RequestBuilder) -> Result<Hop, CapabilityError> {
    let invalid = |message: String| CapabilityError::new(ErrorCode::InvalidArgument, message);
    let method = Method::from_bytes(request.method.to_ascii_uppercase().as_bytes())
        .map_err(|_| invalid(format!("`{}` is not an HTTP method", request.method)))?;
    let url = Url::parse(&request.url).map_err(|error| invalid(format!("`{}` is not a URL: {error}", request.url)))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        let (name, value) = parse_header(name, value)?;
        headers.append(name, value);
    }
    Ok(Hop { method, url, headers, secrets: request.secret_headers.clone(), body: request.body.clone() })
}

impl Hop {
    /// Turns the request into the one that a redirect demands. By RFC 9110, section 15.4, 303 requires a GET, and 307 and
    /// 308 the same method again; after 301 and 302, clients turn a POST into a GET. Secrets and the headers that authorise
    /// a request are dropped when the origin changes.
    fn follow(&mut self, status: StatusCode, location: &str) -> Result<(), CapabilityError> {
        let next = self.url.join(location).map_err(|error| {
            let message = format!("{} redirects to `{location}`, which is not a URL: {error}", shown(&self.url));
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
        if Origin::of(&next) != Origin::of(&self.url) {
            // Otherwise a server that may receive a secret could pass it on to any other granted host by a redirect, and so
            // could an open redirect on it.
            self.secrets.clear();
            for name in [AUTHORIZATION, COOKIE] {
                self.headers.remove(name);
            }
        }
        self.url = next;
        Ok(())
    }
}

fn redirection(answer: &reqwest::Response) -> Option<String> {
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
fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), CapabilityError> {
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
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // These fail for URLs that can't have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

fn transport(doing: &str, url: &str, error: &reqwest::Error) -> CapabilityError {
    let code = if error.is_timeout() { ErrorCode::DeadlineExceeded } else { ErrorCode::Unavailable };
    let why = if error.is_timeout() {
        ": timed out"
    } else if error.is_connect() {
        ": connection failed"
    } else {
        ""
    };
    let mut failed = CapabilityError::new(code, format!("could not {doing} {url}{why}")).retryable();
    // Only its causes: the message of reqwest's own error contains the URL with its query.
    failed.causes = causes_of(error);
    failed
}

#[cfg(test)]
mod tests;
