//! What a charging station does, without I/O: time comes in, calls go out.
//!
//! After each `handle_*` the driver polls [`Charger::poll_call`] until it gives nothing, and looks at
//! [`Charger::poll_wish`] and [`Charger::poll_timeout`].

mod billing;
mod commands;
mod connector;
mod flow;
mod installed;
mod judge;
mod outgoing;
#[cfg(test)]
mod tests;
mod upkeep;
mod visits;

pub(crate) use commands::Reply;

use crate::{
    Books, BooksHandle, Config, Link, Pace, Quirk, Transaction,
    model::{configuration::Configuration, local_list::LocalList, profile::Profiles},
};
use billing::{Attempt, Cause, Entry, Kind, Queue, Reason};
use connector::{Connector, Status};
use serde_json::Value;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use switchboard_rpc::Version;
use upkeep::{Later, Outage};

/// How many ordinary messages wait at most. At the bound further ones are dropped: they are repeated anyway.
const ORDINARY_MAX: usize = 128;
/// The wait before the next BootNotification or Heartbeat where the central system leaves it to the station.
const OWN_INTERVAL: Duration = Duration::from_secs(30);

/// One instant by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For intervals.
    pub(crate) at: Instant,
    /// For timestamps, in milliseconds since 1970.
    pub(crate) unix_ms: i64,
}

/// A CALL to be sent.
#[derive(Debug)]
pub(crate) struct Call {
    /// By which its end is told.
    pub(crate) key: u64,
    /// What is asked for.
    pub(crate) action: &'static str,
    /// A JSON object.
    pub(crate) payload: Value,
}

/// How a CALL ended.
#[derive(Debug)]
pub(crate) enum End {
    /// With this payload.
    Answered(Value),
    /// With a CALLERROR.
    Refused,
    /// With an answer that nobody understands, or with none in time.
    Failed,
    /// The connection went.
    Lost,
}

/// What the driver must do beside sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Close the connection and make a new one, after this wait.
    Restart(Duration),
    /// Drop the connection without a word and make a new one, after this wait.
    Silence(Duration),
    /// Close the connection and end.
    End,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq)]
enum Purpose {
    Boot,
    Heartbeat,
    Status { connector: u32, status: Status, unix_ms: i64 },
    Authorize { connector: u32, token: String },
    Idle { connector: u32, cause: Cause },
    Notice { action: &'static str, payload: Box<Value> },
    Billing,
}

/// How far the station is with the central system's consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registration {
    Unknown,
    Accepted,
    Pending,
    Rejected,
}

/// What ends the present life of the station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Finish {
    restart: bool,
    deadline: Instant,
}

/// The one call that is open.
#[derive(Debug)]
struct Open {
    key: u64,
    purpose: Purpose,
    since: Instant,
}

/// A charging station.
#[derive(Debug)]
pub(crate) struct Charger {
    config: Config,
    books: BooksHandle,
    random: fastrand::Rng,
    pace: Pace,
    settings: Configuration,
    profiles: Profiles,
    list: LocalList,
    registration: Registration,
    connected: bool,
    powered: bool,
    /// Why the next BootNotification is due; none once it was accepted.
    boot: Option<&'static str>,
    boot_at: Option<Instant>,
    heartbeat_at: Option<Instant>,
    heartbeat_every: Duration,
    connectors: Vec<Connector>,
    ordinary: VecDeque<Purpose>,
    billing: Queue,
    in_flight: Option<Open>,
    next_key: u64,
    next_transaction: u64,
    finish: Option<Finish>,
    silence: Option<Duration>,
    outages: Vec<Outage>,
    later: Vec<(Instant, Later)>,
    /// What is told once it has booted.
    after_boot: Vec<(&'static str, Value)>,
    /// A reset that waits for the last car (2.x OnIdle).
    reset_when_idle: bool,
    /// Whether the central system said how often meters are read.
    reads_as_told: bool,
    /// When the clock is at the next multiple of its interval.
    clock_at: Option<Instant>,
    /// Up to when energy has been counted, in seconds of the own time.
    ticked: f64,
}

impl Charger {
    /// A station that was just switched on.
    pub(crate) fn new(config: Config, books: BooksHandle, now: Moment) -> Self {
        let mut random = fastrand::Rng::with_seed(config.seed);
        let power_w = config.power_w.unwrap_or(22_000.0);
        let connectors = (1..=config.connectors.max(1))
            .map(|id| Connector::new(id, f64::from(random.u32(1_000..2_000_000)), power_w))
            .collect();
        let pace = config.pace.unwrap_or_else(|| Pace::new(config.speed, now.at));
        let mut charger = Self {
            settings: Configuration::new(&config),
            profiles: Profiles::default(),
            list: LocalList::default(),
            books,
            random,
            ticked: pace.seconds(now.at),
            pace,
            registration: Registration::Unknown,
            connected: false,
            powered: true,
            boot: Some("PowerUp"),
            boot_at: None,
            heartbeat_at: None,
            heartbeat_every: OWN_INTERVAL,
            connectors,
            ordinary: VecDeque::new(),
            billing: Queue::default(),
            in_flight: None,
            next_key: 0,
            next_transaction: 0,
            finish: None,
            silence: None,
            outages: Vec::new(),
            later: Vec::new(),
            after_boot: Vec::new(),
            reset_when_idle: false,
            reads_as_told: false,
            clock_at: None,
            config,
        };
        for id in 1..=charger.config.connectors.max(1) {
            charger.await_car(id, charger.config.scenario.is_none(), now);
        }
        charger.plan_outages(now);
        charger
    }

