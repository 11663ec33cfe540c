//! The last rollout of each environment: a projection of the journals, written in the same transactions.

use rusqlite::{Connection, OptionalExtension, Transaction};
use stagewright_engine::{Event, EventKind, Rollout, RunId, StoreError, Timestamp};
use stagewright_model::StageIndex;

use crate::Store;
use crate::row::{STAGE_ID, integer, json, timestamp};

/// The last rollout of an environment.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutRow {
    /// The run that it belongs to. Its journal may have been removed since.
    pub run: RunId,
    /// Position of the stage that deploys, in the plan of that run.
    pub stage: StageIndex,
    /// The stage's id.
    pub stage_id: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it was recorded.
    pub at: Timestamp,
    /// How far it is, or how it ended.
    pub rollout: Rollout,
}

impl Store {
    /// The last rollout of an environment; none if no deploy there shifted requests step by step.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn rollout(&self, environment: &str) -> Result<Option<RolloutRow>, StoreError> {
        find(&self.connection, environment, false)
            .map_err(self.failed(format_args!("read the rollout of environment `{environment}`")))
    }
}

/// The last rollout of the environment with this key.
pub(crate) fn find(connection: &Connection, key: &str, rehearsal: bool) -> rusqlite::Result<Option<RolloutRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT run, stage, stage_id, attempt, at, rollout FROM rollouts WHERE environment = ?1 AND rehearsal = ?2",
    )?;
    let row = statement.query_row((key, rehearsal), |row| {
        Ok(RolloutRow {
            run: RunId(row.get(0)?),
            stage: StageIndex(row.get(1)?),
            stage_id: row.get(2)?,
            attempt: row.get(3)?,
            at: timestamp(row, 4)?,
            rollout: json(row, 5)?,
        })
    });
    row.optional()
}

/// A run other than `own` whose rollout in the environment with this key, or in one of its regions, hasn't finished.
pub(crate) fn open_by_another(
    connection: &Connection,
    key: &str,
    rehearsal: bool,
    own: &RunId,
) -> rusqlite::Result<Option<RunId>> {
    let mut statement = connection.prepare_cached(
        "SELECT run FROM rollouts WHERE (environment = ?1 OR substr(environment, 1, length(?1) + 1) = ?1 || '.')
             AND rehearsal = ?2 AND open AND run <> ?3",
    )?;
    statement.query_row((key, rehearsal, &own.0), |row| row.get(0).map(RunId)).optional()
}

/// Replaces the last rollout of the environment with the one of an event that is being recorded.
pub(crate) fn follow(transaction: &Transaction<'_>, run: &RunId, event: &Event) -> rusqlite::Result<()> {
    let EventKind::RolloutProgressed { stage, attempt, environment, rollout } = &event.kind else { return Ok(()) };
    let json = serde_json::to_string(rollout).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    transaction
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO rollouts (environment, rehearsal, run, stage, stage_id, attempt, at, rollout, open)
             SELECT CASE rehearsal WHEN 0 THEN ?3 ELSE ?1 || '/' || ?3 END, rehearsal, ?1, ?2, {STAGE_ID}, ?4, ?5, ?6, ?7
             FROM runs WHERE id = ?1"
        ))?
        .execute((
            &run.0,
            stage.0,
            environment,
            attempt,
            integer(event.at.0),
            json,
            !rollout.phase.is_finished(),
        ))?;
    Ok(())
}
