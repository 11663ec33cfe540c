//! Fetches the values of secrets from their sources, and signs requests with credentials that consist of them.
//!
//! The input is the source of a secret ([`stagewright_model::SecretFrom`]) and the engine's variables and folders
//! ([`SourceContext`]); the output is a [`stagewright_model::SecretValue`] or a [`SourceError`]. A value is fetched on
//! its first use and at most once, and is wiped from memory when its last owner drops it.
//!
//! A credential ([`stagewright_model::CredentialDeclaration`]) and the values of its secrets become a signer ([`signer`]),
//! which adds headers to requests of stages, and requests tokens where the credential is exchanged for one.
//!
//! All functions block, for up to 30 seconds per secret, so they must be called outside of async threads.
//!
//! The features `age`, `aws` and `kubernetes` add the sources of these names. Without its feature, a source is refused
//! with an error that says how to build a program that supports it.
//!
//! Architecture invariant: this crate doesn't read the environment, doesn't write files, and knows nothing about
//! stages. An error names the secret, its source and the response of the source, but never contains a value or a token.
//! HTTP requests use TLS, except for those to this machine.

#[cfg(feature = "age")]
mod age_file;
#[cfg(feature = "aws")]
mod aws;
mod command;
mod credential;
mod dotenv;
mod error;
mod http;
#[cfg(feature = "kubernetes")]
mod kubeconfig;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod local;
mod login;
mod resolver;
#[cfg(test)]
mod server;
#[cfg(feature = "aws")]
mod sigv4;
mod text;
mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use credential::{SecretValues, signer};
pub use error::SourceError;
pub use resolver::Resolver;

/// The largest value, in bytes: the limit of AWS Secrets Manager.
pub const LARGEST: usize = 64 * 1024;

/// The engine's variables and folders, which sources refer to.
#[derive(Clone, Debug, Default)]
pub struct SourceContext {
    /// The engine's environment.
    pub variables: BTreeMap<String, String>,
    /// The root of the repository, where relative paths begin; absolute.
    pub root: PathBuf,
    /// The user's home folder, for files such as `~/.kube/config`; empty if there is none.
    pub home: PathBuf,
    /// The folder of the pod's own credentials in Kubernetes: [`SERVICE_ACCOUNT`], except in tests.
    pub service_account: PathBuf,
}

/// The folder in which Kubernetes mounts the credentials of a pod's service account.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl SourceContext {
    /// The value of a variable; none if it is unset or empty.
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The path `path` below the home folder; none if there is no home folder.
    fn at_home(&self, path: &str) -> Option<PathBuf> {
        (self.home != Path::new("")).then(|| self.home.join(path))
    }
}
