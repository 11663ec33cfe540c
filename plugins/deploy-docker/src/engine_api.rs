//! The part of the Docker Engine API that a deploy uses, over the engine's socket.
//!
//! Paths have no version, so that the engine answers in its newest one: Docker 20.10 answers up to 1.41, and Docker 29 refuses
//! what is before 1.44. What is used here is the same in all of them.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use stagewright_sdk::http::{Request, Response};
use stagewright_sdk::secrets::Secret;
use stagewright_sdk::{Error, ErrorCode, Result};

/// The most bytes of an answer of the engine.
const ANSWER: usize = 16 << 20;

/// An engine, by the absolute path of its socket.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    socket: String,
}

/// A container as `GET /containers/json` lists it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// Each with a leading `/`.
    names: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// As in `running` and `exited`.
    pub(crate) state: String,
}

impl Listed {
    /// Without the leading `/`.
    pub(crate) fn name(&self) -> &str {
        self.names.first().map_or("", |name| name.trim_start_matches('/'))
    }
}

/// A container as `GET /containers/ID/json` shows it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    pub(crate) state: ContainerState,
    pub(crate) network_settings: NetworkSettings,
}

/// Whether a container runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ContainerState {
    /// As in `created`, `running`, `restarting` and `exited`.
    pub(crate) status: String,
    pub(crate) exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    pub(crate) oom_killed: bool,
    /// Only for an image with a HEALTHCHECK.
    #[serde(default)]
    pub(crate) health: Option<Health>,
}

/// The result of an image's HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub(crate) status: String,
}

/// Where a container is reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NetworkSettings {
    /// The published addresses by port of the container, as in `8080/tcp`; null for one that isn't published.
    ports: BTreeMap<String, Option<Vec<Published>>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Published {
    host_ip: String,
    host_port: String,
}

impl NetworkSettings {
    /// Where a TCP port of the container is published, as in `127.0.0.1:32768`.
    pub(crate) fn published(&self, port: u16) -> Option<String> {
        let published = self.ports.get(&format!("{port}/tcp"))?.as_ref()?.first()?;
        let host = match published.host_ip.as_str() {
            "" | "0.0.0.0" | "::" => "127.0.0.1",
            host => host,
        };
        Some(format!("{host}:{}", published.host_port))
    }
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "Id")]
    id: String,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// A line of the answer to a pull.
#[derive(Deserialize)]
struct PullLine {
    #[serde(default)]
    error: Option<String>,
}

impl Engine {
    pub(crate) fn at(socket: &str) -> Engine {
        Engine { socket: socket.to_owned() }
    }

    /// The containers with a label that has this value, stopped ones included.
    pub(crate) fn containers(&self, label: &str, value: &str) -> Result<Vec<Listed>> {
        let filters = json!({ "label": [format!("{label}={value}")] });
        self.get(&format!("/containers/json?all=true&filters={}", encoded(&filters.to_string())))
    }

    pub(crate) fn inspect(&self, id: &str) -> Result<Inspected> {
        self.get(&format!("/containers/{id}/json"))
    }

    /// The last lines of both streams.
    pub(crate) fn log_tail(&self, id: &str, lines: u32) -> Result<String> {
        let mut response =
            self.send("GET", &format!("/containers/{id}/logs?stdout=true&stderr=true&tail={lines}"), None)?;
        Ok(unframed(&response.bytes(ANSWER)?))
    }

    /// Whether the engine has an image by digest.
    pub(crate) fn has_image(&self, image: &str) -> Result<bool> {
        let filters = json!({ "reference": [image] });
        let found: Vec<Json> = self.get(&format!("/images/json?filters={}", encoded(&filters.to_string())))?;
        Ok(!found.is_empty())
    }

    /// Pulls an image by digest.
    pub(crate) fn pull(&self, image: &str) -> Result<()> {
        let (repository, digest) = image.split_once('@').unwrap_or((image, ""));
        let path = format!("/images/create?fromImage={}&tag={}", encoded(repository), encoded(digest));
        let mut response = self.send("POST", &path, None)?;
        // The status is sent before the pull begins, so that what fails later is in the body.
        let body = response.bytes(ANSWER)?;
        let lines = body.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<PullLine>(line).ok());
        match lines.filter_map(|line| line.error).next_back() {
            Some(error) => Err(Error::failed(error)),
            None => Ok(()),
        }
    }

    /// Creates a container, and returns its id. The host writes the secrets into its configuration.
    pub(crate) fn create(&self, name: &str, config: &Json, secrets: &[Secret]) -> Result<String> {
        let path = format!("/containers/create?name={}", encoded(name));
        let mut response = self.send_with("POST", &path, Some(config), secrets)?;
        response.json().map(|created: Created| created.id)
    }

    /// Starts a container; one that runs stays as it is.
    pub(crate) fn start(&self, id: &str) -> Result<()> {
        self.send("POST", &format!("/containers/{id}/start"), None).map(drop)
    }

    /// Stops a container, which is killed after `grace` seconds. One that has ended stays as it is, and so does one that
    /// doesn't exist.
    pub(crate) fn stop(&self, id: &str, grace: u64) -> Result<()> {
        unless_missing(self.send("POST", &format!("/containers/{id}/stop?t={grace}"), None))
    }

    /// Lets the engine start a container again whenever it ends or the machine starts, unless it was stopped.
    pub(crate) fn restart_always(&self, id: &str) -> Result<()> {
        let policy = json!({ "RestartPolicy": { "Name": "unless-stopped" } });
        self.send("POST", &format!("/containers/{id}/update"), Some(&policy)).map(drop)
    }

    pub(crate) fn rename(&self, id: &str, name: &str) -> Result<()> {
        self.send("POST", &format!("/containers/{id}/rename?name={}", encoded(name)), None).map(drop)
    }

    /// Removes a container that has ended. One that doesn't exist is removed already.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        unless_missing(self.send("DELETE", &format!("/containers/{id}"), None))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send("GET", path, None)?
            .json()
            .map_err(|error| error.context(format!("the Docker engine's answer to GET {path} can't be read")))
    }

    fn send(&self, method: &str, path: &str, body: Option<&Json>) -> Result<Response> {
        self.send_with(method, path, body, &[])
    }

    fn send_with(&self, method: &str, path: &str, body: Option<&Json>, secrets: &[Secret]) -> Result<Response> {
        let mut request = Request::new(method, &format!("unix://{}:{path}", self.socket));
        if let Some(body) = body {
            request.json_with_secrets(body, secrets)?;
        }
        let mut response = request.send()?;
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
}

/// What is missing need be neither stopped nor removed.
fn unless_missing(result: Result<Response>) -> Result<()> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result.map(drop),
    }
}

/// Encodes a value for a query.
fn encoded(value: &str) -> PercentEncode<'_> {
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

    #[test]
    fn published_ports_are_reachable_addresses() {
        let settings: NetworkSettings = serde_json::from_value(json!({ "Ports": {
            "80/tcp": null,
            "8080/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "32768" }, { "HostIp": "::", "HostPort": "32768" }],
            "9090/tcp": [{ "HostIp": "10.0.0.1", "HostPort": "90" }],
        } }))
        .unwrap();
        assert_eq!(settings.published(8080).as_deref(), Some("127.0.0.1:32768"));
        assert_eq!(settings.published(9090).as_deref(), Some("10.0.0.1:90"));
        assert_eq!((settings.published(80), settings.published(81)), (None, None));
    }
}
