//! Where envelopes go on an MQTT broker, and what they look like there.

use crate::packet::{Message, UserProperties, put_user_property};
use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;
use std::borrow::Cow;
use std::time::Duration;
use switchboard_bus::{Address, Envelope, HeaderError, Metadata, PublishError, Topic, partition, percent};

/// The topics of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    /// `ocpp/v1/NS/`
    prefix: String,
    partitions: u16,
}

/// What a topic is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Call,
    Command,
    Inbox(ByteString),
    Presence,
    Event,
}

impl Topics {
    pub(crate) fn new(namespace: &str, partitions: u16) -> Self {
        Self { prefix: format!("ocpp/v1/{namespace}/"), partitions }
    }

    pub(crate) fn of(&self, to: &Address) -> String {
        let mut topic = String::with_capacity(96);
        topic.push_str(&self.prefix);
        match to {
            Address::Call { tenant, station } => {
                let station = station.as_str();
                let part = partition(tenant, station, self.partitions);
                topic.push_str("call/");
                topic.push_str(&part.to_string());
                push_tokens(&mut topic, tenant, station);
            }
            Address::Command { tenant, station } => {
                topic.push_str("command");
                push_tokens(&mut topic, tenant, station.as_str());
            }
            Address::Inbox(name) => {
                topic.push_str("inbox/");
                topic.push_str(&percent::encode_token(name));
            }
            Address::Presence => topic.push_str("presence"),
            Address::Event { tenant, station } => {
                topic.push_str("event");
                push_tokens(&mut topic, tenant, station.as_str());
            }
        }
        topic
    }

    /// What to subscribe to. Workers share one subscription.
    pub(crate) fn filter(&self, topic: &Topic) -> String {
        match topic {
            Topic::Calls => format!("$share/workers/{}call/+/+/+", self.prefix),
            Topic::Commands => format!("$share/gateways/{}command/+/+", self.prefix),
            Topic::Inbox(name) => self.of(&Address::Inbox(name.clone())),
            Topic::Presence => self.of(&Address::Presence),
            Topic::Events => format!("{}event/+/+", self.prefix),
        }
    }

    pub(crate) fn place(&self, topic: &str) -> Option<Place> {
        let rest = topic.strip_prefix(&*self.prefix)?;
        let (first, rest) = rest.split_once('/').unwrap_or((rest, ""));
        Some(match first {
            "call" => Place::Call,
            "command" => Place::Command,
            "inbox" => Place::Inbox(percent::decode_token(rest)?),
            "presence" => Place::Presence,
            "event" => Place::Event,
            _ => return None,
        })
    }
}

fn push_tokens(topic: &mut String, tenant: &str, station: &str) {
    topic.push('/');
    topic.push_str(&percent::encode_token(tenant));
    topic.push('/');
    topic.push_str(&percent::encode_token(station));
}

/// Writes an envelope's metadata as properties: the headers, how long it matters, and where the answer goes.
pub(crate) fn put_properties(
    out: &mut BytesMut,
    metadata: &Metadata,
    topics: &Topics,
) -> Result<(), PublishError> {
    if let Some(remaining) = metadata.remaining {
        // Whole seconds, and 0 is forbidden by some; who judges the deadline is the gateway anyway.
        let seconds = remaining.saturating_add(Duration::from_millis(999)).as_secs();
        out.put_u8(0x02);
        out.put_u32(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX));
    }
    if let Some(reply_to) = &metadata.reply_to {
        let topic = topics.of(&Address::Inbox(reply_to.clone()));
        if let Ok(length) = u16::try_from(topic.len()) {
            out.put_u8(0x08);
            out.put_u16(length);
            out.put_slice(topic.as_bytes());
        }
    }
    let mut longest = 0;
    metadata.encode_headers(&mut |name, value| {
        // MQTT's texts may hold no control characters; encoded as on every transport, whoever reads them needs one rule.
        let value = percent::encode_value(value);
        if !put_user_property(out, name, &value) {
            longest = longest.max(value.len());
        }
    });
    if longest == 0 {
        Ok(())
    } else {
        Err(PublishError::TooLarge { bytes: longest, limit: usize::from(u16::MAX) })
    }
}

/// An envelope from what came. Its strings are slices of that.
pub(crate) fn envelope(message: Message) -> Result<Envelope, HeaderError> {
    let properties = &message.properties;
    let headers = UserProperties(properties).filter_map(|(name, value)| {
        let (name, value) = (std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?);
        let value = if value.contains('%') {
            Value { of: properties, text: Cow::Owned(percent::decode_value(value)?.to_string()) }
        } else {
            Value { of: properties, text: Cow::Borrowed(value) }
        };
        Some((name, value))
    });
    let metadata = Metadata::decode_headers(headers)?;
    Ok(Envelope::new(metadata, message.payload))
}

/// Part of the properties, made into a string of its own only where it was encoded.
struct Value<'a> {
    of: &'a Bytes,
    text: Cow<'a, str>,
}

impl AsRef<str> for Value<'_> {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl From<Value<'_>> for ByteString {
    fn from(value: Value<'_>) -> Self {
        match value.text {
            // It has been looked at already, and cannot fail.
            Cow::Borrowed(text) => Self::try_from(value.of.slice_ref(text.as_bytes())).unwrap_or_default(),
            Cow::Owned(text) => text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_rpc::StationId;

    #[test]
    fn the_document_for_others_has_these_addresses_and_no_more() {
        let document = include_str!("../../../docs/asyncapi.yaml");
        let channels = document.lines().zip(document.lines().skip(1));
        let documented = channels
            .filter(|(name, _)| name.starts_with("  mqtt-"))
            .filter_map(|(_, address)| address.trim().strip_prefix("address: '")?.strip_suffix('\''));
        let (tenant, station) = (ByteString::from_static("TENANT"), StationId::new("STATION", 48).unwrap());
        let partition = partition(&tenant, station.as_str(), 256).to_string();
        let (call, command) = (
            Address::Call { tenant: tenant.clone(), station: station.clone() },
            Address::Command { tenant: tenant.clone(), station: station.clone() },
        );
        let event = Address::Event { tenant, station };
        let topics = Topics::new("NAMESPACE", 256);
        let ours =
            [call, command, Address::Inbox("NAME".into()), Address::Presence, event].map(|to| topics.of(&to));
        let documented = documented.map(|address| {
            let address = address.replace("{namespace}", "NAMESPACE").replace("{partition}", &partition);
            address.replace("{tenant}", "TENANT").replace("{station}", "STATION").replace("{name}", "NAME")
        });
        assert_eq!(documented.collect::<Vec<_>>(), ours);
    }
}
