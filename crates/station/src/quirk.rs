//! What stations in the field do although no specification lets them: on demand, one by one and by name.
//!
//! Each was seen in reports about real stations. A central system has to survive all of them, and to bill rightly.

use crate::client::link::Filter;
use serde_json::{Value, json};
use std::{collections::VecDeque, fmt};
use switchboard_rpc::Version;

/// How many ids of open calls a rewriting keeps; a station has one open call at a time.
const IDS_MAX: usize = 16;

/// One thing that a station does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quirk {
    /// Timestamps have no zone.
    ZonelessTime,
    /// The zone of timestamps has two digits.
    ShortZone,
    /// Optional texts are empty instead of absent.
    EmptyTexts,
    /// Optional members are null instead of absent.
    Nulls,
    /// Texts are longer than they may be.
    LongTexts,
    /// Message ids are integers.
    IntegerIds,
    /// Message ids are counted from one on every connection.
    CountedIds,
    /// There is white space between all parts of a message.
    Spaces,
    /// Numbers where texts belong (1.6), texts where numbers belong (2.x).
    ValueTypes,
    /// The energy is told in kWh with a long tail of digits.
    FloatNoise,
    /// Units and contexts that no enumeration has.
    OddUnits,
    /// A meter value without a sample comes with each reading.
    EmptySamples,
    /// Members that the message does not have.
    ExtraMembers,
    /// Reports of status lack what they are about.
    StatuslessStatus,
    /// Error codes that no enumeration has.
    OddErrorCodes,
    /// Events of transactions do not say what triggered them.
    NoTrigger,
    /// The end of a transaction is told twice, as two messages.
    RepeatedStop,
    /// Readings name the transaction zero.
    TransactionZero,
    /// Readings for a transaction of years ago that nobody knows.
    OldReadings,
    /// Errors have three elements.
    ShortErrors,
    /// Frames that are no answers to anything, of unknown types, and broken ones.
    Noise,
    /// Empty messages.
    EmptyMessages,
    /// There is no BootNotification after a reset.
    NoBoot,
    /// There is a BootNotification after every reconnection.
    BootAlways,
    /// Settings are told as numbers and booleans.
    SettingTypes,
    /// The status of the whole station is told for EVSE zero.
    StatusOfZero,
}

/// All of them: name and what it does.
const TABLE: &[(Quirk, &str, &str)] = &[
    (Quirk::ZonelessTime, "zoneless-time", "timestamps have no zone"),
    (Quirk::ShortZone, "short-zone", "the zone of timestamps has two digits"),
    (Quirk::EmptyTexts, "empty-texts", "optional texts are empty instead of absent"),
    (Quirk::Nulls, "nulls", "optional members are null instead of absent"),
    (Quirk::LongTexts, "long-texts", "texts are longer than they may be"),
    (Quirk::IntegerIds, "integer-ids", "message ids are integers"),
    (Quirk::CountedIds, "counted-ids", "message ids are counted from one on every connection"),
    (Quirk::Spaces, "spaces", "white space between all parts of a message"),
    (Quirk::ValueTypes, "value-types", "sampled values are numbers in 1.6 and texts in 2.x"),
    (Quirk::FloatNoise, "float-noise", "the energy is in kWh with a long tail of digits"),
    (Quirk::OddUnits, "odd-units", "units and contexts that no enumeration has"),
    (Quirk::EmptySamples, "empty-samples", "a meter value without a sample comes with each reading"),
    (Quirk::ExtraMembers, "extra-members", "members that the message does not have, some of them twice"),
    (Quirk::StatuslessStatus, "statusless-status", "StatusNotification lacks a required member"),
    (Quirk::OddErrorCodes, "odd-error-codes", "error codes that no enumeration has"),
    (Quirk::NoTrigger, "no-trigger", "TransactionEvent lacks its triggerReason"),
    (Quirk::RepeatedStop, "repeated-stop", "the end of a transaction is sent again under a new message id"),
    (Quirk::TransactionZero, "transaction-zero", "readings outside of transactions name transaction 0"),
    (Quirk::OldReadings, "old-readings", "readings for a transaction of years ago that nobody knows"),
    (Quirk::ShortErrors, "short-errors", "a CALLERROR has three elements"),
    (Quirk::Noise, "noise", "stray answers, unknown message types and broken JSON among the messages"),
    (Quirk::EmptyMessages, "empty-messages", "empty text messages among the others"),
    (Quirk::NoBoot, "no-boot", "no BootNotification after a reset or a loss of power"),
    (Quirk::BootAlways, "boot-always", "a BootNotification after every reconnection"),
    (Quirk::SettingTypes, "setting-types", "GetConfiguration tells numbers and booleans instead of texts"),
    (Quirk::StatusOfZero, "status-of-zero", "2.x: StatusNotification for EVSE 0 and connector 0"),
];

