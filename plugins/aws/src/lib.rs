//! What plugins that call AWS have in common: requests to a service, its refusals with their remedies, and answers in XML.
//!
//! The host signs the requests ([`Service`] knows only the name of the credential), so that nothing here has a key. A request
//! that a service refuses because there are too many is repeated; nothing else is.

mod clock_lag;
mod refusal;
pub mod s3;
mod xml;

use std::fmt::Display;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stagewright_sdk::http::{self, Request, Response};
use stagewright_sdk::secrets::Secret;
use stagewright_sdk::{Error, ErrorCode, Result, clock, log};

use clock_lag::ClockLag;

pub use refusal::{Failure, Refusal};
pub use xml::{escaped, texts};

/// The answer to a request, or why there is none.
pub type Answered<T> = std::result::Result<T, Failure>;

/// The most bytes of an answer that is read into memory.
const ANSWER: usize = 16 << 20;

/// The waits before a request is repeated that was refused because there were too many.
const BACKOFF: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// A service of AWS, or one with the same API, at the only origin of a credential.
#[derive(Clone, Debug)]
pub struct Service {
    credential: String,
    endpoint: String,
}

impl Service {
    /// The service to which the host signs requests with this credential.
    ///
    /// # Errors
    /// If the credential isn't granted, or has several origins.
    pub fn of_credential(credential: &str) -> Result<Service> {
        let endpoint = http::endpoint(credential)?.trim_end_matches('/').to_owned();
        Ok(Service { credential: credential.to_owned(), endpoint })
    }

