//! [`Metadata`] to and from the headers of a transport: names and forms of values.
//!
//! Drivers hand each header to their library with [`Metadata::encode_headers`] and read what came with
//! [`Metadata::decode_headers`]. In one process [`Metadata::through_headers`] does both, header by header.

mod time;

use crate::{ConnectionKey, Kind, Lane, Metadata, OutcomeKind, Registration};
use bytestring::ByteString;
use std::time::Duration;
use switchboard_rpc::{StationId, Version};

/// The version of the contract that the header `ocpp-envelope` states.
pub const ENVELOPE_VERSION: &str = "1";

/// What is wrong with the headers of an envelope. No header's value is in the text, since values may be personal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// A header that this kind of envelope cannot be without.
    #[error("the header {name} is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// Two headers of one name, so that nobody knows which counts.
    #[error("the header {name} occurs twice")]
    Repeated {
        /// Its name.
        name: &'static str,
    },
    /// A value that is not in the form of its header.
    #[error("the header {name} does not hold {expected}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What should stand there.
        expected: &'static str,
    },
}

impl Metadata {
    /// Gives every header that is set to `put`, as name (in lower case) and value, always in the same order.
    ///
    /// Values are plain text. A transport that reserves characters encodes them with [`percent`](crate::percent).
    /// Times are written in milliseconds; a remaining time is rounded down to them, and years are kept within 0 to 9999.
    pub fn encode_headers(&self, put: &mut impl FnMut(&'static str, &str)) {
        self.each(&mut |field, value| put(field.name(), value.as_ref()));
    }

    /// Behind a pointer, so that what is done with a header is compiled once and not at each of the two dozen calls below:
    /// a processor fetches code that it runs through once for every call of a station more slowly than it runs it.
    fn each(&self, put: &mut dyn FnMut(Field, Value<'_>)) {
        let mut digits = itoa::Buffer::new();
        put(Field::Envelope, Value::Made(ENVELOPE_VERSION));
        put(Field::Kind, Value::Made(kind_name(self.kind)));
        put(Field::Tenant, Value::Kept(&self.tenant));
        if let Some(station) = &self.station {
            put(Field::Station, Value::Kept(station.text()));
        }
        if let Some(version) = self.version {
            put(Field::Version, Value::Made(version.as_str()));
        }
        if let Some(action) = &self.action {
            put(Field::Action, Value::Kept(action));
        }
        if let Some(connection) = &self.connection {
            put(Field::Gateway, Value::Kept(&connection.gateway));
            put(Field::Generation, Value::Made(digits.format(connection.generation)));
        }
        if let Some(seq) = self.seq {
            put(Field::Seq, Value::Made(digits.format(seq)));
        }
        if let Some(received) = self.received_at_ms {
            put(Field::ReceivedAt, Value::Made(time::Text::new(received).as_str()));
        }
        if let Some(remaining) = self.remaining {
            put(
                Field::Remaining,
                Value::Made(digits.format(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX))),
            );
        }
        if let Some(reply_to) = &self.reply_to {
            put(Field::ReplyTo, Value::Kept(reply_to));
        }
        if self.attempt != 0 {
            put(Field::Attempt, Value::Made(digits.format(self.attempt)));
        }
        if let Some(id) = &self.command_id {
            put(Field::CommandId, Value::Kept(id));
        }
        if let Some(context) = &self.context {
            put(Field::Context, Value::Kept(context));
        }
        if let Some(registration) = self.registration {
            put(Field::Registration, Value::Made(registration_name(registration)));
        }
        if let Some(outcome) = self.outcome {
            put(Field::Outcome, Value::Made(outcome.as_str()));
        }
        if self.lane == Lane::Urgent {
            put(Field::Lane, Value::Made("urgent"));
        }
        if self.outbox {
            put(Field::Outbox, Value::Made("1"));
        }
        if let Some(journal) = self.journal {
            put(Field::Journal, Value::Made(digits.format(journal)));
        }
        if let Some(epoch) = self.epoch {
            put(Field::Epoch, Value::Made(digits.format(epoch)));
        }
        if let Some(worker) = &self.worker {
            put(Field::Worker, Value::Kept(worker));
        }
        if let Some(parent) = &self.traceparent {
            put(Field::TraceParent, Value::Kept(parent));
        }
        if let Some(state) = &self.tracestate {
            put(Field::TraceState, Value::Kept(state));
        }
    }

    /// Reads headers in any order. Names are compared without regard to case; headers that are not ours are passed over.
    ///
    /// A missing `ocpp-envelope` counts as version 1, so that a worker in another language needs to send no more than
    /// what it was given back.
    ///
    /// # Errors
    /// When a header is missing, there twice, or not in its form.
    #[inline]
    pub fn decode_headers<N, V>(headers: impl IntoIterator<Item = (N, V)>) -> Result<Self, HeaderError>
    where
        N: AsRef<str>,
        V: AsRef<str> + Into<ByteString>,
    {
        let mut decoder = Decoder::new();
        for (name, value) in headers {
            if let Some(field) = decoder.field(name.as_ref()) {
                decoder.take(field, value)?;
            }
        }
        decoder.finish()
    }

    /// What arrives on the other side of a transport, for one that stays in the process: each header is written and read
    /// again. Strings are their own headers, and so are not copied.
    ///
    /// # Errors
    /// As [`decode_headers`](Self::decode_headers).
    pub fn through_headers(&self) -> Result<Self, HeaderError> {
        let mut decoder = Decoder::new();
        let mut outcome = Ok(());
        self.each(&mut |field, value| {
            if outcome.is_ok() {
                outcome = decoder.take(field, value);
            }
        });
        outcome?;
        decoder.finish()
    }
}

impl OutcomeKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Answered,
        Self::Refused,
        Self::Offline,
        Self::Busy,
        Self::Expired,
        Self::Cancelled,
        Self::NotSent,
        Self::Unknown,
    ];

    /// The word that the header `ocpp-outcome` holds.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Offline => "offline",
            Self::Busy => "busy",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::NotSent => "not-sent",
            Self::Unknown => "unknown",
        }
    }

    /// The outcome of this word.
    #[must_use]
    pub fn from_wire(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// What has been read so far. `seen` has one bit per field, to find what comes twice.
struct Decoder {
    seen: u32,
    /// The field before: we write them in the order of the table, so that the next one is mostly close behind.
    last: usize,
    kind: Option<Kind>,
    gateway: Option<ByteString>,
    generation: Option<u64>,
    metadata: Metadata,
}

impl Decoder {
    const fn new() -> Self {
        let metadata = Metadata::new(Kind::Call);
        Self { seen: 0, last: 0, kind: None, gateway: None, generation: None, metadata }
    }

    #[inline]
    fn field(&mut self, name: &str) -> Option<Field> {
        let field = Field::after(self.last, name)?;
        self.last = field as usize;
        Some(field)
    }

    /// For the same reason as in [`each`](Metadata::each) never a part of whoever calls it.
    #[inline(never)]
    fn take<V: AsRef<str> + Into<ByteString>>(&mut self, field: Field, value: V) -> Result<(), HeaderError> {
        let bit = 1_u32 << field as u32;
        if self.seen & bit != 0 {
            return Err(HeaderError::Repeated { name: field.name() });
        }
        self.seen |= bit;
        let bad = |expected| HeaderError::Value { name: field.name(), expected };
        let metadata = &mut self.metadata;
        let text = value.as_ref();
        match field {
            Field::Envelope if text == ENVELOPE_VERSION => {}
            Field::Envelope => return Err(bad("the version 1")),
            Field::Kind => self.kind = Some(kind_of(text).ok_or_else(|| bad("a kind of envelope"))?),
            Field::Tenant if text.is_empty() => return Err(bad("a tenant")),
            Field::Tenant => metadata.tenant = value.into(),
            Field::Station => {
                metadata.station =
                    Some(StationId::new(value, STATION_CHARACTERS_MAX).map_err(|_| bad("an identity"))?);
            }
            Field::Version => {
                metadata.version = Some(Version::from_number(text).ok_or_else(|| bad("1.6, 2.0.1 or 2.1"))?);
            }
            Field::Action => metadata.action = Some(value.into()),
            Field::Gateway => self.gateway = Some(value.into()),
            Field::Generation => self.generation = Some(number(text).ok_or_else(|| bad(A_NUMBER))?),
            Field::Seq => metadata.seq = Some(number(text).ok_or_else(|| bad(A_NUMBER))?),
            Field::ReceivedAt => {
                metadata.received_at_ms = Some(time::parse(text).ok_or_else(|| bad("a time of RFC 3339"))?);
            }
            Field::Remaining => {
                metadata.remaining = Some(Duration::from_millis(number(text).ok_or_else(|| bad(A_NUMBER))?));
            }
            Field::ReplyTo => metadata.reply_to = Some(value.into()),
            Field::Attempt => {
                let attempt = number(text).and_then(|attempt| u32::try_from(attempt).ok());
                metadata.attempt = attempt.ok_or_else(|| bad("a number below 2^32"))?;
            }
            Field::CommandId => metadata.command_id = Some(value.into()),
            Field::Context => metadata.context = Some(value.into()),
            Field::Registration => {
                metadata.registration = Some(match text {
                    "accepted" => Registration::Accepted,
                    "pending" => Registration::Pending,
                    "rejected" => Registration::Rejected,
                    _ => return Err(bad("accepted, pending or rejected")),
                });
            }
            Field::Outcome => {
                metadata.outcome = Some(OutcomeKind::from_wire(text).ok_or_else(|| bad("an outcome"))?);
            }
            Field::Lane => {
                metadata.lane = match text {
                    "urgent" => Lane::Urgent,
                    "normal" => Lane::Normal,
                    _ => return Err(bad("urgent or normal")),
                };
            }
            Field::Outbox => {
                metadata.outbox = match text {
                    "1" => true,
                    "0" => false,
                    _ => return Err(bad("0 or 1")),
                };
            }
            Field::Journal => metadata.journal = Some(number(text).ok_or_else(|| bad(A_NUMBER))?),
            Field::Epoch => metadata.epoch = Some(number(text).ok_or_else(|| bad(A_NUMBER))?),
            Field::Worker => metadata.worker = Some(value.into()),
            Field::TraceParent => metadata.traceparent = Some(value.into()),
            Field::TraceState => metadata.tracestate = Some(value.into()),
        }
        Ok(())
    }

    #[inline]
    fn finish(self) -> Result<Metadata, HeaderError> {
        let kind = self.kind.ok_or(HeaderError::Missing { name: KIND })?;
        let mut metadata = self.metadata;
        metadata.kind = kind;
        metadata.connection = match (self.gateway, self.generation) {
            (Some(gateway), Some(generation)) => Some(ConnectionKey { gateway, generation }),
            (None, None) => None,
            (None, Some(_)) => return Err(HeaderError::Missing { name: GATEWAY }),
            (Some(_), None) => return Err(HeaderError::Missing { name: GENERATION }),
        };
        // Presence is a worker's; everything else is about a station.
        if kind != Kind::Presence && metadata.station.is_none() {
            return Err(HeaderError::Missing { name: STATION });
        }
        Ok(metadata)
    }
}

/// A header's value.
#[derive(Clone, Copy)]
enum Value<'a> {
    /// A string of the metadata, as it is.
    Kept(&'a ByteString),
    /// What a number, a time or a word is written as.
    Made(&'a str),
}

impl AsRef<str> for Value<'_> {
    fn as_ref(&self) -> &str {
        match self {
            Self::Kept(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl From<Value<'_>> for ByteString {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Kept(text) => text.clone(),
            Value::Made(text) => text.into(),
        }
    }
}

/// Digits only: `str::parse` would take `+1` as well.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit.into()) }
    })
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Call => "call",
        Kind::Send => "send",
        Kind::Answer => "answer",
        Kind::ResultError => "result-error",
        Kind::Command => "command",
        Kind::Outcome => "outcome",
        Kind::Event => "event",
        Kind::Presence => "presence",
        Kind::Returned => "returned",
    }
}

