//! The database's schema, how an older one is brought up to date, and what is looked at before anything is written.
//!
//! Opening reads the header and the schema, and SQLite compares the length of the file with what its header says. So
//! another program's file, garbage and a file that was cut off are found here, at the cost of a few pages, and left as
//! they were found. A page that was damaged in place isn't: to find it would take reading the whole database at each
//! start. It is an error when it is read, never a shorter answer.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use stagewright_engine::StoreError;

use crate::error::{DAMAGED, WRITABLE, database, file, refused};

/// What a connection keeps of the database in memory, KiB: the pages that a run of thousands of stages writes to.
const CACHE: i64 = 16 * 1024;

/// `PRAGMA application_id`: "SgWr". Tells our databases from those of others.
const APPLICATION_ID: i64 = 0x5367_5772;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Step n leads from schema version n to n + 1; `PRAGMA user_version` holds the version. A step that has been released
/// never changes.
const MIGRATIONS: &[&str] =
    &[include_str!("schema/0001.sql"), include_str!("schema/0002.sql"), include_str!("schema/0003.sql")];

/// Opens for reading and writing; makes the database when it isn't there.
pub(crate) fn open(path: &Path) -> Result<Connection, StoreError> {
    refuse_remains(path)?;
    make_private(path)?;
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let version = version(read_header(&connection), path)?;
    refuse_cut(&connection, path)?;
    // SQLite takes what it can get.
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(database("look at the database", path))? {
        return Err(refused(format!("can't write {}", path.display()), WRITABLE));
    }
    if version == 0 {
        // Counts only before there is anything in the file. Lets `gc` give space back in small steps.
        connection
            .pragma_update(None, "auto_vacuum", "INCREMENTAL")
            .map_err(database("choose how space is given back", path))?;
    }
    enter_wal(&connection).map_err(database("turn on write-ahead logging", path))?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(database("ask for durable commits", path))?;
    connection.pragma_update(None, "cache_size", -CACHE).map_err(database("set the size of the cache", path))?;
    connection.pragma_update(None, "foreign_keys", true).map_err(database("turn on foreign keys", path))?;
    if version < MIGRATIONS.len() {
        migrate(&mut connection).map_err(database("bring the schema up to date", path))?;
    }
    keep_private(path)?;
    Ok(connection)
}

/// Makes an empty database that its owner alone can read. SQLite gives the files beside it the same mode.
fn make_private(path: &Path) -> Result<(), StoreError> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file("create", path, error)),
        _ => Ok(()),
    }
}

/// Closes a database of an earlier version to others.
fn keep_private(path: &Path) -> Result<(), StoreError> {
    for path in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        if path.metadata().is_ok_and(|found| found.mode() & 0o077 != 0) {
            let closed = std::fs::set_permissions(&path, Permissions::from_mode(0o600));
            closed.map_err(|error| file("close to others", &path, error))?;
        }
    }
    Ok(())
}

/// Opens for reading, also where nothing may be written. None when there is no database yet, or one that has to be
/// brought up to date first.
pub(crate) fn open_read_only(path: &Path) -> Result<Option<Connection>, StoreError> {
    refuse_remains(path)?;
    if !path.exists() {
        return Ok(None);
    }
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut header = read_header(&connection);
    // A database in WAL mode needs a file beside it that all its readers share. Where that can't be made nobody
    // writes, and what a writer left in its log, it can't have left here.
    if header.as_ref().is_err_and(needs_files_beside) && !has_content(&beside(path, "-wal")) {
        connection = connect(&immutable(path), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
        header = read_header(&connection);
    }
    let version = version(header, path)?;
    refuse_cut(&connection, path)?;
    Ok((version == MIGRATIONS.len()).then_some(connection))
}

/// A database that holds nothing, for reading where there is none.
pub(crate) fn nothing(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open_in_memory().map_err(database("stand in for the database", path))?;
    migrate(&mut connection).map_err(database("stand in for the database", path))?;
    connection.pragma_update(None, "query_only", true).map_err(database("stand in for the database", path))?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(database("open the database", path))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(database("set the lock's timeout", path))?;
    connection.pragma_update(None, "cell_size_check", true).map_err(database("have pages checked", path))?;
    Ok(connection)
}

/// To SQLite an empty file is a new database, and what stands in the log beside it is thrown away. Here it can be what
/// is left of one that was cut off.
fn refuse_remains(path: &Path) -> Result<(), StoreError> {
    // These are made after the database has its first page, and looked for before it: another process may be setting
    // up the same new database at this moment.
    let log = has_content(&beside(path, "-wal"));
    let runs = std::fs::read_dir(path.with_file_name("runs")).is_ok_and(|mut runs| runs.next().is_some());
    match path.metadata() {
        Ok(file) if file.len() == 0 && (log || runs) => {
            Err(refused(format!("{} is empty, though there have been runs", path.display()), DAMAGED))
        }
        Err(_) if log => Err(refused(
            format!("{} is missing, though its log {} is there", path.display(), beside(path, "-wal").display()),
            "put the database back beside its log, or move the log away too",
        )),
        _ => Ok(()),
    }
}

/// SQLite minds missing pages, and not that the last one is incomplete. While there is a log that is to be written
/// back, this is how a crash can leave it, and no harm.
fn refuse_cut(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let page: u64 = connection
        .pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0))
        .map_err(database("read the header of the database", path))?
        .into();
    let cut = path.metadata().is_ok_and(|file| file.len() % page != 0) && !has_content(&beside(path, "-wal"));
    if cut { Err(refused(format!("{} was cut off", path.display()), DAMAGED)) } else { Ok(()) }
}

fn needs_files_beside(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}

fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() > 0)
}

/// `suffix` is one of those of SQLite's own files.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// <https://www.sqlite.org/uri.html>
fn immutable(path: &Path) -> PathBuf {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    PathBuf::from(uri + "?immutable=1")
}

/// What identifies a database.
struct Header {
    application: i64,
    version: i64,
    /// Tables and indices.
    tables: i64,
}

fn read_header(connection: &Connection) -> rusqlite::Result<Header> {
    // In one transaction: another process may be setting up the same new database at this moment.
    let transaction = connection.unchecked_transaction()?;
    let tables = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get(0));
    Ok(Header { application: number("application_id")?, version: number("user_version")?, tables })
}

/// The schema version; 0 for a new database.
fn version(header: rusqlite::Result<Header>, path: &Path) -> Result<usize, StoreError> {
    let Header { application, version, tables } = header.map_err(database("read the header of the database", path))?;
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
