//! The database's schema, its migrations, and the checks before anything is written.
//!
//! Opening reads the header and the schema, and SQLite compares the length of the file with its header. This detects
//! another program's file, garbage and a truncated file, at the cost of reading a few pages, and leaves them unchanged.
//! A page that was damaged in place isn't detected, because that would require reading the whole database at each
//! start. Reading such a page later is an error; it never leads to an incomplete result.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use stagewright_engine::StoreError;

use crate::error::{DAMAGED, WRITABLE, database, file, refused};

/// The page cache of a connection in KiB. It is large enough for the pages that a run of thousands of stages writes to.
const CACHE: i64 = 16 * 1024;

/// `PRAGMA application_id`, "SgWr": distinguishes the database from those of other programs.
const APPLICATION_ID: i64 = 0x5367_5772;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Step n migrates schema version n to n + 1; `PRAGMA user_version` holds the version. Released steps never change.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001.sql"),
    include_str!("schema/0002.sql"),
    include_str!("schema/0003.sql"),
    include_str!("schema/0004.sql"),
    include_str!("schema/0005.sql"),
    include_str!("schema/0006.sql"),
];

/// Opens the database for reading and writing, and creates it if it doesn't exist.
pub(crate) fn open(path: &Path) -> Result<Connection, StoreError> {
    refuse_orphaned_log(path)?;
    make_private(path)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let version = version(read_header(&connection), path)?;
    refuse_truncated(&connection, path)?;
    // SQLite silently opens a file without write permission as read-only.
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(database("check the database", path))? {
        return Err(refused(format!("can't write {}", path.display()), WRITABLE));
    }
    if version == 0 {
        // Has an effect only before the first table is created. It lets `gc` release free pages in small steps.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(database("set the vacuum mode", path))?;
    }
    enter_wal(&connection).map_err(database("turn on write-ahead logging", path))?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(database("turn on durable commits", path))?;
    connection.pragma_update(None, "cache_size", -CACHE).map_err(database("set the cache size", path))?;
    connection.pragma_update(None, "foreign_keys", true).map_err(database("turn on foreign keys", path))?;
    if version < MIGRATIONS.len() {
        migrate(&mut connection).map_err(database("upgrade the schema", path))?;
    }
    restrict_access(path)?;
    Ok(connection)
}

/// Creates an empty database file that only its owner can read. SQLite creates its `-wal` and `-shm` files with the
/// same mode.
fn make_private(path: &Path) -> Result<(), StoreError> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file("create", path, error)),
        _ => Ok(()),
    }
}

/// Removes other users' access to a database that an earlier version created.
fn restrict_access(path: &Path) -> Result<(), StoreError> {
    for path in [path.to_owned(), sibling(path, "-wal"), sibling(path, "-shm")] {
        if path.metadata().is_ok_and(|found| found.mode() & 0o077 != 0) {
            let closed = std::fs::set_permissions(&path, Permissions::from_mode(0o600));
            closed.map_err(|error| file("restrict access to", &path, error))?;
        }
    }
    Ok(())
}

