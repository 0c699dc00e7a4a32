//! Why a call is not answered with its response.

use serde_json::value::RawValue;
use std::{borrow::Cow, error::Error, fmt};
use switchboard_messages::Violations;
use switchboard_rpc::ErrorCode;

/// Why a handler does not answer with the response: the CALLERROR that the station gets.
///
/// `?` turns every error into an `InternalError` whose cause is logged and never sent; that is why this type is no
/// [`Error`] itself. What the station shall read is said with the constructors:
///
/// ```
/// use switchboard_router::CallError;
/// use switchboard_rpc::ErrorCode;
///
/// fn parse(text: &str) -> Result<u32, CallError> {
///     Ok(text.parse()?)                                        // InternalError, the cause is logged
/// }
/// assert_eq!(parse("x").unwrap_err().code(), ErrorCode::InternalError);
///
/// let refused = CallError::new(ErrorCode::SecurityError, "not accepted yet");
/// assert_eq!(refused.description(), "not accepted yet");
/// ```
#[must_use = "an error answers the call only when it is returned"]
pub struct CallError {
    code: ErrorCode,
    description: Cow<'static, str>,
    details: Option<Box<RawValue>>,
    cause: Option<Box<dyn Error + Send + Sync>>,
    end: End,
}

/// What comes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The station is told.
    Told,
    /// Nobody waits for an answer.
    Silence,
    /// It comes again.
    Later,
}

impl CallError {
    /// A CALLERROR of this code. The description is cut at 255 characters when it is written; it must not hold values
    /// of the payload, nor anything that the station's owner may not read.
    pub fn new(code: ErrorCode, description: impl Into<Cow<'static, str>>) -> Self {
        Self { code, description: description.into(), details: None, cause: None, end: End::Told }
    }

    /// `NotImplemented`: the action is unknown here.
    pub fn not_implemented() -> Self {
        Self::new(ErrorCode::NotImplemented, "the action is not known here")
    }

    /// `NotSupported`: the action is known and not served.
    pub fn not_supported() -> Self {
        Self::new(ErrorCode::NotSupported, "the action is not supported here")
    }

    /// `InternalError` because of `cause`, which is logged and not sent (V06).
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..Self::failed() }
    }

    /// `SecurityError`: a question of security, or the station is not accepted yet.
    pub fn security(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::SecurityError, description)
    }

    /// `PropertyConstraintViolation`: a field has a value that is not allowed.
    pub fn property(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::PropertyConstraintViolation, description)
    }

    /// No answer at all: the call is older than one that was dealt with, so nobody waits for it
    /// ([`Begin::Stale`](crate::once::Begin)).
    pub fn stale() -> Self {
        Self { end: End::Silence, ..Self::new(ErrorCode::GenericError, "the call is stale") }
    }

    /// No answer now: what the handler needs is away, and a refusal would make the station throw its message away. The call
    /// goes back to its gateway, which hands it over again after 50 ms, 100 ms, … 1 s until its deadline; what becomes of
    /// it then depends on its class.
    pub fn later() -> Self {
        Self { end: End::Later, ..Self::failed() }
    }

    /// The same with error details, a JSON object.
    pub fn with_details(mut self, details: Box<RawValue>) -> Self {
        // What is no object could not be read by the station; without details the error is still right.
        self.details = details.get().trim_start().starts_with('{').then_some(details);
        self
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// What the station reads.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The error details as JSON text; `{}` where there are none.
    #[must_use]
    pub fn details(&self) -> &str {
        self.details.as_ref().map_or("{}", |details| details.get())
    }

    /// What made the handler fail, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.cause.as_deref()
    }

    /// Whether nothing is answered.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        !matches!(self.end, End::Told)
    }

    /// Whether the call is to be handed over again.
    #[must_use]
    pub const fn is_later(&self) -> bool {
        matches!(self.end, End::Later)
    }

    /// An `InternalError` that tells nothing.
    pub(crate) fn failed() -> Self {
        Self::new(ErrorCode::InternalError, "the call could not be processed")
    }

    /// What answers a message with these violations (V02 to V05): the first one's place and what was expected there.
    pub(crate) fn violated(violations: &Violations) -> Self {
        Self::new(violations.code(), violations.to_string())
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CallError {
    fn from(cause: E) -> Self {
        Self::internal(cause)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.description)
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CallError")
            .field("code", &self.code)
            .field("description", &self.description)
            .field("details", &self.details())
            .field("cause", &self.cause)
            .field("end", &self.end)
            .finish()
    }
}
