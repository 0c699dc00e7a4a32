//! The client without socket and clock.

use super::{
    backlog::{Backlog, BillError, Due, Receipt, Told},
    config::Config,
    event::Event,
    gate::{Deed, Gate, Registration, Verdict},
    payload,
    queue::{Open, Queue, QueueError},
};
use bytes::Bytes;
use bytestring::ByteString;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use switchboard_rpc::{
    Connection, ErrorCode, MessageId, Version, close,
    connection::{
        self, AnswerError, CallRefused, Called, Event as Line, Lane, Outcome, Outgoing, Role, Transmit,
        TransmitKind,
    },
    frame,
};

/// How many pings may stay without any sign of life.
const SILENT_PINGS_MAX: u32 = 3;
/// A station asks for the time at least this often, however much else it says (J16 section 5.3; 2.x part 4, 5.2).
const CLOCK_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// No wait that a central system may impose is longer.
const INTERVAL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Of a central system that asks to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// A charging station's end of the line, without socket and clock.
///
/// As in [`switchboard_rpc::Connection`], which it is built on, `handle_*` takes in what the network or the clock did,
/// commands take what the station wants, and `poll_*` gives out what the driver must do now.
///
/// **The contract**: after each `handle_*` or command call [`poll_transmit`](Self::poll_transmit) until it gives `None`,
/// then [`poll_event`](Self::poll_event), then [`poll_step`](Self::poll_step), and begin again if one of them gave
/// anything; then wait for input, for a command, or until [`poll_timeout`](Self::poll_timeout). While
/// [`wants_input`](Self::wants_input) is false, do not read.
///
/// # What it does by itself
/// - It connects, and again with the [back-off](super::BackOff) of the specification.
/// - It boots after its start and nothing else is said before the central system accepts it, but what that has asked for
///   while the station is pending. Intervals are respected; a triggered BootNotification is sent at once. On a later
///   connection it does not boot again (L07).
/// - It sends Heartbeats as often as it was told; in 2.x none while other calls are sent, but one a day.
/// - What is [billed](Self::bill) is kept until it is answered, and sent one by one in order.
/// - It answers triggers for BootNotification and Heartbeat, remote starts and stops before it is accepted, and everything
///   while it is rejected. All else is the application's.
#[derive(Debug)]
pub struct Client {
    config: Arc<Config>,
    limits: Arc<connection::Config>,
    random: fastrand::Rng,
    gate: Gate,
    backlog: Backlog,
    phase: Phase,
    /// How many connections were made.
    epoch: u64,
    /// Attempts to connect since the last connection.
    failures: u32,
    boot: Boot,
    heartbeat: Heartbeat,
    /// The billing message on its way.
    bill: Option<u64>,
    next_key: u64,
    events: VecDeque<Event>,
    finish: Option<Finish>,
}

#[derive(Debug)]
enum Phase {
    /// No connection until then.
    Waiting(Instant),
    Connecting,
    Online(Box<Online>),
    Stopped,
}

#[derive(Debug)]
struct Online {
    rpc: Connection,
    ping_at: Option<Instant>,
    silent_pings: u32,
    /// To be closed by us, with this.
    close: Option<(u16, &'static str)>,
    /// The driver was told to close.
    closing: bool,
}

#[derive(Debug)]
struct Boot {
    payload: ByteString,
    due: Option<Instant>,
    /// Whether the central system asked for it.
    triggered: bool,
    key: Option<u64>,
}

#[derive(Debug)]
struct Heartbeat {
    every: Duration,
    at: Option<Instant>,
    /// When the central system last told its time.
    clock: Instant,
    triggered: bool,
    key: Option<u64>,
}

/// What ends this connection, or this life of the station.
#[derive(Clone, Copy, Debug)]
struct Finish {
    deadline: Instant,
    /// To begin anew, after this wait.
    restart: Option<Duration>,
}

/// What the driver must do beside reading and writing texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Connect, and tell with [`Client::handle_connected`] or [`Client::handle_connect_failed`].
    Connect,
    /// Send a ping.
    Ping,
    /// Close the connection with this code and reason, and tell with [`Client::handle_disconnected`].
    Close(u16, &'static str),
}

/// Why a call was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCalled {
    /// There is no connection.
    #[error("the station is offline")]
    Offline,
    /// The central system has not accepted the station, and did not ask for this.
    #[error("the central system has not accepted the station yet (registration {0:?})")]
    NotAccepted(Registration),
    /// As many calls wait as may.
    #[error("too many calls wait")]
    Full,
    /// The payload is no JSON object.
    #[error("the payload is not a JSON object")]
    NotAnObject,
    /// The message is not one that goes unanswered, or the version has none.
    #[error("the message cannot be sent without an answer in this version")]
    NotUnanswered,
}

