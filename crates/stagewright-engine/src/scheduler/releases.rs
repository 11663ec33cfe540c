//! The releases that a run's stages deploy, and when they are known good.

use petgraph::graph::NodeIndex;
use serde_json::Value as Json;
use stagewright_model::{NeedsStatus, StageIndex};

use super::Scheduler;
use crate::event::{EventKind, Outcome, Release, ReleaseOrigin};
use crate::port::{Call, ReleaseNote};
use crate::state::IllegalTransition;

impl Scheduler {
    /// Records the release that an attempt deployed.
    pub(super) fn record_release(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        note: ReleaseNote,
    ) -> Result<(), IllegalTransition> {
        self.record_release_as(stage, attempt, note, self.values.origin, None)
    }

    /// Records a release with its origin. `config` is the `with` table that it was deployed with, if it isn't the
    /// stage's own.
    pub(super) fn record_release_as(
        &mut self,
        stage: StageIndex,
        attempt: u32,
        note: ReleaseNote,
        origin: ReleaseOrigin,
        config: Option<Json>,
    ) -> Result<(), IllegalTransition> {
        let Some(environment) = self.environment_of(stage) else { return Ok(()) };
        // Can't fail: it was evaluated with the same values when the attempt started.
        let own = || self.request(stage, attempt, Call::Run).map(|request| request.config).unwrap_or_default();
        let release = Release {
            environment: environment.to_owned(),
            artifact: note.artifact,
            url: self.declared_url(stage).or(note.url),
            parts: note.parts,
            fence: self.state.stage(stage).fence.unwrap_or_default(),
            config: config.unwrap_or_else(own),
            commit: self.values.source.git.commit.clone(),
            by: self.values.source.trigger.actor.clone(),
            origin,
        };
        self.record(EventKind::ReleaseRecorded { stage, attempt, release })
    }

    /// The URL of the environment from the pipeline file; none in a rehearsal, whose stand-in has another address.
    fn declared_url(&self, stage: StageIndex) -> Option<String> {
        let reference = self.plan.stage(stage).environment.as_ref().filter(|_| !self.values.rehearsal)?;
        let needs = NeedsStatus { failed: false, cancelled: false };
        let own = reference.url.as_ref().and_then(|url| self.render(stage, needs, |scope, _| url.render(scope)).ok());
        own.or_else(|| self.plan.environments.get(&reference.name)?.url.clone())
    }

    /// Confirms releases whose last open condition was the end of this stage.
    pub(super) fn confirm_releases(&mut self, ended: StageIndex) -> Result<(), IllegalTransition> {
        let needs = self.plan.stage(ended).needs.clone();
        needs.into_iter().chain([ended]).try_for_each(|stage| self.confirm_release(stage))
    }

    /// Confirms the stage's release, if it has one and all stages that directly need it have succeeded. Those of other regions
    /// say nothing about it.
    pub(super) fn confirm_release(&mut self, stage: StageIndex) -> Result<(), IllegalTransition> {
        let state = self.state.stage(stage);
        if state.release.is_none() || state.confirmed || state.status.conclusion() != Some(Outcome::Succeeded) {
            return Ok(());
        }
        let dependents = self.plan.graph.neighbors(NodeIndex::new(stage.get()));
        let follows = |dependent: &NodeIndex| self.plan.stage(self.plan.graph[*dependent]).follows_in_waves(stage);
        let proven = dependents
            .filter(|dependent| !follows(dependent))
            .all(|dependent| self.state.stages[dependent.index()].status.conclusion() == Some(Outcome::Succeeded));
        if proven { self.record(EventKind::ReleaseConfirmed { stage }) } else { Ok(()) }
    }
}
