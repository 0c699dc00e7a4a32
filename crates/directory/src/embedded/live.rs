//! What is kept in memory: who is connected where, so that coming, going and being looked for cost no disk.
//!
//! It is filled from the database when that is opened; changes go back in batches. What a crash loses of them is
//! harmless, since generations rise with the clock and connections of a process that died are gone anyway.

use super::fault::full;
use super::known::{Changed, Connected, Known, Stations};
use crate::{Claim, DirectoryError, Location, StationKey, StationRecord, Terms};
use bytestring::ByteString;
use foldhash::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use switchboard_bus::{ConnectionKey, Registration};
use switchboard_rpc::StationId;

/// Everything in memory, behind one lock that is held for single look-ups only.
#[derive(Debug)]
pub(super) struct Live {
    state: Mutex<State>,
    /// Whether a command may be waiting for a station.
    any_waiting: AtomicBool,
}

#[derive(Debug)]
struct State {
    stations: Stations,
    accounts: u64,
    /// No less than any generation that was given to a station which is not in `stations` any more.
    floor: u64,
    /// The highest time that we were told: a clock that goes back does not take generations with it.
    clock_ms: i64,
    leases: HashMap<ByteString, i64>,
    journal: HashMap<StationKey, u64>,
    journal_total: u64,
    changed: Changed,
    flushed_ms: i64,
    flushing: bool,
    pruned_ms: i64,
}

/// A station's row, to be written; to be removed if nothing is there to write.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: StationKey,
    pub(super) columns: Option<Columns>,
}

/// What is written of a station.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) generation: u64,
    pub(super) registration: Option<Registration>,
    pub(super) seen_ms: Option<i64>,
}

impl Live {
    /// Whether the rows of stations are written, for another process to read.
    pub(super) fn new(is_written: bool) -> Self {
        let state = State {
            stations: Stations::default(),
            accounts: 0,
            floor: 0,
            clock_ms: 0,
            leases: HashMap::default(),
            journal: HashMap::default(),
            journal_total: 0,
            changed: Changed::new(is_written),
            flushed_ms: 0,
            flushing: false,
            pruned_ms: 0,
        };
        Self { state: Mutex::new(state), any_waiting: AtomicBool::new(false) }
    }

    /// Puts in a station that the database knows.
    pub(super) fn load_station(&self, key: &StationKey, columns: Columns) {
        let Columns { generation, registration, seen_ms } = columns;
        let mut state = self.lock();
        state.floor = state.floor.max(generation);
        let known = state.stations.get_or_add(key);
        (known.generation, known.registration, known.seen_ms) = (generation, registration, seen_ms);
    }

    /// No station gets a generation as low as this any more.
    pub(super) fn raise_floor(&self, at_least: u64) {
        let mut state = self.lock();
        state.floor = state.floor.max(at_least);
    }

    /// Whether a command may be waiting for a station.
    pub(super) fn may_wait(&self) -> bool {
        self.any_waiting.load(Ordering::Acquire)
    }

    pub(super) fn note_waiting(&self, any: bool) {
        self.any_waiting.store(any, Ordering::Release);
    }

    /// Puts in entries of the journal.
    pub(super) fn add_journal(&self, key: &StationKey, count: u64) {
        let mut state = self.lock();
        state.journal_total += count;
        if let Some(before) = state.journal.get_mut(key) {
            *before += count;
        } else {
            state.journal.insert(key.detached(), count);
        }
    }

