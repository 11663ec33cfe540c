//! Where a run's secrets come from.

use stagewright_model::{HostPattern, SecretValue};

/// Where the values of secrets come from.
pub trait SecretSource: Send + Sync {
    /// The secret that the pipeline declares as `[secrets.NAME]`; none when it declares no such secret.
    ///
    /// May block: it is called off the async threads.
    fn secret(&self, name: &str) -> Result<Option<Secret>, SecretError>;

    /// What stands in for it in a rehearsal; none when the pipeline declares no such secret.
    fn stand_in(&self, name: &str) -> Option<Secret>;

    /// The values that this source has given out so far, whichever stage they were for. They are masked in the output of
    /// every stage of the run, since one stage can leave a secret where another finds it. Must not block.
    fn known(&self) -> Vec<SecretValue> {
        Vec::new()
    }
}

/// A secret and the places that it may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The plain text.
    pub value: SecretValue,
    /// Hosts that it may be sent to; empty means none.
    pub hosts: Vec<HostPattern>,
    /// Programs, as they are named in `permissions.process`, that may be given it; empty means any that may be started.
    pub programs: Vec<String>,
}

/// Why a declared secret has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SecretError {
    /// What is missing, and where it was looked for.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}
