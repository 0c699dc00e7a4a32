//! The client without socket and clock.

mod commands;
mod end;
mod greeting;
mod line;

pub use commands::NotCalled;

use super::{
    backlog::{Backlog, Told},
    config::Config,
    event::Event,
    gate::{Gate, Registration},
    queue::{MemoryQueue, Open, Queue, QueueError},
};
use bytestring::ByteString;
use end::{Finish, HURRY};
use greeting::{Boot, Heartbeat};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use switchboard_rpc::{
    Connection, MessageId, close,
    connection::{self, Role, Transmit, TransmitKind},
};

/// How many pings may stay without any sign of life.
const SILENT_PINGS_MAX: u32 = 3;
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
    /// When the call was written that waits for its answer.
    written: Option<Instant>,
    ping_interval: Duration,
    /// For the next connection.
    password: Option<Vec<u8>>,
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
    /// To be dropped by us without a word, for this long.
    cut: Option<Duration>,
    /// The driver was told to close.
    closing: bool,
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
    /// Drop the connection without a word, and tell with [`Client::handle_disconnected`].
    Drop,
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
        let mut client = Self::in_memory(Arc::clone(&config), now);
        client.backlog = Backlog::load(config, queue)?;
        Ok(client)
    }

    /// The same without a queue: what is not billed when it ends is lost.
    #[must_use]
    pub fn in_memory(config: impl Into<Arc<Config>>, now: Instant) -> Self {
        let config = config.into();
        Self {
            limits: Arc::new(connection::Config {
                outgoing_calls_max: config.calls_max,
                ..connection::Config::default()
            }),
            random: config.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            gate: Gate::new(config.version),
            backlog: Backlog::new(config.clone(), Box::new(MemoryQueue)),
            phase: Phase::Waiting(now),
            epoch: 0,
            failures: 0,
            boot: Boot::due(config.boot.clone(), now),
            heartbeat: Heartbeat::new(config.heartbeat_interval, now),
            bill: None,
            next_key: 0,
            written: None,
            ping_interval: config.ping_interval,
            password: config.password.clone(),
            events: VecDeque::new(),
            finish: None,
            config,
        }
    }

    // What the network and the clock did.

    /// A connection was made.
    pub fn handle_connected(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        let rpc = Connection::new(Role::Station, self.config.version, self.limits.clone(), now);
        let ping_at = self.next_ping(now);
        self.phase = Phase::Online(Box::new(Online {
            rpc,
            ping_at,
            silent_pings: 0,
            close: None,
            cut: None,
            closing: false,
        }));
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
        let back_off = self.back_off();
        // Who is about to end has bills to send and waits no longer than it must.
        let wait = if self.finish.is_some() { back_off.min(HURRY) } else { back_off };
        let retry_in = wait.max(asked);
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
        self.written = None;
        self.tell(Event::Disconnected { reason: reason.into() });
        self.what_next(online.cut, now);
    }

    /// Time has passed. Nothing happens before [`poll_timeout`](Self::poll_timeout); later is as good.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Phase::Online(online) = &mut self.phase {
            online.rpc.handle_timeout(now);
        }
    }

    // What the driver must do.

    /// The next text to be written. `now` is the time of the write.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        // First of all, since some of it is answered right here.
        self.absorb(now);
        self.submit_what_is_due(now);
        let transmit = self.rpc()?.poll_transmit(now)?;
        if matches!(transmit.kind, TransmitKind::Call { .. }) {
            self.written = Some(now);
            self.heartbeat.said_something(self.config.version, now);
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
            Phase::Waiting(_) | Phase::Connecting if self.finish.is_some_and(|end| end.deadline <= now) => {
                self.stopped();
                None
            }
            Phase::Waiting(at) if *at <= now => {
                self.phase = Phase::Connecting;
                Some(Step::Connect)
            }
            Phase::Online(online) if !online.closing => {
                if online.cut.is_some() {
                    online.closing = true;
                    return Some(Step::Drop);
                }
                if let Some((code, reason)) = online.close {
                    online.closing = true;
                    return Some(Step::Close(code, reason));
                }
                if let Some(finish) = self.finish
                    && (finish.deadline <= now || (self.backlog.len() == 0 && online.rpc.is_idle()))
                {
                    online.closing = true;
                    return Some(Step::Close(close::NORMAL, finish.then.reason()));
                }
                if online.ping_at.is_none_or(|at| at > now) {
                    return None;
                }
                if online.silent_pings >= SILENT_PINGS_MAX {
                    online.closing = true;
                    return Some(Step::Close(close::POLICY, "no sign of life"));
                }
                online.silent_pings += 1;
                online.ping_at = Some(now + self.ping_interval);
                Some(Step::Ping)
            }
            _ => None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.finish.map(|finish| finish.deadline);
        let online = match &self.phase {
            Phase::Waiting(at) => return Some(deadline.map_or(*at, |deadline| deadline.min(*at))),
            Phase::Connecting => return deadline,
            Phase::Stopped => return None,
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
            deadline,
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
        matches!(&self.phase, Phase::Online(online) if !online.closing && online.cut.is_none())
    }

    /// Whether it is about to end, or to begin anew.
    #[must_use]
    pub const fn is_ending(&self) -> bool {
        self.finish.is_some()
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

    /// The password for the next connection.
    #[must_use]
    pub fn password(&self) -> Option<&[u8]> {
        self.password.as_deref()
    }

    /// Transactions that have begun and whose end was not answered yet. After a restart: what an earlier life of the
    /// station has left, which must be ended by whoever finds no car there.
    pub fn transactions(&self) -> impl Iterator<Item = &Open> {
        self.backlog.open()
    }

    // Inside.

    fn rpc(&mut self) -> Option<&mut Connection> {
        match &mut self.phase {
            Phase::Online(online) if !online.closing && online.cut.is_none() => Some(&mut online.rpc),
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

    fn next_ping(&self, now: Instant) -> Option<Instant> {
        (!self.ping_interval.is_zero()).then(|| now + self.ping_interval)
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
