//! The rows of the behaviour table on real sockets, over the in-process bus and the embedded directory.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

mod clock;
mod commands;
mod compression;
mod desk;
mod frames;
mod handshake;
mod life_cycle;
mod moody;
mod several;
mod support;
mod unanswered;
