//! The packets of MQTT 5 and 3.1.1 that a client of QoS 0 and 1 meets, written into and taken out of buffers.
//!
//! Nothing is copied out of what was read: a message's topic, properties and payload are slices of it. What is written
//! goes to the end of one buffer, so that everything that is to be said goes out in one write.

mod properties;

pub(crate) use properties::{Limits, UserProperties, put_user_property};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use properties::skip;

/// Which MQTT is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// 3.1.1
    V4,
    /// 5
    V5,
}

/// What a broker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connected { reason: u8, limits: Limits },
    Message(Message),
    Published { id: u16, reason: u8 },
    Subscribed { id: u16, reasons: Bytes },
    Unsubscribed { id: u16 },
    Pong,
    Disconnected { reason: u8 },
}

/// A PUBLISH as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: ByteString,
    /// None at QoS 0: there is nothing to acknowledge.
    pub(crate) id: Option<u16>,
    /// The properties as they are on the wire; empty in MQTT 3.1.1.
    pub(crate) properties: Bytes,
    pub(crate) payload: Bytes,
}

/// What no broker may send. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker sent something that is no MQTT: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What a CONNECT says.
#[derive(Debug)]
pub(crate) struct Hello<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a str>,
    /// How many messages may be on their way to us unacknowledged; MQTT 5 only.
    pub(crate) receive_max: Option<u16>,
    /// The largest packet that we take; MQTT 5 only.
    pub(crate) packet_bytes_max: u32,
}

/// Takes the first packet out of what was read; none if it is not complete yet.
pub(crate) fn take(read: &mut BytesMut, level: Level, bytes_max: usize) -> Result<Option<Packet>, Malformed> {
    let Some((&first, rest)) = read.split_first() else { return Ok(None) };
    let Some((length, digits)) = length(rest)? else { return Ok(None) };
    let whole = 1 + digits + length;
    if whole > bytes_max {
        return Err(Malformed("a packet larger than we said that we take"));
    }
    if read.len() < whole {
        // So that a large one is not copied each time the buffer grows.
        read.reserve(whole - read.len());
        return Ok(None);
    }
    let mut body = read.split_to(whole).freeze();
    body.advance(1 + digits);
    packet(first, body, level).map(Some)
}

fn packet(first: u8, mut body: Bytes, level: Level) -> Result<Packet, Malformed> {
    let cut = Malformed("a packet that is cut off");
    Ok(match first >> 4 {
        CONNACK => {
            let (_session_present, reason) = (byte(&mut body).ok_or(cut)?, byte(&mut body).ok_or(cut)?);
            let limits = match level {
                Level::V5 if !body.is_empty() => {
                    Limits::read(&block(&mut body)?).ok_or(Malformed("properties that cannot be read"))?
                }
                _ => Limits::default(),
            };
            Packet::Connected { reason, limits }
        }
        PUBLISH => {
            let topic = text(&mut body)?;
            let id = match first >> 1 & 0b11 {
                0 => None,
                1 => Some(number(&mut body).filter(|id| *id != 0).ok_or(cut)?),
                _ => return Err(Malformed("a message of a quality that was not asked for")),
            };
            let properties = if level == Level::V5 { block(&mut body)? } else { Bytes::new() };
            Packet::Message(Message { topic, id, properties, payload: body })
        }
        PUBACK => {
            let id = number(&mut body).ok_or(cut)?;
            // Whoever has nothing to add leaves the reason out.
            Packet::Published { id, reason: byte(&mut body).unwrap_or(0) }
        }
        SUBACK => {
            let id = number(&mut body).ok_or(cut)?;
            if level == Level::V5 {
                block(&mut body)?;
            }
            Packet::Subscribed { id, reasons: body }
        }
        UNSUBACK => Packet::Unsubscribed { id: number(&mut body).ok_or(cut)? },
        PINGRESP => Packet::Pong,
        DISCONNECT => Packet::Disconnected { reason: byte(&mut body).unwrap_or(0) },
        _ => return Err(Malformed("a packet that only clients send")),
    })
}

pub(crate) fn put_connect(out: &mut BytesMut, level: Level, hello: &Hello<'_>) {
    let mut properties = BytesMut::new();
    if level == Level::V5 {
        if let Some(receive_max) = hello.receive_max {
            properties.put_u8(0x21);
            properties.put_u16(receive_max);
        }
        properties.put_u8(0x27);
        properties.put_u32(hello.packet_bytes_max);
    }
    let mut body = BytesMut::new();
    put_text(&mut body, "MQTT");
    body.put_u8(if level == Level::V5 { 5 } else { 4 });
    let flag = |present: bool, bit: u8| if present { bit } else { 0 };
    // Always a clean start: what a broker keeps for somebody who is gone is stranded there.
    body.put_u8(0b10 | flag(hello.password.is_some(), 0x40) | flag(hello.user.is_some(), 0x80));
    body.put_u16(hello.keep_alive_seconds);
    if level == Level::V5 {
        put_length(&mut body, properties.len());
        body.put_slice(&properties);
    }
    put_text(&mut body, hello.client_id);
    for credential in [hello.user, hello.password].into_iter().flatten() {
        put_text(&mut body, credential);
    }
    put_packet(out, CONNECT << 4, &body);
}