    /// A request to a path, which is encoded and may have a query.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, &format!("{}{path}", self.endpoint))
    }

    /// Sends a request. `action` names it in errors, as in `UpdateAlias`.
    ///
    /// # Errors
    /// A refusal of the service, and failures of the connection.
    pub fn send(&self, action: &str, mut request: Request) -> Answered<Response> {
        for wait in BACKOFF {
            match self.send_once(action, &mut request) {
                Err(Failure::Refused(refusal)) if refusal.is_throttled() => {
                    log::info(format!("{refusal}; trying again in {} s", wait.as_secs()));
                    clock::sleep(wait)?;
                }
                result => return result,
            }
        }
        self.send_once(action, &mut request)
    }

    /// What a response to `action` says: the response itself if it is a success or a 304, or the refusal.
    ///
    /// # Errors
    /// The refusal.
    pub fn accept(&self, action: &str, mut response: Response) -> Answered<Response> {
        match response.is_success() || response.status() == 304 {
            true => Ok(response),
            false => {
                let (status, code) = (response.status(), response.header("x-amzn-errortype"));
                let lag = response.header("date").and_then(|date| ClockLag::of_date(&date));
                let body = response.bytes(ANSWER).unwrap_or_default();
                let refusal = Refusal::read(action, &self.credential, status, code, &body);
                Err(Failure::Refused(refusal.with_clock(lag)))
            }
        }
    }

    /// Sends `count` requests, `at_most` of them at a time.
    ///
    /// # Errors
    /// The first refusal or failure; requests that haven't been answered are given up.
    pub fn send_each(
        &self,
        action: &str,
        count: usize,
        at_most: usize,
        request: impl Fn(usize) -> Request,
    ) -> Result<()> {
        let mut throttled = Vec::new();
        http::send_all((0..count).map(&request), at_most, |index, response| {
            let answer = response.map_err(Failure::from).and_then(|response| self.accept(action, response));
            match answer.and_then(|mut response| self.accept_body(action, &mut response)) {
                Err(Failure::Refused(refusal)) if refusal.is_throttled() => throttled.push(index),
                result => result?,
            }
            Ok(())
        })?;
        for index in throttled {
            let mut response = self.send(action, request(index))?;
            self.accept_body(action, &mut response)?;
        }
        Ok(())
    }

    /// S3 answers a copy with 200 before it is done, and has the refusal in the body.
    fn accept_body(&self, action: &str, response: &mut Response) -> Answered<()> {
        let status = response.status();
        let refusal = Refusal::of_body(action, &self.credential, status, &response.bytes(ANSWER)?);
        refusal.map_or(Ok(()), |refusal| Err(Failure::Refused(refusal)))
    }

    fn send_once(&self, action: &str, request: &mut Request) -> Answered<Response> {
        let response = request.send().map_err(|error| unreachable_service(&self.endpoint, error))?;
        self.accept(action, response)
    }

    /// Sends a request whose body, if it has one, and whose answer are JSON.
    ///
    /// # Errors
    /// As [`Service::send`], and if the answer isn't as expected.
    pub fn json<T: DeserializeOwned>(
        &self,
        action: &str,
        method: &str,
        path: &str,
        body: Option<&(impl Serialize + ?Sized)>,
    ) -> Answered<T> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request.json(body)?;
        }
        let mut response = self.send(action, request)?;
        Ok(read_json(action, &mut response)?)
    }

    /// As [`Service::json`]. The host writes the values of `secrets` into the body.
    ///
    /// # Errors
    /// As [`Service::json`].
    pub fn json_with_secrets<T: DeserializeOwned>(
        &self,
        action: &str,
        method: &str,
        path: &str,
        body: &(impl Serialize + ?Sized),
        secrets: &[Secret],
    ) -> Answered<T> {
        let mut request = self.request(method, path);
        request.json_with_secrets(body, secrets)?;
        let mut response = self.send(action, request)?;
        Ok(read_json(action, &mut response)?)
    }

    /// Calls an operation of a service with the protocol AWS JSON 1.1. `target`: the service's prefix, as in
    /// `AmazonEC2ContainerServiceV20141113`.
    ///
    /// # Errors
    /// As [`Service::json`].
    pub fn call<T: DeserializeOwned>(
        &self,
        target: &str,
        operation: &str,
        input: &(impl Serialize + ?Sized),
    ) -> Answered<T> {
        let mut request = self.operation(target, operation);
        request.body(&serde_json::to_vec(input).map_err(Error::from)?);
        let mut response = self.send(operation, request)?;
        Ok(read_json(operation, &mut response)?)
    }

    /// As [`Service::call`]. The host writes the values of `secrets` into the input.
    ///
    /// # Errors
    /// As [`Service::json`].
    pub fn call_with_secrets<T: DeserializeOwned>(
        &self,
        target: &str,
        operation: &str,
        input: &(impl Serialize + ?Sized),
        secrets: &[Secret],
    ) -> Answered<T> {
        let mut request = self.operation(target, operation);
        request.append_with_secrets(&serde_json::to_string(input).map_err(Error::from)?, secrets);
        let mut response = self.send(operation, request)?;
        Ok(read_json(operation, &mut response)?)
    }

    fn operation(&self, target: &str, operation: &str) -> Request {
        let mut request = self.request("POST", "/");
        request
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", &format!("{target}.{operation}"));
        request
    }
}

fn read_json<T: DeserializeOwned>(action: &str, response: &mut Response) -> Result<T> {
    let body = response.bytes(ANSWER)?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::internal(format!("can't read the answer to {action}: {error}")))
}

/// Adds what a person can do to the failure of a connection.
fn unreachable_service(endpoint: &str, error: Error) -> Error {
    match error.code == ErrorCode::Unavailable && error.help.is_none() {
        true => error.help(format!("check that {endpoint} is the address of the service, and that it can be reached")),
        false => error,
    }
}

/// What AWS leaves as it is in paths and queries.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes a segment of a path, or a value of a query.
pub fn encoded(value: &str) -> impl Display + '_ {
    utf8_percent_encode(value, UNRESERVED)
}

/// Encodes a path, whose slashes stay.
pub fn encoded_path(path: &str) -> impl Display + '_ {
    const PATH: &AsciiSet = &UNRESERVED.remove(b'/');
    utf8_percent_encode(path, PATH)
}

#[cfg(test)]
mod tests;
