//! Meter readings as they stand in a payload.
//!
//! They are taken from the station's bytes, not from what was read of them: every digit, unit and oddity stays, in all
//! versions alike. Only the energy register is understood, since totals are made of it.

use crate::books::{Reading, Stamp};
use crate::decimal::Decimal;
use crate::details::Details;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use switchboard_messages::Timestamp;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "transactionData", rename = "meterValue")]
    values: Option<Vec<Value<'a>>>,
    #[serde(borrow, default, rename = "transactionInfo")]
    info: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "costDetails")]
    cost: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "numberOfPhasesUsed")]
    phases: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "cableMaxCurrent")]
    cable: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "preconditioningStatus")]
    preconditioning: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "evseSleep")]
    sleep: Option<&'a RawValue>,
}

/// What is kept of a `transactionInfo` as it stands there.
#[derive(Default, Deserialize)]
struct Info<'a> {
    #[serde(borrow, default, rename = "timeSpentCharging")]
    time: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "operationMode")]
    mode: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "tariffId")]
    tariff: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "transactionLimit")]
    limit: Option<&'a RawValue>,
}

/// What is taken from the station's bytes.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The time of the message itself.
    pub(super) at: Option<Stamp>,
    /// Its readings; none if it should have some and they cannot be found.
    pub(super) readings: Option<Vec<Reading>>,
    /// 2.x: what it says of its transaction beyond that which the books understand, by the members' names.
    pub(super) details: Details,
}

impl Written {
    /// Looks through a payload.
    pub(super) fn find(payload: &str) -> Self {
        let Ok(message) = serde_json::from_str::<Message<'_>>(payload) else { return Self::default() };
        let at = message.timestamp.map(|text| stamp(unquoted(text.get())));
        let details = details(&message);
        Self { at, readings: message.values.unwrap_or_default().iter().map(reading).collect(), details }
    }

    /// The time of the message as the station wrote it, if that can be found, else as it was read.
    pub(super) fn at_or(&mut self, timestamp: Timestamp) -> Stamp {
        self.at.take().filter(|at| at.us == microseconds(timestamp)).unwrap_or_else(|| stamp_of(timestamp))
    }
}

fn details(message: &Message<'_>) -> Details {
    let info =
        message.info.and_then(|info| serde_json::from_str::<Info<'_>>(info.get()).ok()).unwrap_or_default();
    let members = [
        ("cableMaxCurrent", message.cable),
        ("costDetails", message.cost),
        ("evseSleep", message.sleep),
        ("numberOfPhasesUsed", message.phases),
        ("operationMode", info.mode),
        ("preconditioningStatus", message.preconditioning),
        ("tariffId", info.tariff),
        ("timeSpentCharging", info.time),
        ("transactionLimit", info.limit),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Details::new(
        members.filter(|(_, value)| value.get() != "null").map(|(name, value)| (name, value.to_owned())),
    )
}

#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow, rename = "sampledValue")]
    samples: &'a RawValue,
}

#[derive(Deserialize)]
struct Sample<'a> {
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    measurand: Option<&'a RawValue>,
    #[serde(borrow, default)]
    phase: Option<&'a RawValue>,
    #[serde(borrow, default)]
    location: Option<&'a RawValue>,
    #[serde(borrow, default)]
    format: Option<&'a RawValue>,
    #[serde(borrow, default)]
    unit: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "unitOfMeasure")]
    unit_of_measure: Option<Unit<'a>>,
}

#[derive(Deserialize)]
struct Unit<'a> {
    #[serde(borrow, default)]
    unit: Option<&'a RawValue>,
    #[serde(default)]
    multiplier: Option<i32>,
}

/// The readings in a payload of MeterValues, StopTransaction or TransactionEvent; none if they cannot be found in it.
pub(super) fn readings(payload: &str) -> Option<Vec<Reading>> {
    Written::find(payload).readings
}

fn reading(value: &Value<'_>) -> Option<Reading> {
    let samples = value.samples.get();
    if !samples.starts_with('[') {
        return None;
    }
    let mut reading =
        Reading { at: stamp(&value.timestamp), samples: samples.to_owned(), energy: None, unusable: false };
    // Samples that are no objects are kept all the same; there is no register among them.
    for sample in serde_json::from_str::<Vec<Sample<'_>>>(samples).unwrap_or_default() {
        if !is_register(&sample) {
            continue;
        }
        let Some(text) =
            sample.value.map(|value| unquoted(value.get()).trim()).filter(|text| !text.is_empty())
        else {
            continue;
        };
        // Another unit is another measurand whose name was left out.
        let Some(exponent) = watt_hours(&sample) else { continue };
        match Decimal::parse(text).and_then(|value| value.shifted(exponent)) {
            Some(energy) => reading.energy = Some(energy),
            None => reading.unusable = true,
        }
    }
    Some(reading)
}

