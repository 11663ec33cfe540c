//! A run as its readers see it: the fold of its events so far.

mod stage;

use std::collections::BTreeMap;

use stagewright_engine::{Event, EventKind, Gate, Interrupt, LogChunk, Outcome, Release, RunId, Timestamp};
use stagewright_model::StageIndex;

use crate::printable::escaped;
use crate::text::width;

pub use self::stage::{Progress, StageStatus, StageView, TAIL, TailLine, UndoView, UnsuccessfulAttempt};

/// A run, as far as its events tell. Unlike the engine's own fold it doesn't judge: an event that can't follow is
/// shown like any other, and one of an unknown stage is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunView {
    /// None before the first event.
    pub run: Option<RunId>,
    /// `[pipeline] name`.
    pub pipeline: String,
    /// The pipeline file, as it was given.
    pub file: String,
    /// Whether effects act on local stand-ins.
    pub rehearsal: bool,
    /// When the run began.
    pub started: Timestamp,
    /// When the last event happened.
    pub last: Timestamp,
    /// By plan index.
    pub stages: Vec<StageView>,
    /// Columns of the longest name of a stage.
    pub(crate) widest: usize,
    /// The last wish to end the run early: how, and by whom or what.
    pub cancel: Option<(Interrupt, String)>,
    /// The concurrency group that it has or waits for.
    pub group: Option<GroupView>,
    /// What its stages deployed, in order.
    pub releases: Vec<Deployed>,
    /// Whether only gates are left.
    pub suspended: bool,
    /// Set when the run has ended.
    pub conclusion: Option<Outcome>,
}

/// A concurrency group, and the run.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// The run that has it; none when this one does.
    pub holder: Option<RunId>,
}

/// Something that the run deployed.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployed {
    /// Which stage did.
    pub stage: StageIndex,
    /// What, where to, and how.
    pub release: Release,
    /// Whether it proved good.
    pub confirmed: bool,
    /// Whether it was taken back.
    pub taken_back: bool,
}

impl RunView {
    /// Of a run's events so far.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> RunView {
        let mut view = RunView::default();
        events.into_iter().for_each(|event| view.apply(event));
        view
    }

    /// Takes one event in.
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
            EventKind::RunStarted { run, pipeline, file, rehearsal, stages, .. } => {
                self.run = Some(run.clone());
                self.pipeline.clone_from(pipeline);
                self.file.clone_from(file);
                self.rehearsal = *rehearsal;
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
                        stage.begin_anew();
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

    /// The same, for lines of a log.
    pub fn apply_lines(&mut self, chunk: &LogChunk<'_>) {
        self.last = chunk.at;
        if let Some(stage) = self.stages.get_mut(chunk.stage.get()) {
            let skipped = chunk.lines.count().saturating_sub(TAIL);
            chunk.lines.iter().skip(skipped).for_each(|line| stage.say(chunk.stream, line));
        }
    }

    fn note_release(&mut self, event: &EventKind) {
        match event {
            EventKind::ReleaseRecorded { stage, release, .. } => {
                let release = release.clone();
                self.releases.push(Deployed { stage: *stage, release, confirmed: false, taken_back: false });
            }
            EventKind::ReleaseConfirmed { stage } => {
                let last = self.releases.iter_mut().rfind(|deployed| deployed.stage == *stage);
                last.into_iter().for_each(|deployed| deployed.confirmed = true);
            }
            EventKind::UndoEnded { stage, outcome: Outcome::Succeeded, .. } => {
                let of_it = self.releases.iter_mut().filter(|deployed| deployed.stage == *stage);
                of_it.for_each(|deployed| deployed.taken_back = true);
            }
            _ => {}
        }
    }

    /// What the run did last to each environment that it deployed to.
    pub fn deployed(&self) -> BTreeMap<&str, &Deployed> {
        self.releases.iter().map(|deployed| (deployed.release.environment.as_str(), deployed)).collect()
    }

    /// The stage at `index`.
    pub fn stage(&self, index: StageIndex) -> Option<&StageView> {
        self.stages.get(index.get())
    }

    /// The stage's id; its number when the run has no such stage.
    pub fn stage_id(&self, index: StageIndex) -> String {
        self.stage(index).map_or_else(|| format!("stage {}", index.0), |stage| stage.summary.id.clone())
    }

    /// The run's id as text; empty before the first event.
    pub fn run_id(&self) -> &str {
        self.run.as_ref().map_or("", |run| &run.0)
    }

    /// How many stages have ended.
    pub fn done(&self) -> usize {
        self.stages.iter().filter(|stage| stage.conclusion().is_some()).count()
    }

    /// The stages whose conclusion stops what needs them, other than by being skipped or cancelled.
    pub fn failed(&self) -> impl Iterator<Item = &StageView> {
        self.stages.iter().filter(|stage| stage.has_failed())
    }

    /// The stages whose effect should have been taken back, and wasn't.
    pub fn not_taken_back(&self) -> impl Iterator<Item = &StageView> {
        self.stages.iter().filter(|stage| stage.undo_failure().is_some())
    }

    /// The stages at an open gate.
    pub fn waiting(&self) -> impl Iterator<Item = (&StageView, &Gate)> {
        self.stages.iter().filter_map(|stage| match &stage.status {
            StageStatus::Waiting(gate) => Some((stage, gate.as_ref())),
            _ => None,
        })
    }
}

/// The stage that an event is about.
pub(crate) fn stage_of(kind: &EventKind) -> Option<StageIndex> {
    match kind {
        EventKind::AttemptStarted { stage, .. }
        | EventKind::Log { stage, .. }
        | EventKind::Progress { stage, .. }
        | EventKind::Summary { stage, .. }
        | EventKind::Problem { stage, .. }
        | EventKind::CacheLookedUp { stage, .. }
        | EventKind::GateOpened { stage, .. }
        | EventKind::GateDecided { stage, .. }
        | EventKind::DecisionRefused { stage, .. }
        | EventKind::ArtifactPublished { stage, .. }
        | EventKind::AttemptEnded { stage, .. }
        | EventKind::RetryScheduled { stage, .. }
        | EventKind::OutputsInherited { stage, .. }
        | EventKind::EnvironmentAwaited { stage, .. }
        | EventKind::EffectIntended { stage, .. }
        | EventKind::RecoveryStarted { stage, .. }
        | EventKind::Recovered { stage, .. }
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
        | EventKind::RunSuspended { .. }
        | EventKind::RunEnded { .. } => None,
    }
}
