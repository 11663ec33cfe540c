//! Starts the services of the `process` target again after a restart of the machine.
//!
//! What keeps them running are processes of this machine, which a restart ends. A service is deployed again, in a run of its
//! own, rather than started from what is left on disk: its secrets were in memory only, and the deploy has its checks.

use stagewright_store::ReleaseRow;

use crate::clock::SystemClock;
use crate::drive::Run;
use crate::error::SessionError;
use crate::session::Session;
use crate::start::RunOptions;

/// A service that would run if the machine hadn't been restarted, or its supervisor killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostService {
    /// The environment.
    pub environment: String,
    /// Its name there.
    pub service: String,
}

impl Session {
    /// The services that no process keeps running any more, although they weren't stopped.
    ///
    /// # Errors
    /// If the state of a service can't be read.
    pub async fn lost_services(&self) -> Result<Vec<LostService>, SessionError> {
        let statuses = self
            .services()
            .status(false)
            .await
            .map_err(|error| SessionError::not_ready("can't tell which services run").caused_by(error))?;
        let lost = statuses.into_iter().filter(|status| status.is_lost);
        Ok(lost.map(|status| LostService { environment: status.environment, service: status.service }).collect())
    }

    /// Prepares a run that deploys a service again, which is the current release of its environment.
    ///
    /// # Errors
    /// If the ledger has no release of it, or another one since, if a rollout hasn't finished, and as for
    /// [`roll_back`](Session::roll_back).
    pub async fn restore_service(&self, lost: &LostService, options: &RunOptions) -> Result<Run, SessionError> {
        let LostService { environment, service } = lost;
        let store = self.store()?;
        let rows = store.lock().environments(false, SystemClock::timestamp())?;
        let row = rows.into_iter().find(|row| row.name == *environment);
        if let Some(rollout) = row.as_ref().and_then(|row| row.rollout.as_ref())
            && !rollout.rollout.phase.is_finished()
        {
            let message = format!("the rollout of {environment} hasn't finished");
            return Err(SessionError::not_ready(message).hint(format!(
                "continue it with `stagewright resume {}`, or go back with `stagewright rollout abort {environment}`",
                rollout.run
            )));
        }
        let is_of_service = |current: &ReleaseRow| current.release.config["service"] == service.as_str();
        let current = row.and_then(|row| row.current).filter(is_of_service).ok_or_else(|| {
            SessionError::not_ready(format!("the current release of {environment} isn't one of {service}"))
                .hint("deploy it in a new run")
        })?;
        self.roll_back(&[current], options).await
    }
}
