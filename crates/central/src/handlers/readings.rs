//! Meter readings as they stand in a payload.
//!
//! They are taken from the station's bytes, not from what was read of them: every digit, unit and oddity stays, in all
//! versions alike. Only the energy register is understood, since totals are made of it.

use crate::books::{Reading, Stamp};
use crate::decimal::Decimal;
use crate::details::Details;
use memchr::memmem::Finder;
use serde_json::value::RawValue;
use std::sync::LazyLock;
use switchboard_messages::{Cursor, NotJson, Timestamp};

/// Members that are kept as they stand in a message of 2.x, and those of its `transactionInfo`.
const DETAILS: [&str; 5] =
    ["cableMaxCurrent", "costDetails", "evseSleep", "numberOfPhasesUsed", "preconditioningStatus"];
const DETAILS_OF_INFO: [&str; 4] = ["operationMode", "tariffId", "timeSpentCharging", "transactionLimit"];

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
    /// Looks through a payload that was read before.
    pub(super) fn find(payload: &str) -> Self {
        Self::walk(payload).unwrap_or_default()
    }

    /// Looks through a payload that nobody could read, and that may be no JSON.
    pub(super) fn find_in_unreadable(payload: &str) -> Self {
        let mut cursor = Cursor::new(payload);
        if cursor.skip().is_ok() && cursor.at_end() { Self::find(payload) } else { Self::default() }
    }

    fn walk(payload: &str) -> Result<Self, NotJson> {
        let mut at = None;
        let mut readings = Some(Vec::new());
        let mut details = Vec::new();
        let mut cursor = Cursor::new(payload);
        let is_object = cursor.members(|name, value| {
            match name {
                "timestamp" => at = set(value.value()?).map(|text| stamp(unquoted(text))),
                "meterValue" => readings = found(value, Shape::Object)?,
                "transactionInfo" => {
                    info(value, &mut details)?;
                }
                // Readings in 1.6; in an event of 2.0 it is what is called `transactionInfo` since.
                "transactionData" => {
                    let mut list = value.clone();
                    if !info(value, &mut details)? {
                        readings = found(&mut list, Shape::Object)?;
                    }
                }
                _ => detail(&DETAILS, name, value.pass()?, &mut details)?,
            }
            Ok(())
        })?;
        if !is_object {
            return Err(NotJson);
        }
        details.sort_by(|(one, _): &(String, _), (other, _)| one.cmp(other));
        Ok(Self { at, readings, details: Details::new(details) })
    }

    /// The time of the message as the station wrote it, if that can be found, else as it was read.
    pub(super) fn at_or(&mut self, timestamp: Timestamp) -> Stamp {
        self.at.take().filter(|at| at.us == microseconds(timestamp)).unwrap_or_else(|| stamp_of(timestamp))
    }
}

/// What is kept of a `transactionInfo`; whether it is an object.
fn info(value: &mut Cursor<'_>, details: &mut Vec<(String, Box<RawValue>)>) -> Result<bool, NotJson> {
    value.members(|name, value| detail(&DETAILS_OF_INFO, name, value.pass()?, details))
}

fn detail(
    kept: &[&str],
    name: &str,
    value: &str,
    details: &mut Vec<(String, Box<RawValue>)>,
) -> Result<(), NotJson> {
    if kept.contains(&name)
        && let Some(value) = set(value)
    {
        let value = RawValue::from_string(value.to_owned()).map_err(|_| NotJson)?;
        details.push((name.to_owned(), value));
    }
    Ok(())
}

/// The readings in a payload of MeterValues, StopTransaction or TransactionEvent that nobody could read; none if they
/// cannot be found in it.
pub(super) fn readings(payload: &str) -> Option<Vec<Reading>> {
    let readings = Written::find_in_unreadable(payload).readings?;
    if readings.is_empty() { of_1_5(payload).unwrap_or(Some(readings)) } else { Some(readings) }
}

/// The readings of a MeterValues in the shape of OCPP 1.5: `values` that have a `value` each, or several.
fn of_1_5(payload: &str) -> Result<Option<Vec<Reading>>, NotJson> {
    let mut readings = Some(Vec::new());
    Cursor::new(payload).members(|name, value| {
        if name == "values" {
            readings = found(value, Shape::Bare)?;
            return Ok(());
        }
        value.skip()
    })?;
    Ok(readings)
}

/// How the samples of a reading are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As objects.
    Object,
    /// As in OCPP 1.5: a text is the value of the energy register in Wh, and what is something else is an object.
    Bare,
}

impl Shape {
    const fn samples(self) -> &'static str {
        match self {
            Self::Object => "sampledValue",
            Self::Bare => "value",
        }
    }
}

/// All readings of a list, or none if one of them has no time or no samples.
fn found(list: &mut Cursor<'_>, shape: Shape) -> Result<Option<Vec<Reading>>, NotJson> {
    let mut readings = Some(Vec::new());
    let (text, is_list) = list.spanned(|list| {
        list.items(|item| {
            let reading = reading(item, shape)?;
            readings = readings.take().zip(reading).map(|(mut readings, reading)| {
                readings.push(reading);
                readings
            });
            Ok(())
        })
    })?;
    Ok(readings.filter(|_| is_list || set(text).is_none()))
}

