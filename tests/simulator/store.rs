//! The journal, logs and clock of a simulated world, and what must hold of every event in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use petgraph::visit::Dfs;
use stagewright_engine::{
    Clock, Event, EventKind, GateKind, Interrupt, LogSink, Observer, Outcome, RunId, RunStore, Status, StoreError,
    StoreErrorKind, Stream, Timestamp, Undo,
};
use stagewright_model::{StageIndex, StageKind};
use tokio::time::Instant;

use crate::world::{Inner, World};

/// From the wish to stop at once to the end of the run: the engine's own bound, and a bit for the messages.
const KILL_BOUND: Duration = Duration::from_secs(6);

/// From the wish to stop to the moment in which what ignores it is left behind.
const ASKED_BOUND: Duration = Duration::from_secs(20);

pub(crate) fn broken(message: &str) -> StoreError {
    StoreError { kind: StoreErrorKind::Storage, message: message.to_owned(), help: None, source: None }
}

/// Journal, logs, clock and observer of one process.
#[derive(Clone)]
pub(crate) struct SimStore {
    pub(crate) world: Arc<World>,
    pub(crate) run: usize,
    pub(crate) process: u32,
}

impl RunStore for SimStore {
    fn append(&mut self, _run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError> {
        let mut inner = self.world.lock();
        let (run, process) = (self.run, self.process);
        if !inner.step(run, process) {
            return Err(broken("the process is gone"));
        }
        if inner.runs[run].disk_full {
            return Err(broken("the disk is full"));
        }
        for event in events {
            inner.append(run, process, event, durable);
        }
        let one = &mut inner.runs[run];
        let length = one.journal.len();
        one.appends.push(length);
        if durable {
            one.durable = length;
        }
        inner.step(run, process);
        Ok(())
    }
}

impl LogSink for SimStore {
    fn append(
        &mut self,
        _at: Timestamp,
        _after: u64,
        _stage: StageIndex,
        _attempt: u32,
        _stream: Stream,
        _lines: &stagewright_engine::Lines,
    ) -> Result<(), StoreError> {
        let lives = self.world.lock().step(self.run, self.process);
        if lives { Ok(()) } else { Err(broken("the process is gone")) }
    }

