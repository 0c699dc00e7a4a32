//! How long a station waits before it connects again (2.0.1 and 2.1, part 4, 5.3).

use std::time::Duration;

/// How long a station waits before it connects again.
///
/// The first wait after a lost connection is `wait_minimum` and something at random up to `random_range`. Each failure
/// doubles it, at most `repeat_times` times, with a new random part each time; then it stays. A connection begins
/// everything anew. 1.6 asks for "appropriate back-off", which this is as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// `RetryBackOffWaitMinimum`. Default 10 s.
    pub wait_minimum: Duration,
    /// `RetryBackOffRandomRange`. Default 10 s. Zero brings all stations back at the same instant.
    pub random_range: Duration,
    /// `RetryBackOffRepeatTimes`. Default 4: with 10 s, up to 160 s.
    pub repeat_times: u32,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { wait_minimum: Duration::from_secs(10), random_range: Duration::from_secs(10), repeat_times: 4 }
    }
}

impl BackOff {
    /// The wait after so many failures in a row; `random` between 0 and 1. The lost connection itself is no failure.
    #[must_use]
    pub fn wait(&self, failures: u32, random: f64) -> Duration {
        // A month is for ever; without a bound a generous configuration would overflow.
        const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
        let doubled = self.wait_minimum.saturating_mul(1 << failures.min(self.repeat_times).min(20));
        doubled.min(LONGEST) + self.random_range.min(LONGEST).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_until_it_was_doubled_often_enough() {
        let second = Duration::from_secs(1);
        let back_off = BackOff { wait_minimum: second, random_range: 2 * second, repeat_times: 3 };
        let waits: Vec<u64> = (0..6).map(|failures| back_off.wait(failures, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
        assert_eq!(back_off.wait(1, 0.5), 3 * second);
        let wild =
            BackOff { wait_minimum: Duration::MAX, random_range: Duration::MAX, repeat_times: u32::MAX };
        assert!(wild.wait(u32::MAX, 1.0) > second, "does not overflow");
    }
}
