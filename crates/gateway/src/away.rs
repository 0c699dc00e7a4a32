//! Whether anybody takes calls, and since when nobody has.

use std::sync::atomic::{AtomicI64, Ordering};

/// Since when nobody takes calls, all in milliseconds of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Away {
    /// 0 while somebody does.
    since: AtomicI64,
    /// For which time of that kind it was said.
    said: AtomicI64,
    /// When the last station was let in although nobody takes calls.
    tried: AtomicI64,
}

impl Away {
    /// Nobody could take a call. True if that is to be said now: once, when it has lasted. One call that a function turns
    /// down while it takes others is no news.
    pub(crate) fn nobody(&self, now_ms: i64) -> bool {
        // Not 0, even in the first millisecond.
        let now_ms = now_ms + 1;
        let since = match self.since.compare_exchange(0, now_ms, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => now_ms,
            Err(since) => since,
        };
        now_ms - since >= SAID_AFTER_MS && self.said.swap(since, Ordering::Relaxed) != since
    }

    /// Somebody did. Whether nobody had before; and whether that was said.
    pub(crate) fn somebody(&self) -> Option<bool> {
        if self.since.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let since = self.since.swap(0, Ordering::Relaxed);
        (since != 0).then(|| self.said.load(Ordering::Relaxed) == since)
    }

    /// For how many milliseconds nobody has.
    pub(crate) fn for_ms(&self, now_ms: i64) -> i64 {
        match self.since.load(Ordering::Relaxed) {
            0 => 0,
            since => (now_ms + 1).saturating_sub(since).max(0),
        }
    }

    /// Whether a station is to be let in now although nobody takes calls: one in each `pause_ms`.
    pub(crate) fn may_try(&self, now_ms: i64, pause_ms: i64) -> bool {
        let last = self.tried.load(Ordering::Relaxed);
        let due = now_ms - last.max(self.since.load(Ordering::Relaxed)) >= pause_ms;
        due && self.tried.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A call that nobody takes is handed over again within a second: by then it is known whether that was the exception.
const SAID_AFTER_MS: i64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nobody_takes_calls_is_said_once_it_lasts_and_so_is_that_somebody_does_again() {
        let away = Away::default();
        assert_eq!(away.somebody(), None);
        let said: Vec<_> = [0, 50, 150, 350, 750, 1_550, 2_550].map(|now| away.nobody(now)).into();
        assert_eq!(said, [false, false, false, false, false, true, false]);
        assert_eq!(away.for_ms(2_550), 2_550);
        assert_eq!(away.somebody(), Some(true));
        assert_eq!((away.somebody(), away.for_ms(2_600)), (None, 0));
        assert!(!away.nobody(3_000) && away.nobody(4_000), "the next time, too");
    }

    #[test]
    fn a_function_that_turns_every_other_call_down_fills_no_log() {
        let away = Away::default();
        for now in 0..1_000 {
            assert!(!away.nobody(now * 700));
            assert_eq!(away.somebody(), Some(false));
        }
    }

    #[test]
    fn one_station_in_a_while_is_let_in_all_the_same() {
        let away = Away::default();
        assert!(!away.nobody(0));
        let let_in = (0..30).filter(|seconds| away.may_try(seconds * 1_000, 10_000)).count();
        assert_eq!(let_in, 2);
    }
}
