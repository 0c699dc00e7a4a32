//! Gateways and workers as processes of their own, with a real broker and a real database between them: S01 to S10.
//!
//! Nothing here knows the inside of the product: real binaries that are killed, frozen and started again, a real NATS
//! server and PostgreSQL that are too, raw sockets, and chargers that others wrote.

mod broker;
mod commands;
mod gateways;
mod start;
mod support;
mod workers;
