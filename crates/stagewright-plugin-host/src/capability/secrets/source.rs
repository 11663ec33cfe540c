//! The interface through which a run gets the values of its secrets.

use stagewright_model::{HostPattern, SecretScheme, SecretValue};

/// Provides the values of secrets.
pub trait SecretSource: Send + Sync {
    /// The secret that the pipeline declares as `[secrets.NAME]`; none when it doesn't declare one.
    ///
    /// May block: it is called on a thread that may.
    fn secret(&self, name: &str) -> Result<Option<Secret>, SecretError>;

    /// The stand-in for a secret in a rehearsal; none when the pipeline doesn't declare the secret.
    fn stand_in(&self, name: &str) -> Option<Secret>;

    /// The values that this source has provided so far, to any stage. They are masked in the output of every stage of the
    /// run, since one stage can leave a secret where another finds it. Must not block.
    fn known(&self) -> Vec<SecretValue> {
        Vec::new()
    }
}

/// A secret, and where it may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The plain text.
    pub value: SecretValue,
    /// The hosts that it may be sent to; empty means none.
    pub hosts: Vec<HostPattern>,
    /// The programs that may get it, as they are named in `permissions.process`; empty means any that may be started.
    pub programs: Vec<String>,
    /// How the proxy sends it.
    pub scheme: SecretScheme,
}

/// Why a declared secret has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SecretError {
    /// Names the secret, and where its value was expected.
    pub message: String,
    /// How to provide it.
    pub help: Option<String>,
}
