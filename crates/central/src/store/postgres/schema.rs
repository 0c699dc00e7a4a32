//! The tables in PostgreSQL, made from the same text as those in SQLite.

use super::Error;
use crate::store::schema::{STEPS, first_id};
use switchboard_router::once::postgres::Once;
use tokio_postgres::Client;

/// Everything lies in a schema of its own: a database may belong to other programs as well.
pub(super) const SCHEMA: &str = "switchboard_central";

/// The newest version that this program knows.
pub(super) const KNOWN: i64 = STEPS.len() as i64;

/// Makes the tables, if they are not there; gives out the version that is. Any number of processes may do so at once.
pub(super) async fn make(client: &Client, now_ms: i64) -> Result<i64, Error> {
    // What `Once` has of its own comes after ours, so that who died in between has made the one and not the other.
    let found = client
        .query_one(
            "SELECT count(*) = 3 FROM pg_tables
            WHERE schemaname = $1 AND tablename IN ('version', 'once', 'once_journalled')",
            &[&SCHEMA],
        )
        .await?;
    if !found.try_get::<_, bool>(0)? {
        client.batch_execute(&text(now_ms)).await?;
        Once::create_tables(client).await?;
        tracing::info!("new books begin in PostgreSQL: no transaction is in them");
    }
    Ok(client.query_one("SELECT value FROM version", &[]).await?.try_get(0)?)
}

/// Which books these are: a copy in another database is another one.
pub(super) async fn identity(client: &Client) -> Result<String, tokio_postgres::Error> {
    let sql = "SELECT md5(identity || current_database()) FROM version";
    client.query_one(sql, &[]).await?.try_get(0)
}

/// The statements that make everything; several in one message are one transaction. Whoever comes second finds the
/// tables made: the lock is held to the end of that transaction.
fn text(now_ms: i64) -> String {
    let mut text = format!("{PREPARATION}\nDO $all$ BEGIN IF to_regclass('version') IS NULL THEN\n");
    for step in STEPS {
        text.push_str(&translated(step));
    }
    text.push_str(LONG);
    // As for a file: ids go on where no earlier books of this installation can have been.
    text.push_str(&format!(
        "CREATE SEQUENCE transaction_16 MINVALUE 0 START {} MAXVALUE {};
        CREATE SEQUENCE transaction_2x START {};
        CREATE SEQUENCE request MINVALUE 0 START {};
        CREATE TABLE worker (id TEXT PRIMARY KEY, until_ms BIGINT NOT NULL);
        CREATE TABLE version (value BIGINT NOT NULL, identity TEXT NOT NULL);
        INSERT INTO version VALUES ({KNOWN}, md5(random()::TEXT || clock_timestamp()::TEXT));
        END IF; END $all$;",
        first_id(now_ms) + 1,
        i32::MAX,
        (1_i64 << 32) + 1,
        first_id(now_ms) / 10 + 1,
    ));
    text
}

/// What SQLite has and PostgreSQL has not. Its case-insensitive letters are all letters of Unicode, where SQLite means those
/// of ASCII only.
const PREPARATION: &str = "SELECT pg_advisory_xact_lock(7812734019365);
    DO $own$ BEGIN IF to_regnamespace('switchboard_central') IS NULL THEN CREATE SCHEMA switchboard_central; END IF; END $own$;
    CREATE COLLATION IF NOT EXISTS nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE OR REPLACE FUNCTION max(BIGINT, BIGINT) RETURNS BIGINT LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS 'SELECT greatest($1, $2)';
    CREATE OR REPLACE FUNCTION min(BIGINT, BIGINT) RETURNS BIGINT LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS 'SELECT least($1, $2)';
    CREATE OR REPLACE FUNCTION instr(TEXT, TEXT) RETURNS INT LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS 'SELECT strpos($1 COLLATE \"C\", $2 COLLATE \"C\")';
    CREATE OR REPLACE FUNCTION json_each(TEXT) RETURNS TABLE (value TEXT) LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS 'SELECT json_array_elements_text($1::json)';";

/// An index of PostgreSQL holds no text of more than 2.7 KB, and would refuse the row. Where a station's words are looked
/// for they are looked for by their hash: what it says of money is kept however long it is. One at a time changes a
/// station's things, so that its transactions need no unique index to be so.
const LONG: &str = "
    DROP VIEW known_reading;
    DROP TABLE reading_key;
    CREATE UNIQUE INDEX reading_key ON reading (station, charge, at_us, evse);
    CREATE VIEW known_reading AS SELECT * FROM reading;
    DROP INDEX charge_running;
    CREATE INDEX charge_running ON charge USING hash (token COLLATE nocase) WHERE ended = 0;
    DROP INDEX charge_by_remote_id;
    CREATE INDEX charge_by_remote_id ON charge USING hash (remote_id) WHERE remote_id IS NOT NULL;
    ALTER TABLE odd_stop DROP CONSTRAINT odd_stop_pkey;
    CREATE UNIQUE INDEX odd_stop_key ON odd_stop (station, claimed, md5(content));
    ALTER TABLE status_change DROP CONSTRAINT status_change_pkey;
    CREATE UNIQUE INDEX status_change_key
        ON status_change (station, at_us, evse, connector, md5(status), md5(error_code));
    DROP INDEX notice_natural;
    CREATE UNIQUE INDEX notice_natural ON notice (station, action, md5(natural_key)) WHERE natural_key IS NOT NULL;
";

/// A step of the schema in the words of PostgreSQL.
fn translated(step: &str) -> String {
    step.lines()
        .map(|line| line.split("--").next().unwrap_or_default())
        .map(|line| {
            let line = line
                .replace("INTEGER PRIMARY KEY", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
                .replace("INTEGER", "BIGINT")
                .replace("BLOB", "BYTEA")
                .replace(" STRICT, WITHOUT ROWID;", ";")
                .replace(" STRICT;", ";");
            line + "\n"
        })
        .collect()
}
