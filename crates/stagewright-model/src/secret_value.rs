//! The plain text of a secret.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// The plain text of a secret. Clones share it. When the last of them is dropped, the memory is overwritten.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<Zeroizing<String>>);

impl SecretValue {
    /// The plain text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<Zeroizing<String>> for SecretValue {
    fn from(value: Zeroizing<String>) -> SecretValue {
        SecretValue(Arc::new(value))
    }
}

impl From<&str> for SecretValue {
    fn from(value: &str) -> SecretValue {
        Zeroizing::new(value.to_owned()).into()
    }
}

/// Omits the value.
impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}
