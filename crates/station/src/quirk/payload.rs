//! What quirks make of payloads.

use super::Quirk;
use serde_json::{Value, json};
use switchboard_rpc::Version;

const ENERGY: &str = "Energy.Active.Import.Register";
const HOUR_MS: i64 = 3_600_000;

impl Quirk {
    /// What it makes of a request of this station.
    pub(super) fn spoil(self, version: Version, action: &str, payload: &mut Value) {
        let old = version == Version::V16;
        match self {
            Self::ZonelessTime => timestamps(payload, &|text| text.trim_end_matches('Z').to_owned()),
            Self::ShortZone => timestamps(payload, &|text| moved(text, 2, "+02")),
            Self::ShortHours => timestamps(payload, &short_hour),
            Self::EmptyTexts => empty_texts(old, action, payload),
            Self::Nulls => match action {
                "BootNotification" if old => payload["meterType"] = Value::Null,
                "StatusNotification" if old => {
                    payload["vendorId"] = Value::Null;
                    payload["info"] = "null".into();
                }
                "StopTransaction" => payload["transactionData"] = Value::Null,
                "TransactionEvent" => payload["cableMaxCurrent"] = Value::Null,
                _ => {}
            },
            Self::LongTexts if action == "BootNotification" => {
                let long = format!("{{\"model\":\"{}\"}}", "long ".repeat(20));
                if old {
                    payload["chargePointModel"] = long.into();
                } else {
                    payload["chargingStation"]["model"] = long.into();
                }
            }
            Self::OddNames if action == "BootNotification" => {
                if old {
                    payload["chargePointModel"] = "T22::NET_WIFI".into();
                    payload["firmwareVersion"] = "T1Z9120::V1.6.7".into();
                    payload["meterType"] = "Internal NON compliant".into();
                    payload["meterSerialNumber"] = "N/A".into();
                    payload["iccid"] = "not present".into();
                } else {
                    let station = &mut payload["chargingStation"];
                    station["model"] = "T22::NET_WIFI".into();
                    station["firmwareVersion"] = "T1Z9120::V1.6.7".into();
                    station["modem"] = json!({ "iccid": "not present", "imsi": "N/A" });
                }
            }
            Self::Sparse => sparse(old, action, payload),
            Self::OldShapes => match action {
                "MeterValues" if old => shape_of_1_5(payload),
                "TransactionEvent" => shape_of_2_0(payload),
                _ => {}
            },
            Self::ValueTypes => samples(payload, &number_or_text),
            Self::FloatNoise => samples(payload, &|sample| in_kwh(old, sample)),
            Self::OddUnits => odd_units(old, payload),
            Self::EmptySamples => {
                if let Some(values) = payload["meterValue"].as_array_mut() {
                    let timestamp = values.first().map_or(Value::Null, |value| value["timestamp"].clone());
                    let empty =
                        |measurand| json!({ "context": "Trigger", "measurand": measurand, "value": "" });
                    values.push(json!({ "timestamp": timestamp, "sampledValue": [] }));
                    values.push(
                        json!({ "timestamp": timestamp, "sampledValue": [empty(ENERGY), empty("Voltage")] }),
                    );
                }
            }
            Self::ExtraMembers => {
                payload["disconnectReason"] = "EVDisconnected".into();
                payload["custom"] = "x".into();
                if action == "StopTransaction" {
                    payload["connectorId"] = 1.into();
                }
            }
            Self::StatuslessStatus if action == "StatusNotification" => {
                remove(payload, if old { "errorCode" } else { "connectorStatus" });
            }
            Self::OddErrorCodes if action == "StatusNotification" && old => {
                payload["errorCode"] = "Error".into();
            }
            Self::NoTrigger => remove(payload, "triggerReason"),
            Self::Zeros => {
                let begins = action == "StartTransaction" || payload["eventType"] == "Started";
                if begins && payload.get("reservationId").is_none() {
                    payload["reservationId"] = 0.into();
                }
                if action == "MeterValues" && old && payload.get("transactionId").is_none() {
                    payload["transactionId"] = 0.into();
                }
            }
            Self::StatusOfZero if action == "StatusNotification" && !old => {
                payload["evseId"] = 0.into();
                payload["connectorId"] = 0.into();
            }
            _ => {}
        }
    }

