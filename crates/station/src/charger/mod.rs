//! What a charging station does, without I/O: time comes in, calls go out.
//!
//! After each `handle_*` the driver polls [`Charger::poll_call`] until it gives nothing, and looks at
//! [`Charger::poll_wish`] and [`Charger::poll_timeout`].

mod billing;
mod commands;
mod connector;
mod judge;
mod keys;
mod outgoing;
#[cfg(test)]
mod tests;

pub(crate) use commands::Reply;

use crate::{Books, BooksHandle, Config, Link, Transaction};
use billing::{Attempt, Entry, Kind, Queue, Reason};
use connector::{Connector, Session, Status};
use keys::Keys;
use serde_json::Value;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use switchboard_rpc::Version;

/// How many ordinary messages wait at most. At the bound further ones are dropped: they are repeated anyway.
const ORDINARY_MAX: usize = 64;
/// How long a reset or a switching off waits for bills to be sent.
const FINISH_MAX: Duration = Duration::from_secs(3);
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
    /// With a CALLERROR, an answer nobody understands, or none in time.
    Failed,
    /// The connection went.
    Lost,
}

/// What the driver must do beside sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Close the connection and make a new one, after this wait.
    Restart(Duration),
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
    Idle { connector: u32 },
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

/// A charging station.
#[derive(Debug)]
pub(crate) struct Charger {
    config: Config,
    books: BooksHandle,
    random: fastrand::Rng,
    keys: Keys,
    registration: Registration,
    connected: bool,
    /// Why the next BootNotification is due; none once it was accepted.
    boot: Option<&'static str>,
    boot_at: Option<Instant>,
    heartbeat_at: Option<Instant>,
    heartbeat_every: Duration,
    connectors: Vec<Connector>,
    ordinary: VecDeque<Purpose>,
    billing: Queue,
    in_flight: Option<(u64, Purpose)>,
    next_key: u64,
    next_transaction: u64,
    finish: Option<Finish>,
    /// A reset that waits for the last car (2.0.1 OnIdle).
    reset_when_idle: bool,
    ticked: Instant,
}

impl Charger {
    /// A station that was just switched on.
    pub(crate) fn new(config: Config, books: BooksHandle, now: Moment) -> Self {
        let mut random = fastrand::Rng::with_seed(config.seed);
        let connectors = (1..=config.connectors.max(1))
            .map(|id| {
                let mut connector = Connector::new(id, f64::from(random.u32(1_000..2_000_000)));
                if id <= config.visited {
                    // The first car comes soon: nobody waits ten minutes for a demonstration to begin.
                    connector.next_car = Some(now.at + shorter(config.pause, &config, &mut random) / 4);
                }
                connector
            })
            .collect();
        Self {
            keys: Keys::new(&config),
            books,
            random,
            registration: Registration::Unknown,
            connected: false,
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
            reset_when_idle: false,
            ticked: now.at,
            config,
        }
    }

    /// The password for the next connection.
    pub(crate) fn password(&self) -> Option<Vec<u8>> {
        self.keys.password().or_else(|| self.config.password.clone())
    }

    /// A connection was made.
    pub(crate) fn handle_connected(&mut self, now: Moment) {
        self.connected = true;
        self.billing.connected();
        if self.boot.is_some() {
            self.boot_at = Some(now.at);
        } else {
            // L07: a station that reconnects keeps its registration, and tells how its connectors are.
            self.report_all(now);
            self.heartbeat_at = Some(now.at + self.heartbeat_every);
        }
        let accepted = self.registration == Registration::Accepted;
        let mut books = self.books.lock();
        books.connections += 1;
        books.link = if accepted { Link::Accepted } else { Link::Connected };
    }

