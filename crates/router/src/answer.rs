//! What a call is answered with.

use crate::{CallError, Registration};
use bytes::Bytes;
use bytestring::ByteString;
use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context as Task, Poll},
};
use switchboard_messages::{Decoded, Message, Mode, Violations};

/// What a call is answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// A complete frame, `[3,"id",{…}]` or `[4,…]`, for the station. `None` is silence: the message wants no answer, or
    /// the call is stale and nobody waits for one.
    pub frame: Option<Bytes>,
    /// The registration that a BootNotification was answered with.
    pub registration: Option<Registration>,
    /// The call could not be dealt with now, and is to be handed over again ([`CallError::later`]). Then there is no frame.
    pub later: bool,
}

impl Answer {
    /// No answer.
    #[must_use]
    pub const fn silence() -> Self {
        Self { frame: None, registration: None, later: false }
    }

    /// This frame.
    #[must_use]
    pub fn frame(frame: Option<Bytes>) -> Self {
        Self { frame, ..Self::silence() }
    }

    /// No answer now: hand the call over again.
    #[must_use]
    pub const fn later() -> Self {
        Self { frame: None, registration: None, later: true }
    }
}

/// The future of an [`Answer`]. What needs no handler is ready without an allocation; a handler's future is one box.
///
/// It borrows nothing, needs no runtime of its own, and may be polled anywhere. It never panics: a handler that does is
/// answered with `InternalError`.
#[must_use = "a future does nothing unless it is polled"]
pub struct Answering(Progress);

enum Progress {
    Ready(Answer),
    Running(Pin<Box<dyn Future<Output = Answer> + Send>>),
    Taken,
}

impl Answering {
    pub(crate) const fn ready(answer: Answer) -> Self {
        Self(Progress::Ready(answer))
    }

    pub(crate) fn running(future: impl Future<Output = Answer> + Send + 'static) -> Self {
        Self(Progress::Running(Box::pin(future)))
    }
}

impl Future for Answering {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Answer> {
        if let Progress::Running(future) = &mut self.0 {
            let answer = std::task::ready!(future.as_mut().poll(task));
            self.0 = Progress::Taken;
            return Poll::Ready(answer);
        }
        match std::mem::replace(&mut self.0, Progress::Taken) {
            Progress::Ready(answer) => Poll::Ready(answer),
            // Polled again after its end: it stays pending, since a panic would cost others.
            Progress::Running(_) | Progress::Taken => Poll::Pending,
        }
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Progress::Ready(_) => "Answering(ready)",
            Progress::Running(_) => "Answering(running)",
            Progress::Taken => "Answering(taken)",
        })
    }
}

/// What a handler may answer with where `R` is the response of its request: `R`, a [`Reply`] of `R`, or a `Result` of
/// one of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer this request",
    label = "the response must be `{R}`",
    note = "return `{R}`, `Result<{R}, CallError>`, `Reply<{R}>` or `Result<Reply<{R}>, CallError>`"
)]
pub trait IntoAnswer<R> {
    /// Turns it into a reply.
    ///
    /// # Errors
    /// What is answered instead.
    fn into_reply(self) -> Result<Reply<R>, CallError>;
}

/// A response, or an answer that was stored when the same call came before.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reply<R> {
    /// A response made now.
    New(R),
    /// The payload that the same call was answered with before.
    Stored(Stored<R>),
    /// No answer: nobody waits for it.
    Silence,
}

impl<R> Reply<R> {
    /// The payload that the same call was answered with before.
    #[must_use]
    pub const fn stored(payload: ByteString) -> Self {
        Self::Stored(Stored::new(payload))
    }
}

impl<R> From<R> for Reply<R> {
    fn from(response: R) -> Self {
        Self::New(response)
    }
}

impl<R: Message> IntoAnswer<R> for R {
    fn into_reply(self) -> Result<Reply<R>, CallError> {
        Ok(Reply::New(self))
    }
}

impl<R: Message> IntoAnswer<R> for Reply<R> {
    fn into_reply(self) -> Result<Self, CallError> {
        Ok(self)
    }
}

impl<R: Message, E: Into<CallError>> IntoAnswer<R> for Result<R, E> {
    fn into_reply(self) -> Result<Reply<R>, CallError> {
        self.map(Reply::New).map_err(Into::into)
    }
}

impl<R: Message, E: Into<CallError>> IntoAnswer<R> for Result<Reply<R>, E> {
    fn into_reply(self) -> Result<Reply<R>, CallError> {
        self.map_err(Into::into)
    }
}

/// The payload of an answer that was stored, as the response `R` wrote it.
pub struct Stored<R> {
    payload: ByteString,
    response: PhantomData<fn() -> R>,
}

impl<R> Stored<R> {
    /// Takes a payload that a response `R` wrote earlier.
    #[must_use]
    pub const fn new(payload: ByteString) -> Self {
        Self { payload, response: PhantomData }
    }

    /// The payload as JSON text.
    #[must_use]
    pub const fn payload(&self) -> &ByteString {
        &self.payload
    }
}

impl<R: Message> Stored<R> {
    /// Reads it as the response that it was.
    ///
    /// # Errors
    /// When it was written by another version of the program, or as another type.
    pub fn read(&self) -> Result<Decoded<R>, Violations> {
        R::decode(self.payload.as_bytes(), Mode::Lenient)
    }
}

impl<R> Clone for Stored<R> {
    fn clone(&self) -> Self {
        Self::new(self.payload.clone())
    }
}

impl<R> PartialEq for Stored<R> {
    fn eq(&self, other: &Self) -> bool {
        self.payload == other.payload
    }
}

impl<R> fmt::Debug for Stored<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A payload may hold personal data.
        write!(formatter, "Stored({} bytes)", self.payload.len())
    }
}
