//! Transactions of 1.6: StartTransaction and StopTransaction.
//!
//! A repeat is recognised by what it says, not by its message id (`OCPP-J.md` 11.2). None of these is ever refused for
//! what it says: oddities are kept and raise an alarm.

use super::{AlarmKind, Ledger, Reading, Stamp, Verdict};
use crate::decimal::Decimal;
use crate::store::{OptionalExtension, Row, StoreError};
use serde::Serialize;

/// A StartTransaction. What could not be read of it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) connector: Option<i64>,
    pub(crate) token: Option<String>,
    pub(crate) at: Option<Stamp>,
    pub(crate) meter: Option<Decimal>,
    pub(crate) reservation: Option<i64>,
}

/// What a StartTransaction is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) transaction: i32,
    pub(crate) verdict: Verdict,
}

/// A StopTransaction. What could not be read of it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) transaction: i64,
    pub(crate) token: Option<String>,
    pub(crate) at: Option<Stamp>,
    pub(crate) meter: Option<Decimal>,
    pub(crate) reason: Option<String>,
    pub(crate) readings: Vec<Reading>,
}

/// What of a StopTransaction makes it the same as another.
#[derive(Serialize)]
struct StopContent<'a> {
    at_us: Option<i64>,
    meter_wh: Option<String>,
    reason: &'a str,
    token: Option<&'a str>,
}

/// A transaction as far as a message about it must know it.
struct Known {
    evse: Option<i64>,
    start_us: Option<i64>,
    start_wh: Option<String>,
    ended: bool,
    stop_us: Option<i64>,
    stop_wh: Option<String>,
    stop_reason: Option<String>,
    stop_token: Option<String>,
    stop_answer: Option<String>,
}

