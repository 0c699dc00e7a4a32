//! Whether a station may take part: how its boots are answered, and what it may say before it is accepted (L08).

use super::Ledger;
use crate::store::{Connection, OptionalExtension, StoreError};

/// How a station's BootNotifications are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// As on the wire.
    pub(crate) registration: String,
    pub(crate) interval_s: Option<i64>,
}

/// How a boot is answered where nothing was laid down for its station.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Otherwise {
    pub(crate) registration: &'static str,
    /// For those that are accepted.
    pub(crate) heartbeat_s: i64,
    /// For all others.
    pub(crate) retry_s: i64,
}

/// How long a triggered message is let through: a station may send one for each of its connectors.
const TRIGGERED_MS: i64 = 120_000;

impl Ledger<'_> {
    /// What is laid down for the station, else what is configured: the status and the interval.
    pub(crate) fn admission(&self, otherwise: Otherwise) -> Result<(String, i64), StoreError> {
        let laid_down = self
            .db
            .prepare_cached(
                "SELECT boot_policy.registration, interval_s FROM boot_policy JOIN station USING (tenant, identity)
                 WHERE station.id = ?1",
            )?
            .query_row([self.station], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))
            .optional()?;
        let (registration, interval) = laid_down.unwrap_or_else(|| (otherwise.registration.to_owned(), None));
        let usual = if registration == "Accepted" { otherwise.heartbeat_s } else { otherwise.retry_s };
        Ok((registration, interval.unwrap_or(usual)))
    }

    /// Whether the station was asked for this message lately.
    pub(crate) fn was_asked_for(&self, action: &str) -> Result<bool, StoreError> {
        was_asked_for(self.db, self.station, action, self.now_ms)
    }
}

/// Lays down how a station's boots are answered; none: as configured.
pub(crate) fn set_policy(
    db: &Connection,
    tenant: &str,
    identity: &str,
    policy: Option<&Policy>,
) -> Result<(), StoreError> {
    let Some(policy) = policy else {
        db.prepare_cached("DELETE FROM boot_policy WHERE tenant = ?1 AND identity = ?2")?
            .execute([tenant, identity])?;
        return Ok(());
    };
    db.prepare_cached(
        "INSERT INTO boot_policy (tenant, identity, registration, interval_s) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant, identity) DO UPDATE SET registration = excluded.registration, interval_s = excluded.interval_s",
    )?
    .execute((tenant, identity, &policy.registration, policy.interval_s))?;
    Ok(())
}

/// What is laid down for a station.
pub(crate) fn policy(db: &Connection, tenant: &str, identity: &str) -> Result<Option<Policy>, StoreError> {
    Ok(db
        .prepare_cached(
            "SELECT registration, interval_s FROM boot_policy WHERE tenant = ?1 AND identity = ?2",
        )?
        .query_row([tenant, identity], |row| {
            Ok(Policy { registration: row.get(0)?, interval_s: row.get(1)? })
        })
        .optional()?)
}

/// Notes that a station is asked for messages.
pub(crate) fn ask_for(
    db: &Connection,
    tenant: &str,
    identity: &str,
    actions: &[&str],
    now_ms: i64,
) -> Result<(), StoreError> {
    for action in actions {
        db.prepare_cached(
            "INSERT INTO triggered (station, action, until_ms)
             SELECT id, ?3, ?4 FROM station WHERE tenant = ?1 AND identity = ?2
             ON CONFLICT (station, action) DO UPDATE SET until_ms = excluded.until_ms",
        )?
        .execute((tenant, identity, action, now_ms + TRIGGERED_MS))?;
    }
    Ok(())
}

/// Whether a station was asked for this message lately.
pub(crate) fn was_asked_for(
    db: &Connection,
    station: i64,
    action: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    Ok(db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM triggered WHERE station = ?1 AND action = ?2 AND until_ms >= ?3)",
        )?
        .query_row((station, action, now_ms), |row| row.get(0))?)
}

/// The messages that a station is asked for by a call with this action and this `requestedMessage`.
pub(crate) fn asked_for(action: &str, requested: &str) -> &'static [&'static str] {
    match (action, requested) {
        // The extension's own notification takes the place of the older one.
        ("ExtendedTriggerMessage", "FirmwareStatusNotification") => &["SignedFirmwareStatusNotification"],
        (
            "TriggerMessage" | "ExtendedTriggerMessage",
            "SignChargePointCertificate"
            | "SignChargingStationCertificate"
            | "SignV2GCertificate"
            | "SignV2G20Certificate"
            | "SignCombinedCertificate",
        ) => &["SignCertificate"],
        // 2.1 tells a connector's state with NotifyEvent instead.
        ("TriggerMessage" | "ExtendedTriggerMessage", "StatusNotification") => {
            &["StatusNotification", "NotifyEvent"]
        }
        ("TriggerMessage" | "ExtendedTriggerMessage", "Heartbeat") => &["Heartbeat"],
        ("TriggerMessage" | "ExtendedTriggerMessage", "MeterValues") => &["MeterValues"],
        ("TriggerMessage" | "ExtendedTriggerMessage", "TransactionEvent") => &["TransactionEvent"],
        ("TriggerMessage" | "ExtendedTriggerMessage", "LogStatusNotification") => &["LogStatusNotification"],
        ("TriggerMessage", "DiagnosticsStatusNotification") => &["DiagnosticsStatusNotification"],
        ("TriggerMessage", "FirmwareStatusNotification") => &["FirmwareStatusNotification"],
        ("TriggerMessage", "PublishFirmwareStatusNotification") => &["PublishFirmwareStatusNotification"],
        ("GetLog", _) => &["LogStatusNotification"],
        ("GetDiagnostics", _) => &["DiagnosticsStatusNotification"],
        _ => &[],
    }
}
