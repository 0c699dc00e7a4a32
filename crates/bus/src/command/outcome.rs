//! What became of a command, for people and programs.

use crate::OutcomeKind;
use bytes::Bytes;
use bytestring::ByteString;
use std::fmt;
use switchboard_rpc::{Frame, Version};

/// What became of a command (S07).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The station answered; this is its payload, a JSON object.
    Answered(ByteString),
    /// The station answered with a CALLERROR, or with something that cannot be read: then the code is empty.
    Refused {
        /// As the station spelled it.
        code: ByteString,
        /// The station's words.
        description: ByteString,
        /// Any JSON.
        details: ByteString,
    },
    /// The station is not connected.
    Offline,
    /// Too many commands wait already.
    Busy,
    /// It waited longer than it was allowed to, and was never sent.
    Expired,
    /// It was taken back before it was sent.
    Cancelled,
    /// The socket went, or the station may not be called now; it was never written.
    NotSent,
    /// It was written, or may have been, and no answer came: nobody knows whether the station acted on it.
    Unknown,
}

impl Outcome {
    /// Which kind of outcome it is.
    #[must_use]
    pub const fn kind(&self) -> OutcomeKind {
        match self {
            Self::Answered(_) => OutcomeKind::Answered,
            Self::Refused { .. } => OutcomeKind::Refused,
            Self::Offline => OutcomeKind::Offline,
            Self::Busy => OutcomeKind::Busy,
            Self::Expired => OutcomeKind::Expired,
            Self::Cancelled => OutcomeKind::Cancelled,
            Self::NotSent => OutcomeKind::NotSent,
            Self::Unknown => OutcomeKind::Unknown,
        }
    }

    /// From how it ended and the station's frame. The version only matters for type numbers that do not occur here.
    pub(super) fn of(kind: OutcomeKind, frame: &Bytes, version: Option<Version>) -> Self {
        let parse = || {
            let text = ByteString::try_from(frame.clone()).ok()?;
            Frame::parse(&text, version.unwrap_or(Version::V201)).ok()
        };
        match kind {
            OutcomeKind::Answered => match parse() {
                Some(Frame::Result { payload, .. }) => Self::Answered(payload),
                _ => Self::unreadable(),
            },
            OutcomeKind::Refused => match parse() {
                Some(Frame::Error { code, description, details, .. }) => {
                    Self::Refused { code, description, details }
                }
                _ => Self::unreadable(),
            },
            OutcomeKind::Offline => Self::Offline,
            OutcomeKind::Busy => Self::Busy,
            OutcomeKind::Expired => Self::Expired,
            OutcomeKind::Cancelled => Self::Cancelled,
            OutcomeKind::NotSent => Self::NotSent,
            OutcomeKind::Unknown => Self::Unknown,
        }
    }

    const fn unreadable() -> Self {
        Self::Refused {
            code: ByteString::new(),
            description: ByteString::from_static("the station's answer could not be read"),
            details: ByteString::from_static("{}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(_) => formatter.write_str("answered"),
            Self::Refused { code, description, .. } => {
                formatter.write_str("refused")?;
                if !code.is_empty() {
                    write!(formatter, " with {code}")?;
                }
                if description.is_empty() { Ok(()) } else { write!(formatter, ": {description}") }
            }
            Self::Offline => formatter.write_str("offline: the station is not connected"),
            Self::Busy => formatter.write_str("busy: too many commands wait already"),
            Self::Expired => formatter.write_str("expired: it waited too long and was never sent"),
            Self::Cancelled => formatter.write_str("cancelled: it was taken back before it was sent"),
            Self::NotSent => formatter.write_str("not sent: the station was never given the command"),
            Self::Unknown => {
                formatter.write_str("unknown: no answer came, and the station may have acted on the command")
            }
        }
    }
}
