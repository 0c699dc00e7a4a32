//! A scenario: what a population of stations lives through, as data.
//!
//! Built-in ones lie in `scenarios/` as TOML, exactly as a user writes one. All durations are in the stations' own time,
//! which may run faster than the clock; triples are least, usual and most, between which chance decides.

use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};
use switchboard_rpc::Version;

/// The scenarios that need no file.
const BUILT_IN: &[(&str, &str)] = &[
    ("day", include_str!("scenarios/day.toml")),
    ("idle", include_str!("scenarios/idle.toml")),
    ("rush", include_str!("scenarios/rush.toml")),
    ("storm", include_str!("scenarios/storm.toml")),
];
/// So that a slip of the pen does not make a scenario that never ends or fills the memory.
const HOURS_MAX: f64 = 24.0 * 366.0;

/// What a population lives through.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Scenario {
    /// One sentence for those who choose.
    pub about: String,
    /// How long it lasts, in hours of its own time; none: until somebody ends it.
    pub hours: Option<f64>,
    /// The hour of the day at which it begins, 0 to 24.
    #[serde(default)]
    pub begins_at: f64,
    /// Within how many real seconds all stations are switched on.
    #[serde(default = "seconds_10")]
    pub switch_on_seconds: f64,
    /// Cars that come.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// What a car wants.
    #[serde(default)]
    pub session: Session,
    /// What the stations are.
    #[serde(default)]
    pub stations: Stations,
    /// When the network is away.
    #[serde(default)]
    pub offline: Offline,
    /// What breaks.
    #[serde(default)]
    pub faults: Faults,
    /// What some stations do that they should not.
    #[serde(default)]
    pub quirks: Quirks,
}

/// Cars that come.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Arrivals {
    /// How many come to a connector on an average day.
    pub per_connector: f64,
    /// How they spread over the hours of a day: 24 weights, of which only the proportions matter. Empty: evenly.
    pub by_hour: Vec<f64>,
}

/// What a car wants.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Session {
    /// How much energy, in kWh.
    pub energy_kwh: [f64; 3],
    /// How long it stays at most, in minutes.
    pub stay_minutes: [f64; 3],
    /// The largest power that cars take, in kW; each car one of these.
    pub car_kw: Vec<f64>,
    /// How many phases the charger of a car uses; each car one of these. Those of DC stations do not matter.
    pub phases: Vec<u8>,
    /// The share of drivers who plug in first and show their tag afterwards.
    pub plug_first: f64,
    /// The share of drivers who show a tag and never plug in.
    pub no_show: f64,
    /// The share of drivers who say at a station of 2.1 how much energy it shall be; about half of what they could take.
    pub limited: f64,
    /// Between tag and plug, in seconds.
    pub hesitate_seconds: [f64; 3],
    /// How many different tags the drivers have.
    pub tags: u32,
}

/// What the stations are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Stations {
    /// The power of a connector in kW; each station has one of these.
    pub power_kw: Vec<f64>,
    /// What the whole station may draw, as a share of the sum of its connectors.
    pub station_share: f64,
    /// Versions and their shares: `{ "1.6" = 50, "2.0.1" = 40, "2.1" = 10 }`.
    pub versions: BTreeMap<String, f64>,
    /// How often a meter is read during a transaction, in minutes.
    pub meter_minutes: f64,
}

/// When the network is away.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Offline {
    /// How often a day each station loses its line.
    pub a_day: f64,
    /// For how long, in minutes.
    pub minutes: [f64; 3],
    /// Outages that hit many at once.
    pub together: Vec<Together>,
}

/// An outage that hits many stations at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Together {
    /// The hour of the scenario (not of the day) at which it begins.
    pub at_hour: f64,
    /// Every so many hours again; none: once.
    #[serde(default)]
    pub every_hours: Option<f64>,
    /// How long it lasts, in minutes.
    pub minutes: f64,
    /// The share of the stations that it hits.
    pub share: f64,
    /// Whether the stations lose their power as well, and boot afterwards.
    #[serde(default)]
    pub power: bool,
}

