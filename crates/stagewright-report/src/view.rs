//! The state of a run as its readers show it: a fold over its events.

mod stage;

use std::collections::BTreeMap;

use stagewright_engine::{Event, EventKind, Gate, Interrupt, LogChunk, Outcome, Release, RunId, Timestamp};
use stagewright_model::StageIndex;

use crate::printable::escaped;
use crate::text::width;

pub use self::stage::{Progress, StageStatus, StageView, TAIL, TailLine, UndoView, UnsuccessfulAttempt, WaitView};

/// The state of a run after its events so far. Unlike the engine's own fold, it doesn't validate: an illegal transition
/// is shown like any other, and an event of an unknown stage is ignored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunView {
    /// None before the first event.
    pub run: Option<RunId>,
    /// `[pipeline] name`.
    pub pipeline: String,
    /// The pipeline file, relative to the repository's root if it is inside the repository.
    pub file: String,
    /// Whether effects act on local stand-ins.
    pub rehearsal: bool,
    /// Whether it observes what its stages use.
    pub learning: bool,
    /// When the run began.
    pub started: Timestamp,
    /// When the last event happened.
    pub last: Timestamp,
    /// By plan index.
    pub stages: Vec<StageView>,
    /// Width of the longest stage name, in columns.
    pub(crate) widest: usize,
    /// The last request to cancel the run: how, and its reason.
    pub cancel: Option<(Interrupt, String)>,
    /// The concurrency group that the run holds or waits for.
    pub group: Option<GroupView>,
    /// The releases that its stages deployed, in order.
    pub releases: Vec<Deployed>,
    /// Whether the run is suspended: no stage can run until a gate opens or is answered.
    pub suspended: bool,
    /// None until the run has ended.
    pub conclusion: Option<Outcome>,
}

/// The concurrency group of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// The other run that holds it; none if this run holds it.
    pub holder: Option<RunId>,
}

/// A release that the run deployed.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployed {
    /// The stage that deployed it.
    pub stage: StageIndex,
    /// The release, with its environment.
    pub release: Release,
    /// Whether the stages that directly need its stage have succeeded.
    pub confirmed: bool,
    /// Whether its stage was compensated.
    pub compensated: bool,
}

