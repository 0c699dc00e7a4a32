//! Handlers that see bytes.

use crate::CallError;
use bytestring::ByteString;
use switchboard_messages::{Message, Violations};
use switchboard_rpc::ErrorCode;

/// A message as it came: the last argument of a handler for [`Router::on_raw`](crate::Router::on_raw) and
/// [`Router::on_any`](crate::Router::on_any).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Raw {
    /// The action.
    pub action: ByteString,
    /// The payload, byte by byte as the station sent it. Its outermost type is not checked.
    pub payload: ByteString,
}

/// A message of one of the four actions that are never refused for their content (V10), which cannot be read into its
/// type: the last argument of a handler for [`Router::on_unreadable`](crate::Router::on_unreadable).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// The action: `StartTransaction`, `StopTransaction`, `MeterValues` or `TransactionEvent`.
    pub action: ByteString,
    /// The payload as the station sent it; a JSON object.
    pub payload: ByteString,
    /// Why it cannot be read.
    pub violations: Violations,
}

/// A message that no handler takes: the last argument of a handler for [`Router::fallback`](crate::Router::fallback).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unhandled {
    /// The action.
    pub action: ByteString,
    /// The payload as the station sent it.
    pub payload: ByteString,
    /// What it is refused with if there is no fallback: `NotImplemented` for an action that the version does not have,
    /// `NotSupported` for one that it has.
    pub code: ErrorCode,
}

impl Unhandled {
    /// The refusal that the station gets if there is no fallback.
    pub fn refusal(&self) -> CallError {
        refusal(self.code)
    }
}

pub(crate) fn refusal(code: ErrorCode) -> CallError {
    if code == ErrorCode::NotSupported { CallError::not_supported() } else { CallError::not_implemented() }
}

/// The payload of an answer that a raw handler makes: the text of a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(ByteString);

impl Payload {
    /// `{}`
    #[must_use]
    pub const fn empty() -> Self {
        Self(ByteString::from_static("{}"))
    }

    /// The payload of a typed response.
    ///
    /// # Errors
    /// What is wrong with it (V09).
    pub fn of(response: &impl Message) -> Result<Self, Violations> {
        let mut text = Vec::with_capacity(128);
        response.encode(&mut text)?;
        Ok(Self(ByteString::try_from(text).unwrap_or_default()))
    }

    /// A text that the caller knows to be a JSON object. What is none is answered with `InternalError` (V09); whether it
    /// fits the action is not checked.
    #[must_use]
    pub fn json(text: impl Into<ByteString>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub const fn text(&self) -> &ByteString {
        &self.0
    }

    /// Whether it is the text of a JSON object.
    pub(crate) fn is_object(&self) -> bool {
        self.0.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(&self.0).is_ok()
    }
}

/// What a raw handler may return: a [`Payload`], `()` for an empty one, a [`serde_json::Value`], or a `Result` of one of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a raw handler returns",
    note = "return `Payload`, `()`, `serde_json::Value`, or a `Result` of one of them"
)]
pub trait IntoPayload {
    /// Turns it into the payload of the answer.
    ///
    /// # Errors
    /// What is answered instead.
    fn into_payload(self) -> Result<Payload, CallError>;
}

impl IntoPayload for Payload {
    fn into_payload(self) -> Result<Payload, CallError> {
        Ok(self)
    }
}

impl IntoPayload for () {
    fn into_payload(self) -> Result<Payload, CallError> {
        Ok(Payload::empty())
    }
}

impl IntoPayload for serde_json::Value {
    fn into_payload(self) -> Result<Payload, CallError> {
        Ok(Payload::json(self.to_string()))
    }
}

impl<T: IntoPayload, E: Into<CallError>> IntoPayload for Result<T, E> {
    fn into_payload(self) -> Result<Payload, CallError> {
        self.map_err(Into::into).and_then(T::into_payload)
    }
}
