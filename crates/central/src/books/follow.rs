//! What follows from a notification beyond that it is kept.

use super::Ledger;
use crate::store::StoreError;
use serde_json::Value;

/// A notification in whatever version: members that several versions share have one name.
pub(super) struct Said(Value);

impl Said {
    pub(super) fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.0[name].as_i64()
    }

    pub(super) fn list(&self, name: &str) -> &[Value] {
        self.0[name].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

impl Ledger<'_> {
    /// Does what a notification asks for. What cannot be read of it has no consequences; it is kept all the same.
    pub(super) fn follow(&self, action: &str, payload: &str) -> Result<(), StoreError> {
        let said = || serde_json::from_str(payload).map_or(Said(Value::Null), Said);
        match action {
            "FirmwareStatusNotification" | "SignedFirmwareStatusNotification" => {
                let said = said();
                self.job_status("firmware", said.text("status"), said.number("requestId"))
            }
            "DiagnosticsStatusNotification" | "LogStatusNotification" => {
                let said = said();
                self.job_status("log", said.text("status"), said.number("requestId"))
            }
            "ReservationStatusUpdate" => {
                let said = said();
                match said.number("reservationId") {
                    Some(reservation) => {
                        self.reservation_status(reservation, said.text("reservationUpdateStatus"))
                    }
                    None => Ok(()),
                }
            }
            "SecurityEventNotification" => self.security_event(&said()),
            "NotifyEvent" => self.station_events(&said()),
            _ => Ok(()),
        }
    }
}
