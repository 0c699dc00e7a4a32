//! Where a station is, what is queued for it and what was journalled: the trait [`Directory`], the one within a process
//! ([`Embedded`], SQLite), passwords of stations ([`password`]), and, behind the feature `conformance`, the tests of
//! every promise. It knows nothing of sockets; it never interprets a payload. Unstable until real databases have proved
//! the contract.
//!
//! ```
//! use switchboard_directory::{Directory, Embedded, StationKey};
//! use switchboard_rpc::{StationId, Version};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = Embedded::in_memory()?;
//! let key = StationKey { tenant: "default".into(), station: StationId::new("CP001", 48)? };
//! let (gateway, now_ms) = ("gateway-1".into(), 1_795_341_600_000);
//!
//! directory.gateway_lease(&gateway, now_ms + 3_000).await?;
//! let claim = directory.claim(&key, &gateway, Version::V16.into(), now_ms).await?;
//! let there = directory.locate(&key, now_ms + 1_000).await?;
//! assert_eq!(there.map(|location| location.connection.generation), Some(claim.generation));
//! # Ok(())
//! # }
//! ```

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod contract;
pub mod embedded;
mod given;
mod locations;
pub mod password;

pub use contract::{
    Account, Claim, Directory, DirectoryError, Enqueued, JournalEntry, Location, OutboxEntry, OutboxState,
    PasswordHash, RefusedEntry, StationKey, StationRecord, Terms,
};
pub use embedded::Embedded;
pub use given::Given;
pub use locations::Locations;
