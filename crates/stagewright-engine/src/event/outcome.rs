//! Outcomes, failures and findings.

use serde::{Deserialize, Serialize};
use stagewright_model::{MissingGrant, RetryCause};

/// Result of an attempt, a stage or a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did its work.
    Succeeded,
    /// It did its work, with a negative result such as a failing test.
    Failed,
    /// It could not do its work.
    Errored,
    /// It took longer than its `timeout`.
    TimedOut,
    /// The run was cancelled, or a sibling of its matrix failed.
    Cancelled,
    /// Its `if` was false, one of its needs failed, or it reported that there was nothing to do.
    Skipped,
    /// The process that ran it disappeared.
    Lost,
    /// A person rejected it.
    Rejected,
    /// It could not determine its result.
    Inconclusive,
    /// In a rehearsal, it described its effect beyond this machine instead of having it. Stages that need it run.
    Rehearsed,
}

impl Outcome {
    /// The name used in JSON and in the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Errored => "errored",
            Outcome::TimedOut => "timed-out",
            Outcome::Cancelled => "cancelled",
            Outcome::Skipped => "skipped",
            Outcome::Lost => "lost",
            Outcome::Rejected => "rejected",
            Outcome::Inconclusive => "inconclusive",
            Outcome::Rehearsed => "rehearsed",
        }
    }

    /// Severity from 0: the result of a matrix is the most severe among those of its cells. Cancelled is less severe
    /// than a failure, because a fail-fast matrix cancels cells as a consequence of the one that failed.
    pub(crate) fn gravity(self) -> u8 {
        match self {
            Outcome::Succeeded => 0,
            Outcome::Rehearsed => 1,
            Outcome::Skipped => 2,
            Outcome::Cancelled => 3,
            Outcome::Rejected => 4,
            Outcome::Inconclusive => 5,
            Outcome::Lost => 6,
            Outcome::TimedOut => 7,
            Outcome::Errored => 8,
            Outcome::Failed => 9,
        }
    }

    /// Whether the stage didn't do what it should: the run fails, and what depends on the stage doesn't run. A stage that
    /// was rejected or cancelled didn't fail.
    pub(crate) fn is_failure(self) -> bool {
        match self {
            Outcome::Failed | Outcome::Errored | Outcome::TimedOut | Outcome::Lost | Outcome::Inconclusive => true,
            Outcome::Succeeded | Outcome::Cancelled | Outcome::Skipped | Outcome::Rejected | Outcome::Rehearsed => {
                false
            }
        }
    }

    /// Whether an attempt that ended so knows what effects it had. One that was stopped or lost can have been interrupted
    /// at any point of an effect.
    pub(crate) fn is_certain(self) -> bool {
        match self {
            Outcome::Lost | Outcome::TimedOut | Outcome::Cancelled | Outcome::Inconclusive => false,
            Outcome::Succeeded
            | Outcome::Failed
            | Outcome::Errored
            | Outcome::Skipped
            | Outcome::Rejected
            | Outcome::Rehearsed => true,
        }
    }

    /// Whether stages that need this one may run.
    pub fn lets_dependents_run(self) -> bool {
        matches!(self, Outcome::Succeeded | Outcome::Rehearsed)
    }

    /// Its name in `retry.on`; none for an outcome that is never retried.
    pub fn retry_cause(self) -> Option<RetryCause> {
        match self {
            Outcome::Failed => Some(RetryCause::Failed),
            Outcome::Errored => Some(RetryCause::Errored),
            Outcome::TimedOut => Some(RetryCause::Timeout),
            Outcome::Lost => Some(RetryCause::Lost),
            Outcome::Succeeded
            | Outcome::Cancelled
            | Outcome::Skipped
            | Outcome::Rejected
            | Outcome::Inconclusive
            | Outcome::Rehearsed => None,
        }
    }
}

