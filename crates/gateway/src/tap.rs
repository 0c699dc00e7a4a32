//! Live traffic for whoever watches: nothing is copied or counted while nobody does.

use bytestring::ByteString;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use switchboard_rpc::{StationId, Version};
use tokio::sync::broadcast;

/// One thing that was seen on a connection.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose station.
    pub tenant: ByteString,
    /// Which station.
    pub station: StationId,
    /// Which connection of it.
    pub generation: u64,
    /// What it speaks.
    pub version: Version,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// What.
    pub seen: Seen,
}

/// What was seen on a connection.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The connection began.
    Connected,
    /// A frame of the station.
    Received(ByteString),
    /// A frame to the station.
    Sent(ByteString),
    /// The connection ended.
    Disconnected {
        /// Why.
        reason: ByteString,
        /// The close code, if there was one.
        code: Option<u16>,
    },
}

/// Where traffic can be watched. Clones are the same tap.
#[derive(Clone, Debug)]
pub struct Tap(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    listening: AtomicUsize,
    records: broadcast::Sender<Record>,
}

/// Somebody who watches, until it is dropped.
#[derive(Debug)]
pub struct Listener {
    inner: Arc<Inner>,
    records: broadcast::Receiver<Record>,
}

/// What a listener gets.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A record.
    Record(Record),
    /// It was too slow, and this many records are lost to it.
    Missed(u64),
}

impl Tap {
    /// A tap whose listeners may be `records` behind.
    pub(crate) fn new(records: usize) -> Self {
        Self(Arc::new(Inner {
            listening: AtomicUsize::new(0),
            records: broadcast::Sender::new(records.clamp(1, 1 << 16)),
        }))
    }

    /// Watches the traffic of all stations from now on.
    #[must_use]
    pub fn listen(&self) -> Listener {
        let records = self.0.records.subscribe();
        self.0.listening.fetch_add(1, Ordering::Relaxed);
        Listener { inner: Arc::clone(&self.0), records }
    }

    /// Whether anybody watches. Asked before a record is made.
    pub(crate) fn is_open(&self) -> bool {
        self.0.listening.load(Ordering::Relaxed) > 0
    }

    /// Shows a record to whoever watches.
    pub(crate) fn show(&self, record: Record) {
        // Nobody listens any more: then nobody misses it.
        drop(self.0.records.send(record));
    }
}

impl Listener {
    /// The next thing; none when the gateway is gone.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.records.recv().await {
            Ok(record) => Some(Heard::Record(record)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Heard::Missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.inner.listening.fetch_sub(1, Ordering::Relaxed);
    }
}
