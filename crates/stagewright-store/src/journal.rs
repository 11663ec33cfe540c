//! The journal: a run's recorded events, in order and without gaps.

use std::fmt::Display;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use stagewright_engine::{Event, EventKind, RunId, RunStore, StoreError, StoreErrorKind, Timestamp};

use crate::error::refused;
use crate::row::integer;
use crate::store::Durability;
use crate::{Store, history};

impl RunStore for Store {
    /// Appends those of the events that are recorded; others are skipped. The events are visible to readers in all
    /// processes once this returns.
    ///
    /// # Errors
    /// If the run doesn't exist, a `seq` isn't the next one, or the database can't be written. None of the events is
    /// recorded then.
    fn append(&mut self, run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError> {
        let recorded: Vec<&Event> = events.iter().filter(|event| event.kind.is_recorded()).collect();
        if recorded.is_empty() {
            return if durable { self.sync() } else { Ok(()) };
        }
        self.set_durability(if durable { Durability::Synced } else { Durability::Unsynced })?;
        let known = self.next.take().filter(|(known, _)| known == run).map(|(_, next)| next);
        let next = append_all(&mut self.connection, run, known, &recorded).map_err(|error| match error {
            AppendError::Database(error) => self.failed(format_args!("record events of run {run}"))(error),
            AppendError::Json(error) => StoreError {
                kind: StoreErrorKind::Storage,
                message: format!("can't write an event of run {run} as JSON"),
                help: None,
                source: Some(Box::new(error)),
            },
            AppendError::NoRun => refused(
                format!("{} has no run {run}", self.database().display()),
                "create the run before its first event is appended",
            ),
            AppendError::OutOfOrder { expected, found } => refused(
                format!("can't record event {found} of run {run}: the journal's next event is {expected}"),
                "another process may have resumed the run: check with `stagewright runs`",
            ),
        })?;
        self.next = Some((run.clone(), next));
        Ok(())
    }
}

impl Store {
    /// All recorded events of a run, in order. Empty if the run has no events or doesn't exist.
    ///
    /// # Errors
    /// If the database can't be read, or contains an event that this version can't parse.
    pub fn events(&self, run: &RunId) -> Result<Vec<Event>, StoreError> {
        self.events_from(run, 0)
    }

    /// The events from `seq` on, for readers that follow a run.
    ///
    /// # Errors
    /// The same as for [`Store::events`].
    pub fn events_from(&self, run: &RunId, seq: u64) -> Result<Vec<Event>, StoreError> {
        let doing = format!("read the events of run {run}");
        let mut statement = self
            .connection
            .prepare_cached("SELECT seq, at, kind FROM events WHERE run = ?1 AND seq >= ?2 ORDER BY seq")
            .map_err(self.failed(&doing))?;
        let rows = statement
            .query_map((&run.0, integer(seq)), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(self.failed(&doing))?;
        rows.map(|row| {
            let (seq, at, kind): (i64, i64, String) = row.map_err(self.failed(&doing))?;
            let kind: EventKind = serde_json::from_str(&kind).map_err(|error| StoreError {
                kind: StoreErrorKind::Storage,
                message: format!("invalid event {seq} of run {run} in {}", self.database().display()),
                help: Some("use the stagewright version that recorded the run".to_owned()),
                source: Some(Box::new(error)),
            })?;
            Ok(Event { seq: seq.cast_unsigned(), at: Timestamp(at.cast_unsigned()), kind })
        })
        .collect()
    }

    fn set_durability(&mut self, commits: Durability) -> Result<(), StoreError> {
        if self.commits != Some(commits) {
            let level = match commits {
                Durability::Synced => "FULL",
                Durability::Unsynced => "NORMAL",
            };
            self.connection
                .pragma_update(None, "synchronous", level)
                .map_err(self.failed("set the durability of commits"))?;
            self.commits = Some(commits);
        }
        Ok(())
    }

    /// Runs `change` in a transaction that is on disk once this returns.
    pub(crate) fn durably<T>(
        &mut self,
        doing: impl Display,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.set_durability(Durability::Synced)?;
        let connection = &mut self.connection;
        let transact = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        let done = transact();
        done.map_err(self.failed(doing))
    }

    /// Runs `act` while no other process can write. Its changes are on disk once this returns, or rolled back if it
    /// fails.
    pub(crate) fn exclusively<T>(
        &mut self,
        doing: impl Display,
        act: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.set_durability(Durability::Synced)?;
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(self.failed(&doing))?;
        let acted = act(self);
        let end = if acted.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.connection.execute_batch(end).map_err(self.failed(&doing));
        // If `act` failed, return its error and not that of the rollback.
        acted.and_then(|value| ended.map(|()| value))
    }

    /// Makes all earlier commits durable with an empty synced one. It must change a row, because SQLite doesn't write,
    /// and so doesn't sync, a transaction without changes.
    fn sync(&mut self) -> Result<(), StoreError> {
        self.durably("sync the journal", |transaction| {
            transaction.execute("UPDATE counters SET last = last + 1 WHERE name = 'sync'", [])
        })?;
        Ok(())
    }
}

enum AppendError {
    Database(rusqlite::Error),
    Json(serde_json::Error),
    NoRun,
    OutOfOrder { expected: u64, found: u64 },
}

impl From<rusqlite::Error> for AppendError {
    fn from(error: rusqlite::Error) -> Self {
        AppendError::Database(error)
    }
}

/// Returns the number of the next event. `known` is that number from this handle's last write to the run. If another
/// handle has written since, the first insert violates the primary key.
fn append_all(
    connection: &mut Connection,
    run: &RunId,
    known: Option<u64>,
    events: &[&Event],
) -> Result<u64, AppendError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut expected = known.map_or_else(|| next_seq(&transaction, run), Ok)?;
    {
        let mut insert =
            transaction.prepare_cached("INSERT INTO events (run, seq, at, kind) VALUES (?1, ?2, ?3, ?4)")?;
        for event in events {
            if event.seq != expected {
                return Err(AppendError::OutOfOrder { expected, found: event.seq });
            }
            let kind = serde_json::to_string(&event.kind).map_err(AppendError::Json)?;
            match insert.execute((&run.0, integer(event.seq), integer(event.at.0), kind)) {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    let expected = next_seq(&transaction, run)?;
                    return Err(AppendError::OutOfOrder { expected, found: event.seq });
                }
                inserted => inserted?,
            };
            history::follow(&transaction, run, event)?;
            expected += 1;
        }
    }
    transaction.commit()?;
    Ok(expected)
}