impl Ledger<'_> {
    /// Begins a transaction, or finds the one that the same message began before.
    pub(crate) fn start(&self, start: &Start) -> Result<Started, StoreError> {
        if let Some(known) = self.started_before(start)? {
            return Ok(known);
        }
        let verdict = match &start.token {
            Some(token) => self.verdict_at_start(token, None, None)?,
            // Without a readable token nobody can be told no: energy may be flowing already.
            None => Verdict::of(super::TokenStatus::Accepted),
        };
        let transaction = self.next_transaction()?;
        self.left_open(start, transaction)?;
        self.db
            .prepare_cached(
                "INSERT INTO charge (id, station, evse, connector, token, start_at, start_us, start_wh, reservation,
                                     authorized, answer, opened_ms)
                 VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute((
                transaction,
                self.station,
                start.connector,
                &start.token,
                start.at.as_ref().map(|at| &at.text),
                start.at.as_ref().map(|at| at.us),
                start.meter.map(|meter| meter.to_string()),
                start.reservation,
                verdict.status.as_str(),
                Verdict::to_text(Some(&verdict)),
                self.now_ms,
            ))?;
        if let Some(reservation) = start.reservation {
            self.reservation_used(reservation, i64::from(transaction))?;
        }
        Ok(Started { transaction, verdict })
    }

    fn started_before(&self, start: &Start) -> Result<Option<Started>, StoreError> {
        let mut known = self.db.prepare_cached(
            "SELECT id, start_wh, answer FROM charge
             WHERE station = ?1 AND start_us = ?2 AND remote_id IS NULL AND evse IS NOT DISTINCT FROM ?3
               AND token IS NOT DISTINCT FROM ?4",
        )?;
        let mut rows =
            known.query((self.station, start.at.as_ref().map(|at| at.us), start.connector, &start.token))?;
        while let Some(row) = rows.next()? {
            let meter: Option<String> = row.get(1)?;
            if meter.as_deref().and_then(Decimal::parse) != start.meter {
                continue;
            }
            let answer: Option<String> = row.get(2)?;
            let verdict = answer.as_deref().and_then(Verdict::from_text);
            if let (Ok(transaction), Some(verdict)) = (i32::try_from(row.get::<_, i64>(0)?), verdict) {
                return Ok(Some(Started { transaction, verdict }));
            }
        }
        Ok(None)
    }

    /// The next transactionId of 1.6: positive, 32 bits, never given before to anybody.
    fn next_transaction(&self) -> Result<i32, StoreError> {
        i32::try_from(self.db.next_number("transaction_16")?)
            .map_err(|_| StoreError::Invalid("all 32-bit transaction ids have been given out".to_owned()))
    }

    /// Raises an alarm for each transaction that the same connector has not ended.
    fn left_open(&self, start: &Start, by: i32) -> Result<(), StoreError> {
        let Some(connector) = start.connector else { return Ok(()) };
        let mut open = self.db.prepare_cached(
            "SELECT id FROM charge WHERE station = ?1 AND ended = 0 AND evse = ?2 AND remote_id IS NULL",
        )?;
        let open: Vec<i64> =
            open.query_map((self.station, connector), |row| row.get(0))?.collect::<Result<_, _>>()?;
        for id in open {
            self.alarm(
                AlarmKind::LeftOpen,
                &id.to_string(),
                &format!("connector {connector} began transaction {by} before it ended transaction {id}"),
            )?;
        }
        Ok(())
    }

    /// Ends a transaction; gives out what the station is told of the token that ended it.
    pub(crate) fn stop(&self, stop: &Stop) -> Result<Option<Verdict>, StoreError> {
        let known = self.known_charge(stop.transaction)?;
        let evse = known.as_ref().and_then(|known| known.evse).unwrap_or(0);
        self.readings(stop.transaction, evse, &stop.readings)?;
        match known {
            None => self.orphan(stop),
            Some(known) if known.ended => self.stop_again(stop, &known),
            Some(known) => {
                self.backwards(stop, &known)?;
                let verdict = stop.token.as_deref().map(|token| self.verdict(token)).transpose()?;
                self.db
                    .prepare_cached(
                        "UPDATE charge SET ended = 1, stop_at = ?2, stop_us = ?3, stop_wh = ?4, stop_reason = ?5,
                                stop_token = ?6, stop_answer = ?7, closed_ms = ?8
                         WHERE id = ?1",
                    )?
                    .execute((
                        stop.transaction,
                        stop.at.as_ref().map(|at| &at.text),
                        stop.at.as_ref().map(|at| at.us),
                        stop.meter.map(|meter| meter.to_string()),
                        stop.reason(),
                        &stop.token,
                        Verdict::to_text(verdict.as_ref()),
                        self.now_ms,
                    ))?;
                Ok(verdict)
            }
        }
    }

    /// Whether a transaction of 1.6 with this id is in this station's books, and on which connector.
    fn known_charge(&self, id: i64) -> Result<Option<Known>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT evse, start_us, start_wh, ended, stop_us, stop_wh, stop_reason, stop_token, stop_answer
                 FROM charge WHERE id = ?1 AND station = ?2 AND remote_id IS NULL",
            )?
            .query_row((id, self.station), |row: &Row<'_>| {
                Ok(Known {
                    evse: row.get(0)?,
                    start_us: row.get(1)?,
                    start_wh: row.get(2)?,
                    ended: row.get(3)?,
                    stop_us: row.get(4)?,
                    stop_wh: row.get(5)?,
                    stop_reason: row.get(6)?,
                    stop_token: row.get(7)?,
                    stop_answer: row.get(8)?,
                })
            })
            .optional()?)
    }

    /// A second stop: the same message again, or another one, which is kept beside the first.
    fn stop_again(&self, stop: &Stop, known: &Known) -> Result<Option<Verdict>, StoreError> {
        let same = known.stop_us == stop.at.as_ref().map(|at| at.us)
            && known.stop_wh.as_deref().and_then(Decimal::parse) == stop.meter
            && known.stop_reason.as_deref() == Some(stop.reason())
            && known.stop_token == stop.token;
        let answer = known.stop_answer.as_deref().unwrap_or("null");
        if !same && self.odd_stop(stop, "variant", None, answer)? {
            self.alarm(
                AlarmKind::StopVariant,
                &stop.transaction.to_string(),
                &format!(
                    "transaction {} was ended twice, and differently; the first end counts",
                    stop.transaction
                ),
            )?;
        }
        Ok(Verdict::from_text(answer))
    }

    /// A stop without a transaction: -1 (the station never got an id), one that we lost, or another station's.
    fn orphan(&self, stop: &Stop) -> Result<Option<Verdict>, StoreError> {
        let content = stop.content();
        let before: Option<String> = self
            .db
            .prepare_cached(
                "SELECT answer FROM odd_stop WHERE station = ?1 AND claimed = ?2 AND content = ?3",
            )?
            .query_row((self.station, stop.transaction, &content), |row| row.get(0))
            .optional()?;
        if let Some(answer) = before {
            return Ok(Verdict::from_text(&answer));
        }
        let verdict = stop.token.as_deref().map(|token| self.verdict(token)).transpose()?;
        let candidate = self.candidate(stop)?;
        self.odd_stop(stop, "orphan", candidate, &Verdict::to_text(verdict.as_ref()))?;
        let hint = candidate.map_or_else(String::new, |id| format!("; it may belong to transaction {id}"));
        self.alarm(
            AlarmKind::OrphanStop,
            &format!("{} {}", stop.transaction, stop.at.as_ref().map_or("", |at| at.text.as_str())),
            &format!("the end of transaction {}, which is not in the books{hint}", stop.transaction),
        )?;
        Ok(verdict)
    }

    /// Keeps a stop that ended nothing; whether it is new.
    fn odd_stop(
        &self,
        stop: &Stop,
        role: &str,
        candidate: Option<i64>,
        answer: &str,
    ) -> Result<bool, StoreError> {
        let new = self
            .db
            .prepare_cached(
                "INSERT INTO odd_stop (station, claimed, content, role, candidate, answer, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            )?
            .execute((
                self.station,
                stop.transaction,
                stop.content(),
                role,
                candidate,
                answer,
                self.now_ms,
            ))?;
        Ok(new == 1)
    }

    /// The one running transaction that an orphaned stop fits by token, time and meter. It is only named, not ended: with
    /// several connectors and one token the guess can be wrong, and money hangs on it.
    fn candidate(&self, stop: &Stop) -> Result<Option<i64>, StoreError> {
        let (Some(token), Some(at)) = (&stop.token, &stop.at) else { return Ok(None) };
        let mut running = self.db.prepare_cached(
            "SELECT id, start_wh FROM charge
             WHERE station = ?1 AND ended = 0 AND remote_id IS NULL AND token = ?2 COLLATE NOCASE AND start_us <= ?3",
        )?;
        let mut rows = running.query((self.station, token, at.us))?;
        let mut found = None;
        while let Some(row) = rows.next()? {
            let start: Option<String> = row.get(1)?;
            let start = start.as_deref().and_then(Decimal::parse);
            if let (Some(start), Some(end)) = (start, stop.meter)
                && start > end
            {
                continue;
            }
            if found.is_some() {
                return Ok(None);
            }
            found = Some(row.get(0)?);
        }
        Ok(found)
    }

    fn backwards(&self, stop: &Stop, known: &Known) -> Result<(), StoreError> {
        let start = known.start_wh.as_deref().and_then(Decimal::parse);
        let meter = matches!((start, stop.meter), (Some(start), Some(end)) if end < start);
        let time = matches!(
            (known.start_us.and_then(Stamp::instant_ms), stop.at.as_ref().and_then(|at| Stamp::instant_ms(at.us))),
            (Some(start), Some(end)) if end < start
        );
        if meter || time {
            let what = if meter { "with less on the meter" } else { "earlier" };
            self.alarm(
                AlarmKind::Backwards,
                &stop.transaction.to_string(),
                &format!("transaction {} ended {what} than it began", stop.transaction),
            )?;
        }
        Ok(())
    }

    /// Keeps the readings of a MeterValues message of 1.6.
    pub(crate) fn meter_values(
        &self,
        connector: i64,
        transaction: Option<i64>,
        readings: &[Reading],
    ) -> Result<(), StoreError> {
        if let Some(transaction) = transaction {
            let place = (self.station, transaction, connector);
            let is_booked = self.db.known().is_booked(place) || self.is_booked(transaction)?;
            if is_booked {
                self.db.learn().note_booked(place);
            } else {
                self.alarm(
                    AlarmKind::OrphanReading,
                    &transaction.to_string(),
                    &format!("meter values for transaction {transaction}, which is not in the books"),
                )?;
            }
        }
        self.readings(transaction.unwrap_or(0), connector, readings)
    }

    fn is_booked(&self, transaction: i64) -> Result<bool, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM charge WHERE id = ?1 AND station = ?2 AND remote_id IS NULL)",
            )?
            .query_row((transaction, self.station), |row| row.get(0))?)
    }
}

impl Stop {
    /// A stop without a reason means Local (J16e 2.5).
    fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or("Local")
    }

    fn content(&self) -> String {
        let content = StopContent {
            at_us: self.at.as_ref().map(|at| at.us),
            meter_wh: self.meter.map(|meter| meter.to_string()),
            reason: self.reason(),
            token: self.token.as_deref(),
        };
        serde_json::to_string(&content).unwrap_or_default()
    }
}
