//! Messages about money that could not be read into their form. They are kept as they came, once.

use super::{AlarmKind, Ledger, Stamp};
use crate::store::{OptionalExtension, StoreError};

impl Ledger<'_> {
    /// What the same message was answered with before.
    pub(crate) fn unreadable_before(
        &self,
        action: &str,
        payload: &str,
    ) -> Result<Option<String>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT answer FROM unreadable WHERE station = ?1 AND digest = ?2 AND action = ?3 AND payload = ?4",
            )?
            .query_row((self.station, digest(payload), action, payload), |row| row.get(0))
            .optional()?)
    }

    /// Keeps the message with its answer, and raises an alarm.
    pub(crate) fn unreadable(
        &self,
        action: &str,
        payload: &str,
        violations: &str,
        answer: &str,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO unreadable (station, action, digest, payload, violations, answer, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((self.station, action, digest(payload), payload, violations, answer, self.now_ms))?;
        self.alarm(
            AlarmKind::Unreadable,
            action,
            &format!("a {action} could not be read and is kept as it came: {violations}"),
        )
    }
}

/// The stand-in of a time serves as well: it depends on nothing but the text.
fn digest(payload: &str) -> i64 {
    Stamp::new(payload, None).us
}
