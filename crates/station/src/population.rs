//! Many stations in one process that live through one scenario.

use crate::{
    Books, BooksHandle, Config, Figures, Latencies, Pace, Quirk, Scenario, Simulated, Statistics,
    client::Tls,
    driver,
    scenario::{minutes, one_of},
    steering::{LOOK_EVERY, Steering},
};
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use switchboard_rpc::Version;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How many calls a second a population at full speed makes in the beginning.
const CALLS_PER_SECOND: f64 = 500.0;
/// How often it is looked whether the scenario is over, at the latest.
const OVER_EVERY: Duration = Duration::from_secs(1);
/// The fractions of its multiples spread evenly, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// What population to start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The endpoint without an identity.
    pub url: String,
    /// How many stations.
    pub stations: u32,
    /// What their names begin with; a number follows.
    pub prefix: String,
    /// How many connectors each has.
    pub connectors: u32,
    /// What they live through.
    pub scenario: Scenario,
    /// How much faster than the clock their time runs; none: as fast as the central system keeps up, at most an hour a
    /// second.
    pub speed: Option<f64>,
    /// From which all chance comes.
    pub seed: u64,
    /// The password of them all.
    pub password: Option<Vec<u8>>,
    /// Whom they believe that it is the central system; needed for `wss`.
    pub tls: Option<Tls>,
    /// Whether they offer compression.
    pub compression: bool,
    /// How long they may take to tell everything when they are switched off.
    pub finish: Duration,
    /// How long an answer may take.
    pub answer_timeout: Duration,
}

impl Plan {
    /// So many stations with two connectors each.
    #[must_use]
    pub fn new(url: impl Into<String>, stations: u32, scenario: Scenario) -> Self {
        Self {
            url: url.into(),
            stations,
            prefix: "SIM".to_owned(),
            connectors: 2,
            scenario,
            speed: Some(1.0),
            seed: 1,
            password: None,
            tls: None,
            compression: false,
            finish: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(30),
        }
    }

    /// How fast its time runs in the beginning.
    #[must_use]
    pub fn pace(&self) -> f64 {
        self.speed.unwrap_or_else(|| {
            let scenario = &self.scenario;
            // What a visit costs: a tag, begin, end, the states between, and the readings.
            let readings = scenario.session.stay_minutes[1] / scenario.stations.meter_minutes;
            let a_day = scenario.arrivals.per_connector
                * f64::from(self.connectors)
                * f64::from(self.stations)
                * (8.0 + readings);
            Steering::clamped(CALLS_PER_SECOND * 86_400.0 / a_day.max(1.0))
        })
    }

    fn config(&self, number: u32, shared: &mut Shared) -> Config {
        let mut random =
            fastrand::Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(number.into()));
        let scenario = Arc::clone(&shared.scenario);
        let mut config = Config::new(Arc::clone(&shared.url), self.id(number));
        config.seed = random.u64(..);
        config.version =
            by_share(&scenario.versions(), f64::from(number) * GOLDEN % 1.0).unwrap_or(Version::V16);
        config.power_w = Some(one_of(&scenario.stations.power_kw, &mut random) * 1000.0);
        config.password.clone_from(&self.password);
        config.tls.clone_from(&self.tls);
        config.compression = self.compression;
        config.connectors = self.connectors.max(1);
        config.tokens = Arc::clone(&shared.tokens);
        config.meter_interval = minutes(scenario.stations.meter_minutes);
        config.finish = self.finish;
        config.answer_timeout = self.answer_timeout;
        config.statistics = Arc::clone(&shared.statistics);
        config.pace = Some(shared.pace.clone());
        config.speed = shared.pace.speed();
        config.quirks = shared.next_quirk(config.version).into_iter().collect();
        config.scenario = Some(scenario);
        config
    }

    fn id(&self, number: u32) -> String {
        let width = self.stations.to_string().len().max(3);
        format!("{}{:0width$}", self.prefix, number + 1)
    }
}

/// What all stations of a population have in common.
struct Shared {
    url: Arc<str>,
    tokens: Arc<[String]>,
    scenario: Arc<Scenario>,
    quirks: Vec<Quirk>,
    /// How many stations of each version there are already, and how many of them have quirks.
    made: Vec<(Version, u32, u32)>,
    statistics: Arc<Statistics>,
    pace: Pace,
}

