//! The way to stations, as whoever puts the process together provides it.

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::fmt;
use std::time::Duration;
use switchboard_router::Outcome;
use switchboard_rpc::{StationId, Version};

/// The way to stations.
pub trait Line: Send + Sync + fmt::Debug + 'static {
    /// What the station's connection speaks; none if it is not connected.
    ///
    /// # Errors
    /// A sentence about why that cannot be learned now.
    fn spoken<'a>(
        &'a self,
        tenant: &'a ByteString,
        station: &'a StationId,
    ) -> BoxFuture<'a, Result<Option<Version>, String>>;

    /// Sends a call and waits for its true outcome; always ends. Two orders of the same key are one call.
    fn call(&self, order: Order) -> BoxFuture<'_, Outcome>;
}

/// A call to a station.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Order {
    /// Whose station.
    pub tenant: ByteString,
    /// Which station.
    pub station: StationId,
    /// What the payload is written in.
    pub version: Version,
    /// The action.
    pub action: ByteString,
    /// A JSON object.
    pub payload: Bytes,
    /// How long the station may take to answer.
    pub timeout: Duration,
    /// An idempotency key, for what must not be sent twice.
    pub key: Option<ByteString>,
}
