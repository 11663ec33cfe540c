//! The database's schema and how an older one is brought up to date.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use stagewright_engine::StoreError;

use crate::error::{database, refused};

/// `PRAGMA application_id`: "SgWr". Tells our databases from those of others.
const APPLICATION_ID: i64 = 0x5367_5772;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Step n leads from schema version n to n + 1; `PRAGMA user_version` holds the version. A step that has been released
/// never changes.
const MIGRATIONS: &[&str] = &[include_str!("schema/0001.sql")];

pub(crate) fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(database("open the database", path))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(database("set the lock's timeout", path))?;
    let version = inspect(&connection, path)?;
    enter_wal(&connection).map_err(database("turn on write-ahead logging", path))?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(database("ask for durable commits", path))?;
    connection.pragma_update(None, "foreign_keys", true).map_err(database("turn on foreign keys", path))?;
    if version < MIGRATIONS.len() {
        migrate(&mut connection).map_err(database("bring the schema up to date", path))?;
    }
    Ok(connection)
}

/// The schema version, read without changing anything; 0 for a new database.
fn inspect(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let (application, version, tables) =
        read_header(connection).map_err(database("read the header of the database", path))?;
    if tables == 0 && version == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        return Err(refused(
            format!("{} is a database of another program (application id {application:#x})", path.display()),
            "choose another state folder",
        ));
    }
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(refused(
            format!(
                "{} has schema version {version}, and this stagewright knows versions up to {}",
                path.display(),
                MIGRATIONS.len()
            ),
            "use the newer stagewright that wrote it, or choose another state folder",
        )),
    }
}

/// Application id, user version, and how many tables and indices there are.
fn read_header(connection: &Connection) -> rusqlite::Result<(i64, i64, i64)> {
    // In one transaction: another process may be setting up the same new database at this moment.
    let transaction = connection.unchecked_transaction()?;
    let tables = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get(0));
    Ok((number("application_id")?, number("user_version")?, tables))
}

/// SQLite answers "busy" at once, without its timeout, while another process turns the same new database to WAL.
fn enter_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mut tries = 100;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries > 0 => {
                tries -= 1;
                std::thread::sleep(BUSY_TIMEOUT / 100);
            }
            done => return done,
        }
    }
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read again under the lock: another process may have just done it.
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()
}
