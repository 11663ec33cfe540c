//! The values of secrets, fetched from where they are kept.
//!
//! In flows where a secret comes from ([`stagewright_model::SecretFrom`]) and what surrounds the engine ([`SourceContext`]): variables,
//! folders. Out comes a [`stagewright_model::SecretValue`], or why there is none ([`SourceError`]). A value is fetched when it is first
//! asked for, at most once, and is wiped from memory with its last holder.
//!
//! Everything here blocks, for up to half a minute a secret: call it off the async threads.
//!
//! The features `age`, `aws` and `kubernetes` add the sources of these names. Without its feature a source is refused with an error
//! that says how to build it.
//!
//! Architecture invariant: this crate reads no environment, writes no file, and knows no stages. An error names the
//! secret, its source and what the source answered, never a value or a token. HTTP goes over TLS, but to this machine.

#[cfg(feature = "age")]
mod age_file;
#[cfg(feature = "aws")]
mod aws;
mod command;
mod error;
mod http;
#[cfg(feature = "kubernetes")]
mod kubeconfig;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod local;
mod resolver;
#[cfg(test)]
mod server;
mod text;
mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use error::SourceError;
pub use resolver::Resolver;

/// Bytes of a value: what the largest of the services keeps, and more than headers and environments take.
pub const LARGEST: usize = 64 * 1024;

/// What sources are looked up in.
#[derive(Clone, Debug, Default)]
pub struct SourceContext {
    /// The engine's environment.
    pub variables: BTreeMap<String, String>,
    /// The repository: relative paths begin here, and commands run here.
    pub root: PathBuf,
    /// The user's home folder, for `~/.kube/config` and its like; empty when there is none.
    pub home: PathBuf,
    /// Where Kubernetes puts a pod's own credentials: [`SERVICE_ACCOUNT`].
    pub service_account: PathBuf,
}

/// The usual [`SourceContext::service_account`].
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl SourceContext {
    /// A variable that is set to something.
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A path below the home folder, if there is one.
    fn at_home(&self, path: &str) -> Option<PathBuf> {
        (self.home != Path::new("")).then(|| self.home.join(path))
    }
}
