//! The journal: calls that were answered before they were processed.

use super::fault::{Fault, damaged};
use super::stations::key as station_key;
use crate::{JournalEntry, RefusedEntry, StationKey};
use rusqlite::{Connection, OptionalExtension, Row, params};
use switchboard_bus::ConnectionKey;
use switchboard_rpc::Version;

pub(super) fn append(connection: &Connection, entry: &JournalEntry) -> Result<u64, Fault> {
    connection
        .prepare_cached(
            "INSERT INTO journal
             (tenant, station, version, gateway, generation, seq, action, frame, received_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            &*entry.key.tenant,
            entry.key.station.as_str(),
            entry.version.as_str(),
            &*entry.connection.gateway,
            entry.connection.generation.cast_signed(),
            entry.seq.cast_signed(),
            &*entry.action,
            &*entry.frame,
            entry.received_ms,
        ])?;
    Ok(connection.last_insert_rowid().cast_unsigned())
}

pub(super) fn read(
    connection: &Connection,
    key: Option<&StationKey>,
    after: u64,
    limit: usize,
) -> Result<Vec<JournalEntry>, Fault> {
    let (after, limit) = (i64::try_from(after).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(if key.is_some() { OF_STATION } else { OF_ALL })?;
    let mut rows = match key {
        Some(key) => statement.query(params![&*key.tenant, key.station.as_str(), after, limit])?,
        None => statement.query(params![after, limit])?,
    };
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(entry(row)?);
    }
    Ok(entries)
}

/// Removes an entry; whose it was.
pub(super) fn remove(connection: &Connection, id: u64) -> Result<Option<StationKey>, Fault> {
    connection
        .prepare_cached("DELETE FROM journal WHERE id = ?1 RETURNING tenant, station")?
        .query_row(params![id.cast_signed()], |row| Ok(station_key(row)))
        .optional()?
        .transpose()
}

/// Moves an entry to those that were refused; whose it was.
pub(super) fn refuse(
    connection: &Connection,
    id: u64,
    why: &str,
    now_ms: i64,
) -> Result<Option<StationKey>, Fault> {
    connection
        .prepare_cached(
            "INSERT INTO journal_refused SELECT id, tenant, station, version, gateway, generation, seq,
             action, frame, received_ms, ?2, ?3 FROM journal WHERE id = ?1",
        )?
        .execute(params![id.cast_signed(), why, now_ms])?;
    remove(connection, id)
}

pub(super) fn refused(connection: &Connection, after: u64, limit: usize) -> Result<Vec<RefusedEntry>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT tenant, station, id, version, gateway, generation, seq, action, frame, received_ms, why, refused_ms
         FROM journal_refused WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let (after, limit) = (i64::try_from(after).unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
    let mut rows = statement.query(params![after, limit])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(RefusedEntry { entry: entry(row)?, why: row.get(10)?, refused_ms: row.get(11)? });
    }
    Ok(entries)
}

/// Forgets an entry that was refused; whether there was one.
pub(super) fn settle(connection: &Connection, id: u64) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached("DELETE FROM journal_refused WHERE id = ?1")?;
    Ok(statement.execute([id.cast_signed()])? > 0)
}

fn entry(row: &Row<'_>) -> Result<JournalEntry, Fault> {
    Ok(JournalEntry {
        key: station_key(row)?,
        id: row.get::<_, i64>(2)?.cast_unsigned(),
        version: version(&row.get::<_, String>(3)?)?,
        connection: ConnectionKey {
            gateway: row.get::<_, String>(4)?.into(),
            generation: row.get::<_, i64>(5)?.cast_unsigned(),
        },
        seq: row.get::<_, i64>(6)?.cast_unsigned(),
        action: row.get::<_, String>(7)?.into(),
        frame: row.get::<_, Vec<u8>>(8)?.into(),
        received_ms: row.get(9)?,
    })
}

fn version(number: &str) -> Result<Version, Fault> {
    Version::from_number(number).ok_or_else(|| damaged("a version that does not exist"))
}

const OF_STATION: &str =
    "SELECT tenant, station, id, version, gateway, generation, seq, action, frame, received_ms
    FROM journal WHERE tenant = ?1 AND station = ?2 AND id > ?3 ORDER BY id LIMIT ?4";
const OF_ALL: &str =
    "SELECT tenant, station, id, version, gateway, generation, seq, action, frame, received_ms
    FROM journal WHERE id > ?1 ORDER BY id LIMIT ?2";
