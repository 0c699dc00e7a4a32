//! Leaving a database as it is until it is known to be sound.

use rusqlite::{Connection, config::DbConfig};

/// Whether closing this connection leaves the files alone. Otherwise whoever closes a database last has SQLite write its
/// log into it and remove the log, also where the database was found damaged a moment before: then what was stored last
/// would be gone with the log.
///
/// # Errors
/// When SQLite refuses, which it has no reason to.
pub fn spare(connection: &Connection, spared: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, spared)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::beside;

    #[test]
    fn a_spared_database_keeps_its_log() {
        let folder = tempfile::tempdir().unwrap();
        for spared in [true, false] {
            let path = folder.path().join(format!("{spared}.db"));
            let connection = Connection::open(&path).unwrap();
            connection.pragma_update(None, "journal_mode", "WAL").unwrap();
            connection.execute_batch("CREATE TABLE one (id INTEGER)").unwrap();
            spare(&connection, spared).unwrap();
            drop(connection);
            assert_eq!(beside(&path, "wal").exists(), spared);
        }
    }
}
