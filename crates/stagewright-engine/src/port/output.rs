//! What an attempt says while it runs.

use std::sync::Arc;

use stagewright_model::StageIndex;
use tokio::sync::{mpsc, oneshot};

use crate::event::{Problem, RunId, Stream};
use crate::lines::Lines;

/// Where an attempt's log, progress and findings go while it runs.
#[derive(Clone, Debug)]
pub struct AttemptOutput {
    stage: StageIndex,
    attempt: u32,
    launch: u64,
    live: mpsc::Sender<Live>,
    tap: Option<Arc<dyn Tap>>,
}

/// Hears what an attempt says, beside the loop.
pub trait Tap: Send + Sync + std::fmt::Debug {
    /// Called in the order in which it is said, for all but progress, which may be lost anyway.
    fn said(&self, kind: &LiveKind);
}

impl AttemptOutput {
    /// For the attempt of one stage. The channel's bound is what slows a stage down that logs faster than it can be
    /// written.
    pub fn new(stage: StageIndex, attempt: u32, live: mpsc::Sender<Live>) -> AttemptOutput {
        AttemptOutput { stage, attempt, launch: 0, live, tap: None }
    }

    /// With somebody else to hear it.
    #[must_use]
    pub fn tapped(self, tap: Arc<dyn Tap>) -> AttemptOutput {
        AttemptOutput { tap: Some(tap), ..self }
    }

    /// Tells this call of the plugin from others for the same attempt.
    pub(crate) fn of_launch(self, launch: u64) -> AttemptOutput {
        AttemptOutput { launch, ..self }
    }

    /// Complete lines, masked. Waits while the reader is behind.
    pub async fn lines(&self, stream: Stream, lines: Lines) {
        self.send(LiveKind::Lines(stream, lines)).await;
    }

    /// How far it is. Lost when the reader is behind: the next one says more.
    pub fn progress(&self, message: String, current: u32, total: Option<u32>) {
        let kind = LiveKind::Progress { message, current, total };
        let _ = self.live.try_send(self.says(kind));
    }

    /// Markdown to be shown with the run.
    pub async fn summary(&self, markdown: String) {
        self.send(LiveKind::Summary(markdown)).await;
    }

    /// The key of the attempt's result in the cache, and the run whose result is taken for it, if there is one.
    pub async fn cache(&self, key: String, found: Option<RunId>) {
        self.send(LiveKind::Cache { key, found }).await;
    }

    /// A finding.
    pub async fn problem(&self, problem: Problem) {
        self.send(LiveKind::Problem(problem)).await;
    }

    /// Must be called before each effect beyond this machine, as in `push local/app`. The effect may follow only when
    /// this allows it: then it is in the journal that it was about to happen.
    ///
    /// # Errors
    /// When another attempt holds the environment by now, or when the journal can't be written.
    pub async fn effect(&self, what: String) -> Result<(), EffectRefused> {
        let (answer, answered) = oneshot::channel();
        self.send(LiveKind::Effect { what, answer }).await;
        answered.await.unwrap_or(Err(EffectRefused::Unrecorded))
    }

    async fn send(&self, kind: LiveKind) {
        if let Some(tap) = &self.tap {
            tap.said(&kind);
        }
        // The receiver is closed only when the loop itself is gone, and then nothing is lost that could be kept.
        let _ = self.live.send(self.says(kind)).await;
    }

    fn says(&self, kind: LiveKind) -> Live {
        Live { stage: self.stage, attempt: self.attempt, launch: self.launch, kind }
    }
}

/// Why an effect must not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectRefused {
    /// Another attempt holds the environment by now.
    #[error("another attempt has taken over the environment `{0}`: this one comes too late")]
    Superseded(String),
    /// What can't be recorded must not be done.
    #[error("the effect can't be recorded in the journal, and so must not happen")]
    Unrecorded,
}

/// Something a running attempt said.
#[derive(Debug)]
pub struct Live {
    /// The stage.
    pub stage: StageIndex,
    /// Which try.
    pub attempt: u32,
    /// Which call of the plugin: an attempt that was left behind may still speak when it is asked about.
    pub launch: u64,
    /// What it said.
    pub kind: LiveKind,
}

/// What a running attempt can say.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is the event of the same name")]
pub enum LiveKind {
    Lines(Stream, Lines),
    Progress { message: String, current: u32, total: Option<u32> },
    Summary(String),
    Cache { key: String, found: Option<RunId> },
    Problem(Problem),
    Effect { what: String, answer: oneshot::Sender<Result<(), EffectRefused>> },
}
