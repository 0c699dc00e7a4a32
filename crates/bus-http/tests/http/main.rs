//! Gateways and functions, as several processes have them, over real connections.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by panicking")]

mod calls;
mod commands;
mod conformance;
mod support;
mod tls;
