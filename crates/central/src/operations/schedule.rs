//! What a charging profile must be, so that no station misunderstands it (`OCPP-J.md` section 12).

use super::profile::ProfileRequest;
use crate::books::Purpose;
use serde::{Deserialize, Serialize};
use switchboard_messages::Timestamp;

/// What a limit is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Ampere, per phase.
    A,
    /// Watt, over all phases.
    W,
}

impl Unit {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::W => "W",
        }
    }
}

/// How often a schedule begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cycle {
    /// Every 24 hours from its start.
    Daily,
    /// Every seven days from its start.
    Weekly,
}

impl Cycle {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "Daily",
            Self::Weekly => "Weekly",
        }
    }

    const fn seconds(self) -> i64 {
        match self {
            Self::Daily => 24 * 3600,
            Self::Weekly => 7 * 24 * 3600,
        }
    }
}

/// A limit from a moment on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Period {
    /// Seconds after the start of the schedule.
    pub start_period: i64,
    /// The limit, in the schedule's unit, with at most one digit after the point.
    pub limit: f64,
    /// How many phases may be used; 3 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_phases: Option<i64>,
}

/// Everything that is wrong with a profile, in words; none if it is sound.
pub(super) fn faults(request: &ProfileRequest) -> Vec<String> {
    let mut faults = Vec::new();
    place(request, &mut faults);
    times(request, &mut faults);
    periods(request, &mut faults);
    faults
}

fn place(request: &ProfileRequest, faults: &mut Vec<String>) {
    let mut fault = |text: &str| faults.push(text.to_owned());
    if request.connector < 0 {
        fault("there is no negative connector");
    }
    if request.stack_level < 0 {
        fault("there is no negative stack level");
    }
    match request.purpose {
        Purpose::StationMax if request.connector != 0 => {
            fault("a limit of the whole station belongs to connector 0");
        }
        Purpose::Tx if request.connector == 0 => {
            fault("a profile of a transaction belongs to a connector, not to 0");
        }
        _ => {}
    }
    match (&request.purpose, &request.transaction) {
        (Purpose::Tx, None) => fault("a profile of a transaction needs the id of that transaction"),
        (Purpose::StationMax | Purpose::TxDefault, Some(_)) => {
            fault("only a profile of purpose tx is of one transaction");
        }
        _ => {}
    }
}

fn times(request: &ProfileRequest, faults: &mut Vec<String>) {
    let mut moment = |name: &str, text: Option<&String>| {
        let text = text?;
        let parsed = Timestamp::parse(text).ok();
        if parsed.is_none() {
            faults.push(format!("{name} is no time like 2026-11-23T10:00:00Z"));
        }
        parsed
    };
    let from = moment("validFrom", request.valid_from.as_ref());
    let to = moment("validTo", request.valid_to.as_ref());
    moment("startSchedule", request.start_schedule.as_ref());
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        faults.push("validTo must be later than validFrom".to_owned());
    }
    if request.recurring.is_some() && request.start_schedule.is_none() {
        faults.push("a schedule that recurs needs startSchedule: it recurs from there".to_owned());
    }
    if request.relative && request.start_schedule.is_some() {
        faults.push("a relative schedule has no startSchedule: it begins with the transaction".to_owned());
    }
    if request.relative && request.recurring.is_some() {
        faults.push("a schedule is relative or it recurs".to_owned());
    }
    if request.relative && request.purpose == Purpose::StationMax {
        faults.push("the limit of a whole station cannot be relative to a transaction".to_owned());
    }
    if request.duration.is_some_and(|duration| duration <= 0) {
        faults.push("the duration must be positive; without one the last period lasts for ever".to_owned());
    }
}

