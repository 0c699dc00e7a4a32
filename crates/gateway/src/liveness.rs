//! Pings, and when a silent station counts as gone (L02).

use std::time::{Duration, Instant};

/// What liveness goes by; the same for all connections.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// A moment that all connections have in common.
    pub(crate) epoch: Instant,
    /// How often a station is pinged, unless it was heard in the second half of this time; zero for never.
    pub(crate) ping_interval: Duration,
    /// How long it may be silent.
    pub(crate) silence_max: Duration,
    /// Whether other frames make up for missing pongs.
    pub(crate) require_pong: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Send a ping.
    Ping,
    /// The station is gone.
    Gone(&'static str),
}

/// The signs of life of one connection.
#[derive(Debug)]
pub(crate) struct Liveness {
    heard: Instant,
    next_ping: Option<Instant>,
    unanswered: u8,
}

impl Liveness {
    /// `share` of 0 to 1: where in the interval this connection's pings lie, so that not all are sent at once.
    pub(crate) fn new(now: Instant, share: f64, rules: &Rules) -> Self {
        let next_ping = (!rules.ping_interval.is_zero())
            .then(|| rules.together(now + rules.ping_interval.mul_f64(share.clamp(0.1, 1.0))));
        Self { heard: now, next_ping, unanswered: 0 }
    }

    /// A frame came, whichever.
    pub(crate) const fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A pong came.
    pub(crate) const fn pong(&mut self) {
        self.unanswered = 0;
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, rules: &Rules) -> Option<Sign> {
        if now >= self.heard + rules.silence_max {
            return Some(Sign::Gone("no sign of life"));
        }
        let next = self.next_ping?;
        if now < next {
            return None;
        }
        if rules.require_pong && self.unanswered >= PINGS_UNANSWERED_MAX {
            return Some(Sign::Gone("pings unanswered"));
        }
        // After a long sleep of the machine: one ping, not all that were missed.
        self.next_ping =
            Some(rules.together((next + rules.ping_interval).max(now + rules.ping_interval / 2)));
        if !rules.require_pong && now < self.heard + rules.ping_interval / 2 {
            // It has just been heard: a pong would add nothing. Its place among the others' pings it keeps.
            return None;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        Some(Sign::Ping)
    }

    /// When to call [`Liveness::handle_timeout`].
    pub(crate) fn poll_timeout(&self, rules: &Rules) -> Instant {
        let silent = self.heard + rules.silence_max;
        self.next_ping.map_or(silent, |ping| ping.min(silent))
    }
}

impl Rules {
    /// A little later, at a moment that many connections share: a thread that is woken for each of ten thousand pings by
    /// itself spends more on waking than on pinging.
    fn together(&self, at: Instant) -> Instant {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let grain = nanos(self.ping_interval / GRAINS).max(1);
        let past = nanos(at.saturating_duration_since(self.epoch)) % grain;
        at + Duration::from_nanos(if past == 0 { 0 } else { grain - past })
    }
}

const PINGS_UNANSWERED_MAX: u8 = 3;
/// Into so many moments the pings of an interval are gathered: of ten thousand connections forty are pinged at a time.
const GRAINS: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            epoch: start(),
            ping_interval: Duration::from_secs(30),
            silence_max: Duration::from_secs(90),
            require_pong: false,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of fake time")]
    fn start() -> Instant {
        Instant::now()
    }

    /// Runs for ten minutes; the station does what `react` says after each ping. Returns pings and the end.
    fn run(rules: &Rules, react: impl Fn(&mut Liveness, Instant)) -> (Vec<u64>, Option<(&'static str, u64)>) {
        let start = start();
        let mut liveness = Liveness::new(start, 0.5, rules);
        let mut pings = Vec::new();
        loop {
            let now = liveness.poll_timeout(rules);
            if now > start + Duration::from_secs(600) {
                return (pings, None);
            }
            match liveness.handle_timeout(now, rules) {
                Some(Sign::Ping) => {
                    pings.push((now - start).as_secs());
                    react(&mut liveness, now);
                }
                Some(Sign::Gone(why)) => return (pings, Some((why, (now - start).as_secs()))),
                None => panic!("woken for nothing"),
            }
        }
    }

    #[test]
    fn l02_pings_come_at_their_offset_and_then_at_the_interval() {
        let (pings, end) = run(&rules(), |liveness, now| liveness.heard(now));
        assert_eq!(end, None);
        assert_eq!(pings[..4], [15, 45, 75, 105]);
    }

    #[test]
    fn l02_a_station_that_says_nothing_is_gone() {
        let (pings, end) = run(&rules(), |_, _| {});
        assert_eq!((pings.len(), end), (3, Some(("no sign of life", 90))));
    }

    #[test]
    fn l02_any_frame_counts_as_life_unless_a_pong_is_required() {
        let strict = Rules { require_pong: true, ..rules() };
        let (_, end) = run(&rules(), |liveness, now| liveness.heard(now));
        assert_eq!(end, None);
        let (_, end) = run(&strict, |liveness, now| liveness.heard(now));
        assert_eq!(end, Some(("pings unanswered", 105)));
        let (_, end) = run(&strict, |liveness, now| {
            liveness.heard(now);
            liveness.pong();
        });
        assert_eq!(end, None);
    }

    #[test]
    fn l02_a_station_that_has_just_been_heard_is_not_pinged_and_one_that_falls_silent_is() {
        let start = start();
        let rules = Rules { epoch: start, ..rules() };
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(start, 0.5, &rules);
        liveness.heard(at(10));
        assert_eq!(liveness.handle_timeout(at(15), &rules), None);
        liveness.heard(at(31));
        assert_eq!(liveness.handle_timeout(at(45), &rules), None);
        assert_eq!(liveness.handle_timeout(at(75), &rules), Some(Sign::Ping));
        let strict = Rules { require_pong: true, ..rules };
        let mut liveness = Liveness::new(start, 0.5, &strict);
        liveness.heard(at(14));
        assert_eq!(liveness.handle_timeout(at(15), &strict), Some(Sign::Ping));
    }

    #[test]
    fn connections_wake_at_moments_that_they_share_and_never_too_early() {
        let start = start();
        let rules = Rules { epoch: start, ..rules() };
        let mut moments = std::collections::BTreeSet::new();
        for share in 0..1000_u16 {
            let begun = start + Duration::from_millis(u64::from(share) * 7);
            let liveness = Liveness::new(begun, f64::from(share) / 1000.0, &rules);
            let due = begun + rules.ping_interval.mul_f64((f64::from(share) / 1000.0).max(0.1));
            let wakes = liveness.poll_timeout(&rules);
            assert!(wakes >= due && wakes < due + rules.ping_interval / GRAINS);
            moments.insert(wakes);
        }
        assert!(moments.len() < 320, "{}", moments.len());
    }

    #[test]
    fn pings_can_be_turned_off() {
        let rules = Rules { ping_interval: Duration::ZERO, ..rules() };
        let (pings, end) = run(&rules, |_, _| {});
        assert_eq!((pings.len(), end), (0, Some(("no sign of life", 90))));
    }
}