impl Quirk {
    /// All quirks.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(quirk, ..)| *quirk)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|(one, ..)| *one == self).map_or("", |(_, name, _)| name)
    }

    /// What it does, in a few words.
    #[must_use]
    pub fn about(self) -> &'static str {
        TABLE.iter().find(|(one, ..)| *one == self).map_or("", |(.., about)| about)
    }

    /// Those with these names; all if there are no names.
    ///
    /// # Errors
    /// A name that none has, in a sentence.
    pub fn named<T: AsRef<str>>(names: &[T]) -> Result<Vec<Self>, String> {
        if names.is_empty() {
            return Ok(Self::all().collect());
        }
        let find = |name: &str| TABLE.iter().find(|(_, one, _)| *one == name).map(|(quirk, ..)| *quirk);
        names
            .iter()
            .map(|name| {
                let unknown = || format!("there is no quirk {:?}; see --quirks list", name.as_ref());
                find(name.as_ref()).ok_or_else(unknown)
            })
            .collect()
    }

    /// What it makes of a request of this station.
    fn spoil(self, version: Version, action: &str, payload: &mut Value) {
        match self {
            Self::ZonelessTime => timestamps(payload, &|text| text.trim_end_matches('Z').to_owned()),
            Self::ShortZone => timestamps(payload, &|text| text.replace('Z', "+00")),
            Self::EmptyTexts => match (action, version) {
                ("BootNotification", Version::V16) => {
                    payload["iccid"] = "".into();
                    payload["imsi"] = "".into();
                }
                ("BootNotification", _) => {
                    payload["chargingStation"]["modem"] = json!({ "iccid": "", "imsi": "" });
                }
                ("StatusNotification", Version::V16) => {
                    payload["info"] = "".into();
                    payload["vendorErrorCode"] = "".into();
                }
                _ => {}
            },
            Self::Nulls => match (action, version) {
                ("BootNotification", Version::V16) => payload["meterType"] = Value::Null,
                ("StatusNotification", Version::V16) => payload["vendorId"] = Value::Null,
                ("StopTransaction", _) => payload["transactionData"] = Value::Null,
                ("TransactionEvent", _) => payload["cableMaxCurrent"] = Value::Null,
                _ => {}
            },
            Self::LongTexts if action == "BootNotification" => {
                let long = format!("{{\"model\":\"{}\"}}", "long ".repeat(20));
                match version {
                    Version::V16 => payload["chargePointModel"] = long.into(),
                    _ => payload["chargingStation"]["model"] = long.into(),
                }
            }
            Self::ValueTypes => samples(payload, &|sample| {
                sample["value"] = match &sample["value"] {
                    Value::String(text) => {
                        text.parse::<f64>().map_or_else(|_| text.clone().into(), Value::from)
                    }
                    other => other.to_string().into(),
                };
            }),
            Self::FloatNoise => samples(payload, &|sample| {
                if sample["measurand"] != "Energy.Active.Import.Register" {
                    return;
                }
                let text = sample["value"]
                    .as_str()
                    .map(str::to_owned)
                    .unwrap_or_else(|| sample["value"].to_string());
                let kwh = text.parse::<f64>().unwrap_or_default() / 1000.0;
                if version == Version::V16 {
                    sample["value"] = format!("{kwh:.16}").into();
                    sample["unit"] = "kWh".into();
                } else {
                    sample["value"] = kwh.into();
                    sample["unitOfMeasure"] = json!({ "unit": "kWh" });
                }
            }),
            Self::OddUnits => samples(payload, &|sample| {
                if sample["measurand"] != "Energy.Active.Import.Register" {
                    sample["context"] = "CurrentMax".into();
                    if version == Version::V16 {
                        sample["unit"] = "Hz".into();
                    }
                }
            }),
            Self::EmptySamples => {
                if let Some(values) = payload["meterValue"].as_array_mut() {
                    let timestamp = values.first().map_or(Value::Null, |value| value["timestamp"].clone());
                    values.push(json!({ "timestamp": timestamp, "sampledValue": [] }));
                }
            }
            Self::ExtraMembers => {
                payload["disconnectReason"] = "EVDisconnected".into();
                payload["custom"] = "x".into();
            }
            Self::StatuslessStatus if action == "StatusNotification" => {
                if let Some(members) = payload.as_object_mut() {
                    members.remove(if version == Version::V16 { "errorCode" } else { "connectorStatus" });
                }
            }
            Self::OddErrorCodes if action == "StatusNotification" && version == Version::V16 => {
                payload["errorCode"] = "Error".into();
            }
            Self::NoTrigger => {
                if let Some(members) = payload.as_object_mut() {
                    members.remove("triggerReason");
                }
            }
            Self::TransactionZero
                if action == "MeterValues"
                    && version == Version::V16
                    && payload.get("transactionId").is_none() =>
            {
                payload["transactionId"] = 0.into();
            }
            Self::StatusOfZero if action == "StatusNotification" && version != Version::V16 => {
                payload["evseId"] = 0.into();
                payload["connectorId"] = 0.into();
            }
            _ => {}
        }
    }

    /// What it makes of an answer of this station.
    pub(crate) fn spoil_answer(self, action: &str, payload: &mut Value) {
        if self != Self::SettingTypes || action != "GetConfiguration" {
            return;
        }
        for key in payload["configurationKey"].as_array_mut().into_iter().flatten() {
            key["readonly"] = i32::from(key["readonly"] == true).into();
            let Some(text) = key["value"].as_str() else { continue };
            if let Ok(value) = serde_json::from_str::<Value>(text)
                && (value.is_number() || value.is_boolean())
            {
                key["value"] = value;
            }
        }
    }
}

