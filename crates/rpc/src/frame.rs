//! OCPP-J frames: taken apart without touching the payload, and written.
//!
//! A frame is one text message of the WebSocket: a JSON array of a type number, an id and what belongs to the type.
//! [`Frame::parse`] finds its parts; each is a slice of the text that came, so that nothing is copied and what is passed
//! on is what the peer wrote, digit by digit (F12).

mod fault;
mod layout;
mod message_id;
mod scan;
mod text;
mod write;

pub use fault::{Fault, FrameError, FrameKind};
pub use message_id::{ID_CHARACTERS_MAX, MessageId};
pub use scan::{DEPTH_MAX, end_of_container};
pub use write::{
    DESCRIPTION_CHARACTERS_MAX, json_string, write_call, write_error, write_result, write_result_error,
    write_send,
};

pub(crate) use layout::Layout;
pub(crate) use message_id::same as same_id;
pub(crate) use scan::is_object;
pub(crate) use write::write_answered;

use crate::Version;
use bytestring::ByteString;

/// A message, as slices of its text.
///
/// Payloads and details are JSON text whose strings and brackets are known to be sound; whether the rest of it is JSON
/// shows only when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// `[2,id,action,payload]`
    Call {
        /// The id that the answer must carry.
        id: MessageId,
        /// What is asked for.
        action: ByteString,
        /// A JSON object. `null` reads as `{}` (F07).
        payload: ByteString,
    },
    /// `[3,id,payload]`
    Result {
        /// The id of the CALL that it answers.
        id: MessageId,
        /// A JSON object. `null` reads as `{}` (F07).
        payload: ByteString,
    },
    /// `[4,id,code,description,details]`; what misses at the end is empty (F13).
    Error {
        /// The id of the CALL that it answers.
        id: MessageId,
        /// Any text; [`ErrorCode::from_wire`](crate::ErrorCode::from_wire) knows the specified ones.
        code: ByteString,
        /// For people.
        description: ByteString,
        /// Any JSON; `{}` where it was absent or `null`.
        details: ByteString,
    },
    /// `[5,id,code,description,details]`, 2.1 only: our CALLRESULT with this id was not understood.
    ResultError {
        /// The id of the CALL whose result it is about.
        id: MessageId,
        /// Any text.
        code: ByteString,
        /// For people.
        description: ByteString,
        /// Any JSON; `{}` where it was absent or `null`.
        details: ByteString,
    },
    /// `[6,id,action,payload]`, 2.1 only; never answered.
    Send {
        /// Its id.
        id: MessageId,
        /// What it is about.
        action: ByteString,
        /// A JSON object. `null` reads as `{}` (F07).
        payload: ByteString,
    },
}

impl Frame {
    /// Takes a message apart.
    ///
    /// # Errors
    /// When it is not a frame of this version, with what the peer should be told about that.
    pub fn parse(text: &ByteString, version: Version) -> Result<Self, FrameError> {
        Ok(Self::from_layout(text, &Layout::of(text, version)?))
    }

    /// Takes a CALL or SEND apart without looking into its payload: all between the action and the last bracket is taken
    /// for it. For who reads the payload to its end anyway, and asks [`parse`](Self::parse) where that fails.
    ///
    /// None where it is no such frame at first sight.
    #[must_use]
    pub fn parse_head(text: &ByteString, version: Version) -> Option<Self> {
        Layout::of_head(text, version).map(|layout| Self::from_layout(text, &layout))
    }

    fn from_layout(text: &ByteString, layout: &Layout) -> Self {
        let id = layout.id(text);
        match layout.kind {
            FrameKind::Call => Self::Call { id, action: layout.name(text), payload: layout.payload(text) },
            FrameKind::Result => Self::Result { id, payload: layout.payload(text) },
            FrameKind::Send => Self::Send { id, action: layout.name(text), payload: layout.payload(text) },
            FrameKind::Error => Self::Error {
                id,
                code: layout.name(text),
                description: layout.description(text),
                details: layout.payload(text),
            },
            FrameKind::ResultError => Self::ResultError {
                id,
                code: layout.name(text),
                description: layout.description(text),
                details: layout.payload(text),
            },
        }
    }

    /// The id of the message.
    #[must_use]
    pub const fn id(&self) -> &MessageId {
        match self {
            Self::Call { id, .. }
            | Self::Result { id, .. }
            | Self::Error { id, .. }
            | Self::ResultError { id, .. }
            | Self::Send { id, .. } => id,
        }
    }

    /// Which kind of message it is.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Call { .. } => FrameKind::Call,
            Self::Result { .. } => FrameKind::Result,
            Self::Error { .. } => FrameKind::Error,
            Self::ResultError { .. } => FrameKind::ResultError,
            Self::Send { .. } => FrameKind::Send,
        }
    }
}

#[cfg(test)]
mod tests;
