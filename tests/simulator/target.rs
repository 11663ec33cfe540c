//! The targets that the plugins of a simulated world act on, with their true state.

use stagewright_engine::{Artifact, Call, EffectClass, EventKind, Finding};
use stagewright_model::StageIndex;

use crate::world::Inner;

/// An environment, or another external system that plugins act on.
#[derive(Default)]
pub(crate) struct Target {
    /// The applied effects, oldest first.
    pub(crate) effects: Vec<EffectId>,
    /// The newest token of any effect. Effects with an older one are refused.
    seen: u64,
    newest_run: usize,
}

/// An effect that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EffectId {
    pub(crate) run: usize,
    pub(crate) stage: StageIndex,
    pub(crate) attempt: u32,
}

impl EffectId {
    /// A file that a call of its plugin publishes.
    pub(crate) fn artifact(self, call: Call, number: u32) -> Artifact {
        Artifact {
            name: format!("file-{number}"),
            digest: format!("r{}/{}@{} {call:?}", self.run, self.stage.0, self.attempt),
            media_type: "text/plain".to_owned(),
            size: u64::from(number),
        }
    }
}

/// The attempt that acts.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) done: EffectId,
    pub(crate) call: Call,
    /// Environment and token.
    pub(crate) turn: Option<(String, u64)>,
    /// Whether its process has died.
    pub(crate) orphan: bool,
}

impl Actor {
    /// The name of its target.
    pub(crate) fn place(&self) -> String {
        match &self.turn {
            Some((environment, _)) => environment.clone(),
            None => format!("beyond r{}", self.done.run),
        }
    }
}

impl Inner {
    /// Applies an effect. Returns whether the target accepted it.
    pub(crate) fn act(&mut self, actor: &Actor) -> bool {
        let EffectId { run, stage, attempt } = actor.done;
        let label = format!("r{run} stage {} attempt {attempt} {:?} under {:?}", stage.0, actor.call, actor.turn);
        if !self.has_durable_intent(actor) {
            self.violate(|| format!("an effect without a durable intent: {label}"));
        }
        if let Some((_, fence)) = &actor.turn {
            let target = self.targets.entry(actor.place()).or_default();
            if *fence < target.seen {
                self.count("stale effect refused by the target");
                self.log(|| format!("target refuses {label}"));
                return false;
            }
            target.seen = *fence;
            let newest = target.newest_run;
            target.newest_run = newest.max(run);
            if run < newest {
                self.violate(|| format!("an older run acted after r{newest}: {label}"));
            }
        }
        self.log(|| format!("effect: {label}"));
        match actor.call {
            Call::Undo => {
                let target = self.targets.entry(actor.place()).or_default();
                target.effects.retain(|done| (done.run, done.stage) != (run, stage));
                self.count("effect undone");
            }
            _ => {
                if !actor.orphan {
                    self.check_twice(actor);
                }
                let target = self.targets.entry(actor.place()).or_default();
                if !target.effects.contains(&actor.done) {
                    target.effects.push(actor.done);
                }
                self.count("effect");
            }
        }
        true
    }

    fn has_durable_intent(&self, actor: &Actor) -> bool {
        let EffectId { run, stage, attempt } = actor.done;
        let run = &self.runs[run];
        run.journal[..run.durable].iter().any(|event| match (&event.kind, actor.call) {
            (EventKind::EffectIntended { stage: of, attempt: which, .. }, Call::Run)
            | (EventKind::UndoStarted { stage: of, attempt: which, .. }, Call::Undo) => {
                (*of, *which) == (stage, attempt)
            }
            _ => false,
        })
    }

    /// An applied effect must not be repeated by another attempt, unless a finding says that it was not applied, the attempt
    /// itself reported a failure, or a person asked for it.
    fn check_twice(&mut self, actor: &Actor) {
        let EffectId { run, stage, attempt } = actor.done;
        if self.runs[run].excused.contains(&stage.0) {
            return;
        }
        let Some(target) = self.targets.get(&actor.place()) else { return };
        let standing =
            target.effects.iter().filter(|done| (done.run, done.stage) == (run, stage) && done.attempt != attempt);
        // The journal is no evidence here.
        let denied = &self.runs[run].facts.denied;
        let unexplained = standing.copied().find(|done| !denied.contains(&(stage, done.attempt)));
        if let Some(done) = unexplained {
            self.violate(|| {
                format!("r{run} stage {} repeated in attempt {attempt} the effect of attempt {}", stage.0, done.attempt)
            });
        }
    }

    /// The target's observation of an attempt.
    pub(crate) fn truth(&self, run: usize, stage: StageIndex, attempt: u32) -> Finding {
        let done = EffectId { run, stage, attempt };
        if self.targets.values().any(|target| target.effects.contains(&done)) {
            Finding::Applied("it was applied".to_owned())
        } else {
            Finding::NotStarted
        }
    }

    pub(crate) fn reaches_out(&self, run: usize, stage: StageIndex) -> bool {
        self.runs[run].pipeline.facts[stage.get()].effect == EffectClass::External
    }
}
