//! One connection between a station and a central system, seen from either side, without socket and clock.

mod config;
mod event;
mod inbound;
mod outbound;
mod queue;
mod registration;
mod replay;
mod stats;

pub use config::Config;
pub use event::{
    AnswerError, CallRefused, Called, Event, Ignored, Lane, Outcome, Outgoing, Role, Sent, Transmit,
    TransmitKind,
};
pub use registration::Registration;
pub use stats::Stats;

use crate::{
    Fault, FrameError, FrameKind, Version, close,
    frame::{self, Layout, same_id, write_call},
};
use bytes::Bytes;
use bytestring::ByteString;
use inbound::{Arrival, Inbound, Next};
use outbound::Outbound;
use queue::{Queue, pop_and_shrink};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// The state of one connection, for both roles and all versions.
///
/// It does no I/O and reads no clock. Four kinds of methods, told by name: `handle_*` takes in what the network or the
/// clock did; commands ([`call`](Self::call), [`answer`](Self::answer), …) take what our side wants; `poll_*` gives out
/// what the caller must do now; the rest only looks.
///
/// **The contract**: after each `handle_*` or command, call [`poll_transmit`](Self::poll_transmit) until it gives `None`,
/// then [`poll_event`](Self::poll_event) until it does, then wait for input, for a command, or until
/// [`poll_timeout`](Self::poll_timeout). In this order one round is enough: to write a text may bring events, to take an
/// event never brings a text. While [`wants_input`](Self::wants_input) is false, do not read: that is how a
/// peer that sends faster than it is served is slowed down, and why nothing here grows without bound.
///
/// ```
/// use bytestring::ByteString;
/// use std::time::Instant;
/// use switchboard_rpc::{Version, connection::{Config, Connection, Event, Role}, frame};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # #![allow(clippy::disallowed_methods)]
/// let now = Instant::now();
/// let mut connection = Connection::new(Role::Csms, Version::V16, Config::default(), now);
/// connection.handle_text(ByteString::from_static(r#"[2,"1","Heartbeat",{}]"#), now);
/// let Some(Event::Called(called)) = connection.poll_event() else { panic!() };
/// assert_eq!(called.action, "Heartbeat");
/// let answer = frame::write_result(&called.id, br#"{"currentTime":"2026-01-01T00:00:00Z"}"#);
/// connection.answer(called.seq, answer, now)?;
/// let transmit = connection.poll_transmit(now).ok_or("nothing to write")?;
/// assert_eq!(transmit.text, r#"[3,"1",{"currentTime":"2026-01-01T00:00:00Z"}]"#);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    role: Role,
    version: Version,
    registration: Registration,
    closed: bool,
    hold: Hold,
    hold_until: Instant,
    inbound: Inbound,
    /// There only while our side calls: most connections of a central system are only called.
    outbound: Option<Box<Outbound>>,
    transmits: Queue<Transmit>,
    events: VecDeque<Event>,
    /// When the last bad frames came.
    bad_frames: Vec<Instant>,
    stats: Stats,
}

/// The number of the first CALL of a connection.
const FIRST_SEQ: u64 = 1;

/// What our CALLs wait for after the connection was made (L06).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    FirstCall,
    /// The first call was a BootNotification.
    BootAnswer,
    Over,
}

impl Connection {
    /// A connection that was just made.
    #[must_use]
    pub fn new(role: Role, version: Version, config: impl Into<Arc<Config>>, now: Instant) -> Self {
        let config = config.into();
        let hold =
            if role == Role::Csms && !config.hold_max.is_zero() { Hold::FirstCall } else { Hold::Over };
        Self {
            hold,
            hold_until: later(now, config.hold_max),
            config,
            role,
            version,
            registration: Registration::default(),
            closed: false,
            inbound: Inbound::new(),
            outbound: None,
            transmits: Queue::new(),
            events: VecDeque::new(),
            bad_frames: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Takes a text message of the peer.
    pub fn handle_text(&mut self, text: ByteString, now: Instant) {
        if self.closed {
            return;
        }
        match Layout::of(&text, self.version) {
            Ok(layout) => match layout.kind {
                FrameKind::Call => self.arrived(text, layout, now),
                FrameKind::Result | FrameKind::Error => self.answered(text, &layout),
                FrameKind::Send => self.sent(text, &layout, now),
                FrameKind::ResultError => self.report(Event::ResultError {
                    id: layout.id(&text),
                    code: layout.name(&text),
                    description: layout.description(&text),
                    frame: text,
                }),
            },
            Err(error) => self.bad_frame(text, &error, now),
        }
    }

    /// Time has passed. Nothing happens before [`poll_timeout`](Self::poll_timeout); later is as good.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.hold != Hold::Over && now >= self.hold_until {
            self.hold = Hold::Over;
        }
        if let Some(outbound) = &mut self.outbound {
            // C07: what waits may go out now.
            if let Some(key) = outbound.time_out(now) {
                self.stats.calls_timed_out += 1;
                self.events.push_back(Event::Ended { key, outcome: Outcome::TimedOut });
            }
            while let Some(key) = outbound.expire(now) {
                self.events.push_back(Event::Ended { key, outcome: Outcome::Expired });
            }
        }
        self.drop_empty_outbound();
        self.inbound.purge(now, &self.config);
        self.forget_bad_frames(now);
    }