fn kind_of(word: &str) -> Option<Kind> {
    Some(match word {
        "call" => Kind::Call,
        "send" => Kind::Send,
        "answer" => Kind::Answer,
        "result-error" => Kind::ResultError,
        "command" => Kind::Command,
        "outcome" => Kind::Outcome,
        "event" => Kind::Event,
        "presence" => Kind::Presence,
        "returned" => Kind::Returned,
        _ => return None,
    })
}

const fn registration_name(registration: Registration) -> &'static str {
    match registration {
        Registration::Accepted => "accepted",
        Registration::Pending => "pending",
        Registration::Rejected => "rejected",
    }
}

/// Each header's constant, its field, and the way from a name to the field, from one table.
macro_rules! fields {
    ($($constant:ident = $name:literal => $field:ident,)*) => {
        $(const $constant: &str = $name;)*

        /// The names of all headers, in the order in which they are written.
        pub const HEADER_NAMES: &[&str] = &[$($name,)*];

        #[derive(Clone, Copy, PartialEq, Eq)]
        enum Field { $($field,)* }

        impl Field {
            const ALL: &[Self] = &[$(Self::$field,)*];

            const fn name(self) -> &'static str {
                match self { $(Self::$field => $constant,)* }
            }

            fn of_lower_case(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$field),)* _ => None }
            }
        }
    };
}

