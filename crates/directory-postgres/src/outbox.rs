//! The outbox: commands that wait for their station, and what became of those with an idempotency key.

use crate::fault::{Fault, damaged, full};
use crate::session::Session;
use crate::stations::{bound, key as station_key};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::{join, join3};
use std::sync::Arc;
use std::time::Duration;
use switchboard_bus::{Lane, OutcomeKind};
use switchboard_directory::{Enqueued, OutboxEntry, OutboxState, StationKey};
use tokio_postgres::Row;

pub(crate) async fn put(session: Arc<Session>, entry: OutboxEntry) -> Result<Enqueued, Fault> {
    let (state, generation, outcome, frame) = match &entry.state {
        OutboxState::Waiting => (WAITING, None, None, None),
        OutboxState::Sending { generation } => (SENDING, Some(generation.cast_signed()), None, None),
        OutboxState::Ended { outcome, frame } => (ENDED, None, Some(outcome.as_str()), Some(&**frame)),
    };
    let expires_ms = session.server_ms(entry.expires_ms);
    // One that has ended before it came in counts from when it would have expired.
    let ended_ms = (state == ENDED).then_some(expires_ms);
    let lane: i16 = match entry.lane {
        Lane::Urgent => 0,
        Lane::Normal => 1,
    };
    let timeout_ms = i64::try_from(entry.timeout.as_millis()).unwrap_or(i64::MAX);
    let (tenant, station, id) = (&*entry.key.tenant, entry.key.station.as_str(), &*entry.id);
    let (action, payload) = (&*entry.action, &*entry.payload);
    let (reply_to, context) = (entry.reply_to.as_deref(), entry.context.as_deref());
    let parameters: [crate::session::Parameter<'_>; 15] = [
        &tenant,
        &station,
        &id,
        &action,
        &payload,
        &lane,
        &timeout_ms,
        &expires_ms,
        &reply_to,
        &context,
        &state,
        &generation,
        &outcome,
        &frame,
        &ended_ms,
    ];
    // The second one sees what the first could not: what somebody else has put in at the same moment.
    let (inserted, there) =
        join(session.rows(PUT, &parameters), session.rows(GET, &[&tenant, &station, &id])).await;
    if !inserted?.is_empty() {
        return Ok(Enqueued::Fresh);
    }
    match there?.first() {
        Some(row) => Ok(Enqueued::Repeat(read(&session, row)?.state)),
        None => Err(full("too many commands wait for this station")),
    }
}

