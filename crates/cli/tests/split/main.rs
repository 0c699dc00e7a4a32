//! Gateways and workers as processes of their own, with a real broker and a real database between them: S01 to S10.
//!
//! Nothing here knows the inside of the product: real binaries that are killed, frozen and started again, real brokers
//! (NATS, RabbitMQ, Mosquitto) and PostgreSQL that are too, raw sockets, and chargers that others wrote.

mod across;
mod broker;
mod commands;
mod engine;
mod gateways;
mod pressure;
mod secure;
mod start;
mod support;
mod workers;
