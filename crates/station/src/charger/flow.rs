//! Energy: what flows, what limits it, and how it is read.

use super::{Cause, Charger, Kind, Moment, Purpose};
use crate::model::profile::Running;
use std::time::Duration;

/// How long a car's appetite is taken to stay the same.
const STEP_HOURS: f64 = 1.0 / 12.0;
/// How often what flows is judged again, in the own time.
const LOOK: Duration = Duration::from_secs(600);

impl Charger {
    /// Energy flows since the last time somebody looked.
    pub(super) fn flow(&mut self, now: Moment) {
        let seconds = self.pace.seconds(now.at);
        let hours = (seconds - self.ticked).max(0.0) / 3600.0;
        self.ticked = seconds;
        if hours <= 0.0 || self.connectors.iter().all(|one| one.session.is_none()) {
            return;
        }
        let mut books = self.books.lock();
        for connector in &mut self.connectors {
            let Some(session) = &mut connector.session else { continue };
            let mut left = hours;
            while left > 0.0 {
                let step = left.min(STEP_HOURS);
                let taken = session.vehicle.take(session.offered_w, step);
                connector.register_wh += taken;
                session.charged_wh += taken;
                left -= step;
            }
            let number = session.transaction;
            let meter_wh = connector.meter_wh();
            if let Some(transaction) = books.transactions.get_mut(&number) {
                transaction.meter_wh = meter_wh;
            }
        }
    }

    /// What may flow from now on: the least of what connector, station and profiles allow.
    pub(super) fn judge_flow(&mut self, now: Moment) {
        let active = self.connectors.iter().filter(|one| one.session.is_some()).count();
        if active == 0 {
            return;
        }
        let running = self.running();
        let station = self.profiles.station(now.unix_ms);
        let built = self.station_w();
        let change = self.profiles.next_change(&running, now.unix_ms).map(|at_ms| {
            now.at + Duration::from_millis(u64::try_from(at_ms - now.unix_ms).unwrap_or_default().max(1))
        });
        let look = now.at + self.pace.real(LOOK);
        let mut changed = Vec::new();
        for connector in &mut self.connectors {
            let Some(session) = &mut connector.session else { continue };
            let here = running.iter().find(|one| one.connector == connector.id);
            let phases = session.vehicle.phases();
            #[expect(clippy::cast_precision_loss, reason = "a station has a few connectors")]
            let share = 1.0 / active as f64;
            let own = self.profiles.connector(connector.id, here, now.unix_ms);
            let limits = [
                Some(connector.power_w),
                Some(built * share),
                // The station's limit is one on the sum (2.0.1 K04.FR.05).
                station.map(|limit| limit.watts(3) * share),
                own.map(|limit| limit.watts(phases)),
            ];
            let offered = limits.into_iter().flatten().fold(f64::MAX, f64::min);
            let offered = if session.is_over_limit() { 0.0 } else { offered };
            session.offered_w = if offered < session.vehicle.least_w() { 0.0 } else { offered };
            let full = session.vehicle.hours_left(session.offered_w).map(|hours| {
                now.at + self.pace.real(Duration::from_secs_f64((hours * 3600.0).clamp(0.0, 1e7)))
            });
            let limit = session.limit_wh.filter(|_| session.power_w() > 0.0).map(|limit| {
                let hours = (limit - session.charged_wh).max(0.0) / session.power_w();
                now.at + self.pace.real(Duration::from_secs_f64((hours * 3600.0).clamp(0.0, 1e7)))
            });
            session.look_at = [Some(look), full, change, limit].into_iter().flatten().min().unwrap_or(look);
            changed.push(connector.id);
        }
        for id in changed {
            self.refresh(id, now);
        }
    }

    /// What the station as a whole can draw, in W.
    pub(super) fn station_w(&self) -> f64 {
        let sum: f64 = self.connectors.iter().map(|one| one.power_w).sum();
        let share = self.config.scenario.as_ref().map_or(1.0, |scenario| scenario.stations.station_share);
        // One car alone always gets all that its connector has.
        (sum * share).max(self.connectors.first().map_or(0.0, |one| one.power_w))
    }

    /// The transactions that go on, as profiles see them.
    pub(super) fn running(&self) -> Vec<Running> {
        if self.profiles.is_empty() {
            return Vec::new();
        }
        self.running_all()
    }

    /// The transactions that go on.
    pub(super) fn running_all(&self) -> Vec<Running> {
        let books = self.books.lock();
        self.connectors
            .iter()
            .filter_map(|one| {
                let session = one.session.as_ref()?;
                let id = books.transactions.get(&session.transaction).and_then(|book| book.id.clone());
                Some(Running {
                    connector: one.id,
                    id,
                    since_ms: session.since_ms,
                    priority: session.priority,
                })
            })
            .collect()
    }

    /// How often meters are read; none: never. What the central system demands is meant in true seconds.
    pub(super) fn reads_every(&self) -> Option<Duration> {
        if self.reads_as_told {
            self.settings.seconds("MeterValueSampleInterval")
        } else {
            Some(self.pace.real(self.config.meter_interval))
        }
    }

    /// Reads the meter of a transaction.
    pub(super) fn read_meter(&mut self, id: u32, cause: Cause, now: Moment) {
        self.flow(now);
        let Some(connector) = self.connector(id) else { return };
        let Some(session) = &mut connector.session else { return };
        if cause == Cause::Periodic {
            session.next_reading = now.at + session.read_every;
        }
        let sample = session.sample();
        self.bill_of(id, Kind::Meter { sample, cause }, now);
        if cause == Cause::Periodic {
            self.feed_stream(now);
        }
    }

    /// Reads all meters, as the clock says.
    pub(super) fn read_all(&mut self, now: Moment) {
        for id in 1..=self.config.connectors.max(1) {
            if self.connectors.iter().any(|one| one.id == id && one.session.is_some()) {
                self.read_meter(id, Cause::Clock, now);
            } else {
                self.push(Purpose::Idle { connector: id, cause: Cause::Clock });
            }
        }
    }

    /// Decides when the clock is at the next multiple of its interval.
    pub(super) fn set_clock(&mut self, now: Moment) {
        self.clock_at = self.settings.seconds("ClockAlignedDataInterval").map(|interval| {
            let every = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
            let wait = every - now.unix_ms.rem_euclid(every);
            now.at + Duration::from_millis(u64::try_from(wait).unwrap_or_default())
        });
    }
}
