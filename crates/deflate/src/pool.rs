//! The state for the work, which connections share.

use crate::{
    offer::WINDOW_BITS_MAX,
    work::{Deflater, InflateError, Inflater},
};
use bytes::Bytes;
use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What inflates and deflates. Nothing is kept in it from one message to the next but room.
///
/// State is lent for the length of one call and never waited for: who finds none makes some, and what is too many when
/// it comes back is dropped. So there is at most as much in use as threads call at a time, and at most the pool's size at
/// rest; [`tidy`](Self::tidy) lets go of what lies about.
pub struct Pool {
    inflaters: Shelf<Inflater>,
    deflaters: Shelf<Deflater>,
}

impl Pool {
    /// A pool that keeps at most as much state for each direction: one for each thread that serves connections is enough.
    /// An inflater is some 60 KiB, a deflater some 300 KiB.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self { inflaters: Shelf::new(size), deflaters: Shelf::new(size) }
    }

    /// The message whose compressed payload this is, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// It is larger, which is found out before any more of it is held; or the payload is not in the format, which is also
    /// so if it refers to what came in an earlier message.
    pub fn inflate(&self, payload: &[u8], limit: usize) -> Result<Bytes, InflateError> {
        let mut inflater = self.inflaters.take().unwrap_or_else(Inflater::new);
        let inflated = inflater.inflate(payload, limit);
        self.inflaters.give(inflater);
        inflated
    }

    /// The payload of a compressed message, for a peer with a window of two to this many bytes; none if it would not
    /// be smaller than the message: then the message is sent as it is.
    #[must_use]
    pub fn deflate(&self, message: &[u8], window_bits: u8) -> Option<Bytes> {
        // Nothing can refer further back than the message is long, so that most messages fit any window.
        let fits = message.len() <= 1 << window_bits.min(WINDOW_BITS_MAX);
        if !fits {
            return Deflater::with_window(window_bits)?.deflate(message);
        }
        let mut deflater = self.deflaters.take().unwrap_or_else(Deflater::new);
        let deflated = deflater.deflate(message);
        self.deflaters.give(deflater);
        deflated
    }

    /// Lets go of the state that nobody has needed since the last time. To be called now and then.
    pub fn tidy(&self) {
        self.inflaters.tidy();
        self.deflaters.tidy();
    }

    /// How many inflaters and deflaters lie ready.
    #[must_use]
    pub fn at_rest(&self) -> (usize, usize) {
        (self.inflaters.lock().items.len(), self.deflaters.lock().items.len())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").field("at_rest", &self.at_rest()).finish_non_exhaustive()
    }
}

/// Things of one kind that lie ready, the last one used on top.
struct Shelf<T> {
    kept: Mutex<Kept<T>>,
    size: usize,
}

struct Kept<T> {
    items: Vec<T>,
    /// The fewest that lay here since the last tidying: so many were not needed.
    fewest: usize,
}

impl<T> Shelf<T> {
    const fn new(size: usize) -> Self {
        Self { kept: Mutex::new(Kept { items: Vec::new(), fewest: 0 }), size }
    }

    fn take(&self) -> Option<T> {
        let mut kept = self.lock();
        let item = kept.items.pop();
        kept.fewest = kept.fewest.min(kept.items.len());
        item
    }

    fn give(&self, item: T) {
        let mut kept = self.lock();
        if kept.items.len() < self.size {
            kept.items.push(item);
        }
    }

    fn tidy(&self) {
        let idle = {
            let mut kept = self.lock();
            let idle = kept.fewest;
            let idle: Vec<T> = kept.items.drain(..idle).collect();
            kept.fewest = kept.items.len();
            kept.items.shrink_to_fit();
            idle
        };
        // Outside the lock, since that takes a while.
        drop(idle);
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_about_is_bounded_and_goes_when_nobody_needs_it() {
        let shelf = Shelf::new(2);
        for item in 0..3 {
            shelf.give(item);
        }
        assert_eq!(shelf.lock().items, [0, 1], "the third found no room");
        shelf.tidy();
        // One is needed all the time, the other never.
        for _ in 0..2 {
            let item = shelf.take().unwrap();
            shelf.give(item);
            shelf.tidy();
            assert_eq!(shelf.lock().items, [1]);
        }
        shelf.tidy();
        assert!(shelf.take().is_none());
    }
}
