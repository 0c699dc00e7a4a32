//! The connections of this gateway, by station and generation.

use crate::mailbox::{Mailbox, PostError};
use bytes::Bytes;
use foldhash::{HashMap, fast::RandomState};
use std::{
    collections::hash_map::Entry,
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use switchboard_bus::{Envelope, Registration, presence::CallKey};
use switchboard_directory::{StationKey, Terms};
use switchboard_rpc::Version;

/// What others want of a connection.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// Processing answers a call.
    Answer { seq: u64, attempt: u32, frame: Bytes, registration: Option<Registration> },
    /// Nobody took this attempt to hand a call over.
    Returned { seq: u64, attempt: u32 },
    /// A command for the station, or its cancellation.
    Command(Box<Envelope>),
    /// A frame that nobody answers, such as a CALLRESULTERROR.
    Unanswered(Bytes),
    /// Commands wait in the directory's outbox.
    Outbox,
    /// The bus is back.
    BusBack,
    /// A worker has died.
    WorkerGone,
    /// End: a newer connection of the station took its place.
    Replaced,
    /// End as soon as nothing is in hand.
    Drain,
}

/// A connection as others see it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) key: StationKey,
    pub(crate) generation: u64,
    pub(crate) version: Version,
    pub(crate) compressed: bool,
    /// Whether its call in hand waits for the bus.
    pub(crate) waits_for_bus: AtomicBool,
    mailbox: Mailbox<Parcel>,
}

impl Handle {
    pub(crate) const fn new(key: StationKey, generation: u64, terms: Terms) -> Self {
        Self {
            key,
            generation,
            version: terms.version,
            compressed: terms.compressed,
            waits_for_bus: AtomicBool::new(false),
            mailbox: Mailbox::new(),
        }
    }

    /// What the handshake settled.
    pub(crate) const fn terms(&self) -> Terms {
        Terms { version: self.version, compressed: self.compressed }
    }

    /// By which workers name a call of this connection.
    pub(crate) fn call_key(&self, seq: u64) -> CallKey<'_> {
        let StationKey { tenant, station } = &self.key;
        CallKey { tenant, station: station.as_str(), generation: self.generation, seq }
    }

    pub(crate) const fn mailbox(&self) -> &Mailbox<Parcel> {
        &self.mailbox
    }

    /// Posts a parcel. What must not be lost, an end or an answer, finds room where commands do not.
    pub(crate) fn post(&self, parcel: Parcel) -> Result<(), (PostError, Parcel)> {
        let bound = match parcel {
            Parcel::Command(_) | Parcel::Unanswered(_) => COMMANDS_MAX,
            Parcel::Answer { .. } | Parcel::Returned { .. } => COMMANDS_MAX + ANSWERS_MAX,
            Parcel::Outbox | Parcel::BusBack | Parcel::WorkerGone => COMMANDS_MAX + ANSWERS_MAX + 8,
            Parcel::Replaced | Parcel::Drain => COMMANDS_MAX + ANSWERS_MAX + 16,
        };
        self.mailbox.post(parcel, bound)
    }
}

/// Commands that wait for the connection's task; its own queue comes after that.
const COMMANDS_MAX: usize = 64;
/// Answers that wait. There is one call at a time, so more than a few are copies and late ones.
const ANSWERS_MAX: usize = 16;

/// What came of registering a connection.
#[derive(Debug)]
pub(crate) enum Registered {
    /// It is the latest; this one was before it.
    Latest(Option<Arc<Handle>>),
    /// A newer one is known already.
    Outdated,
}

