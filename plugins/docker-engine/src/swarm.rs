//! Services of a Swarm and what belongs to them. The engine has to be a manager.
//!
//! Objects have a version, which each change raises. An update names the version that it is based on, and the engine refuses
//! it when the object has changed since: check and change are one step.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use stagewright_sdk::Result;
use stagewright_sdk::secrets::Secret;

use crate::{ANSWER, Created, Engine, encoded, unframed, unless_missing};

/// The version of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ObjectVersion {
    index: u64,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Service {
    /// Its id, by which tasks refer to it.
    #[serde(rename = "ID")]
    pub id: String,
    /// The version that an update is based on.
    #[serde(rename = "Version")]
    pub version: ObjectVersion,
    /// What it should be.
    #[serde(rename = "Spec")]
    pub spec: ServiceSpec,
    /// How far the last update is; none if it changed no task.
    #[serde(rename = "UpdateStatus", default)]
    pub update: Option<UpdateStatus>,
}

/// What a service should be, as far as it is read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceSpec {
    /// Its name, of which the swarm has one.
    pub name: String,
    /// Labels of the service, which its containers don't have.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What each task should be.
    #[serde(default)]
    pub task_template: Json,
    /// `Replicated` with its `Replicas`, or `Global`.
    #[serde(default)]
    pub mode: Json,
    /// Its ports, and how requests to them are distributed.
    #[serde(default)]
    pub endpoint_spec: Json,
}

/// How far an update is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateStatus {
    /// `updating`, `paused`, `completed`, `rollback_started`, `rollback_paused` or `rollback_completed`.
    pub state: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// A task: one container of a service, on one node.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Task {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// When it was created, in RFC 3339.
    #[serde(rename = "CreatedAt", default)]
    pub created_at: String,
    /// What it should be, as in the service's template.
    #[serde(rename = "Spec", default)]
    pub spec: Json,
    /// What the swarm wants it to be: `running`, or `shutdown` for one that was replaced.
    #[serde(rename = "DesiredState")]
    pub desired_state: String,
    /// What it is.
    #[serde(rename = "Status")]
    pub status: TaskStatus,
}

/// What a task is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskStatus {
    /// As in `pending`, `preparing`, `starting`, `running`, `failed` and `rejected`. A container with a health check is
    /// `starting` until that passes.
    pub state: String,
    /// Why it isn't running, as in `task: non-zero exit (1)` and `no suitable node`.
    #[serde(default)]
    pub err: Option<String>,
}

/// A config, a secret or a network of the swarm, as far as it is read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SwarmObject {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The version that an update is based on.
    #[serde(rename = "Version")]
    pub version: ObjectVersion,
    /// What it should be.
    #[serde(rename = "Spec")]
    pub spec: ObjectSpec,
}

/// What a config or a secret should be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ObjectSpec {
    /// Its name, of which the swarm has one.
    pub name: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The content in base64. The engine returns that of configs alone.
    #[serde(default)]
    pub data: String,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// `swarm` if all nodes have it.
    pub scope: String,
}

impl Engine {
    /// The services with a label that has this value.
    ///
    /// # Errors
    /// If the engine can't be asked, or is no manager of a swarm.
    pub fn services(&self, label: &str, value: &str) -> Result<Vec<Service>> {
        self.labelled("services", label, value)
    }

    /// The service of this name.
    ///
    /// # Errors
    /// As for [`Engine::services`].
    pub fn service(&self, name: &str) -> Result<Option<Service>> {
        found(self.get(&format!("/services/{name}")))
    }

    /// Creates a service.
    ///
    /// # Errors
    /// If the engine refuses it, as when there is one of its name.
    pub fn create_service(&self, spec: &Json) -> Result<()> {
        self.send("POST", "/services/create", Some(spec)).map(drop)
    }

    /// Changes a service, if it still has this version. Returns whether it had.
    ///
    /// # Errors
    /// If the engine refuses it for another reason.
    pub fn update_service(&self, id: &str, version: ObjectVersion, spec: &Json) -> Result<bool> {
        let path = format!("/services/{id}/update?version={}", version.index);
        in_sequence(self.send("POST", &path, Some(spec)).map(drop))
    }

