//! Charging profiles: what is installed, and what they allow at a moment (OCPP 1.6 section 3.13, 2.0.1 K).

use super::vehicle::VOLTS;
use serde_json::{Value, json};
use switchboard_rpc::Version;

/// How many may be installed.
pub(crate) const PROFILES_MAX: usize = 20;
/// The highest level of a stack.
pub(crate) const STACK_LEVEL_MAX: i64 = 10;
/// How many periods a schedule may have.
pub(crate) const PERIODS_MAX: usize = 48;

const DAY_MS: i64 = 86_400_000;

/// What a profile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Limits the station as a whole.
    Station,
    /// Limits transactions that have no profile of their own.
    Default,
    /// Limits one transaction.
    Transaction,
    /// Takes the place of both for a transaction that has priority (2.1).
    Priority,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Absolute,
    /// Every so many milliseconds.
    Recurring(i64),
    Relative,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit {
    value: f64,
    amperes: bool,
    phases: f64,
}

impl Limit {
    /// In W, for a car that uses so many phases.
    pub(crate) fn watts(self, phases: u8) -> f64 {
        // 1.6 errata 3.34: amperes hold for each phase that is used.
        if self.amperes { self.value * VOLTS * f64::from(phases).min(self.phases) } else { self.value }
    }

    /// In A on each phase.
    pub(crate) fn amperes(self, phases: u8) -> f64 {
        if self.amperes { self.value } else { self.value / (VOLTS * f64::from(phases).min(self.phases)) }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Period {
    start_ms: i64,
    limit: Limit,
}

#[derive(Clone, Debug)]
struct Profile {
    id: i64,
    connector: u32,
    level: i64,
    purpose: Purpose,
    kind: Kind,
    valid: std::ops::Range<i64>,
    transaction: Option<String>,
    start_ms: Option<i64>,
    duration_ms: Option<i64>,
    periods: Vec<Period>,
    /// When it was installed, in milliseconds since 1970.
    since_ms: i64,
    /// As it came.
    raw: Value,
}

/// A transaction that goes on: its connector, its id, and when it began.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) connector: u32,
    pub(crate) id: Option<String>,
    pub(crate) since_ms: i64,
    /// Whether it has priority (2.1).
    pub(crate) priority: bool,
}

/// Which profiles are meant; what is absent says nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Criteria {
    pub(crate) ids: Vec<i64>,
    pub(crate) connector: Option<u32>,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) level: Option<i64>,
}

/// What is installed.
#[derive(Debug, Default)]
pub(crate) struct Profiles(Vec<Profile>);

impl Purpose {
    /// The purpose with this name, in either version's vocabulary.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ChargePointMaxProfile" | "ChargingStationMaxProfile" => Self::Station,
            "TxDefaultProfile" => Self::Default,
            "TxProfile" => Self::Transaction,
            "PriorityCharging" => Self::Priority,
            _ => return None,
        })
    }
}

