//! Reading one transaction with all that belongs to it.

use super::query::{self, Found, rows};
use crate::store::{Connection, OptionalExtension};
use crate::views::{Alarm, OddStop, TransactionDetail, TransactionEvent};
use serde_json::Value;

/// More of these are not shown with a transaction.
const LIMIT: usize = 100;

/// The number of a transaction by that number, or by the id that its station gave it; of several the newest.
pub(crate) fn find(db: &Connection, tenant: &str, id: &str) -> Found<Option<i64>> {
    Ok(db
        .prepare_cached(
            "SELECT charge.id FROM charge JOIN station ON station.id = charge.station
             WHERE tenant = ?1 AND (charge.id = ?2 OR remote_id = ?3) ORDER BY charge.id = ?2 DESC, charge.id DESC LIMIT 1",
        )?
        .query_row((tenant, id.parse::<i64>().ok(), id), |row| row.get(0))
        .optional()?)
}

/// All that belongs to a transaction.
pub(crate) fn detail(db: &Connection, id: i64) -> Found<Option<TransactionDetail>> {
    let (Some(transaction), Some(station)) = (query::transaction(db, id)?, query::station_of(db, id)?) else {
        return Ok(None);
    };
    let events = rows(
        db,
        "SELECT seq, variant, kind, at, offline, content FROM charge_event WHERE charge = ?1 ORDER BY seq, variant",
        [id],
        |row| {
            let content: Value = serde_json::from_str(&row.get::<_, String>(5)?).unwrap_or(Value::Null);
            let text = |name: &str| content[name].as_str().map(str::to_owned);
            Ok(TransactionEvent {
                seq: row.get(0)?,
                is_variant: row.get::<_, i64>(1)? > 0,
                kind: row.get(2)?,
                at: row.get(3)?,
                offline: row.get(4)?,
                trigger: text("trigger"),
                charging_state: text("charging_state"),
            })
        },
    )?;
    let odd_stops = rows(
        db,
        "SELECT identity, claimed, role, candidate, content FROM odd_stop JOIN station ON station.id = odd_stop.station
         WHERE odd_stop.station = ?1 AND (claimed = ?2 OR candidate = ?2) ORDER BY received_ms LIMIT ?3",
        (station, id, query::limit_of(LIMIT)),
        |row| {
            Ok(OddStop {
                station: row.get(0)?,
                claimed: row.get(1)?,
                role: row.get(2)?,
                candidate: row.get(3)?,
                content: row.get(4)?,
            })
        },
    )?;
    let (number, remote_id) = (id.to_string(), transaction.remote_id.clone());
    let is_about = |word: &str| word == number || Some(word) == remote_id.as_deref();
    let alarms: Vec<Alarm> =
        query::alarms_of(db, Some(&transaction.tenant), Some(&transaction.station), usize::MAX)?
            .into_iter()
            .filter(|alarm| alarm.subject.split(' ').any(is_about))
            .take(LIMIT)
            .collect();
    let readings = query::readings(db, station, id)?;
    Ok(Some(TransactionDetail { transaction, readings, events, odd_stops, alarms }))
}
