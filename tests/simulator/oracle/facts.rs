//! What happened outside the engine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value as Json;
use stagewright_engine::{
    AttemptEnd, AttemptReport, Call, Decision, EnvironmentAnswer, FailureKind, Finding, Observation, Outcome,
    RunCommand, Signal, Timestamp,
};
use stagewright_model::StageIndex;
use tokio::time::Instant;

/// A call of a plugin.
#[derive(Clone, Debug)]
pub(crate) struct CallFact {
    pub(crate) stage: StageIndex,
    pub(crate) attempt: u32,
    pub(crate) call: Call,
    pub(crate) environment: Option<String>,
    pub(crate) resumption: Option<Json>,
    pub(crate) under_way: bool,
    /// When the plugin's report was passed to the engine, and the report.
    pub(crate) answer: Option<(Instant, AttemptReport)>,
}

/// What the world knows about a run. All but the last two fields belong to the process that drives it.
#[derive(Default)]
pub(crate) struct Facts {
    /// Calls of plugins, oldest first.
    pub(crate) calls: Vec<CallFact>,
    /// How many calls for each stage have a recorded start.
    pub(crate) begun: BTreeMap<StageIndex, usize>,
    /// People's answers that the process got but hasn't decided on, in order.
    pub(crate) answers: VecDeque<(StageIndex, Decision)>,
    /// The newest token that the process was granted, by environment.
    pub(crate) granted: BTreeMap<String, u64>,
    /// Signals that the process got but hasn't recorded or refused, in order.
    pub(crate) signals: VecDeque<Signal>,
    /// Stages whose wait should have ended: the time of the wait, and since when it is due.
    pub(crate) overdue: BTreeMap<StageIndex, (Timestamp, Instant)>,
    /// Tokens of the gates that the process opened.
    pub(crate) opened: BTreeSet<String>,
    /// When attempts should have been asked to stop.
    pub(crate) stop_since: BTreeMap<StageIndex, Instant>,
    /// Whether the process has started or resumed the run.
    pub(crate) taken_up: bool,
    /// When the process last called the coordinator.
    pub(crate) alive_at: Option<Instant>,
    /// The length of the journal, and when it last grew.
    pub(crate) quiet_since: Option<(usize, Instant)>,
    /// When an environment or a group was last refused because another run holds it.
    pub(crate) put_off: Option<Instant>,
    /// The length of the journal when the run was last seen waiting only for people.
    pub(crate) waited_at: Option<usize>,
    /// When it was first cancelled gracefully, and when it was killed.
    pub(crate) asked: Option<Instant>,
    pub(crate) killed: Option<Instant>,
    /// Environments for which a request of this run was refused because a newer run has acted on them.
    pub(crate) superseded: BTreeSet<String>,
    /// Attempts whose effect the plugin or a person reported as absent or broken.
    pub(crate) denied: BTreeSet<(StageIndex, u32)>,
}

impl Facts {
    /// Clears everything that belongs to the previous process.
    pub(crate) fn forget_process(&mut self) {
        let (superseded, denied) = (std::mem::take(&mut self.superseded), std::mem::take(&mut self.denied));
        *self = Facts { superseded, denied, ..Facts::default() };
    }

    /// The last call of this kind for an attempt, of those whose start is recorded. The engine may append the events before
    /// a call after it.
    pub(crate) fn call(&self, stage: StageIndex, attempt: u32, call: Call) -> Option<&CallFact> {
        let begun = self.begun.get(&stage).copied().unwrap_or_default();
        let calls = self.calls.iter().filter(|one| one.stage == stage).take(begun);
        calls.filter(|one| (one.attempt, one.call) == (attempt, call)).last()
    }

    /// The plugin's report for that call.
    pub(crate) fn answer(&self, stage: StageIndex, attempt: u32, call: Call) -> Option<&AttemptReport> {
        Some(&self.call(stage, attempt, call)?.answer.as_ref()?.1)
    }

    /// Records that the process gets a command.
    pub(crate) fn record_delivery(&mut self, command: &RunCommand) {
        match command {
            RunCommand::Decide { stage, decision } => self.answers.push_back((*stage, decision.clone())),
            RunCommand::Signal(signal) => self.signals.push_back(signal.clone()),
            RunCommand::Cancel { .. } | RunCommand::Suspend => {}
        }
    }

    /// Records the finding of a person or a plugin about an attempt.
    pub(crate) fn record_finding(&mut self, stage: StageIndex, attempt: u32, finding: &Finding) {
        if !matches!(finding, Finding::Applied(_)) {
            self.denied.insert((stage, attempt));
        }
    }

    /// Records the report of a call.
    pub(crate) fn record_answer(&mut self, number: usize, report: &AttemptReport) {
        let one = &mut self.calls[number];
        one.answer = Some((Instant::now(), report.clone()));
        let (stage, attempt, call) = (one.stage, one.attempt, one.call);
        match (call, &report.end) {
            (Call::Observe, AttemptEnd::Observed(Observation::Found(finding))) => {
                self.record_finding(stage, attempt, finding);
            }
            (Call::Run, AttemptEnd::Unsuccessful(Outcome::Failed, failure))
                if matches!(failure.kind, FailureKind::Reported | FailureKind::Denied) =>
            {
                self.denied.insert((stage, attempt));
            }
            _ => {}
        }
    }

    /// Records the answer to a request for an environment.
    pub(crate) fn record_environment_answer(&mut self, environment: &str, answer: &EnvironmentAnswer) {
        match answer {
            EnvironmentAnswer::Granted { fence, .. } => {
                self.granted.insert(environment.to_owned(), *fence);
            }
            EnvironmentAnswer::Superseded { .. } => {
                self.superseded.insert(environment.to_owned());
            }
            EnvironmentAnswer::Held { .. } => self.put_off = Some(Instant::now()),
            EnvironmentAnswer::Frozen { .. } => {}
        }
    }
}
