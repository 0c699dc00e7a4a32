//! What you need to answer charging stations: messages, handlers, workers.
//!
//! This crate holds nothing of its own. It is the one to depend on, and brings together [`router`] (typed handlers, a call
//! in and an answer out), [`messages`] (the types of OCPP 1.6, 2.0.1 and 2.1) and, with feature `worker`, [`worker`] and
//! [`bus`]. The whole server is the program `switchboard`; its gateway is not part of this crate.

pub use switchboard_messages as messages;
pub use switchboard_router as router;
pub use switchboard_rpc as rpc;

#[cfg(feature = "worker")]
pub use switchboard_bus as bus;
#[cfg(feature = "worker")]
pub use switchboard_worker as worker;

#[cfg(feature = "sqlite")]
pub use switchboard_router::once;
pub use switchboard_router::{
    Answer, CallError, CommandError, Context, FromCall, FromRef, Key, Payload, Raw, Reply, Router, State,
    Station, Unhandled, Unreadable, Warnings,
};
pub use switchboard_rpc::{ErrorCode, MessageId, StationId, Version};
