//! Who follows the traffic: a queue of lines with bounds, and what was missed beyond them.

use crate::{Query, line::remark, metrics::Metrics};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::mpsc;

/// The thread's side of a reader.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) query: Query,
    lines: mpsc::Sender<Arc<str>>,
    bytes: Arc<AtomicUsize>,
    missed: u64,
}

/// The reader's side.
#[derive(Debug)]
pub(crate) struct Watching {
    lines: mpsc::Receiver<Arc<str>>,
    bytes: Arc<AtomicUsize>,
}

impl Watcher {
    /// A reader that may be so many lines behind.
    pub(crate) fn new(query: Query, lines_behind_max: usize) -> (Self, Watching) {
        let (sender, receiver) = mpsc::channel(lines_behind_max.max(1));
        let bytes = Arc::new(AtomicUsize::new(0));
        let watching = Watching { lines: receiver, bytes: Arc::clone(&bytes) };
        (Self { query, lines: sender, bytes, missed: 0 }, watching)
    }

    /// Whether somebody still reads.
    pub(crate) fn is_there(&self) -> bool {
        !self.lines.is_closed()
    }

    /// Whether a reader that was too slow has room again, so that it can be told.
    pub(crate) const fn is_owed(&self) -> bool {
        self.missed > 0
    }

    /// Gives it a line, or counts that it misses it.
    pub(crate) fn give(&mut self, line: &Arc<str>, now_ms: i64, metrics: &Metrics) {
        self.tell_missed(now_ms);
        if self.missed > 0 || !self.put(Arc::clone(line)) {
            self.missed += 1;
            metrics.lines_missed.inc();
        } else {
            metrics.lines.inc();
        }
    }

    /// Tells it how many lines it missed, once there is room.
    pub(crate) fn tell_missed(&mut self, now_ms: i64) {
        if self.missed == 0 || self.lines.capacity() < 2 {
            return;
        }
        let count = self.missed;
        let reason = format!("{count} lines are missing here: the reader is too slow");
        if self.put(remark("lagged", now_ms, &reason, Some(count)).into()) {
            self.missed = 0;
        }
    }

    fn put(&self, line: Arc<str>) -> bool {
        let length = line.len();
        // One line may always wait, however long it is.
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        let fits = before == 0 || before + length <= BYTES_BEHIND_MAX;
        let given = fits && self.lines.try_send(line).is_ok();
        if !given {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
        }
        given
    }
}

impl Watching {
    /// A line that is there already.
    pub(crate) fn ready(&mut self) -> Option<Arc<str>> {
        let line = self.lines.try_recv().ok()?;
        self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        Some(line)
    }

    /// The next line; none when the trace has ended.
    pub(crate) async fn next(&mut self) -> Option<Arc<str>> {
        let line = self.lines.recv().await?;
        self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        Some(line)
    }
}

/// Bytes of lines that a reader may be behind.
const BYTES_BEHIND_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed_and_goes_on() {
        let (mut watcher, mut watching) = Watcher::new(Query::default(), 4);
        let metrics = Metrics::default();
        for number in 0..10 {
            watcher.give(&number.to_string().into(), 0, &metrics);
        }
        for number in 0..4 {
            assert_eq!(&*watching.next().await.unwrap(), number.to_string());
        }
        watcher.give(&"10".into(), 0, &metrics);
        let told = watching.next().await.unwrap();
        assert!(told.contains("\"event\":\"lagged\"") && told.contains("\"count\":6"), "{told}");
        assert_eq!(&*watching.next().await.unwrap(), "10");
        assert_eq!((metrics.lines.get(), metrics.lines_missed.get()), (5, 6));
        let large: Arc<str> = "x".repeat(BYTES_BEHIND_MAX).into();
        watcher.give(&large, 0, &metrics);
        watcher.give(&"y".into(), 0, &metrics);
        assert!(watcher.is_owed());
        assert_eq!(watching.next().await.unwrap().len(), BYTES_BEHIND_MAX);
        watcher.tell_missed(0);
        assert!(watching.next().await.unwrap().contains("\"count\":1"));
        drop(watching);
        assert!(!watcher.is_there());
    }
}
