//! Transactions of 2.x: TransactionEvent. Events may come late, twice and in any order; the books are the same whichever
//! way they came.

use super::{AlarmKind, Ledger, Reading, Stamp, Verdict};
use crate::details::Details;
use crate::store::{OptionalExtension, StoreError};
use serde::Serialize;

/// Which part of a transaction an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Started,
    Updated,
    Ended,
}

impl EventKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Updated => "Updated",
            Self::Ended => "Ended",
        }
    }
}

/// A TransactionEvent. `content` is what makes it the same as another: all but `offline`, which a queued event changes
/// (E11.FR.07), and the readings, which are kept by keys of their own.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) offline: bool,
    pub(crate) readings: Vec<Reading>,
    pub(crate) content: Content,
}

/// What makes an event the same as another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Content {
    #[serde(skip)]
    pub(crate) transaction: String,
    #[serde(skip)]
    pub(crate) seq: i64,
    #[serde(serialize_with = "kind_as_text")]
    pub(crate) kind: EventKind,
    pub(crate) at: Stamp,
    pub(crate) trigger: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) token_type: Option<String>,
    pub(crate) evse: Option<i64>,
    pub(crate) connector: Option<i64>,
    pub(crate) charging_state: Option<String>,
    pub(crate) stopped_reason: Option<String>,
    pub(crate) remote_start: Option<i64>,
    pub(crate) reservation: Option<i64>,
    #[serde(skip_serializing_if = "Details::is_empty")]
    pub(crate) details: Details,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn kind_as_text<S: serde::Serializer>(kind: &EventKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

impl Ledger<'_> {
    /// Keeps an event and what it changes; gives out what the station is told of the token in it.
    pub(crate) fn event(&self, event: &Event) -> Result<Option<Verdict>, StoreError> {
        let content = &event.content;
        let charge = self.charge_of(&content.transaction)?;
        let text = serde_json::to_string(content).map_err(|error| StoreError::Invalid(error.to_string()))?;
        self.readings(charge, content.evse_or(self, charge)?, &event.readings)?;

        let before = self.events_numbered(charge, content.seq)?;
        if let Some((_, answer)) = before.iter().find(|(kept, _)| *kept == text) {
            return Ok(Verdict::from_text(answer));
        }
        let verdict = match (&content.token, before.first()) {
            (Some(token), _) if content.kind == EventKind::Started => {
                Some(self.verdict_at_start(token, content.token_type.as_deref(), Some(charge))?)
            }
            (Some(token), _) => Some(self.verdict_of_type(token, content.token_type.as_deref())?),
            (None, Some((_, answer))) => Verdict::from_text(answer),
            (None, None) => None,
        };
        self.db
            .prepare_cached(
                "INSERT INTO charge_event (charge, seq, variant, kind, at, at_us, offline, content, answer, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute((
                charge,
                content.seq,
                i64::try_from(before.len()).unwrap_or(i64::MAX),
                content.kind.as_str(),
                &content.at.text,
                content.at.us,
                event.offline,
                &text,
                Verdict::to_text(verdict.as_ref()),
                self.now_ms,
            ))?;
        if !before.is_empty() {
            self.alarm(
                AlarmKind::EventVariant,
                &format!("{} {}", content.transaction, content.seq),
                &format!(
                    "event {} of transaction {} came again with other content; both are kept",
                    content.seq, content.transaction
                ),
            )?;
        }
        self.apply(charge, content, verdict.as_ref())?;
        Ok(verdict)
    }

    /// The transaction that the station calls so; begun with the first event of it that comes, whichever that is.
    fn charge_of(&self, remote_id: &str) -> Result<i64, StoreError> {
        let known = self
            .db
            .prepare_cached("SELECT id FROM charge WHERE station = ?1 AND remote_id = ?2")?
            .query_row((self.station, remote_id), |row| row.get(0))
            .optional()?;
        if let Some(id) = known {
            return Ok(id);
        }
        let id = self.db.next_number("transaction_2x")?;
        self.db
            .prepare_cached("INSERT INTO charge (id, station, remote_id, opened_ms) VALUES (?1, ?2, ?3, ?4)")?
            .execute((id, self.station, remote_id, self.now_ms))?;
        Ok(id)
    }

    /// Contents and answers of the events with this number; more than one only where a station uses numbers twice.
    fn events_numbered(&self, charge: i64, seq: i64) -> Result<Vec<(String, String)>, StoreError> {
        let mut events = self.db.prepare_cached(
            "SELECT content, answer FROM charge_event WHERE charge = ?1 AND seq = ?2 ORDER BY variant",
        )?;
        let events = events.query_map((charge, seq), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(events.collect::<Result<_, _>>()?)
    }

    /// Brings the transaction up to date. Stations say most things once (`OCPP-J.md` 11.4), so absence changes nothing;
    /// where several events say the same thing, numbers decide, not the order in which they came.
    fn apply(&self, charge: i64, content: &Content, verdict: Option<&Verdict>) -> Result<(), StoreError> {
        if content.evse.is_some() || content.remote_start.is_some() || content.reservation.is_some() {
            self.db
                .prepare_cached(
                    "UPDATE charge SET evse = coalesce(evse, ?2), connector = coalesce(connector, ?3),
                            remote_start = coalesce(remote_start, ?4), reservation = coalesce(reservation, ?5)
                     WHERE id = ?1",
                )?
                .execute((
                    charge,
                    content.evse,
                    content.connector,
                    content.remote_start,
                    content.reservation,
                ))?;
        }
        if let Some(reservation) = content.reservation {
            self.reservation_used(reservation, charge)?;
        }
        if let Some(state) = &content.charging_state {
            self.db
                .prepare_cached(
                    "UPDATE charge SET state = ?2, state_seq = ?3
                     WHERE id = ?1 AND (state_seq IS NULL OR state_seq <= ?3)",
                )?
                .execute((charge, state, content.seq))?;
        }
        for (name, value) in content.details.iter() {
            self.db
                .prepare_cached(
                    "INSERT INTO charge_detail (charge, name, seq, value) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (charge, name) DO UPDATE SET seq = excluded.seq, value = excluded.value
                     WHERE charge_detail.seq <= excluded.seq",
                )?
                .execute((charge, name, content.seq, value))?;
        }
        // The token at the end may be another one, which only stops.
        if let (Some(token), Some(verdict)) = (&content.token, verdict)
            && content.kind != EventKind::Ended
        {
            self.db
                .prepare_cached(
                    "UPDATE charge SET token = ?2, token_type = ?3, token_seq = ?4, authorized = ?5
                     WHERE id = ?1 AND (token_seq IS NULL OR token_seq >= ?4)",
                )?
                .execute((charge, token, &content.token_type, content.seq, verdict.status.as_str()))?;
        }
        match content.kind {
            EventKind::Started => {
                self.db
                    .prepare_cached(
                        "UPDATE charge SET start_at = ?2, start_us = ?3 WHERE id = ?1 AND start_us IS NULL",
                    )?
                    .execute((charge, &content.at.text, content.at.us))?;
            }
            EventKind::Ended => {
                self.db
                    .prepare_cached(
                        "UPDATE charge SET ended = 1, stop_at = ?2, stop_us = ?3, stop_reason = ?4, stop_token = ?5,
                                closed_ms = ?6
                         WHERE id = ?1 AND ended = 0",
                    )?
                    .execute((
                        charge,
                        &content.at.text,
                        content.at.us,
                        // P2-201: the reason may be left out when it is Local.
                        content.stopped_reason.as_deref().unwrap_or("Local"),
                        &content.token,
                        self.now_ms,
                    ))?;
            }
            EventKind::Updated => {}
        }
        Ok(())
    }
}

impl Content {
    /// The EVSE that readings of this event belong to: named here, or by an earlier event.
    fn evse_or(&self, ledger: &Ledger<'_>, charge: i64) -> Result<i64, StoreError> {
        if let Some(evse) = self.evse {
            return Ok(evse);
        }
        let known: Option<i64> = ledger
            .db
            .prepare_cached("SELECT evse FROM charge WHERE id = ?1")?
            .query_row([charge], |row| row.get(0))?;
        Ok(known.unwrap_or(0))
    }
}