    /// The socket has ended, or will be closed by our side. All our calls end; nothing more is written.
    pub fn handle_close(&mut self, _now: Instant) {
        self.end();
        self.transmits.clear();
    }

    /// Queues a CALL of ours.
    ///
    /// # Errors
    /// When the queue is full, the connection has ended, the registration forbids the action or the payload is no
    /// object. Otherwise the call ends with exactly one [`Event::Ended`].
    pub fn call(&mut self, mut call: Outgoing, now: Instant) -> Result<(), CallRefused> {
        if self.closed {
            return Err(CallRefused::Closed);
        }
        if call.payload.is_empty() {
            call.payload = Bytes::from_static(b"{}");
        }
        if !frame::is_object(&call.payload) {
            return Err(CallRefused::PayloadNotObject);
        }
        if self.role == Role::Csms && !self.registration.allows(self.version, &call.action) {
            return Err(CallRefused::NotAllowedWhile(self.registration));
        }
        if self.events.len() >= self.config.events_max {
            return Err(CallRefused::Full);
        }
        let outcome = self.outbound.get_or_insert_default().push(call, now, self.config.outgoing_calls_max);
        self.drop_empty_outbound();
        outcome
    }

    /// Sends a frame that nobody answers: a SEND or a CALLRESULTERROR of 2.1 (F16). It does not wait for other calls.
    ///
    /// # Errors
    /// When it is no such frame, too much waits to be written, or the connection has ended.
    pub fn send_unanswered(&mut self, frame: Bytes) -> Result<(), CallRefused> {
        if self.closed {
            return Err(CallRefused::Closed);
        }
        if self.transmits.len() >= self.config.transmits_max {
            return Err(CallRefused::Full);
        }
        let text = ByteString::try_from(frame).map_err(|_| CallRefused::NotUnanswered)?;
        match Layout::of(&text, self.version) {
            Ok(layout) if matches!(layout.kind, FrameKind::Send | FrameKind::ResultError) => {
                self.transmits.push(Transmit { text, kind: TransmitKind::Unanswered });
                Ok(())
            }
            _ => Err(CallRefused::NotUnanswered),
        }
    }

    /// Takes back a CALL of ours. True when it had not been written: it has ended as [`Outcome::Cancelled`].
    pub fn cancel(&mut self, key: u64) -> bool {
        let cancelled = self.outbound.as_mut().and_then(|outbound| outbound.cancel(key)).is_some();
        if cancelled {
            self.events.push_back(Event::Ended { key, outcome: Outcome::Cancelled });
            self.drop_empty_outbound();
        }
        cancelled
    }

    /// Answers the call in hand with a whole frame: `[3,id,…]` or `[4,id,…]`, with the id of the call.
    ///
    /// # Errors
    /// When no call with this number is in hand, which is counted, or the frame is no answer to it, in which case the
    /// call stays in hand: answer it with an InternalError instead.
    pub fn answer(&mut self, seq: u64, frame: Bytes, now: Instant) -> Result<(), AnswerError> {
        // C11: what comes after the end reaches nobody.
        if self.closed {
            self.stats.answers_late += 1;
            return Err(AnswerError::Closed);
        }
        if self.inbound.in_hand() != Some(seq) {
            self.stats.answers_late += 1;
            return Err(AnswerError::NotInHand);
        }
        let (text, kind) = self.inbound.check_answer(frame, self.version).ok_or(AnswerError::NotAnAnswer)?;
        self.inbound.answered(&text, kind, now, &self.config);
        self.transmits.push(Transmit { text, kind: TransmitKind::Answer { seq } });
        self.advance(now);
        Ok(())
    }

    /// Leaves the call in hand without an answer, ever. False when no call with this number is in hand.
    pub fn leave_unanswered(&mut self, seq: u64, now: Instant) -> bool {
        let in_hand = self.inbound.in_hand() == Some(seq);
        if in_hand {
            self.inbound.silenced();
            self.advance(now);
        }
        in_hand
    }

