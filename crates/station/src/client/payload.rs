//! The few members of a payload that the client itself must know, take out or put in. All else stays as it was written.

use super::queue::Kind;
use bytestring::ByteString;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, fmt};
use switchboard_rpc::Version;

/// The members of an object, in order.
struct Members<'text>(Vec<(Cow<'text, str>, &'text RawValue)>);

impl<'text> serde::Deserialize<'text> for Members<'text> {
    fn deserialize<D: Deserializer<'text>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'text> Visitor<'text> for All {
            type Value = Members<'text>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'text>>(self, mut map: A) -> Result<Members<'text>, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    members.push((Cow::Owned(name), map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// The object without this member; none if it is no JSON object.
pub(super) fn without(payload: &str, name: &str) -> Option<ByteString> {
    let Members(members) = serde_json::from_str(payload).ok()?;
    if members.iter().all(|(one, _)| one != name) {
        return Some(payload.into());
    }
    let mut text = String::with_capacity(payload.len());
    for (one, value) in members.iter().filter(|(one, _)| one != name) {
        text.push_str(if text.is_empty() { "{" } else { "," });
        text.push_str(&Value::from(&**one).to_string());
        text.push(':');
        text.push_str(value.get());
    }
    text.push_str(if text.is_empty() { "{}" } else { "}" });
    Some(text.into())
}

/// The object with a member more, which it does not have yet, in front.
pub(super) fn with(payload: &str, name: &str, value: &str) -> ByteString {
    let rest = payload.trim_start().strip_prefix('{').unwrap_or(payload);
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    format!("{{\"{name}\":{value}{comma}{rest}").into()
}

/// Whether the text is a JSON object.
pub(super) fn is_object(payload: &str) -> bool {
    payload.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(payload).is_ok()
}

/// What the queue must know of a message.
#[derive(Debug)]
pub(super) struct Summary {
    /// What it tells.
    pub(super) kind: Kind,
    /// 2.x: `transactionInfo.transactionId`.
    pub(super) transaction: Option<String>,
    /// 2.x: `seqNo`.
    pub(super) seq_no: Option<u64>,
}

/// What the queue must know of a message; none if this action does not bill anything in this version.
pub(super) fn summary(version: Version, action: &str, payload: &str) -> Option<Summary> {
    let of = |kind| Some(Summary { kind, transaction: None, seq_no: None });
    match (version, action) {
        (Version::V16, "StartTransaction") => of(Kind::Start),
        (Version::V16, "StopTransaction") => of(Kind::Stop),
        (_, "MeterValues") => of(Kind::Reading),
        (Version::V201 | Version::V21, "TransactionEvent") => {
            let event: Value = serde_json::from_str(payload).ok()?;
            let kind = match event["eventType"].as_str()? {
                "Started" => Kind::Start,
                "Ended" => Kind::Stop,
                // Only what comes by the clock may be left out; all else tells that something has changed.
                _ => match event["triggerReason"].as_str()? {
                    "MeterValuePeriodic" | "MeterValueClock" => Kind::Reading,
                    _ => Kind::Update,
                },
            };
            let transaction = event["transactionInfo"]["transactionId"].as_str().map(str::to_owned);
            Some(Summary { kind, transaction, seq_no: event["seqNo"].as_u64() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_taken_out_and_put_in_and_the_rest_stays_as_it_was_written() {
        let payload = r#"{"a" : 1.10,"transactionId":-1,"b":{"transactionId":2},"c":"\u00e9"}"#;
        let without = without(payload, "transactionId").unwrap();
        assert_eq!(without, r#"{"a":1.10,"b":{"transactionId":2},"c":"\u00e9"}"#);
        assert_eq!(
            with(&without, "transactionId", "7"),
            r#"{"transactionId":7,"a":1.10,"b":{"transactionId":2},"c":"\u00e9"}"#
        );
        assert_eq!(with("{}", "x", "1"), r#"{"x":1}"#);
        assert_eq!(super::without(r#"{"x":1}"#, "x").unwrap(), "{}");
        assert_eq!(super::without("[1]", "x"), None);
    }
}
