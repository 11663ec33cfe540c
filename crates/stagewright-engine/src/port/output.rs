//! What an attempt reports while it runs.
//!
//! Messages are plain data and can be serialised, because an attempt may run in another process than the engine. The
//! channels that deliver them within this process are in [`Delivery`] and [`AttemptOutput`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stagewright_model::StageIndex;
use tokio::sync::{mpsc, oneshot};

use crate::event::{Metric, Problem, Rollout, RunId, Stream, TestCase};
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

/// Receives what an attempt reports, in addition to the engine's loop.
pub trait OutputListener: Send + Sync + std::fmt::Debug {
    /// Called before each message is sent, in order. Not called for progress, which may be dropped before it reaches
    /// the run's observers: the listener must not see more than they do.
    fn on_output(&self, message: &AttemptMessageKind);
}

impl AttemptOutput {
    /// For one attempt of a stage. The channel's bound is what slows down a stage that logs faster than its log can be
    /// written.
    pub fn new(stage: StageIndex, attempt: u32, deliveries: mpsc::Sender<Delivery>) -> AttemptOutput {
        AttemptOutput { stage, attempt, launch: 0, deliveries, listener: None }
    }

    /// Sets the listener, replacing an earlier one.
    #[must_use]
    pub fn with_listener(self, listener: Arc<dyn OutputListener>) -> AttemptOutput {
        AttemptOutput { listener: Some(listener), ..self }
    }

    /// Sets the number that distinguishes this call of the plugin from others for the same attempt.
    pub(crate) fn with_launch(self, launch: u64) -> AttemptOutput {
        AttemptOutput { launch, ..self }
    }

    /// Sends complete, masked lines. Waits while the reader is behind.
    pub async fn lines(&self, stream: Stream, lines: Lines) {
        self.send(AttemptMessageKind::Lines(stream, lines)).await;
    }

    /// Sends the attempt's progress. Dropped while the reader is behind, since the next message supersedes it.
    pub fn progress(&self, message: String, current: u64, total: Option<u64>) {
        let kind = AttemptMessageKind::Progress { message, current, total };
        let _ = self.deliveries.try_send(Delivery { message: self.message(kind), reply: None });
    }

    /// Sends Markdown that is shown with the run.
    pub async fn summary(&self, markdown: String) {
        self.send(AttemptMessageKind::Summary(markdown)).await;
    }

    /// Sends the cache key of the attempt's result and, for a hit, the run that produced the result.
    pub async fn cache(&self, key: String, hit_from: Option<RunId>) {
        self.send(AttemptMessageKind::CacheLookedUp { key, hit_from }).await;
    }

    /// Sends a finding.
    pub async fn problem(&self, problem: Problem) {
        self.send(AttemptMessageKind::Problem(problem)).await;
    }

    /// Sends results of tests.
    pub async fn tests(&self, cases: Vec<TestCase>) {
        self.send(AttemptMessageKind::Tests(cases)).await;
    }

    /// Sends figures of the stage.
    pub async fn metrics(&self, metrics: Vec<Metric>) {
        self.send(AttemptMessageKind::Metrics(metrics)).await;
    }

    /// Records the intent to have an effect beyond this machine, as in `push local/app`. Must be called before each
    /// such effect, which may follow only if this returns `Ok`: the intent is then in the journal.
    ///
    /// # Errors
    /// If another attempt holds the environment now, or if the journal can't be written.
    pub async fn effect(&self, what: String) -> Result<(), EffectRefused> {
        let (reply, replied) = oneshot::channel();
        self.send_with(AttemptMessageKind::EffectRequested { what }, Some(reply)).await;
        replied.await.unwrap_or(Err(EffectRefused::Unrecorded))
    }

    /// Records how far the attempt's rollout is. The record is durable once this returns.
    ///
    /// # Errors
    /// If another attempt holds the environment now, or if the journal can't be written.
    pub async fn rollout(&self, rollout: Rollout) -> Result<(), EffectRefused> {
        let (reply, replied) = oneshot::channel();
        self.send_with(AttemptMessageKind::RolloutRecorded(Box::new(rollout)), Some(reply)).await;
        replied.await.unwrap_or(Err(EffectRefused::Unrecorded))
    }

    async fn send(&self, kind: AttemptMessageKind) {
        self.send_with(kind, None).await;
    }

    async fn send_with(&self, kind: AttemptMessageKind, reply: Option<EffectReply>) {
        if let Some(listener) = &self.listener {
            listener.on_output(&kind);
        }
        // The receiver is closed only after the engine's loop has ended, and then there is no journal to record this
        // in.
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
    /// Another attempt holds the environment now.
    #[error("another attempt has acquired the environment `{0}` since this one started")]
    Superseded(String),
    /// The intent couldn't be recorded, so the effect must not happen.
    #[error("the effect was not allowed because it could not be recorded in the journal")]
    Unrecorded,
}

/// Where the answer to a message is sent that the attempt waits for.
pub type EffectReply = oneshot::Sender<Result<(), EffectRefused>>;

/// A message on its way to the engine's loop.
#[derive(Debug)]
pub struct Delivery {
    /// What is reported.
    pub message: AttemptMessage,
    /// Some only for [`AttemptMessageKind::EffectRequested`] and [`AttemptMessageKind::RolloutRecorded`], whose senders
    /// wait for the answer. Dropping it without an answer refuses the effect.
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
    /// Numbers the plugin calls of this process from 1. One attempt can have several, for example when its plugin is
    /// asked about an attempt that was abandoned and may still be reporting.
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
    Progress { message: String, current: u64, total: Option<u64> },
    Summary(String),
    CacheLookedUp { key: String, hit_from: Option<RunId> },
    Problem(Problem),
    Tests(Vec<TestCase>),
    Metrics(Vec<Metric>),
    EffectRequested { what: String },
    RolloutRecorded(Box<Rollout>),
}
