//! Where a station is, what is queued for it and what was journalled.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod contract;
pub mod embedded;
mod locations;
pub mod password;

pub use contract::{
    Account, Claim, Directory, DirectoryError, Enqueued, JournalEntry, Location, OutboxEntry, OutboxState,
    PasswordHash, StationKey, StationRecord,
};
pub use embedded::Embedded;
pub use locations::Locations;
