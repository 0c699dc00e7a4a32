//! Takes calls from a bus, gives each to a router, and puts the answer into the gateway's inbox.
//!
//! A handler that does not have to wait answers on the task that delivered its call: no task, no switch. One that waits
//! becomes a task. A repeat of a call that is still in hand waits for the same answer; a repeat of one that was answered
//! is handled again, and it is [`Once`](https://docs.rs/switchboard-router) in the handler's own transaction that keeps it
//! from having its effect twice. A station's calls come one after the other because its gateway holds the next until the
//! present one is answered; a worker does not order anything.
//!
//! The entry is [`serve`].

mod calls;
mod commands;
mod config;
mod metrics;
mod presence;
mod reply;
mod stations;
mod worker;

pub use commands::unfit_answer;
pub use config::{Config, ModeOf};
pub use metrics::Metrics;
pub use stations::Stations;
pub use worker::{ServeError, Worker, serve};
