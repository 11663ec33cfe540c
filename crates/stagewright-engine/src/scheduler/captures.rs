//! The files that a stage works on: those captured at the gate before it, and those that the stages that it needs
//! produced.
//!
//! ```text
//! gate to open     ─> Capture of what the stages behind it can read ─> GateOpened and Decision, both with its digest
//! attempt to start ─> Basis: approved captures, results of its needs ─> the runner provides these files, or refuses
//! ```
//!
//! A stage is *behind* a gate if the gate is its own, belongs to a stage that it needs, directly or not, or belongs to
//! another stage of its environment, whose approval is valid for it.

use std::collections::BTreeSet;

use petgraph::graph::NodeIndex;
use stagewright_model::{PathPattern, Stage, StageIndex, StageKind};

use super::{Action, Scheduler};
use crate::event::{Capture, Failure, Gate, GateKind, Outcome};
use crate::port::{ApprovedCapture, Basis, CaptureRequest, EarlierResult};
use crate::state::{IllegalTransition, StageStatus};

impl Scheduler {
    /// Whether the files are captured before a gate of the kind opens. The outcome of an interrupted attempt doesn't
    /// depend on files.
    pub(super) fn captures_for(&self, kind: GateKind) -> bool {
        self.values.captured_binding.is_some() && kind != GateKind::Unresolved
    }

    /// Whether the gate's answers were given for exactly what would run now.
    pub(super) fn binds(&self, gate: &Gate) -> bool {
        let binding = if gate.capture.is_some() { &self.values.captured_binding } else { &self.values.binding };
        gate.binding == *binding
    }

    /// Whether any stage that would run after a resume from `from` works on the live workspace. If none does, changes
    /// to the workspace don't matter.
    pub fn needs_live_files(&self, from: &[StageIndex]) -> bool {
        let again: BTreeSet<StageIndex> = self.to_run_again(from).into_iter().collect();
        let is_open = |index: &StageIndex| {
            again.contains(index) || self.state.stage(*index).status.conclusion() != Some(Outcome::Succeeded)
        };
        let stands = |gate: &StageIndex| !again.contains(gate);
        let has_capture = self.plan.indices().any(|index| stands(&index) && self.opening_of(index).is_some());
        self.plan.indices().filter(is_open).any(|index| {
            let stage = self.plan.stage(index);
            // A stage that may write `.git` always works on the repository itself.
            let writes_git = stage.permissions.write.iter().any(|rule| rule.pattern().normal() == ".git");
            // Finally stages clean up or report. Once files were captured, they may work on the workspace in any state.
            let is_after_all = has_capture && stage.kind == StageKind::Finally;
            let has_files = !self.readable_by(&BTreeSet::from([index])).is_empty();
            writes_git || (has_files && !is_after_all && !self.gates_before(index).iter().any(stands))
        })
    }

    /// Requests the capture for a gate, which opens once it is done.
    pub(super) fn request_capture(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        mut gate: Gate,
    ) -> Result<(), IllegalTransition> {
        gate.binding.clone_from(&self.values.captured_binding);
        // If the stage already has a valid approval for captured files, ask about these files again, for example at a
        // freeze after an approval. A new capture could contain other files, for which the earlier approval isn't
        // valid: the stage would then ask for that one again, and for the freeze after it, without end.
        let state = self.state.stage(stage);
        let earlier = state.gate.as_ref().filter(|earlier| !state.approved_gates.is_empty() && self.binds(earlier));
        if let Some(capture) = earlier.and_then(|earlier| earlier.capture.clone()) {
            gate.capture = Some(capture);
            return self.open_captured(stage, attempt, gate);
        }
        let request = CaptureRequest {
            run: self.run_id(),
            stage_id: self.plan.stage(stage).id.clone(),
            opening: self.state.next_seq,
            paths: self.readable_by(&self.behind(stage)),
            basis: self.basis(stage),
        };
        self.opening.insert(stage, (attempt, gate));
        self.response.actions.push(Action::Capture { stage, request: Box::new(request) });
        Ok(())
    }

    /// Opens the gate whose files were captured, or ends the stage if the capture failed.
    pub(super) fn on_captured(
        &mut self,
        stage: StageIndex,
        captured: Result<Option<Capture>, Failure>,
    ) -> Result<(), IllegalTransition> {
        // The stage may have ended in the meantime.
        let Some((attempt, mut gate)) = self.opening.remove(&stage) else { return Ok(()) };
        match captured {
            Ok(Some(capture)) => gate.capture = Some(capture),
            Ok(None) => gate.binding.clone_from(&self.values.binding),
            Err(failure) => {
                let outcome = Outcome::Errored;
                let mut reason = failure.message.clone();
                if let Some(help) = &failure.help {
                    reason.push_str(&format!(" ({help})"));
                }
                if self.state.stage(stage).status == StageStatus::Running(attempt) {
                    self.end_attempt(stage, attempt, outcome, Some(failure), std::collections::BTreeMap::new())?;
                    return self.end_stage(stage, outcome, outcome, Some(reason));
                }
                return self.fail_before_start(stage, failure);
            }
        }
        self.open_captured(stage, attempt, gate)
    }