    /// The password for the next connection.
    pub(crate) fn password(&self) -> Option<Vec<u8>> {
        self.settings.password().or_else(|| self.config.password.clone())
    }

    /// How often the central system is pinged; none: never.
    pub(crate) fn ping_interval(&self) -> Option<Duration> {
        self.settings.seconds("WebSocketPingInterval")
    }

    /// A connection was made.
    pub(crate) fn handle_connected(&mut self, now: Moment) {
        self.connected = true;
        self.powered = true;
        self.billing.connected();
        if self.boot.is_none() && self.quirk(Quirk::BootAlways) {
            self.boot = Some("Unknown");
            self.registration = Registration::Unknown;
        }
        if self.boot.is_some() {
            self.boot_at = Some(now.at);
        } else {
            // L07: a station that reconnects keeps its registration, and tells how its connectors are.
            self.report_all(now);
            self.heartbeat_at = Some(now.at + self.heartbeat_every);
        }
        let accepted = self.registration == Registration::Accepted;
        self.config.statistics.connected();
        let mut books = self.books.lock();
        books.connections += 1;
        books.link = if accepted { Link::Accepted } else { Link::Connected };
    }

    /// The connection has ended. Every open call was told to have ended before.
    pub(crate) fn handle_disconnected(&mut self, now: Moment) {
        if self.connected {
            self.config.statistics.disconnected();
        }
        self.connected = false;
        self.silence = None;
        self.ordinary.clear();
        self.books.lock().link = Link::Offline;
        let restarts = self.finish.is_some_and(|finish| finish.restart);
        if restarts {
            self.finish = None;
        }
        if (restarts || !self.powered) && self.boot.is_some() {
            self.registration = Registration::Unknown;
        }
        // Who waited for consent is judged by what the station knows itself.
        for id in self.asking() {
            self.decide_offline(id, now);
        }
    }

    /// A call has ended.
    pub(crate) fn handle_ended(&mut self, key: u64, end: End, now: Moment) {
        let Some(open) = self.in_flight.take_if(|open| open.key == key) else { return };
        let after = now.at.saturating_duration_since(open.since);
        match &end {
            End::Answered(_) => self.config.statistics.answered(after),
            End::Refused => {
                self.config.statistics.refused(after);
                self.books.lock().refused += 1;
            }
            End::Failed => {
                self.config.statistics.unanswered();
                self.books.lock().unanswered += 1;
            }
            End::Lost => self.config.statistics.lost(),
        }
        match open.purpose {
            Purpose::Boot => self.booted(end, now),
            Purpose::Heartbeat | Purpose::Status { .. } | Purpose::Idle { .. } | Purpose::Notice { .. } => {}
            Purpose::Authorize { connector, .. } => self.authorized(connector, &end, now),
            Purpose::Billing => self.billed(end, now),
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Moment) {
        self.flow(now);
        for index in 0..self.connectors.len() {
            let id = self.connectors[index].id;
            self.visit(id, now);
        }
        self.judge_flow(now);
        if self.connected && self.heartbeat_at.is_some_and(|at| at <= now.at) {
            self.heartbeat_at = Some(now.at + self.heartbeat_every);
            if self.registration == Registration::Accepted {
                self.push(Purpose::Heartbeat);
            }
        }
        self.upkeep(now);
        if self.reset_when_idle && self.connectors.iter().all(|connector| connector.session.is_none()) {
            self.reset_when_idle = false;
            self.restart("ScheduledReset", now);
        }
    }

    /// The station is switched off: it ends what goes on, tells it, and wishes to end.
    pub(crate) fn handle_shutdown(&mut self, now: Moment) {
        self.end_all(Reason::PowerLoss, now);
        self.finish = Some(Finish { restart: false, deadline: now.at + self.config.finish });
    }

    /// The next CALL, if there is one and none is open.
    pub(crate) fn poll_call(&mut self, now: Moment) -> Option<Call> {
        // A line that has failed carries nothing, also in the moment before it is dropped.
        if !self.connected || self.silence.is_some() || self.in_flight.is_some() {
            return None;
        }
        let purpose = self.next_purpose(now)?;
        let (action, mut payload) = self.render(&purpose, now)?;
        for quirk in &self.config.quirks {
            quirk.spoil(self.config.version, action, &mut payload);
        }
        self.next_key += 1;
        self.in_flight = Some(Open { key: self.next_key, purpose, since: now.at });
        self.config.statistics.called();
        Some(Call { key: self.next_key, action, payload })
    }

    /// What else is to be done.
    pub(crate) fn poll_wish(&mut self, now: Moment) -> Option<Wish> {
        if let Some(wait) = self.silence {
            return Some(Wish::Silence(wait));
        }
        let finish = self.finish?;
        let told = self.in_flight.is_none() && self.billing.len() == 0;
        if !told && now.at < finish.deadline {
            return None;
        }
        Some(if finish.restart { Wish::Restart(Duration::from_millis(200)) } else { Wish::End })
    }

    /// When [`Self::handle_timeout`] has something to do, or something may be sent or wished.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let online = [self.boot_at, self.heartbeat_at, self.billing.not_before()];
        self.connectors
            .iter()
            .map(Connector::next)
            .chain(online.into_iter().filter(|_| self.connected))
            .chain([self.finish.map(|finish| finish.deadline), self.clock_at])
            .chain(self.outages.iter().map(|outage| Some(outage.at)))
            .chain(self.later.iter().map(|(at, _)| Some(*at)))
            .flatten()
            .min()
    }

