//! Reading the books.

use super::{AlarmKind, Stamp, TokenStatus};
use crate::decimal::Decimal;
use crate::details::Details;
use crate::store::{Connection, OptionalExtension, Params, Row, StoreError};
use crate::views::{
    Alarm, Connector, Events, MeterReading, Moment, Notice, OddStop, Report, Station, Token, Transaction,
    TransactionFilter, UnreadableMessage, Warning,
};
use serde_json::value::RawValue;

pub(super) type Found<T> = Result<T, StoreError>;

pub(super) fn rows<T>(
    db: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl FnMut(&Row<'_>) -> crate::store::Sql<T>,
) -> Found<Vec<T>> {
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map(parameters, read)?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn decimal(text: Option<&str>) -> Option<Decimal> {
    text.and_then(Decimal::parse)
}

fn moment(text: Option<String>, us: Option<i64>) -> Option<Moment> {
    text.map(|text| Moment { text, ms: us.and_then(Stamp::instant_ms) })
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The number of a station in the books.
pub(crate) fn station_number(db: &Connection, tenant: &str, identity: &str) -> Found<Option<i64>> {
    Ok(db
        .prepare_cached("SELECT id FROM station WHERE tenant = ?1 AND identity = ?2")?
        .query_row([tenant, identity], |row| row.get(0))
        .optional()?)
}

/// A station's number, and how its last BootNotification was answered; none if it is not in the books.
pub(crate) fn registration(
    db: &Connection,
    tenant: &str,
    identity: &str,
) -> Found<Option<(i64, Option<String>)>> {
    Ok(db
        .prepare_cached("SELECT id, registration FROM station WHERE tenant = ?1 AND identity = ?2")?
        .query_row([tenant, identity], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// All stations in order of tenant and identity.
pub(crate) fn stations(db: &Connection) -> Found<Vec<Station>> {
    let numbered = rows(
        db,
        "SELECT id, tenant, identity, version, first_seen_ms, booted_ms, registration, vendor, model, serial, firmware,
                (SELECT count(*) FROM charge WHERE charge.station = station.id AND ended = 0)
         FROM station ORDER BY tenant, identity",
        [],
        |row| {
            let number: i64 = row.get(0)?;
            Ok((
                number,
                Station {
                    tenant: row.get(1)?,
                    identity: row.get(2)?,
                    version: row.get(3)?,
                    first_seen_ms: row.get(4)?,
                    booted_ms: row.get(5)?,
                    registration: row.get(6)?,
                    vendor: row.get(7)?,
                    model: row.get(8)?,
                    serial: row.get(9)?,
                    firmware: row.get(10)?,
                    connectors: Vec::new(),
                    running: u64::try_from(row.get::<_, i64>(11)?).unwrap_or(0),
                },
            ))
        },
    )?;
    numbered
        .into_iter()
        .map(|(number, station)| Ok(Station { connectors: connectors(db, number)?, ..station }))
        .collect()
}

fn connectors(db: &Connection, station: i64) -> Found<Vec<Connector>> {
    rows(
        db,
        "SELECT evse, connector, status, error_code, info, vendor_error, at, received_ms FROM connector
         WHERE station = ?1 ORDER BY evse, connector",
        [station],
        |row| {
            Ok(Connector {
                evse: row.get(0)?,
                connector: row.get(1)?,
                status: row.get(2)?,
                error_code: row.get(3)?,
                info: row.get(4)?,
                vendor_error: row.get(5)?,
                at: row.get(6)?,
                received_ms: row.get(7)?,
            })
        },
    )
}

const CHARGE: &str = "SELECT charge.id, tenant, identity, remote_id, evse, connector, token, token_type, authorized,
        start_at, start_us, start_wh, stop_at, stop_us, stop_wh, stop_reason, stop_token, ended, state, reservation,
        remote_start, charge.station
    FROM charge JOIN station ON station.id = charge.station";

fn charge(row: &Row<'_>) -> crate::store::Sql<(i64, Transaction)> {
    Ok((
        row.get(21)?,
        Transaction {
            id: row.get(0)?,
            tenant: row.get(1)?,
            station: row.get(2)?,
            remote_id: row.get(3)?,
            evse: row.get(4)?,
            connector: row.get::<_, Option<i64>>(5)?.filter(|connector| *connector != 0),
            token: row.get::<_, Option<String>>(6)?.map(Token::new),
            token_type: row.get(7)?,
            authorization: row.get::<_, Option<String>>(8)?.as_deref().and_then(TokenStatus::from_name),
            started: moment(row.get(9)?, row.get(10)?),
            meter_start: decimal(row.text(11)?),
            stopped: moment(row.get(12)?, row.get(13)?),
            meter_stop: decimal(row.text(14)?),
            stop_reason: row.get(15)?,
            stop_token: row.get::<_, Option<String>>(16)?.map(Token::new),
            ended: row.get(17)?,
            charging_state: row.get(18)?,
            reservation: row.get(19)?,
            remote_start: row.get(20)?,
            energy: None,
            events: None,
            details: Details::default(),
        },
    ))
}

/// One transaction.
pub(crate) fn transaction(db: &Connection, id: i64) -> Found<Option<Transaction>> {
    let found = rows(db, &format!("{CHARGE} WHERE charge.id = ?1"), [id], charge)?;
    found.into_iter().next().map(|found| completed(db, found)).transpose()
}

/// When a transaction began: as the station says where that is a time of this world, else when we heard of it.
const BEGAN_MS: &str = "CASE WHEN start_us > 0 THEN start_us / 1000 ELSE opened_ms END";

/// Transactions, the newest first.
pub(crate) fn transactions(db: &Connection, filter: &TransactionFilter) -> Found<Vec<Transaction>> {
    let found = rows(
        db,
        &format!(
            "{CHARGE} WHERE (tenant = ?1 OR ?1 IS NULL) AND (identity = ?2 OR ?2 IS NULL)
             AND (ended = ?3 OR ?3 IS NULL)
             AND (token = ?4 COLLATE NOCASE OR stop_token = ?4 COLLATE NOCASE OR ?4 IS NULL)
             AND ({BEGAN_MS} >= ?5 OR ?5 IS NULL) AND ({BEGAN_MS} < ?6 OR ?6 IS NULL)
             ORDER BY opened_ms DESC, charge.id DESC LIMIT ?7"
        ),
        (
            &filter.tenant,
            &filter.station,
            filter.ended,
            &filter.token,
            filter.since_ms,
            filter.until_ms,
            limit_of(filter.limit),
        ),
        charge,
    )?;
    found.into_iter().map(|found| completed(db, found)).collect()
}

/// Adds what other tables know of a transaction.
fn completed(db: &Connection, (station, mut transaction): (i64, Transaction)) -> Found<Transaction> {
    let register = |newest: bool| -> Found<Option<Decimal>> {
        let order = if newest { "DESC" } else { "ASC" };
        let text: Option<String> = db
            .prepare_cached(&format!(
                "SELECT energy_wh, at_us FROM known_reading WHERE station = ?1 AND charge = ?2 AND energy_wh IS NOT NULL
                 ORDER BY at_us {order} LIMIT 1"
            ))?
            .query_row((station, transaction.id), |row| row.get(0))
            .optional()?;
        Ok(decimal(text.as_deref()))
    };
    let start = match transaction.meter_start {
        Some(start) => Some(start),
        None => register(false)?,
    };
    let end = match transaction.meter_stop {
        Some(end) => Some(end),
        None => register(true)?,
    };
    if transaction.remote_id.is_some() {
        transaction.meter_start = start;
        transaction.meter_stop = end.filter(|_| transaction.ended);
        transaction.events = events(db, transaction.id)?;
        transaction.details = details(db, transaction.id)?;
    }
    transaction.energy = start.zip(end).and_then(|(start, end)| end.checked_sub(start));
    Ok(transaction)
}

fn events(db: &Connection, charge: i64) -> Found<Option<Events>> {
    let (count, first, last, start, end): (i64, Option<i64>, Option<i64>, Option<i64>, Option<i64>) = db
        .prepare_cached(
            "SELECT count(DISTINCT seq), min(seq), max(seq), min(seq) FILTER (WHERE kind = 'Started'),
                    max(seq) FILTER (WHERE kind = 'Ended')
             FROM charge_event WHERE charge = ?1",
        )?
        .query_row([charge], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
    // One beginning (a), one end (o), and every number between them: `OCPP-J.md` 11.4.
    let complete = match (start, end) {
        (Some(start), Some(end)) => {
            let between: i64 = db
                .prepare_cached("SELECT count(DISTINCT seq) FROM charge_event WHERE charge = ?1 AND seq BETWEEN ?2 AND ?3")?
                .query_row((charge, start, end), |row| row.get(0))?;
            between == end - start + 1
        }
        _ => false,
    };
    Ok(Some(Events { count: u64::try_from(count).unwrap_or(0), first, last, complete }))
}

fn details(db: &Connection, charge: i64) -> Found<Details> {
    let sql = "SELECT name, value FROM charge_detail WHERE charge = ?1 ORDER BY name";
    let members = rows(db, sql, [charge], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    // What was read from JSON is JSON.
    let member = |(name, value)| Some((name, RawValue::from_string(value).ok()?));
    Ok(Details::new(members.into_iter().filter_map(member)))
}

/// The readings of a transaction in order of time; of none: those of a station outside of transactions.
pub(crate) fn readings(db: &Connection, station: i64, charge: i64) -> Found<Vec<MeterReading>> {
    rows(
        db,
        "SELECT at, at_us, evse, energy_wh, samples FROM known_reading WHERE station = ?1 AND charge = ?2
         ORDER BY at_us, evse",
        (station, charge),
        |row| {
            Ok(MeterReading {
                at: Moment { text: row.get(0)?, ms: Stamp::instant_ms(row.get(1)?) },
                evse: row.get(2)?,
                energy: decimal(row.text(3)?),
                samples: row.get(4)?,
            })
        },
    )
}

/// The number of the station that a transaction is of.
pub(crate) fn station_of(db: &Connection, charge: i64) -> Found<Option<i64>> {
    Ok(db
        .prepare_cached("SELECT station FROM charge WHERE id = ?1")?
        .query_row([charge], |row| row.get(0))
        .optional()?)
}

/// Alarms, the latest first.
pub(crate) fn alarms(db: &Connection, limit: usize) -> Found<Vec<Alarm>> {
    alarms_of(db, None, None, limit)
}

/// Alarms of a tenant, and of one of its stations, the latest first.
pub(crate) fn alarms_of(
    db: &Connection,
    tenant: Option<&str>,
    station: Option<&str>,
    limit: usize,
) -> Found<Vec<Alarm>> {
    let found = rows(
        db,
        "SELECT alarm.id, tenant, identity, kind, subject, detail, first_ms, last_ms, count
         FROM alarm JOIN station ON station.id = alarm.station
         WHERE (tenant = ?1 OR ?1 IS NULL) AND (identity = ?2 OR ?2 IS NULL)
         ORDER BY last_ms DESC, alarm.id DESC LIMIT ?3",
        (tenant, station, limit_of(limit)),
        |row| {
            let kind = AlarmKind::from_name(&row.get::<_, String>(3)?);
            Ok(kind.zip(Some((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, String>(4)?,
                row.get::<_, String>(5)?,
                row.get::<_, i64>(6)?,
                row.get::<_, i64>(7)?,
                row.get::<_, i64>(8)?,
            ))))
        },
    )?;
    Ok(found
        .into_iter()
        .flatten()
        .map(|(kind, (id, tenant, station, subject, detail, first_ms, last_ms, count))| Alarm {
            id,
            tenant,
            station,
            kind,
            subject,
            detail,
            first_ms,
            last_ms,
            count: u64::try_from(count).unwrap_or(0),
        })
        .collect())
}

/// Warnings, the latest first.
pub(crate) fn warnings(db: &Connection, limit: usize) -> Found<Vec<Warning>> {
    rows(
        db,
        "SELECT tenant, identity, action, pointer, kind, expected, last_ms, count
         FROM warning JOIN station ON station.id = warning.station
         ORDER BY last_ms DESC, identity, action, pointer LIMIT ?1",
        [limit_of(limit)],
        |row| {
            Ok(Warning {
                tenant: row.get(0)?,
                station: row.get(1)?,
                action: row.get(2)?,
                pointer: row.get(3)?,
                kind: row.get(4)?,
                expected: row.get(5)?,
                last_ms: row.get(6)?,
                count: u64::try_from(row.get::<_, i64>(7)?).unwrap_or(0),
            })
        },
    )
}

/// StopTransactions that ended nothing, the latest first.
pub(crate) fn odd_stops(db: &Connection, limit: usize) -> Found<Vec<OddStop>> {
    rows(
        db,
        "SELECT identity, claimed, role, candidate, content FROM odd_stop JOIN station ON station.id = odd_stop.station
         ORDER BY received_ms DESC, identity, claimed LIMIT ?1",
        [limit_of(limit)],
        |row| {
            Ok(OddStop {
                station: row.get(0)?,
                claimed: row.get(1)?,
                role: row.get(2)?,
                candidate: row.get(3)?,
                content: row.get(4)?,
            })
        },
    )
}

/// Notifications of a station, the latest first.
pub(crate) fn notices(
    db: &Connection,
    station: i64,
    action: Option<&str>,
    limit: usize,
) -> Found<Vec<Notice>> {
    rows(
        db,
        "SELECT identity, action, payload, received_ms FROM notice JOIN station ON station.id = notice.station
         WHERE notice.station = ?1 AND (action = ?2 OR ?2 IS NULL) ORDER BY notice.id DESC LIMIT ?3",
        (station, action, limit_of(limit)),
        |row| {
            Ok(Notice {
                station: row.get(0)?,
                action: row.get(1)?,
                payload: row.get(2)?,
                received_ms: row.get(3)?,
            })
        },
    )
}

/// The parts of an answer.
pub(crate) fn report(db: &Connection, station: i64, action: &str, request: i64) -> Found<Report> {
    let parts: Vec<(i64, bool, String)> = rows(
        db,
        "SELECT part, last, payload FROM report_part WHERE station = ?1 AND action = ?2 AND request = ?3
         ORDER BY part",
        (station, action, request),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let numbered = parts.iter().all(|(number, ..)| *number >= 0);
    let mut report = Report { parts: Vec::new(), complete: false };
    let mut gap = false;
    for (position, (number, last, payload)) in (0_i64..).zip(parts) {
        gap |= numbered && number != position;
        report.parts.push(payload);
        if last {
            report.complete = !gap;
            if numbered {
                // What lies beyond is of an earlier, longer answer to a request with the same number.
                break;
            }
        }
    }
    Ok(report)
}

/// Messages that could not be read, the latest first.
pub(crate) fn unreadable(db: &Connection, limit: usize) -> Found<Vec<UnreadableMessage>> {
    rows(
        db,
        "SELECT identity, action, payload, violations, answer
         FROM unreadable JOIN station ON station.id = unreadable.station ORDER BY unreadable.id DESC LIMIT ?1",
        [limit_of(limit)],
        |row| {
            Ok(UnreadableMessage {
                station: row.get(0)?,
                action: row.get(1)?,
                payload: row.get(2)?,
                violations: row.get(3)?,
                answer: row.get(4)?,
            })
        },
    )
}

/// The version that a station spoke last.
pub(crate) fn version(db: &Connection, tenant: &str, identity: &str) -> Found<Option<String>> {
    Ok(db
        .prepare_cached("SELECT version FROM station WHERE tenant = ?1 AND identity = ?2")?
        .query_row([tenant, identity], |row| row.get(0))
        .optional()?)
}
