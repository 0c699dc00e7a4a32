//! Statements that are compiled once.

use rusqlite::{Connection, config::DbConfig};

/// Has statements keep the plan that they were compiled to. Otherwise SQLite looks at values that are bound, as in
/// `LIMIT ?`, and compiles such a statement again whenever one is bound anew: ten times the work of running it.
///
/// # Errors
/// When SQLite refuses, which it has no reason to.
pub fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::StatementStatus;

    #[test]
    fn another_limit_does_not_compile_a_statement_again() {
        for kept in [false, true] {
            let connection = Connection::open_in_memory().unwrap();
            if kept {
                keep_plans(&connection).unwrap();
            }
            connection
                .execute_batch("CREATE TABLE one (at INTEGER); CREATE INDEX by_time ON one (at)")
                .unwrap();
            let mut statement = connection.prepare("SELECT at FROM one ORDER BY at LIMIT ?1").unwrap();
            for limit in 1..10 {
                assert!(!statement.exists([limit]).unwrap());
            }
            let compiled = statement.get_status(StatementStatus::RePrepare);
            assert_eq!(compiled == 0, kept, "{compiled} times");
        }
    }
}
