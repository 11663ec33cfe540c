//! `validate --json`: a list of [`DiagnosticEntry`], empty when every pipeline is valid.

use serde::{Deserialize, Serialize};

/// Something that is wrong with a pipeline file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiagnosticEntry {
    /// The file, relative to the repository.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    /// A stable name, as in `stagewright::bad-path`.
    pub code: String,
    /// Whether the file can be used in spite of it.
    pub severity: Severity,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Unique name of the stage whose configuration it is about. Left out for diagnostics that aren't about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Path within the stage's `with`, as in `files[0]`. Left out for diagnostics that aren't about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Whether a file can be used in spite of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It can't.
    Error,
    /// It can.
    Warning,
}
