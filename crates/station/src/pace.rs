//! The stations' own time, which may run faster than the clock.

use std::time::{Duration, Instant};

/// The slowest that the own time may run.
const SPEED_MIN: f64 = 0.001;
/// And the fastest.
const SPEED_MAX: f64 = 1_000_000.0;

/// A time that all stations of a population share and that begins at zero.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    begin: Instant,
    speed: f64,
}

impl Pace {
    /// A time that begins now and runs this much faster than the clock.
    #[must_use]
    pub const fn new(speed: f64, begin: Instant) -> Self {
        Self { begin, speed: clamped(speed) }
    }

    /// How many seconds of it have passed.
    #[must_use]
    pub fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.begin).as_secs_f64() * self.speed
    }

    /// How much faster than the clock it runs now.
    #[must_use]
    pub const fn speed(&self) -> f64 {
        self.speed
    }

    /// How long a duration of its own takes by the clock; at least a moment, so that no loop can spin.
    #[must_use]
    pub fn real(&self, own: Duration) -> Duration {
        own.div_f64(self.speed()).max(Duration::from_millis(10))
    }
}

const fn clamped(speed: f64) -> f64 {
    if speed > SPEED_MIN { speed.min(SPEED_MAX) } else { SPEED_MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "where a clock begins does not matter")]
    fn an_hour_takes_a_minute_at_sixty() {
        let begin = Instant::now();
        let pace = Pace::new(60.0, begin);
        let minute = Duration::from_secs(60);
        assert!((pace.seconds(begin + minute) - 3600.0).abs() < 1e-6);
        assert_eq!(pace.real(60 * minute), minute);
        for (speed, clamped) in [(f64::INFINITY, SPEED_MAX), (f64::NAN, SPEED_MIN), (-1.0, SPEED_MIN)] {
            assert!((Pace::new(speed, begin).speed() - clamped).abs() < 1e-9, "{speed}");
        }
        assert_eq!(Pace::new(f64::INFINITY, begin).real(minute), Duration::from_millis(10));
    }
}