impl From<CallRefused> for NotCalled {
    fn from(refused: CallRefused) -> Self {
        match refused {
            CallRefused::Full => Self::Full,
            CallRefused::PayloadNotObject => Self::NotAnObject,
            CallRefused::NotUnanswered => Self::NotUnanswered,
            _ => Self::Offline,
        }
    }
}

impl Client {
    /// A station that was just switched on, with what an earlier life of it has left in the queue.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub fn new(
        config: impl Into<Arc<Config>>,
        queue: Box<dyn Queue>,
        now: Instant,
    ) -> Result<Self, QueueError> {
        let config = config.into();
        Ok(Self {
            limits: Arc::new(connection::Config::default()),
            random: config.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            gate: Gate::new(config.version),
            backlog: Backlog::load(config.clone(), queue)?,
            phase: Phase::Waiting(now),
            epoch: 0,
            failures: 0,
            boot: Boot { payload: config.boot.clone(), due: Some(now), triggered: false, key: None },
            heartbeat: Heartbeat {
                every: config.heartbeat_interval,
                at: None,
                clock: now,
                triggered: false,
                key: None,
            },
            bill: None,
            next_key: 0,
            events: VecDeque::new(),
            finish: None,
            config,
        })
    }

    // What the network and the clock did.

    /// A connection was made.
    pub fn handle_connected(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        let rpc = Connection::new(Role::Station, self.config.version, self.limits.clone(), now);
        let ping_at = (!self.config.ping_interval.is_zero()).then(|| now + self.config.ping_interval);
        self.phase =
            Phase::Online(Box::new(Online { rpc, ping_at, silent_pings: 0, close: None, closing: false }));
        self.failures = 0;
        self.tell(Event::Connected { earlier: self.epoch });
        self.epoch += 1;
        self.backlog.connected();
        self.heartbeat.at = Some(now + self.heartbeat.every);
    }

    /// No connection could be made; `retry_after` is what the central system asked for.
    pub fn handle_connect_failed(
        &mut self,
        error: impl Into<String>,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        let retry_in = self.back_off().max(asked);
        self.phase = Phase::Waiting(now + retry_in);
        self.tell(Event::NotConnected { error: error.into(), retry_in });
    }

    /// Takes a text message of the central system.
    pub fn handle_text(&mut self, text: ByteString, now: Instant) {
        if let Phase::Online(online) = &mut self.phase {
            online.silent_pings = 0;
            online.rpc.handle_text(text, now);
        }
    }

    /// Something else came, such as a pong.
    pub fn handle_alive(&mut self) {
        if let Phase::Online(online) = &mut self.phase {
            online.silent_pings = 0;
        }
    }

    /// The connection has ended, whoever ended it.
    pub fn handle_disconnected(&mut self, reason: impl Into<String>, now: Instant) {
        let Phase::Online(mut online) = std::mem::replace(&mut self.phase, Phase::Stopped) else { return };
        online.rpc.handle_close(now);
        while let Some(event) = online.rpc.poll_event() {
            if let Some(event) = self.translate(event, now) {
                self.tell(event);
            }
        }
        self.tell(Event::Disconnected { reason: reason.into() });
        match self.finish.take() {
            None => {
                let wait = self.back_off();
                self.phase = Phase::Waiting(now + wait);
            }
            Some(Finish { restart: Some(wait), .. }) => self.begin_anew(wait, now),
            Some(Finish { restart: None, .. }) => self.tell(Event::Stopped),
        }
    }

    /// Time has passed. Nothing happens before [`poll_timeout`](Self::poll_timeout); later is as good.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Phase::Online(online) = &mut self.phase {
            online.rpc.handle_timeout(now);
        }
    }

    // What the station wants.

    /// Calls the central system, and gives the key by which [`Event::Ended`] will tell the end, exactly once.
    ///
    /// # Errors
    /// When it cannot be sent now: such calls are not kept. What must not get lost is [billed](Self::bill).
    pub fn call(
        &mut self,
        action: impl Into<ByteString>,
        payload: impl Into<Bytes>,
        now: Instant,
    ) -> Result<u64, NotCalled> {
        let action = action.into();
        if !self.is_online() {
            return Err(NotCalled::Offline);
        }
        if !self.gate.allows(&action) {
            return Err(NotCalled::NotAccepted(self.gate.registration()));
        }
        self.submit(action, payload.into(), self.config.answer_timeout, now)
    }

    /// Tells the central system something that it does not answer (SEND, 2.1).
    ///
    /// # Errors
    /// When it cannot be sent now.
    pub fn send(&mut self, action: &str, payload: &[u8]) -> Result<(), NotCalled> {
        if !self.gate.allows(action) {
            return Err(NotCalled::NotAccepted(self.gate.registration()));
        }
        if self.config.version != Version::V21 {
            return Err(NotCalled::NotUnanswered);
        }
        let frame = frame::write_send(&fresh_id(), action, payload);
        Ok(self.rpc().ok_or(NotCalled::Offline)?.send_unanswered(frame)?)
    }

    /// Tells the central system that its answer to the call with this id makes no sense (CALLRESULTERROR, 2.1). In other
    /// versions nothing is sent.
    ///
    /// # Errors
    /// When it cannot be sent now.
    pub fn result_error(
        &mut self,
        id: &MessageId,
        code: ErrorCode,
        description: &str,
    ) -> Result<(), NotCalled> {
        if self.config.version != Version::V21 {
            return Ok(());
        }
        let frame = frame::write_result_error(id, code, description, b"{}");
        Ok(self.rpc().ok_or(NotCalled::Offline)?.send_unanswered(frame)?)
    }

    /// Takes back a call. True when it had not been written.
    pub fn cancel(&mut self, key: u64) -> bool {
        self.rpc().is_some_and(|rpc| rpc.cancel(key))
    }

    /// Answers the call in hand with a whole frame.
    ///
    /// # Errors
    /// As [`Connection::answer`].
    pub fn answer(&mut self, seq: u64, frame: Bytes, now: Instant) -> Result<(), AnswerError> {
        let Phase::Online(online) = &mut self.phase else { return Err(AnswerError::Closed) };
        let text = ByteString::try_from(frame.clone()).map_err(|_| AnswerError::NotAnAnswer)?;
        online.rpc.answer(seq, frame, now)?;
        self.gate.answered(seq, &text);
        Ok(())
    }

    /// Leaves the call in hand without an answer.
    pub fn leave_unanswered(&mut self, seq: u64, now: Instant) -> bool {
        self.rpc().is_some_and(|rpc| rpc.leave_unanswered(seq, now))
    }

    /// Takes a message that must not get lost: StartTransaction, MeterValues and StopTransaction in 1.6, TransactionEvent
    /// and MeterValues in 2.x. It is kept until it was answered, or refused too often, and sent when all earlier ones are
    /// dealt with.
    ///
    /// `transaction` is the station's own name for the transaction: in 2.x the `transactionId`, in 1.6 any text that was
    /// not used before; empty for readings outside of a transaction. The `transactionId` of 1.6 is put in by the client
    /// when it is known, whatever the payload says, as is `offline` in 2.x.
    ///
    /// # Errors
    /// When it is no such message, or the queue is full.
    pub fn bill(
        &mut self,
        transaction: &ByteString,
        action: impl Into<ByteString>,
        payload: &str,
    ) -> Result<Receipt, BillError> {
        let epoch = if self.is_online() { self.epoch } else { 0 };
        let receipt = self.backlog.add(transaction, action.into(), payload, epoch);
        self.tell_backlog();
        receipt
    }

    /// Another payload for the next BootNotification, as when a reset has a reason.
    pub fn set_boot(&mut self, payload: impl Into<ByteString>) {
        self.boot.payload = payload.into();
    }

    /// Sends Heartbeats as often as this from now on.
    pub fn set_heartbeat_interval(&mut self, interval: Duration, now: Instant) {
        if !interval.is_zero() && interval != self.heartbeat.every {
            self.heartbeat.every = interval.min(INTERVAL_MAX);
            self.heartbeat.at = Some(now + self.heartbeat.every);
        }
    }

    /// Ends: billing messages have [`Config::stop_grace`] to be answered, then the connection is closed.
    pub fn stop(&mut self, now: Instant) {
        self.finish(None, now);
    }

    /// Begins anew, as after a reset: billing messages have [`Config::stop_grace`] to be answered, then the connection is
    /// closed, and after `wait` the station connects and boots.
    pub fn restart(&mut self, wait: Duration, now: Instant) {
        self.finish(Some(wait), now);
    }

    fn finish(&mut self, restart: Option<Duration>, now: Instant) {
        match (&self.phase, restart) {
            (Phase::Stopped, _) => {}
            // Whoever is already going to end does not begin anew.
            (Phase::Online(_), Some(_)) if self.finish.is_some_and(|finish| finish.restart.is_none()) => {}
            (Phase::Online(_), _) => {
                self.finish = Some(Finish { deadline: now + self.config.stop_grace, restart });
            }
            (_, Some(wait)) => self.begin_anew(wait, now),
            (_, None) => {
                self.phase = Phase::Stopped;
                self.tell(Event::Stopped);
            }
        }
    }

    fn begin_anew(&mut self, wait: Duration, now: Instant) {
        self.gate.set(Registration::Unknown);
        self.boot = Boot { due: Some(now), triggered: false, key: None, payload: self.boot.payload.clone() };
        self.failures = 0;
        self.phase = Phase::Waiting(now + wait);
    }

    // What the driver must do.

    /// The next text to be written. `now` is the time of the write.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        // First of all, since some of it is answered right here.
        self.absorb(now);
        self.submit_what_is_due(now);
        let transmit = self.rpc()?.poll_transmit(now)?;
        // 2.0.1 G02.FR.04: whatever is sent says as well that the station lives.
        if matches!(transmit.kind, TransmitKind::Call { .. }) && self.config.version != Version::V16 {
            let latest = self.heartbeat.clock + CLOCK_MAX;
            self.heartbeat.at = self.heartbeat.at.map(|at| at.max((now + self.heartbeat.every).min(latest)));
        }
        Some(transmit)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event> {
        self.absorb(now);
        self.events.pop_front()
    }

    /// What else is to be done now.
    pub fn poll_step(&mut self, now: Instant) -> Option<Step> {
        match &mut self.phase {
            Phase::Waiting(at) if *at <= now => {
                self.phase = Phase::Connecting;
                Some(Step::Connect)
            }
            Phase::Online(online) if !online.closing => {
                if let Some((code, reason)) = online.close {
                    online.closing = true;
                    return Some(Step::Close(code, reason));
                }
                if let Some(finish) = self.finish
                    && (finish.deadline <= now || (self.backlog.len() == 0 && online.rpc.is_idle()))
                {
                    online.closing = true;
                    let reason = if finish.restart.is_some() { "restarting" } else { "switched off" };
                    return Some(Step::Close(close::NORMAL, reason));
                }
                if online.ping_at.is_none_or(|at| at > now) {
                    return None;
                }
                if online.silent_pings >= SILENT_PINGS_MAX {
                    online.closing = true;
                    return Some(Step::Close(close::POLICY, "no sign of life"));
                }
                online.silent_pings += 1;
                online.ping_at = Some(now + self.config.ping_interval);
                Some(Step::Ping)
            }
            _ => None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let online = match &self.phase {
            Phase::Waiting(at) => return Some(*at),
            Phase::Connecting | Phase::Stopped => return None,
            Phase::Online(online) if online.closing => return None,
            Phase::Online(online) => online,
        };
        let accepted = self.gate.registration() == Registration::Accepted;
        [
            online.rpc.poll_timeout(),
            online.ping_at,
            self.boot.due.filter(|_| self.boot.key.is_none()),
            self.heartbeat.at.filter(|_| accepted && self.heartbeat.key.is_none()),
            self.backlog.not_before().filter(|_| accepted && self.bill.is_none()),
            self.finish.map(|finish| finish.deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether there is room for what the central system may send next. False: do not read.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        matches!(&self.phase, Phase::Online(online) if online.rpc.wants_input())
    }

    // What can be looked at.

    /// How it behaves.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn is_online(&self) -> bool {
        matches!(&self.phase, Phase::Online(online) if !online.closing)
    }

    /// Whether it has ended for good.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    /// How far the station is with the central system's consent.
    #[must_use]
    pub const fn registration(&self) -> Registration {
        self.gate.registration()
    }

    /// How many connections were made.
    #[must_use]
    pub const fn connections(&self) -> u64 {
        self.epoch
    }

    /// How often a Heartbeat is sent.
    #[must_use]
    pub const fn heartbeat_interval(&self) -> Duration {
        self.heartbeat.every
    }

    /// How many messages wait to be billed.
    #[must_use]
    pub fn unbilled(&self) -> usize {
        self.backlog.len()
    }

    /// Whether any message about this transaction waits to be billed (2.x `GetTransactionStatus`).
    #[must_use]
    pub fn holds(&self, transaction: &str) -> bool {
        self.backlog.holds(transaction)
    }

    /// Transactions that have begun and whose end was not answered yet. After a restart: what an earlier life of the
    /// station has left, which must be ended by whoever finds no car there.
    pub fn transactions(&self) -> impl Iterator<Item = &Open> {
        self.backlog.open()
    }

    // Inside.

    fn rpc(&mut self) -> Option<&mut Connection> {
        match &mut self.phase {
            Phase::Online(online) if !online.closing => Some(&mut online.rpc),
            _ => None,
        }
    }

    /// Takes what the connection has to tell. It is not much: of the central system's calls there is one at a time, and
    /// the ends of ours are bounded by their number.
    fn absorb(&mut self, now: Instant) {
        while let Phase::Online(online) = &mut self.phase
            && let Some(event) = online.rpc.poll_event()
        {
            // What the event brings besides is told after it.
            let place = self.events.len();
            if let Some(event) = self.translate(event, now) {
                self.events.insert(place, event);
            }
        }
    }

    fn back_off(&mut self) -> Duration {
        let wait = self.config.back_off.wait(self.failures, self.random.f64());
        self.failures = self.failures.saturating_add(1);
        wait
    }

    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    fn tell_backlog(&mut self) {
        for told in self.backlog.take_told() {
            self.tell(match told {
                Told::Thinned(readings) => Event::Thinned { readings },
                Told::NotKept(error) => Event::QueueFailed { error: chain(&error) },
            });
        }
    }

    fn submit(
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
    fn submit_what_is_due(&mut self, now: Instant) {
        if !self.is_online() {
            return;
        }
        if self.boot.key.is_none() && self.boot.due.is_some_and(|due| due <= now) {
            let payload = self.boot_payload();
            self.boot.key =
                self.submit("BootNotification".into(), payload.into_bytes(), INTERVAL_MAX, now).ok();
        }
        let accepted = self.gate.registration() == Registration::Accepted;
        let heartbeat = accepted && self.heartbeat.at.is_some_and(|at| at <= now);
        if self.heartbeat.key.is_none() && (heartbeat || self.heartbeat.triggered) {
            self.heartbeat.triggered = false;
            self.heartbeat.at = Some(now + self.heartbeat.every);
            self.heartbeat.key =
                self.submit("Heartbeat".into(), Bytes::from_static(b"{}"), INTERVAL_MAX, now).ok();
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

    fn boot_payload(&self) -> ByteString {
        let payload = &self.boot.payload;
        if self.boot.triggered && self.config.version != Version::V16 {
            // 2.0.1 F06.FR.06
            return payload::without(payload, "reason")
                .map_or_else(|| payload.clone(), |rest| payload::with(&rest, "reason", "\"Triggered\""));
        }
        payload.clone()
    }

    /// What the connection tells, in the client's terms; nothing where the client deals with it.
    fn translate(&mut self, event: Line, now: Instant) -> Option<Event> {
        match event {
            Line::Called(called) => self.called(called, now),
            Line::Ended { key, outcome } => self.ended(key, outcome, now),
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
                }
            }
        }
        None
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

    fn booted(&mut self, outcome: Outcome, now: Instant) -> Option<Event> {
        let retry = now + self.config.boot_retry_interval.min(INTERVAL_MAX);
        let (answer, frame) = match outcome {
            Outcome::Answered { payload, frame } => (payload, frame),
            // The connection went: at once on the next one.
            Outcome::NotSent | Outcome::Unknown => {
                self.boot.due = Some(now);
                return None;
            }
            outcome => {
                self.boot.due = Some(retry);
                return Some(Event::BootFailed { outcome });
            }
        };
        let read: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let registration = match read["status"].as_str() {
            Some("Accepted") => Registration::Accepted,
            Some("Pending") => Registration::Pending,
            Some("Rejected") => Registration::Rejected,
            _ => {
                self.refuse_answer(&frame, "/status: Accepted, Pending or Rejected");
                self.boot.due = Some(retry);
                return Some(Event::BootFailed { outcome: Outcome::Answered { frame, payload: answer } });
            }
        };
        let asked = read["interval"].as_f64().filter(|seconds| *seconds >= 1.0);
        let interval = asked.map(|seconds| {
            Duration::try_from_secs_f64(seconds).map_or(INTERVAL_MAX, |interval| interval.min(INTERVAL_MAX))
        });
        self.gate.set(registration);
        self.boot.triggered = false;
        self.heartbeat.clock = now;
        let interval = if registration == Registration::Accepted {
            self.boot.due = None;
            self.heartbeat.every = interval.unwrap_or(self.config.heartbeat_interval);
            self.heartbeat.at = Some(now + self.heartbeat.every);
            self.heartbeat.every
        } else {
            let interval = interval.unwrap_or(self.config.boot_retry_interval);
            self.boot.due = Some(now + interval);
            interval
        };
        Some(Event::Registered { registration, interval, answer })
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
    fn refuse_answer(&mut self, frame: &ByteString, description: &str) {
        if let Ok(frame) = frame::Frame::parse(frame, self.config.version)
            && let Err(error) =
                self.result_error(frame.id(), ErrorCode::OccurrenceConstraintViolation, description)
        {
            // It is only a courtesy: nothing follows from it.
            tracing::debug!(%error, "the central system is not told that its answer makes no sense");
        }
    }
}

/// A text that was never used before (C08).
fn fresh_id() -> MessageId {
    MessageId::new(&uuid::Uuid::new_v4().to_string())
}

/// An error and what is behind it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
