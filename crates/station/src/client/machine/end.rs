//! How a connection, or a life of the station, is ended by the station itself.

use super::{Client, Phase, greeting::Boot};
use crate::client::{event::Event, gate::Registration};
use std::time::{Duration, Instant};

/// How long a station that is about to end waits between two attempts to connect.
pub(super) const HURRY: Duration = Duration::from_millis(500);

/// What ends this connection, or this life of the station.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish {
    pub(super) deadline: Instant,
    pub(super) then: Then,
}

/// What comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Stop,
    /// Another connection, after this wait.
    Reconnect(Duration),
    /// Another life, after this wait.
    Restart(Duration),
}

impl Then {
    /// What the central system is told.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Stop => "switched off",
            Self::Reconnect(_) => "reconnecting",
            Self::Restart(_) => "restarting",
        }
    }
}

impl Client {
    /// Ends: billing messages have [`Config::stop_grace`] to be answered, then the connection is closed. Without a
    /// connection it ends at once, unless messages wait that would be lost with it: for these it tries to connect as long.
    ///
    /// [`Config::stop_grace`]: crate::client::Config::stop_grace
    pub fn stop(&mut self, now: Instant) {
        self.finish(Then::Stop, now);
    }

    /// Begins anew, as after a reset: billing messages have [`Config::stop_grace`] to be answered, then the connection is
    /// closed, and after `wait` the station connects and boots.
    ///
    /// [`Config::stop_grace`]: crate::client::Config::stop_grace
    pub fn restart(&mut self, wait: Duration, now: Instant) {
        self.finish(Then::Restart(wait), now);
    }

    /// The same without a boot, as after a change of the password.
    pub fn reconnect(&mut self, wait: Duration, now: Instant) {
        self.finish(Then::Reconnect(wait), now);
    }

    /// Drops the connection at once and without a word, as when the line fails, and connects again after `wait`.
    pub fn cut(&mut self, wait: Duration, now: Instant) {
        match &mut self.phase {
            Phase::Stopped => {}
            Phase::Online(online) => online.cut = Some(wait),
            Phase::Waiting(_) | Phase::Connecting => self.phase = Phase::Waiting(now + wait),
        }
    }

    /// Boots as soon as there is a connection, as after a loss of power; until then nothing else is said.
    pub fn boot_again(&mut self, now: Instant) {
        self.gate.set(Registration::Unknown);
        self.boot = Boot { key: self.boot.key, ..Boot::due(self.boot.payload.clone(), now) };
    }

    fn finish(&mut self, then: Then, now: Instant) {
        // Whoever is already going to end does not begin anew.
        if self.finish.is_some_and(|finish| finish.then == Then::Stop) {
            return;
        }
        let finish = Finish { deadline: now + self.config.stop_grace, then };
        match (&mut self.phase, then) {
            (Phase::Stopped, _) => {}
            (Phase::Online(_), _) => self.finish = Some(finish),
            (_, Then::Restart(wait)) => self.begin_anew(wait, now),
            // The next connection is another one anyway.
            (_, Then::Reconnect(_)) => {}
            (_, Then::Stop) if !self.backlog.would_be_lost() => self.stopped(),
            (phase, Then::Stop) => {
                self.finish = Some(finish);
                if let Phase::Waiting(at) = phase {
                    *at = (*at).min(now + HURRY);
                }
            }
        }
    }

    /// The connection has ended; it was cut for so long, if it was.
    pub(super) fn what_next(&mut self, cut: Option<Duration>, now: Instant) {
        match self.finish {
            None => {
                let wait = cut.unwrap_or_else(|| self.back_off());
                self.phase = Phase::Waiting(now + wait);
            }
            Some(Finish { then: Then::Restart(wait), .. }) => self.begin_anew(wait, now),
            Some(Finish { then: Then::Reconnect(wait), .. }) => {
                self.finish = None;
                self.phase = Phase::Waiting(now + wait);
            }
            Some(Finish { then: Then::Stop, deadline }) if deadline > now && self.backlog.would_be_lost() => {
                self.phase = Phase::Waiting(now + HURRY);
            }
            Some(Finish { then: Then::Stop, .. }) => self.stopped(),
        }
    }

    fn begin_anew(&mut self, wait: Duration, now: Instant) {
        self.finish = None;
        self.gate.set(Registration::Unknown);
        self.boot = Boot::due(self.boot.payload.clone(), now);
        self.failures = 0;
        self.phase = Phase::Waiting(now + wait);
    }

    pub(super) fn stopped(&mut self) {
        self.finish = None;
        self.phase = Phase::Stopped;
        self.tell(Event::Stopped);
    }
}
