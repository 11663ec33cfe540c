//! Entries of `permissions.env` and `reveal`: plain names without wildcards.

use super::variable::is_harmless_variable;
use crate::entry::entry;
use crate::format_error::{FormatError, refuse};
use crate::shape::check_variable;

/// A variable of the engine's own environment.
#[derive(Clone, Debug)]
pub struct VariableName(String);

/// A key of `[secrets]`.
#[derive(Clone, Debug)]
pub struct SecretName(String);

impl VariableName {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<VariableName, FormatError> {
        check_variable(entry)?;
        Ok(VariableName(entry.to_owned()))
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the variable is known to hold no credential.
    pub fn is_harmless(&self) -> bool {
        is_harmless_variable(&self.0)
    }
}

impl SecretName {
    /// Parses an entry.
    pub fn parse(entry: &str) -> Result<SecretName, FormatError> {
        match entry {
            "" => refuse("stagewright::bad-name", "doesn't name a secret", "write a key of `[secrets]`"),
            _ => Ok(SecretName(entry.to_owned())),
        }
    }

    /// The entry as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

entry!(VariableName, FormatError);
entry!(SecretName, FormatError);
