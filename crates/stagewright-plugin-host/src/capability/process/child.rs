//! Handles of running children.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stagewright_process::{ExitStatus, Group};
use tokio::sync::watch;

use super::output::{Captured, ChildEnd, Chunk, Room, permits};
use crate::error::{CapabilityError, ErrorCode};
use crate::limits::ByteSize;
use crate::stop::Cancel;

/// The handle of a child that a guest has started.
#[derive(Debug)]
pub struct ChildHandle {
    pub(super) program: String,
    pub(super) group: Group,
    pub(super) end: watch::Receiver<Option<ChildEnd>>,
    pub(super) captured: Option<Arc<Mutex<Captured>>>,
    pub(super) room: Room,
    /// The limit of the captured output, once the child has exceeded it.
    pub(super) overflow: watch::Receiver<Option<u64>>,
}

impl Drop for ChildHandle {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl ChildHandle {
    /// Waits until the child has ended. From now on its output is captured even if the guest doesn't read any.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.room.close();
        let mut end = self.end.clone();
        // This fails when the child's task is gone, and the child with it, which is an end too.
        async move { drop(end.wait_for(Option::is_some).await) }
    }

    pub(crate) fn kill(&self) {
        self.group.kill();
    }

    pub(crate) async fn wait(&mut self) -> Result<ExitStatus, CapabilityError> {
        self.room.close();
        let end = match self.end.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => None,
        };
        let program = &self.program;
        match end {
            Some(ChildEnd::Exited(status)) => Ok(status),
            Some(ChildEnd::TimedOut(limit)) => Err(CapabilityError::new(
                ErrorCode::DeadlineExceeded,
                format!("`{program}` took longer than {limit:?} and was killed"),
            )),
            Some(ChildEnd::Lost(why)) => {
                Err(CapabilityError::new(ErrorCode::Internal, format!("`{program}` was lost: {why}")))
            }
            None => Err(self.stopped()),
        }
    }

    /// Waits until the child has ended. Unless it succeeded, a child whose stage is being cancelled counts as stopped: its
    /// status is a consequence of the signal that it got, whatever it is, and a plugin would report a crash.
    pub(crate) async fn wait_unless_stopped(&mut self, cancel: &Cancel) -> Result<ExitStatus, CapabilityError> {
        let ended = self.wait().await;
        // Checked after the end, because cancellation may have been requested while the plugin waited.
        match ended {
            _ if !cancel.is_set() => ended,
            Ok(ExitStatus { code: Some(0), signal: None }) => ended,
            _ => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> CapabilityError {
        CapabilityError::new(ErrorCode::Cancelled, format!("`{}` was stopped with its stage", self.program))
    }

    fn captured(&self) -> Result<Arc<Mutex<Captured>>, CapabilityError> {
        self.captured.clone().ok_or_else(|| {
            let message = format!("the output of `{}` isn't captured", self.program);
            CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help("call `capture` before `spawn`")
        })
    }

    /// Waits until [`ChildHandle::next_chunk`] returns without waiting, be it with an error.
    pub(crate) fn readable(&self) -> impl Future<Output = ()> + Send + use<> {
        let captured = self.captured.clone();
        async move {
            if let Some(captured) = captured {
                poll_fn(|context| lock(&captured).poll_ready(context)).await;
            }
        }
    }

    pub(crate) async fn next_chunk(&mut self) -> Result<Option<Chunk>, CapabilityError> {
        let program = &self.program;
        let captured = self.captured()?;
        if let Some(chunk) = poll_fn(|context| lock(&captured).take(context)).await {
            self.room.add_permits(permits(&chunk.1) as usize);
            return Ok(Some(chunk));
        }
        match *self.overflow.borrow() {
            None => Ok(None),
            Some(limit) => {
                let limit = ByteSize(limit);
                let message = format!("the output of `{program}` exceeds the capture limit of {limit}");
                Err(CapabilityError::new(ErrorCode::ResourceExhausted, message))
            }
        }
    }
}

fn lock(captured: &Mutex<Captured>) -> MutexGuard<'_, Captured> {
    captured.lock().unwrap_or_else(PoisonError::into_inner)
}
