//! Reading reports, the device model and events.

use super::query::{Found, limit_of, rows};
use super::{is_critical, missing};
use crate::store::{Connection, Row};
use crate::views::{DeviceVariable, EventFilter, ReportState, StationEvent, When, WholeReport};
use serde_json::Value;
use serde_json::value::RawValue;

/// Reports of a station, the latest first.
pub(crate) fn reports(db: &Connection, tenant: &str, station: &str, limit: usize) -> Found<Vec<ReportState>> {
    let found = rows(
        db,
        "SELECT report.station, identity, action, request, base, requested_ms, answer, parts, bytes, refused, last_ms,
                completed_ms
         FROM report JOIN station ON station.id = report.station WHERE tenant = ?1 AND identity = ?2
         ORDER BY last_ms DESC, request DESC LIMIT ?3",
        (tenant, station, limit_of(limit)),
        read,
    )?;
    found.into_iter().map(|found| judged(db, found)).collect()
}

/// One report with its parts; of several of this number the latest.
pub(crate) fn whole_report(
    db: &Connection,
    tenant: &str,
    station: &str,
    request: i64,
) -> Found<Option<WholeReport>> {
    let found = rows(
        db,
        "SELECT report.station, identity, action, request, base, requested_ms, answer, parts, bytes, refused, last_ms,
                completed_ms
         FROM report JOIN station ON station.id = report.station
         WHERE tenant = ?1 AND identity = ?2 AND request = ?3 ORDER BY last_ms DESC LIMIT 1",
        (tenant, station, request),
        read,
    )?;
    let Some(found) = found.into_iter().next() else { return Ok(None) };
    let number = found.station;
    let report = judged(db, found)?;
    let parts = super::query::report(db, number, &report.action, request)?.parts;
    let payloads = parts.into_iter().filter_map(|part| RawValue::from_string(part).ok()).collect();
    Ok(Some(WholeReport { report, payloads }))
}

struct Read {
    station: i64,
    answer: Option<String>,
    refused: i64,
    report: ReportState,
}

fn read(row: &Row<'_>) -> crate::store::Sql<Read> {
    Ok(Read {
        station: row.get(0)?,
        answer: row.get(6)?,
        refused: row.get(9)?,
        report: ReportState {
            station: row.get(1)?,
            action: row.get(2)?,
            request: row.get(3)?,
            base: row.get(4)?,
            state: "",
            detail: String::new(),
            parts: row.get::<_, i64>(7)?.unsigned_abs(),
            bytes: row.get::<_, i64>(8)?.unsigned_abs(),
            requested_at: row.get::<_, Option<i64>>(5)?.map(When),
            last_at: When(row.get(10)?),
            completed_at: row.get::<_, Option<i64>>(11)?.map(When),
        },
    })
}

fn judged(db: &Connection, found: Read) -> Found<ReportState> {
    let Read { station, answer, refused, mut report } = found;
    (report.state, report.detail) = if report.completed_at.is_some() {
        ("complete", "complete".to_owned())
    } else if refused > 0 {
        ("tooLarge", format!("too large; {refused} parts were not kept"))
    } else if report.parts > 0 {
        let parts = rows(
            db,
            "SELECT part, last FROM report_part WHERE station = ?1 AND action = ?2 AND request = ?3 ORDER BY part",
            (station, &report.action, report.request),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let gaps = missing(&parts).unwrap_or_else(|| "the last one".to_owned());
        ("receiving", format!("waiting for parts {gaps}"))
    } else {
        match answer.as_deref() {
            None => ("requested", "the station has not answered yet".to_owned()),
            Some("Accepted") => ("requested", "accepted; waiting for parts 0 and on".to_owned()),
            Some("EmptyResultSet" | "NoProfiles") => ("empty", "there is nothing to report".to_owned()),
            Some(answer) => ("refused", answer.to_owned()),
        }
    };
    Ok(report)
}

/// The device model of a station, in order of component and variable.
pub(crate) fn device_model(
    db: &Connection,
    station: i64,
    component: Option<&str>,
    variable: Option<&str>,
) -> Found<Vec<DeviceVariable>> {
    let filled = |text: String| (!text.is_empty()).then_some(text);
    let placed = |number: i64| (number != 0).then_some(number);
    rows(
        db,
        "SELECT component, component_instance, evse, connector, variable, variable_instance, attributes,
                characteristics, updated_ms
         FROM device_variable
         WHERE station = ?1 AND (component = ?2 OR ?2 IS NULL) AND (variable = ?3 OR ?3 IS NULL)
         ORDER BY component, component_instance, evse, connector, variable, variable_instance",
        (station, component, variable),
        |row| {
            Ok(DeviceVariable {
                component: row.get(0)?,
                component_instance: filled(row.get(1)?),
                evse: placed(row.get(2)?),
                connector: placed(row.get(3)?),
                variable: row.get(4)?,
                variable_instance: filled(row.get(5)?),
                attributes: serde_json::from_str(&row.get::<_, String>(6)?).unwrap_or_default(),
                characteristics: row
                    .get::<_, Option<String>>(7)?
                    .and_then(|text| RawValue::from_string(text).ok()),
                updated_at: When(row.get(8)?),
            })
        },
    )
}

/// What an action tells of.
fn kind_of(action: &str) -> &'static str {
    match action {
        "SecurityEventNotification" | "SignCertificate" => "security",
        "NotifyEvent" | "NotifyPeriodicEventStream" => "monitoring",
        "NotifyChargingLimit"
        | "ClearedChargingLimit"
        | "NotifyEVChargingNeeds"
        | "NotifyEVChargingSchedule"
        | "NotifyPriorityCharging" => "charging",
        "FirmwareStatusNotification"
        | "SignedFirmwareStatusNotification"
        | "PublishFirmwareStatusNotification" => "firmware",
        "DiagnosticsStatusNotification" | "LogStatusNotification" => "log",
        "ReservationStatusUpdate" => "reservation",
        "DataTransfer" => "data",
        _ => "other",
    }
}

