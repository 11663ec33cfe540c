//! Environments, as people see and freeze them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};
use stagewright_engine::{RunId, StoreError, Timestamp};

use crate::row::{integer, timestamp};
use crate::{ReleaseRow, Store, ledger, run_lock};

/// An environment and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentRow {
    /// A key of `[environments]`.
    pub name: String,
    /// The newest release that stands.
    pub current: Option<ReleaseRow>,
    /// What a rollback goes back to: the last release that proved good before the current one, and differs from it.
    pub last_known_good: Option<ReleaseRow>,
    /// The run that has the environment, if it is alive.
    pub holder: Option<RunId>,
    /// The last token that was given; 0 before the first.
    pub fence: u64,
    /// What somebody said with [`Store::freeze`], if it is in force.
    pub freeze: Option<Freeze>,
}

/// Somebody's word that nothing is to be deployed to an environment. Rehearsals don't mind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// When it was said. It is in force at once: a clock that is put back doesn't lift it.
    pub from: Timestamp,
    /// When it ends; none until somebody lifts it.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Who said it.
    pub by: String,
}

impl Freeze {
    fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A row of `environments`; the default is that of one that was never claimed.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) fence: u64,
    /// Number and id of the newest run that was given a token.
    pub(crate) last: (u64, Option<RunId>),
    /// The run that has it, and its last beat.
    pub(crate) holder: Option<(RunId, Timestamp)>,
    freeze: Option<Freeze>,
}

impl State {
    pub(crate) fn frozen(&self, now: Timestamp) -> Option<&Freeze> {
        self.freeze.as_ref().filter(|freeze| freeze.is_in_force(now))
    }

    fn of(row: &Row<'_>) -> rusqlite::Result<State> {
        let holder: Option<String> = row.get(4)?;
        let beat = row.get::<_, Option<i64>>(5)?.unwrap_or_default();
        let freeze = match row.get(8)? {
            Some(reason) => Some(Freeze {
                from: timestamp(row, 6)?,
                until: row.get::<_, Option<i64>>(7)?.map(|until| Timestamp(until.cast_unsigned())),
                reason,
                by: row.get(9)?,
            }),
            None => None,
        };
        Ok(State {
            fence: row.get::<_, i64>(1)?.cast_unsigned(),
            last: (row.get::<_, i64>(2)?.cast_unsigned(), row.get::<_, Option<String>>(3)?.map(RunId)),
            holder: holder.map(|run| (RunId(run), Timestamp(beat.cast_unsigned()))),
            freeze,
        })
    }
}

const SELECT: &str =
    "SELECT name, fence, last_number, last_run, holder, beat, freeze_from, freeze_until, freeze_reason,
         freeze_by
     FROM environments WHERE rehearsal = ?1";

/// No environment of a pipeline has a `/` in its name.
pub(crate) fn of_rehearsal(run: &RunId, name: &str) -> String {
    format!("{run}/{name}")
}

pub(crate) fn state(connection: &Connection, environment: &str, rehearsal: bool) -> rusqlite::Result<State> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} AND name = ?2"))?;
    Ok(statement.query_row((rehearsal, environment), State::of).optional()?.unwrap_or_default())
}

impl Store {
    /// The environments that were ever claimed, deployed to or frozen, by name. Of rehearsals, which have environments of
    /// their own, the newest that has one of the name.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn environments(&self, rehearsal: bool, now: Timestamp) -> Result<Vec<EnvironmentRow>, StoreError> {
        let query = || -> rusqlite::Result<Vec<(String, State)>> {
            let mut statement = self.connection.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            statement.query_map([rehearsal], |row| Ok((row.get(0)?, State::of(row)?)))?.collect()
        };
        // In the order of the names, and with that of the runs: the last one counts.
        let newest = |states: Vec<(String, State)>| -> BTreeMap<String, (Option<RunId>, State)> {
            let own = |(stored, state): (String, State)| match stored.split_once('/') {
                Some((run, name)) if rehearsal => (name.to_owned(), (Some(RunId(run.to_owned())), state)),
                _ => (stored, (None, state)),
            };
            states.into_iter().map(own).collect()
        };
        let fill = |(name, (run, state)): (String, (Option<RunId>, State))| {
            let standing = match (rehearsal, &run) {
                // What earlier versions kept is of no rehearsal in particular.
                (true, None) => ledger::Standing::default(),
                _ => ledger::standing(&self.connection, &name, run.as_ref(), None)?,
            };
            let alive = |(run, beat): &(RunId, Timestamp)| run_lock::is_alive(&self.run_directory(run), *beat, now);
            Ok(EnvironmentRow {
                current: standing.current,
                last_known_good: standing.last_known_good,
                fence: state.fence,
                freeze: state.frozen(now).cloned(),
                holder: state.holder.filter(alive).map(|(run, _)| run),
                name,
            })
        };
        let rows = query().and_then(|states| newest(states).into_iter().map(fill).collect());
        rows.map_err(self.failed("list the environments"))
    }

    /// Has attempts on an environment wait from now on, in place of what an earlier freeze said. An attempt that has
    /// begun goes on.
    ///
    /// # Errors
    /// Whatever the disk refuses.
    pub fn freeze(&mut self, environment: &str, freeze: &Freeze) -> Result<(), StoreError> {
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

    /// Lifts a freeze. False when there was none.
    ///
    /// # Errors
    /// Whatever the disk refuses.
    pub fn unfreeze(&mut self, environment: &str) -> Result<bool, StoreError> {
        let changed = self.durably(format_args!("lift the freeze of environment `{environment}`"), |transaction| {
            transaction.execute(
                "UPDATE environments SET freeze_from = NULL, freeze_until = NULL, freeze_reason = NULL, freeze_by = NULL
                 WHERE name = ?1 AND rehearsal = 0 AND freeze_reason IS NOT NULL",
                [environment],
            )
        })?;
        Ok(changed > 0)
    }
}
