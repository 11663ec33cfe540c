//! What the plugins of a simulated world act on, and the truth about it.

use stagewright_engine::{Artifact, Call, EffectClass, EventKind, Finding};
use stagewright_model::StageIndex;

use crate::world::Inner;

/// Something that runs deploy to, or any other place beyond the machine.
#[derive(Default)]
pub(crate) struct Target {
    /// What is there, oldest first.
    pub(crate) effects: Vec<Done>,
    /// The newest token under which anything was done. It takes nothing under an older one.
    seen: u64,
    newest_run: usize,
}

/// An effect that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) run: usize,
    pub(crate) stage: StageIndex,
    pub(crate) attempt: u32,
}

impl Done {
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

/// Who acts.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) done: Done,
    pub(crate) call: Call,
    /// Environment and token.
    pub(crate) turn: Option<(String, u64)>,
    /// Its process, or what held it, is gone.
    pub(crate) orphan: bool,
}

impl Actor {
    /// Where it acts.
    pub(crate) fn place(&self) -> String {
        match &self.turn {
            Some((environment, _)) => environment.clone(),
            None => format!("beyond r{}", self.done.run),
        }
    }
}

impl Inner {
    /// Lets an effect happen. Whether the target took it.
    pub(crate) fn act(&mut self, actor: &Actor) -> bool {
        let Done { run, stage, attempt } = actor.done;
        let label = format!("r{run} stage {} attempt {attempt} {:?} under {:?}", stage.0, actor.call, actor.turn);
        if !self.has_durable_intent(actor) {
            self.violate(|| format!("an effect without a durable intent: {label}"));
        }
        if let Some((_, fence)) = &actor.turn {
            let target = self.targets.entry(actor.place()).or_default();
            if *fence < target.seen {
                self.count("stale effect refused by the target");
                self.tell(|| format!("target refuses {label}"));
                return false;
            }
            target.seen = *fence;
            let newest = target.newest_run;
            target.newest_run = newest.max(run);
            if run < newest {
                self.violate(|| format!("an older run acted after r{newest}: {label}"));
            }
        }
        self.tell(|| format!("effect: {label}"));
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
        let Done { run, stage, attempt } = actor.done;
        let run = &self.runs[run];
        run.journal[..run.durable].iter().any(|event| match (&event.kind, actor.call) {
            (EventKind::EffectIntended { stage: of, attempt: which, .. }, Call::Run)
            | (EventKind::UndoStarted { stage: of, attempt: which, .. }, Call::Undo) => {
                (*of, *which) == (stage, attempt)
            }
            _ => false,
        })
    }

    /// An effect that stands is not done again by another attempt, unless somebody said that it isn't there, the
    /// attempt said itself that it failed, or a person asked for it.
    fn check_twice(&mut self, actor: &Actor) {
        let Done { run, stage, attempt } = actor.done;
        if self.runs[run].excused.contains(&stage.0) {
            return;
        }
        let Some(target) = self.targets.get(&actor.place()) else { return };
        let standing =
            target.effects.iter().filter(|done| (done.run, done.stage) == (run, stage) && done.attempt != attempt);
        // What the journal says of it doesn't count.
        let denied = &self.runs[run].facts.denied;
        let unexplained = standing.copied().find(|done| !denied.contains(&(stage, done.attempt)));
        if let Some(done) = unexplained {
            self.violate(|| {
                format!("r{run} stage {} did in attempt {attempt} what attempt {} had done", stage.0, done.attempt)
            });
        }
    }

    /// What the target shows of an attempt.
    pub(crate) fn truth(&self, run: usize, stage: StageIndex, attempt: u32) -> Finding {
        let done = Done { run, stage, attempt };
        if self.targets.values().any(|target| target.effects.contains(&done)) {
            Finding::Applied("it is there".to_owned())
        } else {
            Finding::NotStarted
        }
    }

    pub(crate) fn reaches_out(&self, run: usize, stage: StageIndex) -> bool {
        self.runs[run].pipeline.facts[stage.get()].effect == EffectClass::External
    }
}
