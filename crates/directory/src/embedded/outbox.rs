//! The outbox: commands that wait for their station, and what became of those with an idempotency key.

use super::fault::{Fault, damaged, full};
use super::live::Live;
use super::stations::key as station_key;
use crate::{Enqueued, OutboxEntry, OutboxState, StationKey};
use bytes::Bytes;
use bytestring::ByteString;
use rusqlite::{Connection, Params, Row, params};
use std::time::Duration;
use switchboard_bus::{Lane, OutcomeKind};

pub(super) fn put(connection: &Connection, live: &Live, entry: &OutboxEntry) -> Result<Enqueued, Fault> {
    live.note_waiting(true);
    if let Some(there) = get(connection, &entry.key, &entry.id)? {
        return Ok(Enqueued::Repeat(there.state));
    }
    let waiting: i64 = connection
        .prepare_cached("SELECT count(*) FROM outbox WHERE tenant = ?1 AND station = ?2 AND state = 0")?
        .query_row(params![&*entry.key.tenant, entry.key.station.as_str()], |row| row.get(0))?;
    if waiting >= WAITING_MAX {
        return Err(Fault::Refused(full("too many commands wait for this station")));
    }
    let (state, generation, outcome, frame) = match &entry.state {
        OutboxState::Waiting => (WAITING, None, None, None),
        OutboxState::Sending { generation } => (SENDING, Some(generation.cast_signed()), None, None),
        OutboxState::Ended { outcome, frame } => (ENDED, None, Some(outcome.as_str()), Some(&**frame)),
    };
    connection
        .prepare_cached(
            "INSERT INTO outbox (tenant, station, id, action, payload, lane, timeout_ms, expires_ms,
             reply_to, context, state, generation, outcome, frame, ended_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            &*entry.key.tenant,
            entry.key.station.as_str(),
            &*entry.id,
            &*entry.action,
            &*entry.payload,
            match entry.lane {
                Lane::Urgent => 0_i64,
                Lane::Normal => 1,
            },
            i64::try_from(entry.timeout.as_millis()).unwrap_or(i64::MAX),
            entry.expires_ms,
            entry.reply_to.as_deref(),
            entry.context.as_deref(),
            state,
            generation,
            outcome,
            frame,
            // One that has ended before it came in counts from when it would have expired.
            (state == ENDED).then_some(entry.expires_ms),
        ])?;
    Ok(Enqueued::Fresh)
}

pub(super) fn waiting(
    connection: &Connection,
    key: &StationKey,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<OutboxEntry>, Fault> {
    let sql =
        "WHERE tenant = ?1 AND station = ?2 AND state = 0 AND expires_ms > ?3 ORDER BY lane, place LIMIT ?4";
    select(connection, sql, params![&*key.tenant, key.station.as_str(), now_ms, bound(limit)])
}

pub(super) fn sending(
    connection: &Connection,
    key: &StationKey,
    id: &str,
    generation: u64,
) -> Result<bool, Fault> {
    let changed = connection
        .prepare_cached(
            "UPDATE outbox SET state = 1, generation = ?4
             WHERE tenant = ?1 AND station = ?2 AND id = ?3 AND state = 0",
        )?
        .execute(params![&*key.tenant, key.station.as_str(), id, generation.cast_signed()])?;
    Ok(changed > 0)
}

pub(super) fn put_back(
    connection: &Connection,
    live: &Live,
    key: &StationKey,
    id: &str,
    generation: u64,
) -> Result<(), Fault> {
    live.note_waiting(true);
    connection
        .prepare_cached(
            "UPDATE outbox SET state = 0, generation = NULL
             WHERE tenant = ?1 AND station = ?2 AND id = ?3 AND state = 1 AND generation = ?4",
        )?
        .execute(params![&*key.tenant, key.station.as_str(), id, generation.cast_signed()])?;
    Ok(())
}

pub(super) fn end(
    connection: &Connection,
    key: &StationKey,
    id: &str,
    outcome: OutcomeKind,
    frame: &[u8],
    now_ms: i64,
) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "UPDATE outbox SET state = 2, generation = NULL, outcome = ?4, frame = ?5, ended_ms = ?6
             WHERE tenant = ?1 AND station = ?2 AND id = ?3 AND state <> 2",
        )?
        .execute(params![&*key.tenant, key.station.as_str(), id, outcome.as_str(), frame, now_ms])?;
    Ok(())
}

