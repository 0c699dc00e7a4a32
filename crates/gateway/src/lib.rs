//! Holds the sockets of stations and hands their calls to a bus.
//!
//! One port serves all versions of OCPP-J. Each socket has one task, which moves texts between the socket and the
//! protocol core of [`switchboard_rpc`], and calls between the core and the [call desk](desk), which knows what becomes of
//! a call that nobody answers. The gateway knows actions as strings and hands payloads on unparsed; what they mean is
//! known to whoever takes calls from the [`Bus`](switchboard_bus::Bus). Where stations are and what must survive is kept
//! by a [`Directory`](switchboard_directory::Directory). Begin with [`Gateway::new`].
//!
//! ```
//! use std::sync::Arc;
//! use switchboard_bus::InProcess;
//! use switchboard_directory::Embedded;
//! use switchboard_gateway::{Config, Gateway};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::default();
//! config.listen = "127.0.0.1:0".parse()?;
//! let mut metrics = prometheus_client::registry::Registry::default();
//! let gateway =
//!     Gateway::new(config, Arc::new(InProcess::new()), Arc::new(Embedded::in_memory()?), &mut metrics)?;
//! let listener = gateway.bind()?;
//! let stop = CancellationToken::new();
//! stop.cancel(); // at once, in this example
//! gateway.serve(listener, stop).await?;
//! # Ok(())
//! # }
//! ```

mod authenticate;
mod away;
pub mod classes;
mod commands;
mod compression;
mod config;
mod connection;
pub mod desk;
mod drain;
mod driver;
mod gateway;
mod handshake;
mod housekeeping;
mod inbox;
mod journal;
mod limits;
mod listen;
mod liveness;
mod mailbox;
mod metrics;
mod patience;
mod presence;
mod recent;
mod registry;
mod restore;
mod sends;
mod shared;
mod socket;
mod tap;
mod unrecorded;

pub use config::{BillingDeadline, Config, NoCommonVersion, UnknownStations};
pub use gateway::{Gateway, StartError};
pub use shared::WallClock;
pub use tap::{Record, Seen, Tap, Unprocessed};
