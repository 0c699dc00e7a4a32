//! The tables, and how an older file becomes a present one: each step once, in order, by `user_version`.

use super::OpenError;
use super::open::explain;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use switchboard_router::once::sqlite::Once;

/// Marks a file as ours (`PRAGMA application_id`): "SwCe".
pub(super) const APPLICATION: i32 = 0x5377_4365;

/// Step `n` brings schema version `n` to `n + 1`. A step that was released is never changed.
pub(super) const STEPS: &[&str] = &[concat!(
    include_str!("schema_1.sql"),
    include_str!("schema_duty.sql"),
    include_str!("schema_jobs.sql"),
    include_str!("schema_tags.sql"),
    include_str!("schema_configuration.sql"),
    include_str!("schema_registration.sql")
)];

/// The newest schema version that this program knows.
#[expect(clippy::cast_possible_wrap, reason = "a handful of steps")]
const KNOWN: i64 = STEPS.len() as i64;

/// 2025-01-01, from which the first transaction id of a new file is counted.
const EPOCH_MS: i64 = 1_735_689_600_000;

/// The first transaction id of a file that is made at this time.
pub(super) fn first_id(now_ms: i64) -> i64 {
    ((now_ms - EPOCH_MS) / 1000).clamp(0, i64::from(i32::MAX) / 4)
}

/// Has the ids of 1.6 go on no lower than this.
pub(super) fn raise_ids(connection: &Connection, first: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE counter SET value = max(value, ?1) WHERE name = 'transaction_16'";
    connection.execute(sql, [first]).map(|_| ())
}

/// Makes the keys of readings from the readings.
pub(super) const KEYS_ANEW: &str = "DELETE FROM reading_key;
    INSERT INTO reading_key (station, charge, at_us, evse, reading)
        SELECT station, charge, at_us, evse, id FROM reading WHERE true ORDER BY station, charge, at_us, evse
        ON CONFLICT DO NOTHING;
    UPDATE counter SET value = coalesce((SELECT max(id) FROM reading), 0) WHERE name = 'readings_with_key'";

/// Brings the schema up to date.
pub(super) fn migrate(connection: &mut Connection, path: &Path, now_ms: i64) -> Result<(), OpenError> {
    let fault = |source| explain(path, source);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fault)?;
    if found > KNOWN {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known: KNOWN });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (index, step) in STEPS.iter().enumerate().skip(done) {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
        transaction.execute_batch(step).map_err(fault)?;
        if index == 0 {
            transaction.pragma_update(None, "application_id", APPLICATION).map_err(fault)?;
            // Transaction ids go on where no earlier file of this installation can have been: chargers still hold the
            // ids of a file that was lost, and a stop of theirs must not end a new transaction. One id per second
            // since 2025 leaves more than nine in ten of all 32-bit ids for use.
            let first = first_id(now_ms);
            transaction
                .execute("INSERT INTO counter (name, value) VALUES ('transaction_16', ?1)", [first])
                .map_err(fault)?;
            // Those of 2.x never travel to a station: they live above all that 1.6 can say.
            transaction
                .execute("INSERT INTO counter (name, value) VALUES ('transaction_2x', ?1)", [1_i64 << 32])
                .map_err(fault)?;
            // Numbers of our own requests: of jobs, reports, reservations and profiles alike. One for every ten seconds,
            // so that a station that remembers numbers of a lost file is not told them again with another meaning.
            transaction
                .execute("INSERT INTO counter (name, value) VALUES ('request', ?1)", [first / 10])
                .map_err(fault)?;
        }
        let version = i64::try_from(index + 1).unwrap_or(KNOWN);
        transaction.pragma_update(None, "user_version", version).map_err(fault)?;
        transaction.commit().map_err(fault)?;
    }
    Once::create_tables(connection).map_err(fault)?;
    Ok(())
}
