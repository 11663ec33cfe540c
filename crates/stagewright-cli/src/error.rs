//! How a command fails: a sentence, its causes, and what to do next.

use std::error::Error;

use stagewright_engine::StoreError;

use crate::exit::Exit;

/// Why a command didn't do what it was asked.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// Becomes the exit code.
    pub(crate) exit: Exit,
    /// In a sentence.
    pub(crate) message: String,
    /// What to do next; kept apart from the message.
    pub(crate) hints: Vec<String>,
    /// From the nearest cause to the farthest, where they are known as text alone.
    pub(crate) causes: Vec<String>,
    /// The cause.
    pub(crate) source: Option<Box<dyn Error + Send + Sync>>,
}

impl CommandError {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> CommandError {
        CommandError { exit, message: message.into(), hints: Vec::new(), causes: Vec::new(), source: None }
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

    /// Whether the reader of our output went away.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let source = self.source.as_deref().and_then(|source| source.downcast_ref::<std::io::Error>());
        source.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The message, every cause on a line of its own, then the hints.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for cause in &self.causes {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        let mut cause = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = cause {
            text.push_str(&format!("  caused by: {error}\n"));
            cause = error.source();
        }
        for hint in &self.hints {
            text.push_str(&format!("  help: {hint}\n"));
        }
        text
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> CommandError {
        let mut failed = CommandError::internal(error.message);
        failed.hints.extend(error.help);
        failed.source = error.source;
        failed
    }
}

impl From<std::io::Error> for CommandError {
    /// For writes to standard output, the only ones whose errors reach a command as they are.
    fn from(error: std::io::Error) -> CommandError {
        CommandError::internal("can't write the output").caused_by(error)
    }
}
