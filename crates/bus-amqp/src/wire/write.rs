//! Frames into a buffer.

use super::{
    FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, FRAME_OVERHEAD, id, property,
};

/// Appends frames of one channel to a buffer.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    channel: u16,
}

/// What is declared: an exchange.
pub(crate) struct Exchange<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'static str,
    /// Where what it cannot route goes.
    pub(crate) alternate: Option<&'a str>,
}

/// What is declared: a queue that lasts as long as its consumers.
pub(crate) struct Declare<'a> {
    /// Empty: the server makes one up.
    pub(crate) name: &'a str,
    pub(crate) exclusive: bool,
    /// Beyond so many messages the oldest goes.
    pub(crate) length_max: Option<u32>,
    /// Beyond this age a message goes.
    pub(crate) age_max_ms: Option<u32>,
}

/// Where a message goes, and what the broker is to know of it.
pub(crate) struct Publish<'a> {
    pub(crate) exchange: &'a str,
    pub(crate) key: &'a str,
    /// It comes back if no queue takes it.
    pub(crate) mandatory: bool,
    pub(crate) reply_to: Option<&'a str>,
    pub(crate) expiration_ms: Option<u32>,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(out: &'a mut Vec<u8>, channel: u16) -> Self {
        Self { out, channel }
    }

    fn method(&mut self, id: id::Id, arguments: impl FnOnce(&mut Vec<u8>)) {
        frame(self.out, FRAME_METHOD, self.channel, |out| {
            out.extend_from_slice(&id.0.to_be_bytes());
            out.extend_from_slice(&id.1.to_be_bytes());
            arguments(out);
        });
    }

    /// `response` is the mechanism's own; the name is how operators find the connection.
    pub(crate) fn start_ok(&mut self, mechanism: &str, response: &[u8], connection_name: &str) {
        self.method(id::CONNECTION_START_OK, |out| {
            table(out, |out| {
                for (name, value) in [
                    ("product", "switchboard"),
                    ("version", env!("CARGO_PKG_VERSION")),
                    ("connection_name", connection_name),
                ] {
                    text_entry(out, name, value);
                }
                short_string(out, "capabilities");
                out.push(b'F');
                table(out, |out| {
                    for name in [
                        "basic.nack",
                        "connection.blocked",
                        "consumer_cancel_notify",
                        "authentication_failure_close",
                    ] {
                        short_string(out, name);
                        out.extend_from_slice(b"t\x01");
                    }
                });
            });
            short_string(out, mechanism);
            long_string(out, response);
            short_string(out, "en_US");
        });
    }

    pub(crate) fn tune_ok(&mut self, channels_max: u16, frame_max: u32, heartbeat: u16) {
        self.method(id::CONNECTION_TUNE_OK, |out| {
            out.extend_from_slice(&channels_max.to_be_bytes());
            out.extend_from_slice(&frame_max.to_be_bytes());
            out.extend_from_slice(&heartbeat.to_be_bytes());
        });
    }

    pub(crate) fn open(&mut self, vhost: &str) {
        self.method(id::CONNECTION_OPEN, |out| {
            short_string(out, vhost);
            short_string(out, "");
            out.push(0);
        });
    }

    pub(crate) fn channel_open(&mut self) {
        self.method(id::CHANNEL_OPEN, |out| short_string(out, ""));
    }

    pub(crate) fn channel_flow_ok(&mut self, active: bool) {
        self.method(id::CHANNEL_FLOW_OK, |out| out.push(u8::from(active)));
    }

    pub(crate) fn channel_close(&mut self) {
        self.method(id::CHANNEL_CLOSE, |out| {
            out.extend_from_slice(&200_u16.to_be_bytes());
            short_string(out, "");
            out.extend_from_slice(&[0; 4]);
        });
    }

    pub(crate) fn channel_close_ok(&mut self) {
        self.method(id::CHANNEL_CLOSE_OK, |_| {});
    }

    pub(crate) fn exchange_declare(&mut self, exchange: &Exchange<'_>) {
        self.method(id::EXCHANGE_DECLARE, |out| {
            out.extend_from_slice(&[0; 2]);
            short_string(out, exchange.name);
            short_string(out, exchange.kind);
            out.push(0);
            table(out, |out| {
                if let Some(alternate) = exchange.alternate {
                    text_entry(out, "alternate-exchange", alternate);
                }
            });
        });
    }

    pub(crate) fn queue_declare(&mut self, queue: &Declare<'_>) {
        const EXCLUSIVE: u8 = 1 << 2;
        const AUTO_DELETE: u8 = 1 << 3;
        self.method(id::QUEUE_DECLARE, |out| {
            out.extend_from_slice(&[0; 2]);
            short_string(out, queue.name);
            out.push(AUTO_DELETE | if queue.exclusive { EXCLUSIVE } else { 0 });
            table(out, |out| {
                let limits = [("x-max-length", queue.length_max), ("x-message-ttl", queue.age_max_ms)];
                for (name, limit) in limits {
                    if let Some(limit) = limit {
                        short_string(out, name);
                        out.push(b'l');
                        out.extend_from_slice(&u64::from(limit).to_be_bytes());
                    }
                }
            });
        });
    }

    pub(crate) fn queue_bind(&mut self, queue: &str, exchange: &str, key: &str) {
        self.method(id::QUEUE_BIND, |out| {
            out.extend_from_slice(&[0; 2]);
            short_string(out, queue);
            short_string(out, exchange);
            short_string(out, key);
            out.push(0);
            table(out, |_| {});
        });
    }

    /// Of the consumers that the channel will have, each for itself.
    pub(crate) fn qos(&mut self, prefetch: u16) {
        self.method(id::BASIC_QOS, |out| {
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&prefetch.to_be_bytes());
            out.push(0);
        });
    }

    pub(crate) fn consume(&mut self, queue: &str, tag: &str, no_ack: bool) {
        const NO_ACK: u8 = 1 << 1;
        self.method(id::BASIC_CONSUME, |out| {
            out.extend_from_slice(&[0; 2]);
            short_string(out, queue);
            short_string(out, tag);
            out.push(if no_ack { NO_ACK } else { 0 });
            table(out, |_| {});
        });
    }

    pub(crate) fn cancel(&mut self, tag: &str) {
        self.method(id::BASIC_CANCEL, |out| {
            short_string(out, tag);
            out.push(0);
        });
    }

    /// Everything up to `tag`, if `multiple`.
    pub(crate) fn ack(&mut self, tag: u64, multiple: bool) {
        self.method(id::BASIC_ACK, |out| {
            out.extend_from_slice(&tag.to_be_bytes());
            out.push(u8::from(multiple));
        });
    }

    /// Given back, for another.
    pub(crate) fn give_back(&mut self, tag: u64) {
        const REQUEUE: u8 = 1 << 1;
        self.method(id::BASIC_NACK, |out| {
            out.extend_from_slice(&tag.to_be_bytes());
            out.push(REQUEUE);
        });
    }

    /// A message: its method, its properties, and its body in as many frames as it needs. `headers` writes the entries of
    /// the table of headers. Nothing is written if its properties do not fit into one frame: the error is their size.
    pub(crate) fn publish(
        &mut self,
        to: &Publish<'_>,
        headers: impl FnOnce(&mut dyn FnMut(&'static str, &str)),
        body: &[u8],
        frame_max: usize,
    ) -> Result<(), usize> {
        let start = self.out.len();
        self.method(id::BASIC_PUBLISH, |out| {
            out.extend_from_slice(&[0; 2]);
            short_string(out, to.exchange);
            short_string(out, to.key);
            out.push(u8::from(to.mandatory));
        });
        let header = self.out.len();
        frame(self.out, FRAME_HEADER, self.channel, |out| {
            out.extend_from_slice(&id::BASIC_PUBLISH.0.to_be_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&(body.len() as u64).to_be_bytes());
            let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
            let flags = property::HEADERS
                | flag(to.reply_to.is_some(), property::REPLY_TO)
                | flag(to.expiration_ms.is_some(), property::EXPIRATION);
            out.extend_from_slice(&flags.to_be_bytes());
            table(out, |out| headers(&mut |name, value| text_entry(out, name, value)));
            if let Some(reply_to) = to.reply_to {
                short_string(out, reply_to);
            }
            if let Some(expiration) = to.expiration_ms {
                short_string(out, itoa::Buffer::new().format(expiration));
            }
        });
        let header_bytes = self.out.len() - header;
        if header_bytes > frame_max {
            self.out.truncate(start);
            return Err(header_bytes);
        }
        for part in body.chunks(frame_max.saturating_sub(FRAME_OVERHEAD).max(1)) {
            frame(self.out, FRAME_BODY, self.channel, |out| out.extend_from_slice(part));
        }
        Ok(())
    }
}

/// A sign of life.
pub(crate) fn heartbeat(out: &mut Vec<u8>) {
    frame(out, FRAME_HEARTBEAT, 0, |_| {});
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    sized(out, payload);
    out.push(FRAME_END);
}

fn table(out: &mut Vec<u8>, entries: impl FnOnce(&mut Vec<u8>)) {
    sized(out, entries);
}

/// What `content` writes, behind its size.
fn sized(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let place = out.len();
    out.extend_from_slice(&[0; 4]);
    content(out);
    let size = u32::try_from(out.len() - place - 4).unwrap_or(u32::MAX);
    if let Some(sized) = out.get_mut(place..place + 4) {
        sized.copy_from_slice(&size.to_be_bytes());
    }
}

fn text_entry(out: &mut Vec<u8>, name: &str, value: &str) {
    short_string(out, name);
    out.push(b'S');
    long_string(out, value.as_bytes());
}

/// At most 255 bytes, whatever is given: names are made so that they fit, and texts for people may be cut.
fn short_string(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.push(end as u8);
    out.extend_from_slice(&text.as_bytes()[..end]);
}

fn long_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text);
}
