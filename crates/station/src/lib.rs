//! The other side of the protocol: a client for charging stations and load generators, and a simulated station.
//!
//! [`client`] is for whoever writes a station: [`client::Station`] with a socket and `async`, [`client::Client`] without.
//!
//! [`Simulated`] connects to a central system, boots, reports its connectors, charges cars and bills them, in OCPP 1.6 or
//! 2.0.1, and does what it is told. It is for demonstrations and tests: its meters add up, it keeps what it could not
//! bill while it was offline, and its [`Books`] say what the central system must have in the end. It models neither
//! the electrical side nor smart charging, and keeps nothing on disk.
//!
//! What it does is decided in [`charger`](self) without I/O and with time as an argument; the driver around it is one
//! loop over a socket and a timer.
//!
//! ```no_run
//! use switchboard_station::{Config, Simulated};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example() {
//! let station = Simulated::new(Config::new("ws://127.0.0.1:8180/ocpp", "DEMO001"));
//! let books = station.books();
//! station.run(CancellationToken::new()).await;
//! println!("{} Wh sold", books.snapshot().energy_wh());
//! # }
//! ```

mod books;
mod charger;
pub mod client;
mod config;
mod driver;
mod model;
mod pace;
mod population;
mod quirk;
mod scenario;
mod socket;
mod statistics;

pub use books::{Books, BooksHandle, Link, Transaction};
pub use config::Config;
pub use driver::Simulated;
pub use pace::Pace;
pub use population::{Plan, Population, Summary};
pub use quirk::Quirk;
pub use scenario::{Scenario, ScenarioError};
pub use statistics::{Figures, Latencies, Statistics};
