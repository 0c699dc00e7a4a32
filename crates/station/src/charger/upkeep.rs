//! What happens beside charging: faults, failing lines and power, jobs that take their time, reservations that expire.

use super::{
    Charger, Moment, Purpose, Reason,
    outgoing::{boot_notification, instant, time},
};
use crate::scenario::{between, minutes, one_of};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use switchboard_rpc::Version;

/// How many steps of jobs wait at most; a job beyond it is refused.
pub(super) const LATER_MAX: usize = 64;
/// What breaks, in the words of 1.6.
const FAULTS: [&str; 6] = [
    "GroundFailure",
    "OverCurrentFailure",
    "HighTemperature",
    "ConnectorLockFailure",
    "PowerMeterFailure",
    "EVCommunicationError",
];

/// What is done later.
#[derive(Debug)]
pub(super) enum Later {
    /// Something is told.
    Say(&'static str, Value),
    /// The new firmware is installed: a reset, and what is told afterwards.
    Reboot(&'static str, Value),
}

/// A line or the power that will fail.
#[derive(Debug)]
pub(super) struct Outage {
    /// When.
    pub(super) at: Instant,
    source: Source,
    power: bool,
    wait: Duration,
    /// Whether it hits this station.
    hits: bool,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Line,
    Power,
    Together(usize),
}

impl Charger {
    /// What is due.
    pub(super) fn upkeep(&mut self, now: Moment) {
        while let Some(index) = self.later.iter().position(|(at, _)| *at <= now.at) {
            match self.later.remove(index).1 {
                Later::Say(action, payload) => self.notice(action, payload),
                Later::Reboot(action, payload) => {
                    self.after_boot.push((action, payload));
                    self.end_all(Reason::Reboot, now);
                    self.restart("FirmwareUpdate", now);
                }
            }
        }
        if self.clock_at.is_some_and(|at| at <= now.at) {
            self.read_all(now);
            self.set_clock(now);
        }
        while let Some(index) = self.outages.iter().position(|outage| outage.at <= now.at) {
            let outage = self.outages.swap_remove(index);
            self.plan(outage.source, now);
            // Who is offline already does not notice.
            if outage.hits && self.client.is_online() && !self.client.is_ending() {
                self.fails(outage.power, outage.wait, now);
            }
        }
    }

    /// Decides when line and power fail.
    pub(super) fn plan_outages(&mut self, now: Moment) {
        let Some(scenario) = self.config.scenario.clone() else { return };
        self.plan(Source::Line, now);
        self.plan(Source::Power, now);
        for index in 0..scenario.offline.together.len() {
            self.plan(Source::Together(index), now);
        }
    }

    fn plan(&mut self, source: Source, now: Moment) {
        let Some(scenario) = self.config.scenario.clone() else { return };
        let mut by_chance =
            |a_day: f64| (a_day > 0.0).then(|| -(1.0 - self.random.f64()).ln() / a_day * 86_400.0);
        let (seconds, lasts, power, share) = match source {
            Source::Line => (by_chance(scenario.offline.a_day), scenario.offline.minutes, false, 1.0),
            Source::Power => {
                (by_chance(scenario.faults.power_losses_a_day), scenario.faults.power_minutes, true, 1.0)
            }
            Source::Together(index) => {
                let Some(one) = scenario.offline.together.get(index) else { return };
                let own = self.pace.seconds(now.at);
                let next = one.next(own + 1.0).map(|at| at - own);
                (next, [one.minutes; 3], one.power, one.share)
            }
        };
        let Some(seconds) = seconds else { return };
        let wait = self.pace.real(minutes(between(lasts, &mut self.random)));
        let hits = self.random.f64() < share;
        let at = now.at + self.pace.real(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0 * 366.0)));
        self.outages.push(Outage { at, source, power, wait, hits });
    }

