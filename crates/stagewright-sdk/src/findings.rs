//! What a check finds in the files of the workspace, or elsewhere.

use crate::{Position, Severity};

/// What a check found, to be reported with [`Finding::report`].
///
/// ```
/// # use stagewright_sdk::{Finding, Position, fake::FakeHost};
/// # let (_, report) = FakeHost::new().with(|| {
/// Finding::warning("unused-variable", "`a` is never used")
///     .file("src/lib.rs", Some(Position::line(3)))
///     .help("remove it")
///     .report();
/// # });
/// # assert_eq!(report.findings[0].rule, "unused-variable");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name, as in `RUSTSEC-2024-0001` or `unused-variable`.
    pub rule: String,
    /// What was found, in a sentence.
    pub message: String,
    /// A file of the workspace.
    pub file: Option<String>,
    /// The place in the file: its start, and the last line and column that belong to it.
    pub range: Option<(Position, Option<Position>)>,
    /// How to fix it, in the imperative.
    pub help: Option<String>,
    /// The text to replace the range with.
    pub suggestion: Option<String>,
    /// What stays the same when the finding moves to another line.
    pub fingerprint: Option<String>,
}

impl Finding {
    /// A finding without a place. `rule` is a stable name, as in `RUSTSEC-2024-0001` or `unused-variable`.
    pub fn new(severity: Severity, rule: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding {
            severity,
            rule: rule.into(),
            message: message.into(),
            file: None,
            range: None,
            help: None,
            suggestion: None,
            fingerprint: None,
        }
    }

    /// An error; see [`Finding::new`].
    pub fn error(rule: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, rule, message)
    }

    /// A warning; see [`Finding::new`].
    pub fn warning(rule: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, rule, message)
    }

    /// A note; see [`Finding::new`].
    pub fn info(rule: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Info, rule, message)
    }

    /// Sets the file of the workspace, and the place in it.
    #[must_use]
    pub fn file(self, path: impl Into<String>, position: Option<Position>) -> Finding {
        Finding { file: Some(path.into()), range: position.map(|start| (start, None)), ..self }
    }

    /// Sets the place in the file. `end` is the last line and column that belong to it.
    #[must_use]
    pub fn range(self, start: Position, end: Position) -> Finding {
        Finding { range: Some((start, Some(end))), ..self }
    }

    /// Sets the help.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Finding {
        Finding { help: Some(help.into()), ..self }
    }

    /// Sets the text to replace the range with.
    #[must_use]
    pub fn suggestion(self, replacement: impl Into<String>) -> Finding {
        Finding { suggestion: Some(replacement.into()), ..self }
    }

    /// Sets what stays the same when the finding moves to another line, so that a finding of an earlier run can be
    /// recognised.
    #[must_use]
    pub fn fingerprint(self, fingerprint: impl Into<String>) -> Finding {
        Finding { fingerprint: Some(fingerprint.into()), ..self }
    }
}
