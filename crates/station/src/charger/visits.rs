//! Drivers and cars: they come, show a tag, plug in, charge, and go.

use super::{
    Charger, Kind, Moment, Purpose, Reason, Untold,
    billing::{Cause, Entry},
    connector::{Connector, Consent, Guest, Session},
};
use crate::{Transaction, client::Outcome, model::vehicle::Vehicle, scenario::between};
use serde_json::Value;
use std::time::{Duration, Instant};
use switchboard_rpc::Version;

/// Longer than any station lives, and short enough to be added to any instant.
const NEVER: Duration = Duration::from_secs(86_400 * 365);
/// A driver who was kept from charging goes after at most this long.
const GOES_AFTER: Duration = Duration::from_secs(30 * 60);

impl Charger {
    /// What is due at a connector.
    pub(super) fn visit(&mut self, id: u32, now: Moment) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now.at);
        let Some(connector) = self.connector(id) else { return };
        if let Some((_, until)) = connector.broken
            && until <= now.at
        {
            self.repaired(id, now);
        }
        self.reservation_due(id, now);
        let Some(connector) = self.connector(id) else { return };
        if let Some(session) = &connector.session {
            let (over, breaks, reads) =
                (session.until <= now.at, due(session.breaks_at), session.next_reading <= now.at);
            if breaks {
                self.breaks(id, now);
            } else if over {
                self.end(id, Reason::Local, now);
            } else if reads {
                self.read_meter(id, Cause::Periodic, now);
            }
        }
        let Some(connector) = self.connector(id) else { return };
        if let Some(guest) = &mut connector.guest {
            let (shows, goes) = (due(guest.shows_at), due(guest.goes_at));
            if due(guest.plugs_at) {
                guest.plugs_at = None;
                guest.plugged = true;
                guest.goes_at = None;
            }
            let ready = guest.plugged && guest.consent == Consent::Given && !guest.served;
            if shows {
                guest.shows_at = None;
            }
            if ready {
                self.begin(id, now);
            } else if shows {
                self.ask(id, now);
            } else if goes {
                self.go(id, now);
            }
            self.refresh(id, now);
        }
        let Some(connector) = self.connector(id) else { return };
        if due(connector.next_car) {
            connector.next_car = None;
            self.car_comes(id, now);
        }
    }

    /// Decides when the next car comes to a connector.
    pub(super) fn await_car(&mut self, id: u32, first: bool, now: Moment) {
        let wait = if let Some(scenario) = self.config.scenario.clone() {
            let seconds = scenario.next_arrival(self.pace.seconds(now.at), &mut self.random);
            seconds.map(|seconds| self.pace.real(Duration::from_secs_f64(seconds.min(NEVER.as_secs_f64()))))
        } else if id <= self.config.visited {
            // The first car comes soon: nobody waits ten minutes for a demonstration to begin.
            let pause = self.varied(self.config.pause);
            Some(if first { pause / 4 } else { pause })
        } else {
            None
        };
        if let Some(connector) = self.connector(id) {
            connector.next_car = wait.map(|wait| now.at + wait.min(NEVER));
        }
    }

    /// A driver comes: with a tag, with a cable, or with one after the other.
    fn car_comes(&mut self, id: u32, now: Moment) {
        let index = self.random.usize(..self.config.tokens.len().max(1));
        let token = self.config.tokens.get(index).cloned().unwrap_or_else(|| "DRIVER".to_owned());
        let (here, powered) = (!self.client.is_ending() && !self.client.is_stopped(), self.powered);
        let scenario = self.config.scenario.clone();
        let Some(connector) = self.connector(id) else { return };
        if !connector.is_free_for(&token) || connector.guest.is_some() || !here || !powered {
            self.await_car(id, false, now);
            return;
        }
        connector.token = token;
        connector.token_type = "ISO14443";
        let Some(scenario) = scenario else {
            // Tag and cable at once.
            connector.guest = Some(Box::new(Guest::new(true)));
            self.refresh(id, now);
            self.ask(id, now);
            return;
        };
        let hesitates = self
            .pace
            .real(Duration::from_secs_f64(between(scenario.session.hesitate_seconds, &mut self.random)));
        let plug_first = self.random.f64() < scenario.session.plug_first;
        let no_show = self.random.f64() < scenario.session.no_show;
        let Some(connector) = self.connector(id) else { return };
        let guest = connector.guest.insert(Box::new(Guest::new(plug_first)));
        if plug_first {
            guest.shows_at = Some(now.at + hesitates);
        } else {
            // Counted from now, as an answer may take its time.
            guest.plugs_at = (!no_show).then(|| now.at + hesitates);
            self.ask(id, now);
        }
        self.refresh(id, now);
    }

    /// A driver shows a tag.
    fn ask(&mut self, id: u32, now: Moment) {
        let asks = self.is_accepted();
        let cache = self.settings.is_on("AuthorizationCacheEnabled");
        let list = self.settings.is_on("LocalAuthListEnabled");
        let ahead = self.settings.is_on("LocalPreAuthorize");
        let Some(connector) = self.connectors.iter_mut().find(|one| one.id == id) else { return };
        let Some(guest) = &mut connector.guest else { return };
        if ahead && self.list.status(&connector.token, list, cache) == Some("Accepted") {
            self.consented(id, now);
            return;
        }
        guest.consent = Consent::Asked;
        if asks {
            let token = connector.token.clone();
            self.push(Purpose::Authorize { connector: id, token });
        } else {
            self.decide_offline(id, now);
        }
    }

    /// Connectors at which a driver waits for an answer.
    pub(super) fn asking(&self) -> Vec<u32> {
        let asks = |one: &&Connector| one.guest.as_ref().is_some_and(|guest| guest.consent == Consent::Asked);
        self.connectors.iter().filter(asks).map(|one| one.id).collect()
    }

    /// Nobody can be asked: the list, then the memory, then a rule decides.
    pub(super) fn decide_offline(&mut self, id: u32, now: Moment) {
        let offline = self.settings.is_on("LocalAuthorizeOffline");
        let cache = offline && self.settings.is_on("AuthorizationCacheEnabled");
        let list = offline && self.settings.is_on("LocalAuthListEnabled");
        let Some(connector) = self.connectors.iter().find(|one| one.id == id) else { return };
        let accepted = match self.list.status(&connector.token, list, cache) {
            Some(status) => status == "Accepted",
            None => self.settings.is_on("AllowOfflineTxForUnknownId"),
        };
        if accepted {
            self.consented(id, now);
        } else {
            self.go(id, now);
        }
    }

    pub(super) fn authorized(&mut self, id: u32, outcome: &Outcome, now: Moment) {
        if !self.asking().contains(&id) {
            return;
        }
        let info = if self.config.version == Version::V16 { "idTagInfo" } else { "idTokenInfo" };
        match outcome {
            Outcome::Answered { payload, .. } => {
                let answer: Value = serde_json::from_str(payload).unwrap_or_default();
                let status = answer[info]["status"].as_str().unwrap_or_default();
                if let Some(connector) = self.connectors.iter().find(|one| one.id == id) {
                    self.list.remember(&connector.token, status);
                }
                if status == "Accepted" { self.consented(id, now) } else { self.go(id, now) }
            }
            // Nobody said no: as offline.
            Outcome::NotSent | Outcome::Unknown => self.decide_offline(id, now),
            _ => self.go(id, now),
        }
    }

    /// The driver may charge, and does as soon as the cable is in the car.
    pub(super) fn consented(&mut self, id: u32, now: Moment) {
        // About drivers, and so in their own time.
        let patience = self.settings.seconds("ConnectionTimeOut").map(|patience| self.pace.real(patience));
        let Some(connector) = self.connector(id) else { return };
        let Some(guest) = &mut connector.guest else { return };
        guest.consent = Consent::Given;
        if guest.plugged {
            self.begin(id, now);
        } else {
            guest.goes_at = patience.map(|patience| {
                // Who plugs in at all does so in time.
                guest.plugs_at.map_or(now.at + patience, |at| at.max(now.at + patience))
            });
            self.refresh(id, now);
        }
    }

    /// The car goes; the next one will come.
    pub(super) fn go(&mut self, id: u32, now: Moment) {
        if let Some(connector) = self.connector(id) {
            connector.guest = None;
            if connector.closes {
                connector.closes = false;
                connector.operative = false;
            }
        }
        self.await_car(id, false, now);
        self.refresh(id, now);
    }

    /// Charging begins.
    pub(super) fn begin(&mut self, id: u32, now: Moment) {
        self.flow(now);
        let Some(power_w) = self.connector(id).map(|one| one.power_w) else { return };
        let (vehicle, stays, breaks) = match self.config.scenario.clone() {
            None => {
                let stays = self.varied(self.config.session);
                (Vehicle::steady(f64::from(self.random.u32(4_000..22_000))), stays, None)
            }
            Some(scenario) => {
                let vehicle = Vehicle::by_chance(&scenario.session, power_w, &mut self.random);
                let stays =
                    crate::scenario::minutes(between(scenario.session.stay_minutes, &mut self.random));
                let breaks = self.random.f64() < scenario.faults.share;
                let breaks = breaks.then(|| self.pace.real(stays.mul_f64(self.random.f64())));
                (vehicle, self.pace.real(stays), breaks)
            }
        };
        let every = self.reads_every().unwrap_or(NEVER);
        // In 2.1 a driver can say at the station how much it shall be (E16).
        let limit_wh = match &self.config.scenario {
            Some(scenario) if self.config.version == Version::V21 => {
                let says = self.random.f64() < scenario.session.limited;
                says.then(|| (between(scenario.session.energy_kwh, &mut self.random) * 500.0).round())
            }
            _ => None,
        };
        self.next_transaction += 1;
        let number = self.next_transaction;
        let own_id = (self.config.version != Version::V16).then(|| uuid::Uuid::new_v4().to_string());
        let name = own_id.clone().unwrap_or_else(|| number.to_string()).into();
        let Some(connector) = self.connector(id) else { return };
        let guest = connector.guest.take();
        let (remote, profile) = guest.map_or((None, None), |guest| (guest.remote, guest.profile));
        let reservation = connector.reservation.take().map(|kept| kept.id);
        connector.next_car = None;
        let meter_wh = connector.meter_wh();
        connector.session = Some(Box::new(Session {
            transaction: number,
            since_ms: now.unix_ms,
            vehicle,
            offered_w: power_w,
            until: now.at + stays.min(NEVER),
            look_at: now.at,
            read_every: every,
            next_reading: now.at + every,
            next_seq_no: 1,
            breaks_at: breaks.map(|breaks| now.at + breaks.min(NEVER)),
            charged_wh: 0.0,
            limit_wh,
            priority: false,
        }));
        let (token, token_type) = (connector.token.clone(), connector.token_type.to_owned());
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
        self.untold.push(Untold { number, name });
        let kind = Kind::Start { remote, token_type, reservation, limit_wh };
        if !self.bill(&Entry { transaction: number, kind, meter_wh, unix_ms: now.unix_ms, seq_no: 0 }) {
            // What can never be told is not sold.
            drop(self.untold.pop());
            self.books.lock().transactions.remove(&number);
            if let Some(connector) = self.connector(id) {
                connector.session = None;
            }
            self.go(id, now);
            return;
        }
        self.config.statistics.started();
        if let Some(mut profile) = profile {
            let id_known = self.book(number, |book| book.id.clone()).flatten();
            if let Some(id_known) = id_known {
                profile["transactionId"] = id_known.into();
            }
            if let Err(reason) = self.set_profile(id, &profile, now) {
                tracing::debug!(
                    station = self.config.id,
                    reason,
                    "the profile of a remote start is not obeyed"
                );
            }
        }
        self.judge_flow(now);
        self.refresh(id, now);
        self.hurry(id, now);
    }

    /// Charging ends, and sooner or later the car goes.
    pub(super) fn end(&mut self, id: u32, reason: Reason, now: Moment) {
        if self.connector(id).is_none_or(|one| one.session.is_none()) {
            return;
        }
        self.flow(now);
        self.bill_of(id, Kind::Stop { reason }, now);
        let lingers = match (&self.config.scenario, reason) {
            (None, _) => None,
            (Some(scenario), Reason::Local) => {
                let seconds = between(scenario.session.hesitate_seconds, &mut self.random);
                Some(self.pace.real(Duration::from_secs_f64(seconds)))
            }
            (Some(_), _) => Some(self.varied(GOES_AFTER)),
        };
        let Some(connector) = self.connector(id) else { return };
        let Some(session) = connector.session.take() else { return };
        let broken = connector.broken.is_some();
        connector.guest = (!broken).then(|| {
            let mut guest = Guest::new(true);
            guest.served = true;
            guest.goes_at = lingers.map(|lingers| now.at + lingers);
            Box::new(guest)
        });
        self.profiles.transaction_ended(id);
        let energy = self.books.lock().transactions.get_mut(&session.transaction).map(|transaction| {
            transaction.ended = true;
            transaction.energy_wh()
        });
        self.config.statistics.ended(energy.unwrap_or_default());
        self.refresh(id, now);
        if lingers.is_none() && !broken {
            self.go(id, now);
        }
    }
}
