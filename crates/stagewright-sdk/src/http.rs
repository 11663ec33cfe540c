//! HTTP, to the origins that `net` grants.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::duration::millis;
use crate::secrets::Secret;
use crate::{Error, ErrorCode, Result, host::http as host};

/// Bytes asked for at a time.
const PIECE: u32 = 64 << 10;

/// Bytes of a body that [`Response::text`] and [`Response::json`] accept.
const BODY_LIMIT: usize = 16 << 20;

/// A request to be sent.
#[derive(Debug)]
pub struct Request(host::Request);

impl Request {
    /// `url` with its scheme.
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

    /// Adds a header.
    pub fn header(&mut self, name: &str, value: &str) -> &mut Request {
        self.0.header(name, value);
        self
    }

    /// Adds a header whose value is `prefix` and a secret, as in `Bearer ` and a token.
    pub fn secret_header(&mut self, name: &str, prefix: &str, value: &Secret) -> &mut Request {
        self.0.secret_header(name, prefix, &value.0);
        self
    }

    /// Sets the body.
    pub fn body(&mut self, data: &[u8]) -> &mut Request {
        self.0.body(data);
        self
    }

    /// Sets the body to JSON, and the header that says so.
    ///
    /// # Errors
    /// When the value can't be JSON.
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<&mut Request> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(&body))
    }

    /// Sets the body to a file of the workspace.
    pub fn body_file(&mut self, path: &str) -> &mut Request {
        self.0.body_file(path);
        self
    }

    /// Until the whole answer is there.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Request {
        self.0.timeout_ms(millis(timeout));
        self
    }

    /// 10 unless set; each hop is checked against the stage's `net` permission.
    pub fn max_redirects(&mut self, count: u32) -> &mut Request {
        self.0.max_redirects(count);
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// When no answer comes, or the origin isn't granted. An answer of status 500 is no error.
    pub fn send(&mut self) -> Result<Response> {
        Ok(Response(self.0.send()?))
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response(host::Response);

impl Response {
    /// As in 200.
    pub fn status(&self) -> u16 {
        self.0.status()
    }

    /// Whether the status is of the 2xx kind.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status())
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<String> {
        self.0.header(name)
    }

    /// The body.
    ///
    /// # Errors
    /// [`ErrorCode::ResourceExhausted`] when it is longer than `limit`, and whatever breaks the connection.
    pub fn bytes(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let piece = self.0.read(PIECE)?;
            if piece.is_empty() {
                return Ok(body);
            }
            body.extend_from_slice(&piece);
            if body.len() > limit {
                return Err(Error::new(ErrorCode::ResourceExhausted, format!("the body is longer than {limit} bytes"))
                    .help("save it to a file of the workspace instead"));
            }
        }
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
    /// As [`Response::bytes`], and when it doesn't fit `T`.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        Ok(serde_json::from_slice(&self.bytes(BODY_LIMIT)?)?)
    }

    /// Writes the rest of the body into a file of the workspace; its length in bytes.
    ///
    /// # Errors
    /// When the connection breaks, or the file may not be written.
    pub fn save(&mut self, path: &str) -> Result<u64> {
        Ok(self.0.save(path)?)
    }
}