/// The register that is billed: imported active energy at the outlet over all phases, in plain figures.
fn is_register(sample: &Sample<'_>) -> bool {
    let is =
        |member: Option<&RawValue>, text: &str| member.is_none_or(|member| unquoted(member.get()) == text);
    is(sample.measurand, "Energy.Active.Import.Register")
        && is(sample.location, "Outlet")
        && is(sample.format, "Raw")
        && sample.phase.is_none()
}

/// By which power of ten the value is to be multiplied to be in Wh; none if it is no energy.
fn watt_hours(sample: &Sample<'_>) -> Option<i32> {
    let unit_2x = sample.unit_of_measure.as_ref();
    let unit = sample.unit.or_else(|| unit_2x.and_then(|unit| unit.unit));
    let exponent = match unit.map(|unit| unquoted(unit.get())) {
        None | Some("Wh") => 0,
        Some("kWh") => 3,
        Some(_) => return None,
    };
    unit_2x.and_then(|unit| unit.multiplier).unwrap_or(0).checked_add(exponent)
}

/// A time as the station wrote it.
pub(super) fn stamp(text: &str) -> Stamp {
    Stamp::new(text, Timestamp::parse(text).ok().map(microseconds))
}

/// A time that was read.
pub(super) fn stamp_of(timestamp: Timestamp) -> Stamp {
    Stamp::new(timestamp.to_string(), Some(microseconds(timestamp)))
}

fn microseconds(timestamp: Timestamp) -> i64 {
    timestamp.unix_seconds() * 1_000_000 + i64::from(timestamp.subsec_nanos() / 1000)
}

/// The inside of a JSON string, or another value as it is. What we compare with holds nothing that JSON escapes.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json)
}

#[cfg(test)]
mod tests {
    use super::readings;

    fn energies(payload: &str) -> Vec<Option<String>> {
        let found = readings(payload).expect("readings");
        found.into_iter().map(|reading| reading.energy.map(|energy| energy.to_string())).collect()
    }

    fn one(sample: &str) -> Option<String> {
        let payload =
            format!(r#"{{"meterValue":[{{"timestamp":"2024-09-02T22:40:55Z","sampledValue":[{sample}]}}]}}"#);
        energies(&payload).remove(0)
    }

    #[test]
    fn the_energy_register_is_found_with_all_its_digits() {
        for (sample, wh) in [
            (r#"{"value":"95.0"}"#, Some("95.0")),
            (r#"{"value":"0.010","unit":"kWh","context":"Transaction.Begin"}"#, Some("10")),
            (
                r#"{"value":"1.6250000000000002","unit":"kWh","format":"Raw","location":"Outlet"}"#,
                Some("1625.0000000000002"),
            ),
            (r#"{"value":604.213,"measurand":"Energy.Active.Import.Register","unit":"Wh"}"#, Some("604.213")),
            (r#"{"value":1.10,"unitOfMeasure":{"unit":"kWh"}}"#, Some("1100")),
            (r#"{"value":5,"unitOfMeasure":{"multiplier":3}}"#, Some("5000")),
            (r#"{"value":"7","measurand":"Voltage","unit":"V"}"#, None),
            (r#"{"value":"7","phase":"L1"}"#, None),
            (r#"{"value":"7","location":"Inlet"}"#, None),
            (r#"{"value":"a9f3","format":"SignedData"}"#, None),
            (r#"{"value":""}"#, None),
            (r#"{"value":"twelve"}"#, None),
        ] {
            assert_eq!(one(sample).as_deref(), wh, "{sample}");
        }
    }

    #[test]
    fn only_an_energy_that_is_no_number_is_unusable() {
        let unusable = |sample: &str| {
            let payload = format!(
                r#"{{"meterValue":[{{"timestamp":"2024-09-02T22:40:55Z","sampledValue":[{sample}]}}]}}"#
            );
            readings(&payload).unwrap().remove(0).unusable
        };
        assert!(unusable(r#"{"value":"fifty","unit":"kWh"}"#));
        assert!(!unusable(r#"{"value":""}"#));
        // Alfen names no measurand, and means a current.
        assert!(!unusable(r#"{"value":"15.630","unit":"A"}"#));
    }

    #[test]
    fn samples_stay_as_the_station_wrote_them() {
        let samples = r#"[ {"value" : "1.10","unit":"Celcius", "x":null} ]"#;
        let payload = format!(
            r#"{{"transactionData":[{{"timestamp":"2024-09-02T22:40:55+02","sampledValue":{samples}}}]}}"#
        );
        let found = readings(&payload).unwrap();
        assert_eq!(found[0].samples, samples);
        assert_eq!(found[0].at.text, "2024-09-02T22:40:55+02");
        assert_eq!(found[0].at.us, 1_725_309_655_000_000);
    }

    #[test]
    fn what_has_no_readings_says_so() {
        assert!(readings(r#"{"connectorId":1}"#).unwrap().is_empty());
        assert!(readings(r#"{"meterValue":null}"#).unwrap().is_empty());
        assert!(readings(r#"{"meterValue":[{"sampledValue":[]}]}"#).is_none());
        assert!(readings(r#"{"meterValue":7}"#).is_none());
    }
}
