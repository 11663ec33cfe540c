//! Environments: listing and freezing them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};
use stagewright_engine::{RunId, StoreError, Timestamp};
use stagewright_model::lock_of;

use crate::row::{integer, timestamp};
use crate::{ReleaseRow, RolloutRow, Store, ledger, rollout, run_lock};

/// The state of an environment, as listed.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentRow {
    /// A key of `[environments]`.
    pub name: String,
    /// The newest release that is in place.
    pub current: Option<ReleaseRow>,
    /// The release that a rollback restores: the last known-good one before the current one that differs from it.
    pub last_known_good: Option<ReleaseRow>,
    /// The last rollout; none if no deploy there shifted requests step by step.
    pub rollout: Option<RolloutRow>,
    /// The run that holds the environment, if it is alive.
    pub holder: Option<RunId>,
    /// The last fence that was issued; 0 before the first.
    pub fence: u64,
    /// The freeze by [`Store::freeze`], if it is in force.
    pub freeze: Option<EnvironmentFreeze>,
}

/// A person's order that nothing may be deployed to an environment. It doesn't apply to rehearsals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFreeze {
    /// The time of the order. It isn't compared with the clock, so setting the clock back doesn't lift the freeze.
    pub from: Timestamp,
    /// When the freeze ends; none if a person must lift it.
    pub until: Option<Timestamp>,
    /// Why the environment is frozen.
    pub reason: String,
    /// Who froze it.
    pub by: String,
}

impl EnvironmentFreeze {
    fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A row of `environments`; the default is the state of an environment that was never acquired.
#[derive(Debug, Default)]
pub(crate) struct EnvironmentState {
    pub(crate) fence: u64,
    /// Number and id of the newest run that was issued a fence.
    pub(crate) last: (u64, Option<RunId>),
    /// The run that holds it, and its last heartbeat.
    pub(crate) holder: Option<(RunId, Timestamp)>,
    freeze: Option<EnvironmentFreeze>,
}

impl EnvironmentState {
    pub(crate) fn active_freeze(&self, now: Timestamp) -> Option<&EnvironmentFreeze> {
        self.freeze.as_ref().filter(|freeze| freeze.is_in_force(now))
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<EnvironmentState> {
        let holder: Option<String> = row.get(4)?;
        let beat = row.get::<_, Option<i64>>(5)?.unwrap_or_default();
        let freeze = match row.get(8)? {
            Some(reason) => Some(EnvironmentFreeze {
                from: timestamp(row, 6)?,
                until: row.get::<_, Option<i64>>(7)?.map(|until| Timestamp(until.cast_unsigned())),
                reason,
                by: row.get(9)?,
            }),
            None => None,
        };
        Ok(EnvironmentState {
            fence: row.get::<_, i64>(1)?.cast_unsigned(),
            last: (row.get::<_, i64>(2)?.cast_unsigned(), row.get::<_, Option<String>>(3)?.map(RunId)),
            holder: holder.map(|run| (RunId(run), Timestamp(beat.cast_unsigned()))),
            freeze,
        })
    }
}

/// The states of environments by name, each with the rehearsal that it belongs to.
type States = BTreeMap<String, (Option<RunId>, EnvironmentState)>;

const SELECT: &str =
    "SELECT name, fence, last_number, last_run, holder, beat, freeze_from, freeze_until, freeze_reason,
         freeze_by
     FROM environments WHERE rehearsal = ?1";

/// The key of a rehearsal's environment. It can't clash with a real one, because names of environments contain no `/`.
pub(crate) fn rehearsal_key(run: &RunId, name: &str) -> String {
    format!("{run}/{name}")
}

pub(crate) fn state(connection: &Connection, environment: &str, rehearsal: bool) -> rusqlite::Result<EnvironmentState> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} AND name = ?2"))?;
    Ok(statement.query_row((rehearsal, environment), EnvironmentState::from_row).optional()?.unwrap_or_default())
}

