//! The directory against real PostgreSQL servers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "how long a real server takes is what some of them are about")]

mod conformance;
mod crash;
mod faults;
mod storm;
mod tls;

use std::sync::Arc;
use switchboard_directory::StationKey;
use switchboard_directory_postgres::{Config, Postgres};
use switchboard_rpc::StationId;
use switchboard_testkit::servers::Postgres as Server;
use tokio::sync::OnceCell;

/// The server that all tests share which do not kill it; none if they have to be skipped.
async fn server() -> Option<&'static Server> {
    static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();
    let server = SERVER.get_or_init(async || Server::start("the directory in PostgreSQL").await.unwrap());
    server.await.as_ref()
}

/// What one process has of a directory.
async fn open(url: &str) -> Arc<Postgres> {
    let directory = Postgres::connect(Config::to(url)).unwrap();
    directory.ready().await.unwrap();
    Arc::new(directory)
}

fn key(station: &str) -> StationKey {
    StationKey { tenant: "default".into(), station: StationId::new(station.to_owned(), 48).unwrap() }
}

/// Some time, in milliseconds since 1970.
const NOW: i64 = 1_795_341_600_000;
