//! For tests only: finds the tools that tests need, launches the real `switchboard`, plays a charger by script.
//!
//! It knows the product only from outside: the command line, HTTP and the socket. Nothing here depends on a crate
//! that it helps to test, beside the frames of `rpc`.
#![expect(
    clippy::disallowed_methods,
    reason = "tests run in real time and are told by the environment what is there"
)]
#![expect(
    clippy::print_stderr,
    reason = "what a test tells goes to standard error, which the runner shows if it fails"
)]

pub mod tools;
pub mod wait;