impl Profiles {
    /// Installs one, or says why not.
    pub(crate) fn install(
        &mut self,
        version: Version,
        connector: u32,
        value: &Value,
        running: Option<&Running>,
        now_ms: i64,
    ) -> Result<(), &'static str> {
        let profile = Profile::read(version, connector, value, now_ms)?;
        match profile.purpose {
            Purpose::Station if connector != 0 => return Err("only for the station as a whole"),
            Purpose::Station if profile.kind == Kind::Relative => return Err("relative to no transaction"),
            Purpose::Transaction => {
                let running = running.ok_or("no transaction goes on there")?;
                // Before the central system has given an id none can be compared.
                let other = |id: &String| running.id.as_ref().is_some_and(|own| own != id);
                if connector == 0 || profile.transaction.as_ref().is_some_and(other) {
                    return Err("another transaction goes on there");
                }
                if version != Version::V16 && profile.transaction.is_none() {
                    return Err("it names no transaction");
                }
            }
            _ => {}
        }
        let same = |one: &Profile| {
            one.id == profile.id
                || (one.purpose == profile.purpose
                    && one.level == profile.level
                    && one.connector == connector)
        };
        self.0.retain(|one| !same(one));
        if self.0.len() >= PROFILES_MAX {
            return Err("too many profiles");
        }
        self.0.push(profile);
        Ok(())
    }

    /// Removes those that are meant; how many there were.
    pub(crate) fn clear(&mut self, criteria: &Criteria) -> usize {
        let before = self.0.len();
        self.0.retain(|one| !one.is_meant(criteria));
        before - self.0.len()
    }

    /// Those that are meant: connector and the profile as it came.
    pub(crate) fn meant(&self, criteria: &Criteria) -> Vec<(u32, Value)> {
        let meant = self.0.iter().filter(|one| one.is_meant(criteria));
        meant.map(|one| (one.connector, one.raw.clone())).collect()
    }

    /// A transaction has ended, and its profiles with it.
    pub(crate) fn transaction_ended(&mut self, connector: u32) {
        self.0.retain(|one| one.purpose != Purpose::Transaction || one.connector != connector);
    }

    /// Whether a transaction at this connector can have priority.
    pub(crate) fn has_priority(&self, connector: u32) -> bool {
        let here = |one: &Profile| one.connector == connector || one.connector == 0;
        self.0.iter().any(|one| one.purpose == Purpose::Priority && here(one))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the station as a whole may draw; none: no limit.
    pub(crate) fn station(&self, at_ms: i64) -> Option<Limit> {
        self.ruling(Purpose::Station, 0, None, at_ms)
    }

    /// What one connector may give; none: no limit.
    pub(crate) fn connector(&self, connector: u32, running: Option<&Running>, at_ms: i64) -> Option<Limit> {
        let prior = running.filter(|one| one.priority);
        let prior = prior.and_then(|_| self.ruling(Purpose::Priority, connector, running, at_ms));
        let own = || running.and_then(|_| self.ruling(Purpose::Transaction, connector, running, at_ms));
        prior.or_else(own).or_else(|| self.ruling(Purpose::Default, connector, running, at_ms))
    }

    /// The next moment after this one at which any limit may change.
    pub(crate) fn next_change(&self, running: &[Running], at_ms: i64) -> Option<i64> {
        self.0.iter().filter_map(|one| one.next_change(running, at_ms)).min()
    }

    /// The limits of the next `duration_s` seconds as periods: seconds from now, and the limit in W or A. `most_w` is what
    /// the hardware gives.
    pub(crate) fn composite(
        &self,
        connector: u32,
        running: &[Running],
        now_ms: i64,
        duration_s: i64,
        amperes: bool,
        most_w: f64,
    ) -> Value {
        let end_ms = now_ms + duration_s.clamp(0, 366 * 86_400) * 1000;
        let here = running.iter().find(|one| one.connector == connector);
        let most = Limit { value: most_w, amperes: false, phases: 3.0 };
        let mut periods: Vec<(i64, f64)> = Vec::new();
        let mut at_ms = now_ms;
        while at_ms < end_ms && periods.len() < PERIODS_MAX {
            let own = (connector > 0).then(|| self.connector(connector, here, at_ms)).flatten();
            let limits = [Some(most), own, self.station(at_ms)];
            let values = limits.into_iter().flatten();
            let least = values
                .map(|one| if amperes { one.amperes(3) } else { one.watts(3) })
                .fold(f64::MAX, f64::min);
            // Tenths, as schedules are told.
            let least = (least * 10.0).round() / 10.0;
            if periods.last().is_none_or(|(_, last)| (last - least).abs() > 0.01) {
                periods.push(((at_ms - now_ms) / 1000, least));
            }
            let Some(next) = self.next_change(running, at_ms) else { break };
            at_ms = next;
        }
        periods.iter().map(|(start, limit)| json!({ "startPeriod": start, "limit": limit })).collect()
    }

    fn ruling(
        &self,
        purpose: Purpose,
        connector: u32,
        running: Option<&Running>,
        at_ms: i64,
    ) -> Option<Limit> {
        let mut candidates: Vec<&Profile> = self
            .0
            .iter()
            .filter(|one| one.purpose == purpose && (one.connector == connector || one.connector == 0))
            .collect();
        // The highest level rules; at equal ones what was made for this connector.
        candidates.sort_by_key(|one| (-one.level, one.connector == 0));
        candidates.into_iter().find_map(|one| one.limit(running, at_ms))
    }
}

