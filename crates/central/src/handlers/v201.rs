//! OCPP 2.0.1: nothing but what it shares with 2.1.

use switchboard_messages::v201 as ocpp;

#[path = "v2x.rs"]
#[allow(clippy::duplicate_mod, reason = "one text for both versions; see there")]
mod shared;

pub(super) use shared::{event_answer, router};

/// The type of a token by its name.
fn token_type(name: &str) -> ocpp::IdTokenEnum {
    ocpp::IdTokenEnum::from(name)
}
