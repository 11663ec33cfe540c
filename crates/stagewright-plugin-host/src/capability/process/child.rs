//! Handles of running children.

use stagewright_process::{ExitStatus, Group};
use tokio::sync::{mpsc, watch};

use super::output::{ChildEnd, Chunk, Room, permits};
use crate::error::{CapabilityError, ErrorCode};
use crate::limits::ByteSize;

/// The handle of a child that a guest has started.
#[derive(Debug)]
pub struct ChildHandle {
    pub(super) program: String,
    pub(super) group: Group,
    pub(super) end: watch::Receiver<Option<ChildEnd>>,
    pub(super) captured: Option<mpsc::UnboundedReceiver<Chunk>>,
    pub(super) room: Room,
    /// The limit of the captured output, once the child has exceeded it.
    pub(super) overflow: watch::Receiver<Option<u32>>,
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

    /// The end of a child whose stage is being cancelled. Unless the child succeeded, it counts as stopped: its status is a
    /// consequence of the signal that it got, whatever it is.
    pub(crate) fn unless_stopped(
        &self,
        ended: Result<ExitStatus, CapabilityError>,
    ) -> Result<ExitStatus, CapabilityError> {
        match ended {
            Ok(ExitStatus { code: Some(0), signal: None }) => ended,
            _ => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> CapabilityError {
        CapabilityError::new(ErrorCode::Cancelled, format!("`{}` was stopped with its stage", self.program))
    }

    pub(crate) async fn next_chunk(&mut self) -> Result<Option<Chunk>, CapabilityError> {
        let program = &self.program;
        let Some(captured) = &mut self.captured else {
            let message = format!("the output of `{program}` isn't captured");
            return Err(
                CapabilityError::new(ErrorCode::FailedPrecondition, message).with_help("call `capture` before `spawn`")
            );
        };
        if let Some(chunk) = captured.recv().await {
            self.room.add_permits(permits(&chunk.1) as usize);
            return Ok(Some(chunk));
        }
        match *self.overflow.borrow() {
            None => Ok(None),
            Some(limit) => {
                let limit = ByteSize(limit.into());
                let message = format!("the output of `{program}` exceeds the capture limit of {limit}");
                Err(CapabilityError::new(ErrorCode::ResourceExhausted, message))
            }
        }
    }
}