/// All connections of this gateway.
pub(crate) struct Registry {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    connections: HashMap<StationKey, Arc<Handle>>,
    /// Generations that are known to be replaced although their connection has not been seen here yet.
    tombstones: HashMap<StationKey, (u64, Instant)>,
    replacements: HashMap<StationKey, (Instant, u32)>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self { hasher: RandomState::default(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Registers a connection that has its generation.
    pub(crate) fn insert(&self, handle: &Arc<Handle>) -> Registered {
        let mut shard = self.shard(&handle.key);
        let replaced = shard.tombstones.get(&handle.key).is_some_and(|(dead, _)| handle.generation <= *dead);
        if replaced {
            return Registered::Outdated;
        }
        match shard.connections.entry(handle.key.clone()) {
            Entry::Occupied(other) if other.get().generation > handle.generation => Registered::Outdated,
            Entry::Occupied(mut other) => Registered::Latest(Some(other.insert(Arc::clone(handle)))),
            Entry::Vacant(place) => {
                place.insert(Arc::clone(handle));
                Registered::Latest(None)
            }
        }
    }

    /// Removes a connection, unless a newer one has its place (L01).
    pub(crate) fn remove(&self, handle: &Handle) {
        let mut shard = self.shard(&handle.key);
        if shard.connections.get(&handle.key).is_some_and(|other| other.generation == handle.generation) {
            shard.connections.remove(&handle.key);
            // A map keeps the room of its best days; after a storm that would be most of it.
            if shard.connections.len() * 4 < shard.connections.capacity() {
                let room = shard.connections.len() * 2;
                shard.connections.shrink_to(room);
            }
        }
    }

    /// The connection of a station.
    pub(crate) fn find(&self, key: &StationKey) -> Option<Arc<Handle>> {
        self.shard(key).connections.get(key).cloned()
    }

    /// Another gateway says that a connection of ours is replaced: gives it out, or remembers that for when it comes.
    pub(crate) fn bury(&self, key: &StationKey, generation: u64, now: Instant) -> Option<Arc<Handle>> {
        let mut shard = self.shard(key);
        if let Some(handle) = shard.connections.get(key) {
            return (handle.generation <= generation).then(|| Arc::clone(handle));
        }
        if shard.tombstones.len() >= REMEMBERED_MAX {
            shard.tombstones.retain(|_, (_, when)| now.saturating_duration_since(*when) < MEMORY);
        }
        if shard.tombstones.len() < REMEMBERED_MAX {
            shard.tombstones.insert(key.clone(), (generation, now));
        }
        None
    }

    /// Counts a replacement; how many there were of this station within a minute.
    pub(crate) fn count_replacement(&self, key: &StationKey, now: Instant) -> u32 {
        let mut shard = self.shard(key);
        if shard.replacements.len() >= REMEMBERED_MAX {
            shard.replacements.retain(|_, (when, _)| now.saturating_duration_since(*when) < MEMORY);
            if shard.replacements.len() >= REMEMBERED_MAX {
                return 1;
            }
        }
        let (since, count) = shard.replacements.entry(key.clone()).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= MEMORY {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count
    }

    /// All connections of one part of the registry. There are [`SHARDS`] parts.
    pub(crate) fn part(&self, part: usize) -> Vec<Arc<Handle>> {
        self.shards
            .get(part)
            .map_or_else(Vec::new, |shard| lock(shard).connections.values().cloned().collect())
    }

    /// All connections.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Handle>> + '_ {
        (0..SHARDS).flat_map(|part| self.part(part))
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).connections.len()).sum()
    }

    /// The bus is back: whoever waits for it hands its call over again.
    pub(crate) fn tell_bus_back(&self) {
        self.tell_who_waits(|| Parcel::BusBack);
    }

    /// A worker has died: whoever waits for an answer asks whether that was with it.
    pub(crate) fn tell_worker_gone(&self) {
        self.tell_who_waits(|| Parcel::WorkerGone);
    }

    fn tell_who_waits(&self, news: impl Fn() -> Parcel) {
        for handle in self.all() {
            if handle.waits_for_bus.load(Ordering::Relaxed) {
                // A full mailbox is read soon; then its desk's own timer does the same.
                drop(handle.post(news()));
            }
        }
    }

    fn shard(&self, key: &StationKey) -> MutexGuard<'_, Shard> {
        let hash = usize::try_from(self.hasher.hash_one(key) & (SHARDS as u64 - 1)).unwrap_or(0);
        // `hash` is below the number of shards.
        #[expect(clippy::indexing_slicing, reason = "masked to the number of shards")]
        lock(&self.shards[hash])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parts of the registry, a power of two.
pub(crate) const SHARDS: usize = 64;
/// Tombstones and counts of replacements in one part.
const REMEMBERED_MAX: usize = 1024;
/// How long they are of use.
const MEMORY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use bytestring::ByteString;
    use switchboard_rpc::StationId;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of fake time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn key() -> StationKey {
        StationKey { tenant: ByteString::from_static("default"), station: StationId::new("CP1", 48).unwrap() }
    }

    fn handle(generation: u64) -> Arc<Handle> {
        Arc::new(Handle::new(key(), generation, Version::V16.into()))
    }

    #[test]
    fn l01_the_newest_connection_has_the_place_and_a_late_end_does_not_take_it() {
        let registry = Registry::new();
        let (old, new) = (handle(1), handle(2));
        assert!(matches!(registry.insert(&old), Registered::Latest(None)));
        match registry.insert(&new) {
            Registered::Latest(Some(before)) => assert_eq!(before.generation, 1),
            other => panic!("{other:?}"),
        }
        registry.remove(&old);
        assert_eq!(registry.find(&key()).unwrap().generation, 2);
        assert!(matches!(registry.insert(&handle(1)), Registered::Outdated), "claimed before, here after");
        registry.remove(&new);
        assert_eq!(registry.len(), 0);
    }

    #[test]
    fn l01_a_notice_that_comes_before_its_connection_is_remembered() {
        let registry = Registry::new();
        assert!(registry.bury(&key(), 5, start()).is_none());
        assert!(matches!(registry.insert(&handle(5)), Registered::Outdated));
        assert!(matches!(registry.insert(&handle(6)), Registered::Latest(None)));
        assert!(registry.bury(&key(), 5, start()).is_none(), "about an earlier one");
        assert_eq!(registry.bury(&key(), 6, start()).unwrap().generation, 6);
    }

    #[test]
    fn l01_replacements_are_counted_per_minute() {
        let registry = Registry::new();
        let start = start();
        let counts: Vec<_> = (0..3).map(|_| registry.count_replacement(&key(), start)).collect();
        assert_eq!(counts, [1, 2, 3]);
        assert_eq!(registry.count_replacement(&key(), start + MEMORY), 1);
    }

    #[test]
    fn an_end_finds_room_in_a_full_mailbox() {
        let handle = handle(1);
        while handle.post(Parcel::Unanswered(Bytes::new())).is_ok() {}
        handle.post(Parcel::Replaced).unwrap();
    }
}