/// Opens the database for reading, even if nothing can be written. None if it doesn't exist, or needs a migration.
pub(crate) fn open_read_only(path: &Path) -> Result<Option<Connection>, StoreError> {
    refuse_orphaned_log(path)?;
    if !path.exists() {
        return Ok(None);
    }
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut header = read_header(&connection);
    // Readers of a database in WAL mode share a `-shm` file. If it can't be created, the folder isn't writable for
    // this user or the file system is read-only. With an empty log the database file is then complete by itself, and
    // it can be opened as immutable, for which SQLite needs no other file.
    if header.as_ref().is_err_and(lacks_shared_memory_file) && !has_content(&sibling(path, "-wal")) {
        connection = connect(&immutable_uri(path), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
        header = read_header(&connection);
    }
    let version = version(header, path)?;
    refuse_truncated(&connection, path)?;
    Ok((version == MIGRATIONS.len()).then_some(connection))
}

/// An empty read-only database in memory, for a state folder that doesn't have one.
pub(crate) fn open_empty(path: &Path) -> Result<Connection, StoreError> {
    let mut connection =
        Connection::open_in_memory().map_err(database("create an empty database in memory for", path))?;
    migrate(&mut connection).map_err(database("create an empty database in memory for", path))?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(database("create an empty database in memory for", path))?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(database("open the database", path))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(database("set the lock timeout", path))?;
    connection.pragma_update(None, "cell_size_check", true).map_err(database("turn on page checks", path))?;
    Ok(connection)
}

/// Refuses an empty or missing database whose log or runs exist. SQLite would treat it as a new database and discard
/// the log, but it can be the rest of a truncated or moved one.
fn refuse_orphaned_log(path: &Path) -> Result<(), StoreError> {
    // Another process may be creating the same database at this moment. It writes the database's first page before the
    // log and the folders of runs, so they are checked in the opposite order: if one of them exists, the length that is
    // read afterwards is that of a database with content, unless it was really emptied.
    let log = has_content(&sibling(path, "-wal"));
    let runs = std::fs::read_dir(path.with_file_name("runs")).is_ok_and(|mut runs| runs.next().is_some());
    match path.metadata() {
        Ok(file) if file.len() == 0 && (log || runs) => {
            Err(refused(format!("{} is empty, although its log or its runs exist", path.display()), DAMAGED))
        }
        Err(_) if log => Err(refused(
            format!("{} does not exist, but its log {} does", path.display(), sibling(path, "-wal").display()),
            "restore the database next to its log, or move the log away, too",
        )),
        _ => Ok(()),
    }
}

/// Refuses a database whose last page is incomplete; SQLite itself only detects missing pages. An incomplete page is
/// harmless while a log exists: a crash during a checkpoint can leave it, and the log still contains the whole page.
fn refuse_truncated(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let page: u64 = connection
        .pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0))
        .map_err(database("read the header of the database", path))?
        .into();
    let is_truncated = path.metadata().is_ok_and(|file| file.len() % page != 0) && !has_content(&sibling(path, "-wal"));
    if is_truncated { Err(refused(format!("{} is truncated", path.display()), DAMAGED)) } else { Ok(()) }
}

fn lacks_shared_memory_file(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}

fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() > 0)
}

/// The path of one of SQLite's files for the database; `suffix` is `-wal` or `-shm`.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The URI that opens the database as immutable; see <https://www.sqlite.org/uri.html>.
fn immutable_uri(path: &Path) -> PathBuf {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    PathBuf::from(uri + "?immutable=1")
}

/// The values that identify a database.
struct DatabaseHeader {
    application: i64,
    version: i64,
    /// The number of tables and indices.
    tables: i64,
}

fn read_header(connection: &Connection) -> rusqlite::Result<DatabaseHeader> {
    // In one transaction, because another process may be creating the same database at this moment.
    let transaction = connection.unchecked_transaction()?;
    let tables = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get(0));
    Ok(DatabaseHeader { application: number("application_id")?, version: number("user_version")?, tables })
}

/// The schema version; 0 for a new database.
fn version(header: rusqlite::Result<DatabaseHeader>, path: &Path) -> Result<usize, StoreError> {
    let DatabaseHeader { application, version, tables } =
        header.map_err(database("read the header of the database", path))?;
    if tables == 0 && version == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        return Err(refused(
            format!("{} belongs to another program (application id {application:#x})", path.display()),
            "choose another state folder",
        ));
    }
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(refused(
            format!(
                "{} has schema version {version}, but this version of stagewright supports at most {}",
                path.display(),
                MIGRATIONS.len()
            ),
            "use the newer version of stagewright that wrote it, or choose another state folder",
        )),
    }
}

/// Turns on WAL mode. While another process does the same to a new database, SQLite returns "busy" without waiting for
/// the timeout, so this retries.
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
    // Read the version again under the lock: another process may have migrated the database in the meantime.
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for step in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()
}