/// Which actions may be of a kind; none for those whose actions cannot be listed.
fn actions_of(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "security" => &["SecurityEventNotification", "SignCertificate"],
        "monitoring" => &["NotifyEvent", "NotifyPeriodicEventStream"],
        "charging" => &[
            "NotifyChargingLimit",
            "ClearedChargingLimit",
            "NotifyEVChargingNeeds",
            "NotifyEVChargingSchedule",
            "NotifyPriorityCharging",
        ],
        "firmware" => &[
            "FirmwareStatusNotification",
            "SignedFirmwareStatusNotification",
            "PublishFirmwareStatusNotification",
        ],
        "log" => &["DiagnosticsStatusNotification", "LogStatusNotification"],
        "reservation" => &["ReservationStatusUpdate"],
        "data" => &["DataTransfer"],
        _ => return None,
    })
}

/// What stations told by themselves, the latest first.
pub(crate) fn events(db: &Connection, tenant: &str, filter: &EventFilter) -> Found<Vec<StationEvent>> {
    let actions =
        filter.kind.as_deref().and_then(actions_of).map(|actions| serde_json::json!(actions).to_string());
    let found = rows(
        db,
        "SELECT notice.id, identity, action, payload, received_ms
         FROM notice JOIN station ON station.id = notice.station
         WHERE tenant = ?1 AND (identity = ?2 OR ?2 IS NULL) AND (received_ms >= ?3 OR ?3 IS NULL)
           AND (action IN (SELECT value FROM json_each(CAST(?4 AS TEXT))) OR ?4 IS NULL)
         ORDER BY notice.id DESC LIMIT ?5",
        (tenant, &filter.station, filter.since_ms, actions, limit_of(filter.limit)),
        |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, String>(3)?,
                row.get::<_, i64>(4)?,
            ))
        },
    )?;
    let events = found.into_iter().filter_map(|(id, station, action, payload, received_ms)| {
        let said: Value = serde_json::from_str(&payload).unwrap_or(Value::Null);
        let kind = kind_of(&action);
        if filter.kind.as_deref().is_some_and(|wanted| wanted != kind) {
            return None;
        }
        Some(StationEvent {
            id,
            station,
            kind,
            summary: summary(&action, &said),
            critical: kind == "security" && said["type"].as_str().is_some_and(is_critical),
            at: ["timestamp", "generatedAt", "timeBase"]
                .iter()
                .find_map(|name| said[name].as_str())
                .map(str::to_owned),
            received_at: When(received_ms),
            payload: RawValue::from_string(payload).ok()?,
            action,
        })
    });
    Ok(events.collect())
}

/// An event in a few words.
fn summary(action: &str, said: &Value) -> String {
    let text = |name: &str| said[name].as_str().unwrap_or_default();
    match action {
        "SecurityEventNotification" => match text("techInfo") {
            "" => text("type").to_owned(),
            info => format!("{}: {info}", text("type")),
        },
        "NotifyEvent" => {
            let events = said["eventData"].as_array().map(Vec::as_slice).unwrap_or_default();
            let told: Vec<String> = events
                .iter()
                .map(|event| {
                    format!(
                        "{}.{} = {}{}",
                        event["component"]["name"].as_str().unwrap_or_default(),
                        event["variable"]["name"].as_str().unwrap_or_default(),
                        event["actualValue"].as_str().unwrap_or_default(),
                        if event["cleared"] == true { " (cleared)" } else { "" }
                    )
                })
                .collect();
            told.join(", ")
        }
        "DataTransfer" => format!("{} {}", text("vendorId"), text("messageId")).trim_end().to_owned(),
        "ReservationStatusUpdate" => {
            format!("reservation {}: {}", said["reservationId"], text("reservationUpdateStatus"))
        }
        _ => ["status", "type"]
            .iter()
            .find_map(|name| said[name].as_str())
            .map_or_else(|| action.to_owned(), str::to_owned),
    }
}
