//! Scripted servers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::files::{file, replace};
use super::poll::Pollable;
use super::secrets::Secret;
use super::types;
use crate::fake::report::Sent;
use crate::fake::rules;
use crate::fake::script::HttpScript;
use crate::fake::state::{Interface, State, on};
use crate::url::Url;
use crate::{Error, ErrorCode, Permission, Result};

type Answer<T> = std::result::Result<T, types::Error>;

/// The most responses that are open at a time, unless the stage's `limits` set another number.
const RESPONSES: usize = 256;

pub(crate) fn endpoint(credential: &str) -> Answer<String> {
    on(|host| {
        let doing = format!("use the credential `{credential}`");
        host.grant(Permission::Credentials, &[credential], &doing)?;
        host.fault(Interface::Http, credential)?;
        let endpoint = host.credentials.get(credential).cloned();
        Ok(endpoint.ok_or_else(|| host.denial(Permission::Credentials, credential, &doing))?)
    })
}

#[derive(Debug)]
pub(crate) struct Request {
    sent: RefCell<Sent>,
    body_file: RefCell<Option<String>>,
}

impl Request {
    pub(crate) fn new(method: &str, url: &str) -> Request {
        let sent = Sent { method: method.to_owned(), url: url.to_owned(), ..Sent::default() };
        Request { sent: RefCell::new(sent), body_file: RefCell::new(None) }
    }

    pub(crate) fn header(&self, name: &str, value: &str) {
        self.sent.borrow_mut().headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn secret_header(&self, name: &str, prefix: &str, value: &Secret) {
        let header = (name.to_owned(), prefix.to_owned(), value.name.clone());
        self.sent.borrow_mut().secret_headers.push(header);
    }

    pub(crate) fn url_secret(&self, value: &Secret) {
        self.sent.borrow_mut().url_secret = Some(value.name.clone());
    }

    pub(crate) fn body(&self, data: &[u8]) {
        *self.body_file.borrow_mut() = None;
        let mut sent = self.sent.borrow_mut();
        sent.body = data.to_vec();
        sent.body_secrets.clear();
    }

    pub(crate) fn append(&self, data: &[u8]) {
        *self.body_file.borrow_mut() = None;
        self.sent.borrow_mut().body.extend_from_slice(data);
    }

    pub(crate) fn append_secret(&self, value: &Secret, encoding: &str) {
        let form = if encoding == "base64" { "base64 of secret" } else { "secret" };
        self.append(format!("{{{form} {}}}", value.name).as_bytes());
        let mut sent = self.sent.borrow_mut();
        sent.body_secrets.push(value.name.clone());
    }

    pub(crate) fn body_file(&self, path: &str) {
        self.body(&[]);
        *self.body_file.borrow_mut() = Some(path.to_owned());
    }

    pub(crate) fn timeout_ms(&self, timeout: u64) {
        self.sent.borrow_mut().timeout = Some(Duration::from_millis(timeout));
    }

    pub(crate) fn max_redirects(&self, count: u32) {
        self.sent.borrow_mut().max_redirects = Some(count);
    }

    pub(crate) fn send(&self) -> Answer<Response> {
        self.start().response()
    }

    pub(crate) fn start(&self) -> PendingResponse {
        let sent = self.sent.borrow().clone();
        let started = on(|host| start(host, sent, self.body_file.borrow().as_deref()));
        let at = started.as_ref().map_or(Duration::ZERO, |started| started.at);
        PendingResponse { at, response: Cell::new(Some(started.and_then(|started| started.response))) }
    }
}

/// A request that was sent: when its response arrives, and what it is.
struct Started {
    at: Duration,
    response: Result<Response>,
}

fn start(host: &mut State, mut sent: Sent, body_file: Option<&str>) -> Result<Started> {
    if !rules::is_http_token(&sent.method) {
        return Err(Error::invalid(format!("`{}` is not an HTTP method", sent.method)));
    }
    sent.method.make_ascii_uppercase();
    let to = destination(&sent.url)?;
    sent.headers.iter().try_for_each(|(name, value)| rules::header(name, value))?;
    let place = host.responses.clone();
    if Rc::strong_count(&place) > RESPONSES + 1 {
        let message = format!("the plugin already has {RESPONSES} responses open, which is its limit");
        let help = format!("close some, or raise in [stages.stage.limits]: requests = {}", RESPONSES * 2);
        return Err(rules::exhausted(message).help(help));
    }
    let shown = match &to {
        Destination::Host(url, origin) => {
            sent.credential = credential_for(host, &sent, &url.shown(), origin)?;
            check_host(host, &sent, url, origin)?;
            url.shown()
        }
        Destination::Socket(shown) => {
            check_socket(host, &sent, shown)?;
            shown.clone()
        }
    };
    if !rules::is_read(&sent) {
        host.announce(&format!("{} {shown}", sent.method))?;
    }
    if let Destination::Host(url, origin) = &to {
        attach_secrets(host, &sent, url, origin)?;
    }
    if let Some(path) = body_file {
        sent.body = file(host, path)?.to_vec();
    }
    let fits = |script: &HttpScript| script.method == sent.method && script.url == sent.url;
    let script = host.requests.next(fits).ok_or_else(|| {
        let message = format!("the fake host has no script for `{} {}`", sent.method, sent.url);
        Error::new(ErrorCode::Unavailable, message).retryable()
    })?;
    let started = match (sent.timeout.filter(|timeout| *timeout < script.takes), script.error.clone()) {
        (Some(timeout), _) => {
            let message = format!("could not call {shown}: timed out");
            let error = Error::new(ErrorCode::DeadlineExceeded, message).retryable();
            Started { at: host.elapsed + timeout, response: Err(error) }
        }
        (None, Some(error)) => Started { at: host.elapsed + script.takes, response: Err(error) },
        (None, None) => {
            let at = host.elapsed + script.takes;
            let response = Response { offset: Cell::new(0), script, url: shown, place: RefCell::new(Some(place)) };
            Started { at, response: Ok(response) }
        }
    };
    host.sent.push(sent);
    Ok(started)
}

/// Where a request goes.
enum Destination<'a> {
    /// With its origin.
    Host(Url<'a>, String),
    /// A Unix socket: the URL as it is shown.
    Socket(String),
}

fn destination(url: &str) -> Result<Destination<'_>> {
    if let Some(shown) = rules::socket_url(url) {
        return shown.map(Destination::Socket);
    }
    let url = rules::url(url)?;
    match url.origin() {
        Some(origin) => Ok(Destination::Host(url, origin)),
        None => Err(Error::invalid(format!("`{}` is not an http or https URL", url.shown()))),
    }
}

