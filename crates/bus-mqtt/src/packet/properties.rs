//! The properties of MQTT 5: those that a driver reads, and what it has to know to pass over the others.

use bytes::{BufMut, Bytes, BytesMut};

/// What a broker says in its CONNACK about what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// How many messages may be on their way to it unacknowledged.
    pub(crate) receive_max: u16,
    /// The largest packet that it takes; none if it does not say.
    pub(crate) packet_bytes_max: Option<u32>,
    /// It wants to hear from us this often, whatever we proposed.
    pub(crate) keep_alive_seconds: Option<u16>,
    /// Whether several may share a subscription.
    pub(crate) shared_subscriptions: bool,
    /// The highest quality of service.
    pub(crate) qos_max: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            receive_max: u16::MAX,
            packet_bytes_max: None,
            keep_alive_seconds: None,
            shared_subscriptions: true,
            qos_max: 2,
        }
    }
}

impl Limits {
    pub(crate) fn read(properties: &[u8]) -> Option<Self> {
        let mut limits = Self::default();
        let mut rest = properties;
        while let Some((name, value)) = next(&mut rest)? {
            match (name, value) {
                (0x13, Value::Number(seconds)) => limits.keep_alive_seconds = u16::try_from(seconds).ok(),
                (0x21, Value::Number(receive_max)) => {
                    limits.receive_max = u16::try_from(receive_max).ok().filter(|max| *max > 0)?;
                }
                (0x24, Value::Number(qos)) => limits.qos_max = u8::try_from(qos).unwrap_or(0),
                (0x27, Value::Number(bytes)) => limits.packet_bytes_max = Some(bytes),
                (0x2a, Value::Number(available)) => limits.shared_subscriptions = available != 0,
                _ => {}
            }
        }
        Some(limits)
    }
}

/// Goes through the user properties among all; ends where they cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct UserProperties<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for UserProperties<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let (_, Value::Pair(name, value)) = next(&mut self.0)?? {
                return Some((name, value));
            }
        }
    }
}

/// Writes one. Both are short; what is longer than 65,535 bytes does not fit and is not written: false.
pub(crate) fn put_user_property(out: &mut BytesMut, name: &str, value: &str) -> bool {
    let (Ok(name_length), Ok(value_length)) = (u16::try_from(name.len()), u16::try_from(value.len())) else {
        return false;
    };
    out.reserve(5 + name.len() + value.len());
    out.put_u8(0x26);
    out.put_u16(name_length);
    out.put_slice(name.as_bytes());
    out.put_u16(value_length);
    out.put_slice(value.as_bytes());
    true
}

enum Value<'a> {
    Number(u32),
    Text,
    Pair(&'a [u8], &'a [u8]),
}

/// The next property; `Some(None)` at the end, none if it cannot be read.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Option<(u8, Value<'a>)>> {
    if rest.is_empty() {
        return Some(None);
    }
    let [name] = chunk(rest)?;
    let value = match name {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
            let [byte] = chunk(rest)?;
            Value::Number(u32::from(byte))
        }
        0x13 | 0x21 | 0x22 | 0x23 => Value::Number(u32::from(u16::from_be_bytes(chunk(rest)?))),
        0x02 | 0x11 | 0x18 | 0x27 => Value::Number(u32::from_be_bytes(chunk(rest)?)),
        0x0b => {
            for _ in 0..4 {
                let [digit] = chunk(rest)?;
                if digit & 0x80 == 0 {
                    break;
                }
            }
            Value::Text
        }
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
            text(rest)?;
            Value::Text
        }
        0x26 => Value::Pair(text(rest)?, text(rest)?),
        _ => return None,
    };
    Some(Some((name, value)))
}

fn chunk<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*chunk)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(u16::from_be_bytes(chunk(rest)?));
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}

/// The first bytes, if there are so many.
pub(super) fn skip(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= bytes.len()).then(|| bytes.split_to(length))
}
