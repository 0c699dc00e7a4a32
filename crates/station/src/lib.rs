//! The other side of the protocol: a client for charging stations and load generators, and a simulated station.
//!
//! [`client`] is for whoever writes a station: [`client::Station`] with a socket and `async`, [`client::Client`] without.
//!
//! [`Simulated`] connects to a central system, boots, reports its connectors, charges cars and bills them, in OCPP 1.6,
//! 2.0.1 or 2.1, and does what it is told: its meters add up, it obeys charging profiles and settings, it keeps what it
//! could not bill while it was offline, and its [`Books`] say what the central system must have in the end. A
//! [`Population`] of them lives through a [`Scenario`]. They model no phases that differ, no certificates and no
//! variable monitoring, upload and install no real files, and keep nothing on disk.
//!
//! What a station does is decided without I/O and with time as an argument; the driver around it is one loop over a
//! socket and a timer.
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
mod statistics;
mod steering;

pub use books::{Books, BooksHandle, Link, Transaction};
pub use config::Config;
pub use driver::Simulated;
pub use pace::Pace;
pub use population::{Plan, Population, Summary};
pub use quirk::Quirk;
pub use scenario::{Scenario, ScenarioError};
pub use statistics::{Figures, Latencies, Statistics};
