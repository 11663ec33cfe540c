//! Events.

use stagewright_api as api;
use stagewright_engine::{EventKind, Interrupt, RunId, Stream, Timestamp};
use stagewright_model::StageIndex;

use super::ToWire;

impl ToWire for EventKind {
    type Wire = api::EventEntry;

    fn to_wire(&self) -> api::EventEntry {
        use api::EventEntry as Wire;
        match self {
            EventKind::RunStarted { run, pipeline, file, rehearsal, inputs, source, stages } => Wire::RunStarted {
                run: run.to_wire(),
                pipeline: pipeline.clone(),
                file: file.clone(),
                rehearsal: *rehearsal,
                inputs: inputs.clone(),
                source: Box::new(source.to_wire()),
                stages: stages.to_wire(),
            },
            EventKind::RunResumed { reason, again, changed, pipeline: _ } => {
                Wire::RunResumed { reason: reason.clone(), again: again.to_wire(), changed: changed.to_wire() }
            }
            EventKind::TestsSelected { stage, from, tests } => {
                Wire::TestsSelected { stage: stage.to_wire(), from: from.to_wire(), tests: tests.to_wire() }
            }
            EventKind::OutputsInherited { stage, from, outputs } => {
                Wire::OutputsInherited { stage: stage.to_wire(), from: from.to_wire(), outputs: outputs.clone() }
            }
            EventKind::GroupAwaited { group, holder } => {
                Wire::GroupAwaited { group: group.clone(), holder: holder.to_wire() }
            }
            EventKind::GroupJoined { group, replaced } => {
                Wire::GroupJoined { group: group.clone(), replaced: replaced.to_wire() }
            }
            EventKind::GroupLeft { group } => Wire::GroupLeft { group: group.clone() },
            EventKind::EnvironmentAwaited { stage, environment, holder } => Wire::EnvironmentAwaited {
                stage: stage.to_wire(),
                environment: environment.clone(),
                holder: holder.to_wire(),
            },
            EventKind::AttemptStarted { stage, attempt, fence } => {
                Wire::AttemptStarted { stage: stage.to_wire(), attempt: *attempt, fence: *fence }
            }
            EventKind::EffectIntended { stage, attempt, what } => {
                Wire::EffectIntended { stage: stage.to_wire(), attempt: *attempt, what: what.clone() }
            }
            EventKind::RecoveryStarted { stage, attempt } => {
                Wire::RecoveryStarted { stage: stage.to_wire(), attempt: *attempt }
            }
            EventKind::Recovered { stage, attempt, finding, by, outputs } => Wire::Recovered {
                stage: stage.to_wire(),
                attempt: *attempt,
                finding: finding.to_wire(),
                by: by.clone(),
                outputs: outputs.clone(),
            },
            EventKind::RolloutProgressed { stage, attempt, environment, rollout } => Wire::RolloutProgressed {
                stage: stage.to_wire(),
                attempt: *attempt,
                environment: environment.clone(),
                rollout: rollout.to_wire(),
            },
            EventKind::ReleaseRecorded { stage, attempt, release } => {
                Wire::ReleaseRecorded { stage: stage.to_wire(), attempt: *attempt, release: release.to_wire() }
            }
            EventKind::ReleaseConfirmed { stage } => Wire::ReleaseConfirmed { stage: stage.to_wire() },
            EventKind::UndoStarted { stage, attempt, because, fence } => Wire::UndoStarted {
                stage: stage.to_wire(),
                attempt: *attempt,
                because: because.to_wire(),
                fence: *fence,
            },
            EventKind::UndoEnded { stage, attempt, outcome, failure } => Wire::UndoEnded {
                stage: stage.to_wire(),
                attempt: *attempt,
                outcome: outcome.to_wire(),
                failure: failure.to_wire(),
            },
            EventKind::Log { stage, attempt, stream, line } => {
                Wire::Log { stage: stage.to_wire(), attempt: *attempt, stream: stream.to_wire(), line: line.clone() }
            }
            EventKind::Progress { stage, message, current, total } => {
                Wire::Progress { stage: stage.to_wire(), message: message.clone(), current: *current, total: *total }
            }
            EventKind::Summary { stage, markdown } => {
                Wire::Summary { stage: stage.to_wire(), markdown: markdown.clone() }
            }
            EventKind::CacheLookedUp { stage, attempt, key, hit_from } => Wire::CacheAsked {
                stage: stage.to_wire(),
                attempt: *attempt,
                key: key.clone(),
                found: hit_from.to_wire(),
            },
            EventKind::Problem { stage, problem } => {
                Wire::Problem { stage: stage.to_wire(), problem: problem.to_wire() }
            }
            EventKind::TestsReported { stage, attempt, cases } => {
                Wire::TestsReported { stage: stage.to_wire(), attempt: *attempt, cases: cases.to_wire() }
            }
            EventKind::MetricsReported { stage, attempt, metrics } => {
                Wire::MetricsReported { stage: stage.to_wire(), attempt: *attempt, metrics: metrics.to_wire() }
            }
            EventKind::GateOpened { stage, attempt, gate } => {
                Wire::GateOpened { stage: stage.to_wire(), attempt: *attempt, gate: gate.to_wire() }
            }
            EventKind::GateElapsed { stage } => Wire::GateElapsed { stage: stage.to_wire() },
            EventKind::GateDecided { stage, decision } => {
                Wire::GateDecided { stage: stage.to_wire(), decision: decision.to_wire() }
            }
            EventKind::GateSignalled { stage, signal } => {
                Wire::GateSignalled { stage: stage.to_wire(), signal: signal.to_wire() }
            }
            EventKind::SignalKept { signal } => Wire::SignalKept { signal: signal.to_wire() },
            EventKind::SignalRefused { token, by, reason } => {
                Wire::SignalRefused { token: token.clone(), by: by.clone(), reason: reason.clone() }
            }
            EventKind::DecisionRefused { stage, by, reason } => {
                Wire::DecisionRefused { stage: stage.to_wire(), by: by.clone(), reason: reason.clone() }
            }
            EventKind::ArtifactPublished { stage, attempt, artifact } => {
                Wire::ArtifactPublished { stage: stage.to_wire(), attempt: *attempt, artifact: artifact.to_wire() }
            }
            EventKind::AttemptEnded { stage, attempt, outcome, failure, outputs, made } => Wire::AttemptEnded {
                stage: stage.to_wire(),
                attempt: *attempt,
                outcome: outcome.to_wire(),
                failure: failure.to_wire(),
                outputs: outputs.clone(),
                made: made.to_wire(),
            },
            EventKind::RetryScheduled { stage, attempt, after } => {
                Wire::RetryScheduled { stage: stage.to_wire(), attempt: *attempt, after: *after }
            }
            EventKind::StageEnded { stage, outcome, conclusion, reason } => Wire::StageEnded {
                stage: stage.to_wire(),
                outcome: outcome.to_wire(),
                conclusion: conclusion.to_wire(),
                reason: reason.clone(),
            },
            EventKind::CancelRequested { how, reason } => {
                Wire::CancelRequested { how: how.to_wire(), reason: reason.clone() }
            }
            EventKind::RunSuspended { waiting } => Wire::RunSuspended { waiting: waiting.to_wire() },
            EventKind::RunEnded { conclusion } => Wire::RunEnded { conclusion: conclusion.to_wire() },
        }
    }
}

impl ToWire for Timestamp {
    type Wire = u64;

    fn to_wire(&self) -> u64 {
        let Timestamp(milliseconds) = *self;
        milliseconds
    }
}

impl ToWire for RunId {
    type Wire = String;

    fn to_wire(&self) -> String {
        let RunId(id) = self;
        id.clone()
    }
}

impl ToWire for StageIndex {
    type Wire = u32;

    fn to_wire(&self) -> u32 {
        let StageIndex(index) = *self;
        index
    }
}

impl ToWire for Stream {
    type Wire = api::StreamName;

    fn to_wire(&self) -> api::StreamName {
        match self {
            Stream::Stdout => api::StreamName::Stdout,
            Stream::Stderr => api::StreamName::Stderr,
            Stream::Plugin => api::StreamName::Plugin,
            Stream::Engine => api::StreamName::Engine,
        }
    }
}

impl ToWire for Interrupt {
    type Wire = api::InterruptName;

    fn to_wire(&self) -> api::InterruptName {
        match self {
            Interrupt::Graceful => api::InterruptName::Graceful,
            Interrupt::Kill => api::InterruptName::Kill,
        }
    }
}
