//! `service status --json`: a list of [`ServiceEntry`].

use serde::{Deserialize, Serialize};

/// A service that a stage deployed to this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceEntry {
    /// Name of the environment.
    pub environment: String,
    /// Its name.
    pub service: String,
    /// The release that is current; none when none was promoted yet.
    pub current: Option<ServiceRelease>,
    /// Id of the rehearsal that it is a stand-in in. Left out for the service itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<String>,
    /// Whether the current release runs.
    pub phase: ServicePhase,
    /// How often the current release was restarted.
    pub restarts: u32,
    /// Why it doesn't run although it wasn't stopped.
    pub failure: Option<String>,
}

/// A release of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceRelease {
    /// Its name.
    pub release: String,
    /// The image by digest, as in `local/app:1@sha256:…`.
    pub image: String,
    /// As in `http://127.0.0.1:41873`.
    pub address: String,
    /// Port of the address.
    pub port: u16,
    /// In a rehearsal, the port that the deploy asked for and that belongs to the service itself. Left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<u16>,
    /// When it was started, in milliseconds since the Unix epoch.
    pub since: u64,
    /// The token of the environment that it was deployed under. Left out when it was deployed under none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}

/// Whether a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServicePhase {
    /// It is about to be started, for the first time or again.
    Starting,
    /// Its program runs.
    Running,
    /// It was stopped, or given up.
    Exited,
}
