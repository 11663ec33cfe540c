//! The runs and their state.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction};
use serde_json::Value as Json;
use stagewright_engine::{Event, EventKind, Gate, Outcome, RunId, RunSource, StoreError, StoreErrorKind, Timestamp};
use stagewright_model::StageIndex;

use crate::error::{not_found, refused};
use crate::row::{STAGE_ID, integer, json, parse, timestamp};
use crate::store::create_folder;
use crate::{Store, ledger, run_lock};

/// The data of a run that is known before its first event, and that is needed to resume it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// Letters, digits, `-` and `_`, because it is also the name of the run's folder.
    pub id: RunId,
    /// `[pipeline] name`.
    pub pipeline: String,
    /// The path of the pipeline file, as given.
    pub file: String,
    /// The text of the pipeline file. A resumed run uses it, even if the file has changed.
    pub pipeline_text: String,
    /// When the run started.
    pub started: Timestamp,
    /// Whether effects act on local stand-ins.
    pub rehearsal: bool,
    /// Values of the pipeline's inputs.
    pub inputs: BTreeMap<String, Json>,
    /// The commit that it runs on, and what started it.
    pub source: RunSource,
}

/// A run as listed by [`Store::list`].
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// The run.
    pub id: RunId,
    /// `[pipeline] name`.
    pub pipeline: String,
    /// The path of the pipeline file, as given.
    pub file: String,
    /// Whether effects acted on local stand-ins.
    pub rehearsal: bool,
    /// The commit that it ran on, and what started it.
    pub source: RunSource,
    /// When the run started.
    pub started: Timestamp,
    /// When its last event was recorded.
    pub last: Timestamp,
    /// Its state.
    pub state: RunPhase,
    /// Id of the first stage that failed.
    pub failed_stage: Option<String>,
    /// Ids of the stages at an open gate.
    pub waiting: Vec<String>,
}

impl RunRow {
    /// Milliseconds from the start to the last event.
    pub fn duration(&self) -> u64 {
        self.last.since(self.started)
    }
}

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPhase {
    /// A process drives it.
    Running,
    /// It is suspended, because only gates are left.
    Waiting,
    /// It hasn't ended, and no process drives it. It can be resumed.
    Interrupted,
    /// It has ended.
    Ended(Outcome),
}

/// Which runs [`Store::list`] returns; all by default.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Only runs of this pipeline.
    pub pipeline: Option<String>,
    /// At most this many runs.
    pub limit: Option<u32>,
}

/// An open gate.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenGate {
    /// The run.
    pub run: RunId,
    /// Position in the plan.
    pub stage: StageIndex,
    /// The stage's id.
    pub stage_id: String,
    /// When it was opened.
    pub at: Timestamp,
    /// What is asked, and who may answer.
    pub gate: Gate,
}