/// Why an attempt didn't succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// The category of the failure.
    pub kind: FailureKind,
    /// What went wrong, in one sentence.
    pub message: String,
    /// Its causes, the immediate one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// How to fix it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// False if a retry can't help, whatever `retry` says.
    pub retryable: bool,
    /// The least delay before a retry in milliseconds, as a server asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The place in a file of the workspace that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<FilePlace>>,
}

impl Failure {
    /// Without causes, help, delay and place.
    pub fn new(kind: FailureKind, message: impl Into<String>, retryable: bool) -> Failure {
        Failure {
            kind,
            message: message.into(),
            causes: Vec::new(),
            help: None,
            retryable,
            retry_after: None,
            place: None,
        }
    }

    /// Adds advice.
    #[must_use]
    pub fn with_help(self, help: impl Into<String>) -> Failure {
        Failure { help: Some(help.into()), ..self }
    }
}

/// A file of the workspace, or a place in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilePlace {
    /// Relative to the workspace's root.
    pub path: String,
    /// The place in the file; none for the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none", flatten)]
    pub range: Option<TextRange>,
}

/// A range of text. Lines and columns count from 1, and columns count bytes. The end belongs to the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TextRange {
    /// The first line.
    pub line: u32,
    /// The first column; none for whole lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The last line, if it isn't the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// The last column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_column: Option<u32>,
}

/// The category of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The plugin reported it.
    Reported,
    /// The configuration is invalid, or an expression can't be evaluated.
    Configuration,
    /// Not a failure: the message is what a rehearsed stage would have done.
    Rehearsed,
    /// It requested something that isn't granted.
    Denied,
    /// The guest trapped.
    Trapped,
    /// The guest exceeded its memory limit.
    OutOfMemory,
    /// The log exceeded its limit.
    LogLimit,
    /// It exceeded another of the stage's limits.
    Limit,
    /// It took longer than `timeout`.
    Timeout,
    /// It was stopped because the run was cancelled.
    Cancelled,
    /// It was killed from outside.
    Killed,
    /// The plugin can't be loaded, or doesn't implement a stage.
    BadPlugin,
    /// A person rejected it.
    Rejected,
    /// The files that it should work on differ from the recorded ones.
    FilesChanged,
    /// A newer run has acted on the environment, or another attempt holds it now.
    Superseded,
    /// A fault of the engine or of its machine.
    Internal,
}

impl FailureKind {
    /// Whether the attempt was stopped while it ran, so that it can have been interrupted at any point of an effect.
    pub(crate) fn is_interruption(self) -> bool {
        match self {
            FailureKind::Trapped
            | FailureKind::OutOfMemory
            | FailureKind::LogLimit
            | FailureKind::Limit
            | FailureKind::Timeout
            | FailureKind::Cancelled
            | FailureKind::Killed
            | FailureKind::Superseded
            | FailureKind::Internal => true,
            FailureKind::Reported
            | FailureKind::Configuration
            | FailureKind::Rehearsed
            | FailureKind::Denied
            | FailureKind::BadPlugin
            | FailureKind::Rejected
            | FailureKind::FilesChanged => false,
        }
    }
}

/// A finding of a stage, such as a failing test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// Its severity.
    pub level: Level,
    /// A stable code, as in `RUSTSEC-2024-0001` or `test-failed`.
    pub code: String,
    /// What was found, in one sentence.
    pub message: String,
    /// A file of the workspace, or a key of the stage's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The place in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<TextRange>,
    /// How to fix it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The text to replace the range with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// What stays the same when the finding moves to another line, so that it can be recognised in another run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The grant that the stage lacks, if that is what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Box<MissingGrant>>,
}

impl Problem {
    /// Without place and help.
    pub fn new(level: Level, code: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            level,
            code: code.into(),
            message: message.into(),
            path: None,
            range: None,
            help: None,
            suggestion: None,
            fingerprint: None,
            grant: None,
        }
    }
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It makes something fail.
    Error,
    /// It should be examined.
    Warning,
    /// It is informational.
    Info,
}
