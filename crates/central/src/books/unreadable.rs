//! Messages about money that could not be read into their form. They are kept as they came, once.

use super::{AlarmKind, Ledger};
use crate::store::StoreError;
use rusqlite::OptionalExtension;

impl Ledger<'_> {
    /// What the same message was answered with before.
    pub(crate) fn unreadable_before(
        &self,
        action: &str,
        digest: &[u8],
    ) -> Result<Option<String>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT answer FROM unreadable WHERE station = ?1 AND action = ?2 AND digest = ?3",
            )?
            .query_row((self.station, action, digest), |row| row.get(0))
            .optional()?)
    }

    /// Keeps the message with its answer, and raises an alarm.
    pub(crate) fn unreadable(
        &self,
        action: &str,
        digest: &[u8],
        payload: &str,
        violations: &str,
        answer: &str,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO unreadable (station, action, digest, payload, violations, answer, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            )?
            .execute((self.station, action, digest, payload, violations, answer, self.now_ms))?;
        self.alarm(
            AlarmKind::Unreadable,
            action,
            &format!("a {action} could not be read and is kept as it came: {violations}"),
        )
    }
}