impl Store {
    /// The environments that were ever acquired, deployed to or frozen, ordered by name. Each rehearsal has separate
    /// environments; for each name, the one of the newest rehearsal is listed. Instead of an environment with regions, its
    /// regions are listed, which share its holder and its freeze.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn environments(&self, rehearsal: bool, now: Timestamp) -> Result<Vec<EnvironmentRow>, StoreError> {
        let query = || -> rusqlite::Result<Vec<(String, EnvironmentState)>> {
            let mut statement = self.connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            statement.query_map([rehearsal], |row| Ok((row.get(0)?, EnvironmentState::from_row(row)?)))?.collect()
        };
        // The rows are ordered by key, and so by run. Collecting them into a map keeps the last one of each name, which
        // is that of the newest rehearsal.
        let newest = |states: Vec<(String, EnvironmentState)>| -> States {
            let own = |(stored, state): (String, EnvironmentState)| match stored.split_once('/') {
                Some((run, name)) if rehearsal => (name.to_owned(), (Some(RunId(run.to_owned())), state)),
                _ => (stored, (None, state)),
            };
            states.into_iter().map(own).collect()
        };
        let fill = |(name, (run, state)): (&String, &(Option<RunId>, EnvironmentState)), all: &States| {
            let key = run.as_ref().map_or_else(|| name.clone(), |run| rehearsal_key(run, name));
            let releases = match (rehearsal, &run) {
                // Earlier versions didn't separate the environments of rehearsals: their rows belong to no particular
                // run.
                (true, None) => ledger::EnvironmentReleases::default(),
                _ => ledger::environment_releases(&self.connection, name, run.as_ref(), None)?,
            };
            let alive = |(run, beat): &&(RunId, Timestamp)| run_lock::is_alive(&self.run_directory(run), *beat, now);
            let (_, lock) = all.get(lock_of(name)).filter(|(of, _)| of == run).unwrap_or(&all[name]);
            rusqlite::Result::Ok(EnvironmentRow {
                rollout: rollout::find(&self.connection, &key, rehearsal)?,
                current: releases.current,
                last_known_good: releases.last_known_good,
                fence: state.fence,
                freeze: lock.active_freeze(now).or_else(|| state.active_freeze(now)).cloned(),
                holder: lock.holder.as_ref().filter(alive).map(|(run, _)| run.clone()),
                name: name.clone(),
            })
        };
        let list = || {
            let states = newest(query()?);
            let rows: Vec<EnvironmentRow> =
                states.iter().map(|entry| fill(entry, &states)).collect::<rusqlite::Result<_>>()?;
            let is_region_of = |other: &EnvironmentRow, name: &str| other.name != name && lock_of(&other.name) == name;
            let has_regions = |row: &&EnvironmentRow| rows.iter().any(|other| is_region_of(other, &row.name));
            let is_listed = |row: &&EnvironmentRow| row.current.is_some() || !has_regions(row);
            Ok(rows.iter().filter(is_listed).cloned().collect())
        };
        list().map_err(self.failed("list the environments"))
    }

    /// Freezes an environment, replacing an earlier freeze. Attempts that would start on it wait; one that is running
    /// continues.
    ///
    /// # Errors
    /// If the database can't be written.
    pub fn freeze(&mut self, environment: &str, freeze: &EnvironmentFreeze) -> Result<(), StoreError> {
        self.durably(format_args!("freeze environment `{environment}`"), |transaction| {
            transaction.execute(
                "INSERT INTO environments (name, rehearsal, freeze_from, freeze_until, freeze_reason, freeze_by)
                 VALUES (?1, 0, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET freeze_from = ?2, freeze_until = ?3, freeze_reason = ?4, freeze_by = ?5",
                (
                    environment,
                    integer(freeze.from.0),
                    freeze.until.map(|until| integer(until.0)),
                    &freeze.reason,
                    &freeze.by,
                ),
            )
        })?;
        Ok(())
    }

    /// Lifts a freeze. Returns false if the environment wasn't frozen.
    ///
    /// # Errors
    /// If the database can't be written.
    pub fn unfreeze(&mut self, environment: &str) -> Result<bool, StoreError> {
        let changed = self.durably(format_args!("unfreeze environment `{environment}`"), |transaction| {
            transaction.execute(
                "UPDATE environments SET freeze_from = NULL, freeze_until = NULL, freeze_reason = NULL, freeze_by = NULL
                 WHERE name = ?1 AND rehearsal = 0 AND freeze_reason IS NOT NULL",
                [environment],
            )
        })?;
        Ok(changed > 0)
    }
}