fn periods(request: &ProfileRequest, faults: &mut Vec<String>) {
    let periods = &request.charging_schedule_period;
    match periods.first() {
        None => faults.push("a schedule needs a period".to_owned()),
        Some(first) if first.start_period != 0 => {
            faults.push("the first period must start at 0".to_owned());
        }
        Some(_) => {}
    }
    if periods.windows(2).any(|pair| pair[0].start_period >= pair[1].start_period) {
        faults.push("periods must stand in the order of their starts".to_owned());
    }
    let cycle = request.recurring.map(Cycle::seconds);
    let end = match (request.duration.filter(|duration| *duration > 0), cycle) {
        (Some(duration), Some(cycle)) => Some(duration.min(cycle)),
        (duration, cycle) => duration.or(cycle),
    };
    for (number, period) in periods.iter().enumerate() {
        if end.is_some_and(|end| period.start_period >= end) {
            faults.push(format!("period {number} is never reached: it starts after the schedule has ended"));
        }
        let tenths = period.limit * 10.0;
        if !(0.0..=1e9).contains(&period.limit) {
            faults.push(format!("period {number}: the limit must be 0 or more"));
        } else if (tenths - tenths.round()).abs() > 1e-6 {
            faults.push(format!("period {number}: the limit may have one digit after the point"));
        }
        if period.number_phases.is_some_and(|phases| !(1..=3).contains(&phases)) {
            faults.push(format!("period {number}: there are 1 to 3 phases"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::faults;
    use crate::operations::ProfileRequest;
    use serde_json::{Value, json};

    fn check(change: &Value, expected: Option<&str>) {
        let mut request = json!({
            "connector": 0, "purpose": "tx-default", "chargingRateUnit": "A",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16.1}],
        });
        for (name, value) in change.as_object().unwrap() {
            request[name] = value.clone();
        }
        let request: ProfileRequest = serde_json::from_value(request).unwrap();
        let found = faults(&request);
        match expected {
            Some(expected) => {
                assert!(found.len() == 1 && found[0].contains(expected), "{change}: {found:?}");
            }
            None => assert!(found.is_empty(), "{change}: {found:?}"),
        }
    }

    #[test]
    fn what_stations_would_misunderstand_is_refused_with_the_reason() {
        check(&json!({}), None);
        for (change, expected) in [
            (json!({"purpose": "station-max", "connector": 1}), "connector 0"),
            (json!({"purpose": "tx", "transaction": "5"}), "not to 0"),
            (json!({"purpose": "tx", "connector": 1}), "needs the id"),
            (json!({"transaction": "5"}), "only a profile of purpose tx"),
            (json!({"recurring": "daily"}), "needs startSchedule"),
            (json!({"relative": true, "startSchedule": "2026-01-01T00:00:00Z"}), "relative schedule"),
            (json!({"relative": true, "purpose": "station-max"}), "cannot be relative"),
            (json!({"validFrom": "2026-01-02T00:00:00Z", "validTo": "2026-01-01T00:00:00Z"}), "validTo"),
            (json!({"validFrom": "tomorrow"}), "validFrom is no time"),
            (json!({"duration": 0}), "duration"),
            (json!({"chargingSchedulePeriod": []}), "needs a period"),
            (json!({"chargingSchedulePeriod": [{"startPeriod": 5, "limit": 1}]}), "start at 0"),
            (
                json!({"chargingSchedulePeriod": [
                    {"startPeriod": 0, "limit": 1}, {"startPeriod": 9, "limit": 1}, {"startPeriod": 9, "limit": 2},
                ]}),
                "order",
            ),
            (
                json!({"duration": 60, "chargingSchedulePeriod": [
                    {"startPeriod": 0, "limit": 1}, {"startPeriod": 60, "limit": 1},
                ]}),
                "never reached",
            ),
            (json!({"chargingSchedulePeriod": [{"startPeriod": 0, "limit": 1.25}]}), "one digit"),
            (json!({"chargingSchedulePeriod": [{"startPeriod": 0, "limit": -1}]}), "0 or more"),
            (
                json!({"chargingSchedulePeriod": [{"startPeriod": 0, "limit": 1, "numberPhases": 4}]}),
                "phases",
            ),
        ] {
            check(&change, Some(expected));
        }
    }
}
