//! The engine's ports: traits that other crates implement.

mod coordinator;
mod output;
mod report;
mod request;
mod store;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

pub use self::coordinator::{
    EnvironmentAnswer, EnvironmentRequest, GroupAnswer, GroupRequest, HEARTBEAT, LEASE, RunCoordinator,
};
pub use self::output::{
    AttemptMessage, AttemptMessageKind, AttemptOutput, Delivery, EffectRefused, EffectReply, OutputListener,
};
pub use self::report::{AttemptEnd, AttemptReport, Drift, Observation, ReleaseNote};
pub use self::request::{
    ApprovedCapture, AttemptRequest, Basis, CacheRequest, Call, CaptureRequest, EarlierResult, EarlierStage,
    EnvironmentView, Need, SourceView,
};
pub use self::store::{LogSink, RunStore, StoreError, StoreErrorKind};
use crate::event::{Capture, Event, Failure, Interrupt, Timestamp};
use crate::lines::LogChunk;

/// Runs attempts.
pub trait StageRunner: Send + Sync {
    /// Runs one attempt until it ends.
    ///
    /// `interrupt` becomes `Some` when the attempt should stop; the future is never dropped to stop it. The future must
    /// resolve within fifteen seconds of [`Interrupt::Graceful`] and within five of [`Interrupt::Kill`], whatever the
    /// stage does. After that the engine abandons the attempt and continues without it. The runner enforces
    /// [`AttemptRequest::timeout`] itself.
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport>;

    /// Captures the files that the stages behind a gate will work on, before the gate opens. `None` if the runner gives
    /// stages no files.
    ///
    /// # Errors
    /// If the files can't be captured, or aren't in the state in which the stages before the gate left them.
    fn capture(&self, _: CaptureRequest) -> BoxFuture<'static, Result<Option<Capture>, Failure>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// The source of time; tests replace it.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
    /// Resolves after the duration.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Receives the events of a run.
pub trait Observer: Send {
    /// Called for every event in order, after it was recorded.
    fn on_event(&mut self, event: &Event);
    /// Called with a chunk of log lines instead of an event for each. Override it to avoid building an event per line.
    fn on_lines(&mut self, chunk: &LogChunk<'_>) {
        chunk.events().for_each(|event| self.on_event(&event));
    }
}
