//! What stations with quirks tell beside what they have to tell.

use crate::charger::time;
use serde_json::{Value, json};
use switchboard_rpc::Version;

const TWO_DAYS_MS: i64 = 48 * 3_600_000;

/// What comes before the first status.
pub(crate) fn early_event(unix_ms: i64) -> (&'static str, Value) {
    let event = json!({ "type": "SettingSystemTime", "techInfo": "boot", "timestamp": time(unix_ms) });
    ("SecurityEventNotification", event)
}

/// What lay in a queue for long: a fault of two days ago that is over, and readings of transactions of years ago that
/// nobody knows any more.
pub(crate) fn old_news(version: Version, unix_ms: i64) -> Vec<(&'static str, Value)> {
    let days_ago = time(unix_ms - TWO_DAYS_MS);
    if version == Version::V16 {
        let reading = |transaction: i64, time: &str, samples: Value| {
            json!({ "connectorId": 1, "transactionId": transaction,
                "meterValue": [{ "timestamp": time, "sampledValue": samples }] })
        };
        let energy = json!([{ "value": "0.010", "context": "Transaction.Begin", "unit": "kWh" }]);
        let current = json!([{ "value": "16.000", "context": "CurrentMax", "unit": "A" }]);
        return vec![
            (
                "StatusNotification",
                json!({ "connectorId": 0, "errorCode": "OtherError", "info": "meter lost", "status": "Faulted",
                    "timestamp": days_ago, "vendorErrorCode": "210" }),
            ),
            ("MeterValues", reading(1_624_271_340, "2020-08-29T19:53:37Z", energy)),
            ("MeterValues", reading(i64::MAX, "2020-09-19T15:14:23Z", current)),
        ];
    }
    let old = "2020-08-29T19:53:37Z";
    vec![
        (
            "StatusNotification",
            json!({ "evseId": 1, "connectorId": 1, "connectorStatus": "Faulted", "timestamp": days_ago }),
        ),
        (
            "TransactionEvent",
            json!({ "eventType": "Updated", "timestamp": old, "seqNo": 7, "offline": true,
                "triggerReason": "MeterValuePeriodic", "transactionInfo": { "transactionId": "of-years-ago" },
                "meterValue": [{ "timestamp": old, "sampledValue": [{ "value": 10 }] }] }),
        ),
    ]
}
