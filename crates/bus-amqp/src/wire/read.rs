//! Frames out of a buffer. Whatever a peer sends, this neither panics nor allocates more than it was sent.

use super::{
    FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, FRAME_OVERHEAD, PROTOCOL_HEADER, id,
    property,
};
use bytes::Bytes;
use bytestring::ByteString;
use std::fmt::Write as _;
use switchboard_bus::{Envelope, HeaderError, Metadata};

/// What a broker may not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It may speak something else altogether.
    #[error("the broker does not speak AMQP 0-9-1")]
    Protocol,
    #[error("the broker sent a frame of {bytes} bytes, and {limit} were agreed on")]
    FrameTooLarge { bytes: usize, limit: usize },
    #[error("the broker sent a frame that cannot be read")]
    Malformed,
}

/// One frame.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame<'a> {
    Method(u16, Method<'a>),
    Header(u16, Header<'a>),
    Body(u16, &'a [u8]),
    Heartbeat,
}

/// The methods that a broker may send us, as far as they are of interest.
#[derive(Debug, PartialEq)]
pub(crate) enum Method<'a> {
    Start {
        mechanisms: &'a [u8],
        product: String,
    },
    Tune {
        channels_max: u16,
        frame_max: u32,
        heartbeat: u16,
    },
    OpenOk,
    Close {
        code: u16,
        text: String,
    },
    CloseOk,
    Blocked {
        reason: String,
    },
    Unblocked,
    ChannelFlow {
        active: bool,
    },
    ChannelClose {
        code: u16,
        text: String,
    },
    ChannelCloseOk,
    QosOk,
    ConsumeOk,
    /// The broker ended a consumer: its queue is gone.
    Cancel,
    CancelOk,
    Return,
    Deliver {
        tag: u64,
    },
    /// What needs no reaction.
    Other,
}

/// What stands before a body.
#[derive(Debug, PartialEq)]
pub(crate) struct Header<'a> {
    pub(crate) body_bytes: u64,
    /// The flags, and the properties that they announce.
    pub(crate) properties: &'a [u8],
}

/// A message that comes in parts: headers and body in one allocation, of the size that the broker told.
#[derive(Debug)]
pub(crate) struct Content {
    buffer: Vec<u8>,
    headers_bytes: usize,
    missing: usize,
}

/// The first frame of `input` and its size; none if it is not whole yet.
pub(crate) fn take_frame(input: &[u8], frame_max: usize) -> Result<Option<(Frame<'_>, usize)>, Fault> {
    let Some((head, rest)) = input.split_at_checked(7) else { return Ok(None) };
    if head.starts_with(&PROTOCOL_HEADER[..4]) {
        return Err(Fault::Protocol);
    }
    let mut reader = Reader(head);
    let (Some(kind), Some(channel), Some(size)) = (reader.byte(), reader.short(), reader.long()) else {
        return Err(Fault::Malformed);
    };
    if !matches!(kind, FRAME_METHOD | FRAME_HEADER | FRAME_BODY | FRAME_HEARTBEAT) {
        return Err(Fault::Protocol);
    }
    let size = usize::try_from(size).map_err(|_| Fault::Malformed)?;
    if size.saturating_add(FRAME_OVERHEAD) > frame_max {
        return Err(Fault::FrameTooLarge { bytes: size.saturating_add(FRAME_OVERHEAD), limit: frame_max });
    }
    let Some((payload, rest)) = rest.split_at_checked(size) else { return Ok(None) };
    match rest.first() {
        None => return Ok(None),
        Some(&FRAME_END) => {}
        Some(_) => return Err(Fault::Malformed),
    }
    let frame = match kind {
        FRAME_METHOD => method(payload).map(|method| Frame::Method(channel, method)),
        FRAME_HEADER => header(payload).map(|header| Frame::Header(channel, header)),
        FRAME_BODY => Some(Frame::Body(channel, payload)),
        _ => Some(Frame::Heartbeat),
    };
    Ok(Some((frame.ok_or(Fault::Malformed)?, size + FRAME_OVERHEAD)))
}

fn method(payload: &[u8]) -> Option<Method<'_>> {
    let mut reader = Reader(payload);
    let id = (reader.short()?, reader.short()?);
    Some(match id {
        id::CONNECTION_START => {
            reader.short()?;
            let properties = reader.long_string()?;
            Method::Start { mechanisms: reader.long_string()?, product: product(properties) }
        }
        id::CONNECTION_TUNE => Method::Tune {
            channels_max: reader.short()?,
            frame_max: reader.long()?,
            heartbeat: reader.short()?,
        },
        id::CONNECTION_OPEN_OK => Method::OpenOk,
        id::CONNECTION_CLOSE => Method::Close { code: reader.short()?, text: reader.text()? },
        id::CONNECTION_CLOSE_OK => Method::CloseOk,
        id::CONNECTION_BLOCKED => Method::Blocked { reason: reader.text()? },
        id::CONNECTION_UNBLOCKED => Method::Unblocked,
        id::CHANNEL_FLOW => Method::ChannelFlow { active: reader.byte()? & 1 == 1 },
        id::CHANNEL_CLOSE => Method::ChannelClose { code: reader.short()?, text: reader.text()? },
        id::CHANNEL_CLOSE_OK => Method::ChannelCloseOk,
        id::BASIC_QOS_OK => Method::QosOk,
        id::BASIC_CONSUME_OK => Method::ConsumeOk,
        id::BASIC_CANCEL => Method::Cancel,
        id::BASIC_CANCEL_OK => Method::CancelOk,
        id::BASIC_RETURN => Method::Return,
        id::BASIC_DELIVER => {
            reader.short_string()?;
            Method::Deliver { tag: reader.long_long()? }
        }
        _ => Method::Other,
    })
}

