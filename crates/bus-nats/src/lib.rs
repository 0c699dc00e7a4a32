//! The bus over core NATS: [`Nats`].
//!
//! | what | subject |
//! |---|---|
//! | calls | `ocpp.v1.NS.call.PARTITION.TENANT.STATION`, in the queue group `workers` |
//! | commands to wherever a station is | `ocpp.v1.NS.command.TENANT.STATION`, in the queue group `gateways` |
//! | an inbox | `ocpp.v1.NS.inbox.ID` |
//! | presence | `ocpp.v1.NS.presence` |
//! | events | `ocpp.v1.NS.event.TENANT.STATION` |
//!
//! Each call is sent as a request whose reply subject lies below the inbox of its gateway and names the call:
//! `ocpp.v1.NS.inbox.GATEWAY.call.TENANT.STATION.GENERATION.SEQ.ATTEMPT.JOURNAL`. So the server's own word that nobody
//! listens comes there, and becomes [`Kind::Returned`](switchboard_bus::Kind) without anything having been kept for it
//! meanwhile. And a worker in any language may simply respond to its request, without a header of ours: the subject says
//! which call it answers.
//!
//! Core NATS keeps nothing: what is published while nobody listens comes back, what a dead worker held is handed over
//! again by the gateway. Its time to live is therefore nothing that a message needs.

mod nats;
mod subjects;
mod taker;

pub use nats::Nats;