impl RunView {
    /// The state after these events.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> RunView {
        let mut view = RunView::default();
        events.into_iter().for_each(|event| view.apply(event));
        view
    }

    /// Applies one event.
    pub fn apply(&mut self, event: &Event) {
        if self.run.is_none() {
            self.started = event.at;
        }
        self.last = event.at;
        self.note_release(&event.kind);
        if let Some(index) = stage_of(&event.kind) {
            if let Some(stage) = self.stages.get_mut(index.get()) {
                stage.apply(event);
            }
            return;
        }
        match &event.kind {
            EventKind::RunStarted { run, pipeline, file, rehearsal, source, stages, .. } => {
                self.run = Some(run.clone());
                self.pipeline.clone_from(pipeline);
                self.file.clone_from(file);
                self.rehearsal = *rehearsal;
                self.learning = source.learning;
                self.stages = stages.iter().cloned().map(StageView::new).collect();
                self.widest = stages.iter().map(|stage| width(&escaped(&stage.id))).max().unwrap_or(0);
            }
            EventKind::RunResumed { again, .. } => {
                self.suspended = false;
                self.conclusion = None;
                self.cancel = None;
                self.group = None;
                for stage in &mut self.stages {
                    stage.forget_environment();
                }
                for index in again {
                    if let Some(stage) = self.stages.get_mut(index.get()) {
                        stage.reset();
                    }
                }
            }
            EventKind::GroupAwaited { group, holder } => {
                self.group = Some(GroupView { name: group.clone(), holder: Some(holder.clone()) });
            }
            EventKind::GroupJoined { group, .. } => self.group = Some(GroupView { name: group.clone(), holder: None }),
            EventKind::GroupLeft { .. } => self.group = None,
            EventKind::CancelRequested { how, reason } => self.cancel = Some((*how, reason.clone())),
            EventKind::RunSuspended { .. } => self.suspended = true,
            EventKind::RunEnded { conclusion } => self.conclusion = Some(*conclusion),
            _ => {}
        }
    }

    /// Applies log lines. Equivalent to an event for each of them.
    pub fn apply_lines(&mut self, chunk: &LogChunk<'_>) {
        self.last = chunk.at;
        if let Some(stage) = self.stages.get_mut(chunk.stage.get()) {
            let skipped = chunk.lines.count().saturating_sub(TAIL);
            chunk.lines.iter().skip(skipped).for_each(|line| stage.push_line(chunk.stream, line));
        }
    }

    fn note_release(&mut self, event: &EventKind) {
        match event {
            EventKind::ReleaseRecorded { stage, release, .. } => {
                let release = release.clone();
                self.releases.push(Deployed { stage: *stage, release, confirmed: false, compensated: false });
            }
            EventKind::ReleaseConfirmed { stage } => {
                let last = self.releases.iter_mut().rfind(|deployed| deployed.stage == *stage);
                last.into_iter().for_each(|deployed| deployed.confirmed = true);
            }
            EventKind::UndoEnded { stage, outcome: Outcome::Succeeded, .. } => {
                let releases = self.releases.iter_mut().filter(|deployed| deployed.stage == *stage);
                releases.for_each(|deployed| deployed.compensated = true);
            }
            _ => {}
        }
    }

    /// The last release that the run deployed to each environment.
    pub fn deployed(&self) -> BTreeMap<&str, &Deployed> {
        self.releases.iter().map(|deployed| (deployed.release.environment.as_str(), deployed)).collect()
    }

    /// The stage at `index`.
    pub fn stage(&self, index: StageIndex) -> Option<&StageView> {
        self.stages.get(index.get())
    }

    /// The unique name of a stage; `stage N` if the run has no stage with this index.
    pub fn stage_id(&self, index: StageIndex) -> String {
        self.stage(index).map_or_else(|| format!("stage {}", index.0), |stage| stage.summary.id.clone())
    }

    /// The run's id; empty before the first event.
    pub fn run_id(&self) -> &str {
        self.run.as_ref().map_or("", |run| &run.0)
    }

    /// How many stages have ended.
    pub fn done(&self) -> usize {
        self.stages.iter().filter(|stage| stage.conclusion().is_some()).count()
    }

    /// The stages that ended with a conclusion other than succeeded, skipped, cancelled or rehearsed.
    pub fn failed(&self) -> impl Iterator<Item = &StageView> {
        self.stages.iter().filter(|stage| stage.has_failed())
    }

    /// The stages whose compensation failed.
    pub fn not_compensated(&self) -> impl Iterator<Item = &StageView> {
        self.stages.iter().filter(|stage| stage.undo_failure().is_some())
    }

    /// The stages at an open gate, with the gate.
    pub fn waiting(&self) -> impl Iterator<Item = (&StageView, &Gate)> {
        self.stages.iter().filter_map(|stage| match &stage.status {
            StageStatus::Waiting(gate) => Some((stage, gate.as_ref())),
            _ => None,
        })
    }
}

/// The stage of an event; none for an event of the run as a whole.
pub(crate) fn stage_of(kind: &EventKind) -> Option<StageIndex> {
    match kind {
        EventKind::AttemptStarted { stage, .. }
        | EventKind::Log { stage, .. }
        | EventKind::Progress { stage, .. }
        | EventKind::Summary { stage, .. }
        | EventKind::Problem { stage, .. }
        | EventKind::TestsReported { stage, .. }
        | EventKind::MetricsReported { stage, .. }
        | EventKind::CacheLookedUp { stage, .. }
        | EventKind::GateOpened { stage, .. }
        | EventKind::GateDecided { stage, .. }
        | EventKind::GateSignalled { stage, .. }
        | EventKind::DecisionRefused { stage, .. }
        | EventKind::ArtifactPublished { stage, .. }
        | EventKind::AttemptEnded { stage, .. }
        | EventKind::RetryScheduled { stage, .. }
        | EventKind::TestsSelected { stage, .. }
        | EventKind::OutputsInherited { stage, .. }
        | EventKind::EnvironmentAwaited { stage, .. }
        | EventKind::EffectIntended { stage, .. }
        | EventKind::RecoveryStarted { stage, .. }
        | EventKind::Recovered { stage, .. }
        | EventKind::RolloutProgressed { stage, .. }
        | EventKind::ReleaseRecorded { stage, .. }
        | EventKind::ReleaseConfirmed { stage }
        | EventKind::UndoStarted { stage, .. }
        | EventKind::UndoEnded { stage, .. }
        | EventKind::GateElapsed { stage }
        | EventKind::StageEnded { stage, .. } => Some(*stage),
        EventKind::RunStarted { .. }
        | EventKind::RunResumed { .. }
        | EventKind::GroupAwaited { .. }
        | EventKind::GroupJoined { .. }
        | EventKind::GroupLeft { .. }
        | EventKind::CancelRequested { .. }
        | EventKind::SignalKept { .. }
        | EventKind::SignalRefused { .. }
        | EventKind::RunSuspended { .. }
        | EventKind::RunEnded { .. } => None,
    }
}
