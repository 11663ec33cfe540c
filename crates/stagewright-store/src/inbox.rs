//! What one process leaves for another that drives a run: answers to gates, and requests to end.
//!
//! Both are handed out once per handle, and leave the database only in the transaction that records what came of them.
//! What was taken by a process that then died is there for the next.

use std::collections::HashSet;

use stagewright_engine::{Decision, Event, RunId, StoreError, StoreErrorKind};
use stagewright_model::StageIndex;

use crate::Store;
use crate::row::json;

impl Store {
    /// Leaves an answer for the process that drives the run, or will resume it, unless `check` refuses it. It is on disk
    /// once this returns.
    ///
    /// `check` sees the run's events, and the answers that were left before and that no event tells of yet, oldest first.
    /// Nothing comes between what it sees and this answer: of two people who answer at the same time, the second one's is
    /// checked after the first one's was left.
    ///
    /// # Errors
    /// When there is no such run, and whatever the disk refuses. The inner one is `check`'s.
    pub fn put_decision<T, E>(
        &mut self,
        run: &RunId,
        stage: StageIndex,
        decision: &Decision,
        check: impl FnOnce(&[Event], &[(StageIndex, Decision)]) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        let text = serde_json::to_string(decision).map_err(|error| StoreError {
            kind: StoreErrorKind::Storage,
            message: format!("can't write the decision on run {run} as JSON"),
            help: None,
            source: Some(Box::new(error)),
        })?;
        self.exclusively(format_args!("leave a decision for run {run}"), |store| {
            let waiting = store.left_decisions(run)?.into_iter().map(|(_, stage, decision)| (stage, decision));
            let checked = check(&store.events(run)?, &waiting.collect::<Vec<_>>());
            if checked.is_ok() {
                let insert = "INSERT INTO decisions (run, stage, decision) VALUES (?1, ?2, ?3)";
                let done = store.connection.execute(insert, (&run.0, stage.0, text));
                done.map_err(store.failed(format_args!("leave a decision for run {run}")))?;
            }
            Ok(checked)
        })
    }

    /// Answers that no event tells of yet, with their numbers.
    fn left_decisions(&self, run: &RunId) -> Result<Vec<(i64, StageIndex, Decision)>, StoreError> {
        let query = || {
            let mut statement = self
                .connection
                .prepare_cached("SELECT number, stage, decision FROM decisions WHERE run = ?1 ORDER BY number")?;
            statement
                .query_map([&run.0], |row| Ok((row.get(0)?, StageIndex(row.get(1)?), json(row, 2)?)))?
                .collect::<rusqlite::Result<Vec<(i64, StageIndex, Decision)>>>()
        };
        query().map_err(self.failed(format_args!("read the decisions for run {run}")))
    }

    /// The answers that were left for `run`, oldest first. An answer is gone once its event is recorded.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn take_decisions(&mut self, run: &RunId) -> Result<Vec<(StageIndex, Decision)>, StoreError> {
        let waiting = self.left_decisions(run)?;
        Ok(waiting
            .into_iter()
            .filter(|(number, ..)| self.delivered.insert(*number))
            .map(|(_, stage, decision)| (stage, decision))
            .collect())
    }

    /// Asks the process that drives the run, or will resume it, to end it. It is on disk once this returns. False when
    /// the run has ended or isn't there, and can't be asked.
    ///
    /// # Errors
    /// Whatever the disk refuses.
    pub fn request_cancel(&mut self, run: &RunId, reason: &str) -> Result<bool, StoreError> {
        let left = self.durably(format_args!("ask run {run} to end"), |transaction| {
            transaction.execute(
                "INSERT INTO cancels (run, reason) SELECT id, ?2 FROM runs WHERE id = ?1 AND conclusion IS NULL",
                (&run.0, reason),
            )
        })?;
        Ok(left > 0)
    }

    /// Why `run` was asked to end, oldest request first. Requests are gone once the run has ended.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn take_cancels(&mut self, run: &RunId) -> Result<Vec<String>, StoreError> {
        let query = || {
            let mut statement =
                self.connection.prepare_cached("SELECT number, reason FROM cancels WHERE run = ?1 ORDER BY number")?;
            statement
                .query_map([&run.0], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(i64, String)>>>()
        };
        let waiting = query().map_err(self.failed(format_args!("read the requests to end run {run}")))?;
        let new = waiting.into_iter().filter(|(number, _)| self.delivered_cancels.insert(*number));
        Ok(new.map(|(_, reason)| reason).collect())
    }

    /// Hands out once more what this handle has taken for `run` and no event tells of: to be called before the run is
    /// driven again through the same handle.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn redeliver(&mut self, run: &RunId) -> Result<(), StoreError> {
        let numbers = |query| {
            let mut statement = self.connection.prepare_cached(query)?;
            statement.query_map([&run.0], |row| row.get(0))?.collect::<rusqlite::Result<HashSet<i64>>>()
        };
        let left = || {
            let decisions = numbers("SELECT number FROM decisions WHERE run = ?1")?;
            Ok((decisions, numbers("SELECT number FROM cancels WHERE run = ?1")?))
        };
        let left: rusqlite::Result<_> = left();
        let (decisions, cancels) = left.map_err(self.failed(format_args!("read what was left for run {run}")))?;
        self.delivered.retain(|number| !decisions.contains(number));
        self.delivered_cancels.retain(|number| !cancels.contains(number));
        Ok(())
    }
}
