//! The contract between gateways and processing: what travels ([`Envelope`]), the trait that carries it ([`Bus`]), the
//! bus within one process ([`InProcess`]), commands to stations ([`Commander`]), and, behind the feature `conformance`,
//! the tests of every promise. It knows nothing of sockets and nothing of what is in a payload; brokers' types stand in
//! crates of their own. Unstable until real brokers have proved the contract.
//!
//! ```
//! use std::{num::NonZeroU32, sync::Arc};
//! use switchboard_bus::{Address, Bus, Consumer, Done, Envelope, InProcess, Kind, Metadata, Subscription, Topic};
//!
//! #[derive(Debug)]
//! struct Printing;
//!
//! impl Consumer for Printing {
//!     fn deliver(&self, envelope: Envelope, done: Done) {
//!         println!("{:?} of {:?}", envelope.metadata.action, envelope.metadata.station);
//!         drop(done);
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = InProcess::new();
//! let calls = Subscription { topic: Topic::Calls, in_hand_max: NonZeroU32::MIN };
//! let _subscribed = bus.subscribe(calls, Arc::new(Printing)).await?;
//!
//! let station = switchboard_rpc::StationId::new("CP001", 48)?;
//! let mut metadata = Metadata::new(Kind::Call);
//! metadata.station = Some(station.clone());
//! metadata.action = Some("Heartbeat".into());
//! let body = r#"[2,"1","Heartbeat",{}]"#;
//! bus.publish(Address::Call { tenant: "default".into(), station }, Envelope::new(metadata, body)).await?;
//! # Ok(())
//! # }
//! ```

pub mod command;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod connect;
mod contract;
mod envelope;
mod headers;
mod memory;
pub mod percent;
pub mod presence;

pub use command::{CommandError, Commander, LocateError, Locator, Outcome};
pub use connect::{Connect, ConnectError, Endpoint, Scheme, Secret, Tls};
pub use contract::{
    Address, Attendance, Bus, Capabilities, Consumer, Done, PublishError, Release, State, SubscribeError,
    Subscribed, Subscription, Tells, Topic,
};
pub use envelope::{ConnectionKey, Envelope, Kind, Lane, Metadata, OutcomeKind, Registration};
pub use headers::{ENVELOPE_VERSION, HEADER_NAMES, HeaderError};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_the_hash_of_tenant_and_station() {
        // Computed by hand from the definition of FNV-1a-32; other languages must come to the same.
        let hash = "default/CP001"
            .bytes()
            .fold(0x811c_9dc5_u64, |hash, byte| ((hash ^ u64::from(byte)) * 0x0100_0193) % (1 << 32));
        for partitions in [1, 2, 256, 1024] {
            assert_eq!(u64::from(partition("default", "CP001", partitions)), hash % u64::from(partitions));
        }
        assert_eq!(partition("default", "CP001", 0), 0);
    }

    #[test]
    fn stations_are_spread_over_all_partitions() {
        let mut counts = [0_u32; 256];
        for number in 0..25_600 {
            counts[usize::from(partition("default", &format!("CP{number:05}"), PARTITIONS_DEFAULT))] += 1;
        }
        assert!(counts.iter().all(|count| (40..200).contains(count)), "{counts:?}");
    }
}
