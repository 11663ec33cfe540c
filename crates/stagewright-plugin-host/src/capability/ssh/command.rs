//! The builder of commands, and how their words and secrets are quoted.

use std::time::Duration;

use super::super::secrets::{InputEncoding, SecretHandle};
use crate::error::{CapabilityError, ErrorCode};

/// A command that a guest is building.
#[derive(Clone, Debug)]
pub struct RemoteCommand {
    pub(crate) credential: String,
    pub(crate) host: String,
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) input: CommandInput,
    pub(crate) timeout: Option<Duration>,
    /// Whether the plugin promises that the command only reads.
    pub(crate) read_only: bool,
    /// The error of a builder method, none of which has a result of its own: `run` returns it.
    pub(crate) fault: Option<CapabilityError>,
}

/// The standard input of a command.
#[derive(Clone, Debug)]
pub(crate) enum CommandInput {
    /// Empty for none.
    Pieces(Vec<InputPiece>),
    /// A file of the workspace.
    File(String),
    /// A published artifact.
    Artifact(String),
}

/// A piece of a command's input.
#[derive(Clone, Debug)]
pub(crate) enum InputPiece {
    Bytes(Vec<u8>),
    Secret(SecretHandle, InputEncoding),
}

impl RemoteCommand {
    pub(crate) fn new(credential: String, host: String, program: String) -> RemoteCommand {
        RemoteCommand {
            credential,
            host,
            program,
            args: Vec::new(),
            input: CommandInput::Pieces(Vec::new()),
            timeout: None,
            read_only: false,
            fault: None,
        }
    }

    pub(crate) fn append(&mut self, data: Vec<u8>) {
        self.append_piece(InputPiece::Bytes(data));
    }

    pub(crate) fn append_secret(&mut self, secret: SecretHandle, encoding: &str) {
        match InputEncoding::parse(encoding) {
            Ok(encoding) => self.append_piece(InputPiece::Secret(secret, encoding)),
            Err(fault) => self.fault = Some(fault),
        }
    }

    fn append_piece(&mut self, piece: InputPiece) {
        match &mut self.input {
            CommandInput::Pieces(pieces) => pieces.push(piece),
            CommandInput::File(_) | CommandInput::Artifact(_) => self.input = CommandInput::Pieces(vec![piece]),
        }
    }
}

/// A word of a command line as a shell reads it back. SSH transmits a command as one text, which the user's shell splits.
pub(super) fn quoted(word: &str) -> Result<String, CapabilityError> {
    if word.contains('\0') {
        let message = "an argument of a command on a host has a zero byte, which ends it there";
        return Err(CapabilityError::new(ErrorCode::InvalidArgument, message).with_help("send it as input"));
    }
    Ok(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_never_code() {
        assert_eq!(quoted("it's $(rm) `x` \"\\ \n").unwrap(), "'it'\\''s $(rm) `x` \"\\ \n'");
        assert_eq!(quoted("").unwrap(), "''");
        assert_eq!(quoted("a\0b").unwrap_err().code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn a_secret_in_double_quotes_is_read_back() {
        let value = "a\"b\\c`d$e'f\ng";
        assert_eq!(InputEncoding::Quoted.encode(value), "a\\\"b\\\\c\\`d\\$e'f\ng");
        assert_eq!(InputEncoding::Plain.encode(value), value);
        assert!(InputEncoding::parse("json").is_err());
    }
}