    fn seal(&mut self, _stage: StageIndex, _attempt: u32) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Observer for SimStore {
    fn on_event(&mut self, event: &Event) {
        let mut inner = self.world.lock();
        let run = &inner.runs[self.run];
        if !run.is_driven_by(self.process) || !event.kind.is_recorded() {
            return;
        }
        let at = usize::try_from(event.seq).expect("a short journal");
        if run.journal.get(at) != Some(event) {
            inner.violate(|| format!("observed before it was recorded: {event:?}"));
        }
    }
}

impl Clock for SimStore {
    fn now(&self) -> Timestamp {
        self.world.wall()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

impl Inner {
    fn append(&mut self, run: usize, process: u32, event: &Event, durable: bool) {
        self.tell(|| format!("r{run} {}{}", if durable { "" } else { "~" }, brief(event)));
        if event.seq != self.runs[run].journal.len() as u64 {
            self.violate(|| format!("r{run} has a gap in its journal before {event:?}"));
        }
        self.check(run, process, event, durable);
        let one = &mut self.runs[run];
        one.journal.push(event.clone());
        if let Err(error) = one.state.apply(&event.kind) {
            self.violate(|| format!("r{run}: {error}"));
        }
    }

    /// What must hold of an event when it happens.
    fn check(&mut self, run: usize, process: u32, event: &Event, durable: bool) {
        match &event.kind {
            EventKind::AttemptStarted { stage, fence, .. } => {
                self.check_start(run, *stage);
                self.check_approval(run, *stage);
                self.check_fence(run, *stage, *fence);
                if !durable && self.reaches_out(run, *stage) {
                    self.violate(|| format!("r{run}: the intent of an attempt isn't durable: {event:?}"));
                }
            }
            EventKind::UndoStarted { stage, because, fence, .. } => {
                self.check_undo(run, *stage, *because);
                self.check_fence(run, *stage, *fence);
                self.count("undo");
            }
            EventKind::CancelRequested { how, reason } => {
                if !self.runs[run].cancels.contains(reason) {
                    self.violate(|| format!("r{run} was cancelled, and nobody asked for it: {reason}"));
                }
                self.count("cancel");
                match how {
                    Interrupt::Graceful => self.runs[run].asked = Some(Instant::now()),
                    Interrupt::Kill => self.runs[run].killed = Some((Instant::now(), process)),
                }
            }
            EventKind::StageEnded { stage, outcome: Outcome::Cancelled, .. } => {
                let one = &self.runs[run];
                let in_matrix = one.pipeline.plan.stage(*stage).matrix.as_ref().is_some_and(|cell| cell.fail_fast);
                if one.state.cancel.is_none() && !in_matrix {
                    self.violate(|| format!("r{run} cancelled stage {} silently", stage.0));
                }
            }
            EventKind::RunResumed { again, .. } => self.excuse_what_came_of_the_undone(run, again),
            EventKind::RunEnded { .. } => self.check_end(run, process),
            EventKind::Recovered { finding, by, .. } => {
                self.count(if by.is_some() { "settled" } else { "recovered" });
                self.count(match finding {
                    stagewright_engine::Finding::NotStarted => "found not started",
                    stagewright_engine::Finding::Applied(_) => "found applied",
                    stagewright_engine::Finding::Failed(_) => "found failed",
                });
            }
            EventKind::GateOpened { gate, .. } => self.count(match gate.kind {
                GateKind::Approval => "gate approval",
                GateKind::Environment => "gate environment",
                GateKind::Freeze => "gate freeze",
                GateKind::Doubt => "gate doubt",
            }),
            _ => {}
        }
    }

    fn check_start(&mut self, run: usize, stage: StageIndex) {
        let one = &self.runs[run];
        let plan = &one.pipeline.plan;
        let has_ended = |index: StageIndex| one.state.stage(index).status.conclusion().is_some();
        let early = !plan.stage(stage).needs.iter().all(|need| has_ended(*need));
        let finally = plan.stage(stage).kind == StageKind::Finally;
        let open = |index: &StageIndex| plan.stage(*index).kind == StageKind::Main && !has_ended(*index);
        let too_early = early || (finally && plan.indices().any(|index| open(&index)));
        let killed = one.state.cancel == Some(Interrupt::Kill);
        if too_early {
            self.violate(|| format!("r{run} started stage {} before what it needs had ended", stage.0));
        }
        if killed {
            self.violate(|| format!("r{run} started stage {} after it was killed", stage.0));
        }
    }

    /// Nothing acts on an environment with approvers before one of them has let it, for what runs now.
    fn check_approval(&mut self, run: usize, stage: StageIndex) {
        let one = &self.runs[run];
        let plan = &one.pipeline.plan;
        let environment = plan.stage(stage).environment.as_ref().and_then(|of| plan.environments.get(&of.name));
        let guarded = environment.is_some_and(|environment| !environment.approvers.is_empty());
        if !guarded || !self.reaches_out(run, stage) {
            return;
        }
        let mut binding = BTreeMap::new();
        let approved = one.journal.iter().any(|event| match &event.kind {
            EventKind::GateOpened { stage, gate, .. } => {
                binding.insert(*stage, gate.binding.clone());
                false
            }
            EventKind::GateDecided { stage, decision } => {
                let bound = binding.get(stage).is_some_and(|binding| binding.as_deref() == Some(one.binding));
                bound && decision.approved && decision.finding.is_none() && ["ada", "grace"].contains(&&*decision.by)
            }
            _ => false,
        });
        if !approved {
            self.violate(|| format!("r{run} started stage {} without an approval", stage.0));
        }
    }

    fn check_fence(&mut self, run: usize, stage: StageIndex, fence: Option<u64>) {
        let environment = self.runs[run].pipeline.plan.stage(stage).environment.clone();
        let environment = environment.filter(|_| self.reaches_out(run, stage));
        match (environment, fence) {
            (Some(environment), Some(fence)) => {
                if !self.fences.insert((environment.name.clone(), fence)) {
                    self.violate(|| format!("r{run} started twice under token {fence} of {}", environment.name));
                }
            }
            (None, None) => {}
            _ => self.violate(|| format!("r{run} started stage {} under {fence:?}", stage.0)),
        }
    }

    fn check_undo(&mut self, run: usize, stage: StageIndex, because: StageIndex) {
        let one = &self.runs[run];
        let failed = matches!(
            one.state.stage(because).status,
            Status::Ended {
                outcome: Outcome::Failed | Outcome::Errored | Outcome::TimedOut | Outcome::Lost | Outcome::Inconclusive,
                ..
            }
        );
        let wanted = one.pipeline.plan.stage(because).compensate.contains(&stage);
        // What is taken back later for the same reason ended earlier.
        let since = one.journal.iter().rev().take_while(|event| !matches!(event.kind, EventKind::RunResumed { .. }));
        let before = since.filter_map(|event| match event.kind {
            EventKind::UndoStarted { stage, because: other, .. } if other == because => Some(stage),
            _ => None,
        });
        let in_order = before.into_iter().all(|earlier| one.state.stage(earlier).ended > one.state.stage(stage).ended);
        let killed = one.state.cancel == Some(Interrupt::Kill);
        if !failed || !wanted || !in_order || killed {
            self.violate(|| {
                format!(
                    "r{run} takes stage {} back because of {}: failed {failed}, wanted {wanted}, in order {in_order}, \
                     killed {killed}",
                    stage.0, because.0
                )
            });
        }
    }

    /// What came after something that was taken back is done again with it.
    fn excuse_what_came_of_the_undone(&mut self, run: usize, again: &[StageIndex]) {
        let one = &self.runs[run];
        let undone: Vec<StageIndex> =
            again.iter().copied().filter(|stage| one.state.stage(*stage).undo != Undo::No).collect();
        for stage in undone {
            self.excuse(run, stage, false);
        }
    }

    /// Effects of all that needs the stage may be repeated; and its own, if a person named it.
    pub(crate) fn excuse(&mut self, run: usize, stage: StageIndex, itself: bool) {
        let one = &mut self.runs[run];
        let graph = &one.pipeline.plan.graph;
        let mut after = Dfs::new(graph, stage.0.into());
        while let Some(node) = after.next(graph) {
            if itself || node.index() != stage.get() {
                one.excused.insert(graph[node].0);
            }
        }
    }

    fn check_end(&mut self, run: usize, process: u32) {
        let one = &self.runs[run];
        let killed = one.state.cancel == Some(Interrupt::Kill);
        let open = one.state.stages.iter().any(|stage| stage.status.conclusion().is_none());
        // What ignores even a kill is left behind, and the journal says so.
        let left_behind = one.journal.iter().any(|event| match &event.kind {
            EventKind::AttemptEnded { failure: Some(failure), .. }
            | EventKind::UndoEnded { failure: Some(failure), .. } => failure.message.contains("left behind"),
            EventKind::GateOpened { gate, .. } => gate.message.contains("left behind"),
            _ => false,
        });
        let left_behind = left_behind || one.asked.is_some_and(|asked| asked.elapsed() >= ASKED_BOUND);
        let busy = one.busy > 0 && !killed && !left_behind;
        let late = one.killed.is_some_and(|(at, by)| by == process && at.elapsed() > KILL_BOUND) && !one.stalls;
        // One that is under way when the wish to cancel comes is stopped like any other.
        let asked_about = |index: &StageIndex| {
            let since =
                one.journal.iter().rev().take_while(|event| !matches!(event.kind, EventKind::RunResumed { .. }));
            since
                .into_iter()
                .any(|event| matches!(event.kind, EventKind::RecoveryStarted { stage, .. } if stage == *index))
        };
        let skipped = one.pipeline.plan.indices().find(|index| {
            let state = one.state.stage(*index);
            one.pipeline.plan.stage(*index).kind == StageKind::Finally
                && state.status.conclusion() == Some(Outcome::Cancelled)
                && state.attempts == state.attempts_before
                && state.gate.is_none()
                && state.doubt.is_none()
                && !asked_about(index)
        });
        let skipped = skipped.filter(|_| !killed);
        if open {
            self.violate(|| format!("r{run} ended while a stage was open"));
        }
        if busy {
            self.violate(|| format!("r{run} ended while an attempt was under way"));
        }
        if late {
            self.violate(|| format!("r{run} took too long to end after it was killed"));
        }
        if let Some(stage) = skipped {
            self.violate(|| format!("r{run} ended without its finally stage {}", stage.0));
        }
        self.count("run ended");
    }
}

fn brief(event: &Event) -> String {
    let text = match &event.kind {
        EventKind::RunStarted { stages, .. } => format!("RunStarted with {} stages", stages.len()),
        kind => format!("{kind:?}"),
    };
    format!("#{} {text}", event.seq)
}
