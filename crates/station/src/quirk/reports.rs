//! Which quirk stands for which of the frames that were collected from reports about real stations, line by line of that
//! collection, and that it says what made the frame worth collecting.

use super::{Quirk, Wire, unasked};
use crate::client::link::Filter;
use serde_json::{Value, json};
use switchboard_rpc::{
    Version,
    Version::{V16, V201},
};

/// What stands for a line.
enum Stand {
    /// Quirks, each with a version and a text that it says in that version and that is in nothing that is right.
    By(&'static [(Quirk, Version, &'static str)]),
    /// Nothing: it is right, and so every simulated station says the like.
    Right,
    /// Nothing: it comes from a central system.
    NotOurs,
}
use Stand::{By, NotOurs, Right};

/// The number of each line, and what is odd about it.
const LINES: &[(u32, &str, Stand)] = &[
    (1, "empty texts", By(&[(Quirk::EmptyTexts, V16, r#""iccid":"","imsi":"""#)])),
    (
        2,
        "an id like a UUID that is not hexadecimal; empty texts, and words for what there is not",
        By(&[
            (Quirk::OddIds, V16, r#"[2,"c2d6e365-ac1v-4ea9-"#),
            (Quirk::EmptyTexts, V16, r#""imsi":"""#),
            (Quirk::OddNames, V16, r#""meterSerialNumber":"N/A""#),
        ]),
    ),
    (
        3,
        "an error that answers nothing, with too long an id",
        By(&[(Quirk::Noise, V16, r#"[4,"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","FormationViolation""#)]),
    ),
    (
        4,
        "no zone; reservation 0",
        By(&[
            (Quirk::ZonelessTime, V16, r#""timestamp":"2026-01-01T19:00:00""#),
            (Quirk::Zeros, V16, r#""reservationId":0"#),
        ]),
    ),
    (5, "a zone of two digits", By(&[(Quirk::ShortZone, V16, r#""timestamp":"2026-01-01T21:00:00+02""#)])),
    (6, "an id that is a time", By(&[(Quirk::OddIds, V16, r#"[2,"1700000000003""#)])),
    (7, "sampled values that are numbers", By(&[(Quirk::ValueTypes, V16, r#""value":604.0"#)])),
    (8, "sampled values that are numbers with a point", By(&[(Quirk::ValueTypes, V16, r#""value":16.5"#)])),
    (9, "an error code of its own", By(&[(Quirk::OddErrorCodes, V16, r#""errorCode":"Error""#)])),
    (
        10,
        "a schedule that is refused and told with nothing in it",
        By(&[
            (Quirk::HollowSchedules, V16, r#""startSchedule":"0""#),
            (Quirk::HollowSchedules, V201, r#""chargingSchedulePeriod":[]"#),
            (Quirk::Spaces, V16, r#"[ 2, ""#),
        ]),
    ),
    (11, "samples without values", By(&[(Quirk::EmptySamples, V16, r#""measurand":"Voltage","value":"""#)])),
    (12, "small ids that begin again with each boot", By(&[(Quirk::CountedIds, V16, r#"[2,"1","#)])),
    (
        13,
        "a tag whose end is escaped, so that it is no JSON",
        By(&[(Quirk::Noise, V16, r#""idTag":"336699\\\","#)]),
    ),
    (14, "a message of type 1", By(&[(Quirk::Noise, V16, r#"[1,"late","StartTransaction""#)])),
    (
        15,
        "a message of type 1; an hour of one digit",
        By(&[
            (Quirk::Noise, V16, r#""timestamp":"2022-07-10T3:11:55Z""#),
            (Quirk::ShortHours, V16, r#""timestamp":"2026-01-01T9:00:00-10:00""#),
        ]),
    ),
    (16, "colons in names", By(&[(Quirk::OddNames, V16, r#""chargePointModel":"T22::NET_WIFI""#)])),
    (
        17,
        "the text null; no time",
        By(&[
            (Quirk::Nulls, V16, r#""info":"null""#),
            (Quirk::Sparse, V16, r#"{"connectorId":1,"errorCode":"NoError","status":"Available"}"#),
        ]),
    ),
    (
        18,
        "a security event before the first status",
        By(&[(Quirk::EarlyEvents, V16, r#""type":"SettingSystemTime""#)]),
    ),
    (19, "readings of an unknown transaction", By(&[(Quirk::OldNews, V16, r#""transactionId":1624271340"#)])),
    (20, "no vendor", By(&[(Quirk::EmptyTexts, V16, r#""chargePointVendor":"""#)])),
    (21, "a document for a model", By(&[(Quirk::LongTexts, V16, r#""chargePointModel":"{\"model\":"#)])),
    (
        22,
        "the largest transaction id, a context of its own, years ago",
        By(&[
            (Quirk::OldNews, V16, r#""transactionId":9223372036854775807"#),
            (Quirk::OldNews, V16, r#""context":"CurrentMax""#),
        ]),
    ),
    (
        23,
        "energy without its measurand, years ago",
        By(&[
            (Quirk::Sparse, V16, r#""sampledValue":[{"value":"604"}"#),
            (Quirk::OldNews, V16, r#"[{"context":"Transaction.Begin","unit":"kWh","value":"0.010"}]"#),
        ]),
    ),
    (
        24,
        "units of its own, another spelling of Celsius, an id of three numbers",
        By(&[
            (Quirk::OddUnits, V16, r#""unit":"Hz""#),
            (Quirk::OddUnits, V16, r#""unit":"Celsius""#),
            (Quirk::OddIds, V16, r#"[2,"265468940-1621710057-"#),
        ]),
    ),
    (25, "spaces in the envelope; right otherwise", By(&[(Quirk::Spaces, V16, r#"[ 2, "own", "#)])),
    (26, "a list that begins with a comma", By(&[(Quirk::Noise, V16, r#""meterValue":[,"#)])),
    (27, "a transaction id without a value", By(&[(Quirk::Noise, V16, r#""transactionId":,"#)])),
    (28, "sampled values that are numbers with a point", By(&[(Quirk::ValueTypes, V16, r#""value":16.5"#)])),
    (29, "no samples", By(&[(Quirk::EmptySamples, V16, r#""sampledValue":[]"#)])),
    (30, "a boolean as a number", By(&[(Quirk::SettingTypes, V16, r#""readonly":1"#)])),
    (
        31,
        "settings that are numbers and booleans",
        By(&[
            (Quirk::SettingTypes, V16, r#""key":"HeartbeatInterval","readonly":0,"value":60"#),
            (Quirk::SettingTypes, V16, r#""value":false"#),
        ]),
    ),
    (32, "booleans as figures", By(&[(Quirk::SettingDigits, V16, r#""readonly":true,"value":"0""#)])),
    (33, "a setting, with nothing odd about it", Right),
    (34, "a meter of an odd type", By(&[(Quirk::OddNames, V16, r#""meterType":"Internal NON compliant""#)])),
    (
        35,
        "members of its own; a tail of digits",
        By(&[
            (Quirk::ExtraMembers, V16, r#""disconnectReason":"EVDisconnected""#),
            (Quirk::ExtraMembers, V16, r#"[2,"own","StopTransaction",{"connectorId":64,"connectorId":1"#),
            (Quirk::FloatNoise, V16, r#""value":"0.6040000000000000""#),
        ]),
    ),
    (36, "an error whose details are a text", NotOurs),
    (
        37,
        "a member twice, and one of its own",
        By(&[(Quirk::ExtraMembers, V16, r#"[2,"own","StartTransaction",{"connectorId":64,"connectorId":1"#)]),
    ),
    (
        38,
        "an event in the shape of 2.0, numbers as texts",
        By(&[
            (Quirk::OldShapes, V201, r#""transactionData":{"id":"T-1","remoteStartId":"5"}"#),
            (Quirk::OldShapes, V201, r#""sampledValue":[{"value":"604"}]"#),
        ]),
    ),
    (39, "an event without its trigger", By(&[(Quirk::NoTrigger, V201, r#""transactionId":"T-1"}}]"#)])),
    (
        40,
        "ids counted from a million; otherwise right",
        By(&[
            (Quirk::OddIds, V16, r#"[2,"1000004""#),
            (Quirk::Sparse, V16, r#"{"chargePointModel":"M","chargePointVendor":"V"}"#),
        ]),
    ),
    (41, "a boot, with nothing odd about it", Right),
    (
        42,
        "a fault of two days ago",
        By(&[(Quirk::OldNews, V16, r#""timestamp":"2025-12-30T19:00:00Z","vendorErrorCode""#)]),
    ),
    (
        43,
        "an answer to nothing",
        By(&[(Quirk::Noise, V16, r#"[3,"no-such-call""#), (Quirk::Spaces, V16, r#"[ 2, ""#)]),
    ),
    (
        44,
        "readings in the shape of 1.5",
        By(&[(Quirk::OldShapes, V16, r#""values":[{"timestamp":"2026-01-01T19:00:00Z","value":["604"]}]"#)]),
    ),
    (45, "an error about a spelling", NotOurs),
    (
        46,
        "no time of a status; otherwise right",
        By(&[(Quirk::Sparse, V16, r#"{"connectorId":1,"errorCode":"NoError","status":"Available"}"#)]),
    ),
    (47, "spaces in the envelope of an answer; right otherwise", Right),
    (
        48,
        "a status of EVSE 0",
        By(&[(Quirk::StatusOfZero, V201, r#""connectorId":0,"connectorStatus":"Available","evseId":0"#)]),
    ),
];

/// In the evening, so that an hour of one digit needs another zone.
const NOW: &str = "2026-01-01T19:00:00Z";
const NOW_MS: i64 = 1_767_294_000_000;

/// What a station has to say, rightly: action and payload.
fn right(version: Version) -> Vec<(&'static str, Value)> {
    let energy = "Energy.Active.Import.Register";
    if version == V16 {
        let readings = json!([{ "timestamp": NOW, "sampledValue": [
            { "context": "Sample.Periodic", "measurand": energy, "unit": "Wh", "value": "604" },
            { "context": "Sample.Periodic", "measurand": "Current.Import", "unit": "A", "value": "16.5" },
        ] }]);
        let status =
            json!({ "connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": NOW });
        let boot =
            json!({ "chargePointModel": "M", "chargePointVendor": "V", "chargePointSerialNumber": "S" });
        return vec![
            ("BootNotification", boot),
            ("StatusNotification", status),
            (
                "StartTransaction",
                json!({ "connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": NOW }),
            ),
            ("MeterValues", json!({ "connectorId": 1, "transactionId": 1, "meterValue": readings })),
            (
                "StopTransaction",
                json!({ "idTag": "A", "meterStop": 604, "timestamp": NOW, "transactionId": 1, "transactionData": readings }),
            ),
        ];
    }
    let status = json!({ "evseId": 1, "connectorId": 1, "connectorStatus": "Available", "timestamp": NOW });
    let sample = json!({ "measurand": energy, "value": 604, "unitOfMeasure": { "unit": "Wh" } });
    let event = json!({ "eventType": "Started", "seqNo": 0, "timestamp": NOW, "triggerReason": "Authorized",
        "transactionInfo": { "transactionId": "T-1", "remoteStartId": 5 },
        "meterValue": [{ "timestamp": NOW, "sampledValue": [sample] }] });
    vec![
        (
            "BootNotification",
            json!({ "reason": "PowerUp", "chargingStation": { "model": "M", "vendorName": "V" } }),
        ),
        ("StatusNotification", status),
        ("TransactionEvent", event),
    ]
}

/// All that a station with this quirk says, four times over.
fn said(quirk: Option<Quirk>, version: Version) -> String {
    let quirks: Vec<Quirk> = quirk.into_iter().collect();
    let mut wire = Wire::new(version, &quirks, 1_700_000_000_000);
    let mut said = Vec::new();
    for (action, payload) in std::iter::repeat_n(right(version), 4).flatten() {
        let frame = json!([2, "own", action, payload]).to_string();
        said.extend(wire.as_mut().map_or_else(|| vec![frame.clone()], |wire| wire.outgoing(&frame)));
    }
    let unasked = match quirk {
        Some(Quirk::OldNews) => unasked::old_news(version, NOW_MS),
        Some(Quirk::EarlyEvents) => vec![unasked::early_event(NOW_MS)],
        _ => Vec::new(),
    };
    said.extend(unasked.into_iter().map(|(action, payload)| json!([2, "own", action, payload]).to_string()));
    let setting =
        |key: &str, readonly: bool, value: &str| json!({ "key": key, "readonly": readonly, "value": value });
    let settings = json!({ "configurationKey": [
        setting("HeartbeatInterval", false, "60"),
        setting("LocalPreAuthorize", true, "false"),
    ] });
    let schedule = json!({ "status": "Rejected" });
    for (action, mut answer) in [("GetConfiguration", settings), ("GetCompositeSchedule", schedule)] {
        for quirk in &quirks {
            quirk.spoil_answer(version, action, &mut answer);
        }
        said.push(json!([3, "theirs", answer]).to_string());
    }
    said.join("\n")
}

#[test]
fn every_line_that_a_station_says_can_be_produced_by_name() {
    assert!(LINES.iter().map(|(number, ..)| *number).eq(1..=48), "each line once");
    let right = [said(None, V16), said(None, V201)];
    for (number, about, stand) in LINES {
        let By(quirks) = stand else { continue };
        for (quirk, version, text) in *quirks {
            let said = said(Some(*quirk), *version);
            assert!(said.contains(text), "line {number} ({about}): {quirk} does not say {text}:\n{said}");
            assert!(right.iter().all(|right| !right.contains(text)), "line {number}: {text} is nothing odd");
        }
    }
    let others = |wanted: fn(&Stand) -> bool| {
        LINES.iter().filter(|(.., stand)| wanted(stand)).map(|(number, ..)| *number).collect::<Vec<_>>()
    };
    assert_eq!(others(|stand| matches!(stand, Right)), [33, 41, 47]);
    assert_eq!(others(|stand| matches!(stand, NotOurs)), [36, 45]);
}

#[test]
fn a_time_stays_the_same_in_whatever_way_it_is_written() {
    let hour = 3_600_000;
    for (hours, text) in (0..24).map(|hours| (hours, crate::charger::time(NOW_MS - 19 * hour + hours * hour)))
    {
        for quirk in [Quirk::ShortZone, Quirk::ShortHours] {
            let mut payload = json!({ "timestamp": text });
            quirk.spoil(V16, "StatusNotification", &mut payload);
            let written = payload["timestamp"].as_str().unwrap();
            let read = switchboard_messages::Timestamp::parse(written).unwrap();
            assert_eq!(read.unix_millis(), NOW_MS - 19 * hour + hours * hour, "{written}");
            assert_eq!(written.as_bytes()[12] == b':', quirk == Quirk::ShortHours, "{written}");
        }
    }
}
