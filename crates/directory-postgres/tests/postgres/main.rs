//! The directory against real PostgreSQL servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;

use switchboard_testkit::servers::Postgres as Server;
use tokio::sync::OnceCell;

/// The server that all tests share which do not kill it; none if they have to be skipped.
async fn server() -> Option<&'static Server> {
    static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();
    let server = SERVER.get_or_init(async || Server::start("the directory in PostgreSQL").await.unwrap());
    server.await.as_ref()
}
