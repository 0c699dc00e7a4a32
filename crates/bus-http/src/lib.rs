//! The bus over HTTP: the gateway posts a call to a function and takes the response for the answer; whoever commands a
//! station posts that to its gateway and waits for the response. It knows nothing of OCPP's payloads and stores nothing.
//!
//! [`Http`] is both ends. What is posted goes to the endpoints of the URL: calls. What is posted to us, if we
//! [listen](Http::listen), goes to whoever subscribed in this process: calls to workers, all else to the inbox that it
//! names. Nobody keeps a list of inboxes: the name of one that others can reach says where it is,
//! `gateway-1@http://10.0.0.1:8183` ([`name_at`]), and the directory gives out such names with the stations.
//!
//! ```no_run
//! use switchboard_bus::Connect;
//! use switchboard_bus_http::Http;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A gateway's: it posts calls.
//! let bus = Http::connect(Connect::to("https://functions.example/ocpp?idempotent=true&health=/healthz"))?;
//! // A function's: a worker that subscribes to it is given what is posted here.
//! let listener = std::net::TcpListener::bind("127.0.0.1:8090")?;
//! let function = Http::listen(Connect::to("http://127.0.0.1:8090/ocpp"), listener)?;
//! # Ok(())
//! # }
//! ```

mod bus;
mod calls;
mod client;
mod config;
mod door;
mod headers;
mod place;
mod server;
mod waits;

pub use bus::Http;
pub use config::endpoints;
pub use place::name_at;

/// The largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
