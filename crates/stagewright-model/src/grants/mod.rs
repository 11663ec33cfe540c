//! What a stage may do and how much of it: permissions, limits, and whether its programs must be confined.
//!
//! Only data and what follows from it: who is refused, and how, is for those who run stages.

pub mod complete;
mod glob;
mod limit;
mod name;
mod net;
mod origin;
mod path;
mod permission;
mod process;
mod remark;
mod repository;
mod secret;
mod socket;
mod variable;

use serde::{Deserialize, Serialize};

pub use self::limit::{Amount, Bounds, Limits};
pub use self::name::{SecretName, ServiceName, VariableName};
pub use self::net::{NamedBy, NetRule, NetTarget, PackageManager, PackageOrigin};
pub use self::origin::{HostPattern, Origin, OriginRule, Scheme, is_localhost};
pub use self::path::PathRule;
pub(crate) use self::permission::add;
pub use self::permission::{Grant, Permission};
pub use self::process::ProcessRule;
pub use self::remark::remarks;
pub use self::repository::RepositoryRule;
pub use self::secret::{SecretRule, SecretUse};
pub use self::socket::SocketRule;
pub use self::variable::{PROXY_VARIABLES, is_harmless_variable};

/// `[stages.NAME.permissions]`: all that the stage's plugin may touch. Empty means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Permissions {
    /// Programs that may be started, see [`ProcessRule`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<ProcessRule>,
    /// Files and folders (with all below) that may be read, relative to the workspace; globs allowed. No program is
    /// started from them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<PathRule>,
    /// The same, to be written (and read).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<PathRule>,
    /// The same, to be read and to start programs from, as `node_modules` and `.venv`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<PathRule>,
    /// Origins that may be called: `https://host:port`, `host` for https on 443, `*` as a port for any, `tcp://host:port`
    /// for programs alone; `cargo`, `npm` and `pip` for the hosts that those are configured with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net: Vec<NetRule>,
    /// Secrets whose handles the stage may get: `NAME`, `NAME:header` or `NAME:env`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretRule>,
    /// Secrets whose plain text the stage may read; a subset of `secrets`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reveal: Vec<SecretName>,
    /// Image repositories, without tag, that may be pushed to or resolved: `local/app`, `ghcr.io/acme/*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registry: Vec<RepositoryRule>,
    /// Names of local services that the stage may start and stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<ServiceName>,
    /// Unix sockets of this machine that programs may connect to: absolute paths, or `docker`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub socket: Vec<SocketRule>,
    /// Variables of the engine's own environment that processes of the stage inherit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<VariableName>,
    /// Not granted but found: files that the stage may read and that hold credentials for package hosts. With one of them
    /// and a package host, programs can publish.
    #[serde(skip)]
    pub credential_files: Vec<String>,
}

/// `[pipeline] sandbox`: what to do on a machine that can't confine programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sandbox {
    /// Start none there.
    #[default]
    Required,
    /// Start them unconfined, and say so.
    Preferred,
}

impl Sandbox {
    /// As it is written in TOML.
    pub fn key(self) -> &'static str {
        match self {
            Sandbox::Required => "required",
            Sandbox::Preferred => "preferred",
        }
    }
}