/// What breaks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Faults {
    /// The share of sessions that a fault of the connector ends, and of jobs that fail.
    pub share: f64,
    /// How long a connector is out of order then, in minutes.
    pub repair_minutes: [f64; 3],
    /// How often a day a station loses its power.
    pub power_losses_a_day: f64,
    /// For how long, in minutes.
    pub power_minutes: [f64; 3],
}

/// What some stations do that they should not.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Quirks {
    /// The share of stations that have quirks; each of them has one.
    pub share: f64,
    /// Which there are, by name; empty: all.
    pub names: Vec<String>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            energy_kwh: [3.0, 14.0, 60.0],
            stay_minutes: [15.0, 75.0, 480.0],
            car_kw: vec![3.7, 7.4, 11.0, 11.0, 22.0, 100.0],
            phases: vec![1, 3, 3],
            plug_first: 0.5,
            no_show: 0.0,
            limited: 0.1,
            hesitate_seconds: [2.0, 15.0, 90.0],
            tags: 1000,
        }
    }
}

impl Default for Stations {
    fn default() -> Self {
        Self {
            power_kw: vec![11.0, 22.0, 22.0, 50.0],
            station_share: 1.0,
            versions: BTreeMap::from([
                ("1.6".to_owned(), 50.0),
                ("2.0.1".to_owned(), 40.0),
                ("2.1".to_owned(), 10.0),
            ]),
            meter_minutes: 5.0,
        }
    }
}

impl Default for Offline {
    fn default() -> Self {
        Self { a_day: 0.0, minutes: [1.0, 10.0, 60.0], together: Vec::new() }
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            share: 0.0,
            repair_minutes: [5.0, 20.0, 120.0],
            power_losses_a_day: 0.0,
            power_minutes: [1.0, 5.0, 30.0],
        }
    }
}

/// Why a text is no scenario.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// It is no TOML, or has members that a scenario has not.
    #[error("it cannot be read: {0}")]
    Text(#[from] toml::de::Error),
    /// A value makes no sense.
    #[error("{0}")]
    Value(String),
}

impl Scenario {
    /// The names of those that need no file, with what they say about themselves.
    #[must_use]
    pub fn built_in() -> Vec<(&'static str, String)> {
        let about = |text| Self::read(text).map(|scenario| scenario.about).unwrap_or_default();
        BUILT_IN.iter().map(|(name, text)| (*name, about(text))).collect()
    }

    /// The text of a built-in one, from which one of your own can be made.
    #[must_use]
    pub fn text(name: &str) -> Option<&'static str> {
        BUILT_IN.iter().find(|(one, _)| *one == name).map(|(_, text)| *text)
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is no TOML, has members that are not known, or values that make no sense.
    pub fn read(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.judge().map_err(ScenarioError::Value)?;
        Ok(scenario)
    }

    /// The versions with their shares.
    #[must_use]
    pub fn versions(&self) -> Vec<(Version, f64)> {
        let known = |(number, share): (&String, &f64)| Version::from_number(number).map(|one| (one, *share));
        self.stations.versions.iter().filter_map(known).collect()
    }

