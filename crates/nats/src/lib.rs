//! A client of core NATS: one connection that comes back by itself and never says anything late.
//!
//! It stands beside the clients that there are because of what it does not do. It keeps nothing while the server is away:
//! publishing fails then, and what was written and not sent when a connection broke is gone with it, so that no command
//! reaches a station minutes after its sender gave it up. It has no queue between socket and subscriber that could
//! overflow unseen: a [`Taker`] is called by the task that reads. And a message costs it no task, no map of headers and
//! one copy: `examples/nats_cost.rs` of the bus's driver compares.
//!
//! [`protocol`] is the language without I/O; [`Line`] the connection. Both drivers over NATS, the bus's and the
//! directory's, stand on it.

mod connecting;
mod line;
pub mod protocol;
mod running;

pub use line::{Line, Listening, PublishError, RequestError, SubscribeError, Taker};
pub use protocol::{Info, Message, NOBODY_LISTENS, Writer};

use switchboard_bus::Scheme;

/// What URLs of NATS begin with.
pub const SCHEMES: &[Scheme] = &[
    Scheme { name: "nats", port: 4222, tls: false },
    Scheme { name: "tls", port: 4222, tls: true },
    Scheme { name: "nats+tls", port: 4222, tls: true },
];
