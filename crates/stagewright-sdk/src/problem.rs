//! Mistakes in a stage's `with` table.

use crate::{Error, Severity};

/// The code of a mistake for which a plugin gives no code of its own.
const CODE: &str = "config";

/// A mistake in the stage's `with` table, which [`crate::Stage::validate`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// An error prevents the run.
    pub severity: Severity,
    /// A stable name, as in `unknown-target`.
    pub code: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// The key, as in `args[0]`; none for the whole table.
    pub key: Option<String>,
    /// How to fix it, in the imperative.
    pub help: Option<String>,
}

impl Problem {
    /// An error about the whole table.
    pub fn error(message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Error, code: CODE.to_owned(), message: message.into(), key: None, help: None }
    }

    /// An error about a key, as in `args[0]`.
    pub fn at(key: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { key: Some(key.into()), ..Problem::error(message) }
    }

    /// Makes it a warning. `code` is a stable name, as in `root-user`.
    #[must_use]
    pub fn warning(self, code: &str) -> Problem {
        Problem { severity: Severity::Warning, code: code.to_owned(), ..self }
    }

    /// Sets the help.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Problem {
        Problem { help: Some(help.into()), ..self }
    }
}

/// Several mistakes become one error, which lists all of them.
impl From<Vec<Problem>> for Error {
    fn from(problems: Vec<Problem>) -> Error {
        let help = problems.iter().find_map(|problem| problem.help.clone());
        let mistakes = problems.into_iter().map(|Problem { message, key, .. }| match key {
            Some(key) => format!("`with.{key}`: {message}"),
            None => format!("`with`: {message}"),
        });
        Error { help, ..Error::invalid(mistakes.collect::<Vec<_>>().join("; ")) }
    }
}
