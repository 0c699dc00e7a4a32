//! What each message of a station does.
//!
//! Handlers bring messages into the forms of the books and answers out of them. They wait for the disk, and nothing
//! else: what a station is told has happened has happened.

mod call;
mod readings;
mod salvage;
mod unreadable;
mod v16;
mod v201;

use crate::central::Central;
use switchboard_router::Router;

/// Everything that a station sends, in all versions served.
pub(crate) fn router() -> Router<Central> {
    Router::new().merge(v16::router()).merge(v201::router()).on_unreadable(unreadable::unreadable)
}

/// A handler of a notification that is only kept: `natural` is what recognises a repeat, `None` where nothing can.
macro_rules! notices {
    ($($name:ident($message:ident: $request:ty) { natural: $natural:expr, answer: $answer:expr $(,)? })*) => {
        $(async fn $name(
            State(central): State<Central>,
            call: Call,
            $message: $request,
        ) -> Answered<$request> {
            let natural: Option<String> = $natural;
            let keep = move |ledger: &Ledger<'_>, call: &Call| {
                ledger.notice(<$request>::ACTION, natural.as_deref(), &call.payload)?;
                Ok($answer)
            };
            central.keep::<$request>(Gate::Accepted, call, keep).await
        })*
    };
}
use notices;
