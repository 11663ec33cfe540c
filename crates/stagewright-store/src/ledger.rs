//! The ledger of releases: a projection of the journals, written in the same transactions.
//!
//! A release is *in place* until it is undone. The newest release in place is the *current* one.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};
use stagewright_engine::{Event, EventKind, Outcome, Release, ReleaseOrigin, RunId, StoreError, Timestamp};
use stagewright_model::StageIndex;

use crate::row::{STAGE_ID, integer, json, parse, timestamp};
use crate::{Store, rollout};

/// A release of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseRow {
    /// Increases with each release of any environment.
    pub number: u64,
    /// The run that deployed it. Its journal may have been removed since.
    pub run: RunId,
    /// Position of the stage that deployed it, in the plan of that run.
    pub stage: StageIndex,
    /// The stage's id.
    pub stage_id: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// When it was recorded.
    pub at: Timestamp,
    /// What was deployed.
    pub release: Release,
    /// Whether it is known good.
    pub confirmed: bool,
    /// Whether a compensation undid it, so that it is no longer in place.
    pub undone: bool,
}

impl ReleaseRow {
    fn deploys_the_same(&self, other: &ReleaseRow) -> bool {
        self.release.artifact == other.release.artifact && self.release.config == other.release.config
    }
}

/// The releases of an environment that matter for a rollback.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct EnvironmentReleases {
    pub(crate) current: Option<ReleaseRow>,
    pub(crate) last_known_good: Option<ReleaseRow>,
}

impl Store {
    /// The releases of an environment, newest first, at most `limit`, including undone ones.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn releases(&self, environment: &str, rehearsal: bool, limit: u32) -> Result<Vec<ReleaseRow>, StoreError> {
        let query = || {
            let mut statement = self.connection.prepare_cached(&format!("{SELECT} ORDER BY number DESC LIMIT ?3"))?;
            statement.query_map((environment, rehearsal, limit), release_row)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        query().map_err(self.failed(format_args!("read the releases of environment `{environment}`")))
    }

    /// The newest known-good release of an environment that is in place, without those of the run `asking`; never one of a
    /// rehearsal. If it was restored, the deploy that was restored: its commit is the one that the release was made from.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn good_release(&self, environment: &str, asking: &RunId) -> Result<Option<ReleaseRow>, StoreError> {
        let query = || {
            let sql = format!("{SELECT} AND NOT undone AND confirmed AND run <> ?3 ORDER BY number DESC LIMIT 1");
            let mut newest = self.connection.prepare_cached(&sql)?;
            let Some(good) = newest.query_row((environment, false, &asking.0), release_row).optional()? else {
                return Ok(None);
            };
            if good.release.origin == ReleaseOrigin::Deploy {
                return Ok(Some(good));
            }
            let sql = format!("{SELECT} AND way = 'deploy' AND number < ?3 ORDER BY number DESC");
            let mut deploys = self.connection.prepare_cached(&sql)?;
            for row in deploys.query_map((environment, false, integer(good.number)), release_row)? {
                let row = row?;
                if row.deploys_the_same(&good) {
                    return Ok(Some(row));
                }
            }
            Ok(Some(good))
        };
        query().map_err(self.failed(format_args!("read the releases of environment `{environment}`")))
    }
}

