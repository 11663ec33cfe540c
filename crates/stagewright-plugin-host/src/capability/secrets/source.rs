//! Where a run's secrets come from.

use std::fmt;

use zeroize::{Zeroize as _, Zeroizing};

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
    fn known(&self) -> Vec<Zeroizing<String>> {
        Vec::new()
    }
}

/// A secret and the places that it may go to.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The plain text.
    pub value: String,
    /// Hosts that it may be sent to, as `host`, `host:port`, `host:*` or `*.domain`; empty means none.
    pub hosts: Vec<String>,
    /// Programs, as they are named in `permissions.process`, that may be given it; empty means any that may be started.
    pub programs: Vec<String>,
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

/// Leaves the value out.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("hosts", &self.hosts).field("programs", &self.programs).finish_non_exhaustive()
    }
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
