//! Calls that were answered without processing and are kept for it: which stations have some, and working them off.

use crate::{
    desk::Holding,
    shared::{Shared, now},
};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use switchboard_bus::{Address, Envelope, Kind, Metadata, presence::CallKey};
use switchboard_directory::{DirectoryError, JournalEntry, StationKey};
use switchboard_rpc::{ErrorCode, Frame};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// What this gateway knows of the directory's journal.
#[derive(Debug)]
pub(crate) struct Journal {
    entries_max: u64,
    entries: AtomicU64,
    /// How many stations the book holds: calls of the others look no further.
    stations: AtomicUsize,
    book: Mutex<Book>,
    work: Notify,
    answers: Mutex<HashMap<u64, Awaited>>,
}

/// Whose answer is waited for: ids of a directory that was lost are given again.
#[derive(Debug)]
struct Awaited {
    key: StationKey,
    seq: u64,
    answer: oneshot::Sender<Told>,
}

/// What came of handing an entry over.
#[derive(Debug)]
enum Told {
    Answer(Bytes),
    /// It could not be dealt with now; another one may.
    Later,
    /// Nobody took it.
    Unheard,
}

#[derive(Debug, Default)]
struct Book {
    /// The stations with entries.
    stations: HashMap<StationKey, Held>,
    /// How often something was appended: tells whether a count of before still holds.
    appended: u64,
}

/// A station's entries.
#[derive(Debug)]
struct Held {
    count: u64,
    /// What [`Book::appended`] was when the last one came.
    appended: u64,
}

impl Journal {
    pub(crate) fn new(entries_max: u64) -> Self {
        Self {
            entries_max,
            entries: AtomicU64::new(0),
            stations: AtomicUsize::new(0),
            book: Mutex::default(),
            work: Notify::new(),
            answers: Mutex::default(),
        }
    }

    /// Whether a station has entries, so that its keepable calls must go the same way.
    pub(crate) fn holds(&self, key: &StationKey) -> bool {
        self.stations.load(Ordering::Relaxed) > 0 && self.book().stations.contains_key(key)
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Appends an entry durably; whether that was done.
    pub(crate) async fn append(&self, shared: &Shared, entry: JournalEntry) -> bool {
        if self.entries.fetch_add(1, Ordering::Relaxed) >= self.entries_max {
            self.entries.fetch_sub(1, Ordering::Relaxed);
            tracing::error!("the journal is full");
            return false;
        }
        let key = entry.key.clone();
        match shared.directory.journal_append(entry).await {
            Ok(_) => {
                let mut book = self.book();
                book.appended += 1;
                let appended = book.appended;
                let held = book.stations.entry(key).or_insert(Held { count: 0, appended });
                (held.count, held.appended) = (held.count + 1, appended);
                self.counted(&book);
                drop(book);
                self.wake();
                true
            }
            Err(error) => {
                self.entries.fetch_sub(1, Ordering::Relaxed);
                tracing::error!(station = %key.station, %error, "a call could not be journalled");
                false
            }
        }
    }

    /// Learns how many entries a station has, in whichever gateway they came in. For one that has just connected, and now
    /// and then for those that have some, since another gateway may have worked them off.
    pub(crate) async fn look_up(&self, shared: &Shared, key: &StationKey) -> Result<(), DirectoryError> {
        let before = self.book().appended;
        let count = shared.directory.journal_count(Some(key)).await?;
        let mut book = self.book();
        if count == 0 && book.stations.is_empty() {
            return Ok(());
        }
        match book.stations.entry(key.clone()) {
            Entry::Occupied(held) if held.get().appended > before => {}
            Entry::Occupied(held) if count == 0 => {
                held.remove();
            }
            Entry::Occupied(mut held) => held.get_mut().count = count,
            Entry::Vacant(_) if count == 0 => {}
            Entry::Vacant(vacant) => {
                vacant.insert(Held { count, appended: before });
                // They may be in nobody's count but their dead gateway's.
                let _before = self.entries.fetch_max(count, Ordering::Relaxed);
                self.wake();
            }
        }
        self.counted(&book);
        Ok(())
    }

    /// Looks up the stations that have entries, some at a time.
    pub(crate) async fn look_up_again(&self, shared: &Shared) {
        let keys: Vec<StationKey> = {
            let book = self.book();
            // One after another, wherever it begins.
            let skipped = fastrand::usize(..book.stations.len().max(1));
            book.stations
                .keys()
                .cycle()
                .skip(skipped)
                .take(book.stations.len().min(LOOK_UP_MAX))
                .cloned()
                .collect()
        };
        let looked = futures_util::future::join_all(keys.iter().map(|key| self.look_up(shared, key))).await;
        if let Some(error) = looked.into_iter().find_map(Result::err) {
            tracing::debug!(%error, "the journal could not be counted");
        }
    }

    /// An answer to an entry came; whether it was waited for.
    pub(crate) fn answer(&self, id: u64, key: &StationKey, seq: Option<u64>, frame: Bytes) -> bool {
        self.tell(id, key, seq, Told::Answer(frame))
    }

    /// An entry came back: nobody took it, or a worker could not deal with it.
    pub(crate) fn returned(&self, id: u64, key: &StationKey, seq: Option<u64>, by_worker: bool) {
        // One that nobody waits for any more is tried in another round anyway.
        let _waited = self.tell(id, key, seq, if by_worker { Told::Later } else { Told::Unheard });
    }

    fn tell(&self, id: u64, key: &StationKey, seq: Option<u64>, told: Told) -> bool {
        let mut answers = self.answers();
        if !answers.get(&id).is_some_and(|awaited| awaited.key == *key && Some(awaited.seq) == seq) {
            return false;
        }
        answers.remove(&id).is_some_and(|awaited| awaited.answer.send(told).is_ok())
    }

    /// There may be work.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    fn removed(&self, key: &StationKey) {
        let less = |count: u64| Some(count.saturating_sub(1));
        let _before = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let mut book = self.book();
        if let Some(held) = book.stations.get_mut(key) {
            held.count = held.count.saturating_sub(1);
            if held.count == 0 {
                book.stations.remove(key);
            }
        }
        self.counted(&book);
    }

