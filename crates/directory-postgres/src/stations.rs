//! Where stations are, and what is known of them.

use crate::fault::{Fault, damaged};
use crate::session::Session;
use bytestring::ByteString;
use std::sync::Arc;
use switchboard_bus::{ConnectionKey, Registration};
use switchboard_directory::{Account, Claim, Location, PasswordHash, StationKey, StationRecord, Terms};
use switchboard_rpc::{StationId, Version};
use tokio_postgres::Row;

pub(crate) async fn claim(
    session: Arc<Session>,
    key: StationKey,
    gateway: ByteString,
    terms: Terms,
    now_ms: i64,
    again: bool,
) -> Result<Claim, Fault> {
    let now_ms = session.server_ms(now_ms);
    let (station, version) = (key.station.as_str(), terms.version.as_str());
    let rows = session
        .rows(CLAIM, &[&&*key.tenant, &station, &&*gateway, &version, &terms.compressed, &now_ms, &again])
        .await?;
    let Some(row) = rows.first() else { return Err(damaged("a claim that gives nothing")) };
    let previous = row
        .try_get::<_, Option<String>>(2)?
        .map(|gateway| {
            let generation = row.try_get::<_, Option<i64>>(3)?.unwrap_or(0).cast_unsigned();
            Ok::<_, Fault>(ConnectionKey { gateway: gateway.into(), generation })
        })
        .transpose()?;
    Ok(Claim {
        generation: row.try_get::<_, i64>(0)?.cast_unsigned(),
        previous,
        registration: registration(row, 1)?,
    })
}

pub(crate) async fn release(
    session: Arc<Session>,
    key: StationKey,
    generation: u64,
    now_ms: i64,
) -> Result<(), Fault> {
    let now_ms = session.server_ms(now_ms);
    let (station, generation) = (key.station.as_str(), generation.cast_signed());
    session.execute(RELEASE, &[&&*key.tenant, &station, &generation, &now_ms]).await?;
    Ok(())
}

pub(crate) async fn locate(
    session: Arc<Session>,
    key: StationKey,
    now_ms: i64,
) -> Result<Option<Location>, Fault> {
    let now_ms = session.server_ms(now_ms);
    let rows = session.rows(LOCATE, &[&&*key.tenant, &key.station.as_str(), &now_ms]).await?;
    rows.first().map(|row| location(&session, row, 0)).transpose()
}

