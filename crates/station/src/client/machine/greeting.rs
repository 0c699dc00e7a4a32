//! What a station says by itself: that it has booted, and that it lives.

use super::{Client, INTERVAL_MAX};
use crate::client::{event::Event, gate::Registration, payload};
use bytestring::ByteString;
use std::time::{Duration, Instant};
use switchboard_rpc::{Version, connection::Outcome};

/// A station asks for the time at least this often, however much else it says (J16 section 5.3; 2.x part 4, 5.2).
const CLOCK_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub(super) struct Boot {
    pub(super) payload: ByteString,
    pub(super) due: Option<Instant>,
    /// Whether the central system asked for it.
    pub(super) triggered: bool,
    pub(super) key: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Heartbeat {
    pub(super) every: Duration,
    pub(super) at: Option<Instant>,
    /// When the central system last told its time.
    pub(super) clock: Instant,
    pub(super) triggered: bool,
    pub(super) key: Option<u64>,
}

impl Boot {
    /// The one that is due now.
    pub(super) const fn due(payload: ByteString, now: Instant) -> Self {
        Self { payload, due: Some(now), triggered: false, key: None }
    }
}

impl Heartbeat {
    pub(super) const fn new(every: Duration, now: Instant) -> Self {
        Self { every, at: None, clock: now, triggered: false, key: None }
    }

    /// 2.0.1 G02.FR.04: whatever is sent says as well that the station lives.
    pub(super) fn said_something(&mut self, version: Version, now: Instant) {
        if version != Version::V16 {
            let latest = self.clock + CLOCK_MAX;
            self.at = self.at.map(|at| at.max((now + self.every).min(latest)));
        }
    }
}

impl Client {
    pub(super) fn boot_payload(&self) -> ByteString {
        let payload = &self.boot.payload;
        if self.boot.triggered && self.config.version != Version::V16 {
            // 2.0.1 F06.FR.06
            return payload::without(payload, "reason")
                .map_or_else(|| payload.clone(), |rest| payload::with(&rest, "reason", "\"Triggered\""));
        }
        payload.clone()
    }

    pub(super) fn booted(&mut self, outcome: Outcome, now: Instant) -> Option<Event> {
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
}
