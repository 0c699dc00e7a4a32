//! What is known of a call besides its frame.

use crate::command::Caller;
use bytestring::ByteString;
use std::{fmt, sync::Arc, time::Duration};
use switchboard_messages::Mode;
use switchboard_rpc::{StationId, Version};

/// What is known of a call besides its frame: whose it is, which one, and how it is to be read.
///
/// Cloning copies no text. A function that has nothing but a frame makes one with [`Context::new`].
#[derive(Clone)]
#[non_exhaustive]
pub struct Context {
    /// Whose station; `default` where tenants are not used.
    pub tenant: ByteString,
    /// Which station.
    pub station: StationId,
    /// What its connection speaks.
    pub version: Version,
    /// The gateway that holds its socket; empty where there is none.
    pub gateway: ByteString,
    /// Which connection of the station: rises with each accepted one.
    pub generation: u64,
    /// Which call of the connection.
    pub seq: u64,
    /// Whether generation and seq are the call's [`Key`]. Not so for a SEND (2.1): it has a number, but nothing orders
    /// SENDs among the calls, so that a lower number does not make it stale. One that is handed over again is told by
    /// what it says.
    pub keyed: bool,
    /// 1 for the first hand-over, more when the call is handed over again.
    pub attempt: u32,
    /// The journal id, if the call was answered from the journal and is now worked off. Nobody waits for the answer.
    pub journal: Option<u64>,
    /// When the gateway received the call, in milliseconds since 1970; zero where nobody said.
    pub received_at_ms: i64,
    /// What was left of the deadline when the call was handed over.
    pub remaining: Option<Duration>,
    /// How forgiving the station's messages are read.
    pub mode: Mode,
    /// `traceparent` of W3C trace context.
    pub traceparent: Option<ByteString>,
    /// `tracestate` of W3C trace context.
    pub tracestate: Option<ByteString>,
    /// The way back to stations, for [`Station::call`](crate::Station::call). A plain function has none.
    pub caller: Option<Arc<dyn Caller>>,
}

impl Context {
    /// A first attempt of call 0 on connection 0 of this station, for tenant `default`, read leniently.
    #[must_use]
    pub const fn new(station: StationId, version: Version) -> Self {
        Self {
            tenant: ByteString::from_static("default"),
            station,
            version,
            gateway: ByteString::new(),
            generation: 0,
            seq: 0,
            keyed: true,
            attempt: 1,
            journal: None,
            received_at_ms: 0,
            remaining: None,
            mode: Mode::Lenient,
            traceparent: None,
            tracestate: None,
            caller: None,
        }
    }

    /// The idempotency key of the call; means nothing if it is not `keyed`.
    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            tenant: self.tenant.clone(),
            station: self.station.clone(),
            generation: self.generation,
            seq: self.seq,
            journal: self.journal,
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Context")
            .field("tenant", &self.tenant)
            .field("station", &self.station)
            .field("version", &self.version)
            .field("generation", &self.generation)
            .field("seq", &self.seq)
            .field("attempt", &self.attempt)
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

/// The idempotency key of a call: the same key is the same call, however often it is handed over.
///
/// Keys of one station rise with its generations and the calls of each connection. A journalled call keeps the key that
/// it had when the station sent it, and says so in `journal`, since it is worked off long after later ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose station.
    pub tenant: ByteString,
    /// Which station.
    pub station: StationId,
    /// Which connection of the station.
    pub generation: u64,
    /// Which call of the connection.
    pub seq: u64,
    /// The journal id, if the call comes from the journal.
    pub journal: Option<u64>,
}

/// A station's registration as its BootNotification was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Registration {
    /// Everything may be sent in both directions.
    Accepted,
    /// Only configuration and information commands may go out.
    Pending,
    /// No command may go out.
    Rejected,
}
