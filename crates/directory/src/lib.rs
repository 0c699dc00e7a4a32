//! Where a station is, what is queued for it and what was journalled.

mod contract;

pub use contract::{
    Account, Claim, Directory, DirectoryError, Enqueued, JournalEntry, Location, OutboxEntry, OutboxState,
    PasswordHash, StationKey, StationRecord,
};