    /// Says what processing thinks of the station. Waiting calls that may not be sent now end as [`Outcome::NotSent`].
    ///
    /// To be said before the answer that brings the news is written.
    pub fn set_registration(&mut self, registration: Registration) {
        self.registration = registration;
        if self.role == Role::Csms
            && let Some(outbound) = &mut self.outbound
        {
            while let Some(key) = outbound.forbid(registration, self.version) {
                self.events.push_back(Event::Ended { key, outcome: Outcome::NotSent });
            }
            self.drop_empty_outbound();
        }
    }

    /// The next text to be written. `now` is the time of the write: the deadline of a CALL counts from it (C01).
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if let Some(transmit) = self.transmits.pop() {
            match transmit.kind {
                TransmitKind::Answer { seq } => {
                    self.stats.answers_sent += 1;
                    if self.hold == Hold::BootAnswer && seq == FIRST_SEQ {
                        self.hold = Hold::Over;
                    }
                }
                TransmitKind::Error => self.stats.errors_sent += 1,
                _ => {}
            }
            return Some(transmit);
        }
        if self.closed || (self.hold != Hold::Over && now < self.hold_until) {
            return None;
        }
        let outbound = self.outbound.as_mut()?;
        while let Some(key) = outbound.expire(now) {
            self.events.push_back(Event::Ended { key, outcome: Outcome::Expired });
        }
        let Some(Outgoing { key, id, action, payload, .. }) = outbound.write(now) else {
            self.drop_empty_outbound();
            return None;
        };
        // `call` has seen to it that the payload is text.
        let text = ByteString::try_from(write_call(&id, &action, &payload)).unwrap_or_default();
        self.stats.calls_sent += 1;
        self.events.push_back(Event::Written { key });
        Some(Transmit { text, kind: TransmitKind::Call { key } })
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        pop_and_shrink(&mut self.events).or_else(|| self.inbound.give().map(Event::Called))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held = self.outbound.as_ref().filter(|_| self.hold != Hold::Over).map(|_| self.hold_until);
        let deadline = self.outbound.as_ref().and_then(|outbound| outbound.next_deadline());
        [held, deadline, self.inbound.purge_at()].into_iter().flatten().min()
    }

    /// Whether there is room for what the peer may send next. False: stop reading until an answer was given or polled.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.closed
            && !self.inbound.is_full(&self.config)
            && self.transmits.len() < self.config.transmits_max
            && self.events.len() < self.config.events_max
    }

    /// Whether no CALL of the peer is in hand or waiting, nothing waits to be written and no CALL of ours is open.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.inbound.is_idle() && self.outbound.is_none() && self.transmits.len() == 0
    }

    /// How many CALLs of ours wait to be written.
    #[must_use]
    pub fn calls_waiting(&self) -> usize {
        self.outbound.as_ref().map_or(0, |outbound| outbound.waiting())
    }

    /// The number of the last CALL of the peer; 0 before the first.
    #[must_use]
    pub const fn last_seq(&self) -> u64 {
        self.inbound.last_seq()
    }

    /// Which version is spoken.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Which side we are.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What [`set_registration`](Self::set_registration) said last.
    #[must_use]
    pub const fn registration(&self) -> Registration {
        self.registration
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What was counted since this was last asked.
    pub fn take_stats(&mut self) -> Stats {
        std::mem::take(&mut self.stats)
    }

    fn arrived(&mut self, text: ByteString, layout: Layout, now: Instant) {
        // Only a caller that reads although no input is wanted gets here.
        if !self.wants_input() {
            self.overflow();
            return;
        }
        self.stats.calls_received += 1;
        let boot = self.hold == Hold::FirstCall && layout.name(&text) == "BootNotification";
        if self.inbound.is_free() {
            let next = self.inbound.take(text, layout, now, &self.config);
            self.proceed(next);
        } else {
            match self.inbound.push(text, layout, now) {
                Arrival::Taken => {}
                Arrival::Repeats => self.stats.calls_repeated += 1,
                Arrival::IdReused => self.stats.ids_reused += 1,
            }
        }
        // L06: some stations stumble over a CALL that comes before the answer to their BootNotification.
        if self.hold == Hold::FirstCall {
            self.hold = if boot { Hold::BootAnswer } else { Hold::Over };
        }
        self.advance(now);
    }

    fn advance(&mut self, now: Instant) {
        while let Some(next) = self.inbound.advance(now, &self.config) {
            self.proceed(next);
        }
    }

    fn proceed(&mut self, next: Next) {
        match next {
            Next::InHand => {}
            Next::InHandIdReused => self.stats.ids_reused += 1,
            Next::Repeat(text) => self.transmits.push(Transmit { text, kind: TransmitKind::Repeat }),
        }
    }

    fn answered(&mut self, text: ByteString, layout: &Layout) {
        // C04: by the id and nothing else.
        let Some(key) = self.end_outstanding(layout.id_json(&text)) else {
            self.unmatched();
            return;
        };
        self.stats.calls_answered += 1;
        let outcome = if layout.kind == FrameKind::Result {
            Outcome::Answered { payload: layout.payload(&text), frame: text }
        } else {
            Outcome::Refused {
                code: layout.name(&text),
                description: layout.description(&text),
                details: layout.payload(&text),
                frame: text,
            }
        };
        self.events.push_back(Event::Ended { key, outcome });
    }

    fn sent(&mut self, frame: ByteString, layout: &Layout, received: Instant) {
        self.stats.sends_received += 1;
        let seq = self.inbound.next_seq();
        self.report(Event::Sent(Sent {
            seq,
            id: layout.id(&frame),
            action: layout.name(&frame),
            payload: layout.payload(&frame),
            frame,
            received,
        }));
    }

    fn bad_frame(&mut self, text: ByteString, error: &FrameError, now: Instant) {
        let fault = error.fault;
        match fault {
            Fault::Empty => {
                self.stats.empty_frames += 1;
                return;
            }
            Fault::UnknownType if self.version != Version::V201 => {
                self.stats.unknown_types += 1;
                self.report(Event::Ignored { reason: Ignored::Bad(fault) });
                return;
            }
            _ => self.stats.bad_frames += 1,
        }
        let is_answer = matches!(error.kind, Some(FrameKind::Result | FrameKind::Error));
        if is_answer && let Some(key) = error.id.as_ref().and_then(|id| self.end_outstanding(id.as_json())) {
            // C06: waiting for the deadline would only hold up the queue.
            self.stats.answers_malformed += 1;
            self.events
                .push_back(Event::Ended { key, outcome: Outcome::MalformedAnswer { frame: text, fault } });
        } else if let Some(answer) =
            error.answer(self.version).and_then(|answer| ByteString::try_from(answer).ok())
        {
            self.report(Event::Refused { fault });
            self.transmit_error(answer);
        } else {
            self.report(Event::Ignored { reason: Ignored::Bad(fault) });
        }
        // F15: a payload of the wrong JSON type is about the content, not about the frame.
        if fault != Fault::PayloadNotObject {
            self.count_bad_frame(now);
        }
    }

    fn count_bad_frame(&mut self, now: Instant) {
        self.forget_bad_frames(now);
        self.bad_frames.push(now);
        if self.bad_frames.len() > self.config.bad_frames_max {
            self.bad_frames = Vec::new();
            self.end();
            self.events
                .push_back(Event::Close { code: close::PROTOCOL_ERROR, reason: "too many bad frames" });
        }
    }

    fn forget_bad_frames(&mut self, now: Instant) {
        let window = self.config.bad_frames_window;
        self.bad_frames.retain(|time| now.saturating_duration_since(*time) < window);
        if self.bad_frames.is_empty() {
            self.bad_frames = Vec::new();
        }
    }

    fn transmit_error(&mut self, text: ByteString) {
        if self.transmits.len() < self.config.transmits_max {
            self.transmits.push(Transmit { text, kind: TransmitKind::Error });
        } else {
            self.stats.overflowed += 1;
        }
    }

    fn unmatched(&mut self) {
        self.stats.answers_unmatched += 1;
        self.report(Event::Ignored { reason: Ignored::Unmatched });
    }

    fn overflow(&mut self) {
        self.stats.overflowed += 1;
        self.report(Event::Ignored { reason: Ignored::Overflow });
    }

    /// Tells what may be lost when nobody polls. The ends of our calls are never lost: their number is bounded.
    fn report(&mut self, event: Event) {
        if self.events.len() < self.config.events_max {
            self.events.push_back(event);
        } else {
            self.stats.events_lost += 1;
        }
    }

    fn end_outstanding(&mut self, id: &str) -> Option<u64> {
        let outbound = self.outbound.as_mut()?;
        let key = outbound.end_outstanding(|outstanding| same_id(outstanding.id.as_json(), id));
        self.drop_empty_outbound();
        key
    }

    fn drop_empty_outbound(&mut self) {
        if self.outbound.as_ref().is_some_and(|outbound| outbound.is_empty()) {
            self.outbound = None;
        }
    }

    /// L04: every call of ours ends at once.
    fn end(&mut self) {
        self.closed = true;
        self.inbound.clear();
        if let Some(mut outbound) = self.outbound.take() {
            if let Some(key) = outbound.end_outstanding(|_| true) {
                self.events.push_back(Event::Ended { key, outcome: Outcome::Unknown });
            }
            while let Some(key) = outbound.drain() {
                self.events.push_back(Event::Ended { key, outcome: Outcome::NotSent });
            }
        }
    }
}

/// A point in time that can be reckoned with, whatever duration somebody configured: `Instant` panics at its end.
fn later(now: Instant, duration: Duration) -> Instant {
    const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    now + duration.min(FOREVER)
}

#[cfg(test)]
mod tests;
