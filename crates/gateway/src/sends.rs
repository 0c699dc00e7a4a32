//! SENDs (2.1) that processing has not acknowledged yet.
//!
//! A station is never told what became of one, so it never repeats one: between its receipt and the worker's sign that it
//! was dealt with, the gateway is the only one who has it. A state machine without I/O or clock, like the desk; but where
//! the desk has one call in hand, SENDs wait for nothing, neither for each other nor for the call beside them.

use crate::desk::{Holding, Presence};
use bytestring::ByteString;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The unacknowledged SENDs of one connection.
#[derive(Debug, Default)]
pub(crate) struct Sends {
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// A SEND that nobody has acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) seq: u64,
    pub(crate) action: ByteString,
    pub(crate) frame: ByteString,
    pub(crate) received: Instant,
    /// 1, 2, …
    pub(crate) attempt: u32,
    since: Instant,
    check: Instant,
}

impl Sends {
    /// Takes one that is handed over now for the first time. False if an older one had to go for it.
    pub(crate) fn take(
        &mut self,
        seq: u64,
        action: ByteString,
        frame: ByteString,
        received: Instant,
        now: Instant,
    ) -> bool {
        self.bytes += frame.len();
        let check = now + RETRY;
        self.waiting.push_back(Waiting { seq, action, frame, received, attempt: 1, since: now, check });
        let mut fits = true;
        while self.waiting.len() > WAITING_MAX || (self.bytes > BYTES_MAX && self.waiting.len() > 1) {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.frame.len();
            fits = false;
        }
        fits
    }

    /// Processing has dealt with it. False if it is not here.
    pub(crate) fn acknowledge(&mut self, seq: u64) -> bool {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.seq == seq) else { return false };
        if let Some(waiting) = self.waiting.remove(at) {
            self.bytes -= waiting.frame.len();
        }
        true
    }

    /// What is to be handed over again now, and how many were given up because their time was over.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        presence: &impl Presence,
        deadline: Duration,
    ) -> (Vec<Waiting>, usize) {
        let before = self.waiting.len();
        let bytes = &mut self.bytes;
        self.waiting.retain(|waiting| {
            let keep = now < waiting.received + deadline;
            if !keep {
                *bytes -= waiting.frame.len();
            }
            keep
        });
        let lost = before - self.waiting.len();
        let mut again = Vec::new();
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.check <= now) {
            match presence.holding(waiting.seq, waiting.since, now) {
                Holding::Held => waiting.check = now + RETRY,
                Holding::Unsure(until) => waiting.check = until.max(now + RETRY / 10),
                Holding::Lost => {
                    waiting.attempt += 1;
                    waiting.since = now;
                    waiting.check = now + RETRY * waiting.attempt.min(8);
                    again.push(waiting.clone());
                }
            }
        }
        (again, lost)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        // Deadlines need no look of their own: the checks come at least every eight seconds.
        self.waiting.iter().map(|waiting| waiting.check).min()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// How many may be unacknowledged. A station that sends faster than processing takes loses the oldest ones, and that is
/// counted: they are samples, and the newest tell most.
const WAITING_MAX: usize = 64;
/// And how many bytes of them.
const BYTES_MAX: usize = 256 * 1024;
/// How long one may go without a sign before we ask who has it.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Holding);
    impl Presence for Says {
        fn holding(&self, _: u64, _: Instant, _: Instant) -> Holding {
            self.0
        }
    }

    const DEADLINE: Duration = Duration::from_secs(25);

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn take(sends: &mut Sends, seq: u64, bytes: usize, now: Instant) -> bool {
        sends.take(seq, "NotifyPeriodicEventStream".into(), "x".repeat(bytes).into(), now, now)
    }

    /// F16
    #[test]
    fn what_was_acknowledged_is_forgotten_and_the_rest_goes_again() {
        let (mut sends, now) = (Sends::default(), start());
        assert!(take(&mut sends, 1, 10, now) && take(&mut sends, 2, 10, now));
        assert!(sends.acknowledge(1) && !sends.acknowledge(1));
        let due = sends.poll_timeout().unwrap();
        assert_eq!(due, now + RETRY);
        let (again, lost) = sends.handle_timeout(due, &Says(Holding::Lost), DEADLINE);
        assert_eq!((again.len(), again[0].seq, again[0].attempt, lost), (1, 2, 2, 0));
        assert!(sends.acknowledge(2) && sends.is_empty() && sends.bytes == 0);
        assert_eq!(sends.poll_timeout(), None);
    }

    #[test]
    fn what_a_worker_names_does_not_go_again() {
        let (mut sends, now) = (Sends::default(), start());
        take(&mut sends, 1, 10, now);
        let due = now + RETRY;
        for holding in [Holding::Held, Holding::Unsure(now + RETRY * 2)] {
            assert!(sends.handle_timeout(due, &Says(holding), DEADLINE).0.is_empty());
            assert!(sends.poll_timeout().unwrap() > due);
        }
    }

    #[test]
    fn what_nobody_takes_in_time_is_given_up_and_counted() {
        let (mut sends, now) = (Sends::default(), start());
        take(&mut sends, 1, 10, now);
        let (mut at, mut attempts, mut lost) = (now, 1, 0);
        while let Some(due) = sends.poll_timeout() {
            at = due;
            let (again, gone) = sends.handle_timeout(at, &Says(Holding::Lost), DEADLINE);
            attempts += again.len();
            lost += gone;
        }
        assert_eq!(lost, 1);
        assert!(at < now + DEADLINE + RETRY * 8 && (5..20).contains(&attempts), "{attempts}");
        assert_eq!(sends.bytes, 0);
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many_or_they_are_too_long() {
        let (mut sends, now) = (Sends::default(), start());
        for seq in 0..WAITING_MAX as u64 {
            assert!(take(&mut sends, seq, 1, now));
        }
        assert!(!take(&mut sends, 1000, 1, now));
        assert_eq!(sends.len(), WAITING_MAX);
        assert!(!sends.acknowledge(0));
        assert!(!take(&mut sends, 1001, BYTES_MAX + 1, now));
        assert_eq!(sends.len(), 1, "the newest stays, however long");
    }
}
