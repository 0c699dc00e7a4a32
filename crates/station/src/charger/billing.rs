//! Messages that must not get lost: kept until they are answered, sent in order.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How many wait at most. Beyond it readings between start and end of a transaction are left out, as the
/// specification lets a station do that runs out of memory (2.0.1 E04.FR.07).
const WAITING_MAX: usize = 10_000;

/// What a billing message tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A transaction has begun.
    Start {
        /// Whether a command began it, and the id that the command carried (2.0.1).
        remote: Option<Option<i64>>,
        /// What kind of tag the driver showed (2.0.1).
        token_type: String,
        /// The reservation that it uses up.
        reservation: Option<i64>,
    },
    /// The meter was read.
    Meter {
        /// What it showed.
        sample: Sample,
        /// Why it was read.
        cause: Cause,
    },
    /// Energy flows or does not (2.x, which tells it within transactions).
    State {
        /// In the words of 2.x.
        state: &'static str,
    },
    /// A transaction has ended.
    Stop {
        /// Why.
        reason: Reason,
    },
}

/// Why a transaction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The driver ended it.
    Local,
    /// A command ended it.
    Remote,
    /// The central system did not accept the driver.
    DeAuthorized,
    /// The station was reset and finished first.
    SoftReset,
    /// The station was reset at once.
    HardReset,
    /// The power failed, or the station is being switched off.
    PowerLoss,
    /// The connector broke.
    Fault {
        /// Whether current went to earth, which 2.x has a word for.
        ground: bool,
    },
    /// A command unlocked the connector.
    Unlock,
    /// New firmware is installed.
    Reboot,
}

/// What a meter showed beside the energy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// What flows, in W.
    pub(crate) power_w: u64,
    /// On each phase, in A.
    pub(crate) current_a: f64,
    /// What the station would give, in W.
    pub(crate) offered_w: u64,
    /// How full the car is, in per cent.
    pub(crate) soc: Option<u8>,
}

/// Why a meter was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was time.
    Periodic,
    /// The clock stood at a multiple of the interval.
    Clock,
    /// Somebody asked.
    Trigger,
}

/// A billing message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The number of its transaction in the books.
    pub(crate) transaction: u64,
    /// What it tells.
    pub(crate) kind: Kind,
    /// The meter at that time, in Wh.
    pub(crate) meter_wh: u64,
    /// When, in milliseconds since 1970.
    pub(crate) unix_ms: i64,
    /// Which message of its transaction it is (2.0.1).
    pub(crate) seq_no: u32,
    /// Whether it happened while the station was offline.
    pub(crate) offline: bool,
    /// Whether it was told before.
    pub(crate) repeated: bool,
}

/// What became of an attempt to send the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It was answered.
    Answered,
    /// It was refused, or not answered in time.
    Failed,
    /// The connection went; it does not count as an attempt.
    Lost,
}

/// Billing messages in the order in which things happened.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Entry>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Queue {
    /// Adds a message at the end.
    pub(crate) fn push(&mut self, entry: Entry) {
        if self.waiting.len() >= WAITING_MAX {
            // The first may be on its way and stays.
            let optional = |entry: &Entry| matches!(entry.kind, Kind::Meter { .. } | Kind::State { .. });
            let middle = self.waiting.iter().skip(1).position(optional);
            match middle {
                Some(index) => drop(self.waiting.remove(index + 1)),
                None if optional(&entry) => return,
                // Only starts and ends are left. Better too many than an unbilled transaction: cars cannot come
                // faster than one per connector and session.
                None => {}
            }
        }
        self.waiting.push_back(entry);
    }

    /// The first message, if it may be sent now.
    pub(crate) fn first(&self, now: Instant) -> Option<&Entry> {
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return None;
        }
        self.waiting.front()
    }

    /// When the first message may be sent, if it must wait.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.waiting.is_empty())
    }

    /// The new connection is a new chance: nothing need wait.
    pub(crate) fn connected(&mut self) {
        self.not_before = None;
    }

    /// Takes note of what became of the first message; gives it out when it is dealt with, and whether it was given up.
    pub(crate) fn attempted(
        &mut self,
        attempt: Attempt,
        attempts_max: u32,
        interval: Duration,
        now: Instant,
    ) -> Option<(Entry, bool)> {
        match attempt {
            Attempt::Lost => return None,
            Attempt::Failed => {
                self.failures += 1;
                if self.failures < attempts_max {
                    // Specification: the interval times the number of transmissions so far (1.6 section 3.7.1).
                    self.not_before = Some(now + interval * self.failures);
                    return None;
                }
            }
            Attempt::Answered => {}
        }
        self.failures = 0;
        self.not_before = None;
        Some((self.waiting.pop_front()?, attempt == Attempt::Failed))
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether any of this transaction waits.
    pub(crate) fn holds(&self, transaction: u64) -> bool {
        self.waiting.iter().any(|entry| entry.transaction == transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(transaction: u64, kind: Kind) -> Entry {
        Entry { transaction, kind, meter_wh: 0, unix_ms: 0, seq_no: 0, offline: false, repeated: false }
    }

    #[expect(clippy::disallowed_methods, reason = "where a fake clock begins does not matter")]
    fn instant() -> Instant {
        Instant::now()
    }

    const METER: Kind = Kind::Meter {
        sample: Sample { power_w: 0, current_a: 0.0, offered_w: 0, soc: None },
        cause: Cause::Periodic,
    };

    #[test]
    fn a_failed_message_is_sent_again_later_and_given_up_in_the_end() {
        let mut queue = Queue::default();
        let start = instant();
        let second = Duration::from_secs(1);
        queue.push(entry(1, METER));
        queue.push(entry(2, METER));
        assert_eq!(queue.attempted(Attempt::Failed, 3, second, start), None);
        assert_eq!(queue.first(start), None);
        assert_eq!(queue.first(start + second).unwrap().transaction, 1);
        assert_eq!(queue.attempted(Attempt::Lost, 3, second, start + second), None);
        assert_eq!(queue.attempted(Attempt::Failed, 3, second, start + second), None);
        assert_eq!(queue.not_before(), Some(start + second * 3));
        let (given_up, was_given_up) =
            queue.attempted(Attempt::Failed, 3, second, start + second * 3).unwrap();
        assert_eq!((given_up.transaction, was_given_up), (1, true));
        assert_eq!(queue.first(start + second * 3).unwrap().transaction, 2);
    }

    #[test]
    fn readings_are_left_out_before_anything_else_is_lost() {
        let mut queue = Queue::default();
        queue.push(entry(0, METER));
        for transaction in 1..WAITING_MAX as u64 {
            queue.push(entry(
                transaction,
                Kind::Start { remote: None, token_type: String::new(), reservation: None },
            ));
            queue.push(entry(transaction, METER));
        }
        for transaction in 1..WAITING_MAX as u64 {
            assert!(
                queue.waiting.iter().any(|entry| entry.transaction == transaction && entry.kind != METER)
            );
        }
        assert_eq!(queue.first(instant()).unwrap().transaction, 0, "the first may be on its way");
        assert!(queue.len() <= WAITING_MAX + 1);
    }
}
