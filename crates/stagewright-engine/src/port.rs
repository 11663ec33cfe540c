//! What the engine asks of the world: traits that other crates implement.

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
pub use self::report::{AttemptEnd, AttemptReport, Observation, ReleaseNote};
pub use self::request::{
    Approved, AttemptRequest, Basis, CacheRequest, Call, CaptureRequest, EnvironmentView, MadeBefore, StageBefore,
};
pub use self::store::{LogSink, RunStore, StoreError, StoreErrorKind};
use crate::event::{Capture, Event, Failure, Interrupt, Timestamp};
use crate::lines::LogChunk;

/// Runs attempts.
pub trait StageRunner: Send + Sync {
    /// Runs one attempt to its end.
    ///
    /// `interrupt` turns to `Some` when the attempt should stop; dropping the future is never how it is stopped. After
    /// [`Interrupt::Graceful`] the future must be ready within fifteen seconds, after [`Interrupt::Kill`] within five,
    /// whatever the stage does: the engine goes on without it then. The runner enforces
    /// [`AttemptRequest::timeout`] itself.
    fn run(
        &self,
        request: AttemptRequest,
        output: AttemptOutput,
        interrupt: watch::Receiver<Option<Interrupt>>,
    ) -> BoxFuture<'static, AttemptReport>;

    /// Captures the files that stages behind a gate will be given, before people are asked. None where stages have no
    /// files.
    ///
    /// # Errors
    /// When it can't be done, or when the stages before the gate didn't leave them so.
    fn capture(&self, _: CaptureRequest) -> BoxFuture<'static, Result<Option<Capture>, Failure>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Ready after the duration.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Watches a run.
pub trait Observer: Send {
    /// Called for every event in order, after it was recorded.
    fn on_event(&mut self, event: &Event);
    /// Called for the lines of logs in place of their events. An observer that doesn't need an event for each line
    /// overrides this, which saves the time that it takes to make them.
    fn on_lines(&mut self, chunk: &LogChunk<'_>) {
        chunk.events().for_each(|event| self.on_event(&event));
    }
}