impl Store {
    /// Records a run and creates its folder. Both are on disk once this returns.
    ///
    /// # Errors
    /// If the id exists or can't be the name of a folder, or if the database or the folder can't be written.
    pub fn create_run(&mut self, record: &RunRecord) -> Result<(), StoreError> {
        let id = &record.id.0;
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(refused(format!("invalid run id {id:?}"), "use letters, digits, `-` and `_`"));
        }
        let encode = |value: serde_json::Result<String>| {
            value.map_err(|error| StoreError {
                kind: StoreErrorKind::Storage,
                message: format!("can't write run {id} as JSON"),
                help: None,
                source: Some(Box::new(error)),
            })
        };
        let inputs = encode(serde_json::to_string(&record.inputs))?;
        let source = encode(serde_json::to_string(&record.source))?;
        create_folder(&self.run_directory(&record.id).join("logs"))?;
        self.durably(format_args!("record run {id}"), |transaction| {
            let number: i64 = transaction.query_row(
                "UPDATE counters SET last = last + 1 WHERE name = 'run' RETURNING last",
                [],
                |row| row.get(0),
            )?;
            transaction.execute(
                "INSERT INTO runs (id, pipeline, file, started, rehearsal, inputs, source, number)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                (
                    id,
                    &record.pipeline,
                    &record.file,
                    integer(record.started.0),
                    record.rehearsal,
                    inputs,
                    source,
                    number,
                ),
            )?;
            transaction.execute("INSERT INTO pipeline_texts (run, text) VALUES (?1, ?2)", (id, &record.pipeline_text))
        })?;
        Ok(())
    }

    /// The record that [`Store::create_run`] stored; none if the run doesn't exist.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn run(&self, run: &RunId) -> Result<Option<RunRecord>, StoreError> {
        self.connection
            .query_row(
                "SELECT id, pipeline, file, text, started, rehearsal, inputs, source
                 FROM runs JOIN pipeline_texts ON run = id WHERE id = ?1",
                [&run.0],
                |row| {
                    Ok(RunRecord {
                        id: RunId(row.get(0)?),
                        pipeline: row.get(1)?,
                        file: row.get(2)?,
                        pipeline_text: row.get(3)?,
                        started: timestamp(row, 4)?,
                        rehearsal: row.get(5)?,
                        inputs: json(row, 6)?,
                        source: json(row, 7)?,
                    })
                },
            )
            .optional()
            .map_err(self.failed(format_args!("read run {run}")))
    }

    /// Lists runs, newest first.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn list(&self, filter: &RunFilter) -> Result<Vec<RunRow>, StoreError> {
        let select = "SELECT id, pipeline, file, rehearsal, started, conclusion, suspended, failed_stage, source,
                coalesce((SELECT at FROM events WHERE run = id ORDER BY seq DESC LIMIT 1), started),
                (SELECT json_group_array(gate.id ORDER BY gate.stage) FROM open_gates AS gate WHERE gate.run = runs.id)
             FROM runs WHERE ?1 IS NULL OR pipeline = ?1 ORDER BY number DESC LIMIT ?2";
        let query = || -> rusqlite::Result<Vec<RunRow>> {
            let mut statement = self.connection.prepare_cached(select)?;
            // SQLite treats a negative limit as no limit.
            let limit = filter.limit.map_or(-1, i64::from);
            statement.query_map((&filter.pipeline, limit), |row| self.row(row))?.collect()
        };
        query().map_err(self.failed("list the runs"))
    }

    fn row(&self, row: &Row<'_>) -> rusqlite::Result<RunRow> {
        let id = RunId(row.get(0)?);
        let state = self.phase_of(&id, row, 5)?;
        Ok(RunRow {
            id,
            pipeline: row.get(1)?,
            file: row.get(2)?,
            rehearsal: row.get(3)?,
            started: timestamp(row, 4)?,
            failed_stage: row.get(7)?,
            source: json(row, 8)?,
            last: timestamp(row, 9)?,
            waiting: json(row, 10)?,
            state,
        })
    }

    /// The state of a run. `at` is the column with its conclusion, which the one with its suspension follows.
    fn phase_of(&self, run: &RunId, row: &Row<'_>, at: usize) -> rusqlite::Result<RunPhase> {
        let conclusion: Option<String> = row.get(at)?;
        Ok(match conclusion {
            Some(conclusion) => RunPhase::Ended(parse(at, Json::String(conclusion))?),
            None if row.get(at + 1)? => RunPhase::Waiting,
            None if run_lock::is_held(&self.run_directory(run)) => RunPhase::Running,
            None => RunPhase::Interrupted,
        })
    }

    /// The state of a run that exists.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn phase(&self, run: &RunId) -> Result<RunPhase, StoreError> {
        let select = "SELECT conclusion, suspended FROM runs WHERE id = ?1";
        let query = || {
            let mut statement = self.connection.prepare_cached(select)?;
            statement.query_row([&run.0], |row| self.phase_of(run, row, 0))
        };
        query().map_err(self.failed(format_args!("read run {run}")))
    }

    /// Finds a run by its id, a unique prefix of its id, or `latest`.
    ///
    /// # Errors
    /// If no run or more than one matches; the error lists some of the matches.
    pub fn find(&self, what: &str) -> Result<RunId, StoreError> {
        let (condition, text) = match what {
            "latest" => ("?1 = ''", ""),
            prefix => ("substr(id, 1, length(?1)) = ?1", prefix),
        };
        let select = format!("SELECT id FROM runs WHERE {condition} ORDER BY number DESC LIMIT 6");
        let query = || {
            let mut statement = self.connection.prepare_cached(&select)?;
            statement.query_map([text], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        };
        let found = query().map_err(self.failed(format_args!("find run {what}")))?;
        let unique = what == "latest" || found.len() == 1;
        match found.iter().find(|id| *id == what).or(found.first()) {
            None => Err(not_found(
                format!("no run {what:?} in {}", self.directory().display()),
                "list the runs with `stagewright runs`",
            )),
            Some(id) if unique || id == what => Ok(RunId(id.clone())),
            Some(_) => Err(not_found(
                format!(
                    "{what:?} is ambiguous: it matches {}{}",
                    found[..found.len().min(5)].join(", "),
                    more(found.len())
                ),
                "use more characters of the run's id",
            )),
        }
    }

    /// The open gates of `run`, in plan order.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn open_gates(&self, run: &RunId) -> Result<Vec<OpenGate>, StoreError> {
        let query = || -> rusqlite::Result<Vec<OpenGate>> {
            let mut statement =
                self.connection.prepare_cached("SELECT stage, id, at, gate FROM open_gates WHERE run = ?1")?;
            statement
                .query_map([&run.0], |row| {
                    Ok(OpenGate {
                        run: run.clone(),
                        stage: StageIndex(row.get(0)?),
                        stage_id: row.get(1)?,
                        at: timestamp(row, 2)?,
                        gate: json(row, 3)?,
                    })
                })?
                .collect()
        };
        query().map_err(self.failed(format_args!("read the open gates of run {run}")))
    }
}

