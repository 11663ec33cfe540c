//! How things end, and what is found on the way.

use serde::{Deserialize, Serialize};
use stagewright_model::RetryCause;

/// Result of an attempt, a stage or a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did what it is for.
    Succeeded,
    /// It did its work and the answer was no.
    Failed,
    /// It could not do its work.
    Errored,
    /// It took longer than its `timeout`.
    TimedOut,
    /// The run was cancelled, or a sibling of its matrix failed.
    Cancelled,
    /// Its `if` was false, a need of it failed, or it said so itself.
    Skipped,
    /// What ran it went away.
    Lost,
    /// A person said no.
    Rejected,
    /// It can't tell.
    Inconclusive,
    /// In a rehearsal: what it would have done beyond this machine was said, and not done. Stages that need it go on.
    Rehearsed,
}

impl Outcome {
    /// As it stands in JSON and in the terminal.
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

    /// How bad it is, from 0, among the cells of a matrix: the result of all of them is the gravest. A cell that was
    /// cancelled because another one failed is no more than a consequence.
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

    /// Whether stages that need this one may run.
    pub fn lets_dependents_run(self) -> bool {
        matches!(self, Outcome::Succeeded | Outcome::Rehearsed)
    }

    /// The name by which `retry.on` knows it; none for what is never tried again.
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
    /// What kind of thing went wrong.
    pub kind: FailureKind,
    /// What went wrong, in a sentence.
    pub message: String,
    /// From the nearest cause to the farthest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// False when a retry can't help, whatever `retry` says.
    pub retryable: bool,
}

/// What kind of thing went wrong in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The plugin reported it.
    Reported,
    /// The configuration or an expression doesn't hold.
    Configuration,
    /// Nothing went wrong: it is what a rehearsed stage would have done.
    Rehearsed,
    /// Asked for something that wasn't granted.
    Denied,
    /// The guest trapped.
    Trapped,
    /// The guest asked for more memory than it may have.
    OutOfMemory,
    /// The log grew over its limit.
    LogLimit,
    /// Passed another of the stage's limits.
    Limit,
    /// Took longer than `timeout`.
    Timeout,
    /// Stopped because the run was cancelled.
    Cancelled,
    /// Killed from outside.
    Killed,
    /// The plugin can't be loaded or isn't one.
    BadPlugin,
    /// A person said no.
    Rejected,
    /// The files that it would have been given aren't those that were recorded.
    FilesChanged,
    /// A newer run has been to the environment, or another attempt holds it by now.
    Superseded,
    /// The engine's own fault, or its machine's.
    Internal,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// How bad.
    pub level: Level,
    /// A stable name, as in `RUSTSEC-2024-0001` or `test-failed`.
    pub code: String,
    /// In a sentence.
    pub message: String,
    /// A file of the workspace, or a key of the stage's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Stops something.
    Error,
    /// Should be looked at.
    Warning,
    /// Good to know.
    Info,
}
