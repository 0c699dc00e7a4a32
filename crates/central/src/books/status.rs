//! What connectors and EVSEs say of themselves.

use super::{Ledger, Stamp};
use crate::store::{OptionalExtension, StoreError};

/// Station clocks that are further ahead than this are not believed: a status from the future would hide all later ones.
const AHEAD_US_MAX: i64 = 24 * 3600 * 1_000_000;

/// 2015-01-01. Clocks that were never set say 1970 or 2000; OCPP 1.6 is from the end of 2015.
const PLAUSIBLE_US_MIN: i64 = 1_420_070_400_000_000;

/// A StatusNotification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// 0: the station itself.
    pub(crate) evse: i64,
    /// 0 where the version has no connectors below EVSEs.
    pub(crate) connector: i64,
    pub(crate) status: String,
    pub(crate) error_code: Option<String>,
    pub(crate) info: Option<String>,
    pub(crate) vendor_id: Option<String>,
    pub(crate) vendor_error: Option<String>,
    pub(crate) at: Option<Stamp>,
}

impl Ledger<'_> {
    /// Keeps a status. One that is older than what is known — stations deliver them late — only joins the history.
    pub(crate) fn status(&self, status: &Status) -> Result<(), StoreError> {
        let now_us = self.now_ms.saturating_mul(1000);
        let believed = status
            .at
            .as_ref()
            .map(|at| at.us)
            .filter(|us| (PLAUSIBLE_US_MIN..=now_us.saturating_add(AHEAD_US_MAX)).contains(us));
        let at_us = believed.unwrap_or(now_us);
        let current: Option<(i64, String)> = self
            .db
            .prepare_cached(
                "SELECT at_us, status FROM connector WHERE station = ?1 AND evse = ?2 AND connector = ?3",
            )?
            .query_row((self.station, status.evse, status.connector), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // Without a time a repeat cannot be told from news; only a change is worth a line.
        if believed.is_some() || current.as_ref().is_none_or(|(_, known)| *known != status.status) {
            self.db
                .prepare_cached(
                    "INSERT INTO status_change (station, at_us, evse, connector, status, error_code)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                )?
                .execute_later((
                    self.station,
                    at_us,
                    status.evse,
                    status.connector,
                    &status.status,
                    status.error_code.as_deref().unwrap_or(""),
                ))?;
        }
        if current.is_some_and(|(known_us, _)| at_us < known_us) {
            return Ok(());
        }
        self.db
            .prepare_cached(
                "INSERT INTO connector (station, evse, connector, status, error_code, info, vendor_id, vendor_error, at,
                                        at_us, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (station, evse, connector) DO UPDATE
                 SET status = excluded.status, error_code = excluded.error_code, info = excluded.info,
                     vendor_id = excluded.vendor_id, vendor_error = excluded.vendor_error, at = excluded.at,
                     at_us = excluded.at_us, received_ms = excluded.received_ms",
            )?
            .execute_later(crate::store::params![
                self.station,
                status.evse,
                status.connector,
                status.status,
                status.error_code,
                status.info,
                status.vendor_id,
                status.vendor_error,
                status.at.as_ref().map(|at| &at.text),
                at_us,
                self.now_ms,
            ])?;
        Ok(())
    }
}