impl fmt::Display for Quirk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What the quirks of a station make of its messages.
#[derive(Debug)]
pub(crate) struct Wire {
    version: Version,
    quirks: Vec<Quirk>,
    counter: i64,
    ids: VecDeque<(i64, String)>,
}

impl Wire {
    /// None if none of these quirks is about messages; `first_id` is above all integers that were ids before.
    pub(crate) fn new(version: Version, quirks: &[Quirk], first_id: i64) -> Option<Self> {
        let about_deeds = |quirk: &Quirk| {
            matches!(
                quirk,
                Quirk::NoBoot
                    | Quirk::BootAlways
                    | Quirk::RepeatedStop
                    | Quirk::OldReadings
                    | Quirk::SettingTypes
            )
        };
        let quirks: Vec<_> = quirks.iter().copied().filter(|quirk| !about_deeds(quirk)).collect();
        (!quirks.is_empty()).then(|| Self { version, quirks, counter: first_id, ids: VecDeque::new() })
    }

    fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }
}

impl Filter for Wire {
    fn connected(&mut self) {
        self.ids.clear();
    }

    fn outgoing(&mut self, text: &str) -> Vec<String> {
        let Ok(Value::Array(mut frame)) = serde_json::from_str::<Value>(text) else {
            return vec![text.to_owned()];
        };
        let mut written = Vec::new();
        let call = frame.first() == Some(&json!(2));
        if call && let [_, _, action, payload] = frame.as_mut_slice() {
            let action = action.as_str().unwrap_or_default();
            for quirk in &self.quirks {
                quirk.spoil(self.version, action, payload);
            }
        }
        let numbered = self.has(Quirk::IntegerIds) || self.has(Quirk::CountedIds);
        if call
            && numbered
            && let Some(id) = frame.get_mut(1)
        {
            let own = id.as_str().unwrap_or_default().to_owned();
            let number = if self.has(Quirk::CountedIds) {
                // From one, on every connection: the counter begins with the connection.
                self.ids.back().map_or(0, |(last, _)| *last) + 1
            } else {
                self.counter += 1;
                self.counter
            };
            *id = if self.has(Quirk::IntegerIds) { number.into() } else { number.to_string().into() };
            self.ids.push_back((number, own));
            if self.ids.len() > IDS_MAX {
                self.ids.pop_front();
            }
        }
        if frame.first() == Some(&json!(4)) && self.has(Quirk::ShortErrors) {
            frame.truncate(3);
        }
        let mut whole = Value::Array(frame).to_string();
        if call && self.has(Quirk::ExtraMembers) {
            // A member twice, as no tree of values can hold it.
            whole = whole.replacen("\"custom\":\"x\"", "\"custom\":\"x\",\"custom\":\"y\"", 1);
        }
        if self.has(Quirk::Spaces) {
            whole = spaced(&whole);
        }
        written.push(whole);
        if call && self.has(Quirk::EmptyMessages) {
            written.push(String::new());
        }
        if call && self.has(Quirk::Noise) {
            self.counter += 1;
            // Few enough that nobody may close the connection for it.
            let stray = match self.counter % 40 {
                3 => Some(r#"[3,"no-such-call",{"status":"Accepted"}]"#.to_owned()),
                9 => {
                    Some(format!("[4,\"{}\",\"FormationViolation\",\"not understood\",{{}}]", "x".repeat(37)))
                }
                15 => Some(r#"[1,"late","StartTransaction",{"connectorId":1}]"#.to_owned()),
                21 => Some(r#"[2,"broken","MeterValues",{"connectorId":1,"meterValue":[,{}]}]"#.to_owned()),
                _ => None,
            };
            written.extend(stray);
        }
        written
    }

    fn incoming(&mut self, text: &str) -> Option<String> {
        if !self.has(Quirk::IntegerIds) && !self.has(Quirk::CountedIds) {
            return None;
        }
        let Ok(Value::Array(mut frame)) = serde_json::from_str::<Value>(text) else { return None };
        if !matches!(frame.first().and_then(Value::as_i64), Some(3 | 4)) {
            return None;
        }
        let number = match frame.get(1)? {
            // As it was sent: an integer id is echoed as an integer.
            Value::Number(number) if self.has(Quirk::IntegerIds) => number.as_i64()?,
            Value::String(text) if !self.has(Quirk::IntegerIds) => text.parse().ok()?,
            _ => return None,
        };
        let index = self.ids.iter().position(|(one, _)| *one == number)?;
        let (_, own) = self.ids.get(index)?;
        frame[1] = own.clone().into();
        Some(Value::Array(frame).to_string())
    }
}

/// Changes every member that is a time.
fn timestamps(value: &mut Value, change: &dyn Fn(&str) -> String) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if name == "timestamp" {
                    if let Some(text) = member.as_str().map(change) {
                        *member = text.into();
                    }
                } else {
                    timestamps(member, change);
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| timestamps(element, change)),
        _ => {}
    }
}

/// Changes every sampled value.
fn samples(payload: &mut Value, change: &dyn Fn(&mut Value)) {
    for name in ["meterValue", "transactionData"] {
        for value in payload.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
            value["sampledValue"].as_array_mut().into_iter().flatten().for_each(change);
        }
    }
}

