//! Live traffic for whoever follows it: nothing is copied or counted while nobody does.
//!
//! The task of a socket only puts a record into a queue, under a lock that is never held for longer than that or an
//! exchange of the queue for an empty one. Whoever follows comes by, takes all that is there, and does the rest in a
//! thread of its own. Beyond the bounds of the queue records are lost, counted, and the loss is told.

use bytestring::ByteString;
use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
    time::Instant,
};
use switchboard_rpc::{StationId, Version};

/// One thing that was seen on a connection.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose station.
    pub tenant: ByteString,
    /// Which station; none where a handshake was refused before that was known.
    pub station: Option<StationId>,
    /// Which connection of it; 0 if there is none yet.
    pub generation: u64,
    /// What it speaks; none before that is decided.
    pub version: Option<Version>,
    /// When, by the clock that only goes forward.
    pub at: Instant,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// What.
    pub seen: Seen,
}

/// What was seen on a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Seen {
    /// The connection began.
    Connected,
    /// A frame of the station.
    Received(ByteString),
    /// A frame to the station.
    Sent(ByteString),
    /// The station's call in hand was handed to processing again.
    HandedOver {
        /// 2, 3, …
        attempt: u32,
    },
    /// Processing did not answer the station's call in hand in time, and this became of it.
    Unprocessed(Unprocessed),
    /// The station did not answer our outstanding call in time.
    Unanswered,
    /// The connection ended.
    Disconnected {
        /// Why.
        reason: ByteString,
        /// The close code, if there was one.
        code: Option<u16>,
        /// Whether a newer connection of the station took its place.
        replaced: bool,
    },
    /// A request got no connection.
    Refused {
        /// Who asked.
        address: IpAddr,
        /// For what, without the query.
        path: ByteString,
        /// The HTTP status that it got.
        status: u16,
        /// Why, as it was told.
        reason: ByteString,
    },
}

/// What became of a call that processing did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprocessed {
    /// It is in the journal and was answered with an empty object.
    Journalled,
    /// It was answered with InternalError.
    Failed,
    /// It gets no answer, so that the station repeats it.
    Silence,
    /// The connection was closed, so that the station keeps it.
    Closed,
}

/// Where traffic can be followed. Clones are the same tap.
#[derive(Clone, Debug, Default)]
pub struct Tap(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    records: Vec<Record>,
    bytes: usize,
    lost: u64,
    /// Who takes the records.
    follower: Option<Thread>,
}

impl Tap {
    /// Makes the calling thread the one that is woken when there is something to [`take`](Self::take). It parks itself.
    pub fn follow(&self) {
        self.queue().follower = Some(std::thread::current());
    }

    /// Says whether records are wanted. Those that are there when it is closed are dropped.
    pub fn set_open(&self, open: bool) {
        self.0.open.store(open, Ordering::Relaxed);
        if !open {
            let mut queue = self.queue();
            queue.records = Vec::new();
            (queue.bytes, queue.lost) = (0, 0);
        }
    }

    /// Takes all records that are there, in their order, into an empty list, and says how many were lost since the last
    /// time. They were lost after those that it gives.
    pub fn take(&self, into: &mut Vec<Record>) -> u64 {
        let mut queue = self.queue();
        std::mem::swap(&mut queue.records, into);
        queue.bytes = 0;
        std::mem::take(&mut queue.lost)
    }

    /// Whether records are wanted. Asked before one is made.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Hands a record on.
    pub fn show(&self, record: Record) {
        let bytes = match &record.seen {
            Seen::Received(text) | Seen::Sent(text) => text.len(),
            _ => 0,
        };
        let mut queue = self.queue();
        if queue.records.len() >= RECORDS_MAX || queue.bytes.saturating_add(bytes) > BYTES_MAX {
            queue.lost += 1;
            return;
        }
        queue.records.push(record);
        queue.bytes += bytes;
        // The first one wakes the follower, which then waits a little for more of them; and so does the one that makes
        // the wait too long.
        let wake = queue.records.len() == 1
            || queue.records.len() == RECORDS_MAX / 2
            || (queue.bytes > BYTES_MAX / 2 && queue.bytes - bytes <= BYTES_MAX / 2);
        let follower = if wake { queue.follower.clone() } else { None };
        drop(queue);
        if let Some(follower) = follower {
            follower.unpark();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records that wait to be taken; beyond it they are lost.
const RECORDS_MAX: usize = 16_384;
/// Bytes of frames that wait to be taken; beyond it they are lost.
const BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        Record {
            tenant: "default".into(),
            station: StationId::new("CP1", 48).ok(),
            generation: 1,
            version: Some(Version::V16),
            at: crate::shared::now(),
            time_ms: 0,
            seen: Seen::Received(text.into()),
        }
    }

    #[test]
    fn beyond_its_bounds_records_are_lost_and_counted() {
        let tap = Tap::default();
        for _ in 0..RECORDS_MAX + 3 {
            tap.show(record("x"));
        }
        let mut taken = Vec::new();
        assert_eq!(tap.take(&mut taken), 3);
        assert_eq!(taken.len(), RECORDS_MAX);
        let large = "x".repeat(BYTES_MAX / 2 + 1);
        tap.show(record(&large));
        tap.show(record(&large));
        taken.clear();
        assert_eq!((tap.take(&mut taken), taken.len()), (1, 1));
        taken.clear();
        assert_eq!((tap.take(&mut taken), taken.len()), (0, 0), "what was taken is gone");
    }

    #[test]
    fn a_closed_tap_keeps_nothing() {
        let tap = Tap::default();
        assert!(!tap.is_open());
        tap.set_open(true);
        tap.show(record("x"));
        tap.set_open(false);
        let mut taken = Vec::new();
        assert_eq!((tap.take(&mut taken), taken.len()), (0, 0));
    }
}
