//! What every generated message can do, and how what is wrong with one is told.

use std::borrow::Cow;
use std::fmt;
use switchboard_rpc::{ErrorCode, Version};

/// How forgiving reading is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The schema as it is: every violation refuses the message.
    Strict,
    /// What can be read is read: nulls are stripped, unknown members left out, over-long strings, unknown enum values
    /// and numbers out of range passed, each with a warning. What cannot be read into the type refuses the message; a
    /// missing number never becomes zero.
    #[default]
    Lenient,
}

/// What is wrong at one place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ViolationKind {
    /// The text is not JSON.
    NotJson,
    /// The payload is no object.
    NotAnObject,
    /// A member that the schema does not know.
    UnknownMember,
    /// The same member twice.
    DuplicateMember,
    /// A required member is missing.
    MissingMember,
    /// A value has the wrong JSON type; also `null` for an optional member.
    WrongType,
    /// A string longer than allowed, counted in characters.
    TooLong,
    /// A value that the enumeration does not have.
    UnknownValue,
    /// A number below the minimum or above the maximum.
    OutOfRange,
    /// A number that is no multiple of the step.
    NotAMultiple,
    /// No date and time that can be read, or (strict) not in the form of RFC 3339.
    BadDateTime,
    /// No URI.
    BadUri,
    /// An array with too few items.
    TooFewItems,
    /// An array with too many items.
    TooManyItems,
}

impl ViolationKind {
    /// The error code that answers a message with such a violation (V02 to V05).
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NotJson | Self::NotAnObject | Self::UnknownMember | Self::DuplicateMember => {
                ErrorCode::FormatViolation
            }
            Self::MissingMember | Self::TooFewItems | Self::TooManyItems => {
                ErrorCode::OccurrenceConstraintViolation
            }
            Self::WrongType => ErrorCode::TypeConstraintViolation,
            Self::TooLong
            | Self::UnknownValue
            | Self::OutOfRange
            | Self::NotAMultiple
            | Self::BadDateTime
            | Self::BadUri => ErrorCode::PropertyConstraintViolation,
        }
    }
}

/// One thing that is wrong with a message, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What.
    pub kind: ViolationKind,
    /// Where: a JSON pointer (RFC 6901) into the payload; empty for the payload itself.
    pub pointer: String,
    /// What would have been right, without any value of the message: `at most 20 characters`.
    pub expected: Cow<'static, str>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "the payload" } else { &self.pointer };
        write!(formatter, "{place}: {}", self.expected)
    }
}

/// Everything that is wrong with a message; never empty. The first one decides the error code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.first().map(ToString::to_string).unwrap_or_default())]
pub struct Violations(pub Vec<Violation>);

impl Violations {
    /// The error code of the first violation.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.0.first().map_or(ErrorCode::FormatViolation, |violation| violation.kind.code())
    }
}

/// A message that was read, and what was forgiven on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<T> {
    /// The message.
    pub value: T,
    /// What was not as it should be. Empty in strict mode. Does not allocate when empty.
    pub warnings: Vec<Violation>,
}

impl<T> Decoded<T> {
    /// The same with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Decoded<U> {
        Decoded { value: change(self.value), warnings: self.warnings }
    }
}

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The charging station.
    Station,
    /// The central system.
    Csms,
    /// Both.
    Either,
}

/// A message that can be read from a payload and written as one. Implemented by every generated request and response.
///
/// Reading and writing are compiled in this crate, once per type, and not again in the crates that use it.
pub trait Message: Sized + Clone + fmt::Debug + Send + Sync + 'static {
    /// Of which version it is.
    const VERSION: Version;
    /// The action on the wire, `BootNotification`.
    const ACTION: &'static str;

    /// Reads a payload: the JSON text of an object.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the text, missing members after the members of their object.
    fn decode(payload: &[u8], mode: Mode) -> Result<Decoded<Self>, Violations>;

    /// Appends the message as JSON text. What is written is strictly valid (V09).
    ///
    /// # Errors
    /// What is wrong with the value; `out` is then as long as before.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Violations>;
}

/// A request: a CALL's payload, or a SEND's.
pub trait Request: Message {
    /// What answers it.
    type Response: Message;
    /// Who sends it.
    const SENDER: Sender;
    /// Whether it is answered: false for what 2.1 sends as SEND.
    const HAS_RESPONSE: bool = true;
}

/// What stands for the response of a message that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoResponse;

impl Message for NoResponse {
    const VERSION: Version = Version::V21;
    const ACTION: &'static str = "";

    /// Accepts nothing: there is no such payload.
    fn decode(_payload: &[u8], _mode: Mode) -> Result<Decoded<Self>, Violations> {
        Err(Violations(vec![Violation {
            kind: ViolationKind::NotAnObject,
            pointer: String::new(),
            expected: Cow::Borrowed("no response at all"),
        }]))
    }

    /// Appends an empty object, for whoever asks all the same.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), Violations> {
        out.extend_from_slice(b"{}");
        Ok(())
    }
}

/// Why a payload was not read by the name of its action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The version has no such action.
    #[error("unknown action")]
    UnknownAction,
    /// The version has the action, but the other side sends it.
    #[error("the action goes the other way")]
    WrongDirection,
    /// The payload is wrong.
    #[error(transparent)]
    Violations(#[from] Violations),
}

impl DecodeError {
    /// The error code that answers such a call (V01 to V05).
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownAction => ErrorCode::NotImplemented,
            Self::WrongDirection => ErrorCode::NotSupported,
            Self::Violations(violations) => violations.code(),
        }
    }
}

/// Whether `sender` may send the action in this version.
pub(crate) fn check_direction(version: Version, name: &str, sender: Sender) -> Result<(), DecodeError> {
    let action = crate::actions::action(version, name).ok_or(DecodeError::UnknownAction)?;
    if action.sender == sender || action.sender == Sender::Either || sender == Sender::Either {
        Ok(())
    } else {
        Err(DecodeError::WrongDirection)
    }
}
