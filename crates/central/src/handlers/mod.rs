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
mod v21;

use crate::central::Central;
use switchboard_router::Router;

/// Everything that a station sends, in all versions served.
pub(crate) fn router() -> Router<Central> {
    Router::new()
        .merge(v16::router())
        .merge(v201::router())
        .merge(v21::router())
        .on_unreadable(unreadable::unreadable)
}
