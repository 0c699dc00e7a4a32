//! The contract between gateways and processing.

pub mod command;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod contract;
mod envelope;
mod headers;
mod memory;
pub mod percent;
pub mod presence;

pub use command::{CommandError, Commander, LocateError, Locator, Outcome};
pub use contract::{
    Address, Bus, Capabilities, Consumer, Done, PublishError, Release, State, SubscribeError, Subscribed,
    Subscription, Topic,
};
pub use envelope::{ConnectionKey, Envelope, Kind, Lane, Metadata, OutcomeKind, Registration};
pub use headers::{ENVELOPE_VERSION, HeaderError};
pub use memory::InProcess;

/// How many partitions a station's id is spread over, unless an installation says otherwise.
pub const PARTITIONS_DEFAULT: u16 = 256;

/// The partition of a station: FNV-1a-32 of `tenant/station`, modulo `partitions`.
#[must_use]
pub fn partition(tenant: &str, station: &str, partitions: u16) -> u16 {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in tenant.bytes().chain([b'/']).chain(station.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    u16::try_from(hash % u32::from(partitions.max(1))).unwrap_or(0)
}
