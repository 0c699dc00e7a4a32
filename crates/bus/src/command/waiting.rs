//! Who waits for which outcome.

use super::{Judge, Outcome, unfit};
use crate::{Bus, Consumer, Done, Envelope, Kind};
use bytestring::ByteString;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use switchboard_rpc::StationId;
use tokio::sync::oneshot;

/// Which command: ids are unique per station only, and whoever sends one to many stations may give all of them one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) tenant: ByteString,
    pub(super) station: StationId,
    pub(super) id: ByteString,
}

/// The waiters by command. Several may wait for one: an idempotency key that was used twice.
#[derive(Debug)]
pub(super) struct Waiting {
    waiters: Mutex<Waiters>,
    max: usize,
    unexpected: AtomicU64,
    judge: OnceLock<Judge>,
    /// The bus holds this, as a consumer.
    bus: Weak<dyn Bus>,
}

#[derive(Debug, Default)]
struct Waiters {
    by_name: HashMap<Name, Vec<(u64, oneshot::Sender<Outcome>)>>,
    /// How many there are in all lists; never more than `max`.
    count: usize,
    next: u64,
}

impl Waiting {
    pub(super) fn new(max: usize, bus: Weak<dyn Bus>) -> Self {
        Self { waiters: Mutex::default(), max, unexpected: AtomicU64::new(0), judge: OnceLock::new(), bus }
    }

    pub(super) fn judge_with(&self, judge: Judge) {
        self.judge.get_or_init(|| judge);
    }

    /// None if as many wait already as may.
    pub(super) fn register(this: &Arc<Self>, name: Name) -> Option<Waiter> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = this.lock();
        if waiters.count >= this.max {
            return None;
        }
        waiters.count += 1;
        waiters.next += 1;
        let token = waiters.next;
        waiters.by_name.entry(name.clone()).or_default().push((token, sender));
        drop(waiters);
        Some(Waiter { waiting: Arc::clone(this), name, token, receiver })
    }

    /// Tells everybody who waits for this command; whether there was anybody.
    pub(super) fn end(&self, name: &Name, outcome: &Outcome) -> bool {
        let mut waiters = self.lock();
        let Some(ended) = waiters.by_name.remove(name) else { return false };
        waiters.count -= ended.len();
        drop(waiters);
        for (_, sender) in ended {
            // One that has gone in the meantime does not want to know.
            drop(sender.send(outcome.clone()));
        }
        true
    }

    pub(super) fn unexpected(&self) -> u64 {
        self.unexpected.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consumer for Waiting {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let metadata = &envelope.metadata;
        let name = metadata.station.clone().zip(metadata.command_id.clone());
        let name = name.map(|(station, id)| Name { tenant: metadata.tenant.clone(), station, id });
        let told = match (metadata.kind, &name, metadata.outcome) {
            (Kind::Outcome, Some(name), Some(kind)) => {
                let outcome = Outcome::of(kind, &envelope.body, metadata.version);
                if let Some(judge) = self.judge.get()
                    && let Some(bus) = self.bus.upgrade()
                {
                    unfit::object(&bus, *judge, &envelope);
                }
                self.end(name, &outcome)
            }
            // The gateway that the directory named is gone, or has its hands full: the command went nowhere.
            (Kind::Returned, Some(name), Some(kind)) => {
                self.end(name, &Outcome::of(kind, &bytes::Bytes::new(), None))
            }
            _ => false,
        };
        if !told {
            self.unexpected.fetch_add(1, Ordering::Relaxed);
        }
        drop(done);
    }
}

/// One who waits, until it is dropped.
pub(super) struct Waiter {
    waiting: Arc<Waiting>,
    name: Name,
    token: u64,
    receiver: oneshot::Receiver<Outcome>,
}

impl Waiter {
    /// The outcome, if it comes within that time.
    pub(super) async fn outcome_within(&mut self, time: Duration) -> Option<Outcome> {
        tokio::time::timeout(time, &mut self.receiver).await.ok().and_then(Result::ok)
    }

    /// The outcome, if it is there already.
    pub(super) fn outcome_now(&mut self) -> Option<Outcome> {
        self.receiver.try_recv().ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.waiting.lock();
        let Some(list) = waiters.by_name.get_mut(&self.name) else { return };
        let before = list.len();
        list.retain(|(token, _)| *token != self.token);
        let (removed, empty) = (before - list.len(), list.is_empty());
        if empty {
            waiters.by_name.remove(&self.name);
        }
        waiters.count -= removed;
    }
}
