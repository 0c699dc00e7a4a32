//! What a charging station does, without I/O, around a [`Client`], which is its end of the line.
//!
//! The driver polls the client, tells its events with [`Charger::handle_event`], and tells when it is time with
//! [`Charger::handle_timeout`]; after both, as after a command, it polls the client again.

mod billing;
mod commands;
mod connector;
mod flow;
mod installed;
mod judge;
mod outgoing;
mod stream;
#[cfg(test)]
mod tests;
mod upkeep;
mod visits;

use crate::{
    Books, BooksHandle, Config, Link, Pace, Quirk, Transaction,
    client::{self, Client, Ending, Event, Registration},
    model::{configuration::Configuration, local_list::LocalList, profile::Profiles},
    quirk::unasked,
};
use billing::{Cause, Entry, Kind, Reason};
use bytestring::ByteString;
use commands::Reply;
use connector::{Connector, Status};
use outgoing::boot_notification;
pub(crate) use outgoing::time;
use serde_json::Value;
use std::time::{Duration, Instant};
use stream::Stream;
use switchboard_rpc::{
    Version,
    frame::{write_error, write_result},
};
use upkeep::{Later, Outage};

/// How many calls wait at most. At the bound further ones are dropped: they are repeated anyway.
const CALLS_MAX: usize = 128;
/// How long they wait at most.
const CALL_WAIT_MAX: Duration = Duration::from_secs(600);
/// The wait before the next BootNotification or Heartbeat where the central system leaves it to the station.
const OWN_INTERVAL: Duration = Duration::from_secs(30);
/// How long a reset takes.
const RESET_TAKES: Duration = Duration::from_millis(200);

/// One instant by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For intervals.
    pub(crate) at: Instant,
    /// For timestamps, in milliseconds since 1970.
    pub(crate) unix_ms: i64,
}

/// What a call is about.
#[derive(Clone, Debug, PartialEq)]
enum Purpose {
    Status { connector: u32, status: Status, unix_ms: i64 },
    Authorize { connector: u32, token: String },
    Idle { connector: u32, cause: Cause },
    Notice { action: &'static str, payload: Box<Value> },
}

/// What a call asks for whose answer matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Consent { connector: u32 },
    Stream,
}

/// A transaction of which something is still to be told, or that goes on.
#[derive(Debug)]
struct Untold {
    /// In the books.
    number: u64,
    /// For the client.
    name: ByteString,
}

/// The end of a transaction that will be told twice.
#[derive(Debug)]
struct Repeat {
    bill: u64,
    transaction: u64,
    action: &'static str,
    payload: Value,
}

