//! Handlers without their types: what the tables of a router hold.

use crate::{
    Answer, Answering, CallError, Context, Handler, IntoAnswer, IntoPayload, MessageId, Parts, Raw,
    Registration, Reply, Unhandled, Unreadable,
};
use bytes::Bytes;
use bytestring::ByteString;
use pin_project_lite::pin_project;
use std::{
    any::Any,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};
use switchboard_messages::{Message, Request, Violation, Violations};
use switchboard_rpc::{ErrorCode, StationId, Version, frame::write_error};

/// A message on its way to an endpoint.
pub(crate) struct Incoming<'a> {
    pub(crate) context: &'a Context,
    /// The whole message.
    pub(crate) frame: ByteString,
    pub(crate) id: MessageId,
    pub(crate) action: ByteString,
    pub(crate) payload: ByteString,
    /// A CALL is answered, a SEND is not.
    pub(crate) answered: bool,
}

impl Incoming<'_> {
    pub(crate) fn to(&self) -> To {
        To {
            id: self.answered.then(|| self.id.clone()),
            version: self.context.version,
            station: self.context.station.clone(),
            action: self.action.clone(),
        }
    }

    /// Answers with this error at once.
    pub(crate) fn refuse(&self, error: &CallError) -> Answering {
        Answering::ready(self.to().error(error))
    }

    fn parts<'b>(&'b self, warnings: &'b [Violation]) -> Parts<'b> {
        Parts {
            context: self.context,
            id: Some(&self.id),
            action: &self.action,
            payload: &self.payload,
            warnings,
        }
    }
}

/// A handler in a table.
pub(crate) trait Endpoint<S>: Send + Sync {
    /// Begins to handle a message.
    ///
    /// # Errors
    /// When the payload cannot be read into the handler's type; the router decides what happens then.
    fn call(&self, incoming: &Incoming<'_>, state: &S) -> Result<Answering, Violations>;

    /// Whether it reads the payload to its end, and so needs not be told where that is.
    fn reads_all(&self) -> bool {
        false
    }
}

/// A handler of a typed request.
pub(crate) struct Typed<H, M> {
    handler: H,
    arguments: PhantomData<fn() -> M>,
}

impl<H, M> Typed<H, M> {
    pub(crate) const fn new(handler: H) -> Self {
        Self { handler, arguments: PhantomData }
    }
}

impl<H, M, S> Endpoint<S> for Typed<H, M>
where
    H: Handler<M, S>,
    H::Input: Request,
    H::Output: IntoAnswer<<H::Input as Request>::Response>,
{
    fn call(&self, incoming: &Incoming<'_>, state: &S) -> Result<Answering, Violations> {
        let decoded = H::Input::decode(incoming.payload.as_bytes(), incoming.context.mode)?;
        let parts = incoming.parts(&decoded.warnings);
        Ok(begin(incoming, || self.handler.call(&parts, state, decoded.value), typed_answer))
    }

    fn reads_all(&self) -> bool {
        true
    }
}

fn typed_answer<R: Message, O: IntoAnswer<R>>(to: &To, output: O) -> Answer {
    match output.into_reply() {
        Ok(Reply::New(response)) => to.response(&response),
        Ok(Reply::Stored(stored)) => to.payload(stored.payload()),
        Ok(Reply::Silence) => Answer::silence(),
        Err(error) => to.error(&error),
    }
}

fn raw_answer<O: IntoPayload>(to: &To, output: O) -> Answer {
    match output.into_payload() {
        Ok(payload) if payload.is_object() => to.payload(payload.text()),
        Ok(_) => {
            tracing::error!(station = %to.station, action = &*to.action, "a raw handler's answer is no JSON object");
            to.error(&CallError::failed())
        }
        Err(error) => to.error(&error),
    }
}

/// What a raw handler is given, made from what arrived.
pub(crate) trait RawInput: Send + 'static {
    fn make(incoming: &Incoming<'_>) -> Self;
}

impl RawInput for Raw {
    fn make(incoming: &Incoming<'_>) -> Self {
        Self { action: incoming.action.clone(), payload: incoming.payload.clone() }
    }
}

/// A handler that sees bytes.
pub(crate) struct Bytewise<H, M> {
    handler: H,
    arguments: PhantomData<fn() -> M>,
}

impl<H, M> Bytewise<H, M> {
    pub(crate) const fn new(handler: H) -> Self {
        Self { handler, arguments: PhantomData }
    }
}

impl<H, M, S> Endpoint<S> for Bytewise<H, M>
where
    H: Handler<M, S>,
    H::Input: RawInput,
    H::Output: IntoPayload,
{
    fn call(&self, incoming: &Incoming<'_>, state: &S) -> Result<Answering, Violations> {
        let parts = incoming.parts(&[]);
        Ok(begin(incoming, || self.handler.call(&parts, state, H::Input::make(incoming)), raw_answer))
    }
}

/// A handler of what is special: unreadable or unhandled messages, which come with a finding.
pub(crate) trait Special<I, S>: Send + Sync {
    fn call(&self, incoming: &Incoming<'_>, state: &S, input: I) -> Answering;
}

impl<H, M, S, I> Special<I, S> for Bytewise<H, M>
where
    H: Handler<M, S, Input = I>,
    H::Output: IntoPayload,
{
    fn call(&self, incoming: &Incoming<'_>, state: &S, input: I) -> Answering {
        let parts = incoming.parts(&[]);
        begin(incoming, || self.handler.call(&parts, state, input), raw_answer)
    }
}

pub(crate) fn unreadable(incoming: &Incoming<'_>, violations: Violations) -> Unreadable {
    Unreadable { action: incoming.action.clone(), payload: incoming.payload.clone(), violations }
}

pub(crate) fn unhandled(incoming: &Incoming<'_>, code: ErrorCode) -> Unhandled {
    Unhandled { action: incoming.action.clone(), payload: incoming.payload.clone(), code }
}

/// An endpoint with the state that it needs, so that it fits a table for any other state.
pub(crate) struct WithState<E: ?Sized, S> {
    pub(crate) inner: Arc<E>,
    pub(crate) state: Arc<S>,
}

impl<S: Send + Sync, S2> Endpoint<S2> for WithState<dyn Endpoint<S>, S> {
    fn call(&self, incoming: &Incoming<'_>, _: &S2) -> Result<Answering, Violations> {
        self.inner.call(incoming, &self.state)
    }