    /// Line or power fail for so long.
    fn fails(&mut self, power: bool, wait: Duration, now: Moment) {
        self.client.cut(wait, now.at);
        if power {
            // What the meters showed is told when the power is back.
            self.end_all(Reason::PowerLoss, now);
            self.powered = false;
            if !self.quirk(crate::Quirk::NoBoot) {
                self.client.set_boot(boot_notification(&self.config, "PowerUp"));
                self.client.boot_again(now.at);
            }
        }
    }

    /// A connector breaks, whoever charges there.
    pub(super) fn breaks(&mut self, id: u32, now: Moment) {
        let repair =
            self.config.scenario.as_ref().map_or([20.0; 3], |scenario| scenario.faults.repair_minutes);
        let repair = self.pace.real(minutes(between(repair, &mut self.random)));
        let code = one_of(&FAULTS, &mut self.random);
        let Some(connector) = self.connector(id) else { return };
        connector.broken = Some((code, now.at + repair));
        connector.guest = None;
        connector.next_car = None;
        self.config.statistics.fault();
        self.end(id, Reason::Fault { ground: code == "GroundFailure" }, now);
        self.refresh(id, now);
        self.tell_problem(id, code, true, now);
    }

    pub(super) fn repaired(&mut self, id: u32, now: Moment) {
        let Some(connector) = self.connector(id) else { return };
        let code = connector.broken.take().map_or("", |(code, _)| code);
        self.await_car(id, false, now);
        self.refresh(id, now);
        self.tell_problem(id, code, false, now);
    }

    /// 2.x tells what is wrong in an event; 1.6 in the status.
    fn tell_problem(&mut self, id: u32, code: &str, wrong: bool, now: Moment) {
        if self.config.version == Version::V16 {
            return;
        }
        self.next_event += 1;
        let mut event = json!({
            "eventId": self.next_event,
            "timestamp": time(now.unix_ms),
            "trigger": "Delta",
            "actualValue": wrong.to_string(),
            "techCode": code,
            "eventNotificationType": "HardWiredNotification",
            "component": { "name": "EVSE", "evse": { "id": id } },
            "variable": { "name": "Problem" },
        });
        if self.config.version == Version::V21 {
            // Of ten levels the third: it can charge no more. What is over again is only told.
            event["severity"] = if wrong { 2 } else { 8 }.into();
        }
        self.notice(
            "NotifyEvent",
            json!({ "generatedAt": time(now.unix_ms), "seqNo": 0, "eventData": [event] }),
        );
    }

    /// A reservation may have expired.
    pub(super) fn reservation_due(&mut self, id: u32, now: Moment) {
        let Some(connector) = self.connector(id) else { return };
        let Some(kept) = connector.reservation.take_if(|kept| kept.until <= now.at) else { return };
        if self.config.version != Version::V16 {
            let payload = json!({ "reservationId": kept.id, "reservationUpdateStatus": "Expired" });
            self.notice("ReservationStatusUpdate", payload);
        }
        self.refresh(id, now);
    }

    /// Whether a job goes wrong.
    pub(super) fn job_fails(&mut self) -> bool {
        let share = self.config.scenario.as_ref().map_or(0.0, |scenario| scenario.faults.share);
        self.random.f64() < share
    }

    /// Tells the steps of a job one after the other, so many seconds of the own time apart, the first one at `begin`.
    pub(super) fn job(&mut self, begin: Instant, steps: Vec<Later>) -> bool {
        if self.later.len() + steps.len() > LATER_MAX {
            return false;
        }
        let step = self.pace.real(Duration::from_secs(20));
        for (index, later) in (0..).zip(steps) {
            self.later.push((begin + step * index, later));
        }
        true
    }

    /// A time that a command named, or now.
    pub(super) fn not_before(&self, value: &Value, now: Moment) -> Instant {
        instant(value, now).unwrap_or(now.at)
    }

    /// Asks again for what a trigger wants and the station has not in hand.
    pub(super) fn push_idle(&mut self, id: u32) {
        self.push(Purpose::Idle { connector: id, cause: super::Cause::Trigger });
    }
}
