//! What may become of a call that processing did not answer in time: a table of actions, per version.
//!
//! The gateway knows actions as strings and nothing of their payloads, with one exception that the table needs: whether
//! a TransactionEvent carries a token. That is found without reading the payload into anything: a scan over the text
//! that looks at the names of the outermost members only. The core has made sure of the form of the text before.

use switchboard_rpc::Version;

/// What the answer of an action needs, and so what can be done without processing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The empty object is a valid and true answer: the call can be kept and processed later.
    Keepable {
        /// Whether the station throws the message away after a few refusals, and money with it.
        billing: bool,
    },
    /// The answer decides about money or permission: it cannot be given without processing, and a refusal would make
    /// the station forget the message.
    Billing,
    /// The gateway answers by itself.
    Local,
    /// Everything else, vendors' own actions among it.
    Other,
}

/// The class of a call.
#[must_use]
pub fn class(version: Version, action: &str, payload: &str) -> Class {
    match (version, action) {
        (_, "Heartbeat") => Class::Local,
        (Version::V16, "StartTransaction") => Class::Billing,
        // The idTagInfo of the answer is optional, and nothing can be refused any more.
        (Version::V16, "StopTransaction") => Class::Keepable { billing: true },
        (_, "MeterValues") => Class::Keepable { billing: true },
        (Version::V201 | Version::V21, "TransactionEvent") => {
            if has_member(payload, "idToken") {
                Class::Billing
            } else {
                Class::Keepable { billing: true }
            }
        }
        (Version::V21, "BatterySwap" | "NotifySettlement") => Class::Keepable { billing: true },
        (version, action) if is_notification(version, action) => Class::Keepable { billing: false },
        _ => Class::Other,
    }
}

/// The payload that answers a call of a keepable class: every one of their responses has optional members only.
pub const EMPTY_ANSWER: &str = "{}";

/// The payload that answers a Heartbeat.
pub(crate) fn heartbeat_answer(now_ms: i64) -> String {
    let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    format!(r#"{{"currentTime":"{now:.3}"}}"#)
}

fn is_notification(version: Version, action: &str) -> bool {
    match version {
        Version::V16 => NOTIFICATIONS_16.contains(&action),
        Version::V201 => NOTIFICATIONS_2.contains(&action),
        Version::V21 => NOTIFICATIONS_2.contains(&action) || NOTIFICATIONS_21.contains(&action),
    }
}

const NOTIFICATIONS_16: &[&str] = &[
    "StatusNotification",
    "DiagnosticsStatusNotification",
    "FirmwareStatusNotification",
    "LogStatusNotification",
    "SecurityEventNotification",
    "SignedFirmwareStatusNotification",
];

/// Of 2.0.1 and 2.1.
const NOTIFICATIONS_2: &[&str] = &[
    "StatusNotification",
    "NotifyEvent",
    "NotifyReport",
    "NotifyMonitoringReport",
    "NotifyChargingLimit",
    "NotifyCustomerInformation",
    "NotifyDisplayMessages",
    "ClearedChargingLimit",
    "FirmwareStatusNotification",
    "LogStatusNotification",
    "PublishFirmwareStatusNotification",
    "ReportChargingProfiles",
    "ReservationStatusUpdate",
    "SecurityEventNotification",
];

/// Of 2.1 alone.
const NOTIFICATIONS_21: &[&str] = &[
    "ClosePeriodicEventStream",
    "NotifyDERAlarm",
    "NotifyDERStartStop",
    "NotifyPriorityCharging",
    "ReportDERControl",
];

/// Whether an object's text has an outermost member of this name. A name written with escapes counts as any name: then
/// we would rather take the careful way.
fn has_member(object: &str, name: &str) -> bool {
    let bytes = object.as_bytes();
    let mut depth = 0_u32;
    let mut at = 0;
    // In an object, the string after `{` or `,` is a name; the one after `:` is a value.
    let mut name_next = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                name_next = true;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => name_next = true,
            b':' => name_next = false,
            b'"' => {
                let start = at + 1;
                let mut escaped = false;
                at = start;
                while let Some(byte) = bytes.get(at) {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            escaped = true;
                            at += 1;
                        }
                        _ => {}
                    }
                    at += 1;
                }
                if depth == 1
                    && name_next
                    && (escaped || bytes.get(start..at).is_some_and(|text| text == name.as_bytes()))
                {
                    return true;
                }
            }
            _ => {}
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_its_class() {
        use Version::{V16, V21, V201};
        const KEEP: Class = Class::Keepable { billing: false };
        const KEEP_BILLING: Class = Class::Keepable { billing: true };
        for (version, action, payload, expected) in [
            (V16, "Heartbeat", "{}", Class::Local),
            (V201, "Heartbeat", "{}", Class::Local),
            (V16, "StartTransaction", "{}", Class::Billing),
            (V16, "StopTransaction", r#"{"idTag":"A"}"#, KEEP_BILLING),
            (V16, "MeterValues", "{}", KEEP_BILLING),
            (V16, "StatusNotification", "{}", KEEP),
            (V16, "SecurityEventNotification", "{}", KEEP),
            (V16, "BootNotification", "{}", Class::Other),
            (V16, "Authorize", "{}", Class::Other),
            (V16, "DataTransfer", "{}", Class::Other),
            (V16, "SignCertificate", "{}", Class::Other),
            (V16, "TransactionEvent", "{}", Class::Other),
            (V16, "NotifyEvent", "{}", Class::Other),
            (V201, "StartTransaction", "{}", Class::Other),
            (V201, "TransactionEvent", r#"{"eventType":"Updated"}"#, KEEP_BILLING),
            (V201, "TransactionEvent", r#"{"idToken":{"idToken":"A","type":"Central"}}"#, Class::Billing),
            (V201, "NotifyEvent", "{}", KEEP),
            (V201, "NotifyEVChargingNeeds", "{}", Class::Other),
            (V201, "ReportDERControl", "{}", Class::Other),
            (V21, "ReportDERControl", "{}", KEEP),
            (V21, "BatterySwap", "{}", KEEP_BILLING),
            (V21, "OpenPeriodicEventStream", "{}", Class::Other),
            (V21, "statusnotification", "{}", Class::Other),
        ] {
            assert_eq!(class(version, action, payload), expected, "{version:?} {action} {payload}");
        }
    }

    #[test]
    fn only_an_outermost_member_counts_as_the_token() {
        for (payload, expected) in [
            ("{}", false),
            ("", false),
            (r#"{"idToken":1}"#, true),
            (r#"{ "a" : [ 1, { "b" : "c" } ] , "idToken" : {} }"#, true),
            (r#"{"a":{"idToken":1}}"#, false),
            (r#"{"a":["idToken"]}"#, false),
            (r#"{"a":"idToken"}"#, false),
            (r#"{"a":"idToken","b":"\"idToken\":"}"#, false),
            (r#"{"a":"}","idToken":1}"#, true),
            (r#"{"a":"\\","idToken":1}"#, true),
            (r#"{"idTokens":1}"#, false),
            (r#"{"\u0069dToken":1}"#, true),
        ] {
            assert_eq!(has_member(payload, "idToken"), expected, "{payload}");
        }
    }
}
