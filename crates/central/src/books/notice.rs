//! Notifications that only need to be kept, and answers that come in parts. Both as they came.

use super::{Ledger, Stamp};
use crate::store::StoreError;

/// One part of an answer that comes in several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) request: i64,
    /// Its number; none where the message has none (ReportChargingProfiles): then its content tells parts apart.
    pub(crate) number: Option<i64>,
    pub(crate) last: bool,
}

impl Ledger<'_> {
    /// Keeps a notification once per natural key; without one, each time.
    pub(crate) fn notice(
        &self,
        action: &str,
        natural: Option<&str>,
        payload: &str,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO notice (station, action, natural, payload, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute((self.station, action, natural, payload, self.now_ms))?;
        Ok(())
    }

    /// Keeps a part of a report. A part that came before is replaced: a station may use a request's number again.
    pub(crate) fn report_part(&self, action: &str, part: &Part, payload: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO report_part (station, action, request, part, last, payload, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (station, action, request, part) DO UPDATE
                 SET last = excluded.last, payload = excluded.payload, received_ms = excluded.received_ms",
            )?
            .execute((
                self.station,
                action,
                part.request,
                // The stand-in of a time serves as well: it depends on nothing but the text, and is no number of a part.
                part.number.unwrap_or_else(|| Stamp::new(payload, None).us),
                part.last,
                payload,
                self.now_ms,
            ))?;
        Ok(())
    }
}
