//! The journal: calls that were answered before they were processed.

use crate::fault::{Fault, damaged};
use crate::session::Session;
use crate::stations::{bound, key as station_key, version};
use bytestring::ByteString;
use std::sync::Arc;
use switchboard_bus::ConnectionKey;
use switchboard_directory::{JournalEntry, RefusedEntry, StationKey};
use tokio_postgres::Row;

pub(crate) async fn append(session: Arc<Session>, entry: JournalEntry) -> Result<u64, Fault> {
    let (tenant, station) = (&*entry.key.tenant, entry.key.station.as_str());
    let (version, gateway) = (entry.version.as_str(), &*entry.connection.gateway);
    let (generation, seq) = (entry.connection.generation.cast_signed(), entry.seq.cast_signed());
    let (action, frame, received_ms) = (&*entry.action, &*entry.frame, entry.received_ms);
    let parameters: [crate::session::Parameter<'_>; 9] =
        [&tenant, &station, &version, &gateway, &generation, &seq, &action, &frame, &received_ms];
    let rows = session.rows(APPEND, &parameters).await?;
    let id = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
    id.map(i64::cast_unsigned).ok_or_else(|| damaged("an entry of the journal without a number"))
}

pub(crate) async fn read(
    session: Arc<Session>,
    key: Option<StationKey>,
    after: u64,
    limit: usize,
) -> Result<Vec<JournalEntry>, Fault> {
    let (after, limit) = (i64::try_from(after).unwrap_or(i64::MAX), bound(limit));
    let rows = match &key {
        Some(key) => {
            session.rows(OF_STATION, &[&&*key.tenant, &key.station.as_str(), &after, &limit]).await?
        }
        None => session.rows(OF_ALL, &[&after, &limit]).await?,
    };
    rows.iter().map(entry).collect()
}

pub(crate) async fn remove(session: Arc<Session>, id: u64) -> Result<(), Fault> {
    session.execute(REMOVE, &[&id.cast_signed()]).await?;
    Ok(())
}

/// Moves an entry to those that were refused.
pub(crate) async fn refuse(
    session: Arc<Session>,
    id: u64,
    why: ByteString,
    now_ms: i64,
) -> Result<(), Fault> {
    // Processing's words, in which PostgreSQL takes every character but this one. It would refuse the entry for good, and
    // those of the same station behind it.
    let why = why.replace('\0', "\u{fffd}");
    session.execute(REFUSE, &[&id.cast_signed(), &why, &now_ms]).await?;
    Ok(())
}

pub(crate) async fn refused(
    session: Arc<Session>,
    after: u64,
    limit: usize,
) -> Result<Vec<RefusedEntry>, Fault> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let rows = session.rows(REFUSED, &[&after, &bound(limit)]).await?;
    let refused = |row: &Row| {
        Ok(RefusedEntry { entry: entry(row)?, why: row.try_get(10)?, refused_ms: row.try_get(11)? })
    };
    rows.iter().map(refused).collect()
}

/// Forgets an entry that was refused; whether there was one.
pub(crate) async fn settle(session: Arc<Session>, id: u64) -> Result<bool, Fault> {
    Ok(session.execute(SETTLE, &[&id.cast_signed()]).await? > 0)
}

pub(crate) async fn count(session: Arc<Session>, key: Option<StationKey>) -> Result<u64, Fault> {
    let rows = match &key {
        Some(key) => session.rows(COUNT_OF_STATION, &[&&*key.tenant, &key.station.as_str()]).await?,
        None => session.rows(COUNT_OF_ALL, &[]).await?,
    };
    let count = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
    Ok(count.unwrap_or(0).cast_unsigned())
}

/// Takes the turn at working it off, keeps it, or gives it up; whether it is this one's.
pub(crate) async fn turn(
    session: Arc<Session>,
    owner: ByteString,
    until_ms: i64,
    now_ms: i64,
) -> Result<bool, Fault> {
    let (until_ms, now_ms) = (session.server_ms(until_ms), session.server_ms(now_ms));
    Ok(session.execute(TURN, &[&&*owner, &until_ms, &now_ms]).await? > 0)
}

fn entry(row: &Row) -> Result<JournalEntry, Fault> {
    Ok(JournalEntry {
        key: station_key(row)?,
        id: row.try_get::<_, i64>(2)?.cast_unsigned(),
        version: version(row.try_get(3)?)?,
        connection: ConnectionKey {
            gateway: row.try_get::<_, String>(4)?.into(),
            generation: row.try_get::<_, i64>(5)?.cast_unsigned(),
        },
        seq: row.try_get::<_, i64>(6)?.cast_unsigned(),
        action: row.try_get::<_, String>(7)?.into(),
        frame: row.try_get::<_, Vec<u8>>(8)?.into(),
        received_ms: row.try_get(9)?,
    })
}

/// All that a connection is to prepare.
pub(crate) const ALL: &[&str] =
    &[TURN, APPEND, OF_STATION, OF_ALL, REMOVE, REFUSE, REFUSED, SETTLE, COUNT_OF_STATION, COUNT_OF_ALL];

const TURN: &str = "INSERT INTO turn AS t (name, owner, until_ms) VALUES ('journal', $1, $2)
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until_ms = excluded.until_ms
    WHERE t.owner = excluded.owner OR t.until_ms <= $3";
// Sent again, it finds itself.
const APPEND: &str = "INSERT INTO journal
    (tenant, station, version, gateway, generation, seq, action, frame, received_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (tenant, station, generation, seq) DO UPDATE SET seq = excluded.seq RETURNING id";
const OF_STATION: &str =
    "SELECT tenant, station, id, version, gateway, generation, seq, action, frame, received_ms
    FROM journal WHERE tenant = $1 AND station = $2 AND id > $3 ORDER BY id LIMIT $4";
const OF_ALL: &str =
    "SELECT tenant, station, id, version, gateway, generation, seq, action, frame, received_ms
    FROM journal WHERE id > $1 ORDER BY id LIMIT $2";
const REMOVE: &str = "DELETE FROM journal WHERE id = $1";
const REFUSE: &str = "WITH moved AS (DELETE FROM journal WHERE id = $1 RETURNING *)
    INSERT INTO journal_refused (id, tenant, station, version, gateway, generation, seq,
    action, frame, received_ms, why, refused_ms)
    SELECT id, tenant, station, version, gateway, generation, seq, action, frame, received_ms, $2, $3
    FROM moved";
const REFUSED: &str =
    "SELECT tenant, station, id, version, gateway, generation, seq, action, frame, received_ms,
    why, refused_ms FROM journal_refused WHERE id > $1 ORDER BY id LIMIT $2";
const SETTLE: &str = "DELETE FROM journal_refused WHERE id = $1";
const COUNT_OF_STATION: &str = "SELECT count(*) FROM journal WHERE tenant = $1 AND station = $2";
const COUNT_OF_ALL: &str = "SELECT count(*) FROM journal";
