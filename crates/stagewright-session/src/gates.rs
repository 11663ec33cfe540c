//! Who answers a gate while a run is driven: a rehearsal by itself, a person at the front end, or a person elsewhere through
//! the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stagewright_engine::{
    Event, EventKind, Gate, Interrupt, LogChunk, Observer, RunCommand, RunId, StageSummary, StoreError,
};
use stagewright_model::StageIndex;
use tokio::sync::mpsc;

use crate::decide::rehearsed;
use crate::store::SharedStore;

/// How often the store is asked for answers from elsewhere while a gate is open.
const POLL: Duration = Duration::from_millis(300);

/// What happens when a gate opens. Answers that others leave in the store are taken in any case. The gates of a rehearsal
/// are approved at once, whatever is chosen here.
#[derive(Clone)]
pub enum GateHandling {
    /// The run suspends when nothing else is left to do; it can be resumed when there is an answer.
    Suspend,
    /// The run waits for an answer from elsewhere.
    Wait,
    /// A person at the front end is asked.
    Ask(Arc<dyn Prompter>),
}

/// A front end at which a person can be asked.
pub trait Prompter: Send + Sync {
    /// Asks one question, and blocks until there is an answer: [`RunCommand::Decide`], or [`RunCommand::Suspend`] for later. It is
    /// called on a thread of its own, for one question at a time. Once `is_open` is false the answer no longer counts, as
    /// the gate was answered elsewhere or the run ended: the question should be withdrawn.
    fn ask(&self, question: &Question, is_open: &dyn Fn() -> bool) -> RunCommand;

    /// Called after the last event: returns when no withdrawn question is shown any more, so that the end of the run can be.
    fn close(&self) {}
}

/// An open gate, as a person is asked about it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The stage that waits.
    pub stage: StageIndex,
    /// The stage's id.
    pub id: String,
    /// What it waits for.
    pub gate: Gate,
}

/// The gates that are open, by stage.
type OpenGates = Arc<Mutex<BTreeMap<StageIndex, Gate>>>;

/// Watches for gates, and has them answered.
pub(crate) struct Gates {
    answering: Answering,
    stages: Vec<Arc<StageSummary>>,
    open: OpenGates,
    /// Set once the past was replayed: what happened before may have been answered meanwhile.
    live: bool,
}

enum Answering {
    Rehearse(mpsc::Sender<RunCommand>),
    Ask(std::sync::mpsc::Sender<Question>),
    /// By others, through the store.
    Elsewhere,
}

impl Gates {
    /// `rehearsal`: whether gates are approved at once.
    pub(crate) fn new(handling: GateHandling, rehearsal: bool, control: mpsc::Sender<RunCommand>) -> Gates {
        let open = OpenGates::default();
        let answering = match handling {
            _ if rehearsal => Answering::Rehearse(control),
            GateHandling::Ask(prompter) => Answering::Ask(spawn_prompts(prompter, Arc::clone(&open), control)),
            GateHandling::Suspend | GateHandling::Wait => Answering::Elsewhere,
        };
        Gates { answering, stages: Vec::new(), open, live: false }
    }

    /// From here on gates are answered; first those that are open from before, except those whose answer was `taken` from
    /// the store.
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

    /// Takes commands that others leave in the store, for as long as it is polled: to cancel, and answers to gates while
    /// one is open.
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

/// Detached: a prompter may block in a read that nothing ends, and the process then ends without it.
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
        tracing::warn!(%error, "can't read from the store what others left for the run");
        Vec::new()
    };
    let mut store = store.lock();
    let mut commands = store.take_cancels(run).map_or_else(warn, |reasons| reasons.into_iter().map(cancel).collect());
    if is_waiting {
        let decide = |(stage, decision)| RunCommand::Decide { stage, decision };
        let left = store.take_decisions(run);
        commands.extend(left.map_or_else(warn, |decisions| decisions.into_iter().map(decide).collect()));
    }
    commands
}

/// A request to end that was left in the store.
pub(crate) fn cancel(reason: String) -> RunCommand {
    RunCommand::Cancel { how: Interrupt::Graceful, reason }
}

impl Observer for Gates {
    fn on_event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { stages, .. } => self.stages.clone_from(stages),
            EventKind::GateOpened { stage, gate, .. } => {
                lock(&self.open).insert(*stage, gate.clone());
                if self.live {
                    self.answer(*stage, gate);
                }
            }
            // The person at the front end may have given that answer, and is asked again.
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