    fn judge(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} is {value} and must be between {least} and {most}"))
            }
        };
        if let Some(hours) = self.hours {
            within("hours", hours, 0.0, HOURS_MAX)?;
        }
        within("begins_at", self.begins_at, 0.0, 24.0)?;
        within("switch_on_seconds", self.switch_on_seconds, 0.0, 86_400.0)?;
        within("arrivals.per_connector", self.arrivals.per_connector, 0.0, 1000.0)?;
        let weights = &self.arrivals.by_hour;
        if !weights.is_empty() && (weights.len() != 24 || weights.iter().sum::<f64>() <= 0.0) {
            return Err("arrivals.by_hour must have 24 weights that are not all zero, or none".to_owned());
        }
        for weight in weights {
            within("a weight of arrivals.by_hour", *weight, 0.0, 1e6)?;
        }
        for (name, triple, most) in [
            ("session.energy_kwh", self.session.energy_kwh, 1000.0),
            ("session.stay_minutes", self.session.stay_minutes, 100_000.0),
            ("session.hesitate_seconds", self.session.hesitate_seconds, 86_400.0),
            ("offline.minutes", self.offline.minutes, 100_000.0),
            ("faults.repair_minutes", self.faults.repair_minutes, 100_000.0),
            ("faults.power_minutes", self.faults.power_minutes, 100_000.0),
        ] {
            let [least, usual, largest] = triple;
            within(name, least, 0.0, most)?;
            within(name, largest, 0.0, most)?;
            if !(least <= usual && usual <= largest) {
                return Err(format!("{name} must be three numbers that rise: least, usual, most"));
            }
        }
        for (name, share) in [
            ("session.plug_first", self.session.plug_first),
            ("session.no_show", self.session.no_show),
            ("session.limited", self.session.limited),
            ("stations.station_share", self.stations.station_share),
            ("faults.share", self.faults.share),
            ("quirks.share", self.quirks.share),
        ] {
            within(name, share, 0.0, 1.0)?;
        }
        within("offline.a_day", self.offline.a_day, 0.0, 10_000.0)?;
        within("faults.power_losses_a_day", self.faults.power_losses_a_day, 0.0, 10_000.0)?;
        within("stations.meter_minutes", self.stations.meter_minutes, 0.01, 100_000.0)?;
        for kw in self.session.car_kw.iter().chain(&self.stations.power_kw) {
            within("a power in kW", *kw, 0.1, 5000.0)?;
        }
        if self.session.car_kw.is_empty() || self.stations.power_kw.is_empty() || self.session.tags == 0 {
            return Err("session.car_kw, session.tags and stations.power_kw must not be empty".to_owned());
        }
        if self.session.phases.is_empty() || self.session.phases.iter().any(|one| !(1..=3).contains(one)) {
            return Err("session.phases must name 1, 2 or 3".to_owned());
        }
        if self.stations.versions.keys().any(|number| Version::from_number(number).is_none()) {
            return Err("stations.versions knows 1.6, 2.0.1 and 2.1".to_owned());
        }
        if self.stations.versions.values().sum::<f64>() <= 0.0
            || self.stations.versions.values().any(|share| *share < 0.0)
        {
            return Err("stations.versions must have a share above zero".to_owned());
        }
        for one in &self.offline.together {
            within("offline.together.share", one.share, 0.0, 1.0)?;
            within("offline.together.minutes", one.minutes, 0.0, 100_000.0)?;
            within("offline.together.at_hour", one.at_hour, 0.0, HOURS_MAX)?;
            if let Some(every) = one.every_hours {
                within("offline.together.every_hours", every, 0.01, HOURS_MAX)?;
            }
        }
        crate::Quirk::named(&self.quirks.names).map(drop)
    }

    /// Seconds until the next car comes to a connector that is free now, at `seconds` of the scenario; none comes any
    /// more if there are no cars.
    pub(crate) fn next_arrival(&self, seconds: f64, random: &mut fastrand::Rng) -> Option<f64> {
        let weights = &self.arrivals.by_hour;
        let sum: f64 = weights.iter().sum();
        let most = weights.iter().copied().fold(0.0, f64::max);
        // As many an hour as come in the busiest one; of these, by the hour, some are left out.
        let busiest = if weights.is_empty() { 1.0 / 24.0 } else { most / sum } * self.arrivals.per_connector;
        if busiest <= 0.0 {
            return None;
        }
        let mut hours = 0.0;
        // Far more tries than any curve needs; a curve with one hour a year would end here.
        for _ in 0..100_000 {
            hours += -(1.0 - random.f64()).ln() / busiest;
            let hour = (self.begins_at + seconds / 3600.0 + hours).rem_euclid(24.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 24")]
            let share = weights.get(hour as usize).map_or(1.0, |weight| weight / most);
            if random.f64() < share {
                return Some(hours * 3600.0);
            }
        }
        None
    }
}