    /// What it makes of an answer of this station.
    pub(crate) fn spoil_answer(self, version: Version, action: &str, payload: &mut Value) {
        match (self, action) {
            (Self::SettingTypes, "GetConfiguration" | "GetVariables") => settings(payload, &|text| {
                let value = serde_json::from_str::<Value>(text).ok()?;
                (value.is_number() || value.is_boolean()).then_some(value)
            }),
            (Self::SettingDigits, "GetConfiguration" | "GetVariables") => {
                settings(payload, &|text| match text {
                    "false" => Some("0".into()),
                    "true" => Some("1".into()),
                    _ => None,
                });
            }
            (Self::HollowSchedules, "GetCompositeSchedule") => {
                *payload = if version == Version::V16 {
                    json!({ "status": "Rejected", "connectorId": 0, "scheduleStart": "0", "chargingSchedule": {
                        "duration": 0, "startSchedule": "0", "chargingRateUnit": "", "chargingSchedulePeriod": [] } })
                } else {
                    json!({ "status": "Rejected", "schedule": { "evseId": 0, "duration": 0, "scheduleStart": "0",
                        "chargingRateUnit": "", "chargingSchedulePeriod": [] } })
                };
            }
            _ => {}
        }
        if self == Self::SettingTypes && action == "GetConfiguration" {
            for key in payload["configurationKey"].as_array_mut().into_iter().flatten() {
                key["readonly"] = i32::from(key["readonly"] == true).into();
            }
        }
    }
}

fn empty_texts(old: bool, action: &str, payload: &mut Value) {
    match action {
        "BootNotification" if old => {
            for name in ["iccid", "imsi", "chargePointVendor"] {
                payload[name] = "".into();
            }
        }
        "BootNotification" => {
            payload["chargingStation"]["modem"] = json!({ "iccid": "", "imsi": "" });
            payload["chargingStation"]["vendorName"] = "".into();
        }
        "StatusNotification" if old => {
            payload["info"] = "".into();
            payload["vendorErrorCode"] = "".into();
        }
        _ => {}
    }
}

/// Leaves out what may be left out, and means the default.
fn sparse(old: bool, action: &str, payload: &mut Value) {
    match action {
        "BootNotification" if old => {
            remove(payload, "chargePointSerialNumber");
            remove(payload, "firmwareVersion");
        }
        "BootNotification" => {
            remove(&mut payload["chargingStation"], "serialNumber");
            remove(&mut payload["chargingStation"], "firmwareVersion");
        }
        "StatusNotification" if old => remove(payload, "timestamp"),
        _ => {}
    }
    samples(payload, &|sample| {
        if sample["measurand"] == ENERGY {
            *sample = json!({ "value": sample["value"] });
        }
    });
}

/// As OCPP 1.5 wrote MeterValues: the register as a bare text, and nothing else.
fn shape_of_1_5(payload: &mut Value) {
    let Some(members) = payload.as_object_mut() else { return };
    let Some(Value::Array(values)) = members.remove("meterValue") else { return };
    let values: Vec<Value> = values
        .iter()
        .map(|value| {
            let registers = value["sampledValue"].as_array().into_iter().flatten();
            let registers = registers.filter(|sample| sample["measurand"] == ENERGY);
            let texts: Vec<&Value> = registers.map(|sample| &sample["value"]).collect();
            json!({ "timestamp": value["timestamp"], "value": texts })
        })
        .collect();
    members.insert("values".to_owned(), values.into());
}

