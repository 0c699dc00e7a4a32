//! Notifications, kept as they came.

use super::Ledger;
use crate::store::StoreError;

impl Ledger<'_> {
    /// Keeps a notification once per natural key; without one, each time. What is kept may have consequences.
    pub(crate) fn notice(
        &self,
        action: &str,
        natural: Option<&str>,
        payload: &str,
    ) -> Result<(), StoreError> {
        let kept = self
            .db
            .prepare_cached(
                "INSERT INTO notice (station, action, natural_key, payload, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute((self.station, action, natural, payload, self.now_ms))?;
        if kept == 0 { Ok(()) } else { self.follow(action, payload) }
    }
}
