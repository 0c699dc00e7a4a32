//! The database's file: how it is opened, checked and brought to the present form.

use super::Config;
use super::fault::{Fault, damaged};
use crate::DirectoryError;
use rusqlite::Connection;
use std::path::Path;
use switchboard_sqlite::{Examined, Saved, create, examine, keep_plans, salvage, spare};

/// Marks a file as ours (`PRAGMA application_id`): "SwDi".
const APPLICATION: i32 = 0x5377_4469;

/// Opens the file, makes sure that it is sound, and migrates it.
pub(super) fn open(file: Option<&Path>, config: &Config) -> Result<Connection, DirectoryError> {
    if let Some(file) = file {
        examine_or_create(file)?;
    }
    let connection = match file {
        Some(file) => Connection::open(file),
        None => Connection::open_in_memory(),
    };
    let mut connection = connection.map_err(Fault::from)?;
    prepare(&mut connection, file, config).map_err(|fault| match DirectoryError::from(fault) {
        DirectoryError::Damaged { detail } => damaged_file(file, &detail),
        other => other,
    })?;
    Ok(connection)
}

/// Looks at the file before SQLite does, which takes an empty one for a new one; makes it if there is none.
fn examine_or_create(file: &Path) -> Result<(), DirectoryError> {
    match examine(file, APPLICATION) {
        Ok(Examined::Sound) => Ok(()),
        Ok(Examined::Absent) => {
            tracing::info!(file = %file.display(), "a new directory begins: no station is registered in it");
            create(file, |connection| fill(connection, file)).map_err(DirectoryError::from)
        }
        Ok(Examined::Damaged(detail)) => Err(damaged_file(Some(file), &detail)),
        Ok(_) => Err(DirectoryError::Damaged {
            detail: format!(
                "{} is a database of another program; choose another data directory",
                name(Some(file))
            ),
        }),
        Err(source) => Err(DirectoryError::Unusable { path: name(Some(file)), source }),
    }
}

fn fill(connection: &mut Connection, file: &Path) -> Result<(), Fault> {
    connection.pragma_update(None, "application_id", APPLICATION)?;
    migrate(connection, Some(file))
}

/// Puts a new file in the place of a damaged one, with what can still be read; none if it is not damaged.
pub(super) fn save(file: &Path) -> Result<Option<Saved>, DirectoryError> {
    match examine(file, APPLICATION) {
        Ok(Examined::Absent) => return Ok(None),
        Ok(Examined::Sound) if open(Some(file), &Config::default()).is_ok() => return Ok(None),
        Err(source) => return Err(DirectoryError::Unusable { path: name(Some(file)), source }),
        Ok(_) => {}
    }
    let saved = salvage(file, |connection| fill(connection, file), |_| Ok::<_, Fault>(()));
    saved.map(Some).map_err(|fault| {
        let why = DirectoryError::from(fault);
        let detail = format!(
            "{}: nothing of it can be saved ({why}); restore a copy, or move it away, with the files whose names begin \
             like its, to start without it",
            name(Some(file))
        );
        DirectoryError::Damaged { detail }
    })
}

fn prepare(connection: &mut Connection, file: Option<&Path>, config: &Config) -> Result<(), Fault> {
    spare(connection, true)?;
    // The rest of the program may have the file only through its owner; waiting is for backup tools that look in.
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    keep_plans(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With WAL, FULL is what syncs at each commit.
    connection.pragma_update(None, "synchronous", "FULL")?;
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Err(damaged(sound));
    }
    migrate(connection, file)?;
    if let Some(bytes) = config.bytes_max {
        let page: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0))?.into();
        let pages = u32::try_from((bytes / page.max(1)).max(1)).unwrap_or(u32::MAX);
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    spare(connection, false)?;
    Ok(())
}

fn migrate(connection: &mut Connection, file: Option<&Path>) -> Result<(), Fault> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(Fault::Refused(DirectoryError::Damaged {
            detail: format!(
                "{} has schema version {found}, and this program knows up to {known}: start the newer program",
                name(file)
            ),
        }));
    }
    for (step, version) in MIGRATIONS.iter().zip(1_u32..).skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

fn damaged_file(file: Option<&Path>, detail: &str) -> DirectoryError {
    if detail.contains("schema version") {
        return DirectoryError::Damaged { detail: detail.to_owned() };
    }
    DirectoryError::Damaged {
        detail: format!(
            "{}: {detail}; nothing was changed. Restore a copy of it, or save what can still be read: switchboard salvage. \
             Docs: operating.md, \"A database is damaged\"",
            name(file)
        ),
    }
}

fn name(file: Option<&Path>) -> String {
    file.map_or_else(|| "the database in memory".to_owned(), |file| file.display().to_string())
}

/// What leads from each schema version to the next. Only ever appended to.
const MIGRATIONS: &[&str] = &["
-- The identity first: most have the same tenant, and are compared as often as rows are looked for.
CREATE TABLE station (
    tenant TEXT NOT NULL, station TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0, registration TEXT, seen_ms INTEGER,
    PRIMARY KEY (station, tenant)
) WITHOUT ROWID;

CREATE TABLE account (
    tenant TEXT NOT NULL, station TEXT NOT NULL, password TEXT, created_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, station)
) WITHOUT ROWID;

-- state: 0 waiting, 1 sending, 2 ended. lane: 0 urgent, 1 normal.
CREATE TABLE outbox (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, station TEXT NOT NULL, id TEXT NOT NULL,
    action TEXT NOT NULL, payload BLOB NOT NULL, lane INTEGER NOT NULL,
    timeout_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, reply_to TEXT, context TEXT,
    state INTEGER NOT NULL, generation INTEGER, outcome TEXT, frame BLOB, ended_ms INTEGER,
    UNIQUE (tenant, station, id)
);
CREATE INDEX outbox_waiting ON outbox (tenant, station, lane, place) WHERE state = 0;
CREATE INDEX outbox_expiring ON outbox (expires_ms) WHERE state = 0;
CREATE INDEX outbox_sending ON outbox (place) WHERE state = 1;
CREATE INDEX outbox_ended ON outbox (ended_ms) WHERE state = 2;

-- AUTOINCREMENT: the id of a removed entry is never given again.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, station TEXT NOT NULL, version TEXT NOT NULL,
    gateway TEXT NOT NULL, generation INTEGER NOT NULL, seq INTEGER NOT NULL,
    action TEXT NOT NULL, frame BLOB NOT NULL, received_ms INTEGER NOT NULL
);
CREATE INDEX journal_of_station ON journal (tenant, station, id);

-- Calls of the journal that processing refused, under the ids that they had there.
CREATE TABLE journal_refused (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL, station TEXT NOT NULL, version TEXT NOT NULL,
    gateway TEXT NOT NULL, generation INTEGER NOT NULL, seq INTEGER NOT NULL,
    action TEXT NOT NULL, frame BLOB NOT NULL, received_ms INTEGER NOT NULL,
    why TEXT NOT NULL, refused_ms INTEGER NOT NULL
);

-- What all processes of an installation have in common.
CREATE TABLE agreement (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"];