fn reading(value: &mut Cursor<'_>, shape: Shape) -> Result<Option<Reading>, NotJson> {
    let mut at = None;
    let mut found = None;
    value.members(|name, value| {
        match name {
            "timestamp" => at = value.string()?,
            name if name == shape.samples() => {
                let mut register = Register::default();
                let (text, is_list) = value.spanned(|value| {
                    value.items(|item| {
                        let sample = item.pass()?;
                        if shape == Shape::Bare && sample.starts_with('"') {
                            register.read(unquoted(sample).trim(), 0);
                            return Ok(());
                        }
                        register.sample(sample)
                    })
                })?;
                found = is_list.then_some((text, register));
            }
            _ => value.skip()?,
        }
        Ok(())
    })?;
    Ok(at.zip(found).map(|(at, (samples, register))| Reading {
        at: stamp(&at),
        samples: samples.to_owned(),
        energy: register.energy,
        unusable: register.unusable,
    }))
}

/// The register that is billed: imported active energy at the outlet over all phases, in plain figures.
#[derive(Default)]
struct Register {
    energy: Option<Decimal>,
    unusable: bool,
}

impl Register {
    /// Looks whether a sample is of the register. One that is no object is kept all the same; it is of none.
    fn sample(&mut self, sample: &str) -> Result<(), NotJson> {
        static NAME: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"measurand\""));
        static OURS: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("Energy.Active.Import.Register"));
        // Most samples measure something else: those are not worth more than a search.
        if NAME.find(sample.as_bytes()).is_some() && OURS.find(sample.as_bytes()).is_none() {
            return Ok(());
        }
        let mut is_ours = true;
        let (mut value, mut unit, mut multiplier) = (None, None, Some(0_i32));
        let is_object = Cursor::new(sample).members(|name, member| {
            // Another unit than these is another measurand whose name was left out.
            match name {
                "unitOfMeasure" => {
                    member.members(|name, member| {
                        let text = set(member.value()?);
                        match name {
                            "unit" => unit = unit.or(text),
                            "multiplier" => multiplier = text.map_or(Some(0), |text| text.parse().ok()),
                            _ => {}
                        }
                        Ok(())
                    })?;
                }
                _ => {
                    let Some(text) = set(member.value()?) else { return Ok(()) };
                    match name {
                        "value" => value = Some(unquoted(text).trim()),
                        "measurand" => is_ours &= unquoted(text) == "Energy.Active.Import.Register",
                        "location" => is_ours &= unquoted(text) == "Outlet",
                        "format" => is_ours &= unquoted(text) == "Raw",
                        "phase" => is_ours = false,
                        "unit" => unit = Some(text),
                        _ => {}
                    }
                }
            }
            Ok(())
        })?;
        let Some(text) = value.filter(|text| is_object && is_ours && !text.is_empty()) else { return Ok(()) };
        let exponent = match unit.map(unquoted) {
            None | Some("Wh") => 0,
            Some("kWh") => 3,
            Some(_) => return Ok(()),
        };
        let Some(exponent) = multiplier.and_then(|multiplier| multiplier.checked_add(exponent)) else {
            return Ok(());
        };
        self.read(text, exponent);
        Ok(())
    }

    /// Takes a value in so many powers of ten of a Wh.
    fn read(&mut self, text: &str, exponent: i32) {
        match Decimal::parse(text).and_then(|value| value.shifted(exponent)) {
            Some(energy) => self.energy = Some(energy),
            None if text.is_empty() => {}
            None => self.unusable = true,
        }
    }
}

/// A value that is there: some stations write `null` for what they have not.
fn set(value: &str) -> Option<&str> {
    Some(value).filter(|value| *value != "null")
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
    fn a_bare_text_is_a_register_in_the_shape_of_1_5_only() {
        let of = |value: &str| {
            energies(&format!(r#"{{"values":[{{"timestamp":"2016-09-17T15:47:37Z",{value}}}]}}"#))
        };
        assert_eq!(of(r#""value":["100"]"#), [Some("100".to_owned())]);
        assert_eq!(of(r#""value":[""]"#), [None]);
        assert_eq!(of(r#""value":[{"value":"0.1","unit":"kWh"}]"#), [Some("100".to_owned())]);
        assert!(readings(r#"{"values":[{"timestamp":"2016-09-17T15:47:37Z"}]}"#).is_none());
        assert_eq!(one(r#""100""#), None);
    }

    #[test]
    fn what_has_no_readings_says_so() {
        assert!(readings(r#"{"connectorId":1}"#).unwrap().is_empty());
        assert!(readings(r#"{"meterValue":null}"#).unwrap().is_empty());
        assert!(readings(r#"{"meterValue":[{"sampledValue":[]}]}"#).is_none());
        assert!(readings(r#"{"meterValue":7}"#).is_none());
    }
}
