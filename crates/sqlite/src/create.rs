//! Making a database so that a crash leaves either none or all of it.

use rusqlite::Connection;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Makes a database at `path`, where there is none: it gets its name only when `fill` has filled it and it is on the disk. So a file of
/// that name which is empty was emptied by somebody, and is never taken for a new one.
///
/// # Errors
/// Those of `fill`, and what the file system says, as an error of SQLite.
pub fn create<E: From<rusqlite::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut Connection) -> Result<(), E>,
) -> Result<(), E> {
    let unfinished = beside(path, "new");
    // Left by a crash in the middle of this, if it is there.
    drop(std::fs::remove_file(&unfinished));
    let made = make(&unfinished, path, fill);
    if made.is_err() {
        drop(std::fs::remove_file(&unfinished));
    }
    made
}

fn make<E: From<rusqlite::Error>>(
    unfinished: &Path,
    path: &Path,
    fill: impl FnOnce(&mut Connection) -> Result<(), E>,
) -> Result<(), E> {
    let mut connection = Connection::open(unfinished)?;
    // Syncs at the commit: the file is whole before it has its name.
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    fill(&mut connection)?;
    connection.close().map_err(|(_, error)| error)?;
    let named = std::fs::rename(unfinished, path).and_then(|()| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    });
    Ok(named.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?)
}

/// The file of this kind that belongs to a database: `central.db-wal`.
pub(crate) fn beside(path: &Path, kind: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-");
    name.push(kind);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let failed: rusqlite::Result<()> = create(&path, |connection| {
            connection.execute_batch("CREATE TABLE a (b)")?;
            Err(rusqlite::Error::InvalidQuery)
        });
        assert!(failed.is_err() && !path.exists());
        create(&path, |connection| connection.execute_batch("CREATE TABLE a (b)")).unwrap();
        let tables: i64 = Connection::open(&path)
            .unwrap()
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 1);
        assert!(!beside(&path, "new").exists());
    }
}
