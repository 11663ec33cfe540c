//! The builder of commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::capability::secrets::{InputEncoding, SecretHandle};
use crate::error::CapabilityError;

/// A command that a guest is building.
#[derive(Clone, Debug, Default)]
pub struct CommandBuilder {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    /// Names in `env` whose values come from the guest and not from a secret.
    pub(super) own: BTreeSet<String>,
    pub(crate) current_dir: Option<String>,
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) capture: Option<u64>,
    pub(crate) quiet: bool,
    /// Whether the plugin promises that the program only reads.
    pub(crate) read_only: bool,
    /// The error of a builder method, which has no result of its own: `spawn` returns it.
    pub(super) refused: Option<CapabilityError>,
}

impl CommandBuilder {
    pub(crate) fn new(program: String) -> CommandBuilder {
        CommandBuilder { program, ..CommandBuilder::default() }
    }

    pub(crate) fn env(&mut self, name: String, value: String) {
        self.own.insert(name.clone());
        self.env.insert(name, value);
    }

    pub(crate) fn secret_env(&mut self, name: String, secret: &SecretHandle) {
        match secret.for_program(&self.program) {
            Ok(value) => {
                self.env.insert(name, value.to_owned());
            }
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
    }
    pub(crate) fn append_stdin(&mut self, data: &[u8]) {
        self.stdin.get_or_insert_default().extend_from_slice(data);
    }

    pub(crate) fn append_stdin_secret(&mut self, secret: &SecretHandle, encoding: &str) {
        let encoding = InputEncoding::parse(encoding);
        match encoding.and_then(|encoding| Ok(encoding.encode(secret.for_program(&self.program)?))) {
            Ok(value) => self.append_stdin(value.as_bytes()),
            Err(error) => {
                self.refused.get_or_insert(error);
            }
        }
    }
}
