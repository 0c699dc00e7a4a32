//! Which stations are owed something, and when it is worth looking: the memory beside the table of duties.

use bytestring::ByteString;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use switchboard_rpc::StationId;
use tokio::sync::Notify;

/// Whose station, and which.
pub(super) type Key = (ByteString, StationId);

/// Stations with open duties. One entry a station, so it holds no more than the table.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    inner: Mutex<Inner>,
    /// How many stations are away or have their turn, so that calls of all others cost one look at a number.
    listened_for: AtomicUsize,
    pub(super) changed: Notify,
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
struct Inner {
    stations: HashMap<Key, Entry>,
    queue: BTreeSet<(i64, Key)>,
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    /// It has its turn at this time.
    Due(i64),
    /// It is not there, or not accepted; looked at anew at this time at the latest.
    Away(i64),
    /// It has its turn now; and afterwards at once again, if so.
    Busy { again: bool },
}

/// How a station's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing is owed any more.
    Nothing,
    /// Something is due then.
    At(i64),
    /// The station is not there, or not accepted; something is due or expires then.
    Away(i64),
}

/// What became of the calls that were made.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) not_sent: AtomicU64,
    pub(crate) expired: AtomicU64,
}

impl Agenda {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A station sent something: if it was away, it has its turn. If it has its turn just now it may have been found
    /// away a moment ago, and has another.
    pub(crate) fn heard(&self, tenant: &ByteString, station: &StationId) {
        if self.listened_for.load(Ordering::Relaxed) == 0 {
            return;
        }
        let key = (tenant.clone(), station.clone());
        let mut inner = self.lock();
        match inner.stations.get(&key) {
            Some(Entry::Away(_)) => {
                self.put(&mut inner, key, Entry::Due(i64::MIN));
                drop(inner);
                self.changed.notify_one();
            }
            Some(Entry::Busy { again: false }) => self.put(&mut inner, key, Entry::Busy { again: true }),
            Some(Entry::Busy { again: true } | Entry::Due(_)) | None => {}
        }
    }

    /// Something is owed to a station, or can be sent to it now.
    pub(crate) fn nudge(&self, tenant: &ByteString, station: &StationId) {
        let key = (tenant.clone(), station.clone());
        let mut inner = self.lock();
        match inner.stations.get(&key) {
            Some(Entry::Busy { .. }) => self.put(&mut inner, key, Entry::Busy { again: true }),
            _ => self.put(&mut inner, key, Entry::Due(i64::MIN)),
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// How many stations are owed something.
    pub(crate) fn stations(&self) -> usize {
        self.lock().stations.len()
    }

    /// What the table says of a station that may not be known here, or as one whose turn comes later.
    pub(super) fn note(&self, key: Key, due_ms: i64) {
        let mut inner = self.lock();
        match inner.stations.get(&key) {
            Some(Entry::Due(known_ms)) if *known_ms <= due_ms => {}
            Some(Entry::Due(_)) | None => self.put(&mut inner, key, Entry::Due(due_ms)),
            Some(Entry::Away(_) | Entry::Busy { .. }) => {}
        }
    }

    /// The next station whose turn it is; it is busy from now on.
    pub(super) fn take(&self, now_ms: i64) -> Option<Key> {
        let mut inner = self.lock();
        let (due_ms, key) = inner.queue.first()?;
        if *due_ms > now_ms {
            return None;
        }
        let key = key.clone();
        self.put(&mut inner, key.clone(), Entry::Busy { again: false });
        Some(key)
    }

    /// When the next station has its turn.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.lock().queue.first().map(|(due_ms, _)| *due_ms)
    }

    /// A station's turn has ended.
    pub(super) fn release(&self, key: Key, next: Next) {
        let mut inner = self.lock();
        let again = matches!(inner.stations.get(&key), Some(Entry::Busy { again: true }));
        match next {
            _ if again => self.put(&mut inner, key, Entry::Due(i64::MIN)),
            Next::At(at_ms) => self.put(&mut inner, key, Entry::Due(at_ms)),
            Next::Away(at_ms) => self.put(&mut inner, key, Entry::Away(at_ms)),
            Next::Nothing => {
                if matches!(inner.stations.remove(&key), Some(Entry::Busy { .. })) {
                    self.listened_for.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Puts a station's entry, and keeps queue and number in step with it.
    fn put(&self, inner: &mut Inner, key: Key, entry: Entry) {
        match inner.stations.insert(key.clone(), entry) {
            Some(Entry::Due(due_ms)) => {
                inner.queue.remove(&(due_ms, key.clone()));
            }
            Some(Entry::Away(due_ms)) => {
                inner.queue.remove(&(due_ms, key.clone()));
                self.listened_for.fetch_sub(1, Ordering::Relaxed);
            }
            Some(Entry::Busy { .. }) => {
                self.listened_for.fetch_sub(1, Ordering::Relaxed);
            }
            None => {}
        }
        match entry {
            Entry::Due(due_ms) => {
                inner.queue.insert((due_ms, key));
            }
            Entry::Away(due_ms) => {
                inner.queue.insert((due_ms, key));
                self.listened_for.fetch_add(1, Ordering::Relaxed);
            }
            Entry::Busy { .. } => {
                self.listened_for.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_that_is_heard_while_it_is_looked_for_is_looked_for_again() {
        let agenda = Agenda::default();
        let key: Key = ("default".into(), StationId::new("CP1", 48).unwrap());
        agenda.nudge(&key.0, &key.1);
        assert_eq!(agenda.take(0).as_ref(), Some(&key));
        agenda.heard(&key.0, &key.1);
        agenda.release(key.clone(), Next::Away(60_000));
        assert_eq!(agenda.take(0).as_ref(), Some(&key), "it came in between");
        agenda.release(key.clone(), Next::Away(60_000));
        assert_eq!(agenda.take(0), None);
        agenda.heard(&key.0, &key.1);
        assert_eq!(agenda.take(0).as_ref(), Some(&key));
        agenda.release(key, Next::Nothing);
        assert_eq!((agenda.stations(), agenda.listened_for.load(Ordering::Relaxed)), (0, 0));
    }
}
