//! How attempts, stages and runs end, and what stages find.

use serde::{Deserialize, Serialize};

/// Result of an attempt, a stage or a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeName {
    /// It did what it is for.
    Succeeded,
    /// It ran to its end, and the result is negative.
    Failed,
    /// It could not run to its end.
    Errored,
    /// It exceeded its `timeout`.
    TimedOut,
    /// The run was cancelled, or another cell of its matrix failed.
    Cancelled,
    /// Its `if` was false, a stage that it needs didn't succeed, or its plugin found nothing to do.
    Skipped,
    /// The process or the machine that ran it went away.
    Lost,
    /// A person rejected it.
    Rejected,
    /// Its plugin can't determine the result.
    Inconclusive,
    /// In a rehearsal: it said what it would have done beyond this machine, and did nothing there.
    Rehearsed,
}

/// Why an attempt didn't succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureEntry {
    /// What kind of failure it is.
    pub kind: FailureKindName,
    /// What went wrong, in a sentence.
    pub message: String,
    /// The causes, nearest first. Left out when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do about it. Left out without advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// False when another try can't help, whatever `retry` says.
    pub retryable: bool,
    /// The least delay before another try in milliseconds, as a server asked for it. Left out when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The file of the workspace that it is about. Left out when it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<FilePlaceEntry>,
}

/// A file of the workspace, or a place in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilePlaceEntry {
    /// Relative to the workspace's root.
    pub path: String,
    /// The place in the file. Left out for the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<TextRangeEntry>,
}

/// A range of text. Lines and columns count from 1, and columns count bytes. The end belongs to the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TextRangeEntry {
    /// The first line.
    pub line: u32,
    /// The first column. Left out for whole lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The last line. Left out when it is the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// The last column. Left out when it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_column: Option<u32>,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKindName {
    /// The plugin reported it.
    Reported,
    /// The stage's configuration, or an expression in it, is invalid.
    Configuration,
    /// Not a failure: what a rehearsed stage would have done.
    Rehearsed,
    /// The stage asked for something that it isn't granted.
    Denied,
    /// The plugin trapped.
    Trapped,
    /// The plugin exceeded its `memory`.
    OutOfMemory,
    /// The log exceeded its `log-limit`.
    LogLimit,
    /// The stage exceeded another one of its `limits`.
    Limit,
    /// The stage exceeded its `timeout`.
    Timeout,
    /// It was stopped because the run was cancelled.
    Cancelled,
    /// It was killed from outside.
    Killed,
    /// The plugin can't be loaded, or isn't one.
    BadPlugin,
    /// A person rejected it.
    Rejected,
    /// The files that the stage would have been given aren't those that were recorded.
    FilesChanged,
    /// A newer run has acted on the environment, or another attempt holds it.
    Superseded,
    /// A defect of the engine, or a fault of its machine.
    Internal,
}

/// A finding of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProblemEntry {
    /// How severe it is.
    pub level: LevelName,
    /// A stable name, as in `RUSTSEC-2024-0001` or `test-failed`.
    pub code: String,
    /// The finding, in a sentence.
    pub message: String,
    /// A file of the workspace, or a key of the stage's configuration. Left out when it is about neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The place in the file. Left out when it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<TextRangeEntry>,
    /// What to do about it. Left out without advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The text to replace the range with. Left out without a suggestion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// What stays the same when the finding moves to another line. Left out when the stage gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The grant that the stage lacks. Left out when the finding isn't about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<MissingGrantEntry>,
}

/// A grant that a stage lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MissingGrantEntry {
    /// The table that lacks it, as in `stages.test.permissions`.
    pub table: String,
    /// Its key in the table, as in `read`.
    pub permission: String,
    /// An entry of that key, as in `Cargo.toml`.
    pub entry: String,
}

/// How severe a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelName {
    /// It must be fixed.
    Error,
    /// It should be looked at.
    Warning,
    /// Good to know.
    Info,
}
