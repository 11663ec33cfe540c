//! Answers to gates while a run is driven: automatically in a rehearsal, from a person at the front end, or from
//! another process through the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stagewright_engine::{
    Event, EventKind, Gate, GateKind, Interrupt, LogChunk, Observer, RunCommand, RunId, StageSummary, StoreError,
};
use stagewright_model::StageIndex;
use tokio::sync::mpsc;

use crate::decide::rehearsed;
use crate::store::SharedStore;

/// How often the store is polled for answers while a gate is open.
const POLL: Duration = Duration::from_millis(300);

/// What happens when a gate opens. Answers from the store are always delivered. The gates of a rehearsal are approved
/// immediately, regardless of this.
#[derive(Clone)]
pub enum GateHandling {
    /// The run suspends once only gates are left, and can be resumed after an answer.
    Suspend,
    /// The run waits for an answer through the store.
    Wait,
    /// The front end asks a person.
    Ask(Arc<dyn Prompter>),
}

/// A front end at which a person can be asked.
pub trait Prompter: Send + Sync {
    /// Asks one question, and blocks until it is answered with [`RunCommand::Decide`], or postponed with
    /// [`RunCommand::Suspend`]. Called on a separate thread, for one question at a time. Once `is_open` returns false,
    /// the gate was answered elsewhere or the run has ended: the answer is ignored then, and the question should be
    /// withdrawn.
    fn ask(&self, question: &Question, is_open: &dyn Fn() -> bool) -> RunCommand;

    /// Called after the last event. Returns once no withdrawn question is shown any more, so that the front end can
    /// show the end of the run.
    fn close(&self) {}
}

/// A question to a person about an open gate.
#[derive(Clone, Debug)]
pub struct Question {
    /// The stage that waits.
    pub stage: StageIndex,
    /// The stage's id.
    pub id: String,
    /// The gate.
    pub gate: Gate,
}

/// The open gates, by stage.
type OpenGates = Arc<Mutex<BTreeMap<StageIndex, Gate>>>;

/// Observes gates and answers them according to a [`GateHandling`].
pub(crate) struct GateAnswers {
    answering: Answering,
    stages: Vec<Arc<StageSummary>>,
    open: OpenGates,
    /// Set once the past has been replayed. Gates in the past may have been answered since and must not be asked about.
    live: bool,
}

enum Answering {
    Rehearse(mpsc::Sender<RunCommand>),
    Ask(std::sync::mpsc::Sender<Question>),
    /// By other processes, through the store.
    Elsewhere,
}

impl GateAnswers {
    /// `rehearsal` is whether gates are approved automatically.
    pub(crate) fn new(handling: GateHandling, rehearsal: bool, control: mpsc::Sender<RunCommand>) -> GateAnswers {
        let open = OpenGates::default();
        let answering = match handling {
            _ if rehearsal => Answering::Rehearse(control),
            GateHandling::Ask(prompter) => Answering::Ask(spawn_prompts(prompter, Arc::clone(&open), control)),
            GateHandling::Suspend | GateHandling::Wait => Answering::Elsewhere,
        };
        GateAnswers { answering, stages: Vec::new(), open, live: false }
    }

    /// Starts answering gates, first those that are still open from the past. Those whose answer was already `taken`
    /// from the store are left out.
    pub(crate) fn begin(&mut self, taken: &BTreeSet<StageIndex>) {
        self.live = true;
        let mut open = lock(&self.open).clone();
        open.retain(|stage, _| !taken.contains(stage));
        open.iter().for_each(|(stage, gate)| self.answer(*stage, gate));
    }

    fn answer(&self, stage: StageIndex, gate: &Gate) {
        match &self.answering {
            Answering::Rehearse(control) => {
                for decision in rehearsed(gate) {
                    // The channel holds as many answers as a gate may ask for; see `CONTROL_BOUND`.
                    let _ = control.try_send(RunCommand::Decide { stage, decision });
                }
            }
            Answering::Ask(questions) => {
                let id = self.stages.get(stage.get()).map(|stage| stage.id.clone()).unwrap_or_default();
                let _ = questions.send(Question { stage, id, gate: gate.clone() });
            }
            Answering::Elsewhere => {}
        }
    }