impl Shared {
    /// The quirk of the next station of this version, if it has one: all in turn, so that each is there in each version.
    fn next_quirk(&mut self, version: Version) -> Option<Quirk> {
        if !self.made.iter().any(|(one, ..)| *one == version) {
            self.made.push((version, 0, 0));
        }
        let (_, made, odd) = self.made.iter_mut().find(|(one, ..)| *one == version)?;
        *made += 1;
        let is_odd = f64::from(*odd) + 1.0 <= f64::from(*made) * self.scenario.quirks.share + 1e-9;
        let turn = *odd as usize;
        *odd += u32::from(is_odd);
        self.quirks.get(turn.checked_rem(self.quirks.len())?).copied().filter(|_| is_odd)
    }
}

/// A station of a population.
#[derive(Debug)]
struct Member {
    id: String,
    version: Version,
    quirks: Vec<Quirk>,
    books: BooksHandle,
}

/// Stations that live through a scenario.
#[derive(Debug)]
pub struct Population {
    members: Vec<Member>,
    statistics: Arc<Statistics>,
    pace: Pace,
    hours: Option<f64>,
    begin: Instant,
    begin_ms: i64,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Population {
    /// Switches them on. Runs on the runtime from which it is called.
    #[must_use]
    pub fn start(plan: &Plan) -> Self {
        let now = driver::now();
        let scenario = Arc::new(plan.scenario.clone());
        let mut shared = Shared {
            url: plan.url.as_str().into(),
            tokens: (0..scenario.session.tags).map(|number| format!("{}T{number:05}", plan.prefix)).collect(),
            // Names were judged when the scenario was read.
            quirks: Quirk::named(&scenario.quirks.names).unwrap_or_default(),
            made: Vec::new(),
            statistics: Arc::default(),
            pace: Pace::new(plan.pace(), now.at),
            scenario,
        };
        let mut population = Self {
            members: Vec::with_capacity(plan.stations as usize),
            statistics: Arc::clone(&shared.statistics),
            pace: shared.pace.clone(),
            hours: shared.scenario.hours,
            begin: now.at,
            begin_ms: now.unix_ms,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let switch_on = Duration::from_secs_f64(shared.scenario.switch_on_seconds);
        for number in 0..plan.stations {
            let config = plan.config(number, &mut shared);
            let (id, version, quirks) = (config.id.clone(), config.version, config.quirks.clone());
            let station = Simulated::new(config);
            population.members.push(Member { id, version, quirks, books: station.books() });
            let begin = now.at + switch_on.mul_f64(f64::from(number) / f64::from(plan.stations.max(1)));
            let stop = population.stop.clone();
            population.tasks.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep_until(begin.into()) => {}
                    () = stop.cancelled() => return,
                }
                station.run(stop).await;
            });
        }
        population.tasks.close();
        if plan.speed.is_none() {
            population.steer();
        }
        population
    }

    /// Lets their time run as fast as the central system keeps up.
    fn steer(&self) {
        let (statistics, pace, stop) = (Arc::clone(&self.statistics), self.pace.clone(), self.stop.clone());
        let mut steering = Steering::new(statistics.figures(), statistics.latencies());
        tokio::spawn(async move {
            while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
                let wanted = steering.judge(pace.speed(), statistics.figures(), statistics.latencies());
                if let Some(speed) = wanted {
                    pace.set_speed(speed, driver::now().at);
                }
            }
        });
    }

    /// What they have done so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.statistics.figures()
    }

    /// How long answers took so far.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.statistics.latencies()
    }

    /// Why the last connection that failed could not be made.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.statistics.last_failure()
    }

    /// How much faster than the clock their time runs.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.pace.speed()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// When they were switched on, in milliseconds since 1970.
    #[must_use]
    pub fn begin_ms(&self) -> i64 {
        self.begin_ms
    }

    /// How long it runs already, and how many hours of the own time that is.
    #[must_use]
    pub fn age(&self) -> (Duration, f64) {
        let now = driver::now().at;
        (now.saturating_duration_since(self.begin), self.pace.seconds(now) / 3600.0)
    }

    /// How many hours of the own time the scenario lasts; none: until somebody ends it.
    #[must_use]
    pub const fn hours(&self) -> Option<f64> {
        self.hours
    }

    /// Waits until the scenario is over.
    pub async fn over(&self) {
        let Some(hours) = self.hours else { return std::future::pending().await };
        loop {
            let left = hours * 3600.0 - self.pace.seconds(driver::now().at);
            if left <= 0.0 {
                return;
            }
            // The speed may change meanwhile.
            tokio::time::sleep(self.pace.real(Duration::from_secs_f64(left)).min(OVER_EVERY)).await;
        }
    }

    /// Ends what goes on; every station tells it and switches itself off.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// How many are not switched off yet.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until all are switched off.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }

    /// The books of each station: name, version, quirks, books.
    pub fn books(&self) -> impl Iterator<Item = (&str, Version, &[Quirk], Books)> {
        self.members.iter().map(|member| {
            (member.id.as_str(), member.version, member.quirks.as_slice(), member.books.snapshot())
        })
    }

    /// What each station did, and whether all was told.
    #[must_use]
    pub fn summary(&self) -> Vec<Summary> {
        let all = self.books();
        all.map(|(id, version, quirks, books)| Summary::new(id, version, quirks, &books)).collect()
    }
}

