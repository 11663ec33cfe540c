//! What an attempt reports while it runs.
//!
//! A message is data, and can be serialised: an attempt may run in another process than the engine. What it takes to
//! deliver one within this process, channels, is in [`Delivery`] and [`AttemptOutput`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};
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
    deliveries: mpsc::Sender<Delivery>,
    listener: Option<Arc<dyn OutputListener>>,
}

/// Sees what an attempt reports, beside the engine's loop.
pub trait OutputListener: Send + Sync + std::fmt::Debug {
    /// Called before the message is sent, in the order of sending. Progress is left out: it may be dropped on the way, so
    /// the listener could see what the run's observers never do.
    fn on_output(&self, message: &AttemptMessageKind);
}

impl AttemptOutput {
    /// For one attempt of a stage. The channel's bound is what slows down a stage that logs faster than its log can be
    /// written.
    pub fn new(stage: StageIndex, attempt: u32, deliveries: mpsc::Sender<Delivery>) -> AttemptOutput {
        AttemptOutput { stage, attempt, launch: 0, deliveries, listener: None }
    }

    /// The same, with a listener in place of the one that it may have.
    #[must_use]
    pub fn with_listener(self, listener: Arc<dyn OutputListener>) -> AttemptOutput {
        AttemptOutput { listener: Some(listener), ..self }
    }

    /// Tells this call of the plugin from others for the same attempt.
    pub(crate) fn of_launch(self, launch: u64) -> AttemptOutput {
        AttemptOutput { launch, ..self }
    }

    /// Complete lines, masked. Waits while the reader is behind.
    pub async fn lines(&self, stream: Stream, lines: Lines) {
        self.send(AttemptMessageKind::Lines(stream, lines)).await;
    }

    /// How far it is. Dropped while the reader is behind: the next one supersedes it.
    pub fn progress(&self, message: String, current: u32, total: Option<u32>) {
        let kind = AttemptMessageKind::Progress { message, current, total };
        let _ = self.deliveries.try_send(Delivery { message: self.message(kind), reply: None });
    }

    /// Markdown to be shown with the run.
    pub async fn summary(&self, markdown: String) {
        self.send(AttemptMessageKind::Summary(markdown)).await;
    }

    /// The key of the attempt's result in the cache, and, for a hit, the run that made the result.
    pub async fn cache(&self, key: String, hit_from: Option<RunId>) {
        self.send(AttemptMessageKind::CacheLookedUp { key, hit_from }).await;
    }

    /// A finding.
    pub async fn problem(&self, problem: Problem) {
        self.send(AttemptMessageKind::Problem(problem)).await;
    }

    /// Must be called before each effect beyond this machine, as in `push local/app`. The effect may follow only when
    /// this allows it: then it is in the journal that it was about to happen.
    ///
    /// # Errors
    /// When another attempt holds the environment by now, or when the journal can't be written.
    pub async fn effect(&self, what: String) -> Result<(), EffectRefused> {
        let (reply, replied) = oneshot::channel();
        self.send_with(AttemptMessageKind::EffectRequested { what }, Some(reply)).await;
        replied.await.unwrap_or(Err(EffectRefused::Unrecorded))
    }

    async fn send(&self, kind: AttemptMessageKind) {
        self.send_with(kind, None).await;
    }

    async fn send_with(&self, kind: AttemptMessageKind, reply: Option<EffectReply>) {
        if let Some(listener) = &self.listener {
            listener.on_output(&kind);
        }
        // The receiver is closed only when the loop itself is gone, and then nothing is lost that could be kept.
        let _ = self.deliveries.send(Delivery { message: self.message(kind), reply }).await;
    }

    fn message(&self, kind: AttemptMessageKind) -> AttemptMessage {
        AttemptMessage { stage: self.stage, attempt: self.attempt, launch: self.launch, kind }
    }
}

/// Why an effect must not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectRefused {
    /// Another attempt holds the environment by now.
    #[error("another attempt has taken over the environment `{0}`: this one comes too late")]
    Superseded(String),
    /// What can't be recorded must not be done.
    #[error("the effect can't be recorded in the journal, and so must not happen")]
    Unrecorded,
}

/// Takes the answer to [`AttemptMessageKind::EffectRequested`].
pub type EffectReply = oneshot::Sender<Result<(), EffectRefused>>;

/// A message on its way to the engine's loop.
#[derive(Debug)]
pub struct Delivery {
    /// What is reported.
    pub message: AttemptMessage,
    /// Some for [`AttemptMessageKind::EffectRequested`] alone: the attempt waits for the answer. A request that is dropped
    /// unanswered counts as refused.
    pub reply: Option<EffectReply>,
}

/// What a running attempt reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AttemptMessage {
    /// Position in the plan.
    pub stage: StageIndex,
    /// 1 for the first try.
    pub attempt: u32,
    /// Counts the calls of plugins in this process of the run. One attempt may have several, as when its plugin is asked
    /// about an attempt that was left behind and may still be reporting.
    pub launch: u64,
    /// What it is about.
    pub kind: AttemptMessageKind,
}

/// The kinds of [`AttemptMessage`]s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[expect(missing_docs, reason = "each is the event of the same name")]
pub enum AttemptMessageKind {
    Lines(Stream, Lines),
    Progress { message: String, current: u32, total: Option<u32> },
    Summary(String),
    CacheLookedUp { key: String, hit_from: Option<RunId> },
    Problem(Problem),
    EffectRequested { what: String },
}