pub(super) fn get(connection: &Connection, key: &StationKey, id: &str) -> Result<Option<OutboxEntry>, Fault> {
    let sql = "WHERE tenant = ?1 AND station = ?2 AND id = ?3";
    Ok(select(connection, sql, params![&*key.tenant, key.station.as_str(), id])?.pop())
}

/// Ends what has expired, and what a connection was sending that is not there any more; forgets what ended long ago.
pub(super) fn sweep(
    connection: &Connection,
    live: &Live,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<OutboxEntry>, Fault> {
    let mut ended = Vec::new();
    let expired = "WHERE state = 0 AND expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2";
    for entry in select(connection, expired, params![now_ms, bound(limit)])? {
        ended.push(end_with(connection, entry, OutcomeKind::Expired, now_ms)?);
    }
    // At most one per connection is being sent, so that they can be looked at one by one.
    for entry in select(connection, "WHERE state = 1 ORDER BY place", params![])? {
        if ended.len() >= limit {
            break;
        }
        let OutboxState::Sending { generation } = entry.state else { continue };
        let there = live.locate(&entry.key, now_ms);
        if there.is_none_or(|location| location.connection.generation != generation) {
            ended.push(end_with(connection, entry, OutcomeKind::Unknown, now_ms)?);
        }
    }
    connection
        .prepare_cached(
            "DELETE FROM outbox WHERE place IN
             (SELECT place FROM outbox WHERE state = 2 AND ended_ms <= ?1 ORDER BY ended_ms LIMIT ?2)",
        )?
        .execute(params![now_ms.saturating_sub(REMEMBER_MS), bound(limit)])?;
    look_whether_any_waits(connection, live)?;
    Ok(ended)
}

/// Nearly always no command waits for anybody, and then no station that connects needs a look into the database. Looked
/// for on the thread that also puts commands in, so that none is overlooked for longer than from one sweep to the next,
/// and that only where what ended one was taken back.
pub(super) fn look_whether_any_waits(connection: &Connection, live: &Live) -> Result<(), Fault> {
    let any = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM outbox WHERE state = 0)")?
        .query_row([], |row| row.get(0))?;
    live.note_waiting(any);
    Ok(())
}

fn end_with(
    connection: &Connection,
    mut entry: OutboxEntry,
    outcome: OutcomeKind,
    now_ms: i64,
) -> Result<OutboxEntry, Fault> {
    end(connection, &entry.key, &entry.id, outcome, &[], now_ms)?;
    entry.state = OutboxState::Ended { outcome, frame: Bytes::new() };
    Ok(entry)
}

fn select(connection: &Connection, condition: &str, params: impl Params) -> Result<Vec<OutboxEntry>, Fault> {
    let sql = format!(
        "SELECT tenant, station, id, action, payload, lane, timeout_ms, expires_ms, reply_to, context,
         state, generation, outcome, frame FROM outbox {condition}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(entry(row)?);
    }
    Ok(entries)
}

fn entry(row: &Row<'_>) -> Result<OutboxEntry, Fault> {
    let text = |column| row.get::<_, String>(column).map(ByteString::from);
    let state = match row.get::<_, i64>(10)? {
        WAITING => OutboxState::Waiting,
        SENDING => OutboxState::Sending { generation: row.get::<_, i64>(11)?.cast_unsigned() },
        ENDED => OutboxState::Ended {
            outcome: OutcomeKind::from_wire(&row.get::<_, String>(12)?)
                .ok_or_else(|| damaged("an outcome that does not exist"))?,
            frame: row.get::<_, Option<Vec<u8>>>(13)?.unwrap_or_default().into(),
        },
        _ => return Err(damaged("a state of a command that does not exist")),
    };
    Ok(OutboxEntry {
        key: station_key(row)?,
        id: text(2)?,
        action: text(3)?,
        payload: row.get::<_, Vec<u8>>(4)?.into(),
        lane: if row.get::<_, i64>(5)? == 0 { Lane::Urgent } else { Lane::Normal },
        timeout: Duration::from_millis(row.get::<_, i64>(6)?.try_into().unwrap_or(0)),
        expires_ms: row.get(7)?,
        reply_to: row.get::<_, Option<String>>(8)?.map(ByteString::from),
        context: row.get::<_, Option<String>>(9)?.map(ByteString::from),
        state,
    })
}

fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

const WAITING: i64 = 0;
const SENDING: i64 = 1;
const ENDED: i64 = 2;
/// How many commands may wait for one station; the next one is refused for lack of room.
const WAITING_MAX: i64 = 256;
/// How long the outcome of a command is remembered, so that its idempotency key is recognised.
const REMEMBER_MS: i64 = 86_400_000;
