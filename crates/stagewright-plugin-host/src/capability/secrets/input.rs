//! How secrets are written into the input of commands.

use crate::error::{CapabilityError, ErrorCode};

/// What a secret in an input counts for, in bytes, so that the quota says nothing about its length.
pub(crate) const LONGEST_SECRET: usize = 64 * 1024;

/// How a secret's value is written into the input of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputEncoding {
    /// As it is.
    Plain,
    /// As double quotes have it between them, in a shell, in files of systemd and in those of curl, where a backslash before any
    /// other letter counts for nothing.
    Quoted,
}

impl InputEncoding {
    pub(crate) fn parse(name: &str) -> Result<InputEncoding, CapabilityError> {
        match name {
            "plain" => Ok(InputEncoding::Plain),
            "quoted" => Ok(InputEncoding::Quoted),
            _ => Err(CapabilityError::new(
                ErrorCode::InvalidArgument,
                format!("`{name}` isn't an encoding of a secret in an input; there are `plain` and `quoted`"),
            )),
        }
    }

    pub(crate) fn encode(self, value: &str) -> String {
        match self {
            InputEncoding::Plain => value.to_owned(),
            // POSIX.1, section 2.2.3, `SHELL_NEED_ESCAPE` of systemd, and `--config` of curl(1).
            InputEncoding::Quoted => value.chars().fold(String::with_capacity(value.len()), |mut text, letter| {
                if matches!(letter, '"' | '\\' | '`' | '$') {
                    text.push('\\');
                }
                text.push(letter);
                text
            }),
        }
    }
}
