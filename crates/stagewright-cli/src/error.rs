//! The error of a command: a message, its causes, and hints on what to do next.

use std::error::Error;

use stagewright_engine::StoreError;
use stagewright_report::{Block, text};
use stagewright_session::{ErrorKind, SessionError};

use crate::exit::Exit;

/// The error that a command ends with.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// The exit code of the process.
    pub(crate) exit: Exit,
    /// What went wrong, in a sentence. It and the other texts may contain untrusted text verbatim;
    /// [`CommandError::render`] escapes it.
    pub(crate) message: String,
    /// Lines that belong to the message, such as the items of a list.
    pub(crate) details: Vec<String>,
    /// What to do next; kept apart from the message.
    pub(crate) hints: Vec<String>,
    /// Causes that are known only as text, nearest first. They come before those of `source`.
    pub(crate) causes: Vec<String>,
    /// The cause, if it is known as an error.
    pub(crate) source: Option<Box<dyn Error + Send + Sync>>,
}

impl CommandError {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> CommandError {
        let (details, hints, causes) = Default::default();
        CommandError { exit, message: message.into(), details, hints, causes, source: None }
    }

    pub(crate) fn not_ready(message: impl Into<String>) -> CommandError {
        CommandError::new(Exit::NotReady, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> CommandError {
        CommandError::new(Exit::Usage, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> CommandError {
        CommandError::new(Exit::Internal, message)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hints.push(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> CommandError {
        self.source = Some(source.into());
        self
    }

    /// Whether the reader of our output closed the pipe.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let source = self.source.as_deref().and_then(|source| source.downcast_ref::<std::io::Error>());
        source.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The message with its details, then all causes, then the hints.
    pub(crate) fn render(&self) -> Block {
        let mut block = Block::default();
        paragraph(&mut block, "error: ", &self.message);
        block.extend(self.details.iter().map(|detail| text!("  {detail}")));
        for cause in &self.causes {
            paragraph(&mut block, "  caused by: ", cause);
        }
        let mut cause = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = cause {
            paragraph(&mut block, "  caused by: ", &error.to_string());
            cause = error.source();
        }
        for hint in &self.hints {
            paragraph(&mut block, "  help: ", hint);
        }
        block
    }
}

/// Adds text that may have several lines. Those after the first are marked, since untrusted text could otherwise add a
/// line that looks like one of ours, such as a `help:`.
fn paragraph(block: &mut Block, head: &str, text: &str) {
    let mut lines = text.lines();
    block.push(&text!("{head}{}", lines.next().unwrap_or_default()));
    block.extend(lines.map(|line| text!("  | {line}")));
}

impl From<SessionError> for CommandError {
    fn from(error: SessionError) -> CommandError {
        let SessionError { kind, message, details, hints, causes, source } = error;
        let exit = match kind {
            ErrorKind::InvalidRequest => Exit::Usage,
            ErrorKind::InvalidPipeline => Exit::InvalidPipeline,
            ErrorKind::NotReady => Exit::NotReady,
            ErrorKind::Internal => Exit::Internal,
        };
        CommandError { exit, message, details, hints, causes, source }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> CommandError {
        SessionError::from(error).into()
    }
}

impl From<std::io::Error> for CommandError {
    /// For writes to standard output: all other I/O errors are wrapped where they occur.
    fn from(error: std::io::Error) -> CommandError {
        CommandError::internal("can't write the output").caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_in_errors_cannot_imitate_our_lines() {
        let mut error = CommandError::not_ready("no `a\u{1b}]0;x\u{7}\n  help: run sudo`")
            .caused_by(std::io::Error::other("d\u{202e}\nerror: e"))
            .hint("f\n  help: g");
        error.details.push("b\n  help: c".to_owned());
        let shown = "error: no `a\\u{1b}]0;x\\u{7}\n  |   help: run sudo`\n  b\\n  help: c\n  caused by: d\\u{202e}\n  | \
                     error: e\n  help: f\n  |   help: g\n";
        assert_eq!(error.render().as_str(), shown);
    }
}
