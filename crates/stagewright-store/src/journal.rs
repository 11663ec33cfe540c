//! The journal: a run's recorded events, in order, without gaps.

use std::fmt::Display;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use stagewright_engine::{Event, EventKind, RunId, RunStore, StoreError, StoreErrorKind, Timestamp};

use crate::error::refused;
use crate::row::integer;
use crate::store::Commits;
use crate::{Store, history};

impl RunStore for Store {
    /// Appends the recorded ones among `events`; others are left out. Every event is visible to readers, of other
    /// processes too, once this returns.
    ///
    /// # Errors
    /// For a run that [`Store::create_run`] hasn't made, a `seq` that isn't the next one, and whatever the disk
    /// refuses. Then none of the events is kept.
    fn append(&mut self, run: &RunId, events: &[Event], durable: bool) -> Result<(), StoreError> {
        let recorded: Vec<&Event> = events.iter().filter(|event| event.kind.is_recorded()).collect();
        if recorded.is_empty() {
            return if durable { self.sync() } else { Ok(()) };
        }
        self.use_commits(if durable { Commits::Synced } else { Commits::Unsynced })?;
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
                format!("event {found} of run {run} can't be recorded: the journal's next is {expected}"),
                "another process may have gone on with the run: look at it with `stagewright runs`",
            ),
        })?;
        self.next = Some((run.clone(), next));
        Ok(())
    }
}

impl Store {
    /// All recorded events of a run, in order. Empty for a run that has none.
    ///
    /// # Errors
    /// When the database can't be read, or holds an event that this version doesn't understand.
    pub fn events(&self, run: &RunId) -> Result<Vec<Event>, StoreError> {
        self.events_from(run, 0)
    }

    /// The events from `seq` on: what a reader that follows a run asks for again and again.
    ///
    /// # Errors
    /// As [`Store::events`].
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
                message: format!("event {seq} of run {run} in {} isn't one", self.database().display()),
                help: Some("use the stagewright version that recorded the run".to_owned()),
                source: Some(Box::new(error)),
            })?;
            Ok(Event { seq: seq.cast_unsigned(), at: Timestamp(at.cast_unsigned()), kind })
        })
        .collect()
    }

    fn use_commits(&mut self, commits: Commits) -> Result<(), StoreError> {
        if self.commits != Some(commits) {
            let level = match commits {
                Commits::Synced => "FULL",
                Commits::Unsynced => "NORMAL",
            };
            self.connection
                .pragma_update(None, "synchronous", level)
                .map_err(self.failed("choose how durable commits are"))?;
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
        self.use_commits(Commits::Synced)?;
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

    /// Reads and changes while no other process writes. On disk once this returns; undone when `act` fails.
    pub(crate) fn exclusively<T>(
        &mut self,
        doing: impl Display,
        act: impl FnOnce(&mut Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.use_commits(Commits::Synced)?;
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(self.failed(&doing))?;
        let acted = act(self);
        let end = if acted.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.connection.execute_batch(end).map_err(self.failed(&doing));
        // The first error is the one to be read.
        acted.and_then(|value| ended.map(|()| value))
    }

    /// A synced commit makes durable what was committed before it, too. It has to change something, or SQLite leaves it
    /// out.
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

/// Gives the number of the next event. `known` is what it was when this handle last wrote to the run; another one may
/// have written since, and then the first insert fails.
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

    /// Appends one event too many and gives the remedy that the error names.
    fn remedy(store: &mut Store) -> String {
        let events = [event(0, String::new()), event(1, "x".repeat(1 << 20))];
        let error = store.append(&run(), &events, true).unwrap_err();
        assert!(error.message.contains("r1") && error.message.contains("stagewright.db"), "{}", error.message);
        error.help.unwrap()
    }

    #[test]
    fn a_full_disk_is_told_of_and_keeps_nothing_of_the_batch() {
        let (_directory, mut store) = store();
        let pages: i64 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.connection.pragma_update(None, "max_page_count", pages + 2).unwrap();
        assert!(remedy(&mut store).contains("free some disk space"));
        assert_eq!(store.events(&run()).unwrap(), []);
        store.append(&run(), &[event(0, "small".to_owned())], true).unwrap();
    }

    #[test]
    fn a_database_that_may_not_be_written_is_told_of() {
        let (_directory, mut store) = store();
        store.connection.pragma_update(None, "query_only", true).unwrap();
        assert!(remedy(&mut store).contains("write access"));
    }

    #[test]
    fn a_database_that_stays_locked_is_told_of() {
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
    fn an_empty_durable_append_syncs_what_came_before() {
        let (directory, mut store) = store();
        store.append(&run(), &[event(0, "before".to_owned())], false).unwrap();
        let length = || std::fs::metadata(directory.path().join("stagewright.db-wal")).unwrap().len();
        let before = length();
        store.append(&run(), &[], true).unwrap();
        // SQLite syncs the log for each commit at this level that writes to it, and all that stands in it by then.
        assert!(length() > before, "something was committed");
        let level: i64 = store.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(level, 2);
    }
}
