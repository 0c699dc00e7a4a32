//! A router as a tower service, and layers around one.

use crate::{
    Answer, Answering, CallError, Context, Router, Unhandled,
    endpoint::{Endpoint, Incoming, Special},
};
use bytestring::ByteString;
use futures_util::FutureExt;
use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context as Task, Poll},
};
use switchboard_messages::Violations;
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_service::Service;

/// A message and what is known of it: the request of a [`Router`] as a tower service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call {
    /// What is known of it.
    pub context: Context,
    /// The station's frame.
    pub frame: ByteString,
    action: ByteString,
}

impl Call {
    /// A message that has not been looked at yet.
    #[must_use]
    pub fn new(context: Context, frame: ByteString) -> Self {
        let action = match switchboard_rpc::Frame::parse(&frame, context.version) {
            Ok(switchboard_rpc::Frame::Call { action, .. } | switchboard_rpc::Frame::Send { action, .. }) => {
                action
            }
            _ => ByteString::new(),
        };
        Self { context, frame, action }
    }

    /// The action; empty if the frame is no call.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }
}

impl Service<Call> for Router {
    type Response = Answer;
    type Error = Infallible;
    type Future = Served;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Served {
        Served(self.answer(&call.context, call.frame))
    }
}

/// The future of a [`Router`] as a tower service. It does not fail.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Served(Answering);

impl Future for Served {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(task).map(Ok)
    }
}

/// A service around a router in the place of its handlers.
pub(crate) struct Mounted(BoxCloneSyncService<Call, Answer, CallError>);

impl Mounted {
    pub(crate) fn new<T>(service: T) -> Self
    where
        T: Service<Call, Response = Answer> + Clone + Send + Sync + 'static,
        T::Error: Into<Box<dyn Error + Send + Sync>>,
        T::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service.map_err(CallError::internal)))
    }

    fn serve(&self, incoming: &Incoming<'_>) -> Answering {
        let call = Call {
            context: incoming.context.clone(),
            frame: incoming.frame.clone(),
            action: incoming.action.clone(),
        };
        let to = incoming.to();
        let service = self.0.clone();
        Answering::running(async move {
            match AssertUnwindSafe(service.oneshot(call)).catch_unwind().await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => to.error(&error),
                Err(panic) => to.panicked(&*panic),
            }
        })
    }
}

impl<S> Endpoint<S> for Mounted {
    fn call(&self, incoming: &Incoming<'_>, _: &S) -> Result<Answering, Violations> {
        Ok(self.serve(incoming))
    }
}

impl<S> Special<Unhandled, S> for Mounted {
    fn call(&self, incoming: &Incoming<'_>, _: &S, _: Unhandled) -> Answering {
        self.serve(incoming)
    }
}
