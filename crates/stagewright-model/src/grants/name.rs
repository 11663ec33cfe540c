//! Entries of `permissions.service`, `env` and `reveal`: names, which mean themselves.

use super::variable::is_harmless_variable;
use crate::entry::entry;
use crate::format_error::{FormatError, refuse};
use crate::shape::check_variable;

/// A service of the `process` target.
#[derive(Clone, Debug)]
pub struct ServiceName(String);

/// A variable of the engine's own environment.
#[derive(Clone, Debug)]
pub struct VariableName(String);

/// A key of `[secrets]`.
#[derive(Clone, Debug)]
pub struct SecretName(String);

impl ServiceName {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Result<ServiceName, FormatError> {
        match entry.trim() {
            "" => refuse(
                "stagewright::bad-name",
                "doesn't name a service",
                "write the name that the stage deploys it under",
            ),
            _ => Ok(ServiceName(entry.to_owned())),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl VariableName {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Result<VariableName, FormatError> {
        check_variable(entry)?;
        Ok(VariableName(entry.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can hold no credential, by all that is known of it.
    pub fn is_harmless(&self) -> bool {
        is_harmless_variable(&self.0)
    }
}

impl SecretName {
    /// Reads an entry.
    pub fn parse(entry: &str) -> Result<SecretName, FormatError> {
        match entry {
            "" => refuse("stagewright::bad-name", "doesn't name a secret", "write a key of `[secrets]`"),
            _ => Ok(SecretName(entry.to_owned())),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

entry!(ServiceName, FormatError);
entry!(VariableName, FormatError);
entry!(SecretName, FormatError);