impl Together {
    /// The first time at or after `seconds` at which it begins.
    pub(crate) fn next(&self, seconds: f64) -> Option<f64> {
        let begin = self.at_hour * 3600.0;
        if begin >= seconds {
            return Some(begin);
        }
        let every = self.every_hours? * 3600.0;
        Some(begin + ((seconds - begin) / every).ceil() * every)
    }
}

/// One of three numbers' triangle: least, usual, most.
pub(crate) fn between([least, usual, most]: [f64; 3], random: &mut fastrand::Rng) -> f64 {
    let (width, chance) = (most - least, random.f64());
    if width <= 0.0 {
        return least;
    }
    let bend = (usual - least) / width;
    if chance < bend {
        least + (chance * width * (usual - least)).sqrt()
    } else {
        most - ((1.0 - chance) * width * (most - usual)).sqrt()
    }
}

/// One of these, or zero.
pub(crate) fn one_of<T: Copy + Default>(list: &[T], random: &mut fastrand::Rng) -> T {
    if list.is_empty() { T::default() } else { list[random.usize(..list.len())] }
}

/// Minutes as a duration.
pub(crate) fn minutes(minutes: f64) -> Duration {
    Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX / 4)
}

fn seconds_10() -> f64 {
    10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_can_be_read_and_says_what_it_is() {
        for (name, about) in Scenario::built_in() {
            assert!(about.len() > 20, "{name}: {about}");
            Scenario::read(Scenario::text(name).unwrap()).unwrap();
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, names) in [
            ("", "about"),
            ("about = 'x'\nsped = 1", "sped"),
            ("about = 'x'\nhours = -1", "hours"),
            ("about = 'x'\n[arrivals]\nby_hour = [1, 2]", "by_hour"),
            ("about = 'x'\n[session]\nenergy_kwh = [3, 2, 1]", "energy_kwh"),
            ("about = 'x'\n[stations]\nversions = { '1.5' = 1 }", "versions"),
            ("about = 'x'\n[quirks]\nnames = ['flying']", "flying"),
            ("about = 'x'\n[[offline.together]]\nat_hour = 1\nminutes = 1\nshare = 2", "share"),
        ] {
            let error = Scenario::read(text).unwrap_err().to_string();
            assert!(error.contains(names), "{text}: {error}");
        }
    }

    #[test]
    fn cars_come_as_often_as_the_curve_says() {
        let text = "about = 'x'\n[arrivals]\nper_connector = 12\nby_hour = [0,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,3,3,0,0,0,0,0,0]";
        let scenario = Scenario::read(text).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let (mut seconds, mut cars, mut evening) = (0.0, 0, 0);
        while seconds < 86_400.0 * 200.0 {
            seconds += scenario.next_arrival(seconds, &mut random).unwrap();
            let hour = seconds / 3600.0 % 24.0;
            assert!((8.0..18.0).contains(&hour), "{hour}");
            cars += 1;
            evening += u32::from(hour >= 16.0);
        }
        assert!((2200..2600).contains(&cars), "{cars}");
        assert!((900..1150).contains(&evening), "{evening} of {cars}: six of fourteen");
    }

    #[test]
    fn a_triangle_keeps_its_corners_and_its_middle() {
        let mut random = fastrand::Rng::with_seed(1);
        let values: Vec<f64> = (0..10_000).map(|_| between([1.0, 2.0, 6.0], &mut random)).collect();
        assert!(values.iter().all(|value| (1.0..=6.0).contains(value)));
        let mean = values.iter().sum::<f64>() / 10_000.0;
        assert!((2.9..3.1).contains(&mean), "{mean}");
        assert!((between([3.0; 3], &mut random) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn an_outage_comes_again_if_it_says_so() {
        let mut outage = Together { at_hour: 1.0, every_hours: None, minutes: 1.0, share: 1.0, power: false };
        assert_eq!(outage.next(0.0), Some(3600.0));
        assert_eq!(outage.next(3601.0), None);
        outage.every_hours = Some(2.0);
        assert_eq!(outage.next(3601.0), Some(10_800.0));
    }
}