    fn reads_all(&self) -> bool {
        self.inner.reads_all()
    }
}

impl<I, S: Send + Sync, S2> Special<I, S2> for WithState<dyn Special<I, S>, S> {
    fn call(&self, incoming: &Incoming<'_>, _: &S2, input: I) -> Answering {
        self.inner.call(incoming, &self.state, input)
    }
}

/// Calls a handler and boxes its future. A panic, there or later, becomes `InternalError`.
fn begin<F>(
    incoming: &Incoming<'_>,
    call: impl FnOnce() -> Result<F, CallError>,
    finish: fn(&To, F::Output) -> Answer,
) -> Answering
where
    F: Future + Send + 'static,
{
    let to = incoming.to();
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(future)) => Answering::running(Run { future, to, finish }),
        Ok(Err(error)) => Answering::ready(to.error(&error)),
        Err(panic) => Answering::ready(to.panicked(&*panic)),
    }
}

pin_project! {
    struct Run<F: Future> {
        #[pin]
        future: F,
        to: To,
        finish: fn(&To, F::Output) -> Answer,
    }
}

impl<F: Future> Future for Run<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Answer> {
        let this = self.project();
        // Writing the answer runs code of the handler's side too (`Into<CallError>`), so it is guarded as well.
        match catch_unwind(AssertUnwindSafe(|| {
            this.future.poll(task).map(|output| (this.finish)(this.to, output))
        })) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(this.to.panicked(&*panic)),
        }
    }
}

/// To whom an answer goes, and what the log says about it.
pub(crate) struct To {
    id: Option<MessageId>,
    version: Version,
    station: StationId,
    action: ByteString,
}

impl To {
    fn response(&self, response: &impl Message) -> Answer {
        let Some(id) = &self.id else {
            return Answer::silence();
        };
        let mut frame = begin_result(id);
        let start = frame.len();
        if let Err(violations) = response.encode(&mut frame) {
            // V09: what we send is strictly valid; the station gets one honest error instead.
            tracing::error!(
                station = %self.station, action = &*self.action, violation = %violations,
                "a handler's response is not valid"
            );
            return self.error(&CallError::failed());
        }
        let registration = self.registration(frame.get(start..).unwrap_or_default());
        Answer { registration, ..Answer::frame(Some(end(frame))) }
    }

    fn payload(&self, payload: &str) -> Answer {
        let Some(id) = &self.id else {
            return Answer::silence();
        };
        let mut frame = begin_result(id);
        frame.extend_from_slice(payload.as_bytes());
        let registration = self.registration(payload.as_bytes());
        Answer { registration, ..Answer::frame(Some(end(frame))) }
    }

    pub(crate) fn error(&self, error: &CallError) -> Answer {
        if let Some(cause) = error.cause() {
            tracing::error!(station = %self.station, action = &*self.action, cause, "a handler failed");
        }
        match &self.id {
            _ if error.is_later() => Answer::later(),
            Some(id) if !error.is_silent() => {
                let details = error.details().as_bytes();
                let frame = write_error(id, error.code(), error.description(), details, self.version);
                Answer::frame(Some(frame))
            }
            _ => Answer::silence(),
        }
    }

    pub(crate) fn panicked(&self, panic: &(dyn Any + Send)) -> Answer {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(station = %self.station, action = &*self.action, message, "a handler panicked");
        self.error(&CallError::failed())
    }

    /// What a BootNotification was answered with, for the gateway, which reads no payloads.
    fn registration(&self, payload: &[u8]) -> Option<Registration> {
        if &*self.action != "BootNotification" {
            return None;
        }
        #[derive(serde::Deserialize)]
        struct Boot<'a> {
            #[serde(borrow)]
            status: &'a str,
        }
        match serde_json::from_slice::<Boot<'_>>(payload).ok()?.status {
            "Accepted" => Some(Registration::Accepted),
            "Pending" => Some(Registration::Pending),
            "Rejected" => Some(Registration::Rejected),
            _ => None,
        }
    }
}

/// The start of a CALLRESULT, so that a response is written in its place at once.
fn begin_result(id: &MessageId) -> Vec<u8> {
    let mut frame = Vec::with_capacity(192);
    frame.extend_from_slice(b"[3,");
    frame.extend_from_slice(id.as_json().as_bytes());
    frame.push(b',');
    frame
}

fn end(mut frame: Vec<u8>) -> Bytes {
    frame.push(b']');
    frame.into()
}