fn next_seq(transaction: &Transaction<'_>, run: &RunId) -> Result<u64, AppendError> {
    let (exists, last): (bool, Option<i64>) = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM runs WHERE id = ?1), (SELECT max(seq) FROM events WHERE run = ?1)",
        )?
        .query_row([&run.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if !exists {
        return Err(AppendError::NoRun);
    }
    Ok(last.map_or(0, |last| last.cast_unsigned() + 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use stagewright_engine::RunSource;
    use stagewright_model::StageIndex;
    use tempfile::TempDir;

    use super::*;
    use crate::RunRecord;

    fn run() -> RunId {
        RunId("r1".to_owned())
    }

    fn store() -> (TempDir, Store) {
        let directory = TempDir::new().unwrap();
        let mut store = Store::open(directory.path()).unwrap();
        let record = RunRecord {
            id: run(),
            pipeline: "release".to_owned(),
            file: "stagewright.toml".to_owned(),
            pipeline_text: String::new(),
            started: Timestamp(0),
            rehearsal: false,
            inputs: BTreeMap::new(),
            source: RunSource::default(),
        };
        store.create_run(&record).unwrap();
        (directory, store)
    }

    fn event(seq: u64, text: String) -> Event {
        Event { seq, at: Timestamp(seq), kind: EventKind::Summary { stage: StageIndex(0), markdown: text } }
    }

    /// Appends events of which the last one fails, and returns the error's remedy.
    fn remedy(store: &mut Store) -> String {
        let events = [event(0, String::new()), event(1, "x".repeat(1 << 20))];
        let error = store.append(&run(), &events, true).unwrap_err();
        assert!(error.message.contains("r1") && error.message.contains("stagewright.db"), "{}", error.message);
        error.help.unwrap()
    }

    #[test]
    fn full_disk_is_reported_and_nothing_of_the_batch_is_recorded() {
        let (_directory, mut store) = store();
        let pages: i64 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.connection.pragma_update(None, "max_page_count", pages + 2).unwrap();
        assert!(remedy(&mut store).contains("free some disk space"));
        assert_eq!(store.events(&run()).unwrap(), []);
        store.append(&run(), &[event(0, "small".to_owned())], true).unwrap();
    }

    #[test]
    fn read_only_database_is_reported() {
        let (_directory, mut store) = store();
        store.connection.pragma_update(None, "query_only", true).unwrap();
        assert!(remedy(&mut store).contains("write access"));
    }

    #[test]
    fn locked_database_is_reported() {
        let (directory, mut store) = store();
        let other = Store::open(directory.path()).unwrap();
        other.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        store.connection.busy_timeout(Duration::from_millis(1)).unwrap();
        assert!(remedy(&mut store).contains("another process keeps the database locked"));
    }

    #[test]
    fn only_durable_appends_wait_for_the_disk() {
        let (_directory, mut store) = store();
        for (seq, durable, synchronous) in [(0, true, 2), (1, false, 1), (2, false, 1), (3, true, 2)] {
            store.append(&run(), &[event(seq, String::new())], durable).unwrap();
            let level: i64 = store.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
            assert_eq!(level, synchronous, "event {seq}");
        }
    }

    #[test]
    fn empty_durable_append_syncs_earlier_events() {
        let (directory, mut store) = store();
        store.append(&run(), &[event(0, "before".to_owned())], false).unwrap();
        let length = || std::fs::metadata(directory.path().join("stagewright.db-wal")).unwrap().len();
        let before = length();
        store.append(&run(), &[], true).unwrap();
        // At this level SQLite syncs the log with each commit that writes to it, including everything written before.
        assert!(length() > before, "something was committed");
        let level: i64 = store.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(level, 2);
    }
}
