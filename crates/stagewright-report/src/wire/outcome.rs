//! Outcomes, failures and findings.

use stagewright_api as api;
use stagewright_engine::{Failure, FailureKind, FilePlace, Level, Outcome, Problem, TextRange};
use stagewright_model::MissingGrant;

use super::ToWire;

impl ToWire for Outcome {
    type Wire = api::OutcomeName;

    fn to_wire(&self) -> api::OutcomeName {
        match self {
            Outcome::Succeeded => api::OutcomeName::Succeeded,
            Outcome::Failed => api::OutcomeName::Failed,
            Outcome::Errored => api::OutcomeName::Errored,
            Outcome::TimedOut => api::OutcomeName::TimedOut,
            Outcome::Cancelled => api::OutcomeName::Cancelled,
            Outcome::Skipped => api::OutcomeName::Skipped,
            Outcome::Lost => api::OutcomeName::Lost,
            Outcome::Rejected => api::OutcomeName::Rejected,
            Outcome::Inconclusive => api::OutcomeName::Inconclusive,
            Outcome::Rehearsed => api::OutcomeName::Rehearsed,
        }
    }
}

impl ToWire for Failure {
    type Wire = api::FailureEntry;

    fn to_wire(&self) -> api::FailureEntry {
        let Failure { kind, message, causes, help, retryable, retry_after, place } = self;
        api::FailureEntry {
            kind: kind.to_wire(),
            message: message.clone(),
            causes: causes.clone(),
            help: help.clone(),
            retryable: *retryable,
            retry_after: *retry_after,
            place: place.to_wire(),
        }
    }
}

impl ToWire for FailureKind {
    type Wire = api::FailureKindName;

    fn to_wire(&self) -> api::FailureKindName {
        match self {
            FailureKind::Reported => api::FailureKindName::Reported,
            FailureKind::Configuration => api::FailureKindName::Configuration,
            FailureKind::Rehearsed => api::FailureKindName::Rehearsed,
            FailureKind::Denied => api::FailureKindName::Denied,
            FailureKind::Trapped => api::FailureKindName::Trapped,
            FailureKind::OutOfMemory => api::FailureKindName::OutOfMemory,
            FailureKind::LogLimit => api::FailureKindName::LogLimit,
            FailureKind::Limit => api::FailureKindName::Limit,
            FailureKind::Timeout => api::FailureKindName::Timeout,
            FailureKind::Cancelled => api::FailureKindName::Cancelled,
            FailureKind::Killed => api::FailureKindName::Killed,
            FailureKind::BadPlugin => api::FailureKindName::BadPlugin,
            FailureKind::Rejected => api::FailureKindName::Rejected,
            FailureKind::FilesChanged => api::FailureKindName::FilesChanged,
            FailureKind::Superseded => api::FailureKindName::Superseded,
            FailureKind::Internal => api::FailureKindName::Internal,
        }
    }
}

impl ToWire for Problem {
    type Wire = api::ProblemEntry;

    fn to_wire(&self) -> api::ProblemEntry {
        let Problem { level, code, message, path, range, help, suggestion, fingerprint, grant } = self;
        api::ProblemEntry {
            level: level.to_wire(),
            code: code.clone(),
            message: message.clone(),
            path: path.clone(),
            range: range.to_wire(),
            help: help.clone(),
            suggestion: suggestion.clone(),
            fingerprint: fingerprint.clone(),
            grant: grant.as_deref().map(ToWire::to_wire),
        }
    }
}

impl ToWire for MissingGrant {
    type Wire = api::MissingGrantEntry;

    fn to_wire(&self) -> api::MissingGrantEntry {
        let MissingGrant { table, permission, entry } = self;
        api::MissingGrantEntry { table: table.clone(), permission: permission.key().to_owned(), entry: entry.clone() }
    }
}

impl ToWire for FilePlace {
    type Wire = api::FilePlaceEntry;

    fn to_wire(&self) -> api::FilePlaceEntry {
        let FilePlace { path, range } = self;
        api::FilePlaceEntry { path: path.clone(), range: range.to_wire() }
    }
}

impl ToWire for TextRange {
    type Wire = api::TextRangeEntry;

    fn to_wire(&self) -> api::TextRangeEntry {
        let TextRange { line, column, end_line, end_column } = *self;
        api::TextRangeEntry { line, column, end_line, end_column }
    }
}

impl ToWire for Level {
    type Wire = api::LevelName;

    fn to_wire(&self) -> api::LevelName {
        match self {
            Level::Error => api::LevelName::Error,
            Level::Warning => api::LevelName::Warning,
            Level::Info => api::LevelName::Info,
        }
    }
}