pub(crate) async fn restore(
    session: Arc<Session>,
    key: StationKey,
    connection: ConnectionKey,
    terms: Terms,
    now_ms: i64,
) -> Result<bool, Fault> {
    let now_ms = session.server_ms(now_ms);
    let (station, version) = (key.station.as_str(), terms.version.as_str());
    let generation = connection.generation.cast_signed();
    let parameters: [crate::session::Parameter<'_>; 7] =
        [&&*key.tenant, &station, &&*connection.gateway, &version, &terms.compressed, &generation, &now_ms];
    Ok(session.execute(RESTORE, &parameters).await? > 0)
}

/// The lease that was there before, and the one that is now, by the server's clock.
pub(crate) async fn lease(
    session: Arc<Session>,
    gateway: ByteString,
    until_ms: i64,
) -> Result<(Option<i64>, i64), Fault> {
    let until_ms = session.server_ms(until_ms);
    let rows = session.rows(LEASE, &[&&*gateway, &until_ms]).await?;
    let before = rows.first().map(|row| row.try_get::<_, Option<i64>>(0)).transpose()?;
    Ok((before.flatten(), until_ms))
}

pub(crate) async fn list(
    session: Arc<Session>,
    tenant: ByteString,
    after: Option<StationId>,
    limit: usize,
    now_ms: i64,
) -> Result<Vec<StationRecord>, Fault> {
    let now_ms = session.server_ms(now_ms);
    let after = after.as_ref().map_or("", StationId::as_str);
    let rows = session.rows(LIST, &[&&*tenant, &after, &bound(limit), &now_ms]).await?;
    rows.iter().map(|row| record(&session, row)).collect()
}

pub(crate) async fn one(
    session: Arc<Session>,
    key: StationKey,
    now_ms: i64,
) -> Result<Option<StationRecord>, Fault> {
    let now_ms = session.server_ms(now_ms);
    let rows = session.rows(ONE, &[&&*key.tenant, &key.station.as_str(), &now_ms]).await?;
    rows.first().map(|row| record(&session, row)).transpose()
}

pub(crate) async fn set_registration(
    session: Arc<Session>,
    key: StationKey,
    registration: Registration,
) -> Result<(), Fault> {
    let word = registration_name(registration);
    session.execute(SET_REGISTRATION, &[&&*key.tenant, &key.station.as_str(), &word]).await?;
    Ok(())
}

pub(crate) async fn account(session: Arc<Session>, key: StationKey) -> Result<Option<Account>, Fault> {
    let rows = session.rows(ACCOUNT, &[&&*key.tenant, &key.station.as_str()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let password = row.try_get::<_, Option<String>>(0)?.map(PasswordHash);
    Ok(Some(Account { key, password, created_ms: row.try_get(1)? }))
}

pub(crate) async fn put_account(session: Arc<Session>, account: Account) -> Result<(), Fault> {
    let Account { key, password, created_ms } = account;
    let password = password.as_ref().map(|hash| hash.0.as_str());
    session.execute(PUT_ACCOUNT, &[&&*key.tenant, &key.station.as_str(), &password, &created_ms]).await?;
    Ok(())
}

pub(crate) async fn remove_account(session: Arc<Session>, key: StationKey) -> Result<bool, Fault> {
    Ok(session.execute(REMOVE_ACCOUNT, &[&&*key.tenant, &key.station.as_str()]).await? > 0)
}

pub(crate) async fn account_count(session: Arc<Session>) -> Result<u64, Fault> {
    let rows = session.rows(ACCOUNT_COUNT, &[]).await?;
    let count = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?;
    Ok(count.unwrap_or(0).cast_unsigned())
}

/// The key in the first two columns.
pub(crate) fn key(row: &Row) -> Result<StationKey, Fault> {
    let station = row.try_get::<_, String>(1)?;
    Ok(StationKey {
        tenant: row.try_get::<_, String>(0)?.into(),
        station: StationId::new(station, usize::MAX).map_err(|_| damaged("a station without identity"))?,
    })
}

pub(crate) fn version(number: &str) -> Result<Version, Fault> {
    Version::from_number(number).ok_or_else(|| damaged("a version that does not exist"))
}

pub(crate) fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn record(session: &Session, row: &Row) -> Result<StationRecord, Fault> {
    let seen_ms = row.try_get::<_, Option<i64>>(5)?.map(|seen_ms| session.our_ms(seen_ms));
    // It counts while its gateway's lease is fresh.
    let is_there = row.try_get::<_, bool>(6)?;
    Ok(StationRecord {
        key: key(row)?,
        registered: row.try_get(2)?,
        has_password: row.try_get(3)?,
        registration: registration(row, 4)?,
        seen_ms,
        location: is_there.then(|| location(session, row, 7)).transpose()?,
    })
}

/// In five columns from this one on.
fn location(session: &Session, row: &Row, first: usize) -> Result<Location, Fault> {
    let gateway = row.try_get::<_, String>(first)?;
    let generation = row.try_get::<_, i64>(first + 1)?.cast_unsigned();
    Ok(Location {
        connection: ConnectionKey { gateway: gateway.into(), generation },
        version: version(row.try_get(first + 2)?)?,
        compressed: row.try_get(first + 3)?,
        since_ms: session.our_ms(row.try_get(first + 4)?),
    })
}

fn registration(row: &Row, column: usize) -> Result<Option<Registration>, Fault> {
    let Some(word) = row.try_get::<_, Option<&str>>(column)? else { return Ok(None) };
    [Registration::Accepted, Registration::Pending, Registration::Rejected]
        .into_iter()
        .find(|registration| registration_name(*registration) == word)
        .map(Some)
        .ok_or_else(|| damaged("a registration that does not exist"))
}

const fn registration_name(registration: Registration) -> &'static str {
    match registration {
        Registration::Accepted => "accepted",
        Registration::Pending => "pending",
        Registration::Rejected => "rejected",
    }
}

/// All that a connection is to prepare.
pub(crate) const ALL: &[&str] = &[
    CLAIM,
    RELEASE,
    LOCATE,
    LEASE,
    RESTORE,
    LIST,
    ONE,
    SET_REGISTRATION,
    ACCOUNT,
    PUT_ACCOUNT,
    REMOVE_ACCOUNT,
    ACCOUNT_COUNT,
];

// A claim that is made again, as its answer was lost, must not name itself as what was there before.
const CLAIM: &str = "INSERT INTO station AS s
    (tenant, station, generation, gateway, version, compressed, since_ms, seen_ms)
    VALUES ($1, $2, $6, $3, $4, $5, $6, $6)
    ON CONFLICT (tenant, station) DO UPDATE SET
    previous_gateway = CASE WHEN $7 AND s.gateway = excluded.gateway THEN s.previous_gateway ELSE s.gateway END,
    previous_generation =
        CASE WHEN $7 AND s.gateway = excluded.gateway THEN s.previous_generation ELSE s.generation END,
    generation = greatest(s.generation + 1, excluded.generation), gateway = excluded.gateway,
    version = excluded.version, compressed = excluded.compressed,
    since_ms = excluded.since_ms, seen_ms = excluded.seen_ms
    RETURNING generation, registration, previous_gateway, previous_generation";
const RELEASE: &str = "UPDATE station SET gateway = NULL, seen_ms = $4
    WHERE tenant = $1 AND station = $2 AND generation = $3 AND gateway IS NOT NULL";
const LOCATE: &str = "SELECT s.gateway, s.generation, s.version, s.compressed, s.since_ms
    FROM station s JOIN gateway g ON g.name = s.gateway
    WHERE s.tenant = $1 AND s.station = $2 AND g.until_ms > $3";
// Nobody else holds what it replaces, so that what it sees at its beginning is what was there.
const LEASE: &str = "INSERT INTO gateway (name, until_ms) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET until_ms = excluded.until_ms
    RETURNING (SELECT before.until_ms FROM gateway before WHERE before.name = $1)";
const RESTORE: &str = "INSERT INTO station AS s
    (tenant, station, generation, gateway, version, compressed, since_ms, seen_ms)
    VALUES ($1, $2, $6, $3, $4, $5, $7, $7)
    ON CONFLICT (tenant, station) DO UPDATE SET
    previous_gateway = NULL, previous_generation = NULL,
    generation = excluded.generation, gateway = excluded.gateway,
    version = excluded.version, compressed = excluded.compressed,
    since_ms = excluded.since_ms, seen_ms = excluded.seen_ms
    WHERE s.generation < excluded.generation";
const LIST: &str = "SELECT s.tenant, s.station, s.registered_ms IS NOT NULL, s.password IS NOT NULL,
    s.registration, s.seen_ms, coalesce(g.until_ms > $4, false),
    s.gateway, s.generation, s.version, s.compressed, s.since_ms
    FROM station s LEFT JOIN gateway g ON g.name = s.gateway
    WHERE s.tenant = $1 AND s.station > $2 AND (s.registered_ms IS NOT NULL OR s.seen_ms IS NOT NULL)
    ORDER BY s.station LIMIT $3";
const ONE: &str = "SELECT s.tenant, s.station, s.registered_ms IS NOT NULL, s.password IS NOT NULL,
    s.registration, s.seen_ms, coalesce(g.until_ms > $3, false),
    s.gateway, s.generation, s.version, s.compressed, s.since_ms
    FROM station s LEFT JOIN gateway g ON g.name = s.gateway
    WHERE s.tenant = $1 AND s.station = $2 AND (s.registered_ms IS NOT NULL OR s.seen_ms IS NOT NULL)";
const SET_REGISTRATION: &str = "INSERT INTO station (tenant, station, registration) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, station) DO UPDATE SET registration = excluded.registration";
const ACCOUNT: &str = "SELECT password, registered_ms FROM station
    WHERE tenant = $1 AND station = $2 AND registered_ms IS NOT NULL";
const PUT_ACCOUNT: &str =
    "INSERT INTO station (tenant, station, password, registered_ms) VALUES ($1, $2, $3, $4)
    ON CONFLICT (tenant, station) DO UPDATE
    SET password = excluded.password, registered_ms = excluded.registered_ms";
const REMOVE_ACCOUNT: &str = "UPDATE station SET password = NULL, registered_ms = NULL
    WHERE tenant = $1 AND station = $2 AND registered_ms IS NOT NULL";
const ACCOUNT_COUNT: &str = "SELECT count(*) FROM station WHERE registered_ms IS NOT NULL";
