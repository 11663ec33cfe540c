//! Secrets, as handles that don't reveal the value.

use crate::Result;
use crate::host::{reveal, secrets as host};

/// A secret that the pipeline grants. Pass it to [`crate::process::Command::secret_env`],
/// [`crate::http::Request::secret_header`] or [`crate::ssh::Command::input_secret`]: the host attaches the value where it is allowed to go.
#[derive(Debug)]
pub struct Secret(pub(crate) host::Secret);

impl Secret {
    /// Its name in `[secrets]`.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Stands for the value in JSON that is sent with [`crate::http::Request::json_with_secrets`]. It begins and ends with a
    /// character that Unicode gives no meaning.
    pub fn placeholder(&self) -> String {
        placeholder(&self.name())
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

/// Stands for the value of the secret of that name, as [`Secret::placeholder`].
pub fn placeholder(name: &str) -> String {
    format!("\u{f8ff}secret {name}\u{f8ff}")
}

/// Stands for the value of the secret of that name in Base64, where an API expects a text in this form.
pub fn base64_placeholder(name: &str) -> String {
    format!("\u{f8ff}base64 of secret {name}\u{f8ff}")
}

/// The name of the secret that a text stands for; none if it isn't a [`placeholder`].
pub fn named_by(placeholder: &str) -> Option<&str> {
    placeholder.strip_prefix("\u{f8ff}secret ")?.strip_suffix('\u{f8ff}')
}

/// The secret of that name.
///
/// # Errors
/// When the stage's `secrets` permission doesn't include it, or it has no value.
pub fn get(name: &str) -> Result<Secret> {
    Ok(Secret(host::get(name)?))
}
