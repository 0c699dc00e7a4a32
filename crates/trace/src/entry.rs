//! What the trace tells: a call with its answer, or something in the life of a connection.

use bytestring::ByteString;
use std::{net::IpAddr, time::Duration};
use switchboard_gateway::Record;
use switchboard_rpc::{Fault, FrameKind, MessageId, StationId, Version};

/// One thing that the trace tells.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) about: About,
    pub(crate) what: What,
}

/// What an entry is about.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) tenant: ByteString,
    pub(crate) station: Option<StationId>,
    pub(crate) generation: u64,
    pub(crate) version: Option<Version>,
    /// When it began, in milliseconds since 1970.
    pub(crate) time_ms: i64,
}

impl About {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            tenant: record.tenant.clone(),
            station: record.station.clone(),
            generation: record.generation,
            version: record.version,
            time_ms: record.time_ms,
        }
    }
}

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The station calls us.
    In,
    /// We call the station.
    Out,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A call and what became of it.
    Exchange(Box<Exchange>),
    /// A single frame.
    Frame(Box<Passed>),
    Connected,
    Disconnected {
        reason: ByteString,
        code: Option<u16>,
        replaced: bool,
    },
    Refused {
        address: IpAddr,
        path: ByteString,
        status: u16,
        reason: ByteString,
    },
    /// A text of the station that is no frame.
    Bad {
        fault: Fault,
        text: ByteString,
    },
    /// An answer of the station that belongs to no open call of ours; with the action if it is a late one.
    Unmatched {
        id: MessageId,
        action: Option<ByteString>,
        text: ByteString,
    },
    /// A side could not read a CALLRESULT of the other (2.1).
    ResultError {
        direction: Direction,
        id: MessageId,
        code: ByteString,
        description: ByteString,
    },
    /// So many records are missing here.
    Lost(u64),
}

/// A call and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) direction: Direction,
    pub(crate) id: MessageId,
    pub(crate) action: ByteString,
    pub(crate) request: ByteString,
    pub(crate) outcome: Outcome,
    /// From the receipt of the call to the write of its answer, or the other way round; of one without an answer, how
    /// long it was waited for. None where no answer is due.
    pub(crate) latency: Option<Duration>,
    /// How many times it was handed to processing.
    pub(crate) attempts: u32,
    pub(crate) note: Option<&'static str>,
}

/// What became of a call.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Answered {
        response: ByteString,
    },
    Refused {
        code: ByteString,
        description: ByteString,
        details: ByteString,
    },
    /// Nobody answered in time.
    TimedOut,
    /// No answer was seen.
    Unanswered,
    /// It wants no answer (2.1).
    Sent,
}

/// A frame as it passed.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    /// Who sent it.
    pub(crate) from: Direction,
    /// None: it is no frame.
    pub(crate) kind: Option<FrameKind>,
    pub(crate) id: Option<MessageId>,
    /// Its action, or that of the call which it answers.
    pub(crate) action: Option<ByteString>,
    /// The direction of the call to which it belongs.
    pub(crate) direction: Option<Direction>,
    pub(crate) text: ByteString,
    /// Of an answer.
    pub(crate) latency: Option<Duration>,
    /// The payload of the call to which it belongs: what is personal there is so in the texts of an error as well.
    pub(crate) request: Option<ByteString>,
}

/// What is known of an entry without reading it: what filters ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) time_ms: i64,
    pub(crate) station: Option<&'a str>,
    pub(crate) version: Option<Version>,
    pub(crate) action: Option<&'a str>,
    pub(crate) direction: Option<Direction>,
    pub(crate) is_error: bool,
    pub(crate) latency: Option<Duration>,
    /// It is about the trace itself and concerns everybody who reads it.
    pub(crate) is_for_all: bool,
}

impl Head<'_> {
    /// Of nothing but a time.
    pub(crate) const fn at(time_ms: i64) -> Self {
        Self {
            time_ms,
            station: None,
            version: None,
            action: None,
            direction: None,
            is_error: false,
            latency: None,
            is_for_all: false,
        }
    }
}

impl Entry {
    /// What filters ask for.
    pub(crate) fn head(&self) -> Head<'_> {
        let mut head = Head {
            station: self.about.station.as_ref().map(StationId::as_str),
            version: self.about.version,
            ..Head::at(self.about.time_ms)
        };
        match &self.what {
            What::Exchange(exchange) => {
                head.action = Some(&exchange.action);
                head.direction = Some(exchange.direction);
                head.is_error = !matches!(exchange.outcome, Outcome::Answered { .. } | Outcome::Sent);
                head.latency = exchange.latency;
            }
            What::Frame(passed) => {
                head.action = passed.action.as_deref();
                head.direction = passed.direction;
                head.is_error =
                    !matches!(passed.kind, Some(FrameKind::Call | FrameKind::Result | FrameKind::Send));
                head.latency = passed.latency;
            }
            What::Connected | What::Disconnected { .. } => {}
            What::Refused { .. } => head.is_error = true,
            What::Bad { .. } => {
                head.is_error = true;
                head.direction = Some(Direction::In);
            }
            What::Unmatched { action, .. } => {
                head.is_error = true;
                head.action = action.as_deref();
                head.direction = Some(Direction::Out);
            }
            What::ResultError { direction, .. } => {
                head.is_error = true;
                head.direction = Some(*direction);
            }
            What::Lost(_) => head.is_for_all = true,
        }
        head
    }
}