/// White space wherever JSON lets it stand.
fn spaced(text: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let mut out = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        match character {
            '"' if !escaped => inside = !inside,
            _ => {}
        }
        escaped = character == '\\' && !escaped;
        out.push(character);
        if !inside && matches!(character, ',' | ':' | '[' | '{') {
            out.push_str(if character == '{' { "\n  " } else { " " });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for (quirk, name, about) in TABLE {
            assert_eq!(Quirk::named(&[name]).unwrap(), [*quirk]);
            assert!(!about.is_empty());
        }
        assert!(Quirk::named(&["flying"]).unwrap_err().contains("flying"));
        assert_eq!(Quirk::named::<&str>(&[]).unwrap().len(), TABLE.len());
    }

    #[test]
    fn white_space_changes_no_value() {
        let frame = json!([2, "a,\"b:\\", "Action", { "text": "[{\\\"", "list": [1, 2] }]);
        let spaced = spaced(&frame.to_string());
        assert!(spaced.len() > frame.to_string().len() + 5);
        assert_eq!(serde_json::from_str::<Value>(&spaced).unwrap(), frame);
    }

    #[test]
    fn ids_of_another_kind_are_found_back() {
        for quirk in [Quirk::IntegerIds, Quirk::CountedIds] {
            let mut wire = Wire::new(Version::V16, &[quirk], 1000).unwrap();
            let sent = wire.outgoing(r#"[2,"my-id","Heartbeat",{}]"#);
            let id = serde_json::from_str::<Value>(&sent[0]).unwrap()[1].clone();
            assert_eq!(id.is_number(), quirk == Quirk::IntegerIds, "{id}");
            let answer = json!([3, id, {}]).to_string();
            assert_eq!(wire.incoming(&answer).unwrap(), r#"[3,"my-id",{}]"#);
            assert_eq!(wire.incoming(r#"[2,"1","Reset",{}]"#), None, "calls of the other side are not ours");
            assert_eq!(wire.incoming(r#"[3,"other",{}]"#), None);
        }
    }

    #[test]
    fn what_is_spoilt_is_what_the_name_says() {
        let mut payload = json!({ "timestamp": "2026-01-01T00:00:00Z", "meterValue": [{ "timestamp": "2026-01-01T00:00:00Z", "sampledValue": [{ "value": "12" }] }] });
        Quirk::ZonelessTime.spoil(Version::V16, "MeterValues", &mut payload);
        assert_eq!(payload["meterValue"][0]["timestamp"], "2026-01-01T00:00:00");
        Quirk::ValueTypes.spoil(Version::V16, "MeterValues", &mut payload);
        assert_eq!(payload["meterValue"][0]["sampledValue"][0]["value"], 12.0);
        Quirk::EmptySamples.spoil(Version::V16, "MeterValues", &mut payload);
        assert_eq!(payload["meterValue"][1]["sampledValue"], json!([]));
        let mut answer = json!({ "configurationKey": [{ "key": "A", "readonly": true, "value": "60" }] });
        Quirk::SettingTypes.spoil_answer("GetConfiguration", &mut answer);
        assert_eq!(answer["configurationKey"][0], json!({ "key": "A", "readonly": 1, "value": 60 }));
    }

    #[test]
    fn an_error_is_cut_and_noise_is_rare() {
        let mut wire = Wire::new(Version::V16, &[Quirk::ShortErrors, Quirk::Noise], 0).unwrap();
        assert_eq!(wire.outgoing(r#"[4,"1","NotSupported","no",{}]"#), [r#"[4,"1","NotSupported"]"#]);
        let extra: usize = (0..400).map(|_| wire.outgoing(r#"[2,"1","Heartbeat",{}]"#).len() - 1).sum();
        assert_eq!(extra, 40);
        assert!(Wire::new(Version::V16, &[Quirk::NoBoot], 0).is_none());
    }
}