/// As OCPP 2.0 wrote TransactionEvent, with texts for numbers.
fn shape_of_2_0(payload: &mut Value) {
    let Some(members) = payload.as_object_mut() else { return };
    let Some(mut info) = members.remove("transactionInfo") else { return };
    info["id"] = info["transactionId"].take();
    remove(&mut info, "transactionId");
    if let Some(id) = info["remoteStartId"].as_i64() {
        info["remoteStartId"] = id.to_string().into();
    } else {
        remove(&mut info, "remoteStartId");
    }
    members.insert("transactionData".to_owned(), info);
    samples(payload, &|sample| {
        if sample["measurand"] == ENERGY {
            *sample = json!({ "value": sample["value"].to_string() });
        }
    });
}

fn number_or_text(sample: &mut Value) {
    sample["value"] = match &sample["value"] {
        Value::String(text) => text.parse::<f64>().map_or_else(|_| text.clone().into(), Value::from),
        other => other.to_string().into(),
    };
}

fn in_kwh(old: bool, sample: &mut Value) {
    if sample["measurand"] != ENERGY {
        return;
    }
    let text = sample["value"].as_str().map(str::to_owned).unwrap_or_else(|| sample["value"].to_string());
    let kwh = text.parse::<f64>().unwrap_or_default() / 1000.0;
    if old {
        sample["value"] = format!("{kwh:.16}").into();
        sample["unit"] = "kWh".into();
    } else {
        sample["value"] = kwh.into();
        sample["unitOfMeasure"] = json!({ "unit": "kWh" });
    }
}

fn odd_units(old: bool, payload: &mut Value) {
    samples(payload, &|sample| {
        if sample["measurand"] != ENERGY {
            sample["context"] = "CurrentMax".into();
            if old {
                sample["unit"] = "Hz".into();
            }
        }
    });
    lists(payload, &|list| {
        for (measurand, value, unit) in [("Temperature", 14.0, "Celsius"), ("Frequency", 49.97, "Hz")] {
            list.push(if old {
                json!({ "measurand": measurand, "value": value.to_string(), "unit": unit })
            } else {
                json!({ "measurand": measurand, "value": value, "unitOfMeasure": { "unit": unit } })
            });
        }
    });
}

/// The same time in a zone so many hours east.
fn moved(text: &str, hours: i64, zone: &str) -> String {
    let moved = text
        .parse()
        .ok()
        .map(jiff::Timestamp::as_millisecond)
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms + hours * HOUR_MS).ok());
    moved.map_or_else(|| text.to_owned(), |moved| moved.to_string().replace('Z', zone))
}

/// The same time in a zone where the hour has one digit, and without the zero before it.
fn short_hour(text: &str) -> String {
    let hour = text.get(11..13).and_then(|hour| hour.parse::<u8>().ok());
    let mut moved = match hour {
        Some(0..10) => text.to_owned(),
        Some(10..20) => moved(text, -10, "-10:00"),
        _ => moved(text, 4, "+04:00"),
    };
    if moved.as_bytes().get(11) == Some(&b'0') {
        moved.remove(11);
    }
    moved
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

/// Changes every list of sampled values.
fn lists(payload: &mut Value, change: &dyn Fn(&mut Vec<Value>)) {
    for name in ["meterValue", "transactionData"] {
        for value in payload.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(list) = value["sampledValue"].as_array_mut() {
                change(list);
            }
        }
    }
}

/// Changes every sampled value.
fn samples(payload: &mut Value, change: &dyn Fn(&mut Value)) {
    lists(payload, &|list| list.iter_mut().for_each(change));
}

/// Changes the values of settings that an answer tells.
fn settings(payload: &mut Value, change: &dyn Fn(&str) -> Option<Value>) {
    for (list, member) in [("configurationKey", "value"), ("getVariableResult", "attributeValue")] {
        for one in payload.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(changed) = one[member].as_str().and_then(change) {
                one[member] = changed;
            }
        }
    }
}

fn remove(value: &mut Value, name: &str) {
    if let Some(members) = value.as_object_mut() {
        members.remove(name);
    }
}
