//! For tests only: finds the tools that tests need, launches the real `switchboard`, plays a charger by script.
//!
//! It knows the product only from outside: the command line, HTTP and the socket. [`Switchboard`] is a running server,
//! [`RawStation`] a socket that sends what it is told, [`Charger`] a station made of somebody else's software,
//! [`Central`] a central system made of such, [`Proxy`] a line that can be cut or held up, [`TlsFront`] one that is
//! encrypted, and [`Certificates`] are files for those that encrypt by themselves. [`chaos`] is the kill matrix.
#![expect(
    clippy::disallowed_methods,
    reason = "tests run in real time and are told by the environment what is there"
)]
#![expect(clippy::print_stderr, reason = "the runner shows what a test tells on standard error if it fails")]

mod central;
mod certificates;
pub mod chaos;
mod charger;
mod cloud;
pub mod http;
mod proxy;
mod raw_station;
pub mod scene;
pub mod servers;
mod switchboard;
mod tls_front;
pub mod tools;
pub mod wait;

pub use central::{Central, CentralSoftware};
pub use certificates::Certificates;
pub use charger::{Charger, Software};
pub use cloud::{CloudLimits, Traffic};
pub use proxy::Proxy;
pub use raw_station::RawStation;
pub use switchboard::{Ran, Switchboard};
pub use tls_front::TlsFront;
