//! A charging station's end of the line, for whoever writes a station or a load generator.
//!
//! [`Client`] is the machine: it has no socket and no clock, and knows when to connect, what may be said before the
//! station is accepted, what must not get lost, and what to try again. [`Station`] is the same with a socket, a task and
//! `async`: typed calls in both directions. Messages that must not get lost are kept in a [`Queue`]: in a file
//! ([`FileQueue`]) or in memory only ([`MemoryQueue`]).

mod back_off;
mod backlog;
mod config;
mod event;
mod gate;
pub(crate) mod link;
mod machine;
mod payload;
pub mod queue;
mod socket;
mod station;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod typed;

pub use back_off::BackOff;
pub use backlog::{BillError, Receipt};
pub use config::Config;
pub use event::{Ending, Event};
pub use gate::Registration;
pub use machine::{Client, NotCalled, Step};
pub use queue::{FileQueue, MemoryQueue, Open, Queue, QueueError};
pub use station::{CallError, Events, StartError, Station, Status, Transaction};
pub use switchboard_rpc::connection::{Called, Outcome};
pub use tls::{Tls, TlsError};
pub use typed::Billing;
