//! HTTP requests to the origins that `net` grants, and to those of granted credentials.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::duration::millis;
use crate::poll::{Pollable, wait_any};
use crate::secrets::{self, Secret};
use crate::{Error, ErrorCode, Result, host::http as host};

/// How many bytes of a body are read at a time.
const CHUNK: u32 = 64 << 10;

/// The limit in bytes for [`Response::text`] and [`Response::json`].
const BODY_LIMIT: usize = 16 << 20;

/// The URL of the server to which the host signs requests with a credential, without a slash at its end, as in
/// `https://10.0.0.1:6443`. Requests to it need neither a grant in `net` nor a header of their own.
///
/// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
///
/// ```
/// use stagewright_sdk::fake::{FakeHost, HttpScript};
/// use stagewright_sdk::http::{Request, endpoint};
///
/// let host = FakeHost::new().credential("cluster", "https://10.0.0.1:6443");
/// let host = host.http(HttpScript::get("https://10.0.0.1:6443/version"));
/// let (response, report) = host.with(|| Request::get(&format!("{}/version", endpoint("cluster")?)).send());
/// assert_eq!(response.map(|response| response.status()), Ok(200));
/// assert_eq!(report.sent[0].credential.as_deref(), Some("cluster"));
/// ```
///
/// # Errors
/// When the credential isn't granted, or has several origins.
pub fn endpoint(credential: &str) -> Result<String> {
    Ok(host::endpoint(credential)?)
}

/// A request that hasn't been sent yet.
#[derive(Debug)]
pub struct Request(host::Request);

impl Request {
    /// A request to `url`, which has a scheme.
    pub fn new(method: &str, url: &str) -> Request {
        Request(host::Request::new(method, url))
    }

    /// A `GET`.
    pub fn get(url: &str) -> Request {
        Request::new("GET", url)
    }

    /// A `POST`.
    pub fn post(url: &str) -> Request {
        Request::new("POST", url)
    }

    /// Adds a header. A name that is added twice has two values.
    pub fn header(&mut self, name: &str, value: &str) -> &mut Request {
        self.0.header(name, value);
        self
    }

    /// Adds a header whose value is `prefix` and a secret, as in `Bearer ` and a token.
    pub fn secret_header(&mut self, name: &str, prefix: &str, value: &Secret) -> &mut Request {
        self.0.secret_header(name, prefix, &value.0);
        self
    }

    /// Adds a secret's value to the path of the URL, or replaces the URL by a secret that is a URL of the same origin.
    ///
    /// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
    pub fn url_secret(&mut self, value: &Secret) -> &mut Request {
        self.0.url_secret(&value.0);
        self
    }

    /// Sets the body.
    pub fn body(&mut self, data: &[u8]) -> &mut Request {
        self.0.body(data);
        self
    }

    /// Sets the body to JSON, and the `content-type`.
    ///
    /// # Errors
    /// When the value can't be serialized.
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<&mut Request> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(&body))
    }

    /// Sets the body to JSON in which the host writes the values of secrets, and the `content-type`. A value contains
    /// [`Secret::placeholder`] where a secret belongs, or [`secrets::base64_placeholder`] for its value in Base64.
    ///
    /// Since version 0.2.3 of the contract: a plugin that calls it needs an engine that has it.
    ///
    /// ```
    /// use serde_json::json;
    /// use stagewright_sdk::fake::{FakeHost, HttpScript};
    /// use stagewright_sdk::{http::Request, secrets};
    ///
    /// let host = FakeHost::new().secret("token", "hunter22").http(HttpScript::post("https://a/"));
    /// let (_, report) = host.with(|| {
    ///     let token = secrets::get("token")?;
    ///     let body = json!({ "env": [format!("TOKEN={}", token.placeholder())] });
    ///     Request::post("https://a/").json_with_secrets(&body, &[token])?.send()
    /// });
    /// assert_eq!(report.sent[0].body, br#"{"env":["TOKEN={secret token}"]}"#);
    /// ```
    ///
    /// # Errors
    /// When the value can't be serialized.
    pub fn json_with_secrets<T: Serialize + ?Sized>(&mut self, value: &T, secrets: &[Secret]) -> Result<&mut Request> {
        self.header("content-type", "application/json");
        self.append_with_secrets(&serde_json::to_string(value)?, secrets);
        Ok(self)
    }

    /// Appends JSON to the body in which the host writes the values of secrets, as in [`Request::json_with_secrets`].
    pub fn append_with_secrets(&mut self, json: &str, values: &[Secret]) -> &mut Request {
        let mut rest = json;
        let next = |rest: &str| {
            let found = values.iter().flat_map(|secret| {
                let name = secret.name();
                let forms = [(secrets::placeholder(&name), "json"), (secrets::base64_placeholder(&name), "base64")];
                forms.map(|(placeholder, encoding)| {
                    Some((rest.find(&placeholder)?, placeholder.len(), secret, encoding))
                })
            });
            found.flatten().min_by_key(|(at, ..)| *at)
        };
        while let Some((at, length, secret, encoding)) = next(rest) {
            self.0.append(&rest.as_bytes()[..at]);
            self.0.append_secret(&secret.0, encoding);
            rest = &rest[at + length..];
        }
        self.0.append(rest.as_bytes());
        self
    }

    /// Sets the body to a file of the workspace.
    pub fn body_file(&mut self, path: &str) -> &mut Request {
        self.0.body_file(path);
        self
    }

    /// Sets the timeout for the whole response.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Request {
        self.0.timeout_ms(millis(timeout));
        self
    }

    /// Sets the limit of redirects. Default: 10. Each redirect is checked against the stage's `net` permission.
    pub fn max_redirects(&mut self, count: u32) -> &mut Request {
        self.0.max_redirects(count);
        self
    }

    /// Sends the request.
    ///
    /// # Errors
    /// When there is no response, or the origin isn't granted. A response with status 500 isn't an error.
    pub fn send(&mut self) -> Result<Response> {
        Ok(Response(self.0.send()?))
    }

    /// Sends the request without waiting for the response. Several can be sent at once with [`send_all`].
    pub fn start(&mut self) -> PendingResponse {
        PendingResponse(self.0.start())
    }
}