    fn next_purpose(&mut self, now: Moment) -> Option<Purpose> {
        if self.boot_at.is_some_and(|at| at <= now.at) {
            self.boot_at = None;
            return Some(Purpose::Boot);
        }
        if self.registration != Registration::Accepted {
            // Until it is accepted a station says only what it was asked to say.
            return self.ordinary.pop_front();
        }
        if let Some(purpose) = self.ordinary.pop_front() {
            return Some(purpose);
        }
        self.billing.first(now.at).map(|_| Purpose::Billing)
    }

    fn push(&mut self, purpose: Purpose) {
        if self.connected && self.ordinary.len() < ORDINARY_MAX {
            self.ordinary.push_back(purpose);
        }
    }

    fn notice(&mut self, action: &'static str, payload: Value) {
        self.push(Purpose::Notice { action, payload: Box::new(payload) });
    }

    fn quirk(&self, quirk: Quirk) -> bool {
        self.config.quirks.contains(&quirk)
    }

    fn booted(&mut self, end: End, now: Moment) {
        let End::Answered(answer) = end else {
            if self.connected {
                self.boot_at = Some(now.at + OWN_INTERVAL);
            }
            return;
        };
        let seconds = answer["interval"].as_u64().filter(|seconds| *seconds > 0);
        let interval = seconds.map_or(OWN_INTERVAL, |seconds| Duration::from_secs(seconds.min(86_400)));
        self.books.lock().boots += 1;
        match answer["status"].as_str() {
            Some("Accepted") => {
                self.registration = Registration::Accepted;
                self.boot = None;
                self.heartbeat_every = interval;
                self.settings.put("HeartbeatInterval", &interval.as_secs().to_string());
                self.heartbeat_at = Some(now.at + interval);
                self.books.lock().link = Link::Accepted;
                self.config.statistics.booted();
                self.report_all(now);
                for (action, payload) in std::mem::take(&mut self.after_boot) {
                    self.notice(action, payload);
                }
                if self.quirk(Quirk::OldReadings) {
                    self.tell_old_reading();
                }
            }
            status => {
                self.registration =
                    if status == Some("Pending") { Registration::Pending } else { Registration::Rejected };
                self.books.lock().link = Link::Connected;
                self.boot_at = Some(now.at + interval);
            }
        }
    }

    fn report_all(&mut self, now: Moment) {
        let version = self.config.version;
        for connector in &mut self.connectors {
            connector.status = connector.now(version);
        }
        let mut reports: Vec<(u32, Status)> =
            self.connectors.iter().map(|one| (one.id, one.status)).collect();
        if version == Version::V16 {
            // Connector 0 is the station as a whole; 2.x has no such report.
            reports.insert(0, (0, Status::Available));
        }
        for (connector, status) in reports {
            self.push(Purpose::Status { connector, status, unix_ms: now.unix_ms });
        }
    }

