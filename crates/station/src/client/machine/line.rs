//! What goes over the line: what the client itself has to say, and what becomes of what was said.

use super::{Client, INTERVAL_MAX, NotCalled, Phase, fresh_id};
use crate::client::{
    backlog::Due,
    event::{Ending, Event},
    gate::{Deed, Registration, Verdict},
};
use bytes::Bytes;
use bytestring::ByteString;
use std::time::{Duration, Instant};
use switchboard_rpc::{
    ErrorCode,
    connection::{Called, Event as Line, Lane, Outcome, Outgoing},
    frame,
};

impl Client {
    /// Hands a call to the connection; it ends exactly once.
    pub(super) fn submit(
        &mut self,
        action: ByteString,
        payload: Bytes,
        queue_timeout: Duration,
        now: Instant,
    ) -> Result<u64, NotCalled> {
        let key = self.next_key + 1;
        let outgoing = Outgoing {
            key,
            id: fresh_id(),
            action,
            payload,
            lane: Lane::Normal,
            answer_timeout: self.config.answer_timeout,
            queue_timeout,
        };
        self.rpc().ok_or(NotCalled::Offline)?.call(outgoing, now)?;
        self.next_key = key;
        Ok(key)
    }

    /// What the client itself has to say now.
    pub(super) fn submit_what_is_due(&mut self, now: Instant) {
        if !self.is_online() {
            return;
        }
        if self.boot.key.is_none() && self.boot.due.is_some_and(|due| due <= now) {
            let payload = self.boot_payload();
            self.boot.key = self
                .submit(ByteString::from_static("BootNotification"), payload.into_bytes(), INTERVAL_MAX, now)
                .ok();
        }
        let accepted = self.gate.registration() == Registration::Accepted;
        let heartbeat = accepted && self.heartbeat.at.is_some_and(|at| at <= now);
        if self.heartbeat.key.is_none() && (heartbeat || self.heartbeat.triggered) {
            self.heartbeat.triggered = false;
            self.heartbeat.at = Some(now + self.heartbeat.every);
            self.heartbeat.key = self
                .submit(ByteString::from_static("Heartbeat"), Bytes::from_static(b"{}"), INTERVAL_MAX, now)
                .ok();
        }
        if accepted
            && self.bill.is_none()
            && let Some(Due { action, payload }) = self.backlog.hand_out(now, self.epoch)
        {
            self.bill = self.submit(action, payload.into_bytes(), INTERVAL_MAX, now).ok();
            if self.bill.is_none() {
                self.backlog.lost();
            }
        }
    }

    /// What the connection tells, in the client's terms; nothing where the client deals with it.
    pub(super) fn translate(&mut self, event: Line, now: Instant) -> Option<Event> {
        match event {
            Line::Called(called) => self.called(called, now),
            Line::Ended { key, outcome } => {
                self.exchanged(&outcome, now);
                self.ended(key, outcome, now)
            }
            Line::ResultError { id, code, description, .. } => {
                Some(Event::ResultError { id, code, description })
            }
            Line::Close { code, reason } => {
                if let Phase::Online(online) = &mut self.phase {
                    online.close = Some((code, reason));
                }
                None
            }
            _ => None,
        }
    }

    fn called(&mut self, called: Called, now: Instant) -> Option<Event> {
        match self.gate.judge(&called) {
            Verdict::Pass => return Some(Event::Called(called)),
            Verdict::Silence => drop(self.leave_unanswered(called.seq, now)),
            Verdict::Answer(frame, deed) => {
                let action = called.action;
                // Refused only if the connection has ended meanwhile; then the deed is not asked for any more.
                if self.answer(called.seq, frame, now).is_ok() {
                    match deed {
                        Some(Deed::Boot) => {
                            self.boot.due = Some(now);
                            self.boot.triggered = true;
                        }
                        Some(Deed::Heartbeat) => self.heartbeat.triggered = true,
                        None => {}
                    }
                    return Some(Event::Obeyed { action });
                }
            }
        }
        None
    }

    /// Tells that a call has ended that was written, whoever made it.
    fn exchanged(&mut self, outcome: &Outcome, now: Instant) {
        let end = match outcome {
            Outcome::Answered { .. } => Ending::Answered,
            Outcome::Refused { .. } => Ending::Refused,
            Outcome::MalformedAnswer { .. } | Outcome::TimedOut => Ending::Unanswered,
            Outcome::Unknown => Ending::Lost,
            // Never written.
            _ => return,
        };
        let written = self.written.take();
        if self.config.tells_exchanges {
            let after = now.saturating_duration_since(written.unwrap_or(now));
            self.tell(Event::Exchanged { end, after });
        }
    }

    fn ended(&mut self, key: u64, outcome: Outcome, now: Instant) -> Option<Event> {
        if self.boot.key == Some(key) {
            self.boot.key = None;
            return self.booted(outcome, now);
        }
        if self.heartbeat.key == Some(key) {
            self.heartbeat.key = None;
            let Outcome::Answered { payload: answer, .. } = outcome else { return None };
            self.heartbeat.clock = now;
            return Some(Event::Heartbeat { answer });
        }
        if self.bill == Some(key) {
            self.bill = None;
            return self.billed(outcome, now);
        }
        Some(Event::Ended { key, outcome })
    }

    fn billed(&mut self, outcome: Outcome, now: Instant) -> Option<Event> {
        let event = match outcome {
            Outcome::Answered { payload: answer, .. } => {
                let read: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
                let record = self.backlog.answered(read["transactionId"].as_i64())?.record;
                Some(Event::Billed {
                    number: record.number,
                    transaction: record.transaction,
                    action: record.action,
                    answer,
                })
            }
            Outcome::Refused { .. } | Outcome::MalformedAnswer { .. } | Outcome::TimedOut => {
                let number = self.backlog.first_number()?;
                Some(match self.backlog.failed(now) {
                    None => Event::BillFailed { number, outcome },
                    Some(dealt) => Event::GivenUp {
                        number,
                        transaction: dealt.record.transaction,
                        action: dealt.record.action,
                        outcome,
                    },
                })
            }
            _ => {
                self.backlog.lost();
                None
            }
        };
        self.tell_backlog();
        event
    }

    /// 2.1 lets us say that an answer makes no sense.
    pub(super) fn refuse_answer(&mut self, frame: &ByteString, description: &str) {
        if let Ok(frame) = frame::Frame::parse(frame, self.config.version)
            && let Err(error) =
                self.result_error(frame.id(), ErrorCode::OccurrenceConstraintViolation, description)
        {
            // It is only a courtesy: nothing follows from it.
            tracing::debug!(%error, "the central system is not told that its answer makes no sense");
        }
    }
}