/// Finds the current release of an environment, and the one that a rollback restores: the newest known-good release
/// before the current one that has another artifact or another configuration. Deploying the same again would not be a
/// rollback.
///
/// If the current release is itself the result of a rollback, a second rollback must not restore the release that the
/// first one moved away from. "Before" then means before the original deploy of the current release, so that two
/// rollbacks go back two steps. The exception is `requester`, the run that deployed the current release: its compensation
/// restores what was in place before that run.
///
/// `rehearsal` is the run whose separate environment it is; none for the real environment.
pub(crate) fn environment_releases(
    connection: &Connection,
    environment: &str,
    rehearsal: Option<&RunId>,
    requester: Option<&RunId>,
) -> rusqlite::Result<EnvironmentReleases> {
    let newest = |condition: &str, below: u64, fits: &dyn Fn(&ReleaseRow) -> bool| -> rusqlite::Result<_> {
        let sql = format!(
            "{SELECT} AND NOT undone AND number < ?3 AND (?4 IS NULL OR run = ?4) AND {condition} ORDER BY number DESC"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let run = rehearsal.map(|run| &run.0);
        for row in statement.query_map((environment, run.is_some(), integer(below), run), release_row)? {
            let row = row?;
            if fits(&row) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    };
    let any = i64::MAX.cast_unsigned();
    let Some(current) = newest("1", any, &|_| true)? else { return Ok(EnvironmentReleases::default()) };
    let repeats = current.release.origin != ReleaseOrigin::Deploy && requester != Some(&current.run);
    let repeated =
        if repeats { newest("way = 'deploy'", current.number, &|row| row.deploys_the_same(&current))? } else { None };
    let before = repeated.map_or(current.number, |row| row.number);
    let last_known_good = newest("confirmed", before, &|row| !row.deploys_the_same(&current))?;
    Ok(EnvironmentReleases { current: Some(current), last_known_good })
}

/// The release of an environment that a run restores; none if the run isn't a rollback.
pub(crate) fn restored_by(
    connection: &Connection,
    run: &RunId,
    environment: &str,
) -> rusqlite::Result<Option<ReleaseRow>> {
    let sql = format!(
        "{SELECT} AND (number = (SELECT json_extract(source, '$.rollback.release') FROM runs WHERE id = ?3)
             OR number IN (SELECT other.value FROM runs, json_each(runs.source, '$.rollback.others') AS other
                 WHERE runs.id = ?3))"
    );
    connection.prepare_cached(&sql)?.query_row((environment, false, &run.0), release_row).optional()
}

/// Updates the ledger for an event that is being recorded.
pub(crate) fn follow(transaction: &Transaction<'_>, run: &RunId, event: &Event) -> rusqlite::Result<()> {
    match &event.kind {
        EventKind::ReleaseRecorded { stage, attempt, release } => {
            // Names every field, so that a new one isn't forgotten in the statement below.
            let Release { environment, artifact, url, parts, fence, config, commit, by, origin } = release;
            let failed = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
            let config = serde_json::to_string(config).map_err(failed)?;
            let parts = serde_json::to_string(parts).map_err(failed)?;
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO environments (name, rehearsal)
                     SELECT CASE rehearsal WHEN 0 THEN ?2 ELSE ?1 || '/' || ?2 END, rehearsal FROM runs WHERE id = ?1",
                )?
                .execute((&run.0, environment))?;
            transaction
                .prepare_cached(&format!(
                    "INSERT INTO releases (run, stage, stage_id, rehearsal, attempt, at, environment, artifact, url,
                         fence, config, commit_id, started_by, way, parts)
                     SELECT ?1, ?2, {STAGE_ID}, rehearsal, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13
                     FROM runs WHERE id = ?1"
                ))?
                .execute((
                    &run.0,
                    stage.0,
                    attempt,
                    integer(event.at.0),
                    environment,
                    artifact,
                    url,
                    integer(*fence),
                    config,
                    commit,
                    by,
                    origin.as_str(),
                    parts,
                ))?;
        }
        EventKind::ReleaseConfirmed { stage } => {
            transaction
                .prepare_cached(
                    "UPDATE releases SET confirmed = 1 WHERE number =
                         (SELECT max(number) FROM releases WHERE run = ?1 AND stage = ?2 AND NOT undone)",
                )?
                .execute((&run.0, stage.0))?;
        }
        EventKind::UndoEnded { stage, attempt, outcome: Outcome::Succeeded, .. } => {
            transaction
                .prepare_cached("UPDATE releases SET undone = 1 WHERE run = ?1 AND stage = ?2 AND attempt = ?3")?
                .execute((&run.0, stage.0, attempt))?;
        }
        EventKind::RolloutProgressed { .. } => rollout::follow(transaction, run, event)?,
        _ => {}
    }
    Ok(())
}

/// Selects the releases of environment `?1`, in rehearsals if `?2`.
const SELECT: &str = "SELECT number, run, stage, stage_id, attempt, at, environment, artifact, url, fence, config,
         commit_id, started_by, way, confirmed, undone, parts
     FROM releases WHERE environment = ?1 AND rehearsal = ?2";

fn release_row(row: &Row<'_>) -> rusqlite::Result<ReleaseRow> {
    let release = Release {
        environment: row.get(6)?,
        artifact: row.get(7)?,
        url: row.get(8)?,
        parts: json(row, 16)?,
        fence: row.get::<_, i64>(9)?.cast_unsigned(),
        config: json(row, 10)?,
        commit: row.get(11)?,
        by: row.get(12)?,
        origin: parse(13, serde_json::Value::String(row.get(13)?))?,
    };
    Ok(ReleaseRow {
        number: row.get::<_, i64>(0)?.cast_unsigned(),
        run: RunId(row.get(1)?),
        stage: StageIndex(row.get(2)?),
        stage_id: row.get(3)?,
        attempt: row.get(4)?,
        at: timestamp(row, 5)?,
        release,
        confirmed: row.get(14)?,
        undone: row.get(15)?,
    })
}
