//! `http`: requests to granted origins, with secrets that the guest never sees, and over granted Unix sockets.
//!
//! Redirects are followed here, so that each hop is checked like a first request, and a secret is only sent to the origin
//! that it was attached for. Bodies and headers are masked before the guest reads them, since a server may echo the
//! request.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use stagewright_model::Origin;
use tokio::sync::mpsc;

use super::credentials::{ApplicableCredential, StageCredentials};
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

mod hop;
mod incoming;
mod pending;
mod quota;
mod request;
mod signing;

pub(crate) use quota::Quota;

pub use pending::PendingResponse;
pub use request::RequestBuilder;
pub(crate) use request::SecretHeader;

use hop::{Destination, Hop, first_hop, parse_header, redirection, shown};
use incoming::IncomingBody;
use quota::Held;
use request::{Body, Piece};
use signing::OutgoingBody;

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
    pub(crate) credentials: StageCredentials,
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
            credentials: StageCredentials::for_attempt(attempt),
        }
    }

    /// The URL of the only server of a credential.
    pub(crate) async fn endpoint(&self, credential: &str) -> Result<String, CapabilityError> {
        self.credentials.endpoint(credential).await
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
            let mut credentials = self.credentials_for(&hop).await?;
            self.check(&hop, !credentials.is_empty()).await?;
            self.pass(&mut hop, &mut credentials).await?;
            if !hop.method.is_safe() && !is_read(&hop, &credentials) {
                self.effects.announce(&format!("{} {}", hop.method, hop.to.shown())).await?;
            }
            let Destination::Host(_, origin) = &hop.to else {
                let answer = self.exchange(&hop, &credentials, request.timeout).await?;
                return Ok(self.response(answer, hop.to.shown(), place));
            };
            // A release of the attempt can end at any time, and another program can take its port. The check before the
            // request keeps its data, and secrets, from that program; the one after it keeps the guest from taking that
            // program's response for the release's, as in a health check.
            self.own.check(origin).await?;
            let answer = self.exchange(&hop, &credentials, request.timeout).await?;
            self.own.check(origin).await?;
            if answer.status() == StatusCode::UNAUTHORIZED {
                self.report_expiry(&credentials).await;
            }
            let from = if hop.url_secret.is_some() { hop.to.shown() } else { shown(answer.url()) };
            let Some(location) = redirection(&answer) else { return Ok(self.response(answer, from, place)) };
            if left == 0 {
                // The guest limited the redirects, so it gets the last one as the response.
                return Ok(self.response(answer, from, place));
            }
            left -= 1;
            hop.follow(answer.status(), &location)?;
        }
    }

    /// `is_signed`: a credential applies to the request, whose grant includes its origins. Sockets need a grant of their own.
    async fn check(&self, hop: &Hop, is_signed: bool) -> Result<(), CapabilityError> {
        match &hop.to {
            Destination::Host(url, origin) => self.check_host(url, origin, is_signed).await,
            Destination::Socket(url) => {
                self.policy.socket_request(hop.method.as_str(), url)?;
                hop.all_secrets().try_for_each(|secret| secret.for_socket(&url.socket).map(drop))
            }
        }
    }

    async fn check_host(&self, url: &Url, origin: &Origin, is_signed: bool) -> Result<(), CapabilityError> {
        if !is_signed && !self.own.contains(origin) {
            self.policy.origin(&self.rehearsal.granted_as(origin).await?)?;
        }
        if !url.username().is_empty() || url.password().is_some() {
            let message = format!("the URL of {origin} contains a user or a password, which would end up in logs");
            return Err(CapabilityError::new(ErrorCode::InvalidArgument, message)
                .with_help("attach a secret to the request as the header `authorization`"));
        }
        Ok(())
    }

    async fn exchange(
        &self,
        hop: &Hop,
        credentials: &[ApplicableCredential],
        timeout: Option<Duration>,
    ) -> Result<reqwest::Response, CapabilityError> {
        let mut headers = hop.headers.clone();
        if hop.all_secrets().next().is_some() || !credentials.is_empty() {
            // A server may echo the secret, and a compressed response can't be masked.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        for header in &hop.secrets {
            let value = format!("{}{}", header.prefix, hop.to.value_of(&header.secret)?);
            let (name, mut value) = parse_header(&header.name, &value)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let url = hop.url()?;
        if let Some(secret) = &hop.url_secret
            && Url::parse(hop.to.value_of(secret)?).is_ok()
        {
            // The secret is the whole URL, but a server may echo its path alone.
            self.log.masker().add(url.path(), false);
        }
        let mut body = self.open_body(hop).await?;
        let sender = self.sign(hop, credentials, &mut headers, &mut body).await?;
        let failed = |error: &reqwest::Error| transport("call", &hop.to.shown(), error);
        let client = match (&hop.to, sender) {
            (Destination::Host(..), Some(sender)) => sender,
            (Destination::Host(..), None) => self.client.get().map_err(|error| failed(&error))?.clone(),
            (Destination::Socket(url), _) => self.client.over(&url.socket).map_err(|error| failed(&error))?,
        };
        let mut request = client.request(hop.method.clone(), url);
        request = match body {
            OutgoingBody::None => request,
            OutgoingBody::Bytes(data) => request.body(data),
            OutgoingBody::File(file) => {
                if let Ok(metadata) = file.metadata() {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(metadata.len()));
                }
                request.body(tokio::fs::File::from_std(file))
            }
        };
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        request.headers(headers).send().await.map_err(|error| match (&hop.to, refused_address(&error)) {
            (Destination::Host(_, origin), Some(refused)) => self.policy.deny_address(origin, refused),
            _ => failed(&error),
        })
    }

    /// Says in the log of the stage which credential has expired, since the plugin can't know.
    async fn report_expiry(&self, credentials: &[ApplicableCredential]) {
        for credential in credentials {
            if let Some(notice) = self.credentials.expiry_notice(&credential.name).await {
                self.log.engine(&notice).await;
            }
        }
    }

    /// `from`: the URL that it came from, for people.
    fn response(&self, answer: reqwest::Response, from: String, place: Held) -> ResponseHandle {
        ResponseHandle {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            url: from,
            body: IncomingBody::new(answer.bytes_stream().map(|piece| piece.map(Vec::from)).boxed(), self.log.masker()),
            place: Some(place),
        }
    }

    /// In a rehearsal, redirects the request to its stand-in, or ends the attempt if it must not be sent.
    async fn pass(&self, hop: &mut Hop, credentials: &mut Vec<ApplicableCredential>) -> Result<(), CapabilityError> {
        let is_fetch = matches!(hop.method, Method::GET | Method::HEAD) && hop.all_secrets().next().is_none();
        let route = match &hop.to {
            Destination::Host(_, origin) if self.own.contains(origin) => RequestRoute::Real,
            Destination::Host(_, origin) => match (self.rehearsal.request(origin, is_fetch).await?, &credentials[..]) {
                (route @ RequestRoute::StandIn(_), _) | (route, []) => route,
                (_, [credential, ..]) if credential.is_real => RequestRoute::Real,
                _ => RequestRoute::Withheld,
            },
            Destination::Socket(url) => self.rehearsal.socket_request(hop.method.as_str(), url),
        };
        match route {
            RequestRoute::Real => Ok(()),
            RequestRoute::StandIn(port) => {
                credentials.clear();
                if let Destination::Host(url, _) = &mut hop.to {
                    // This can't fail: a URL with a host accepts any port.
                    let _ = url.set_port(Some(port));
                }
                Ok(())
            }
            RequestRoute::Withheld => {
                // A rehearsal must fail where a real run would be denied the secret.
                hop.all_secrets().try_for_each(|secret| hop.to.value_of(secret).map(drop))?;
                let secrets = hop.all_secrets().map(|secret| format!("`{}`", secret.name()));
                let secrets = secrets.collect::<Vec<_>>().join(", ");
                let mut with = if secrets.is_empty() { String::new() } else { format!(", with the secrets {secrets}") };
                if let [credential, ..] = &credentials[..] {
                    with.push_str(&format!(", signed with the credential `{}`", credential.name));
                }
                let size = self.size(hop).await?;
                let what = format!("would send {} {} ({size} bytes){with}", hop.method, hop.to.shown());
                self.rehearsal.withhold(what).await
            }
        }
    }

    /// The size of the body in bytes.
    async fn size(&self, hop: &Hop) -> Result<u64, CapabilityError> {
        Ok(match &hop.body {
            Body::None => 0,
            Body::Bytes(data) => data.len() as u64,
            // Without the secrets, since a length says something about a value.
            Body::Pieces(pieces) => {
                let sizes = pieces.iter().map(|piece| if let Piece::Bytes(data) = piece { data.len() } else { 0 });
                sizes.sum::<usize>() as u64
            }
            Body::File(path) => {
                let path = path.clone();
                let file = self.workspace.off_thread(move |files| files.open(&path)).await?;
                file.metadata().map_or(0, |metadata| metadata.len())
            }
        })
    }
}

/// Whether a POST names an operation that only reads. One with a secret doesn't count: its header could name another one.
fn is_read(hop: &Hop, credentials: &[ApplicableCredential]) -> bool {
    hop.method == Method::POST && hop.secrets.is_empty() && credentials.iter().any(|own| own.is_read(&hop.headers))
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
