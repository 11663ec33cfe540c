//! Outcomes, failures and findings.

use stagewright_api as api;
use stagewright_engine::{Failure, FailureKind, Level, Outcome, Problem};

use super::ToWire;

impl ToWire for Outcome {
    type Wire = api::Outcome;

    fn to_wire(&self) -> api::Outcome {
        match self {
            Outcome::Succeeded => api::Outcome::Succeeded,
            Outcome::Failed => api::Outcome::Failed,
            Outcome::Errored => api::Outcome::Errored,
            Outcome::TimedOut => api::Outcome::TimedOut,
            Outcome::Cancelled => api::Outcome::Cancelled,
            Outcome::Skipped => api::Outcome::Skipped,
            Outcome::Lost => api::Outcome::Lost,
            Outcome::Rejected => api::Outcome::Rejected,
            Outcome::Inconclusive => api::Outcome::Inconclusive,
            Outcome::Rehearsed => api::Outcome::Rehearsed,
        }
    }
}

impl ToWire for Failure {
    type Wire = api::Failure;

    fn to_wire(&self) -> api::Failure {
        let Failure { kind, message, causes, help, retryable } = self;
        api::Failure {
            kind: kind.to_wire(),
            message: message.clone(),
            causes: causes.clone(),
            help: help.clone(),
            retryable: *retryable,
        }
    }
}

impl ToWire for FailureKind {
    type Wire = api::FailureKind;

    fn to_wire(&self) -> api::FailureKind {
        match self {
            FailureKind::Reported => api::FailureKind::Reported,
            FailureKind::Configuration => api::FailureKind::Configuration,
            FailureKind::Rehearsed => api::FailureKind::Rehearsed,
            FailureKind::Denied => api::FailureKind::Denied,
            FailureKind::Trapped => api::FailureKind::Trapped,
            FailureKind::OutOfMemory => api::FailureKind::OutOfMemory,
            FailureKind::LogLimit => api::FailureKind::LogLimit,
            FailureKind::Limit => api::FailureKind::Limit,
            FailureKind::Timeout => api::FailureKind::Timeout,
            FailureKind::Cancelled => api::FailureKind::Cancelled,
            FailureKind::Killed => api::FailureKind::Killed,
            FailureKind::BadPlugin => api::FailureKind::BadPlugin,
            FailureKind::Rejected => api::FailureKind::Rejected,
            FailureKind::FilesChanged => api::FailureKind::FilesChanged,
            FailureKind::Superseded => api::FailureKind::Superseded,
            FailureKind::Internal => api::FailureKind::Internal,
        }
    }
}

impl ToWire for Problem {
    type Wire = api::Problem;

    fn to_wire(&self) -> api::Problem {
        let Problem { level, code, message, path, help } = self;
        api::Problem {
            level: level.to_wire(),
            code: code.clone(),
            message: message.clone(),
            path: path.clone(),
            help: help.clone(),
        }
    }
}

impl ToWire for Level {
    type Wire = api::Level;

    fn to_wire(&self) -> api::Level {
        match self {
            Level::Error => api::Level::Error,
            Level::Warning => api::Level::Warning,
            Level::Info => api::Level::Info,
        }
    }
}
