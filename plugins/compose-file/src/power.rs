//! What a service may do beyond its container.

use std::fmt;

use serde::{Deserialize, Serialize};
use stagewright_sdk::{JsonSchema, schemars};

/// What a service may do only if the configuration allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Privileged containers, and ones without their security profiles: full control of the machine.
    Privileged,
    /// Folders, files and sockets of the machine, also by a volume's driver.
    HostMounts,
    /// The machine's network, processes, users and the like.
    HostNamespaces,
    /// Devices of the machine.
    Devices,
    /// Capabilities of Linux beyond the default ones.
    Capabilities,
    /// Passwords as plain text, for those that protect nothing.
    PlainSecrets,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Power::Privileged => "privileged",
            Power::HostMounts => "host-mounts",
            Power::HostNamespaces => "host-namespaces",
            Power::Devices => "devices",
            Power::Capabilities => "capabilities",
            Power::PlainSecrets => "plain-secrets",
        })
    }
}
