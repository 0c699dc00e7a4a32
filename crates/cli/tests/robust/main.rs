//! What befalls one node: full disks, damaged files, kills, storms, floods. Each from outside, against the real binary.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests run in real time, and what they need and do not get fails them"
)]

mod abuse;
mod charging;
mod crash;
mod damage;
mod disk;
mod storm;
mod wire;

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");

/// A number that a longer run sets in the environment.
fn scale(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The status of an upgrade that was refused, as an error.
fn refused(status: u16) -> anyhow::Error {
    anyhow::anyhow!("the upgrade was refused with {status}")
}