/// A charging station.
#[derive(Debug)]
pub(crate) struct Charger {
    config: Config,
    books: BooksHandle,
    random: fastrand::Rng,
    pace: Pace,
    /// The speed at which everything is planned.
    planned_at: f64,
    settings: Configuration,
    profiles: Profiles,
    list: LocalList,
    client: Client,
    powered: bool,
    connectors: Vec<Connector>,
    /// What is said as soon as what goes on is dealt with.
    to_say: Vec<Purpose>,
    /// Calls whose answers matter.
    asked: Vec<(u64, Asked)>,
    stream: Option<Box<Stream>>,
    untold: Vec<Untold>,
    repeats: Vec<Repeat>,
    next_event: u64,
    next_transaction: u64,
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
        let pace = config.pace.clone().unwrap_or_else(|| Pace::new(config.speed, now.at));
        let settings = Configuration::new(&config);
        let mut charger = Self {
            client: Client::in_memory(client_config(&config), now.at),
            settings,
            profiles: Profiles::default(),
            list: LocalList::default(),
            books,
            random,
            ticked: pace.seconds(now.at),
            planned_at: pace.speed(),
            pace,
            powered: true,
            connectors,
            to_say: Vec::new(),
            asked: Vec::new(),
            stream: None,
            untold: Vec::new(),
            repeats: Vec::new(),
            next_event: 0,
            next_transaction: 0,
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

    /// Its end of the line.
    pub(crate) const fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Its own time.
    pub(crate) const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Its own time runs faster or slower than before, and whatever is planned in it comes sooner or later.
    pub(crate) fn handle_pace(&mut self, now: Moment) {
        let speed = self.pace.speed();
        let factor = self.planned_at / speed;
        self.planned_at = speed;
        let shift = |at: &mut Instant| *at = now.at + at.saturating_duration_since(now.at).mul_f64(factor);
        for connector in &mut self.connectors {
            connector.replan(shift, !self.reads_as_told);
        }
        self.outages.iter_mut().for_each(|outage| shift(&mut outage.at));
        self.later.iter_mut().for_each(|(at, _)| shift(at));
        if !self.reads_as_told {
            let every = self.pace.real(self.config.meter_interval);
            for session in self.connectors.iter_mut().filter_map(|one| one.session.as_mut()) {
                session.read_every = every;
            }
        }
    }

    /// Something has happened on the line.
    pub(crate) fn handle_event(&mut self, event: Event, now: Moment) {
        match event {
            Event::Connected { earlier } => self.connected(earlier > 0, now),
            Event::NotConnected { error, .. } => self.config.statistics.failed_to_connect(error),
            Event::Disconnected { .. } => {
                self.config.statistics.disconnected();
                self.books.lock().link = Link::Offline;
            }
            Event::Registered { registration, interval, .. } => self.registered(registration, interval, now),
            Event::Called(called) => self.called(&called, now),
            Event::Obeyed { .. } => self.config.statistics.commanded(),
            Event::Ended { key, outcome } => {
                if let Some(at) = self.asked.iter().position(|(asked, _)| *asked == key) {
                    let (_, asked) = self.asked.swap_remove(at);
                    self.ended(asked, &outcome, now);
                }
            }
            Event::Billed { number, transaction, answer, .. } => {
                let answer = serde_json::from_str(&answer).unwrap_or_default();
                self.billed(number, &transaction, Some(answer), now);
            }
            Event::GivenUp { number, transaction, .. } => self.billed(number, &transaction, None, now),
            Event::Exchanged { end, after } => self.exchanged(end, after),
            Event::Thinned { .. } => self.books.lock().unsent = self.client.unbilled(),
            _ => {}
        }
        self.speak(now);
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Moment) {
        self.flow(now);
        for index in 0..self.connectors.len() {
            let id = self.connectors[index].id;
            self.visit(id, now);
        }
        self.judge_flow(now);
        self.upkeep(now);
        if self.reset_when_idle && self.connectors.iter().all(|connector| connector.session.is_none()) {
            self.reset_when_idle = false;
            self.restart("ScheduledReset", now);
        }
        self.speak(now);
    }

    /// The station is switched off: it ends what goes on, tells it, and stops.
    pub(crate) fn handle_shutdown(&mut self, now: Moment) {
        self.end_all(Reason::PowerLoss, now);
        self.speak(now);
        self.client.stop(now.at);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.connectors
            .iter()
            .map(Connector::next)
            .chain([self.clock_at])
            .chain(self.outages.iter().map(|outage| Some(outage.at)))
            .chain(self.later.iter().map(|(at, _)| Some(*at)))
            .flatten()
            .min()
    }

    /// Says what is to be said. What cannot be said now is dropped: it is told again, or of no use any more.
    fn speak(&mut self, now: Moment) {
        while !self.to_say.is_empty() {
            for purpose in std::mem::take(&mut self.to_say) {
                let Some((action, payload)) = self.render(&purpose, now) else { continue };
                let called = self.client.call(ByteString::from_static(action), payload.to_string(), now.at);
                match (purpose, called) {
                    (Purpose::Authorize { connector, .. }, Ok(key)) => {
                        self.asked.push((key, Asked::Consent { connector }));
                    }
                    (Purpose::Authorize { connector, .. }, Err(_)) => self.decide_offline(connector, now),
                    (_, Ok(key)) if action == "OpenPeriodicEventStream" => {
                        self.asked.push((key, Asked::Stream));
                    }
                    _ => {}
                }
            }
        }
    }

    fn push(&mut self, purpose: Purpose) {
        self.to_say.push(purpose);
    }

    fn notice(&mut self, action: &'static str, payload: Value) {
        self.push(Purpose::Notice { action, payload: Box::new(payload) });
    }

    fn quirk(&self, quirk: Quirk) -> bool {
        self.config.quirks.contains(&quirk)
    }

    fn connected(&mut self, again: bool, now: Moment) {
        self.powered = true;
        self.config.statistics.connected();
        if again && self.quirk(Quirk::BootAlways) {
            self.client.set_boot(boot_notification(&self.config, "Unknown"));
            self.client.boot_again(now.at);
        }
        let accepted = self.is_accepted();
        {
            let mut books = self.books.lock();
            books.connections += 1;
            books.link = if accepted { Link::Accepted } else { Link::Connected };
        }
        if accepted {
            // L07: a station that reconnects keeps its registration, and tells how its connectors are.
            self.report_all(now);
        }
    }

    fn registered(&mut self, registration: Registration, interval: Duration, now: Moment) {
        let accepted = registration == Registration::Accepted;
        {
            let mut books = self.books.lock();
            books.boots += 1;
            books.link = if accepted { Link::Accepted } else { Link::Connected };
        }
        if !accepted {
            return;
        }
        self.settings.put("HeartbeatInterval", &interval.as_secs().to_string());
        self.config.statistics.booted();
        if self.quirk(Quirk::EarlyEvents) {
            let (action, payload) = unasked::early_event(now.unix_ms);
            self.notice(action, payload);
        }
        self.report_all(now);
        for (action, payload) in std::mem::take(&mut self.after_boot) {
            self.notice(action, payload);
        }
        self.stream = None;
        self.open_stream();
        if self.quirk(Quirk::OldNews) {
            for (action, payload) in unasked::old_news(self.config.version, now.unix_ms) {
                self.notice(action, payload);
            }
        }
    }

    fn called(&mut self, called: &client::Called, now: Moment) {
        let frame = match self.handle_called(&called.action, called.payload.as_bytes(), now) {
            Reply::Result(payload) => write_result(&called.id, payload.to_string().as_bytes()),
            Reply::Error(code, description) => {
                write_error(&called.id, code, &description, b"{}", self.config.version)
            }
        };
        if let Err(error) = self.client.answer(called.seq, frame, now.at) {
            // Only if the connection has ended meanwhile.
            tracing::debug!(station = self.config.id, %error, "an answer was not sent");
        }
    }

    fn exchanged(&self, end: Ending, after: Duration) {
        let statistics = &self.config.statistics;
        statistics.called();
        match end {
            Ending::Answered => statistics.answered(after),
            Ending::Refused => {
                statistics.refused(after);
                self.books.lock().refused += 1;
            }
            Ending::Unanswered => {
                statistics.unanswered();
                self.books.lock().unanswered += 1;
            }
            Ending::Lost => statistics.lost(),
        }
    }

    /// Whether everything may be said now.
    fn is_accepted(&self) -> bool {
        self.client.is_online() && self.client.registration() == Registration::Accepted
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
            self.push(Purpose::Status { connector: id, status, unix_ms: now.unix_ms });
        } else if flows(before) && flows(status) {
            let limited = status == Status::SuspendedEvse
                && self
                    .connector(id)
                    .and_then(|one| one.session.as_ref())
                    .is_some_and(|one| one.is_over_limit());
            let trigger = if limited { "EnergyLimitReached" } else { "ChargingStateChanged" };
            self.bill_of(id, Kind::State { state: status.charging_state(), trigger }, now);
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
        if self.quirk(Quirk::NoBoot) {
            self.client.reconnect(RESET_TAKES, now.at);
        } else {
            self.client.set_boot(boot_notification(&self.config, why));
            self.client.restart(RESET_TAKES, now.at);
        }
    }

    /// Whether it was taken; if not, too much waits already.
    fn bill(&mut self, entry: &Entry) -> bool {
        let Some(untold) = self.untold.iter().find(|one| one.number == entry.transaction) else {
            return false;
        };
        let (action, payload) = match self.config.version {
            Version::V16 => self.bill_v16(entry),
            Version::V201 | Version::V21 => self.bill_v2(entry),
        };
        let billed = self.client.bill(&untold.name, ByteString::from_static(action), &payload.to_string());
        match &billed {
            Ok(receipt) if matches!(entry.kind, Kind::Stop { .. }) && self.quirk(Quirk::RepeatedStop) => {
                let (bill, transaction) = (receipt.number, entry.transaction);
                self.repeats.push(Repeat { bill, transaction, action, payload });
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(station = self.config.id, action, %error, "not billed"),
        }
        self.books.lock().unsent = self.client.unbilled();
        billed.is_ok()
    }

    /// Bills something about the transaction that goes on at a connector.
    fn bill_of(&mut self, id: u32, kind: Kind, now: Moment) {
        let Some(connector) = self.connector(id) else { return };
        let meter_wh = connector.meter_wh();
        let Some(session) = &mut connector.session else { return };
        let seq_no = session.next_seq_no;
        session.next_seq_no += 1;
        let transaction = session.transaction;
        self.bill(&Entry { transaction, kind, meter_wh, unix_ms: now.unix_ms, seq_no });
    }

    /// A billing message was answered, or given up.
    fn billed(&mut self, bill: u64, name: &str, answer: Option<Value>, now: Moment) {
        let given_up = answer.is_none();
        let answer = answer.unwrap_or_default();
        if given_up {
            self.config.statistics.gave_up();
        }
        let Some(at) = self.untold.iter().position(|one| one.name == name) else { return };
        let number = self.untold[at].number;
        {
            let mut books = self.books.lock();
            books.unsent = self.client.unbilled();
            books.given_up += u64::from(given_up);
            if let Some(transaction) = books.transactions.get_mut(&number) {
                // 1.6: the answer to its start.
                if transaction.id.is_none()
                    && let Some(id) = answer["transactionId"].as_i64()
                {
                    transaction.id = Some(id.to_string());
                }
                transaction.settled = transaction.ended && !self.client.holds(name);
                if transaction.settled {
                    self.untold.swap_remove(at);
                }
            }
            books.forget();
        }
        if let Some(at) = self.repeats.iter().position(|one| one.bill == bill) {
            let repeat = self.repeats.swap_remove(at);
            self.say_again(repeat);
        }
        if self.config.version == Version::V21 {
            self.limited(number, &answer, now);
        }
        let info = if self.config.version == Version::V16 { "idTagInfo" } else { "idTokenInfo" };
        if answer[info]["status"].as_str().is_some_and(|status| status != "Accepted") {
            let charging = |one: &&Connector| one.transaction() == Some(number);
            let here = self.connectors.iter().find(charging).map(|one| one.id);
            if let Some(id) = here.filter(|_| self.settings.is_on("StopTransactionOnInvalidId")) {
                self.end(id, Reason::DeAuthorized, now);
            }
        }
    }

    /// Tells the end of a transaction once more, as another message.
    fn say_again(&mut self, repeat: Repeat) {
        let Repeat { transaction, action, mut payload, .. } = repeat;
        if self.config.version == Version::V16 {
            let id = self.book(transaction, |book| book.id.as_ref()?.parse::<i64>().ok()).flatten();
            payload["transactionId"] = id.unwrap_or(-1).into();
        }
        self.notice(action, payload);
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

/// How its client behaves.
fn client_config(config: &Config) -> client::Config {
    let boot = boot_notification(config, "PowerUp");
    client::Config {
        password: config.password.clone(),
        tls: config.tls.clone(),
        compression: config.compression,
        answer_timeout: config.answer_timeout,
        calls_max: CALLS_MAX,
        call_wait_max: CALL_WAIT_MAX,
        back_off: config.back_off,
        boot_retry_interval: OWN_INTERVAL,
        heartbeat_interval: OWN_INTERVAL,
        message_attempts: config.billing_attempts.max(1),
        message_retry_interval: config.billing_interval,
        ping_interval: config.ping_interval,
        stop_grace: config.finish,
        tells_exchanges: true,
        seed: Some(config.seed ^ 1),
        ..client::Config::raw(&*config.url, config.id.clone(), config.version, boot)
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
