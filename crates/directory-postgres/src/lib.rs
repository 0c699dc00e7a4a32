//! The directory in PostgreSQL, for gateways and workers that are several processes.
//!
//! It keeps everything in one schema of one database, which it makes at its first start: where each station is, with a
//! generation; the leases of gateways; accounts and registrations; the outbox and the journal. What its contract promises
//! is durable is committed with `synchronous_commit` before it is answered. No transaction of it waits for anything but
//! the server: what is to be done together is sent in one piece, and a row that somebody else holds is waited for at most
//! two seconds. It knows nothing of sockets or buses. The entry is [`Postgres::connect`].
//!
//! ```no_run
//! use switchboard_directory::Directory;
//! use switchboard_directory_postgres::{Config, Postgres};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = Postgres::connect(Config::to("postgres://switchboard@localhost/switchboard"))?;
//! directory.ready().await?; // Waits for a server that is not there yet.
//! println!("{} stations are registered", directory.account_count().await?);
//! # Ok(())
//! # }
//! ```

mod agreement;
mod batch;
mod config;
mod fault;
mod journal;
mod lane;
mod outbox;
mod postgres;
mod schema;
mod session;
mod standing;
mod stations;

pub use config::{Config, ConnectError};
pub use postgres::Postgres;
pub use standing::State;
pub use switchboard_postgres::AddressError;
