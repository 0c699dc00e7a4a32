//! What each message of a station does.

mod call;
// mod readings;

use crate::central::Central;
use switchboard_router::Router;

/// Everything that a station sends, in all versions served.
pub(crate) fn router() -> Router<Central> {
    Router::new()
}