    /// Delivers commands from the store for as long as it is polled: cancel requests, signals, and answers while a gate is
    /// open.
    pub(crate) fn poll(
        &self,
        store: SharedStore,
        run: RunId,
        control: mpsc::Sender<RunCommand>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let open = Arc::clone(&self.open);
        async move {
            loop {
                let is_waiting = !lock(&open).is_empty();
                for command in left_in_store(&store, &run, is_waiting) {
                    let _ = control.send(command).await;
                }
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

fn lock(open: &OpenGates) -> std::sync::MutexGuard<'_, BTreeMap<StageIndex, Gate>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread is detached, because a prompter can block in a read that can't be interrupted. The process must be able
/// to end without it.
fn spawn_prompts(
    prompter: Arc<dyn Prompter>,
    open: OpenGates,
    control: mpsc::Sender<RunCommand>,
) -> std::sync::mpsc::Sender<Question> {
    let (questions, asked) = std::sync::mpsc::channel::<Question>();
    std::thread::spawn(move || {
        for question in asked {
            let is_open = || lock(&open).get(&question.stage).is_some_and(|gate| gate.token == question.gate.token);
            if !is_open() {
                continue;
            }
            let answer = prompter.ask(&question, &is_open);
            if is_open() {
                let _ = control.blocking_send(answer);
            }
        }
    });
    questions
}

fn left_in_store(store: &SharedStore, run: &RunId, is_waiting: bool) -> Vec<RunCommand> {
    let warn = |error: StoreError| {
        tracing::warn!(%error, "could not read answers, signals and cancel requests from the store");
        Vec::new()
    };
    let mut store = store.lock();
    let mut commands = store.take_cancels(run).map_or_else(warn, |reasons| reasons.into_iter().map(cancel).collect());
    let signals = store.take_signals(run);
    commands.extend(signals.map_or_else(warn, |signals| signals.into_iter().map(RunCommand::Signal).collect()));
    if is_waiting {
        let decide = |(stage, decision)| RunCommand::Decide { stage, decision };
        let left = store.take_decisions(run);
        commands.extend(left.map_or_else(warn, |decisions| decisions.into_iter().map(decide).collect()));
    }
    commands
}

/// The command for a cancel request from the store.
pub(crate) fn cancel(reason: String) -> RunCommand {
    RunCommand::Cancel { how: Interrupt::Graceful, reason }
}

impl Observer for GateAnswers {
    fn on_event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { stages, .. } => self.stages.clone_from(stages),
            // It takes no answer: the engine ends it by itself, or when a signal arrives.
            EventKind::GateOpened { stage, gate, .. } if gate.kind == GateKind::Wait => {
                lock(&self.open).remove(stage);
            }
            EventKind::GateOpened { stage, gate, .. } => {
                lock(&self.open).insert(*stage, gate.clone());
                if self.live {
                    self.answer(*stage, gate);
                }
            }
            // The refused answer may be that of the person at the front end, who is asked again.
            EventKind::DecisionRefused { stage, .. } if matches!(self.answering, Answering::Ask(_)) => {
                let open = lock(&self.open).get(stage).cloned();
                open.iter().for_each(|gate| self.answer(*stage, gate));
            }
            EventKind::RunResumed { again, .. } => lock(&self.open).retain(|stage, _| !again.contains(stage)),
            EventKind::AttemptStarted { stage, .. }
            | EventKind::Recovered { stage, .. }
            | EventKind::GateElapsed { stage }
            | EventKind::StageEnded { stage, .. } => drop(lock(&self.open).remove(stage)),
            _ => {}
        }
    }

    fn on_lines(&mut self, _: &LogChunk<'_>) {}
}