/// Writes a PUBLISH of QoS 1 with the properties that are given in their form on the wire. Gives where in `out` its
/// number stands, which is not known yet where it has to wait.
pub(crate) fn put_publish(
    out: &mut BytesMut,
    level: Level,
    topic: &str,
    properties: &[u8],
    payload: &[u8],
) -> usize {
    let mut length = 2 + topic.len() + 2 + payload.len();
    if level == Level::V5 {
        length += length_digits(properties.len()) + properties.len();
    }
    out.reserve(length + 5);
    out.put_u8(PUBLISH << 4 | 0b10);
    put_length(out, length);
    put_text(out, topic);
    let place = out.len();
    out.put_u16(0);
    if level == Level::V5 {
        put_length(out, properties.len());
        out.put_slice(properties);
    }
    out.put_slice(payload);
    place
}

/// The number of a PUBLISH, where [`put_publish`] said.
pub(crate) fn set_id(out: &mut BytesMut, place: usize, id: u16) {
    if let Some(two) = out.get_mut(place..place + 2) {
        two.copy_from_slice(&id.to_be_bytes());
    }
}

pub(crate) fn put_puback(out: &mut BytesMut, id: u16) {
    out.put_slice(&[PUBACK << 4, 2]);
    out.put_u16(id);
}

pub(crate) fn put_subscribe<'a>(
    out: &mut BytesMut,
    level: Level,
    id: u16,
    filters: impl IntoIterator<Item = &'a str>,
) {
    let mut body = BytesMut::new();
    body.put_u16(id);
    if level == Level::V5 {
        body.put_u8(0);
    }
    for filter in filters {
        put_text(&mut body, filter);
        body.put_u8(1);
    }
    put_packet(out, SUBSCRIBE << 4 | 0b10, &body);
}

pub(crate) fn put_unsubscribe<'a>(
    out: &mut BytesMut,
    level: Level,
    id: u16,
    filters: impl IntoIterator<Item = &'a str>,
) {
    let mut body = BytesMut::new();
    body.put_u16(id);
    if level == Level::V5 {
        body.put_u8(0);
    }
    for filter in filters {
        put_text(&mut body, filter);
    }
    put_packet(out, UNSUBSCRIBE << 4 | 0b10, &body);
}

pub(crate) fn put_ping(out: &mut BytesMut) {
    out.put_slice(&[PINGREQ << 4, 0]);
}

pub(crate) fn put_disconnect(out: &mut BytesMut) {
    out.put_slice(&[DISCONNECT << 4, 0]);
}

fn put_packet(out: &mut BytesMut, first: u8, body: &[u8]) {
    out.put_u8(first);
    put_length(out, body.len());
    out.put_slice(body);
}

/// Texts of a client are topics and names, far below the 65,535 bytes that fit; a longer one is cut.
fn put_text(out: &mut BytesMut, text: &str) {
    let mut length = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    out.put_slice(text.as_bytes().get(..length).unwrap_or_default());
}

fn put_length(out: &mut BytesMut, mut length: usize) {
    loop {
        let digit = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            out.put_u8(digit);
            return;
        }
        out.put_u8(digit | 0x80);
    }
}

const fn length_digits(length: usize) -> usize {
    match length {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// A length of one to four digits of seven bits, and how many there are; none if it is not complete.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (place, digit) in bytes.iter().take(4).enumerate() {
        length |= usize::from(digit & 0x7f) << (7 * place);
        if digit & 0x80 == 0 {
            return Ok(Some((length, place + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed("a length of more than four digits")) }
}

fn byte(bytes: &mut Bytes) -> Option<u8> {
    bytes.try_get_u8().ok()
}

fn number(bytes: &mut Bytes) -> Option<u16> {
    bytes.try_get_u16().ok()
}

fn text(bytes: &mut Bytes) -> Result<ByteString, Malformed> {
    let cut = Malformed("a packet that is cut off");
    let length = usize::from(number(bytes).ok_or(cut)?);
    let text = skip(bytes, length).ok_or(cut)?;
    ByteString::try_from(text).map_err(|_| Malformed("a topic that is not UTF-8"))
}

/// A length and as many bytes: the properties of a packet.
fn block(bytes: &mut Bytes) -> Result<Bytes, Malformed> {
    let cut = Malformed("a packet that is cut off");
    let (length, digits) = length(bytes)?.ok_or(cut)?;
    bytes.advance(digits);
    skip(bytes, length).ok_or(cut)
}

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 10;
const UNSUBACK: u8 = 11;
const PINGREQ: u8 = 12;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;

#[cfg(test)]
mod tests;
