//! Gateways and workers as processes that post to each other.

mod foreign;
mod functions;
mod support;
mod workers;
