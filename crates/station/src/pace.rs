//! The stations' own time, which may run faster than the clock.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The slowest that the own time may run.
const SPEED_MIN: f64 = 0.001;
/// And the fastest.
const SPEED_MAX: f64 = 1_000_000.0;

/// A time that all stations of a population share and that begins at zero. Clones are the same time.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    course: RwLock<Course>,
    changes: watch::Sender<()>,
}

/// How it runs since the last change.
#[derive(Clone, Copy, Debug)]
struct Course {
    since: Instant,
    /// What the time was then, in seconds.
    seconds: f64,
    speed: f64,
}

impl Pace {
    /// A time that begins now and runs this much faster than the clock.
    #[must_use]
    pub fn new(speed: f64, begin: Instant) -> Self {
        let course = Course { since: begin, seconds: 0.0, speed: clamped(speed) };
        Self(Arc::new(Shared { course: RwLock::new(course), changes: watch::Sender::new(()) }))
    }

    /// How many seconds of it have passed.
    #[must_use]
    pub fn seconds(&self, now: Instant) -> f64 {
        self.course().seconds(now)
    }

    /// How much faster than the clock it runs now.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.course().speed
    }

    /// Lets it run at another speed from now on.
    pub fn set_speed(&self, speed: f64, now: Instant) {
        {
            let mut course = self.0.course.write().unwrap_or_else(PoisonError::into_inner);
            *course = Course { since: now, seconds: course.seconds(now), speed: clamped(speed) };
        }
        self.0.changes.send_replace(());
    }

    /// How long a duration of its own takes by the clock, as long as the speed stays what it is; at least a moment, so that
    /// no loop can spin.
    #[must_use]
    pub fn real(&self, own: Duration) -> Duration {
        own.div_f64(self.speed()).max(Duration::from_millis(10))
    }

    /// Tells of changes of the speed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    fn course(&self) -> Course {
        // Plain numbers, written at once.
        *self.0.course.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Course {
    fn seconds(&self, now: Instant) -> f64 {
        self.seconds + now.saturating_duration_since(self.since).as_secs_f64() * self.speed
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
        // Another speed changes what comes, not what was.
        pace.set_speed(1.0, begin + minute);
        assert!((pace.seconds(begin + 2 * minute) - 3660.0).abs() < 1e-6);
        assert_eq!(pace.real(minute), minute);
    }
}