impl Profile {
    fn read(version: Version, connector: u32, value: &Value, now_ms: i64) -> Result<Self, &'static str> {
        let old = version == Version::V16;
        let schedule = if old { &value["chargingSchedule"] } else { &value["chargingSchedule"][0] };
        let kind = match (value["chargingProfileKind"].as_str(), value["recurrencyKind"].as_str()) {
            (Some("Absolute"), _) => Kind::Absolute,
            (Some("Recurring"), Some("Daily")) => Kind::Recurring(DAY_MS),
            (Some("Recurring"), Some("Weekly")) => Kind::Recurring(7 * DAY_MS),
            (Some("Relative"), _) => Kind::Relative,
            _ => return Err("a kind that this station does not know"),
        };
        let purpose = value["chargingProfilePurpose"].as_str().and_then(Purpose::named);
        let level = value["stackLevel"].as_i64().unwrap_or(-1);
        if !(0..=STACK_LEVEL_MAX).contains(&level) {
            return Err("the level is too high");
        }
        let start_ms = time(&schedule["startSchedule"]);
        if matches!(kind, Kind::Recurring(_)) && start_ms.is_none() {
            return Err("it recurs and does not say from when");
        }
        let amperes = schedule["chargingRateUnit"] == "A";
        let periods: Vec<Period> = schedule["chargingSchedulePeriod"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|period| {
                Some(Period {
                    start_ms: period["startPeriod"].as_i64()? * 1000,
                    limit: Limit {
                        value: period["limit"].as_f64()?.max(0.0),
                        amperes,
                        phases: period["numberPhases"].as_f64().unwrap_or(3.0).clamp(1.0, 3.0),
                    },
                })
            })
            .collect();
        if periods.is_empty() || periods.len() > PERIODS_MAX {
            return Err("no periods, or too many");
        }
        if periods[0].start_ms != 0 || !periods.is_sorted_by(|one, next| one.start_ms < next.start_ms) {
            return Err("periods must begin at 0 and rise");
        }
        let transaction = match &value["transactionId"] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Ok(Self {
            id: value[if old { "chargingProfileId" } else { "id" }].as_i64().unwrap_or_default(),
            connector,
            level,
            purpose: purpose.ok_or("a purpose that this station does not know")?,
            kind,
            valid: time(&value["validFrom"]).unwrap_or(i64::MIN)..time(&value["validTo"]).unwrap_or(i64::MAX),
            transaction,
            start_ms,
            duration_ms: schedule["duration"].as_i64().map(|seconds| seconds.saturating_mul(1000)),
            periods,
            since_ms: now_ms,
            raw: value.clone(),
        })
    }

    fn is_meant(&self, criteria: &Criteria) -> bool {
        (criteria.ids.is_empty() || criteria.ids.contains(&self.id))
            && criteria.connector.is_none_or(|connector| connector == self.connector)
            && criteria.purpose.is_none_or(|purpose| purpose == self.purpose)
            && criteria.level.is_none_or(|level| level == self.level)
    }

    /// When the schedule that holds at this moment has begun.
    fn begin(&self, running: Option<&Running>, at_ms: i64) -> Option<i64> {
        match self.kind {
            Kind::Absolute => Some(self.start_ms.unwrap_or(self.since_ms)),
            Kind::Recurring(every) => {
                let first = self.start_ms?;
                (at_ms >= first).then(|| first + (at_ms - first) / every * every)
            }
            Kind::Relative => Some(running.map_or(at_ms, |running| running.since_ms)),
        }
    }

    fn limit(&self, running: Option<&Running>, at_ms: i64) -> Option<Limit> {
        let elapsed = at_ms - self.begin(running, at_ms)?;
        if !self.valid.contains(&at_ms) || elapsed < 0 || self.duration_ms.is_some_and(|most| elapsed >= most)
        {
            return None;
        }
        self.periods.iter().rev().find(|period| period.start_ms <= elapsed).map(|period| period.limit)
    }

    fn next_change(&self, running: &[Running], at_ms: i64) -> Option<i64> {
        let mut begins: Vec<i64> = match self.kind {
            Kind::Relative => running
                .iter()
                .filter(|one| self.connector == 0 || one.connector == self.connector)
                .map(|one| one.since_ms)
                .collect(),
            Kind::Absolute => self.begin(None, at_ms).into_iter().collect(),
            Kind::Recurring(_) => self.begin(None, at_ms).or(self.start_ms).into_iter().collect(),
        };
        if let (Kind::Recurring(every), Some(begin)) = (self.kind, begins.first().copied()) {
            begins.push(begin + every);
        }
        let within = self.periods.iter().map(|period| period.start_ms).chain(self.duration_ms);
        let within: Vec<i64> = within.collect();
        begins
            .iter()
            .flat_map(|begin| within.iter().map(move |offset| begin.saturating_add(*offset)))
            .chain([self.valid.start, self.valid.end])
            .filter(|moment| *moment > at_ms && *moment != i64::MAX)
            .min()
    }
}