    /// Takes one entry out.
    pub(super) fn remove_journal(&self, key: &StationKey) {
        let mut state = self.lock();
        state.journal_total = state.journal_total.saturating_sub(1);
        if let Some(count) = state.journal.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.journal.remove(key);
            }
        }
    }

    pub(super) fn journal_count(&self, key: Option<&StationKey>) -> u64 {
        let state = self.lock();
        key.map_or(state.journal_total, |key| state.journal.get(key).copied().unwrap_or(0))
    }

    pub(super) fn claim(
        &self,
        key: &StationKey,
        gateway: &ByteString,
        terms: Terms,
        now_ms: i64,
    ) -> Result<Claim, DirectoryError> {
        let mut state = self.lock();
        let state = &mut *state;
        state.clock_ms = state.clock_ms.max(now_ms);
        let gateway = state.name_of(gateway);
        // One look at the map for most, as a storm of connections is many of them.
        let known = match state.stations.get_mut(key) {
            Some(known) => known,
            None => {
                state.make_room(now_ms)?;
                state.stations.add(key)
            }
        };
        let clock = u64::try_from(state.clock_ms).unwrap_or(0);
        let old = known.generation;
        known.generation = old.max(state.floor).saturating_add(1).max(clock);
        known.seen_ms = Some(now_ms);
        let connected = Connected { gateway, terms, since_ms: now_ms };
        let previous = known.connection.replace(connected);
        let claim = Claim {
            generation: known.generation,
            previous: previous.map(|was| ConnectionKey { gateway: was.gateway, generation: old }),
            registration: known.registration,
        };
        known.touch(key, &mut state.changed);
        Ok(claim)
    }

    pub(super) fn restore(
        &self,
        key: &StationKey,
        connection: &ConnectionKey,
        terms: Terms,
        now_ms: i64,
    ) -> Result<bool, DirectoryError> {
        let mut state = self.lock();
        let state = &mut *state;
        if state.stations.get(key).is_some_and(|known| known.generation >= connection.generation) {
            return Ok(false);
        }
        if state.stations.get(key).is_none() {
            state.make_room(now_ms)?;
        }
        let gateway = state.name_of(&connection.gateway);
        let known = state.stations.get_or_add(key);
        known.generation = connection.generation;
        known.seen_ms = Some(now_ms);
        known.connection = Some(Connected { gateway, terms, since_ms: now_ms });
        known.touch(key, &mut state.changed);
        Ok(true)
    }

    pub(super) fn release(&self, key: &StationKey, generation: u64, now_ms: i64) {
        let mut state = self.lock();
        let state = &mut *state;
        state.clock_ms = state.clock_ms.max(now_ms);
        let Some(known) = state.stations.get_mut(key) else { return };
        if known.generation == generation && known.connection.take().is_some() {
            known.seen_ms = Some(now_ms);
            known.touch(key, &mut state.changed);
        }
    }

    pub(super) fn locate(&self, key: &StationKey, now_ms: i64) -> Option<Location> {
        let state = self.lock();
        state.location(state.stations.get(key)?, now_ms)
    }

    pub(super) fn lease(&self, gateway: &ByteString, until_ms: i64) {
        let mut state = self.lock();
        // What has run out long ago is of no use; looked for only when there are suspiciously many.
        if state.leases.len() >= LEASES_MAX && !state.leases.contains_key(gateway) {
            let clock_ms = state.clock_ms;
            state.leases.retain(|_, until| *until > clock_ms);
        }
        if let Some(lease) = state.leases.get_mut(gateway) {
            *lease = until_ms;
        } else {
            state.leases.insert(ByteString::from(&**gateway), until_ms);
        }
    }

    pub(super) fn stations(
        &self,
        tenant: &str,
        after: Option<&StationId>,
        limit: usize,
        now_ms: i64,
    ) -> Vec<StationRecord> {
        let state = self.lock();
        let of_tenant = state.stations.of_tenant(tenant, after);
        let listed = of_tenant.filter(|(_, known)| known.account.is_some() || known.seen_ms.is_some());
        listed.take(limit).map(|(key, known)| state.record(key, known, now_ms)).collect()
    }

    pub(super) fn station(&self, key: &StationKey, now_ms: i64) -> Option<StationRecord> {
        let state = self.lock();
        let known = state.stations.get(key)?;
        let listed = known.account.is_some() || known.seen_ms.is_some();
        listed.then(|| state.record(key, known, now_ms))
    }

    /// From now on. Whether it is to be written.
    pub(super) fn set_registration(&self, key: &StationKey, registration: Registration) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let known = state.stations.get_or_add(key);
        known.registration = Some(registration);
        known.touch(key, &mut state.changed);
        state.changed.is_written()
    }

    pub(super) fn set_account(&self, key: &StationKey, has_password: Option<bool>) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.stations.get_or_add(key).account, has_password);
        match (before, has_password) {
            (None, Some(_)) => state.accounts += 1,
            (Some(_), None) => state.accounts = state.accounts.saturating_sub(1),
            _ => {}
        }
    }

    /// Whether the station is registered.
    pub(super) fn has_account(&self, key: &StationKey) -> bool {
        let state = self.lock();
        state.accounts > 0 && state.stations.get(key).is_some_and(|known| known.account.is_some())
    }

    pub(super) fn account_count(&self) -> u64 {
        self.lock().accounts
    }

    /// Whether it is time to have the changed rows written. Having said so it waits for
    /// [`take_dirty`](Self::take_dirty) or [`not_flushed`](Self::not_flushed).
    pub(super) fn flush_due(&self, now_ms: i64) -> bool {
        let mut state = self.lock();
        // A clock that was set back is no reason to wait until it is there again.
        let waited = now_ms.abs_diff(state.flushed_ms) >= FLUSH_EVERY_MS;
        let due = !state.flushing
            && !state.changed.keys.is_empty()
            && (waited || state.changed.keys.len() >= FLUSH_AT);
        if due {
            state.flushed_ms = now_ms;
            state.flushing = true;
        }
        due
    }

    /// There was no room for the job.
    pub(super) fn not_flushed(&self) {
        self.lock().flushing = false;
    }

    /// Adds the rows that are to be written now.
    pub(super) fn take_dirty(&self, rows: &mut Vec<Row>) {
        let mut state = self.lock();
        let State { stations, changed, flushing, .. } = &mut *state;
        *flushing = false;
        rows.extend(changed.keys.drain(..).map(|key| {
            let columns = stations.get_mut(&key).map(|known| {
                known.dirty = false;
                let Known { generation, registration, seen_ms, .. } = *known;
                Columns { generation, registration, seen_ms }
            });
            Row { key, columns }
        }));
    }

    /// They could not be written.
    pub(super) fn put_back(&self, rows: Vec<Row>) {
        let mut state = self.lock();
        let State { stations, changed, .. } = &mut *state;
        for row in rows {
            match stations.get_mut(&row.key) {
                Some(known) => known.touch(&row.key, changed),
                None => changed.forgotten(row.key),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One name for all connections of a gateway.
    fn name_of(&self, gateway: &ByteString) -> ByteString {
        match self.leases.get_key_value(gateway) {
            Some((name, _)) => name.clone(),
            None => ByteString::from(&**gateway),
        }
    }

    fn record(&self, key: &StationKey, known: &Known, now_ms: i64) -> StationRecord {
        StationRecord {
            key: key.clone(),
            registered: known.account.is_some(),
            has_password: known.account == Some(true),
            location: self.location(known, now_ms),
            registration: known.registration,
            seen_ms: known.seen_ms,
        }
    }

    fn location(&self, known: &Known, now_ms: i64) -> Option<Location> {
        let connected = known.connection.as_ref()?;
        let fresh = self.leases.get(&connected.gateway).is_some_and(|until| *until > now_ms);
        fresh.then(|| Location {
            connection: ConnectionKey { gateway: connected.gateway.clone(), generation: known.generation },
            version: connected.terms.version,
            compressed: connected.terms.compressed,
            since_ms: connected.since_ms,
        })
    }

    /// At the bound, forgets what came without being registered and has been away for a day.
    fn make_room(&mut self, now_ms: i64) -> Result<(), DirectoryError> {
        if self.stations.len() < STATIONS_MAX {
            return Ok(());
        }
        // The look at all stations is not to be had for each refused connection.
        if now_ms.abs_diff(self.pruned_ms) >= PRUNE_EVERY_MS {
            self.pruned_ms = now_ms;
            let stale = |known: &Known| {
                known.account.is_none()
                    && known.connection.is_none()
                    && known.seen_ms.is_none_or(|seen| now_ms.saturating_sub(seen) > FORGET_AFTER_MS)
            };
            for (key, known) in self.stations.remove_if(stale) {
                self.floor = self.floor.max(known.generation);
                if !known.dirty {
                    self.changed.forgotten(key);
                }
            }
        }
        if self.stations.len() < STATIONS_MAX {
            Ok(())
        } else {
            Err(full("it knows a million stations, which is what this kind of directory is made for"))
        }
    }
}

/// How many stations are kept in memory, at about 400 bytes each.
const STATIONS_MAX: usize = 1_000_000;
const FORGET_AFTER_MS: i64 = 86_400_000;
const PRUNE_EVERY_MS: u64 = 60_000;
/// How many gateways are kept before those whose lease has run out are looked for.
const LEASES_MAX: usize = 1024;
/// How long a changed row may wait to be written, and how many may.
const FLUSH_EVERY_MS: u64 = 2_000;
const FLUSH_AT: usize = 256;