    /// Removes a service with its tasks. One that doesn't exist is removed already.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn remove_service(&self, id: &str) -> Result<()> {
        unless_missing(self.send("DELETE", &format!("/services/{id}"), None))
    }

    /// The tasks of a service, by its id. Those that have ended are included, as far as the swarm keeps them.
    ///
    /// # Errors
    /// As for [`Engine::services`].
    pub fn tasks(&self, service: &str) -> Result<Vec<Task>> {
        let filters = json!({ "service": [service] });
        self.get(&format!("/tasks?filters={}", encoded(&filters.to_string())))
    }

    /// The last lines of both streams of a task.
    ///
    /// # Errors
    /// If the engine can't be asked.
    pub fn task_log_tail(&self, id: &str, lines: u32) -> Result<String> {
        let mut response = self.send("GET", &format!("/tasks/{id}/logs?stdout=true&stderr=true&tail={lines}"), None)?;
        Ok(unframed(&response.bytes(ANSWER)?))
    }

    /// The networks of this name.
    ///
    /// # Errors
    /// If the engine can't be asked.
    pub fn networks(&self, name: &str) -> Result<Vec<Network>> {
        let filters = json!({ "name": [name] });
        let networks: Vec<Network> = self.get(&format!("/networks?filters={}", encoded(&filters.to_string())))?;
        // The filter also finds names that contain this one.
        Ok(networks.into_iter().filter(|network| network.name == name).collect())
    }

    /// Creates a network.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn create_network(&self, spec: &Json) -> Result<()> {
        self.send("POST", "/networks/create", Some(spec)).map(drop)
    }

    /// The configs with a label that has this value.
    ///
    /// # Errors
    /// As for [`Engine::services`].
    pub fn configs(&self, label: &str, value: &str) -> Result<Vec<SwarmObject>> {
        self.labelled("configs", label, value)
    }

    /// The config of this name.
    ///
    /// # Errors
    /// As for [`Engine::services`].
    pub fn config(&self, name: &str) -> Result<Option<SwarmObject>> {
        found(self.get(&format!("/configs/{name}")))
    }

    /// Creates a config, and returns its id.
    ///
    /// # Errors
    /// If the engine refuses it, as when there is one of its name: with [`stagewright_sdk::ErrorCode::Aborted`].
    pub fn create_config(&self, spec: &Json) -> Result<String> {
        self.send("POST", "/configs/create", Some(spec))?.json().map(|created: Created| created.id)
    }

    /// Changes the labels of a config, if it still has this version. Returns whether it had.
    ///
    /// # Errors
    /// If the engine refuses it for another reason.
    pub fn label_config(&self, config: &SwarmObject, labels: &BTreeMap<String, String>) -> Result<bool> {
        let path = format!("/configs/{}/update?version={}", config.id, config.version.index);
        let spec = json!({ "Name": config.spec.name, "Labels": labels, "Data": config.spec.data });
        in_sequence(self.send("POST", &path, Some(&spec)).map(drop))
    }

    /// Removes a config that no service uses. One that doesn't exist is removed already.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn remove_config(&self, id: &str) -> Result<()> {
        unless_missing(self.send("DELETE", &format!("/configs/{id}"), None))
    }

    /// The secret of this name, without its value.
    ///
    /// # Errors
    /// As for [`Engine::services`].
    pub fn secret(&self, name: &str) -> Result<Option<SwarmObject>> {
        found(self.get(&format!("/secrets/{name}")))
    }

    /// The secrets with a label that has this value, without their values.
    ///
    /// # Errors
    /// As for [`Engine::services`].
    pub fn secrets(&self, label: &str, value: &str) -> Result<Vec<SwarmObject>> {
        self.labelled("secrets", label, value)
    }

    /// Creates a secret. The host writes its value into the `Data` of `spec`.
    ///
    /// # Errors
    /// If the engine refuses it, as when there is one of its name.
    pub fn create_secret(&self, spec: &Json, values: &[Secret]) -> Result<()> {
        self.send_with("POST", "/secrets/create", Some(spec), values).map(drop)
    }

    /// Removes a secret that no service uses. One that doesn't exist is removed already.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn remove_secret(&self, id: &str) -> Result<()> {
        unless_missing(self.send("DELETE", &format!("/secrets/{id}"), None))
    }

    fn labelled<T: serde::de::DeserializeOwned>(&self, kind: &str, label: &str, value: &str) -> Result<Vec<T>> {
        let filters = json!({ "label": [format!("{label}={value}")] });
        self.get(&format!("/{kind}?filters={}", encoded(&filters.to_string())))
    }
}

fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.is_not_found() => Ok(None),
        result => result.map(Some),
    }
}

/// Whether an update was accepted. One that is based on an older version is refused with a message alone: its status is that
/// of an internal error.
fn in_sequence(result: Result<()>) -> Result<bool> {
    match result {
        Err(error) if error.message.contains("update out of sequence") => Ok(false),
        result => result.map(|()| true),
    }
}