/// What one station did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Summary {
    /// Its name.
    pub station: String,
    /// What it speaks.
    pub version: &'static str,
    /// What it does that it should not.
    pub quirks: Vec<&'static str>,
    /// Transactions, ended or not.
    pub transactions: u64,
    /// What they charged.
    pub energy_wh: u64,
    /// Transactions whose end was not told, or not answered.
    pub unsettled: u64,
    /// Billing messages that were never answered.
    pub unsent: u64,
    /// Billing messages that were given up.
    pub given_up: u64,
    /// Calls that got an error.
    pub refused: u64,
    /// Calls that got no answer in time.
    pub unanswered: u64,
    /// Connections that it made.
    pub connections: u64,
    /// Boots that were answered.
    pub boots: u64,
}

impl Summary {
    fn new(id: &str, version: Version, quirks: &[Quirk], books: &Books) -> Self {
        Self {
            station: id.to_owned(),
            version: version.as_str(),
            quirks: quirks.iter().map(|quirk| quirk.name()).collect(),
            transactions: books.forgotten + books.transactions.len() as u64,
            energy_wh: books.energy_wh(),
            unsettled: books.transactions.values().filter(|one| !one.settled).count() as u64,
            unsent: books.unsent as u64,
            given_up: books.given_up,
            refused: books.refused,
            unanswered: books.unanswered,
            connections: books.connections,
            boots: books.boots,
        }
    }

    /// Whether the central system was told all that was sold.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.unsettled == 0 && self.unsent == 0 && self.given_up == 0
    }
}

/// One of these, as a number from 0 to 1 and their shares say.
fn by_share<T: Copy>(list: &[(T, f64)], chance: f64) -> Option<T> {
    let mut left = chance * list.iter().map(|(_, share)| share).sum::<f64>();
    for (one, share) in list {
        if left < *share {
            return Some(*one);
        }
        left -= share;
    }
    list.last().map(|(one, _)| *one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        Plan::new("ws://nowhere", 1000, Scenario::read(text).unwrap())
    }

    #[test]
    fn shares_of_versions_and_quirks_are_kept() {
        let plan =
            plan("about = 'x'\n[stations]\nversions = { '1.6' = 1, '2.0.1' = 3 }\n[quirks]\nshare = 0.2");
        let scenario = Arc::new(plan.scenario.clone());
        let mut shared = Shared {
            url: "ws://nowhere".into(),
            tokens: Arc::new([]),
            quirks: Quirk::all().collect(),
            made: Vec::new(),
            statistics: Arc::default(),
            pace: Pace::new(1.0, driver::now().at),
            scenario,
        };
        let configs: Vec<Config> = (0..1000).map(|number| plan.config(number, &mut shared)).collect();
        let old = configs.iter().filter(|config| config.version == Version::V16).count();
        let odd = configs.iter().filter(|config| !config.quirks.is_empty()).count();
        assert!((240..260).contains(&old) && (180..220).contains(&odd), "{old} {odd}");
        assert_eq!((configs[0].id.as_str(), configs[999].id.as_str()), ("SIM0001", "SIM1000"));
        assert_ne!(configs[0].seed, configs[1].seed);
        for version in [Version::V16, Version::V201] {
            let of = configs.iter().filter(|config| config.version == version);
            let odd: Vec<Quirk> = of.clone().flat_map(|config| config.quirks.clone()).collect();
            assert_eq!(odd.len(), of.count() / 5, "the share is the same in each version");
            assert!(Quirk::all().all(|quirk| odd.contains(&quirk)), "each is there: {odd:?}");
        }
        assert_eq!(plan.config(7, &mut shared).seed, configs[7].seed, "the same seed, the same station");
    }

    #[test]
    fn full_speed_begins_with_what_any_central_system_bears() {
        let mut plan = plan(Scenario::text("day").unwrap());
        plan.speed = None;
        plan.stations = 500;
        assert!((150.0..750.0).contains(&plan.pace()), "{}", plan.pace());
        plan.stations = 1;
        assert!((plan.pace() - 3600.0).abs() < 1e-9);
    }
}
