//! How long processing takes lately, and so how long a call may go unanswered before it is suspected lost.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// A histogram of answer times over the last ten to twenty seconds. Recording is one atomic addition.
pub(crate) struct Patience {
    floor: Duration,
    present: [AtomicU32; BUCKETS],
    previous: [AtomicU32; BUCKETS],
    milliseconds: AtomicU32,
}

impl Patience {
    pub(crate) fn new(floor: Duration) -> Self {
        let milliseconds = AtomicU32::new(u32::try_from(floor.as_millis()).unwrap_or(u32::MAX));
        Self {
            floor,
            present: [const { AtomicU32::new(0) }; BUCKETS],
            previous: [const { AtomicU32::new(0) }; BUCKETS],
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

    /// Reckons anew; called every second. `turn`: a new window begins, which happens every ten.
    pub(crate) fn reckon(&self, turn: bool) -> Duration {
        let counts: Vec<u64> = self
            .present
            .iter()
            .zip(&self.previous)
            .map(|(a, b)| u64::from(a.load(Ordering::Relaxed)) + u64::from(b.load(Ordering::Relaxed)))
            .collect();
        let total: u64 = counts.iter().sum();
        let mut above = total / 100;
        let mut p99 = Duration::ZERO;
        for (index, count) in counts.iter().enumerate().rev() {
            if *count > above {
                p99 = upper(index);
                break;
            }
            above -= count;
        }
        let patience = self.floor.max(p99 * 4).min(CEILING.max(self.floor));
        self.milliseconds.store(u32::try_from(patience.as_millis()).unwrap_or(u32::MAX), Ordering::Relaxed);
        if turn {
            for (present, previous) in self.present.iter().zip(&self.previous) {
                previous.store(present.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        p99
    }
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
/// A processing side that is slower than this is asked about its calls every so often anyway.
const CEILING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_four_times_the_p99_and_not_below_the_floor() {
        let patience = Patience::new(Duration::from_millis(500));
        assert_eq!(patience.current(), Duration::from_millis(500));
        for _ in 0..990 {
            patience.record(Duration::from_millis(2));
        }
        patience.reckon(false);
        assert_eq!(patience.current(), Duration::from_millis(500));
        for _ in 0..20 {
            patience.record(Duration::from_millis(300));
        }
        let p99 = patience.reckon(true);
        assert!(p99 >= Duration::from_millis(300) && p99 < Duration::from_millis(450), "{p99:?}");
        assert_eq!(patience.current().as_millis(), (p99 * 4).as_millis());
        // It stays for the next window and is forgotten after that.
        patience.reckon(true);
        patience.reckon(true);
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
