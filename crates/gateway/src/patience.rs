//! How long processing takes lately, and so how long a call may go unanswered before it is suspected lost.
//!
//! Each second has its own p99, and what counts is the median of the last twenty: a cold start, an outage or a burst makes a
//! few seconds slow and then changes nothing, while processing that is slow all the time is believed to be.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Histograms of answer times, one a second. Recording is one atomic addition.
pub(crate) struct Patience {
    floor: Duration,
    present: [AtomicU32; BUCKETS],
    /// The p99 of the seconds before, the latest last; none where nothing was answered.
    seconds: Mutex<VecDeque<Option<Duration>>>,
    milliseconds: AtomicU32,
}

impl Patience {
    pub(crate) fn new(floor: Duration) -> Self {
        let milliseconds = AtomicU32::new(u32::try_from(floor.as_millis()).unwrap_or(u32::MAX));
        Self {
            floor,
            present: [const { AtomicU32::new(0) }; BUCKETS],
            seconds: Mutex::default(),
            milliseconds,
        }
    }

    /// An answer took this long.
    pub(crate) fn record(&self, took: Duration) {
        if let Some(bucket) = self.present.get(bucket(took)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long an attempt may go without a sign.
    pub(crate) fn current(&self) -> Duration {
        Duration::from_millis(u64::from(self.milliseconds.load(Ordering::Relaxed)))
    }

    /// Reckons anew; called every second. Gives back the p99 as it usually is.
    pub(crate) fn reckon(&self) -> Duration {
        let counts = self.present.each_ref().map(|bucket| u64::from(bucket.swap(0, Ordering::Relaxed)));
        let mut usual: Vec<Duration> = {
            let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
            if seconds.len() >= SECONDS {
                seconds.pop_front();
            }
            seconds.push_back(p99(&counts));
            seconds.iter().copied().flatten().collect()
        };
        usual.sort_unstable();
        // Of an even number the lower one of both.
        let p99 = usual.get(usual.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        let patience = self.floor.max(p99 * 4).min(CEILING.max(self.floor));
        self.milliseconds.store(u32::try_from(patience.as_millis()).unwrap_or(u32::MAX), Ordering::Relaxed);
        p99
    }
}

/// What 99 of 100 were below; none if there were none.
fn p99(counts: &[u64; BUCKETS]) -> Option<Duration> {
    let mut above = counts.iter().sum::<u64>() / 100;
    for (index, count) in counts.iter().enumerate().rev() {
        if *count > above {
            return Some(upper(index));
        }
        above -= count;
    }
    None
}

/// Two buckets for each doubling, from 64 µs on.
fn bucket(took: Duration) -> usize {
    let units = u64::try_from(took.as_micros() / 64).unwrap_or(u64::MAX);
    let Some(log) = units.checked_ilog2() else { return 0 };
    let half = if log == 0 { 0 } else { (units >> (log - 1)) & 1 };
    (1 + 2 * log as usize + usize::try_from(half).unwrap_or(0)).min(BUCKETS - 1)
}

/// The upper end of a bucket.
fn upper(bucket: usize) -> Duration {
    let Some(above) = bucket.checked_sub(1) else { return Duration::from_micros(64) };
    let base = Duration::from_micros(64) * (1 << (above / 2));
    if above % 2 == 0 { base * 3 / 2 } else { base * 2 }
}

const BUCKETS: usize = 44;
/// How many seconds count.
const SECONDS: usize = 20;
/// A processing side that is slower than this is asked about its calls every so often anyway.
const CEILING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn second(patience: &Patience, answers: usize, took: u64) -> Duration {
        for _ in 0..answers {
            patience.record(Duration::from_millis(took));
        }
        patience.reckon()
    }

    #[test]
    fn patience_is_four_times_the_p99_and_not_below_the_floor() {
        let patience = Patience::new(Duration::from_millis(500));
        assert_eq!(patience.current(), Duration::from_millis(500));
        second(&patience, 990, 2);
        assert_eq!(patience.current(), Duration::from_millis(500));
        // One in a hundred is the exception.
        for _ in 0..20 {
            patience.record(Duration::from_millis(2));
            second(&patience, 1, 300);
            for _ in 0..990 {
                patience.record(Duration::from_millis(2));
            }
            assert!(patience.reckon() < Duration::from_millis(450));
        }
        let patience = Patience::new(Duration::from_millis(500));
        for _ in 0..980 {
            patience.record(Duration::from_millis(2));
        }
        let p99 = second(&patience, 20, 300);
        assert!(p99 >= Duration::from_millis(300) && p99 < Duration::from_millis(450), "{p99:?}");
        assert_eq!(patience.current().as_millis(), (p99 * 4).as_millis());
    }

    #[test]
    fn s01_a_cold_start_and_an_outage_are_soon_forgotten() {
        let patience = Patience::new(Duration::from_millis(500));
        for _ in 0..5 {
            second(&patience, 50, 1_500);
        }
        assert_eq!(patience.current(), CEILING);
        for _ in 0..5 {
            second(&patience, 50, 3);
        }
        assert_eq!(patience.current(), Duration::from_millis(500), "as many good seconds as bad ones");
        for _ in 0..10 {
            second(&patience, 50, 3);
        }
        // Eight seconds without answers, then all of them at once.
        for _ in 0..8 {
            second(&patience, 0, 0);
        }
        second(&patience, 300, 8_000);
        assert_eq!(patience.current(), Duration::from_millis(500));
        // What is slow all the time is not suspected.
        for _ in 0..12 {
            second(&patience, 50, 900);
        }
        assert!(patience.current() > Duration::from_secs(3), "{:?}", patience.current());
        // It is forgotten when nothing is heard for long.
        for _ in 0..SECONDS {
            second(&patience, 0, 0);
        }
        assert_eq!(patience.current(), Duration::from_millis(500));
    }

    #[test]
    fn a_time_lies_within_its_bucket() {
        for micros in [0, 63, 64, 95, 96, 128, 191, 192, 1_000, 50_000, 1_000_000, 100_000_000] {
            let took = Duration::from_micros(micros);
            assert!(took <= upper(bucket(took)), "{micros}");
            assert!(upper(bucket(took)) <= took.max(Duration::from_micros(64)) * 2, "{micros}");
        }
    }
}
