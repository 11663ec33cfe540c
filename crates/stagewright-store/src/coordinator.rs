//! Whose turn it is at an environment, or in a concurrency group.
//!
//! A claim is decided in one transaction that no other process can come between, by the first of these that holds:
//!
//! 1. The environment is frozen, and the freeze isn't overridden for this claim: *frozen*. First, because it is a
//!    person's word about the environment itself, and the same for every run.
//! 2. A newer run has had the environment: *superseded*. Before asking who has it now, because waiting wouldn't help.
//!    Newer is a matter of [`create_run`](Store::create_run)'s order; no clock is asked.
//! 3. Another run has it, and is alive: *held*.
//! 4. Otherwise it is *granted*, under a token that is one more than any before.
//!
//! A run is alive while a process drives it (it has the run's [`RunLock`](crate::RunLock), which ends with the process) and
//! has given a beat within [`LEASE`](stagewright_engine::LEASE). So what a dead process had is free at once; what a
//! process has that lives but hangs is free after a while, and the token keeps it from doing harm if it wakes up. A beat
//! that lies in the future was given before the clock was put back, and counts as just given.

use stagewright_engine::{
    EnvironmentAnswer, EnvironmentRequest, GroupAnswer, GroupRequest, RunCoordinator, RunId, StoreError, Timestamp,
};

use crate::asker::Asker;
use crate::error::refused;
use crate::row::integer;
use crate::run_lock::is_alive;
use crate::store::run_directory;
use crate::{Store, environment, group, ledger};

impl RunCoordinator for Store {
    fn acquire_environment(&mut self, claim: &EnvironmentRequest) -> Result<EnvironmentAnswer, StoreError> {
        let asker = self.asker(&claim.run)?;
        let (name, directory) = (asker.environment(&claim.environment), self.directory.clone());
        let doing = format!("claim environment `{}` for run {}", claim.environment, claim.run);
        self.durably(format_args!("{doing}"), |transaction| {
            let state = environment::state(transaction, &name, asker.rehearsal)?;
            if !claim.override_freeze
                && let Some(freeze) = state.frozen(claim.at)
            {
                let reason = format!("{}, by {}", freeze.reason, freeze.by);
                return Ok(EnvironmentAnswer::Frozen { until: freeze.until, reason });
            }
            if let (number, Some(by)) = state.last
                && asker.number < number
            {
                return Ok(EnvironmentAnswer::Superseded { by });
            }
            if let Some((by, beat)) = state.holder
                && by != asker.run
                && is_alive(&run_directory(&directory, &by), beat, claim.at)
            {
                return Ok(EnvironmentAnswer::Held { by });
            }
            let fence = state.fence + 1;
            transaction
                .prepare_cached(
                    "INSERT INTO environments (name, rehearsal, fence, last_number, last_run, holder, beat)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)
                     ON CONFLICT DO UPDATE SET
                         fence = ?3, last_number = ?4, last_run = ?5, holder = ?5, beat = ?6",
                )?
                .execute((
                    &name,
                    asker.rehearsal,
                    integer(fence),
                    integer(asker.number),
                    &asker.run.0,
                    integer(claim.at.0),
                ))?;
            let rehearsal = asker.rehearsal.then_some(&asker.run);
            let standing = ledger::standing(transaction, &claim.environment, rehearsal, Some(&asker.run))?;
            Ok(EnvironmentAnswer::Granted {
                fence,
                current: standing.current.map(|row| row.release),
                last_known_good: standing.last_known_good.map(|row| row.release),
            })
        })
    }

    fn holds(&mut self, run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError> {
        let asker = self.asker(run)?;
        let state = environment::state(&self.connection, &asker.environment(environment), asker.rehearsal)
            .map_err(self.failed(format_args!("read who has environment `{environment}`")))?;
        Ok(state.fence == fence)
    }

    fn release_environment(&mut self, run: &RunId, environment: &str) -> Result<(), StoreError> {
        let name = self.asker(run)?.environment(environment);
        self.durably(format_args!("let go of environment `{environment}` for run {run}"), |transaction| {
            transaction
                .prepare_cached("UPDATE environments SET holder = NULL, beat = NULL WHERE name = ?1 AND holder = ?2")?
                .execute((&name, &run.0))
        })?;
        Ok(())
    }

    /// Renews nothing that another run has taken by now.
    fn heartbeat(&mut self, run: &RunId, now: Timestamp) -> Result<(), StoreError> {
        self.durably(format_args!("note that run {run} is alive"), |transaction| {
            transaction
                .prepare_cached("UPDATE environments SET beat = ?2 WHERE holder = ?1")?
                .execute((&run.0, integer(now.0)))
        })?;
        Ok(())
    }

    fn enter_group(&mut self, join: &GroupRequest) -> Result<GroupAnswer, StoreError> {
        let asker = self.asker(&join.run)?;
        let directory = self.directory.clone();
        self.durably(format_args!("join concurrency group `{}` for run {}", join.group, join.run), |transaction| {
            group::join(transaction, &directory, &asker, join)
        })
    }

    fn leave_group(&mut self, run: &RunId, group: &str) -> Result<(), StoreError> {
        let asker = self.asker(run)?;
        let directory = self.directory.clone();
        self.durably(format_args!("leave concurrency group `{group}` for run {run}"), |transaction| {
            group::leave(transaction, &directory, &asker, group)
        })
    }
}

impl Store {
    fn asker(&self, run: &RunId) -> Result<Asker, StoreError> {
        let query = || {
            let mut statement = self.connection.prepare_cached("SELECT number, rehearsal FROM runs WHERE id = ?1")?;
            let mut rows = statement.query([&run.0])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let number = row.get::<_, i64>(0)?.cast_unsigned();
            rusqlite::Result::Ok(Some(Asker { run: run.clone(), number, rehearsal: row.get(1)? }))
        };
        query().map_err(self.failed(format_args!("read run {run}")))?.ok_or_else(|| {
            refused(
                format!("{} has no run {run}", self.database().display()),
                "create the run before it asks for anything",
            )
        })
    }
}
