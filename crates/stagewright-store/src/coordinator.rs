//! Which run holds an environment or a concurrency group.
//!
//! A request for an environment is decided in one exclusive transaction, by the first of these rules that applies:
//!
//! An environment and all of its regions are one lock, which the environment's row has. Who holds it, which run acted last and
//! an unfinished rollout in any of the regions count for all of them; each region has a fence of its own, and a row for it. A
//! fence of a region is valid as long as no other run has acquired any of them since.
//!
//! 1. The environment is frozen, and the request doesn't override the freeze: *frozen*. This comes first because a
//!    person decided it about the environment itself, so it applies to every run.
//! 2. A newer run has acquired the environment before: *superseded*. This comes before the holder is checked, because
//!    waiting for the holder wouldn't help. Runs are ordered by [`create_run`](Store::create_run), not by a clock.
//! 3. Another run holds it and is alive: *held*.
//! 4. Another run has an unfinished rollout there, and the request doesn't take over: *held*, although no process drives
//!    that run. It comes after the holder, because no one takes over from a run that is being driven.
//! 5. Otherwise it is *granted*, under a fence that is one greater than the last.
//!
//! A run is alive if a process drives it (it holds the run's [`RunLock`](crate::RunLock), which ends with the process)
//! and its last heartbeat is at most [`LEASE`](stagewright_engine::LEASE) old. An environment is therefore free as soon
//! as the process of its holder dies, and after the lease if that process hangs. If a hanging process wakes up later,
//! its stale fence keeps it from having an effect. A heartbeat in the future was given before the clock was set back,
//! and counts as current.

use std::collections::{BTreeMap, BTreeSet};

use stagewright_engine::{
    EnvironmentAnswer, EnvironmentRequest, GroupAnswer, GroupRequest, RunCoordinator, RunId, StoreError, Timestamp,
};

use stagewright_model::lock_of;

use crate::error::refused;
use crate::requesting_run::RequestingRun;
use crate::row::integer;
use crate::run_lock::is_alive;
use crate::store::run_directory;
use crate::{Store, environment, group, ledger, rollout};

impl RunCoordinator for Store {
    fn acquire_environment(&mut self, request: &EnvironmentRequest) -> Result<EnvironmentAnswer, StoreError> {
        let requester = self.requesting_run(&request.run)?;
        let (name, directory) = (requester.environment(&request.environment), self.directory.clone());
        let lock = requester.environment(lock_of(&request.environment));
        let doing = format!("acquire environment `{}` for run {}", request.environment, request.run);
        self.durably(format_args!("{doing}"), |transaction| {
            let state = environment::state(transaction, &lock, requester.rehearsal)?;
            let own = environment::state(transaction, &name, requester.rehearsal)?;
            if !request.override_freeze
                && let Some(freeze) = state.active_freeze(request.at).or_else(|| own.active_freeze(request.at))
            {
                let reason = format!("{}, by {}", freeze.reason, freeze.by);
                return Ok(EnvironmentAnswer::Frozen { until: freeze.until, reason });
            }
            if let (number, Some(by)) = state.last
                && requester.number < number
            {
                return Ok(EnvironmentAnswer::Superseded { by });
            }
            if let Some((by, beat)) = state.holder
                && by != requester.run
                && is_alive(&run_directory(&directory, &by), beat, request.at)
            {
                return Ok(EnvironmentAnswer::Held { by });
            }
            if !request.take_over
                && let Some(by) = rollout::open_by_another(transaction, &lock, requester.rehearsal, &requester.run)?
            {
                return Ok(EnvironmentAnswer::Held { by });
            }
            // All regions draw from one sequence, so that a region that becomes an environment of its own, or the other way
            // round, goes on with greater fences than its target has seen.
            let fence = state.fence.max(own.fence) + 1;
            transaction
                .prepare_cached(
                    "INSERT INTO environments (name, rehearsal, fence, last_number, last_run, holder, beat)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)
                     ON CONFLICT DO UPDATE SET
                         fence = ?3, last_number = ?4, last_run = ?5, holder = ?5, beat = ?6",
                )?
                .execute((
                    &lock,
                    requester.rehearsal,
                    integer(fence),
                    integer(requester.number),
                    &requester.run.0,
                    integer(request.at.0),
                ))?;
            if name != lock {
                transaction
                    .prepare_cached(
                        "INSERT INTO environments (name, rehearsal, fence, last_number, last_run)
                         VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT DO UPDATE SET fence = ?3, last_number = ?4, last_run = ?5",
                    )?
                    .execute((
                        &name,
                        requester.rehearsal,
                        integer(fence),
                        integer(requester.number),
                        &requester.run.0,
                    ))?;
            }
            let rehearsal = requester.rehearsal.then_some(&requester.run);
            let releases =
                ledger::environment_releases(transaction, &request.environment, rehearsal, Some(&requester.run))?;
            Ok(EnvironmentAnswer::Granted {
                fence,
                current: releases.current.map(|row| row.release),
                standing: match requester.rehearsal {
                    true => ledger::environment_releases(transaction, &request.environment, None, None)?
                        .current
                        .map(|row| Box::new(row.release)),
                    false => None,
                },
                last_known_good: releases.last_known_good.map(|row| row.release),
                restored: ledger::restored_by(transaction, &requester.run, &request.environment)?
                    .map(|row| Box::new(row.release)),
            })
        })
    }

