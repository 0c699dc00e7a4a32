//! What can be wrong with a frame, and what the peer is told about it.

use super::{MessageId, write_error};
use crate::{ErrorCode, Version};
use bytes::Bytes;

/// What is wrong with a text that should be a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing but white space. Some stations send it; it is ignored (F08).
    #[error("the message is empty")]
    Empty,
    /// The text is not JSON (F01).
    #[error("the message is not JSON")]
    NotJson,
    /// The text does not begin as a JSON array (F01).
    #[error("the message is not a JSON array")]
    NotAnArray,
    /// Something follows the array (F08).
    #[error("something follows the message")]
    TrailingBytes,
    /// Brackets nested deeper than 32 (F10).
    #[error("the message is nested too deeply")]
    TooDeep,
    /// The first element is missing or no integer (F01, F02).
    #[error("the message type is not an integer")]
    NoType,
    /// The first element is an integer that is no message type of this version (F03).
    #[error("the message type is not supported")]
    UnknownType,
    /// The id is missing, or neither string nor integer (F04).
    #[error("the message id is missing or not a string")]
    IdNotText,
    /// The id is the empty string (F04).
    #[error("the message id is empty")]
    IdEmpty,
    /// The id has more than 36 characters (F05).
    #[error("the message id is longer than 36 characters")]
    IdTooLong,
    /// Too many or too few elements for its type (F06).
    #[error("the number of elements does not fit the message type")]
    ElementCount,
    /// The action, or the code of an error, is not a string (F06).
    #[error("the third element of the message is not a string")]
    NameNotText,
    /// The payload is neither object nor `null` (F07).
    #[error("the payload is not a JSON object")]
    PayloadNotObject,
}

/// The kind of a message, as far as its type number says it in the version at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// 2: a request.
    Call,
    /// 3: the answer that it was done.
    Result,
    /// 4: the answer that it was not.
    Error,
    /// 5, 2.1 only: a CALLRESULT was not understood.
    ResultError,
    /// 6, 2.1 only: a message that nobody answers.
    Send,
}

impl FrameKind {
    /// The kind with this type number. The number must be written as a plain integer: `2.0` and `2e0` are none (F02).
    pub(crate) fn from_number(number: &str, version: Version) -> Option<Self> {
        match (number, version) {
            ("2", _) => Some(Self::Call),
            ("3", _) => Some(Self::Result),
            ("4", _) => Some(Self::Error),
            ("5", Version::V21) => Some(Self::ResultError),
            ("6", Version::V21) => Some(Self::Send),
            _ => None,
        }
    }
}

/// A text that is no frame, with what could be read of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct FrameError {
    /// What is wrong.
    pub fault: Fault,
    /// What it was meant to be.
    pub kind: Option<FrameKind>,
    /// Its id, where one could be read that can be sent back: a string or an integer of at most 255 characters.
    pub id: Option<MessageId>,
}

impl FrameError {
    /// The CALLERROR that the peer gets for it, or none.
    ///
    /// What looks like an answer is never answered (C05), nor a SEND (F16). 1.6 knows no way to speak about a frame
    /// without id and stays silent; 2.x has the id `"-1"` for it (F01).
    #[must_use]
    pub fn answer(&self, version: Version) -> Option<Bytes> {
        if !matches!(self.kind, Some(FrameKind::Call) | None) {
            return None;
        }
        let (code, id_is_sound) = match self.fault {
            Fault::Empty => return None,
            // F01, F08, F10: what is not JSON has no id that one could rely on.
            Fault::NotJson | Fault::NotAnArray | Fault::TrailingBytes | Fault::TooDeep | Fault::NoType => {
                (ErrorCode::RpcFrameworkError, false)
            }
            // F03: only 2.0.1 wants to hear of it (part 4, 4.4); 1.6 and 2.1 say that it is ignored.
            Fault::UnknownType if version != Version::V201 => return None,
            Fault::UnknownType => (ErrorCode::MessageTypeNotSupported, true),
            Fault::IdNotText => (ErrorCode::RpcFrameworkError, false),
            // F04: an empty id is echoed in 1.6, which has no other; 2.x would not take it for one.
            Fault::IdEmpty => (ErrorCode::RpcFrameworkError, matches!(version, Version::V16)),
            Fault::IdTooLong | Fault::ElementCount | Fault::NameNotText => {
                (ErrorCode::RpcFrameworkError, true)
            }
            Fault::PayloadNotObject => (ErrorCode::FormatViolation, true),
        };
        let id = match (&self.id, version) {
            (Some(id), _) if id_is_sound => id,
            (_, Version::V16) => return None,
            _ => &MessageId::UNREADABLE,
        };
        Some(write_error(id, code, &self.fault.to_string(), b"", version))
    }
}
