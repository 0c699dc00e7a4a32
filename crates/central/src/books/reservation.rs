//! Reservations: asked for, granted, and then used, cancelled or over.

use super::Ledger;
use crate::store::{OptionalExtension, StoreError};

impl Ledger<'_> {
    /// Lays down a reservation; gives out its number.
    pub(crate) fn reservation_new(
        &self,
        evse: i64,
        token: &str,
        token_type: Option<&str>,
        until_ms: i64,
    ) -> Result<i64, StoreError> {
        let id = self.next_request()?;
        self.db
            .prepare_cached(
                "INSERT INTO reservation (id, station, evse, token, token_type, until_ms, state, requested_ms, updated_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'requested', ?7, ?7)",
            )?
            .execute((id, self.station, evse, token, token_type, until_ms, self.now_ms))?;
        Ok(id)
    }

    /// The station answered ReserveNow.
    pub(crate) fn reservation_answered(&self, id: i64, status: &str, words: &str) -> Result<(), StoreError> {
        let state = if status == "Accepted" { "accepted" } else { "refused" };
        self.reservation_becomes(id, state, Some(words), &["requested"])
    }

    /// It cannot be had: never sent, or refused with an error.
    pub(crate) fn reservation_failed(&self, id: i64, detail: &str) -> Result<(), StoreError> {
        self.reservation_becomes(id, "refused", Some(detail), &["requested"])
    }

    /// What became of sending something about it, where that decides nothing yet.
    pub(crate) fn reservation_remark(&self, id: i64, detail: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached("UPDATE reservation SET detail = ?3 WHERE station = ?1 AND id = ?2")?
            .execute((self.station, id, detail))?;
        Ok(())
    }

    /// It shall be cancelled.
    pub(crate) fn reservation_cancelling(&self, id: i64) -> Result<(), StoreError> {
        self.reservation_becomes(id, "cancelling", None, &["requested", "accepted"])
    }

    /// The station answered CancelReservation, or nobody had told it of the reservation.
    pub(crate) fn reservation_cancelled(&self, id: i64, status: &str) -> Result<(), StoreError> {
        if status == "Accepted" {
            return self.reservation_becomes(
                id,
                "cancelled",
                Some(status),
                &["requested", "accepted", "cancelling"],
            );
        }
        // It knows of no such reservation: then it is over one way or another.
        self.reservation_becomes(
            id,
            "cancelled",
            Some("the station knows of no such reservation"),
            &["cancelling"],
        )
    }

    /// The station cannot be told to cancel it: it stands as before.
    pub(crate) fn reservation_not_cancelled(&self, id: i64, why: &str) -> Result<(), StoreError> {
        self.reservation_becomes(id, "accepted", Some(&format!("not cancelled: {why}")), &["cancelling"])
    }

    /// The state of a reservation, with what time has made of it.
    pub(crate) fn reservation_state(&self, id: i64) -> Result<Option<String>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT CASE WHEN state IN ('requested', 'accepted') AND until_ms <= ?3 THEN 'expired' ELSE state END
                 FROM reservation WHERE station = ?1 AND id = ?2",
            )?
            .query_row((self.station, id, self.now_ms), |row| row.get(0))
            .optional()?)
    }

    /// ReservationStatusUpdate (2.x). One that was used stays used, however late the station says something else.
    pub(super) fn reservation_status(&self, id: i64, status: &str) -> Result<(), StoreError> {
        let state = match status {
            // NoTransaction (2.1): nobody came, or nobody charged.
            "Expired" | "NoTransaction" => "expired",
            "Removed" => "removed",
            _ => return Ok(()),
        };
        self.reservation_becomes(id, state, Some(status), &["requested", "accepted", "cancelling"])
    }

    /// A transaction names it. Some stations of 1.6 always name 0, which is none.
    pub(super) fn reservation_used(&self, id: i64, charge: i64) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE reservation SET state = 'used', charge = ?3, updated_ms = ?4
                 WHERE station = ?1 AND id = ?2 AND state <> 'used'",
            )?
            .execute((self.station, id, charge, self.now_ms))?;
        Ok(())
    }

    fn reservation_becomes(
        &self,
        id: i64,
        state: &str,
        detail: Option<&str>,
        from: &[&str],
    ) -> Result<(), StoreError> {
        let from = serde_json::to_string(from).map_err(|error| StoreError::Invalid(error.to_string()))?;
        self.db
            .prepare_cached(
                "UPDATE reservation SET state = ?3, detail = coalesce(?4, detail), updated_ms = ?5
                 WHERE station = ?1 AND id = ?2 AND state IN (SELECT value FROM json_each(CAST(?6 AS TEXT)))",
            )?
            .execute((self.station, id, state, detail, self.now_ms, from))?;
        Ok(())
    }
}
