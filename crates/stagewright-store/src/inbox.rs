//! What one process leaves for another that drives a run: answers to gates, and requests to end.
//!
//! Both are handed out once per handle, and leave the database only in the transaction that records what came of them.
//! What was taken by a process that then died is there for the next.

use stagewright_engine::{Decision, RunId, StoreError};
use stagewright_model::StageIndex;

use crate::Store;
use crate::history::json;

impl Store {
    /// Leaves an answer for the process that drives the run, or will resume it. It is on disk once this returns.
    ///
    /// # Errors
    /// When there is no such run, and whatever the disk refuses.
    pub fn put_decision(&mut self, run: &RunId, stage: StageIndex, decision: &Decision) -> Result<(), StoreError> {
        let text = serde_json::to_string(decision).map_err(|error| StoreError {
            message: format!("can't write the decision on run {run} as JSON"),
            help: None,
            source: Some(Box::new(error)),
        })?;
        self.durably(format_args!("leave a decision for run {run}"), |transaction| {
            transaction
                .execute("INSERT INTO decisions (run, stage, decision) VALUES (?1, ?2, ?3)", (&run.0, stage.0, text))
        })?;
        Ok(())
    }

    /// The answers that were left for `run`, oldest first. An answer is gone once its event is recorded.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn take_decisions(&mut self, run: &RunId) -> Result<Vec<(StageIndex, Decision)>, StoreError> {
        let query = || {
            let mut statement = self
                .connection
                .prepare_cached("SELECT number, stage, decision FROM decisions WHERE run = ?1 ORDER BY number")?;
            statement
                .query_map([&run.0], |row| Ok((row.get(0)?, StageIndex(row.get(1)?), json(row, 2)?)))?
                .collect::<rusqlite::Result<Vec<(i64, StageIndex, Decision)>>>()
        };
        let waiting = query().map_err(self.failed(format_args!("read the decisions for run {run}")))?;
        Ok(waiting
            .into_iter()
            .filter(|(number, ..)| self.delivered.insert(*number))
            .map(|(_, stage, decision)| (stage, decision))
            .collect())
    }

    /// Asks the process that drives the run, or will resume it, to end it. It is on disk once this returns. False when
    /// the run has ended or isn't there, and there is nobody to ask.
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
}
