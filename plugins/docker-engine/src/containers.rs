//! Containers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use stagewright_sdk::Result;
use stagewright_sdk::secrets::Secret;

use crate::{ANSWER, Created, Engine, encoded, unframed, unless_missing};

/// A container as `GET /containers/json` lists it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Each with a leading `/`.
    names: Vec<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// As in `running` and `exited`.
    pub state: String,
}

impl Listed {
    /// Without the leading `/`.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", |name| name.trim_start_matches('/'))
    }
}

/// A container as `GET /containers/ID/json` shows it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// 64 hexadecimal digits.
    #[serde(default)]
    pub id: String,
    /// What it was created with.
    #[serde(default)]
    pub config: ContainerConfig,
    /// Whether it runs.
    pub state: ContainerState,
    /// Where it is reached.
    pub network_settings: NetworkSettings,
}

/// What a container was created with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// The image as it was named then.
    pub image: String,
}

/// Whether a container runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerState {
    /// As in `created`, `running`, `restarting` and `exited`.
    pub status: String,
    /// That of its last end.
    pub exit_code: i64,
    /// Whether it ended because it ran out of memory.
    #[serde(default, rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Only for an image with a HEALTHCHECK.
    #[serde(default)]
    pub health: Option<Health>,
}

/// The result of an image's HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// The last checks, the newest at the end.
    #[serde(default)]
    pub log: Vec<HealthResult>,
}

/// A check of a container's health.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthResult {
    /// 0 for one that passed.
    pub exit_code: i64,
    /// What the check printed.
    #[serde(default)]
    pub output: String,
}

/// Where a container is reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
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
    pub fn published(&self, port: u16) -> Option<String> {
        let published = self.ports.get(&format!("{port}/tcp"))?.as_ref()?.first()?;
        let host = match published.host_ip.as_str() {
            "" | "0.0.0.0" | "::" => "127.0.0.1",
            host => host,
        };
        Some(format!("{host}:{}", published.host_port))
    }
}

impl Engine {
    /// The containers with a label that has this value, stopped ones included.
    ///
    /// # Errors
    /// If the engine can't be asked.
    pub fn containers(&self, label: &str, value: &str) -> Result<Vec<Listed>> {
        let filters = json!({ "label": [format!("{label}={value}")] });
        self.get(&format!("/containers/json?all=true&filters={}", encoded(&filters.to_string())))
    }

    /// A container by its id or name.
    ///
    /// # Errors
    /// If the engine can't be asked, or doesn't have it.
    pub fn inspect(&self, id: &str) -> Result<Inspected> {
        self.get(&format!("/containers/{id}/json"))
    }

    /// The last lines of both streams.
    ///
    /// # Errors
    /// If the engine can't be asked, or doesn't have it.
    pub fn log_tail(&self, id: &str, lines: u32) -> Result<String> {
        let mut response =
            self.send("GET", &format!("/containers/{id}/logs?stdout=true&stderr=true&tail={lines}"), None)?;
        Ok(unframed(&response.bytes(ANSWER)?))
    }

    /// Creates a container, and returns its id. The host writes the secrets into its configuration.
    ///
    /// # Errors
    /// If the engine refuses it, as when there is one of this name.
    pub fn create(&self, name: &str, config: &Json, secrets: &[Secret]) -> Result<String> {
        let path = format!("/containers/create?name={}", encoded(name));
        let mut response = self.send_with("POST", &path, Some(config), secrets)?;
        response.json().map(|created: Created| created.id)
    }

    /// Starts a container; one that runs stays as it is.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn start(&self, id: &str) -> Result<()> {
        self.send("POST", &format!("/containers/{id}/start"), None).map(drop)
    }

    /// Stops a container, which is killed after `grace` seconds. One that has ended stays as it is, and so does one that
    /// doesn't exist.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn stop(&self, id: &str, grace: u64) -> Result<()> {
        unless_missing(self.send("POST", &format!("/containers/{id}/stop?t={grace}"), None))
    }

    /// Lets the engine start a container again whenever it ends or the machine starts, unless it was stopped.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn restart_always(&self, id: &str) -> Result<()> {
        let policy = json!({ "RestartPolicy": { "Name": "unless-stopped" } });
        self.send("POST", &format!("/containers/{id}/update"), Some(&policy)).map(drop)
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// If the engine refuses it, as when there is one of this name.
    pub fn rename(&self, id: &str, name: &str) -> Result<()> {
        self.send("POST", &format!("/containers/{id}/rename?name={}", encoded(name)), None).map(drop)
    }

    /// Removes a container that has ended. One that doesn't exist is removed already.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn remove(&self, id: &str) -> Result<()> {
        unless_missing(self.send("DELETE", &format!("/containers/{id}"), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