    /// The connection has ended. Every open call was told to have ended before.
    pub(crate) fn handle_disconnected(&mut self, now: Moment) {
        self.connected = false;
        self.ordinary.clear();
        self.books.lock().link = Link::Offline;
        if self.finish.is_some_and(|finish| finish.restart) {
            self.finish = None;
            self.registration = Registration::Unknown;
            for connector in &mut self.connectors {
                connector.status = Status::Available;
            }
        }
        // Who waited for consent begins without: that is how stations behave offline.
        for id in self.connectors.iter().filter(|one| one.authorizing).map(|one| one.id).collect::<Vec<_>>() {
            self.begin(id, None, now);
        }
    }

    /// A call has ended.
    pub(crate) fn handle_ended(&mut self, key: u64, end: End, now: Moment) {
        let Some((_, purpose)) = self.in_flight.take_if(|(open, _)| *open == key) else { return };
        match purpose {
            Purpose::Boot => self.booted(end, now),
            Purpose::Heartbeat | Purpose::Status { .. } | Purpose::Idle { .. } => {}
            Purpose::Authorize { connector, .. } => self.authorized(connector, &end, now),
            Purpose::Billing => self.billed(end, now),
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Moment) {
        self.charge(now);
        for index in 0..self.connectors.len() {
            let id = self.connectors[index].id;
            if self.connectors[index].session.as_ref().is_some_and(|session| session.until <= now.at) {
                self.end(id, Reason::Local, now);
            }
            if self.connectors[index].next_reading().is_some_and(|at| at <= now.at) {
                self.read_meter(id, false, now);
            }
            if self.connectors[index].next_car.is_some_and(|at| at <= now.at) {
                self.connectors[index].next_car = None;
                self.car_comes(id, now);
            }
        }
        if self.connected && self.heartbeat_at.is_some_and(|at| at <= now.at) {
            self.heartbeat_at = Some(now.at + self.heartbeat_every);
            if self.registration == Registration::Accepted {
                self.push(Purpose::Heartbeat);
            }
        }
        if self.reset_when_idle && self.connectors.iter().all(|connector| connector.session.is_none()) {
            self.reset_when_idle = false;
            self.restart("ScheduledReset", now);
        }
    }

    /// The station is switched off: it ends what goes on, tells it, and wishes to end.
    pub(crate) fn handle_shutdown(&mut self, now: Moment) {
        self.end_all(Reason::PowerLoss, now);
        self.finish = Some(Finish { restart: false, deadline: now.at + FINISH_MAX });
    }

    /// The next CALL, if there is one and none is open.
    pub(crate) fn poll_call(&mut self, now: Moment) -> Option<Call> {
        if !self.connected || self.in_flight.is_some() {
            return None;
        }
        let purpose = self.next_purpose(now)?;
        let (action, payload) = self.render(&purpose, now)?;
        self.next_key += 1;
        self.in_flight = Some((self.next_key, purpose));
        Some(Call { key: self.next_key, action, payload })
    }

    /// What else is to be done.
    pub(crate) fn poll_wish(&mut self, now: Moment) -> Option<Wish> {
        let finish = self.finish?;
        let told = self.in_flight.is_none() && self.billing.len() == 0;
        if !told && self.connected && now.at < finish.deadline {
            return None;
        }
        Some(if finish.restart { Wish::Restart(Duration::from_millis(200)) } else { Wish::End })
    }

    /// When [`Self::handle_timeout`] has something to do, or something may be sent or wished.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let connectors = self.connectors.iter().flat_map(|connector| {
            [
                connector.next_car,
                connector.session.as_ref().map(|session| session.until),
                connector.next_reading(),
            ]
        });
        let online = [self.boot_at, self.heartbeat_at, self.billing.not_before()];
        connectors
            .chain(online.into_iter().filter(|_| self.connected))
            .chain([self.finish.map(|finish| finish.deadline)])
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
                self.keys.set_heartbeat(interval);
                self.heartbeat_at = Some(now.at + interval);
                self.books.lock().link = Link::Accepted;
                self.report_all(now);
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
        let mut reports: Vec<(u32, Status)> =
            self.connectors.iter().map(|one| (one.id, one.status)).collect();
        if self.config.version == Version::V16 {
            // Connector 0 is the station as a whole; 2.0.1 has no such report.
            reports.insert(0, (0, Status::Available));
        }
        for (connector, status) in reports {
            self.push(Purpose::Status { connector, status, unix_ms: now.unix_ms });
        }
    }

    fn set_status(&mut self, id: u32, status: Status, now: Moment) {
        let Some(connector) = self.connector(id) else { return };
        if connector.status != status {
            connector.status = status;
            if self.registration == Registration::Accepted {
                self.push(Purpose::Status { connector: id, status, unix_ms: now.unix_ms });
            }
        }
    }

    fn connector(&mut self, id: u32) -> Option<&mut Connector> {
        self.connectors.iter_mut().find(|connector| connector.id == id)
    }

    /// A driver plugs in and shows a tag.
    fn car_comes(&mut self, id: u32, now: Moment) {
        let Some(connector) = self.connector(id) else { return };
        if connector.status != Status::Available || self.finish.is_some() {
            return;
        }
        let index = self.random.usize(..self.config.tokens.len().max(1));
        let token = self.config.tokens.get(index).cloned().unwrap_or_else(|| "DRIVER".to_owned());
        let asks = self.connected && self.registration == Registration::Accepted;
        if let Some(connector) = self.connector(id) {
            connector.token.clone_from(&token);
            connector.token_type = "ISO14443".to_owned();
            connector.authorizing = asks;
        }
        self.set_status(id, Status::Preparing, now);
        if asks {
            self.push(Purpose::Authorize { connector: id, token });
        } else {
            self.begin(id, None, now);
        }
    }

    fn authorized(&mut self, id: u32, end: &End, now: Moment) {
        let info = if self.config.version == Version::V16 { "idTagInfo" } else { "idTokenInfo" };
        let Some(connector) = self.connector(id) else { return };
        if !connector.authorizing {
            return;
        }
        match end {
            End::Answered(answer) if answer[info]["status"] == "Accepted" => self.begin(id, None, now),
            // Nobody said no: as offline.
            End::Lost => self.begin(id, None, now),
            End::Answered(_) | End::Failed => self.leave(id, now),
        }
    }

    /// The car goes; the next one will come.
    fn leave(&mut self, id: u32, now: Moment) {
        let next = (id <= self.config.visited)
            .then(|| now.at + shorter(self.config.pause, &self.config, &mut self.random));
        if let Some(connector) = self.connector(id) {
            connector.authorizing = false;
            connector.next_car = next;
        }
        self.set_status(id, Status::Available, now);
    }

    /// Charging begins. `remote`: a command began it, with its id in 2.0.1.
    fn begin(&mut self, id: u32, remote: Option<Option<i64>>, now: Moment) {
        self.charge(now);
        let length = shorter(self.config.session, &self.config, &mut self.random);
        let power_w = f64::from(self.random.u32(4_000..22_000));
        let every = scaled(self.config.meter_interval, &self.config);
        self.next_transaction += 1;
        let number = self.next_transaction;
        let own_id = (self.config.version != Version::V16).then(|| uuid::Uuid::new_v4().to_string());
        let Some(connector) = self.connector(id) else { return };
        connector.authorizing = false;
        connector.next_car = None;
        let meter_wh = connector.meter_wh();
        connector.session = Some(Session {
            transaction: number,
            power_w,
            until: now.at + length,
            read_every: every,
            next_reading: now.at + every,
            next_seq_no: 1,
        });
        let (token, token_type) = (connector.token.clone(), connector.token_type.clone());
        self.books.lock().transactions.insert(
            number,
            Transaction {
                id: own_id,
                connector: id,
                token,
                start_wh: meter_wh,
                meter_wh,
                ended: false,
                settled: false,
            },
        );
        self.bill(Entry {
            transaction: number,
            kind: Kind::Start { remote, token_type },
            meter_wh,
            unix_ms: now.unix_ms,
            seq_no: 0,
            offline: !self.connected,
        });
        self.set_status(id, Status::Charging, now);
    }

    /// Energy flows since the last time somebody looked.
    fn charge(&mut self, now: Moment) {
        let hours = now.at.saturating_duration_since(self.ticked).as_secs_f64() * self.config.speed / 3600.0;
        self.ticked = now.at;
        let mut books = self.books.lock();
        for connector in &mut self.connectors {
            let Some(session) = &connector.session else { continue };
            connector.register_wh += session.power_w * hours;
            let meter_wh = connector.meter_wh();
            if let Some(transaction) = books.transactions.get_mut(&session.transaction) {
                transaction.meter_wh = meter_wh;
            }
        }
    }

    fn read_meter(&mut self, id: u32, triggered: bool, now: Moment) {
        self.charge(now);
        let offline = !self.connected;
        let Some(connector) = self.connector(id) else { return };
        let meter_wh = connector.meter_wh();
        let Some(session) = &mut connector.session else { return };
        if !triggered {
            session.next_reading = now.at + session.read_every;
        }
        let entry = Entry {
            transaction: session.transaction,
            kind: Kind::Meter { power_w: whole(session.power_w), triggered },
            meter_wh,
            unix_ms: now.unix_ms,
            seq_no: session.next_seq_no,
            offline,
        };
        session.next_seq_no += 1;
        self.bill(entry);
    }

    /// Charging ends and the car goes.
    fn end(&mut self, id: u32, reason: Reason, now: Moment) {
        self.charge(now);
        let offline = !self.connected;
        let Some(connector) = self.connector(id) else { return };
        let meter_wh = connector.meter_wh();
        let Some(session) = connector.session.take() else { return };
        if let Some(transaction) = self.books.lock().transactions.get_mut(&session.transaction) {
            transaction.ended = true;
        }
        self.bill(Entry {
            transaction: session.transaction,
            kind: Kind::Stop { reason },
            meter_wh,
            unix_ms: now.unix_ms,
            seq_no: session.next_seq_no,
            offline,
        });
        self.set_status(id, Status::Finishing, now);
        self.leave(id, now);
    }

    fn end_all(&mut self, reason: Reason, now: Moment) {
        for id in 1..=self.config.connectors.max(1) {
            self.end(id, reason, now);
        }
    }

    fn restart(&mut self, why: &'static str, now: Moment) {
        self.boot = Some(why);
        self.finish = Some(Finish { restart: true, deadline: now.at + FINISH_MAX });
    }

    fn bill(&mut self, entry: Entry) {
        self.billing.push(entry);
        self.books.lock().unsent = self.billing.len();
    }

    /// The first billing message was answered or not.
    fn billed(&mut self, end: End, now: Moment) {
        let attempt = match &end {
            End::Answered(_) => Attempt::Answered,
            End::Failed => Attempt::Failed,
            End::Lost => Attempt::Lost,
        };
        let (attempts, interval) = (self.config.billing_attempts.max(1), self.config.billing_interval);
        let Some((entry, given_up)) = self.billing.attempted(attempt, attempts, interval, now.at) else {
            return;
        };
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
            if let Some(id) = self.connectors.iter().find(charging).map(|one| one.id) {
                self.end(id, Reason::DeAuthorized, now);
            }
        }
    }

    fn book<T>(&self, number: u64, look: impl FnOnce(&Transaction) -> T) -> Option<T> {
        let books: &Books = &self.books.lock();
        books.transactions.get(&number).map(look)
    }
}

/// A duration in the station's own, faster time.
fn scaled(duration: Duration, config: &Config) -> Duration {
    // At least a moment, so that no loop can spin.
    duration.div_f64(config.speed.clamp(0.001, 1_000_000.0)).max(Duration::from_millis(10))
}

/// A scaled duration, varied by half either way.
fn shorter(duration: Duration, config: &Config, random: &mut fastrand::Rng) -> Duration {
    scaled(duration.mul_f64(0.5 + random.f64()), config)
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