    fn holds(&mut self, run: &RunId, environment: &str, fence: u64) -> Result<bool, StoreError> {
        let requester = self.requesting_run(run)?;
        let state = |name: &str| {
            environment::state(&self.connection, &requester.environment(name), requester.rehearsal)
                .map_err(self.failed(format_args!("read the fence of environment `{environment}`")))
        };
        let (_, last) = state(lock_of(environment))?.last;
        Ok(state(environment)?.fence == fence && last.as_ref() == Some(run))
    }

    fn current_releases(
        &mut self,
        run: &RunId,
        environments: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, u64>, StoreError> {
        let requester = self.requesting_run(run)?;
        let rehearsal = requester.rehearsal.then_some(&requester.run);
        let find = |name: &String| -> rusqlite::Result<Option<(String, u64)>> {
            let releases = ledger::environment_releases(&self.connection, name, rehearsal, Some(&requester.run))?;
            Ok(releases.current.map(|row| (name.clone(), row.release.fence)))
        };
        let found: rusqlite::Result<Vec<_>> = environments.iter().filter_map(|name| find(name).transpose()).collect();
        let found = found.map_err(self.failed(&format!("find what run {run} would replace")))?;
        Ok(found.into_iter().collect())
    }

    fn release_environment(&mut self, run: &RunId, environment: &str) -> Result<(), StoreError> {
        let name = self.requesting_run(run)?.environment(lock_of(environment));
        self.durably(format_args!("release environment `{environment}` for run {run}"), |transaction| {
            transaction
                .prepare_cached("UPDATE environments SET holder = NULL, beat = NULL WHERE name = ?1 AND holder = ?2")?
                .execute((&name, &run.0))
        })?;
        Ok(())
    }

    /// Doesn't affect environments that another run has acquired since.
    fn heartbeat(&mut self, run: &RunId, now: Timestamp) -> Result<(), StoreError> {
        self.durably(format_args!("record a heartbeat of run {run}"), |transaction| {
            transaction
                .prepare_cached("UPDATE environments SET beat = ?2 WHERE holder = ?1")?
                .execute((&run.0, integer(now.0)))
        })?;
        Ok(())
    }

    fn enter_group(&mut self, request: &GroupRequest) -> Result<GroupAnswer, StoreError> {
        let requester = self.requesting_run(&request.run)?;
        let directory = self.directory.clone();
        self.durably(
            format_args!("enter concurrency group `{}` for run {}", request.group, request.run),
            |transaction| group::enter(transaction, &directory, &requester, request),
        )
    }

    fn leave_group(&mut self, run: &RunId, group: &str) -> Result<(), StoreError> {
        let requester = self.requesting_run(run)?;
        let directory = self.directory.clone();
        self.durably(format_args!("leave concurrency group `{group}` for run {run}"), |transaction| {
            group::leave(transaction, &directory, &requester, group)
        })
    }
}

impl Store {
    fn requesting_run(&self, run: &RunId) -> Result<RequestingRun, StoreError> {
        let query = || {
            let mut statement = self.connection.prepare_cached("SELECT number, rehearsal FROM runs WHERE id = ?1")?;
            let mut rows = statement.query([&run.0])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let number = row.get::<_, i64>(0)?.cast_unsigned();
            rusqlite::Result::Ok(Some(RequestingRun { run: run.clone(), number, rehearsal: row.get(1)? }))
        };
        query().map_err(self.failed(format_args!("read run {run}")))?.ok_or_else(|| {
            refused(
                format!("{} has no run {run}", self.database().display()),
                "create the run before it requests an environment or a group",
            )
        })
    }
}
