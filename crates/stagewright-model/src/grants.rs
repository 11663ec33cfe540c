//! What a stage may access and how much it may use: permissions, limits, and whether its programs must be sandboxed.
//!
//! This module describes and compares grants. Enforcing them is up to the crates that run stages.

pub mod complete;
mod credential;
mod files;
mod glob;
mod host;
mod limit;
mod missing;
mod name;
mod net;
mod origin;
mod origin_rule;
mod path;
mod permission;
mod process;
mod remark;
mod repository;
mod secret;
mod service;
mod set;
mod socket;
mod socket_route;
mod variable;
mod write;

use serde::{Deserialize, Serialize};

pub use self::credential::{CredentialRule, CredentialUse};
pub use self::limit::{Amount, Bounds, Limits};
pub use self::missing::{MissingGrant, granting_lines};
pub use self::name::{SecretName, VariableName};
pub use self::net::{NamedBy, NetRule, NetTarget, PackageManager, PackageOrigin};
pub use self::origin::{Origin, Scheme, is_localhost};
pub use self::origin_rule::{HostPattern, OriginRule};
pub use self::path::PathRule;
pub(crate) use self::permission::add;
pub use self::permission::{Grant, Permission};
pub use self::process::ProcessRule;
pub use self::remark::remarks;
pub use self::repository::RepositoryRule;
pub use self::secret::{SecretRule, SecretUse};
pub use self::service::ServiceRule;
pub use self::set::{PermissionSet, UsedPermissionSet};
pub use self::socket::SocketRule;
pub use self::socket_route::{SocketRoute, SocketUrl};
pub use self::variable::{PROXY_VARIABLES, is_harmless_variable};
pub use self::write::with_grants;

/// `[stages.NAME.permissions]`: everything that the stage's plugin and programs may access. Without entries, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Permissions {
    /// Programs that may be started; see [`ProcessRule`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub process: Vec<ProcessRule>,
    /// Files and folders, including their contents, that may be read: paths or globs relative to the workspace.
    /// Programs in them can't be started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<PathRule>,
    /// Files and folders that may be read and written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<PathRule>,
    /// Files and folders that may be read and that programs may be started from, such as `node_modules` and `.venv`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<PathRule>,
    /// Origins that may be called: `https://host:port`, `host` for https on port 443, `*` for any port,
    /// `tcp://host:port` for programs only; `cargo`, `npm` and `pip` for their configured package hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net: Vec<NetRule>,
    /// Secrets that the stage may use through handles: `NAME`, `NAME:header` or `NAME:env`; and those that the proxy
    /// adds to downloads of its programs: `NAME:proxy`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretRule>,
    /// Secrets whose plain text the stage may read; a subset of `secrets`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reveal: Vec<SecretName>,
    /// Credentials with which the host signs requests of the stage's plugin, or those of its programs: `NAME` or
    /// `NAME:proxy`. Each also grants these requests to its origins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialRule>,
    /// Image repositories, without tag, that may be pushed to and resolved: `local/app`, `ghcr.io/acme/*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registry: Vec<RepositoryRule>,
    /// Local services that the stage may start and stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<ServiceRule>,
    /// Unix sockets of this machine that programs may connect to: absolute paths, or `docker`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub socket: Vec<SocketRule>,
    /// Variables of the engine's environment that the stage's processes inherit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<VariableName>,
    /// `sandbox = "off"` of the stage: its programs run without a sandbox, with all powers of the user who runs the
    /// pipeline. The grants then only determine which programs the plugin may start.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unsandboxed: bool,
    /// Not a grant: files readable by the stage that contain credentials for package hosts. The session looks for them
    /// before a run. With such a file and a package host, programs can publish packages.
    #[serde(skip)]
    pub credential_files: Vec<String>,
}

/// `[pipeline] sandbox`: what to do on a machine that can't sandbox programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sandbox {
    /// Don't start any.
    #[default]
    Required,
    /// Start them unsandboxed and report it.
    Preferred,
}

impl Sandbox {
    /// The value in TOML.
    pub fn key(self) -> &'static str {
        match self {
            Sandbox::Required => "required",
            Sandbox::Preferred => "preferred",
        }
    }
}
