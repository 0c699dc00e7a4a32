//! Functions as handlers.

use crate::{CallError, FromCall, Parts};
use std::future::Future;

/// An async function that takes extractors and, last, what it handles.
///
/// Implemented for functions and closures `async fn(extractors…, input) -> output` with up to eight extractors, that are
/// `Clone + Send + Sync + 'static` and whose future is `Send`. `M` only tells the implementations apart.
///
/// If the compiler says that a function is no handler, one of these is the reason:
/// - it is not `async`;
/// - an argument before the last is no [`FromCall`] (for `State<T>`: `T` is not [`FromRef`](crate::FromRef) of the state);
/// - the last argument is not what the method asks for: a request for [`on`](crate::Router::on), `Raw` for
///   [`on_raw`](crate::Router::on_raw) and [`on_any`](crate::Router::on_any);
/// - it keeps something across an `.await` that is not `Send`, such as an `Rc` or the guard of a `std::sync::Mutex`.
///
/// [`check`] says which, without a router around it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    label = "must be `async fn(extractors…, message) -> Result<response, CallError>`",
    note = "all arguments but the last must be extractors for the state `{S}`, and the future must be `Send`",
    note = "see the documentation of `Handler` for the usual reasons"
)]
pub trait Handler<M, S>: Clone + Send + Sync + 'static {
    /// Its last argument.
    type Input;
    /// What its future gives.
    type Output;
    /// Its future.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Makes the arguments and calls the function.
    ///
    /// # Errors
    /// The first extractor's that refuses.
    fn call(&self, parts: &Parts<'_>, state: &S, input: Self::Input) -> Result<Self::Future, CallError>;
}

/// Does nothing, and compiles only if `handler` is one for the state `S`: put `handler::check::<_, Db, _>(&boot)` beside a
/// function that the compiler refuses, and the message names the argument at fault.
pub const fn check<M, S, H: Handler<M, S>>(_handler: &H) {}

macro_rules! impl_handler {
    ($($extractor:ident),*) => {
        impl<F, Fut, S, $($extractor,)* I> Handler<($($extractor,)* I,), S> for F
        where
            F: Fn($($extractor,)* I) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future + Send + 'static,
            $($extractor: FromCall<S>,)*
        {
            type Input = I;
            type Output = Fut::Output;
            type Future = Fut;

            #[allow(unused_variables, reason = "a function without extractors needs neither parts nor state")]
            fn call(&self, parts: &Parts<'_>, state: &S, input: I) -> Result<Fut, CallError> {
                Ok(self($($extractor::from_call(parts, state)?,)* input))
            }
        }
    };
}

impl_handler!();
impl_handler!(E1);
impl_handler!(E1, E2);
impl_handler!(E1, E2, E3);
impl_handler!(E1, E2, E3, E4);
impl_handler!(E1, E2, E3, E4, E5);
impl_handler!(E1, E2, E3, E4, E5, E6);
impl_handler!(E1, E2, E3, E4, E5, E6, E7);
impl_handler!(E1, E2, E3, E4, E5, E6, E7, E8);