/// Updates the tables behind [`Store::list`], [`Store::open_gates`] and the ledger for an event that is being recorded.
pub(crate) fn follow(transaction: &Transaction<'_>, id: &RunId, event: &Event) -> rusqlite::Result<()> {
    let change = |sql: &str, values: &[&dyn rusqlite::ToSql]| transaction.prepare_cached(sql)?.execute(values);
    let run = &id.0;
    match &event.kind {
        EventKind::GateOpened { stage, gate, .. } => {
            let gate =
                serde_json::to_string(gate).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            change(
                &format!(
                    "INSERT OR REPLACE INTO open_gates (run, stage, id, at, gate) VALUES (?1, ?2, {STAGE_ID}, ?3, ?4)"
                ),
                &[run, &stage.0, &integer(event.at.0), &gate],
            )?;
        }
        EventKind::GateDecided { stage, decision } => {
            change(
                "DELETE FROM decisions WHERE run = ?1 AND stage = ?2
                 AND decision ->> '$.token' = ?3 AND decision ->> '$.by' = ?4",
                &[run, &stage.0, &decision.token, &decision.by],
            )?;
        }
        EventKind::GateSignalled { signal, .. } | EventKind::SignalKept { signal } => {
            change("DELETE FROM signals WHERE run = ?1 AND number = ?2", &[run, &integer(signal.number)])?;
        }
        EventKind::AttemptStarted { stage, .. } => close_gate(transaction, run, *stage)?,
        EventKind::StageEnded { stage, conclusion, .. } => {
            close_gate(transaction, run, *stage)?;
            if !conclusion.lets_dependents_run() && !matches!(conclusion, Outcome::Skipped | Outcome::Cancelled) {
                change(
                    &format!("UPDATE runs SET failed_stage = coalesce(failed_stage, {STAGE_ID}) WHERE id = ?1"),
                    &[run, &stage.0],
                )?;
            }
        }
        EventKind::RunSuspended { .. } => {
            change("UPDATE runs SET suspended = 1 WHERE id = ?1", &[run])?;
        }
        EventKind::RunResumed { pipeline, .. } => {
            if let Some(text) = pipeline {
                change("UPDATE pipeline_texts SET text = ?2 WHERE run = ?1", &[run, text])?;
            }
            change(
                "UPDATE runs SET suspended = 0, ended = NULL, conclusion = NULL, failed_stage = NULL WHERE id = ?1",
                &[run],
            )?;
        }
        EventKind::RunEnded { conclusion } => {
            change(
                "UPDATE runs SET suspended = 0, ended = ?2, conclusion = ?3 WHERE id = ?1",
                &[run, &integer(event.at.0), &conclusion.as_str()],
            )?;
            change("DELETE FROM open_gates WHERE run = ?1", &[run])?;
            change("DELETE FROM decisions WHERE run = ?1", &[run])?;
            change("DELETE FROM signals WHERE run = ?1", &[run])?;
            change("DELETE FROM cancels WHERE run = ?1", &[run])?;
        }
        EventKind::GroupLeft { group } => {
            change("DELETE FROM group_members WHERE run = ?1 AND name = ?2", &[run, group])?;
        }
        _ => ledger::follow(transaction, id, event)?,
    }
    Ok(())
}

fn close_gate(transaction: &Transaction<'_>, run: &str, stage: StageIndex) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM open_gates WHERE run = ?1 AND stage = ?2")?.execute((run, stage.0))?;
    Ok(())
}

fn more(count: usize) -> &'static str {
    if count > 5 { ", …" } else { "" }
}
