//! Opening the database file: one owner, a schema we know, and settings under which an answered commit is on the disk.

use super::schema;
use super::{OpenError, StoreError};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use switchboard_sqlite::{Examined, Saved, create, examine, keep_plans, salvage, spare};

/// Above this size the whole file is no longer checked at each start; damage then shows when it is read.
const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The write-ahead log is cut back to this size after a checkpoint, so that one burst does not keep its space for ever.
const LOG_BYTES_KEPT: i64 = 16 * 1024 * 1024;

/// The exclusive right to a database file. The operating system releases it when the process ends, however it ends.
///
/// A file of its own is locked, since closing any other handle on the database itself would drop the locks that SQLite
/// holds there.
#[derive(Debug)]
pub(super) struct Owner(File);

impl Drop for Owner {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is being started at this moment has a copy of it until it runs
        // its own program. An error leaves the lock to the end of this process.
        drop(self.0.unlock());
    }
}

impl Owner {
    fn claim(database: &Path) -> Result<Self, OpenError> {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: database.to_owned() }),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
        }
    }
}

/// Puts a new file in the place of a damaged one, with what can still be read; none if it is not damaged.
pub(super) fn save(path: &Path, now_ms: i64) -> Result<Option<Saved>, OpenError> {
    match examine(path, schema::APPLICATION) {
        Ok(Examined::Absent) => return Ok(None),
        Ok(Examined::Sound) => match open_writer(path, now_ms) {
            Ok(_) => return Ok(None),
            Err(OpenError::Damaged { .. }) => {}
            Err(other) => return Err(other),
        },
        Err(source) => return Err(OpenError::Io { path: path.to_owned(), source }),
        Ok(_) => {}
    }
    let _owner = Owner::claim(path)?;
    let first = schema::first_id(now_ms);
    let saved = salvage(
        path,
        |connection| schema::migrate(connection, path, now_ms),
        // Numbers that were given after the last one that can be read are not given again.
        |connection| {
            schema::raise_ids(connection, first)?;
            // A key may have been saved whose reading was not, or the other way round.
            connection.execute_batch(schema::KEYS_ANEW)?;
            Ok::<_, OpenError>(())
        },
    );
    saved.map(Some).map_err(|error| {
        let why = chain(&error);
        let detail = format!(
            "nothing of it can be saved ({why}); move it away, with the files whose names begin like its, to start \
             without it"
        );
        OpenError::Damaged { path: path.to_owned(), detail }
    })
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

/// Opens the file for its one writer, makes it if there is none, and brings its schema up to date.
pub(super) fn open_writer(path: &Path, now_ms: i64) -> Result<(Connection, Owner), OpenError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_private(folder).map_err(|source| OpenError::Io { path: folder.to_owned(), source })?;
    }
    let owner = Owner::claim(path)?;
    match examine(path, schema::APPLICATION) {
        Ok(Examined::Sound) => {}
        Ok(Examined::Absent) => {
            tracing::info!(file = %path.display(), "new books begin: no transaction is in them");
            create(path, |connection| schema::migrate(connection, path, now_ms))?;
        }
        Ok(Examined::Damaged(detail)) => return Err(OpenError::Damaged { path: path.to_owned(), detail }),
        Ok(_) => return Err(OpenError::Foreign { path: path.to_owned() }),
        Err(source) => return Err(OpenError::Io { path: path.to_owned(), source }),
    }
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let fault = |source: rusqlite::Error| explain(path, source);
    let mut connection = Connection::open(path).map_err(fault)?;
    spare(&connection, true).map_err(fault)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(fault)?;
    if size <= CHECKED_BYTES_MAX {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fault)?;
        if verdict != "ok" {
            return Err(OpenError::Damaged { path: path.to_owned(), detail: verdict });
        }
    }
    // FULL in WAL mode syncs the log at every commit: what is answered afterwards survives a power cut.
    connection.pragma_update(None, "journal_mode", "WAL").map_err(fault)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(fault)?;
    connection.pragma_update(None, "cache_size", -32 * 1024).map_err(fault)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT).map_err(fault)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4000).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(128);
    keep_plans(&connection).map_err(fault)?;
    schema::migrate(&mut connection, path, now_ms)?;
    spare(&connection, false).map_err(fault)?;
    Ok((connection, owner))
}

/// Makes a folder that only its owner may look into: tokens are personal data. One that is there stays as it is.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Opens the file once more, for reading only. The writer has opened it before.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let fault = |source: rusqlite::Error| explain(path, source);
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(fault)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(fault)?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(64);
    keep_plans(&connection).map_err(fault)?;
    Ok(connection)
}

/// The error at opening that an error of SQLite stands for.
pub(super) fn explain(path: &Path, source: rusqlite::Error) -> OpenError {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { path: path.to_owned(), detail: source.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            OpenError::InUse { path: path.to_owned() }
        }
        _ => OpenError::Sql { path: path.to_owned(), source },
    }
}

/// Moves the log into the database and empties it, so that a closed store is one file.
pub(super) fn checkpoint(connection: &super::Connection) -> Result<(), StoreError> {
    let Some(connection) = connection.sqlite() else { return Ok(()) };
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}