    fn counted(&self, book: &Book) {
        self.stations.store(book.stations.len(), Ordering::Relaxed);
    }

    /// Counts anew, since other gateways work entries off too.
    async fn recount(&self, shared: &Shared) {
        let before = self.book().appended;
        let Ok(count) = shared.directory.journal_count(None).await else { return };
        let mut book = self.book();
        if book.appended == before {
            self.entries.store(count, Ordering::Relaxed);
            if count == 0 {
                book.stations = HashMap::new();
            }
            self.counted(&book);
        }
    }

    /// A round came to the end and found entries of these stations only. Others may have been worked off by another
    /// gateway.
    fn found(&self, stations: &HashSet<StationKey>, appended: u64) {
        let mut book = self.book();
        if book.appended == appended {
            book.stations.retain(|station, _| stations.contains(station));
            self.counted(&book);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<u64, Awaited>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How handing one entry to processing went.
enum Worked {
    /// It is done and removed.
    Off,
    /// Later again.
    Later,
    /// Nobody takes calls, so that there is no use in trying others.
    Unheard,
}

/// Hands entries to processing, those of a station in order, several stations at once, until the token is cancelled. Only
/// while it is this gateway's turn: two that do it at once would not keep the order.
pub(crate) async fn work_off(shared: Arc<Shared>, stop: CancellationToken) {
    shared.journal.recount(&shared).await;
    let mut pause = PAUSE_MIN;
    let mut ours = false;
    let mut counted = now();
    loop {
        let progress = tokio::select! {
            () = stop.cancelled() => {
                if ours {
                    give_up_turn(&shared).await;
                }
                return;
            }
            progress = round_in_turn(&shared, &mut ours) => progress,
        };
        shared.metrics.journal_entries.set(i64::try_from(shared.journal.entries()).unwrap_or(i64::MAX));
        let wait = match progress {
            Round::Empty => {
                pause = PAUSE_MIN;
                RECOUNT_EVERY
            }
            Round::NotOurs => {
                pause = PAUSE_MIN;
                // How many there are is of interest to people only; a server counts them one by one.
                if now().saturating_duration_since(counted) >= RECOUNT_EVERY {
                    counted = now();
                    shared.journal.recount(&shared).await;
                }
                TURN / 10
            }
            Round::Progress => {
                pause = PAUSE_MIN;
                continue;
            }
            Round::Stuck => {
                pause = (pause * 2).min(PAUSE_MAX);
                pause
            }
        };
        if progress != Round::Empty {
            // Every new entry wakes us; none of them is a reason to try at once what has just failed or is another's.
            let pause = if progress == Round::NotOurs { wait } else { PAUSE_MIN };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.journal.work.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Empty,
    Progress,
    Stuck,
    /// Another gateway works the journal off.
    NotOurs,
}

/// A round, if it is our turn. When there is nothing left for us to do the turn is given up: others may know of something,
/// or reach processing where we do not.
async fn round_in_turn(shared: &Shared, ours: &mut bool) -> Round {
    if shared.journal.entries() == 0 {
        shared.journal.recount(shared).await;
    }
    let progress = if shared.journal.entries() == 0 {
        Round::Empty
    } else {
        match turn(shared, TURN).await {
            Ok(true) => *ours = true,
            Ok(false) => return Round::NotOurs,
            Err(error) => {
                tracing::warn!(%error, "the turn at the journal could not be taken");
                return Round::Stuck;
            }
        }
        tokio::select! {
            progress = round(shared) => progress,
            () = lose_turn(shared) => return Round::NotOurs,
        }
    };
    if progress != Round::Progress && std::mem::take(ours) {
        give_up_turn(shared).await;
    }
    progress
}

async fn give_up_turn(shared: &Shared) {
    if let Err(error) = turn(shared, Duration::ZERO).await {
        tracing::debug!(%error, "the turn at the journal could not be given up; it ends by itself");
    }
}

async fn turn(shared: &Shared, duration: Duration) -> Result<bool, DirectoryError> {
    let now_ms = shared.clock.wall_ms(now());
    let duration_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    shared.directory.journal_turn(&shared.name, now_ms.saturating_add(duration_ms), now_ms).await
}

/// Keeps the turn; returns when it is not ours any more, or nobody can say.
async fn lose_turn(shared: &Shared) {
    let mut kept: Instant = now();
    loop {
        tokio::time::sleep(TURN / 4).await;
        match turn(shared, TURN).await {
            Ok(true) => kept = now(),
            Ok(false) => return,
            Err(_) if now().saturating_duration_since(kept) > TURN * 3 / 4 => return,
            Err(_) => {}
        }
    }
}

/// Goes through all entries once, page by page.
async fn round(shared: &Shared) -> Round {
    let mut progress = Round::Stuck;
    let mut after = 0;
    let appended = shared.journal.book().appended;
    let mut found: HashSet<StationKey> = HashSet::new();
    // Their entries wait behind one that processing fails at. Those of others do not.
    let mut stuck: HashSet<StationKey> = HashSet::new();
    loop {
        let page = match shared.directory.journal_read(None, after, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "the journal could not be read");
                return Round::Stuck;
            }
        };
        let Some(last) = page.last() else {
            shared.journal.found(&found, appended);
            if after == 0 {
                shared.journal.recount(shared).await;
                return Round::Empty;
            }
            return progress;
        };
        after = last.id;
        let is_last = page.len() < PAGE;
        let mut stations: BTreeMap<StationKey, VecDeque<JournalEntry>> = BTreeMap::new();
        for entry in page.into_iter().filter(|entry| !stuck.contains(&entry.key)) {
            stations.entry(entry.key.clone()).or_default().push_back(entry);
        }
        found.extend(stations.keys().cloned());
        let mut waiting = stations.into_iter();
        let mut working: FuturesUnordered<_> = waiting
            .by_ref()
            .take(STATIONS_AT_ONCE)
            .map(|station| work_off_station(shared, station))
            .collect();
        let mut unheard = false;
        while let Some((station, done, worked)) = working.next().await {
            if done > 0 {
                progress = Round::Progress;
            }
            match worked {
                Worked::Off => {}
                Worked::Later => {
                    stuck.insert(station);
                }
                Worked::Unheard => unheard = true,
            }
            if let Some(station) = waiting.next().filter(|_| !unheard) {
                working.push(work_off_station(shared, station));
            }
        }
        drop(working);
        if is_last && !unheard {
            found.extend(stuck.iter().cloned());
            shared.journal.found(&found, appended);
        }
        if unheard || is_last || stuck.len() > STUCK_MAX {
            return progress;
        }
    }
}

/// Works entries of one station off, in order, until one must wait; how many were done, and how the last one went.
async fn work_off_station(
    shared: &Shared,
    (station, entries): (StationKey, VecDeque<JournalEntry>),
) -> (StationKey, usize, Worked) {
    let mut done = 0;
    for entry in entries {
        match work_off_entry(shared, entry).await {
            Worked::Off => done += 1,
            other => return (station, done, other),
        }
    }
    (station, done, Worked::Off)
}

async fn work_off_entry(shared: &Shared, entry: JournalEntry) -> Worked {
    let (id, key, version) = (entry.id, entry.key.clone(), entry.version);
    let (sender, mut answer) = oneshot::channel();
    let awaited = Awaited { key: key.clone(), seq: entry.seq, answer: sender };
    shared.journal.answers().insert(id, awaited);
    let mut metadata = Metadata::new(Kind::Call);
    metadata.tenant = entry.key.tenant.clone();
    metadata.station = Some(entry.key.station.clone());
    metadata.version = Some(version);
    metadata.action = Some(entry.action);
    metadata.connection = Some(entry.connection);
    metadata.seq = Some(entry.seq);
    metadata.received_at_ms = Some(entry.received_ms);
    metadata.remaining = Some(shared.config.answer_deadline);
    metadata.reply_to = Some(shared.name.clone());
    metadata.attempt = 1;
    metadata.journal = Some(id);
    let address = Address::Call { tenant: entry.key.tenant, station: entry.key.station };
    let envelope = Envelope::new(metadata, entry.frame);
    let published = shared.bus.publish(address, envelope.clone()).await;
    let told = match published {
        Ok(()) => {
            let handing_over = hand_over_again(shared, &key, envelope);
            tokio::select! {
                told = &mut answer => told.unwrap_or(Told::Later),
                () = handing_over => Told::Later,
            }
        }
        Err(error) => {
            tracing::debug!(station = %key.station, %error, "a call of the journal could not be handed over");
            if matches!(error, switchboard_bus::PublishError::NobodyListens) {
                shared.processing_is_away(now());
            }
            if error.is_retryable() { Told::Unheard } else { Told::Later }
        }
    };
    shared.journal.answers().remove(&id);
    let frame = match told {
        Told::Answer(frame) => frame,
        Told::Later => return Worked::Later,
        Told::Unheard => return Worked::Unheard,
    };
    shared.processing_is_back();
    let frame = ByteString::try_from(frame).unwrap_or_default();
    let mut refused = None;
    if let Ok(Frame::Error { code, description, .. }) = Frame::parse(&frame, version) {
        shared.metrics.journal_refused.inc();
        tracing::warn!(station = %key.station, id, %code, %description, "processing refused a call of the journal");
        // The station was told that all is well, so what processing failed at is tried until it succeeds; what it
        // will never take is kept aside for people.
        if ErrorCode::from_wire(&code) == Some(ErrorCode::InternalError) {
            return Worked::Later;
        }
        refused = Some(format!("{code}: {description}"));
    }
    let removed = match &refused {
        Some(why) => shared.directory.journal_refuse(id, why, shared.clock.wall_ms(now())).await,
        None => shared.directory.journal_remove(id).await,
    };
    match removed {
        Ok(()) => {
            shared.journal.removed(&key);
            shared.metrics.journal_worked_off.inc();
            Worked::Off
        }
        Err(error) => {
            tracing::warn!(station = %key.station, id, %error, "a call of the journal could not be removed");
            Worked::Later
        }
    }
}

/// Hands an entry that somebody took to one worker after another when nothing comes of it: who took it may have died, or be
/// frozen. Returns when it is too late for an answer.
async fn hand_over_again(shared: &Shared, key: &StationKey, mut envelope: Envelope) {
    let mut since = now();
    let deadline = since + shared.config.answer_deadline;
    let mut check = since + shared.patience.current();
    let (seq, connection) = (envelope.metadata.seq, envelope.metadata.connection.clone());
    let call = seq.zip(connection.as_ref()).filter(|_| shared.rules.repeatable).map(|(seq, connection)| {
        CallKey { tenant: &key.tenant, station: key.station.as_str(), generation: connection.generation, seq }
    });
    while let Some(call) = call.filter(|_| check < deadline) {
        tokio::time::sleep_until(check.into()).await;
        let now = now();
        let holding = shared.workers.holding(call, since, now);
        let inbox = shared.workers.inbox_of_one(call, envelope.metadata.attempt + 1, now);
        check = match (holding, inbox) {
            (Holding::Unsure(until), _) => until,
            (Holding::Lost, Some(inbox)) => {
                envelope.metadata.attempt += 1;
                shared.metrics.handed_over_again.inc();
                if let Err(error) = shared.bus.publish(Address::Inbox(inbox), envelope.clone()).await {
                    tracing::debug!(station = %key.station, %error, "a call of the journal could not be handed over again");
                }
                since = now;
                now + shared.patience.current()
            }
            (Holding::Held | Holding::Lost, _) => now + shared.rules.beat,
        };
    }
    tokio::time::sleep_until(deadline.into()).await;
}

/// Entries that are read at once.
const PAGE: usize = 256;
const STATIONS_AT_ONCE: usize = 16;
/// Stations that may have an entry which processing fails at, before a round begins anew.
const STUCK_MAX: usize = 10_000;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long an entry may lie that a gateway left behind which is gone.
const RECOUNT_EVERY: Duration = Duration::from_secs(10);
/// How long the turn at the journal is ours without renewing it. A gateway that dies delays the others by as much.
const TURN: Duration = Duration::from_secs(10);
/// Stations whose entries are counted at once.
const LOOK_UP_MAX: usize = 1024;
