//! The part of the Docker Engine API that deploys use, over the engine's socket, and the labels by which a target knows what
//! it has.
//!
//! Paths have no version, so that the engine answers in its newest one: Docker 20.10 answers up to 1.41, and Docker 29 refuses
//! what is before 1.44. What is used here is the same in all of them.

mod archives;
mod containers;
mod images;
mod programs;
mod provenance;
mod swarm;
mod volumes;

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use stagewright_sdk::http::{Request, Response};
use stagewright_sdk::secrets::Secret;
use stagewright_sdk::{Error, ErrorCode, Requirement, Result};

pub use archives::Archive;
pub use containers::{ContainerConfig, ContainerState, Health, HealthResult, Inspected, Listed, NetworkSettings};
pub use programs::{ContainerProcess, Ended};
pub use provenance::{ARTIFACT, FENCE, Provenance, RELEASE, RUN};
pub use swarm::{
    Network, ObjectSpec, ObjectVersion, Service, ServiceSpec, SwarmObject, Task, TaskStatus, UpdateStatus,
};
pub use volumes::Volume;

/// The most bytes of an answer of the engine.
const ANSWER: usize = 16 << 20;

/// An engine, by the absolute path of its socket.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: String,
}

/// The answer to a request that creates something.
#[derive(Deserialize)]
struct Created {
    #[serde(rename = "ID", alias = "Id")]
    id: String,
}

/// The answer to a request that is refused.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Engine {
    /// The engine behind this socket.
    pub fn at(socket: &str) -> Engine {
        Engine { socket: socket.to_owned() }
    }

    /// The grant of a request: a method, and a path with `*` for names.
    pub fn requirement(&self, method: &str, path: &str) -> Requirement {
        Requirement::net(format!("{method} unix://{}:{path}", self.socket))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send("GET", path, None)?
            .json()
            .map_err(|error| error.context(format!("the Docker engine's answer to GET {path} can't be read")))
    }

    fn send(&self, method: &str, path: &str, body: Option<&Json>) -> Result<Response> {
        self.send_with(method, path, body, &[])
    }

    /// The host writes the secrets into the body.
    fn send_with(&self, method: &str, path: &str, body: Option<&Json>, secrets: &[Secret]) -> Result<Response> {
        let mut request = Request::new(method, &self.url(path));
        if let Some(body) = body {
            request.json_with_secrets(body, secrets)?;
        }
        accepted(request.send()?, method, path)
    }

    fn url(&self, path: &str) -> String {
        format!("unix://{}:{path}", self.socket)
    }
}

/// The response, if the engine did what was requested.
fn accepted(mut response: Response, method: &str, path: &str) -> Result<Response> {
    // 304 is the answer to a start of what runs, and to a stop of what has ended.
    if response.is_success() || response.status() == 304 {
        return Ok(response);
    }
    let status = response.status();
    let body = response.bytes(ANSWER)?;
    let reason = match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    let code = match status {
        400 => ErrorCode::InvalidArgument,
        404 => ErrorCode::NotFound,
        409 => ErrorCode::Aborted,
        500.. => ErrorCode::Unavailable,
        _ => ErrorCode::FailedPrecondition,
    };
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    Err(Error::new(code, format!("the Docker engine refused {method} {path} with {status}: {}", reason.trim())))
}

/// What is missing need be neither stopped nor removed.
fn unless_missing(result: Result<Response>) -> Result<()> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result.map(drop),
    }
}

/// Encodes a value for a query or a path.
fn encoded(value: &str) -> impl fmt::Display {
    utf8_percent_encode(value, NON_ALPHANUMERIC)
}

/// The text of a log. For a container without a terminal the engine puts a header of 8 bytes before each piece: the stream,
/// three zeros, and the length of the piece as a big-endian number.
fn unframed(mut log: &[u8]) -> String {
    let mut text = Vec::with_capacity(log.len());
    while let [0..=2, 0, 0, 0, a, b, c, d, rest @ ..] = log {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX).min(rest.len());
        text.extend_from_slice(&rest[..length]);
        log = &rest[length..];
    }
    text.extend_from_slice(log);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_unframed() {
        let framed = b"\x01\0\0\0\0\0\0\x03on\n\x02\0\0\0\0\0\0\x04oops";
        assert_eq!(unframed(framed), "on\noops");
        assert_eq!(unframed(b"\x01\0\0\0\0\0\0\x09cut"), "cut");
        assert_eq!(unframed(b"of a terminal\n"), "of a terminal\n");
    }
}
