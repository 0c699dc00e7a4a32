//! What all stations of a process do together, counted as they do it: for a display, and for a summary in the end.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Steps within a doubling: a latency is known to about six per cent.
const STEPS: usize = 16;
/// From a microsecond to about an hour.
const BUCKETS: usize = 32 * STEPS;

/// Counters that many stations share.
#[derive(Debug)]
pub struct Statistics {
    connected: AtomicU64,
    charging: AtomicU64,
    energy_wh: AtomicU64,
    started: AtomicU64,
    ended: AtomicU64,
    connections: AtomicU64,
    failures: AtomicU64,
    boots: AtomicU64,
    calls: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    lost: AtomicU64,
    given_up: AtomicU64,
    commands: AtomicU64,
    faults: AtomicU64,
    latencies: Box<[AtomicU64]>,
    last_failure: Mutex<Option<String>>,
}

/// The counters at one moment. All are totals, but for `connected` and `charging`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Stations that are connected now.
    pub connected: u64,
    /// Transactions that go on now.
    pub charging: u64,
    /// What ended transactions have charged, in Wh.
    pub energy_wh: u64,
    /// Transactions that have begun.
    pub started: u64,
    /// Transactions that have ended.
    pub ended: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Connections that could not be made.
    pub failures: u64,
    /// Accepted boots.
    pub boots: u64,
    /// Calls that were sent.
    pub calls: u64,
    /// Calls that got a result.
    pub answered: u64,
    /// Calls that got an error.
    pub refused: u64,
    /// Calls that got no answer in time, or one that nobody understands.
    pub unanswered: u64,
    /// Calls whose connection went before the answer came.
    pub lost: u64,
    /// Billing messages that were given up.
    pub given_up: u64,
    /// Calls that came from the central system.
    pub commands: u64,
    /// Faults that happened.
    pub faults: u64,
}

impl Default for Statistics {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            connected: zero(),
            charging: zero(),
            energy_wh: zero(),
            started: zero(),
            ended: zero(),
            connections: zero(),
            failures: zero(),
            boots: zero(),
            calls: zero(),
            answered: zero(),
            refused: zero(),
            unanswered: zero(),
            lost: zero(),
            given_up: zero(),
            commands: zero(),
            faults: zero(),
            latencies: (0..BUCKETS).map(|_| zero()).collect(),
            last_failure: Mutex::default(),
        }
    }
}

impl Statistics {
    /// The counters as they are now.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        Figures {
            connected: of(&self.connected),
            charging: of(&self.charging),
            energy_wh: of(&self.energy_wh),
            started: of(&self.started),
            ended: of(&self.ended),
            connections: of(&self.connections),
            failures: of(&self.failures),
            boots: of(&self.boots),
            calls: of(&self.calls),
            answered: of(&self.answered),
            refused: of(&self.refused),
            unanswered: of(&self.unanswered),
            lost: of(&self.lost),
            given_up: of(&self.given_up),
            commands: of(&self.commands),
            faults: of(&self.faults),
        }
    }

    /// How long answers took so far.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        Latencies(self.latencies.iter().map(|bucket| bucket.load(Relaxed)).collect())
    }

    pub(crate) fn connected(&self) {
        self.connected.fetch_add(1, Relaxed);
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn disconnected(&self) {
        self.connected.fetch_sub(1, Relaxed);
    }

    /// Why the last connection that failed could not be made.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn failed_to_connect(&self, why: String) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn booted(&self) {
        self.boots.fetch_add(1, Relaxed);
    }

    pub(crate) fn started(&self) {
        self.started.fetch_add(1, Relaxed);
        self.charging.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended(&self, energy_wh: u64) {
        self.ended.fetch_add(1, Relaxed);
        self.charging.fetch_sub(1, Relaxed);
        self.energy_wh.fetch_add(energy_wh, Relaxed);
    }

    pub(crate) fn called(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn answered(&self, after: Duration) {
        self.answered.fetch_add(1, Relaxed);
        self.latency(after);
    }

    pub(crate) fn refused(&self, after: Duration) {
        self.refused.fetch_add(1, Relaxed);
        self.latency(after);
    }

    pub(crate) fn unanswered(&self) {
        self.unanswered.fetch_add(1, Relaxed);
    }

    pub(crate) fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    pub(crate) fn gave_up(&self) {
        self.given_up.fetch_add(1, Relaxed);
    }

    pub(crate) fn commanded(&self) {
        self.commands.fetch_add(1, Relaxed);
    }

    pub(crate) fn fault(&self) {
        self.faults.fetch_add(1, Relaxed);
    }

    fn latency(&self, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX).max(1);
        if let Some(bucket) = self.latencies.get(bucket(micros)) {
            bucket.fetch_add(1, Relaxed);
        }
    }
}

/// Which bucket a number of microseconds falls into.
fn bucket(micros: u64) -> usize {
    let octave = micros.ilog2() as usize;
    let within = if octave >= 4 { (micros >> (octave - 4)) & 15 } else { (micros << (4 - octave)) & 15 };
    (octave * STEPS + usize::try_from(within).unwrap_or_default()).min(BUCKETS - 1)
}

/// The upper end of a bucket, in microseconds.
fn upper(bucket: usize) -> u64 {
    let (octave, within) = (bucket / STEPS, (bucket % STEPS) as u64);
    ((16 + within + 1) << octave) >> 4
}

/// How long answers took, as counts per bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// What this share of the answers did not exceed, `0.99` for the 99th percentile; none if there were none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.0.iter().sum();
        if total == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 answers")]
        let enough = share.clamp(0.0, 1.0) * total as f64;
        let mut seen = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 answers")]
            if seen > 0 && seen as f64 >= enough {
                return Some(Duration::from_micros(upper(bucket)));
            }
        }
        None
    }

    /// Only what came since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().zip(&earlier.0).map(|(now, then)| now.saturating_sub(*then)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_one_step_above_the_truth() {
        let statistics = Statistics::default();
        assert_eq!(statistics.latencies().quantile(0.5), None);
        for millis in 1..=1000 {
            statistics.answered(Duration::from_millis(millis));
        }
        for (share, truth) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = statistics.latencies().quantile(share).unwrap();
            let truth = Duration::from_millis(truth);
            assert!(found >= truth && found <= truth.mul_f64(1.07), "{share}: {found:?}");
        }
        let earlier = statistics.latencies();
        statistics.answered(Duration::from_micros(3));
        let since = statistics.latencies().since(&earlier).quantile(0.5).unwrap();
        assert!(since <= Duration::from_micros(4), "{since:?}");
    }

    #[test]
    fn buckets_rise_with_what_falls_into_them() {
        let mut last = 0;
        for micros in 1..100_000 {
            let bucket = bucket(micros);
            assert!(bucket >= last, "{micros}");
            assert!(upper(bucket) >= micros, "{micros} {}", upper(bucket));
            last = bucket;
        }
    }
}
