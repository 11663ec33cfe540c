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

/// Whether a variable of this name with this value is a password as plain text, as far as that can be known.
///
/// The name has to end like one of a secret. The path of a file, as in `POSTGRES_PASSWORD_FILE`, and a switch, as in
/// `ALLOW_EMPTY_PASSWORD=yes`, aren't secrets.
pub(crate) fn is_plain_secret(name: &str, value: &str) -> bool {
    const ENDINGS: [&str; 11] = [
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "SECRET",
        "TOKEN",
        "API_KEY",
        "APIKEY",
        "ACCESS_KEY",
        "SECRET_KEY",
        "PRIVATE_KEY",
        "CREDENTIALS",
    ];
    const SWITCHES: [&str; 8] = ["", "true", "false", "yes", "no", "on", "off", "0"];
    let name = name.to_ascii_uppercase();
    let is_switch = SWITCHES.contains(&value.to_ascii_lowercase().as_str()) || value == "1";
    (ENDINGS.iter().any(|ending| name.ends_with(ending)) && !is_switch) || has_password(value)
}

/// Whether a URL has a user and a password, as in `postgresql://app:password@db/app`.
fn has_password(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once("://") else { return false };
    let is_scheme = !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let login = authority.rsplit_once('@').and_then(|(login, _)| login.split_once(':'));
    is_scheme && login.is_some_and(|(_, password)| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_known_by_their_names_and_by_urls() {
        for (name, value) in [
            ("POSTGRES_PASSWORD", "password"),
            ("github_token", "abc"),
            ("OPENAI_API_KEY", "sk-1"),
            ("DATABASE_URL", "postgresql://postgres:password@postgres:5432/glsp"),
        ] {
            assert!(is_plain_secret(name, value), "{name}");
        }
        for (name, value) in [
            ("POSTGRES_PASSWORD_FILE", "/run/secrets/password"),
            ("ALLOW_EMPTY_PASSWORD", "yes"),
            ("TOKEN_TTL", "3600"),
            ("POSTGRES_PASSWORD", ""),
            ("REDIS_URL", "redis://redis:6379"),
            ("URL", "http://user@host/a:b@c"),
        ] {
            assert!(!is_plain_secret(name, value), "{name}");
        }
    }
}
