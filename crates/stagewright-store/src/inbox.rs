//! Messages from other processes to the one that drives a run: answers to gates, signals, and cancel requests.
//!
//! Each message is delivered once per handle. It is deleted only in the transaction that records the event that it led
//! to, so that a message to a process that died before is delivered to the next one that drives the run.

use std::collections::HashSet;

use stagewright_engine::{Decision, Event, RunId, Signal, StoreError, StoreErrorKind};
use stagewright_model::StageIndex;

use crate::Store;
use crate::row::json;

impl Store {
    /// Stores an answer for the process that drives the run or will resume it, unless `check` refuses it. The answer is
    /// on disk once this returns.
    ///
    /// `check` gets the run's events, and the earlier answers that aren't in an event yet, oldest first. The check and
    /// the insertion are in one exclusive transaction: if two people answer at the same time, the second answer is
    /// checked with the first one already stored.
    ///
    /// # Errors
    /// If the run doesn't exist, or the database can't be read or written. The inner error is that of `check`.
    pub fn put_decision<T, E>(
        &mut self,
        run: &RunId,
        stage: StageIndex,
        decision: &Decision,
        check: impl FnOnce(&[Event], &[(StageIndex, Decision)]) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        let text = serde_json::to_string(decision).map_err(not_json("decision on", run))?;
        self.exclusively(format_args!("store a decision for run {run}"), |store| {
            let waiting = store.pending_decisions(run)?.into_iter().map(|(_, stage, decision)| (stage, decision));
            let checked = check(&store.events(run)?, &waiting.collect::<Vec<_>>());
            if checked.is_ok() {
                let insert = "INSERT INTO decisions (run, stage, decision) VALUES (?1, ?2, ?3)";
                let done = store.connection.execute(insert, (&run.0, stage.0, text));
                done.map_err(store.failed(format_args!("store a decision for run {run}")))?;
            }
            Ok(checked)
        })
    }

    /// The answers that aren't in an event yet, with their row numbers.
    fn pending_decisions(&self, run: &RunId) -> Result<Vec<(i64, StageIndex, Decision)>, StoreError> {
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

    /// Returns the answers for `run` that this handle hasn't returned yet, oldest first. An answer is deleted once its
    /// event is recorded.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn take_decisions(&mut self, run: &RunId) -> Result<Vec<(StageIndex, Decision)>, StoreError> {
        let waiting = self.pending_decisions(run)?;
        Ok(waiting
            .into_iter()
            .filter(|(number, ..)| self.delivered.insert(*number))
            .map(|(_, stage, decision)| (stage, decision))
            .collect())
    }

    /// Stores a signal for the process that drives the run or will resume it, unless `check` refuses it. The signal is on
    /// disk once this returns; its number is assigned here.
    ///
    /// `check` gets the run's events, and the earlier signals that aren't in an event yet, oldest first, as for
    /// [`Store::put_decision`].
    ///
    /// # Errors
    /// If the run doesn't exist, or the database can't be read or written. The inner error is that of `check`.
    pub fn put_signal<T, E>(
        &mut self,
        run: &RunId,
        signal: &Signal,
        check: impl FnOnce(&[Event], &[Signal]) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        let text =
            serde_json::to_string(&Signal { number: 0, ..signal.clone() }).map_err(not_json("signal to", run))?;
        self.exclusively(format_args!("store a signal for run {run}"), |store| {
            let checked = check(&store.events(run)?, &store.pending_signals(run)?);
            if checked.is_ok() {
                let insert = "INSERT INTO signals (run, signal) VALUES (?1, ?2)";
                let done = store.connection.execute(insert, (&run.0, text));
                done.map_err(store.failed(format_args!("store a signal for run {run}")))?;
            }
            Ok(checked)
        })
    }

    /// The signals that aren't in an event yet, oldest first.
    fn pending_signals(&self, run: &RunId) -> Result<Vec<Signal>, StoreError> {
        let query = || {
            let mut statement =
                self.connection.prepare_cached("SELECT number, signal FROM signals WHERE run = ?1 ORDER BY number")?;
            statement
                .query_map([&run.0], |row| {
                    let number: i64 = row.get(0)?;
                    Ok(Signal { number: number.cast_unsigned(), ..json(row, 1)? })
                })?
                .collect::<rusqlite::Result<Vec<Signal>>>()
        };
        query().map_err(self.failed(format_args!("read the signals for run {run}")))
    }

    /// Returns the signals for `run` that this handle hasn't returned yet, oldest first. A signal is deleted once an event
    /// records it.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn take_signals(&mut self, run: &RunId) -> Result<Vec<Signal>, StoreError> {
        let mut waiting = self.pending_signals(run)?;
        waiting.retain(|signal| self.delivered_signals.insert(signal.number.cast_signed()));
        Ok(waiting)
    }

    /// Stores a cancel request for the process that drives the run or will resume it. The request is on disk once this
    /// returns. Returns false if the run has ended or doesn't exist.
    ///
    /// # Errors
    /// If the database can't be written.
    pub fn request_cancel(&mut self, run: &RunId, reason: &str) -> Result<bool, StoreError> {
        let left = self.durably(format_args!("request the end of run {run}"), |transaction| {
            transaction.execute(
                "INSERT INTO cancels (run, reason) SELECT id, ?2 FROM runs WHERE id = ?1 AND conclusion IS NULL",
                (&run.0, reason),
            )
        })?;
        Ok(left > 0)
    }

    /// Returns the reasons of the cancel requests for `run` that this handle hasn't returned yet, oldest first.
    /// Requests are deleted once the run has ended.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn take_cancels(&mut self, run: &RunId) -> Result<Vec<String>, StoreError> {
        let query = || {
            let mut statement =
                self.connection.prepare_cached("SELECT number, reason FROM cancels WHERE run = ?1 ORDER BY number")?;
            statement
                .query_map([&run.0], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(i64, String)>>>()
        };
        let waiting = query().map_err(self.failed(format_args!("read the cancel requests for run {run}")))?;
        let new = waiting.into_iter().filter(|(number, _)| self.delivered_cancels.insert(*number));
        Ok(new.map(|(_, reason)| reason).collect())
    }

    /// Makes this handle return messages for `run` again that it has returned before and that aren't in an event. Must
    /// be called before the run is driven again through the same handle.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn redeliver(&mut self, run: &RunId) -> Result<(), StoreError> {
        let numbers = |query| {
            let mut statement = self.connection.prepare_cached(query)?;
            statement.query_map([&run.0], |row| row.get(0))?.collect::<rusqlite::Result<HashSet<i64>>>()
        };
        let left = || {
            let decisions = numbers("SELECT number FROM decisions WHERE run = ?1")?;
            let signals = numbers("SELECT number FROM signals WHERE run = ?1")?;
            Ok((decisions, signals, numbers("SELECT number FROM cancels WHERE run = ?1")?))
        };
        let left: rusqlite::Result<_> = left();
        let (decisions, signals, cancels) =
            left.map_err(self.failed(format_args!("read the messages for run {run}")))?;
        self.delivered.retain(|number| !decisions.contains(number));
        self.delivered_signals.retain(|number| !signals.contains(number));
        self.delivered_cancels.retain(|number| !cancels.contains(number));
        Ok(())
    }
}

fn not_json<'a>(what: &'a str, run: &'a RunId) -> impl FnOnce(serde_json::Error) -> StoreError + 'a {
    move |error| StoreError {
        kind: StoreErrorKind::Storage,
        message: format!("can't write the {what} run {run} as JSON"),
        help: None,
        source: Some(Box::new(error)),
    }
}
