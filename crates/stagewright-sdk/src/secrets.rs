//! Secrets, as handles that don't reveal the value.

use crate::{Result, host::secrets as host};

/// A secret that the pipeline grants. Pass it to [`crate::process::Command::secret_env`] or
/// [`crate::http::Request::secret_header`]: the host attaches the value where it is allowed to go.
#[derive(Debug)]
pub struct Secret(pub(crate) host::Secret);

impl Secret {
    /// The value, copied into the guest's memory.
    ///
    /// # Errors
    /// Unless the pipeline grants `reveal` for it.
    pub fn reveal(&self) -> Result<String> {
        Ok(self.0.reveal()?)
    }
}

/// The secret of that name.
///
/// # Errors
/// When the stage's `secrets` permission doesn't include it, or it has no value.
pub fn get(name: &str) -> Result<Secret> {
    Ok(Secret(host::get(name)?))
}
