//! Secrets, as handles that don't reveal the value.

use crate::Result;
use crate::host::{reveal, secrets as host};

/// A secret that the pipeline grants. Pass it to [`crate::process::Command::secret_env`] or
/// [`crate::http::Request::secret_header`]: the host attaches the value where it is allowed to go.
#[derive(Debug)]
pub struct Secret(pub(crate) host::Secret);

impl Secret {
    /// Its name in `[secrets]`.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// The value, copied into the guest's memory. A plugin that doesn't call this doesn't import the interface `reveal`,
    /// which shows that it can't see any value.
    ///
    /// # Errors
    /// Unless the pipeline grants `reveal` for it.
    pub fn reveal(&self) -> Result<String> {
        Ok(reveal::reveal(&self.0)?)
    }
}

/// The secret of that name.
///
/// # Errors
/// When the stage's `secrets` permission doesn't include it, or it has no value.
pub fn get(name: &str) -> Result<Secret> {
    Ok(Secret(host::get(name)?))
}