fn header(payload: &[u8]) -> Option<Header<'_>> {
    let mut reader = Reader(payload);
    reader.long()?;
    Some(Header { body_bytes: reader.long_long()?, properties: reader.0 })
}

/// The table of headers among the properties of a message; empty if there is none.
pub(crate) fn headers(properties: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(properties);
    let flags = reader.short()?;
    for flag in [property::CONTENT_TYPE, property::CONTENT_ENCODING] {
        if flags & flag != 0 {
            reader.short_string()?;
        }
    }
    if flags & property::HEADERS == 0 { Some(&[]) } else { reader.long_string() }
}

impl Content {
    /// One of this header. `body_bytes` was found to be bearable.
    pub(crate) fn new(headers: &[u8], body_bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(headers.len() + body_bytes);
        buffer.extend_from_slice(headers);
        Self { headers_bytes: headers.len(), buffer, missing: body_bytes }
    }

    /// Whether all of it is there.
    pub(crate) const fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// The next part of the body; none if there was not so much to come.
    pub(crate) fn add(&mut self, part: &[u8]) -> Option<()> {
        self.missing = self.missing.checked_sub(part.len())?;
        self.buffer.extend_from_slice(part);
        Some(())
    }

    /// The envelope that it is.
    pub(crate) fn envelope(self) -> Result<Envelope, HeaderError> {
        let all = Bytes::from(self.buffer);
        let headers = all.slice(..self.headers_bytes);
        let body = all.slice(self.headers_bytes..);
        let mut reader = Reader(&headers);
        let entries = std::iter::from_fn(|| reader.entry());
        let texts =
            entries.filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value.text(&all)?)));
        Ok(Envelope::new(Metadata::decode_headers(texts)?, body))
    }
}

/// A value in a table of headers, as far as one of ours may be written: foreign workers' libraries write numbers as such.
enum Value<'a> {
    Text(&'a [u8]),
    Number(i64),
    Other,
}

/// A value as text: part of the message, or made here.
enum Text<'a> {
    Part(&'a Bytes, &'a str),
    Made(String),
}

impl<'a> Value<'a> {
    fn text(self, all: &'a Bytes) -> Option<Text<'a>> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok().map(|text| Text::Part(all, text)),
            Self::Number(number) => Some(Text::Made(number.to_string())),
            Self::Other => None,
        }
    }
}

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        match self {
            Self::Part(_, text) => text,
            Self::Made(text) => text,
        }
    }
}

impl From<Text<'_>> for ByteString {
    fn from(text: Text<'_>) -> Self {
        match text {
            // It was UTF-8 a moment ago.
            Text::Part(all, text) => Self::try_from(all.slice_ref(text.as_bytes())).unwrap_or_default(),
            Text::Made(text) => text.into(),
        }
    }
}

/// Name and version of a broker, for the log.
fn product(properties: &[u8]) -> String {
    let mut reader = Reader(properties);
    let mut product = String::new();
    for (name, value) in std::iter::from_fn(|| reader.entry()) {
        if let (b"product" | b"version", Value::Text(text)) = (name, value) {
            let space = if product.is_empty() { "" } else { " " };
            // Writing to a string does not fail.
            write!(product, "{space}{}", String::from_utf8_lossy(text)).unwrap_or_default();
        }
    }
    product
}

/// Takes values off the front of some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn long(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn long_long(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn short_string(&mut self) -> Option<&'a [u8]> {
        let size = self.byte()?;
        self.take(size.into())
    }

    fn long_string(&mut self) -> Option<&'a [u8]> {
        let size = usize::try_from(self.long()?).ok()?;
        self.take(size)
    }

    fn text(&mut self) -> Option<String> {
        self.short_string().map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// The next entry of a table; none at its end, or where it cannot be read any further.
    fn entry(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        let name = self.short_string()?;
        let value = match self.byte()? {
            b'S' | b'x' => Value::Text(self.long_string()?),
            // In RabbitMQ's dialect, which all its clients speak, `s` is a short integer and not a short string.
            b'b' => Value::Number(i8::from_be_bytes(self.array()?).into()),
            b'B' | b't' => Value::Number(self.byte()?.into()),
            b's' => Value::Number(i16::from_be_bytes(self.array()?).into()),
            b'u' => Value::Number(self.short()?.into()),
            b'I' => Value::Number(i32::from_be_bytes(self.array()?).into()),
            b'i' => Value::Number(self.long()?.into()),
            b'l' | b'L' => Value::Number(i64::from_be_bytes(self.array()?)),
            b'f' => self.take(4).map(|_| Value::Other)?,
            b'd' | b'T' => self.take(8).map(|_| Value::Other)?,
            b'D' => self.take(5).map(|_| Value::Other)?,
            b'A' | b'F' => self.long_string().map(|_| Value::Other)?,
            b'V' => Value::Other,
            _ => return None,
        };
        Some((name, value))
    }
}
