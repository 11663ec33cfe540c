//! Entries of `permissions.service`, `env` and `reveal`: names, which mean themselves.

use super::variable::is_harmless_variable;
use crate::entry::{RuleError, entry, refuse};
use crate::shape::variable_fault;

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
    pub fn parse(entry: &str) -> Result<ServiceName, RuleError> {
        match entry.trim() {
            "" => refuse("names no service", "write the name that the stage deploys it under"),
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
    pub fn parse(entry: &str) -> Result<VariableName, RuleError> {
        match variable_fault(entry) {
            Some(fault) => refuse(fault.message, fault.help),
            None => Ok(VariableName(entry.to_owned())),
        }
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
    pub fn parse(entry: &str) -> Result<SecretName, RuleError> {
        match entry {
            "" => refuse("names no secret", "write a key of `[secrets]`"),
            _ => Ok(SecretName(entry.to_owned())),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

entry!(ServiceName, RuleError);
entry!(VariableName, RuleError);
entry!(SecretName, RuleError);
