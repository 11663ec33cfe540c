//! Cancels runs.

use stagewright_cache::Mode;
use stagewright_engine::RunId;
use stagewright_store::{RunFilter, RunPhase};

use crate::cache::CacheOptions;
use crate::drive::Run;
use crate::error::SessionError;
use crate::resume::ResumeOptions;
use crate::session::Session;
use crate::start::RunOptions;

/// The result of cancelling a run.
pub enum Cancelled {
    /// The cancel request was stored for the process that drives the run.
    Requested(RunId),
    /// The run was suspended, and no process drives it. It ends when this is driven.
    Waiting(Box<Run>),
}

impl Session {
    /// Cancels a run. `run` is its id, a unique prefix of its id, or `latest`.
    ///
    /// # Errors
    /// If the run has ended or was interrupted.
    pub async fn cancel(&self, run: &str, why: Option<&str>) -> Result<Cancelled, SessionError> {
        let (run, state) = self.request_cancel(run, why)?;
        if state == RunPhase::Running {
            return Ok(Cancelled::Requested(run));
        }
        let request = ResumeOptions {
            reason: "to be cancelled".to_owned(),
            from: Vec::new(),
            accept_changes: true,
            options: RunOptions {
                cache: CacheOptions { mode: Mode::Off, ..CacheOptions::default() },
                ..RunOptions::default()
            },
        };
        let run = self.resume_run(&run.0, &request).await?;
        Ok(Cancelled::Waiting(Box::new(run)))
    }

    fn request_cancel(&self, run: &str, why: Option<&str>) -> Result<(RunId, RunPhase), SessionError> {
        let store = self.store()?;
        let mut store = store.lock();
        let run = store.find(run)?;
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let reason = format!("cancelled by {}{why}", self.user_name());
        let row = store.list(&RunFilter::default())?.into_iter().find(|row| row.id == run);
        let state = row.map_or(RunPhase::Interrupted, |row| row.state);
        match state {
            RunPhase::Ended(outcome) => {
                Err(SessionError::not_ready(format!("run {run} has already {}", outcome.as_str())))
            }
            RunPhase::Interrupted => {
                Err(SessionError::not_ready(format!("run {run} was interrupted and is not running"))
                    .hint(format!("to continue it, run: stagewright resume {run}")))
            }
            RunPhase::Running | RunPhase::Waiting => {
                store.request_cancel(&run, &reason)?;
                Ok((run, state))
            }
        }
    }
}