fields! {
    ENVELOPE = "ocpp-envelope" => Envelope,
    KIND = "ocpp-kind" => Kind,
    TENANT = "ocpp-tenant" => Tenant,
    STATION = "ocpp-station" => Station,
    VERSION = "ocpp-version" => Version,
    ACTION = "ocpp-action" => Action,
    GATEWAY = "ocpp-gateway" => Gateway,
    GENERATION = "ocpp-generation" => Generation,
    SEQ = "ocpp-seq" => Seq,
    RECEIVED_AT = "ocpp-received-at" => ReceivedAt,
    REMAINING = "ocpp-remaining-ms" => Remaining,
    REPLY_TO = "ocpp-reply-to" => ReplyTo,
    ATTEMPT = "ocpp-attempt" => Attempt,
    COMMAND_ID = "ocpp-command-id" => CommandId,
    CONTEXT = "ocpp-context" => Context,
    REGISTRATION = "ocpp-registration" => Registration,
    OUTCOME = "ocpp-outcome" => Outcome,
    LANE = "ocpp-lane" => Lane,
    OUTBOX = "ocpp-outbox" => Outbox,
    JOURNAL = "ocpp-journal" => Journal,
    EPOCH = "ocpp-epoch" => Epoch,
    WORKER = "ocpp-worker" => Worker,
    TRACEPARENT = "traceparent" => TraceParent,
    TRACESTATE = "tracestate" => TraceState,
}

impl Field {
    /// The field of this name, looked for from the one after `last`.
    #[inline]
    fn after(last: usize, name: &str) -> Option<Self> {
        let ahead = Self::ALL.iter().skip(last).take(LOOK_AHEAD);
        ahead.copied().find(|field| field.name() == name).or_else(|| Self::of(name))
    }

    #[cold]
    fn of(name: &str) -> Option<Self> {
        Self::of_lower_case(name).or_else(|| {
            if !name.bytes().any(|byte| byte.is_ascii_uppercase()) || name.len() > NAME_BYTES_MAX {
                return None;
            }
            Self::of_lower_case(&name.to_ascii_lowercase())
        })
    }
}

/// How many fields are tried in order: more than are usually left out between two.
const LOOK_AHEAD: usize = 5;
/// No name of ours is longer.
const NAME_BYTES_MAX: usize = 24;
/// What `StationId` allows at all; who may connect is decided at the gateway's door.
const STATION_CHARACTERS_MAX: usize = 255;
const A_NUMBER: &str = "a number";

#[cfg(test)]
mod tests;
