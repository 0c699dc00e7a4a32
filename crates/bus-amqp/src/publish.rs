//! Envelopes out, and what comes back.
//!
//! A call is published as mandatory, and so is a command: the broker returns what no queue takes, with its headers, and
//! that is told to the inbox which waits for the answer. Nothing is confirmed. A confirm would cost the broker a message
//! between its processes and us a frame for each, to learn no more than the answer says.

use crate::line::{OUT_BYTES_MAX, Shared};
use crate::wire::{Publish, Writer};
use std::borrow::Cow;
use switchboard_bus::{Address, Envelope, PublishError, State, partition, percent};

/// The channel that is published on.
pub(crate) const CHANNEL: u16 = 1;
/// The largest body: half of what brokers of version 4 take by default.
pub(crate) const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Puts an envelope on its way.
pub(crate) fn publish(shared: &Shared, to: &Address, envelope: &Envelope) -> Result<(), PublishError> {
    let bytes = envelope.body.len();
    if bytes > BODY_BYTES_MAX {
        return Err(PublishError::TooLarge { bytes, limit: BODY_BYTES_MAX });
    }
    let names = &shared.config.names;
    let metadata = &envelope.metadata;
    let mut digits = itoa::Buffer::new();
    let (exchange, key): (&str, Cow<'_, str>) = match to {
        Address::Call { tenant, station } => {
            let partition = partition(tenant, station.as_str(), shared.config.partitions);
            (&names.calls, digits.format(partition).into())
        }
        // The default exchange takes the name of a queue as its key.
        Address::Command { .. } => ("", names.commands.as_str().into()),
        Address::Inbox(name) => match names.inbox(name) {
            Some(queue) => ("", queue.into()),
            None => return Err(PublishError::NobodyListens),
        },
        Address::Presence => (&names.presence, "".into()),
        Address::Event { tenant, station } => {
            let (tenant, station) = (percent::encode_token(tenant), percent::encode_token(station.as_str()));
            (&names.events, format!("{tenant}.{station}").into())
        }
    };
    let reply_to = metadata.reply_to.as_ref().and_then(|name| names.inbox(name));
    let to = Publish {
        exchange,
        key: &key,
        mandatory: matches!(to, Address::Call { .. } | Address::Command { .. } | Address::Inbox(_))
            && metadata.comes_back(&envelope.body),
        reply_to: reply_to.as_deref(),
        // Beyond what RabbitMQ can count it would close the channel.
        expiration_ms: metadata.remaining.map(|left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX)),
    };
    shared.tell(|line| {
        match line.state {
            State::Connected => {}
            State::Away => return Err(PublishError::Away),
            State::Closed => return Err(PublishError::Closed),
        }
        if line.out.len() > OUT_BYTES_MAX {
            return Err(PublishError::Busy);
        }
        let limit = line.frame_max;
        let mut writer = Writer::new(&mut line.out, CHANNEL);
        let headers = |put: &mut dyn FnMut(&'static str, &str)| {
            metadata.encode_headers(&mut |name, value| put(name, value));
        };
        let written = writer.publish(&to, headers, &envelope.body, limit);
        written.map_err(|bytes| PublishError::TooLarge { bytes, limit })
    })
}