/// A time, in milliseconds since 1970.
pub(crate) fn time(value: &Value) -> Option<i64> {
    value.as_str()?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn at(ms: i64) -> String {
        jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
    }

    #[expect(clippy::needless_pass_by_value, reason = "tests write schedules in place")]
    fn profile(id: i64, purpose: &str, level: i64, kind: &str, schedule: Value) -> Value {
        json!({ "chargingProfileId": id, "stackLevel": level, "chargingProfilePurpose": purpose,
            "chargingProfileKind": kind, "chargingSchedule": schedule })
    }

    fn amperes(periods: &[(i64, f64)]) -> Value {
        let periods: Value =
            periods.iter().map(|(start, limit)| json!({ "startPeriod": start, "limit": limit })).collect();
        json!({ "chargingRateUnit": "A", "chargingSchedulePeriod": periods })
    }

    fn running() -> Running {
        Running { connector: 1, id: Some("7".to_owned()), since_ms: NOW - 60_000, priority: false }
    }

    #[test]
    fn the_highest_level_rules_and_a_transactions_own_profile_over_the_default() {
        let mut profiles = Profiles::default();
        let install = |profiles: &mut Profiles, connector, value: &Value| {
            profiles.install(Version::V16, connector, value, Some(&running()), NOW)
        };
        let value =
            |profiles: &Profiles, at| profiles.connector(1, Some(&running()), at).map(|limit| limit.value);
        install(&mut profiles, 0, &profile(1, "TxDefaultProfile", 0, "Relative", amperes(&[(0, 16.0)])))
            .unwrap();
        assert_eq!(value(&profiles, NOW), Some(16.0));
        install(
            &mut profiles,
            1,
            &profile(2, "TxDefaultProfile", 0, "Relative", amperes(&[(0, 20.0), (90, 10.0)])),
        )
        .unwrap();
        assert_eq!(value(&profiles, NOW), Some(20.0), "its own default before that of all");
        assert_eq!(value(&profiles, NOW + 30_000), Some(10.0), "ninety seconds after its start");
        let mut short = amperes(&[(0, 8.0)]);
        short["startSchedule"] = at(NOW).into();
        short["duration"] = 10.into();
        install(&mut profiles, 1, &profile(3, "TxProfile", 3, "Absolute", short)).unwrap();
        assert_eq!(value(&profiles, NOW + 9_999), Some(8.0));
        assert_eq!(value(&profiles, NOW + 10_000), Some(20.0), "its time is over");
        assert_eq!(profiles.next_change(&[running()], NOW), Some(NOW + 10_000));
        profiles.transaction_ended(1);
        assert_eq!(value(&profiles, NOW + 1), Some(20.0));
        assert_eq!(profiles.clear(&Criteria { ids: vec![2], ..Criteria::default() }), 1);
        assert_eq!(profiles.clear(&Criteria { purpose: Some(Purpose::Station), ..Criteria::default() }), 0);
        assert_eq!(value(&profiles, NOW), Some(16.0));
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused() {
        let mut profiles = Profiles::default();
        let mut other = profile(1, "TxProfile", 0, "Relative", amperes(&[(0, 6.0)]));
        other["transactionId"] = 8.into();
        for (connector, value, transaction) in [
            (1, profile(1, "TxProfile", 0, "Relative", amperes(&[(0, 6.0)])), false),
            (1, other, true),
            (0, profile(1, "TxProfile", 0, "Relative", amperes(&[(0, 6.0)])), true),
            (1, profile(1, "ChargePointMaxProfile", 0, "Absolute", amperes(&[(0, 6.0)])), true),
            (0, profile(1, "ChargePointMaxProfile", 0, "Relative", amperes(&[(0, 6.0)])), true),
            (0, profile(1, "TxDefaultProfile", 99, "Relative", amperes(&[(0, 6.0)])), true),
            (0, profile(1, "TxDefaultProfile", 0, "Recurring", amperes(&[(0, 6.0)])), true),
            (0, profile(1, "TxDefaultProfile", 0, "Relative", amperes(&[(5, 6.0)])), true),
            (0, profile(1, "TxDefaultProfile", 0, "Relative", amperes(&[(0, 6.0), (0, 7.0)])), true),
        ] {
            let running = running();
            let result =
                profiles.install(Version::V16, connector, &value, transaction.then_some(&running), NOW);
            assert!(result.is_err(), "{value}");
        }
        assert!(profiles.is_empty());
    }

    #[test]
    fn a_daily_profile_comes_again_and_watts_and_amperes_mean_the_same() {
        let mut profiles = Profiles::default();
        let mut nightly = amperes(&[(0, 10.0), (3600, 32.0)]);
        nightly["startSchedule"] = at(NOW - 5 * DAY_MS).into();
        nightly["duration"] = 7200.into();
        let mut value = profile(1, "ChargePointMaxProfile", 0, "Recurring", nightly);
        value["recurrencyKind"] = "Daily".into();
        profiles.install(Version::V16, 0, &value, None, NOW).unwrap();
        let of = |at| profiles.station(at).map(|limit| limit.watts(3));
        assert_eq!(of(NOW), Some(6900.0));
        assert_eq!(of(NOW + 3_600_000), Some(22_080.0));
        assert_eq!(of(NOW + 7_200_000), None);
        assert_eq!(of(NOW + DAY_MS), Some(6900.0));
        let composite = profiles.composite(0, &[], NOW, 86_400 + 60, false, 44_000.0);
        assert_eq!(
            composite,
            json!([{ "startPeriod": 0, "limit": 6900.0 }, { "startPeriod": 3600, "limit": 22_080.0 },
                { "startPeriod": 7200, "limit": 44_000.0 }, { "startPeriod": 86_400, "limit": 6900.0 }])
        );
    }

    #[test]
    fn a_composite_schedule_says_what_rules_at_each_second() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..60 {
            let mut profiles = Profiles::default();
            for id in 0..6 {
                let purpose = ["ChargePointMaxProfile", "TxDefaultProfile", "TxProfile"][random.usize(..3)];
                let kind = if purpose == "TxDefaultProfile" { "Relative" } else { "Absolute" };
                let second = random.i64(1..200);
                let mut schedule =
                    amperes(&[(0, f64::from(random.u32(6..32))), (second, f64::from(random.u32(6..32)))]);
                if kind == "Absolute" {
                    schedule["startSchedule"] = at(NOW + random.i64(-200..200) * 1000).into();
                }
                if random.bool() {
                    schedule["duration"] = random.i64(1..300).into();
                }
                let connector = u32::from(purpose != "ChargePointMaxProfile");
                let value = profile(id, purpose, random.i64(0..3), kind, schedule);
                profiles.install(Version::V16, connector, &value, Some(&running()), NOW).unwrap();
            }
            let composite = profiles.composite(1, &[running()], NOW, 400, true, 22_080.0);
            for second in 0..400 {
                let at_ms = NOW + second * 1000;
                let truth = [
                    Some(32.0),
                    profiles.connector(1, Some(&running()), at_ms).map(|limit| limit.amperes(3)),
                    profiles.station(at_ms).map(|limit| limit.amperes(3)),
                ];
                let truth = truth.into_iter().flatten().fold(f64::MAX, f64::min);
                let told = composite.as_array().unwrap().iter().rev();
                let told = told.clone().find(|one| one["startPeriod"].as_i64().unwrap() <= second).unwrap();
                assert!((told["limit"].as_f64().unwrap() - truth).abs() < 0.06, "{second}: {composite}");
            }
        }
    }
}
