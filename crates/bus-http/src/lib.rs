//! The bus over HTTP: the gateway posts a call to a function and takes the response for the answer; whoever commands a
//! station posts that to a gateway and waits for the response. It knows nothing of OCPP's payloads and stores nothing.
//!
//! Two ends, as HTTP has them: [`Http`] on the side of the gateways, with the [`Door`] that others post to, and
//! [`Function`] on the side of processing, which makes a bus for workers out of requests that come in. Both hold an
//! in-process bus for whoever is in the same process, and reach others with requests.
//!
//! ```no_run
//! use switchboard_bus::Connect;
//! use switchboard_bus_http::Http;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Http::connect(Connect::to("https://functions.example/ocpp?idempotent=true&health=/healthz"))?;
//! # Ok(())
//! # }
//! ```

mod client;
mod config;
mod door;
mod function;
mod gateway;
mod headers;
mod server;
mod tls;

pub use door::Door;
pub use function::Function;
pub use gateway::Http;

/// The largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