    /// Tells how a connector is, if that is something else than what was told last.
    fn refresh(&mut self, id: u32, now: Moment) {
        let version = self.config.version;
        let Some(connector) = self.connector(id) else { return };
        let (before, status) = (connector.status, connector.now(version));
        if before == status {
            return;
        }
        connector.status = status;
        let flows = |status| matches!(status, Status::Charging | Status::SuspendedEv | Status::SuspendedEvse);
        if version == Version::V16 || before.v2() != status.v2() {
            if self.registration == Registration::Accepted {
                self.push(Purpose::Status { connector: id, status, unix_ms: now.unix_ms });
            }
        } else if flows(before) && flows(status) {
            self.bill_of(id, Kind::State { state: status.charging_state() }, now);
        }
    }

    fn connector(&mut self, id: u32) -> Option<&mut Connector> {
        self.connectors.iter_mut().find(|connector| connector.id == id)
    }

    fn end_all(&mut self, reason: Reason, now: Moment) {
        for id in 1..=self.config.connectors.max(1) {
            self.end(id, reason, now);
            let Some(connector) = self.connector(id) else { continue };
            connector.guest = None;
            if connector.next_car.is_none() && connector.broken.is_none() {
                self.await_car(id, false, now);
            }
            self.refresh(id, now);
        }
    }

    fn restart(&mut self, why: &'static str, now: Moment) {
        if !self.quirk(Quirk::NoBoot) {
            self.boot = Some(why);
        }
        self.finish = Some(Finish { restart: true, deadline: now.at + self.config.finish });
    }

    fn bill(&mut self, entry: Entry) {
        self.billing.push(entry);
        self.books.lock().unsent = self.billing.len();
    }

    /// Bills something about the transaction that goes on at a connector.
    fn bill_of(&mut self, id: u32, kind: Kind, now: Moment) {
        let offline = !self.connected;
        let Some(connector) = self.connector(id) else { return };
        let meter_wh = connector.meter_wh();
        let Some(session) = &mut connector.session else { return };
        let entry = Entry {
            transaction: session.transaction,
            kind,
            meter_wh,
            unix_ms: now.unix_ms,
            seq_no: session.next_seq_no,
            offline,
            repeated: false,
        };
        session.next_seq_no += 1;
        self.bill(entry);
    }

    /// The first billing message was answered or not.
    fn billed(&mut self, end: End, now: Moment) {
        let attempt = match &end {
            End::Answered(_) => Attempt::Answered,
            End::Refused | End::Failed => Attempt::Failed,
            End::Lost => Attempt::Lost,
        };
        let attempts = self.settings.text("TransactionMessageAttempts").parse().unwrap_or(1).max(1);
        let interval = self.settings.seconds("TransactionMessageRetryInterval").unwrap_or_default();
        let Some((entry, given_up)) = self.billing.attempted(attempt, attempts, interval, now.at) else {
            return;
        };
        if given_up {
            self.config.statistics.gave_up();
        }
        if self.quirk(Quirk::RepeatedStop) && matches!(entry.kind, Kind::Stop { .. }) && !entry.repeated {
            self.billing.push(Entry { repeated: true, ..entry.clone() });
        }
        let answer = if let End::Answered(answer) = end { answer } else { Value::Null };
        {
            let mut books = self.books.lock();
            books.unsent = self.billing.len();
            books.given_up += u64::from(given_up);
            let last = !self.billing.holds(entry.transaction);
            if let Some(transaction) = books.transactions.get_mut(&entry.transaction) {
                if self.config.version == Version::V16
                    && matches!(entry.kind, Kind::Start { .. })
                    && let Some(id) = answer["transactionId"].as_i64()
                {
                    transaction.id = Some(id.to_string());
                }
                transaction.settled = transaction.ended && last;
            }
            books.forget();
        }
        let info = if self.config.version == Version::V16 { "idTagInfo" } else { "idTokenInfo" };
        let status = answer[info]["status"].as_str();
        if matches!(entry.kind, Kind::Start { .. }) && status.is_some_and(|status| status != "Accepted") {
            let charging = |one: &&Connector| one.transaction() == Some(entry.transaction);
            let here = self.connectors.iter().find(charging).map(|one| one.id);
            if let Some(id) = here.filter(|_| self.settings.is_on("StopTransactionOnInvalidId")) {
                self.end(id, Reason::DeAuthorized, now);
            }
        }
    }

    fn book<T>(&self, number: u64, look: impl FnOnce(&Transaction) -> T) -> Option<T> {
        let books: &Books = &self.books.lock();
        books.transactions.get(&number).map(look)
    }

    /// A duration of the own time, varied by half either way, as the clock has it.
    fn varied(&mut self, duration: Duration) -> Duration {
        self.pace.real(duration.mul_f64(0.5 + self.random.f64()))
    }
}

/// A number without its fraction; meters and powers are small and positive.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and never is negative"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
