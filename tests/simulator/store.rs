//! The journal, logs and clock of a simulated world.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use petgraph::visit::Dfs;
use stagewright_engine::{
    Clock, Event, EventKind, LogSink, Observer, RunId, RunStore, StoreError, StoreErrorKind, Stream, Timestamp,
    UndoState,
};
use stagewright_model::StageIndex;

use crate::world::{Inner, World};

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
        inner.runs[run].appended(durable);
        // A stage that has passed its gate usually starts at once, so that a fault seldom strikes in between.
        if matches!(events.last().map(|event| &event.kind), Some(EventKind::GateElapsed { .. })) && inner.roll(20) {
            inner.strike_next(run);
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
        if !run.is_driven_by(self.process) {
            return;
        }
        if let EventKind::DecisionRefused { stage, by, reason } = &event.kind {
            return inner.check_refusal(self.run, self.process, *stage, by, reason);
        }
        if let EventKind::SignalRefused { token, reason, .. } = &event.kind {
            return inner.check_signal_refusal(self.run, token, reason);
        }
        if !event.kind.is_recorded() {
            return;
        }
        let at = usize::try_from(event.seq).expect("a short journal");
        if run.journal.get(at) != Some(event) {
            inner.violate(|| format!("published before it was recorded: {event:?}"));
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
        self.log(|| format!("r{run} {}{}", if durable { "" } else { "~" }, brief(event)));
        if event.seq != self.runs[run].journal.len() as u64 {
            self.violate(|| format!("r{run} has a gap in its journal before {event:?}"));
        }
        self.check_durable(run, event, durable);
        self.check_event(run, process, event);
        self.runs[run].journal.push(event.clone());
    }

    /// Checks that an event is durable if it has to be.
    fn check_durable(&mut self, run: usize, event: &Event, durable: bool) {
        let is_intent = match &event.kind {
            EventKind::AttemptStarted { stage, .. } | EventKind::AttemptEnded { stage, .. } => {
                self.reaches_out(run, *stage)
            }
            EventKind::EffectIntended { .. }
            | EventKind::UndoStarted { .. }
            | EventKind::GateOpened { .. }
            | EventKind::GateDecided { .. }
            | EventKind::GateSignalled { .. }
            | EventKind::RunEnded { .. }
            | EventKind::RunSuspended { .. } => true,
            _ => false,
        };
        if is_intent && !durable {
            self.violate(|| format!("r{run}: it isn't durable: {event:?}"));
        }
    }

    /// Allows the effects of stages to be repeated that come after a compensated one.
    pub(crate) fn allow_repeats_after_compensation(&mut self, run: usize, again: &[StageIndex]) {
        let one = &self.runs[run];
        let undone: Vec<StageIndex> =
            again.iter().copied().filter(|stage| one.truth.stage(*stage).undo != UndoState::NotStarted).collect();
        for stage in undone {
            self.allow_repeat(run, stage, false);
        }
    }

    /// Allows the effects of all stages that need the stage to be repeated, and its own if a person named it.
    pub(crate) fn allow_repeat(&mut self, run: usize, stage: StageIndex, itself: bool) {
        let one = &mut self.runs[run];
        let graph = &one.pipeline.plan.graph;
        let mut after = Dfs::new(graph, stage.0.into());
        while let Some(node) = after.next(graph) {
            if itself || node.index() != stage.get() {
                one.excused.insert(graph[node].0);
            }
        }
    }
}

fn brief(event: &Event) -> String {
    let text = match &event.kind {
        EventKind::RunStarted { stages, .. } => format!("RunStarted with {} stages", stages.len()),
        kind => format!("{kind:?}"),
    };
    format!("#{} {text}", event.seq)
}
