//! What quirks make of whole messages.

use super::Quirk;
use crate::client::link::Filter;
use serde_json::{Value, json};
use std::collections::VecDeque;
use switchboard_rpc::Version;

/// How many ids of open calls a rewriting keeps; a station has one open call at a time.
const IDS_MAX: usize = 16;
/// After so many calls the noise begins again: few enough that nobody may close the connection for it.
const NOISE_EVERY: u64 = 120;

/// What the quirks of a station make of its messages.
#[derive(Debug)]
pub(crate) struct Wire {
    version: Version,
    quirks: Vec<Quirk>,
    /// Above all integers that were ids before.
    number: i64,
    /// Calls, since it was switched on and on this connection.
    calls: u64,
    calls_here: u64,
    ids: VecDeque<(Value, String)>,
}

impl Wire {
    /// None if none of these quirks is about messages; `first_id` is above all integers that were ids before.
    pub(crate) fn new(version: Version, quirks: &[Quirk], first_id: i64) -> Option<Self> {
        let quirks: Vec<_> = quirks.iter().copied().filter(|quirk| !quirk.is_a_deed()).collect();
        (!quirks.is_empty()).then(|| Self {
            version,
            quirks,
            number: first_id,
            calls: 0,
            calls_here: 0,
            ids: VecDeque::new(),
        })
    }

    fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// The id of this call in another kind, if it has one.
    fn id(&self) -> Option<Value> {
        if self.has(Quirk::CountedIds) {
            Some(self.calls_here.to_string().into())
        } else if self.has(Quirk::IntegerIds) {
            Some(self.number.into())
        } else if self.has(Quirk::OddIds) {
            let (number, calls) = (self.number, self.calls);
            Some(
                match calls % 7 {
                    // As a UUID is, but no hexadecimal number.
                    1 => format!("c2d6e365-ac1v-4ea9-96ee-{:012}", calls % 1_000_000_000_000),
                    2 => format!("265468940-1621710057-{:09}", calls % 1_000_000_000),
                    // Milliseconds since 1970, or nearly.
                    3 => number.to_string(),
                    4 => (1_000_000 + calls).to_string(),
                    5 => format!("wallbox-{calls}"),
                    6 => format!("2824018184916{calls:07}"),
                    _ => format!("ItsDUO5RdnafWxbit1xj{calls:012}"),
                }
                .into(),
            )
        } else {
            None
        }
    }

    /// What comes beside the call.
    fn noise(&self) -> Option<String> {
        let frame = match self.calls % NOISE_EVERY {
            3 => r#"[3,"no-such-call",{"status":"Accepted"}]"#.to_owned(),
            6 => format!("[4,\"{}\",\"FormationViolation\",\"not understood\",{{}}]", "x".repeat(37)),
            9 => r#"[1,"late","StartTransaction",{"connectorId":1,"idTag":"A","timestamp":"2022-07-10T3:11:55Z","meterStart":0,"reservationId":0}]"#.to_owned(),
            12 => r#"[2,"broken","MeterValues",{"connectorId":1,"meterValue":[,{}]}]"#.to_owned(),
            // The quotation mark that should end the tag belongs to it.
            15 => r#"[2,"213","StartTransaction",{"connectorId":2,"idTag":"336699\\\","meterStart":7,"timestamp":"2022-07-28T09:41:15Z"}]"#.to_owned(),
            18 => r#"[2,"valueless","MeterValues",{"connectorId":1,"transactionId":,"meterValue":[{"timestamp":"2026-08-04T13:35:45.377","sampledValue":[{"value":"1750"}]}]}]"#.to_owned(),
            _ => return None,
        };
        Some(frame)
    }
}

impl Filter for Wire {
    fn connected(&mut self) {
        self.ids.clear();
        self.calls_here = 0;
    }

    fn outgoing(&mut self, text: &str) -> Vec<String> {
        let Ok(Value::Array(mut frame)) = serde_json::from_str::<Value>(text) else {
            return vec![text.to_owned()];
        };
        let call = frame.first() == Some(&json!(2));
        if call && let [_, id, action, payload] = frame.as_mut_slice() {
            self.calls += 1;
            self.calls_here += 1;
            self.number += 1;
            for quirk in &self.quirks {
                quirk.spoil(self.version, action.as_str().unwrap_or_default(), payload);
            }
            if let Some(other) = self.id() {
                self.ids.push_back((other.clone(), id.as_str().unwrap_or_default().to_owned()));
                *id = other;
                if self.ids.len() > IDS_MAX {
                    self.ids.pop_front();
                }
            }
        }
        if frame.first() == Some(&json!(4)) && self.has(Quirk::ShortErrors) {
            frame.truncate(3);
        }
        let mut whole = Value::Array(frame).to_string();
        if call && self.has(Quirk::ExtraMembers) {
            // Members twice, as no tree of values can hold them; the last one is right.
            whole = whole.replacen("\"custom\":\"x\"", "\"custom\":\"x\",\"custom\":\"y\"", 1);
            whole = whole.replacen("\"connectorId\":", "\"connectorId\":64,\"connectorId\":", 1);
        }
        if self.has(Quirk::Spaces) {
            whole = spaced(&whole);
        }
        let mut written = vec![whole];
        if call && self.has(Quirk::EmptyMessages) {
            written.push(String::new());
        }
        if call && self.has(Quirk::Noise) {
            written.extend(self.noise());
        }
        written
    }

    fn incoming(&mut self, text: &str) -> Option<String> {
        if self.ids.is_empty() {
            return None;
        }
        let Ok(Value::Array(mut frame)) = serde_json::from_str::<Value>(text) else { return None };
        if !matches!(frame.first().and_then(Value::as_i64), Some(3 | 4)) {
            return None;
        }
        // As it was sent: an integer is to come back as an integer.
        let id = frame.get_mut(1)?;
        let (_, own) = self.ids.iter().find(|(other, _)| other == id)?;
        *id = own.clone().into();
        Some(Value::Array(frame).to_string())
    }
}

/// White space wherever JSON lets it stand.
pub(super) fn spaced(text: &str) -> String {
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