/// The response to a request that was sent. Dropping it gives the request up.
#[derive(Debug)]
pub struct PendingResponse(host::PendingResponse);

impl PendingResponse {
    /// Ready once [`PendingResponse::response`] returns without waiting.
    pub fn ready(&self) -> Pollable {
        Pollable(self.0.ready())
    }

    /// Waits for the response.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn response(self) -> Result<Response> {
        Ok(Response(self.0.response()?))
    }
}

/// Sends requests, `at_most` of them at a time, and calls `on_response` with the index of each as its response arrives.
///
/// ```
/// use stagewright_sdk::fake::{FakeHost, HttpScript};
/// use stagewright_sdk::http::{Request, send_all};
///
/// let host = FakeHost::new().http(HttpScript::get("http://a/")).http(HttpScript::get("http://b/").status(404));
/// let (statuses, _) = host.with(|| {
///     let mut statuses = [0; 2];
///     let requests = ["http://a/", "http://b/"].map(Request::get);
///     send_all(requests, 8, |index, response| Ok(statuses[index] = response?.status())).map(|()| statuses)
/// });
/// assert_eq!(statuses, Ok([200, 404]));
/// ```
///
/// # Errors
/// The first error of `on_response`; the requests that haven't been answered are given up. Also when the stage is asked
/// to stop.
pub fn send_all(
    requests: impl IntoIterator<Item = Request>,
    at_most: usize,
    mut on_response: impl FnMut(usize, Result<Response>) -> Result<()>,
) -> Result<()> {
    let mut requests = requests.into_iter().enumerate();
    let mut pending: Vec<(usize, PendingResponse, Pollable)> = Vec::new();
    loop {
        let room = at_most.max(1) - pending.len();
        pending.extend(requests.by_ref().take(room).map(|(index, mut request)| {
            let response = request.start();
            let ready = response.ready();
            (index, response, ready)
        }));
        if pending.is_empty() {
            return Ok(());
        }
        let first = wait_any(&pending.iter().map(|(_, _, ready)| ready).collect::<Vec<_>>())?;
        let (index, response, _) = pending.remove(first);
        on_response(index, response.response())?;
    }
}

/// A response.
#[derive(Debug)]
pub struct Response(host::Response);

impl Response {
    /// The status, as in 200.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status())
    }

    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).into_iter().next()
    }

    /// A header's values, in the order in which they came; empty when it is missing.
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.0.header(name)
    }

    /// All headers with their values, names in lower case.
    pub fn all_headers(&self) -> Vec<(String, String)> {
        self.0.headers()
    }

    /// The URL of the last request, after redirects; without query and fragment.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The next piece of the body, as it arrives; none at its end.
    ///
    /// # Errors
    /// Failures of the connection.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let chunk = self.0.read(CHUNK)?;
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Ready once [`Response::next_chunk`] returns without waiting; to read a body that has no end, such as that of a watch,
    /// together with a time. It is for one call of it: take a new one for the next.
    ///
    /// Since version 0.2.1 of the contract: a plugin that calls it needs an engine that has it.
    pub fn readable(&self) -> Pollable {
        Pollable(self.0.readable())
    }

    /// The body.
    ///
    /// # Errors
    /// [`ErrorCode::ResourceExhausted`] when it is longer than `limit` bytes, and failures of the connection.
    pub fn bytes(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = self.next_chunk()? {
            body.extend_from_slice(&chunk);
            if body.len() > limit {
                return Err(Error::new(ErrorCode::ResourceExhausted, format!("the body is longer than {limit} bytes"))
                    .help("save it to a file of the workspace instead"));
            }
        }
        Ok(body)
    }

    /// The body as text, up to 16 MiB.
    ///
    /// # Errors
    /// As [`Response::bytes`], and when it isn't UTF-8.
    pub fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8(self.bytes(BODY_LIMIT)?)?)
    }

    /// The body as JSON, up to 16 MiB.
    ///
    /// # Errors
    /// As [`Response::bytes`], and when it can't be deserialized into `T`.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        Ok(serde_json::from_slice(&self.bytes(BODY_LIMIT)?)?)
    }

    /// Writes the rest of the body to a file of the workspace. Returns its length in bytes.
    ///
    /// # Errors
    /// When the connection fails, or writing the file isn't granted.
    pub fn save(&mut self, path: &str) -> Result<u64> {
        Ok(self.0.save(path)?)
    }
}