pub(crate) async fn waiting(
    session: Arc<Session>,
    key: StationKey,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<OutboxEntry>, Fault> {
    let now_ms = session.server_ms(now_ms);
    let parameters: [crate::session::Parameter<'_>; 4] =
        [&&*key.tenant, &key.station.as_str(), &now_ms, &bound(limit)];
    let rows = session.rows(OF_STATION, &parameters).await?;
    rows.iter().map(|row| read(&session, row)).collect()
}

pub(crate) async fn sending(
    session: Arc<Session>,
    key: StationKey,
    id: ByteString,
    generation: u64,
    again: bool,
) -> Result<bool, Fault> {
    let generation = generation.cast_signed();
    let changed =
        session.execute(TAKE, &[&&*key.tenant, &key.station.as_str(), &&*id, &generation, &again]).await?;
    Ok(changed > 0)
}

pub(crate) async fn put_back(
    session: Arc<Session>,
    key: StationKey,
    id: ByteString,
    generation: u64,
) -> Result<(), Fault> {
    let generation = generation.cast_signed();
    session.execute(PUT_BACK, &[&&*key.tenant, &key.station.as_str(), &&*id, &generation]).await?;
    Ok(())
}

pub(crate) async fn end(
    session: Arc<Session>,
    key: StationKey,
    id: ByteString,
    outcome: OutcomeKind,
    frame: Bytes,
    now_ms: i64,
) -> Result<(), Fault> {
    let now_ms = session.server_ms(now_ms);
    let (station, outcome) = (key.station.as_str(), outcome.as_str());
    session.execute(END, &[&&*key.tenant, &station, &&*id, &outcome, &&*frame, &now_ms]).await?;
    Ok(())
}

pub(crate) async fn get(
    session: Arc<Session>,
    key: StationKey,
    id: ByteString,
) -> Result<Option<OutboxEntry>, Fault> {
    let rows = session.rows(GET, &[&&*key.tenant, &key.station.as_str(), &&*id]).await?;
    rows.first().map(|row| read(&session, row)).transpose()
}

/// Ends what has expired, and what a connection was sending that is not there any more; forgets what ended long ago.
pub(crate) async fn sweep(
    session: Arc<Session>,
    now_ms: i64,
    limit: usize,
) -> Result<Vec<OutboxEntry>, Fault> {
    let now_ms = session.server_ms(now_ms);
    let long_ago_ms = now_ms.saturating_sub(REMEMBER_MS);
    let limit = bound(limit);
    let (expired, unknown) = (OutcomeKind::Expired.as_str(), OutcomeKind::Unknown.as_str());
    let parameters: [crate::session::Parameter<'_>; 4] = [&now_ms, &limit, &expired, &unknown];
    let (ended, forgotten, left) = join3(
        session.rows(SWEEP, &parameters),
        session.execute(FORGET, &[&long_ago_ms, &limit]),
        session.execute(FORGET_GATEWAYS, &[&long_ago_ms]),
    )
    .await;
    forgotten?;
    left?;
    ended?.iter().map(|row| read(&session, row)).collect()
}

/// Stations at this gateway for which commands began to wait a short while ago.
pub(crate) async fn lately(
    session: Arc<Session>,
    gateway: ByteString,
    within: Duration,
    limit: usize,
) -> Result<Vec<StationKey>, Fault> {
    let rows = session.rows(LATELY, &[&&*gateway, &within.as_secs_f64(), &bound(limit)]).await?;
    rows.iter().map(station_key).collect()
}

fn read(session: &Session, row: &Row) -> Result<OutboxEntry, Fault> {
    let text = |column| row.try_get::<_, String>(column).map(ByteString::from);
    let state = match row.try_get::<_, i16>(10)? {
        WAITING => OutboxState::Waiting,
        SENDING => OutboxState::Sending { generation: row.try_get::<_, i64>(11)?.cast_unsigned() },
        ENDED => OutboxState::Ended {
            outcome: OutcomeKind::from_wire(row.try_get::<_, &str>(12)?)
                .ok_or_else(|| damaged("an outcome that does not exist"))?,
            frame: row.try_get::<_, Option<Vec<u8>>>(13)?.unwrap_or_default().into(),
        },
        _ => return Err(damaged("a state of a command that does not exist")),
    };
    Ok(OutboxEntry {
        key: station_key(row)?,
        id: text(2)?,
        action: text(3)?,
        payload: row.try_get::<_, Vec<u8>>(4)?.into(),
        lane: if row.try_get::<_, i16>(5)? == 0 { Lane::Urgent } else { Lane::Normal },
        timeout: Duration::from_millis(row.try_get::<_, i64>(6)?.try_into().unwrap_or(0)),
        expires_ms: session.our_ms(row.try_get(7)?),
        reply_to: row.try_get::<_, Option<String>>(8)?.map(ByteString::from),
        context: row.try_get::<_, Option<String>>(9)?.map(ByteString::from),
        state,
    })
}

const WAITING: i16 = 0;
const SENDING: i16 = 1;
const ENDED: i16 = 2;
/// How long the outcome of a command is remembered, so that its idempotency key is recognised, and the lease of a gateway
/// that never came back.
const REMEMBER_MS: i64 = 86_400_000;

/// All that a connection is to prepare.
pub(crate) const ALL: &[&str] =
    &[PUT, OF_STATION, TAKE, PUT_BACK, END, GET, LATELY, SWEEP, FORGET, FORGET_GATEWAYS];

macro_rules! columns {
    ($of:literal) => {
        concat!(
            $of,
            "tenant, ",
            $of,
            "station, ",
            $of,
            "id, ",
            $of,
            "action, ",
            $of,
            "payload, ",
            $of,
            "lane, ",
            $of,
            "timeout_ms, ",
            $of,
            "expires_ms, ",
            $of,
            "reply_to, ",
            $of,
            "context, ",
            $of,
            "state, ",
            $of,
            "generation, ",
            $of,
            "outcome, ",
            $of,
            "frame"
        )
    };
}

// 256 commands may wait for one station; the next one is refused for lack of room.
const PUT: &str = "INSERT INTO outbox (tenant, station, id, action, payload, lane, timeout_ms, expires_ms,
    reply_to, context, state, generation, outcome, frame, ended_ms)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
    WHERE (SELECT count(*) FROM outbox WHERE tenant = $1 AND station = $2 AND state = 0) < 256
    ON CONFLICT (tenant, station, id) DO NOTHING RETURNING place";
const OF_STATION: &str = concat!(
    "SELECT ",
    columns!(""),
    " FROM outbox WHERE tenant = $1 AND station = $2 AND state = 0 AND expires_ms > $3
    ORDER BY lane, place LIMIT $4"
);
// If we have asked before and never heard the answer, it may have been yes.
const TAKE: &str = "UPDATE outbox SET state = 1, generation = $4
    WHERE tenant = $1 AND station = $2 AND id = $3
    AND (state = 0 OR ($5 AND state = 1 AND generation = $4))";
const PUT_BACK: &str = "UPDATE outbox SET state = 0, generation = NULL, waits_since = clock_timestamp()
    WHERE tenant = $1 AND station = $2 AND id = $3 AND state = 1 AND generation = $4";
const END: &str = "UPDATE outbox SET state = 2, generation = NULL, outcome = $4, frame = $5, ended_ms = $6
    WHERE tenant = $1 AND station = $2 AND id = $3 AND state <> 2";
const GET: &str =
    concat!("SELECT ", columns!(""), " FROM outbox WHERE tenant = $1 AND station = $2 AND id = $3");
const LATELY: &str = "SELECT DISTINCT o.tenant, o.station
    FROM outbox o JOIN station s ON s.tenant = o.tenant AND s.station = o.station
    WHERE o.state = 0 AND o.waits_since > clock_timestamp() - make_interval(secs => $2)
    AND s.gateway = $1 LIMIT $3";
// What somebody else has in hand at this moment is left to them.
const SWEEP: &str = concat!(
    "WITH expired AS MATERIALIZED (
        SELECT place FROM outbox WHERE state = 0 AND expires_ms <= $1
        ORDER BY expires_ms LIMIT $2 FOR UPDATE SKIP LOCKED
    ), abandoned AS MATERIALIZED (
        SELECT place FROM outbox o WHERE state = 1 AND NOT EXISTS (
            SELECT 1 FROM station s JOIN gateway g ON g.name = s.gateway
            WHERE s.tenant = o.tenant AND s.station = o.station AND s.generation = o.generation
            AND g.until_ms > $1
        ) ORDER BY place LIMIT $2 FOR UPDATE OF o SKIP LOCKED
    ), due AS (
        SELECT place, $3::text AS outcome FROM expired UNION ALL SELECT place, $4::text FROM abandoned LIMIT $2
    )
    UPDATE outbox o SET state = 2, generation = NULL, outcome = due.outcome, frame = '', ended_ms = $1
    FROM due WHERE o.place = due.place RETURNING ",
    columns!("o.")
);
const FORGET: &str = "DELETE FROM outbox WHERE place IN (
        SELECT place FROM outbox WHERE state = 2 AND ended_ms <= $1 ORDER BY ended_ms LIMIT $2
        FOR UPDATE SKIP LOCKED
    )";
const FORGET_GATEWAYS: &str = "DELETE FROM gateway WHERE until_ms <= $1";