    /// The files that an attempt of the stage works on.
    pub(super) fn basis(&self, index: StageIndex) -> Basis {
        if !self.uses_files || self.values.captured_binding.is_none() {
            return Basis::default();
        }
        let stage = self.plan.stage(index);
        let results = results_of(stage);
        let readers = if results.is_empty() { Vec::new() } else { self.readable_by(&self.descendants(index)) };
        let ancestors = self.ancestors(index);
        let made = self.made_by(&ancestors);
        let has_begun =
            |other: &StageIndex| *other != index && !ancestors.contains(other) && self.state.stage(*other).attempts > 0;
        let others = self.plan.indices().filter(has_begun);
        let unordered = if made.is_empty() { Vec::new() } else { self.writable_by(others) };
        let gates = self.gates_before(index);
        let behind = gates.last().map(|&gate| self.behind(gate)).unwrap_or_default();
        Basis {
            captures: gates.iter().filter_map(|&gate| self.approved(gate)).collect(),
            made,
            unordered,
            writable: self.writable_by(behind.into_iter()),
            results,
            readers,
        }
    }

    /// The results of the stages, in the order in which they ended.
    fn made_by(&self, stages: &BTreeSet<StageIndex>) -> Vec<EarlierResult> {
        let made = stages.iter().filter_map(|&index| {
            let (stage, state) = (self.plan.stage(index), self.state.stage(index));
            let made = state.made.clone().filter(|_| state.status.conclusion().is_some())?;
            let (results, writable) = (results_of(stage), stage.permissions.writable());
            Some((state.ended, EarlierResult { stage_id: stage.id.clone(), made, results, writable }))
        });
        let mut made: Vec<_> = made.collect();
        made.sort_by_key(|(ended, _)| *ended);
        made.into_iter().map(|(_, made)| made).collect()
    }

    fn approved(&self, gate: StageIndex) -> Option<ApprovedCapture> {
        let capture = self.state.stage(gate).gate.as_ref()?.capture.clone()?;
        let since = |index: &StageIndex| {
            let state = self.state.stage(*index);
            state.attempts > 0 && state.ended.is_none_or(|ended| ended > capture.opening)
        };
        let written_since = self.writable_by(self.plan.indices().filter(since));
        Some(ApprovedCapture { stage_id: self.plan.stage(gate).id.clone(), capture, written_since })
    }

    /// The stages whose gates this stage is behind, in the order of their captures. Its own gate comes last:
    /// none of the others can open after it.
    pub(super) fn gates_before(&self, stage: StageIndex) -> Vec<StageIndex> {
        let mut candidates = self.ancestors(stage);
        candidates.insert(stage);
        if let Some(environment) = self.environment_of(stage) {
            let shares = |index: &StageIndex| self.environment_of(*index) == Some(environment);
            candidates.extend(self.plan.indices().filter(shares));
        }
        let opened = candidates.into_iter().filter_map(|index| Some((self.opening_of(index)?, index)));
        let mut gates: Vec<_> = opened.collect();
        gates.sort_unstable();
        gates.into_iter().map(|(_, index)| index).collect()
    }

    /// The [`Capture::opening`] of a stage's gate; none if it has no gate or no capture.
    fn opening_of(&self, stage: StageIndex) -> Option<u64> {
        Some(self.state.stage(stage).gate.as_ref()?.capture.as_ref()?.opening)
    }

    /// The stages behind a gate of the stage: itself, the stages of its environment, and all stages that need one of
    /// these, directly or not.
    fn behind(&self, stage: StageIndex) -> BTreeSet<StageIndex> {
        let mut behind = self.descendants(stage);
        behind.insert(stage);
        if let Some(environment) = self.environment_of(stage) {
            for index in self.plan.indices().filter(|index| self.environment_of(*index) == Some(environment)) {
                behind.extend(self.descendants(index));
                behind.insert(index);
            }
        }
        behind
    }

    /// All stages that need this one, directly or not.
    fn descendants(&self, stage: StageIndex) -> BTreeSet<StageIndex> {
        let mut found = BTreeSet::new();
        let mut open = vec![stage];
        while let Some(next) = open.pop() {
            for dependent in self.plan.graph.neighbors(NodeIndex::new(next.get())) {
                let dependent = self.plan.graph[dependent];
                if found.insert(dependent) {
                    open.push(dependent);
                }
            }
        }
        found
    }

    /// The globs that the stages may read, without duplicates.
    fn readable_by(&self, stages: &BTreeSet<StageIndex>) -> Vec<PathPattern> {
        let readable = stages.iter().flat_map(|index| self.plan.stage(*index).permissions.readable());
        readable.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The globs that the stages may write, without duplicates.
    fn writable_by(&self, stages: impl Iterator<Item = StageIndex>) -> Vec<PathPattern> {
        let writable = stages.flat_map(|index| self.plan.stage(index).permissions.writable_by_programs());
        writable.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// The globs of a stage's results: its `outputs`, or everything that it may write if it has none.
fn results_of(stage: &Stage) -> Vec<PathPattern> {
    if stage.outputs.is_empty() { stage.permissions.writable() } else { stage.outputs.clone() }
}
