//! Handlers of what became of commands.

use crate::{CallError, Ended, Handler, Parts, endpoint::WithState};
use futures_util::{FutureExt, future::BoxFuture};
use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What a handler of outcomes may return: nothing, or a `Result` of nothing whose error is logged.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a handler of outcomes returns",
    note = "return `()` or `Result<(), CallError>`"
)]
pub trait Noted {
    /// Turns it into a result.
    ///
    /// # Errors
    /// What went wrong.
    fn noted(self) -> Result<(), CallError>;
}

impl Noted for () {
    fn noted(self) -> Result<(), CallError> {
        Ok(())
    }
}

impl<E: Into<CallError>> Noted for Result<(), E> {
    fn noted(self) -> Result<(), CallError> {
        self.map_err(Into::into)
    }
}

/// A handler of outcomes without its types.
pub(crate) trait Outcomes<S>: Send + Sync {
    /// Begins to handle an outcome. The future never panics.
    fn call(&self, parts: &Parts<'_>, state: &S, ended: Ended) -> BoxFuture<'static, ()>;
}

pub(crate) struct Noting<H, M> {
    handler: H,
    arguments: PhantomData<fn() -> M>,
}

impl<H, M> Noting<H, M> {
    pub(crate) const fn new(handler: H) -> Self {
        Self { handler, arguments: PhantomData }
    }
}

impl<H, M, S> Outcomes<S> for Noting<H, M>
where
    H: Handler<M, S, Input = Ended>,
    H::Output: Noted,
{
    fn call(&self, parts: &Parts<'_>, state: &S, ended: Ended) -> BoxFuture<'static, ()> {
        let station = parts.context.station.clone();
        let command_id = ended.command_id.clone();
        let begun = catch_unwind(AssertUnwindSafe(|| self.handler.call(parts, state, ended)));
        async move {
            let result = match begun {
                Ok(Ok(future)) => {
                    AssertUnwindSafe(future.map(Noted::noted)).catch_unwind().await.unwrap_or_else(panicked)
                }
                Ok(Err(refused)) => Err(refused),
                Err(panic) => panicked(panic),
            };
            if let Err(error) = result {
                tracing::error!(
                    %station, command_id = &*command_id, %error, cause = error.cause().map(|cause| cause as &(dyn std::error::Error + 'static)),
                    "the handler of outcomes failed"
                );
            }
        }
        .boxed()
    }
}

fn panicked<T>(_panic: Box<dyn std::any::Any + Send>) -> Result<T, CallError> {
    Err(CallError::internal("it panicked"))
}

impl<S: Send + Sync, S2> Outcomes<S2> for WithState<dyn Outcomes<S>, S> {
    fn call(&self, parts: &Parts<'_>, _: &S2, ended: Ended) -> BoxFuture<'static, ()> {
        self.inner.call(parts, &self.state, ended)
    }
}
