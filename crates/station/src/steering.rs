//! How fast time may run so that the central system just keeps up.

use crate::{Figures, Latencies};
use std::time::Duration;

/// How often it is looked whether the central system keeps up.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// It keeps up if 99 of 100 answers take no longer than this.
const GOAL: Duration = Duration::from_millis(250);
/// The slowest and the fastest that full speed means. Beyond an hour a second what the clock rules, such as waiting for a
/// lost line, would be most of life.
const SPEED_MIN: f64 = 1.0;
/// See there.
const SPEED_MAX: f64 = 3600.0;
/// With fewer answers than this nobody can say how long one takes of a hundred.
const ANSWERS_MIN: u64 = 20;

/// Looks at what the stations have seen, and says how fast their time may run.
#[derive(Debug)]
pub(crate) struct Steering {
    figures: Figures,
    latencies: Latencies,
}

impl Steering {
    pub(crate) const fn new(figures: Figures, latencies: Latencies) -> Self {
        Self { figures, latencies }
    }

    /// A speed to begin with.
    pub(crate) const fn clamped(speed: f64) -> f64 {
        speed.clamp(SPEED_MIN, SPEED_MAX)
    }

    /// The speed from now on; none: as it is.
    pub(crate) fn judge(&mut self, speed: f64, figures: Figures, latencies: Latencies) -> Option<f64> {
        let answered = figures.answered + figures.refused - self.figures.answered - self.figures.refused;
        let failed = figures.unanswered > self.figures.unanswered;
        let slowest = latencies.since(&self.latencies).quantile(0.99);
        (self.figures, self.latencies) = (figures, latencies);
        // Without connections nothing can be said about answers.
        if figures.connected == 0 {
            return None;
        }
        let factor = match slowest {
            _ if failed => 0.5,
            Some(slowest) if slowest > GOAL * 4 => 0.6,
            Some(slowest) if slowest > GOAL => 0.85,
            Some(slowest) if slowest * 2 < GOAL && answered >= ANSWERS_MIN => 1.3,
            // Few calls at any speed: nothing is in the way.
            _ if answered < ANSWERS_MIN && slowest.is_none_or(|slowest| slowest < GOAL) => 1.3,
            _ => return None,
        };
        let wanted = Self::clamped(speed * factor);
        ((wanted - speed).abs() > speed * 0.05).then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Statistics;

    /// The speed after so many looks at a central system that answers after `latency(speed)`.
    fn settled(begin: f64, latency: impl Fn(f64) -> Duration) -> f64 {
        let statistics = Statistics::default();
        statistics.connected();
        let mut steering = Steering::new(statistics.figures(), statistics.latencies());
        let mut speed = begin;
        for _ in 0..60 {
            for _ in 0..100 {
                statistics.answered(latency(speed));
            }
            speed = steering.judge(speed, statistics.figures(), statistics.latencies()).unwrap_or(speed);
        }
        speed
    }

    #[test]
    fn it_is_as_fast_as_the_central_system_answers_and_no_faster_than_makes_sense() {
        let quick = settled(10.0, |_| Duration::from_millis(2));
        assert!((quick - SPEED_MAX).abs() < 1e-9, "{quick}");
        let slow = settled(10.0, |_| Duration::from_secs(2));
        assert!((slow - SPEED_MIN).abs() < 1e-9, "{slow}");
        // Half a millisecond more for each time faster: the goal is reached at 500.
        for begin in [2.0, 3000.0] {
            let found = settled(begin, |speed| Duration::from_micros(500).mul_f64(speed));
            assert!((200.0..=520.0).contains(&found), "{found}");
        }
    }

    #[test]
    fn nothing_is_said_of_a_central_system_that_nobody_is_connected_to() {
        let statistics = Statistics::default();
        let mut steering = Steering::new(statistics.figures(), statistics.latencies());
        assert_eq!(steering.judge(60.0, statistics.figures(), statistics.latencies()), None);
        statistics.connected();
        statistics.unanswered();
        let slower = steering.judge(60.0, statistics.figures(), statistics.latencies());
        assert_eq!(slower, Some(30.0));
    }
}