fn check_host(host: &State, sent: &Sent, url: &Url<'_>, origin: &str) -> Result<()> {
    if sent.credential.is_none() {
        host.grant_as(Permission::Net, &[&sent.url, origin], origin, &format!("call {origin}"))?;
    }
    host.fault(Interface::Http, &sent.url)?;
    if url.has_user() {
        let message = format!("the URL of {origin} contains a user or a password, which would end up in logs");
        return Err(Error::invalid(message).help("attach a secret to the request as the header `authorization`"));
    }
    Ok(())
}

/// The credential that signs requests to `origin`. The header that it sets can't be the plugin's.
fn credential_for(host: &State, sent: &Sent, shown: &str, origin: &str) -> Result<Option<String>> {
    let is_for_origin =
        |endpoint: &str| Url::parse(endpoint).ok().and_then(|url| url.origin()).as_deref() == Some(origin);
    let found = host.credentials.iter().find(|(_, endpoint)| is_for_origin(endpoint));
    let is_denied = |name: &str| host.grant(Permission::Credentials, &[name], "").is_err();
    let Some((name, _)) = found.filter(|(name, _)| !is_denied(name)) else { return Ok(None) };
    let of_secrets = sent.secret_headers.iter().map(|(header, ..)| header);
    let mut headers = sent.headers.iter().map(|(header, _)| header).chain(of_secrets);
    match headers.find(|header| header.eq_ignore_ascii_case("authorization")) {
        None => Ok(Some(name.clone())),
        Some(header) => {
            let header = header.to_ascii_lowercase();
            let message = format!(
                "the plugin sets the header `{header}` in a request to {shown}, which the credential `{name}` signs"
            );
            Err(Error::invalid(message).help("leave the header to the host, or remove the grant of the credential"))
        }
    }
}

fn attach_secrets(host: &State, sent: &Sent, url: &Url<'_>, origin: &str) -> Result<()> {
    let mut all = sent.secret_headers.iter().map(|(_, _, secret)| secret).chain(&sent.body_secrets);
    if let Some(secret) = all.next().filter(|_| !url.is_private()) {
        let message = format!("the secret `{secret}` may not be sent to {origin} in plain text");
        return Err(Error::new(ErrorCode::PermissionDenied, message).help("use https"));
    }
    for (name, prefix, secret) in &sent.secret_headers {
        let value = host.secrets.get(secret).map(|(value, _)| value.as_str()).unwrap_or_default();
        rules::header(name, &format!("{prefix}{value}"))?;
    }
    Ok(())
}

fn check_socket(host: &State, sent: &Sent, shown: &str) -> Result<()> {
    let request = format!("{} {shown}", sent.method);
    host.grant_as(Permission::Net, &[&sent.url, &request], &request, &format!("send {request}"))?;
    host.fault(Interface::Http, &sent.url)?;
    Ok(())
}

pub(crate) struct PendingResponse {
    at: Duration,
    /// None once it was taken.
    response: Cell<Option<Result<Response>>>,
}

impl std::fmt::Debug for PendingResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingResponse").field("at", &self.at).finish_non_exhaustive()
    }
}

impl PendingResponse {
    pub(crate) fn ready(&self) -> Pollable {
        Pollable::at(self.at)
    }

    pub(crate) fn response(&self) -> Answer<Response> {
        let taken = || Error::failed("the response was already taken");
        on(|host| host.pass_until(self.at));
        Ok(self.response.take().ok_or_else(taken)??)
    }
}

#[derive(Debug)]
pub(crate) struct Response {
    offset: Cell<usize>,
    script: HttpScript,
    /// The URL as the host shows it.
    url: String,
    /// Counts it among the open responses until its body has ended.
    place: RefCell<Option<Rc<()>>>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.script.status
    }

    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let own = self.script.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        own.map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        self.script.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn read(&self, max_bytes: u32) -> Answer<Vec<u8>> {
        if max_bytes == 0 {
            return Err(Error::invalid("the number of bytes to read must be at least 1").into());
        }
        let rest = &self.script.body[self.offset.get()..];
        let piece = &rest[..rest.len().min(max_bytes as usize)];
        self.offset.set(self.offset.get() + piece.len());
        if piece.is_empty() {
            self.place.take();
        }
        Ok(piece.to_vec())
    }

    /// A scripted body has arrived with its response.
    pub(crate) fn readable(&self) -> Pollable {
        Pollable::at(Duration::ZERO)
    }

    pub(crate) fn save(&self, path: &str) -> Answer<u64> {
        let rest = self.read(u32::MAX)?;
        self.place.take();
        let size = rest.len() as u64;
        on(|host| replace(host, path, rest))?;
        Ok(size)
    }
}
