//! The embedded directory: SQLite for what must survive, memory for what changes with every connection.

mod agreement;
mod fault;
mod journal;
mod known;
mod live;
mod lock;
mod outbox;
mod schema;
mod stations;
mod store;

use crate::contract::{
    Account, Answer, Claim, Directory, DirectoryError, Enqueued, JournalEntry, Location, OutboxEntry,
    RefusedEntry, StationKey, StationRecord, Terms,
};
use bytes::Bytes;
use bytestring::ByteString;
use live::Live;
use lock::Lock;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::Store;
use switchboard_bus::{ConnectionKey, OutcomeKind, Registration};
use switchboard_rpc::StationId;
use switchboard_sqlite::{Health, Saved};
use tokio::sync::oneshot;

/// Where the embedded directory keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// A folder of its own, made if it is not there. Default `./switchboard-data`. One process has it at a time.
    pub data_dir: PathBuf,
    /// The database's name in that folder; with `.lock` behind it, the file whose lock says who owns it. Default
    /// `directory.sqlite3`.
    pub file_name: PathBuf,
    /// How large the database may become, in bytes; none, the default: as the disk allows. When it is reached, what
    /// would need more fails as full; what is there stays.
    pub bytes_max: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./switchboard-data"),
            file_name: PathBuf::from(FILE_NAME),
            bytes_max: None,
        }
    }
}

impl Config {
    /// Data in this folder, and otherwise the defaults.
    #[must_use]
    pub fn in_dir(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), ..Self::default() }
    }
}

/// A directory within one process. One process owns its data; another gets [`DirectoryError::Owned`].
///
/// # What it keeps where
/// Connections, leases and the count of what is journalled are in memory: claiming, releasing and locating never touch
/// the disk. What a station's row says of its last coming and going is written in batches, some seconds late, or with its
/// registration. All else is committed, and synced, before it is answered; operations that come together share one sync.
///
/// # When the disk is full
/// What needs room fails with [`DirectoryError::Full`] and leaves everything as it was, but for registrations: those count,
/// and are written with the next rows that are. It works again by itself as soon as there is room.
///
/// # Bounds
/// A million stations, 256 waiting commands per station, outcomes for a day; the journal may have the whole disk.
#[derive(Debug)]
pub struct Embedded {
    store: Store,
    live: Arc<Live>,
}

impl Embedded {
    /// Opens the directory in this folder; makes it if there is none. Blocks while the file is checked.
    ///
    /// # Errors
    /// When another process owns it, when it is damaged or newer than this program, or cannot be opened.
    pub fn open(config: &Config) -> Result<Self, DirectoryError> {
        make_folder(&config.data_dir).map_err(|source| {
            let path = config.data_dir.display().to_string();
            DirectoryError::Unusable { path, source }
        })?;
        let file = config.data_dir.join(&config.file_name);
        let lock = Lock::take(&file)?;
        let connection = schema::open(Some(&file), config)?;
        Self::start(connection, true, lock)
    }

    /// Puts a new database in the place of a damaged one, with what can still be read of it; none if it is not
    /// damaged. The damaged one is kept beside it.
    ///
    /// # Errors
    /// When another process owns it, or nothing can be saved. Then everything is as it was.
    pub fn salvage(config: &Config) -> Result<Option<Saved>, DirectoryError> {
        let file = config.data_dir.join(&config.file_name);
        let _lock = Lock::take(&file)?;
        schema::save(&file)
    }

    /// A directory that is gone when it is dropped: for tests, and where a process keeps nothing beyond its end. What it knows
    /// of stations is in memory anyway and is not written a second time.
    ///
    /// # Errors
    /// When there is no memory, or no thread.
    pub fn in_memory() -> Result<Self, DirectoryError> {
        Self::start(schema::open(None, &Config::default())?, false, ())
    }

    fn start(
        connection: Connection,
        is_read_again: bool,
        held: impl Send + 'static,
    ) -> Result<Self, DirectoryError> {
        let live = Arc::new(Live::new(is_read_again));
        stations::load(&connection, &live)?;
        outbox::look_whether_any_waits(&connection, &live)?;
        Ok(Self { store: Store::start(connection, held)?, live })
    }

    /// Whether it can be written, as far as is known.
    #[must_use]
    pub const fn health(&self) -> &Health {
        self.store.health()
    }

    /// Writes something of no meaning, so that [`health`](Self::health) learns of a disk that has room again although
    /// nobody else writes.
    pub async fn probe(&self) {
        // How it went is the health's to know.
        drop(self.store.call(|connection| Ok(connection.execute_batch(PROBE)?)).await);
    }

    /// No generation that is given from now on is this low. For whoever keeps generations elsewhere: a directory that
    /// was lost, on a machine whose clock was set back, would else begin below what it gave before.
    pub fn raise_generations(&self, at_least: u64) {
        self.live.raise_floor(at_least);
    }

    /// Has the changed rows written if it is time. If the queue is full, they are written another time.
    fn flush_if_due(&self, now_ms: i64) {
        if self.live.flush_due(now_ms) && !self.store.try_post(stations::Flush::new(Arc::clone(&self.live))) {
            self.live.not_flushed();
        }
    }
}

impl Directory for Embedded {
    fn claim<'a>(
        &'a self,
        key: &'a StationKey,
        gateway: &'a ByteString,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, Claim> {
        let claim = self.live.claim(key, gateway, terms, now_ms);
        self.flush_if_due(now_ms);
        ready(claim)
    }

    fn release<'a>(&'a self, key: &'a StationKey, generation: u64, now_ms: i64) -> Answer<'a, ()> {
        self.live.release(key, generation, now_ms);
        self.flush_if_due(now_ms);
        ready(Ok(()))
    }

    fn locate<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<Location>> {
        ready(Ok(self.live.locate(key, now_ms)))
    }

    fn restore<'a>(
        &'a self,
        key: &'a StationKey,
        connection: &'a ConnectionKey,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, bool> {
        let restored = self.live.restore(key, connection, terms, now_ms);
        self.flush_if_due(now_ms);
        ready(restored)
    }

    fn gateway_lease<'a>(&'a self, gateway: &'a ByteString, until_ms: i64) -> Answer<'a, bool> {
        self.live.lease(gateway, until_ms);
        // Gateways renew every second or so: also what changed last is written before long.
        self.flush_if_due(until_ms);
        // What its own process knows nobody else can take from it.
        ready(Ok(true))
    }

    fn stations<'a>(
        &'a self,
        tenant: &'a str,
        after: Option<&'a StationId>,
        limit: usize,
        now_ms: i64,
    ) -> Answer<'a, Vec<StationRecord>> {
        ready(Ok(self.live.stations(tenant, after, limit, now_ms)))
    }

    fn station<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<StationRecord>> {
        ready(Ok(self.live.station(key, now_ms)))
    }

    fn set_registration<'a>(&'a self, key: &'a StationKey, registration: Registration) -> Answer<'a, ()> {
        if !self.live.set_registration(key, registration) {
            return ready(Ok(()));
        }
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.store.post(stations::Flush::telling(Arc::clone(&self.live), answer)).await?;
            answered.await.map_err(|_| store::closed())?
        })
    }

    fn account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, Option<Account>> {
        if !self.live.has_account(key) {
            return ready(Ok(None));
        }
        let key = key.clone();
        self.store.call(move |connection| stations::account(connection, &key))
    }

    fn put_account(&self, account: Account) -> Answer<'_, ()> {
        let (live, key) = (Arc::clone(&self.live), account.key.clone());
        let has_password = account.password.is_some();
        self.store.call_then(
            move |connection| stations::put_account(connection, &account),
            move |()| live.set_account(&key, Some(has_password)),
        )
    }

    fn remove_account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, bool> {
        let (live, key) = (Arc::clone(&self.live), key.clone());
        let after_key = key.clone();
        self.store.call_then(
            move |connection| stations::remove_account(connection, &key),
            move |_| live.set_account(&after_key, None),
        )
    }

    fn account_count(&self) -> Answer<'_, u64> {
        ready(Ok(self.live.account_count()))
    }

    fn outbox_put(&self, entry: OutboxEntry) -> Answer<'_, Enqueued> {
        let live = Arc::clone(&self.live);
        self.store.call(move |connection| outbox::put(connection, &live, &entry))
    }

    fn outbox_waiting<'a>(
        &'a self,
        key: &'a StationKey,
        now_ms: i64,
        limit: usize,
    ) -> Answer<'a, Vec<OutboxEntry>> {
        if !self.live.may_wait() {
            return ready(Ok(Vec::new()));
        }
        let key = key.clone();
        self.store.call(move |connection| outbox::waiting(connection, &key, now_ms, limit))
    }

    fn outbox_sending<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        generation: u64,
    ) -> Answer<'a, bool> {
        let (key, id) = (key.clone(), id.clone());
        self.store.call(move |connection| outbox::sending(connection, &key, &id, generation))
    }

    fn outbox_put_back<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        generation: u64,
    ) -> Answer<'a, ()> {
        let (live, key, id) = (Arc::clone(&self.live), key.clone(), id.clone());
        self.store.call(move |connection| outbox::put_back(connection, &live, &key, &id, generation))
    }

    fn outbox_end<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        outcome: OutcomeKind,
        frame: Bytes,
        now_ms: i64,
    ) -> Answer<'a, ()> {
        let (key, id) = (key.clone(), id.clone());
        self.store.call(move |connection| outbox::end(connection, &key, &id, outcome, &frame, now_ms))
    }

    fn outbox_get<'a>(&'a self, key: &'a StationKey, id: &'a ByteString) -> Answer<'a, Option<OutboxEntry>> {
        let (key, id) = (key.clone(), id.clone());
        self.store.call(move |connection| outbox::get(connection, &key, &id))
    }

    fn outbox_sweep(&self, now_ms: i64, limit: usize) -> Answer<'_, Vec<OutboxEntry>> {
        let live = Arc::clone(&self.live);
        self.store.call(move |connection| outbox::sweep(connection, &live, now_ms, limit))
    }

    fn journal_append(&self, entry: JournalEntry) -> Answer<'_, u64> {
        let (live, key) = (Arc::clone(&self.live), entry.key.clone());
        self.store.call_then(
            move |connection| journal::append(connection, &entry),
            move |_| live.add_journal(&key, 1),
        )
    }

    fn journal_read<'a>(
        &'a self,
        key: Option<&'a StationKey>,
        after: u64,
        limit: usize,
    ) -> Answer<'a, Vec<JournalEntry>> {
        let key = key.cloned();
        self.store.call(move |connection| journal::read(connection, key.as_ref(), after, limit))
    }

    fn journal_remove(&self, id: u64) -> Answer<'_, ()> {
        let live = Arc::clone(&self.live);
        let removed = self.store.call_then(
            move |connection| journal::remove(connection, id),
            move |key| {
                if let Some(key) = key {
                    live.remove_journal(key);
                }
            },
        );
        Box::pin(async move { removed.await.map(|_| ()) })
    }

    fn journal_refuse<'a>(&'a self, id: u64, why: &'a str, now_ms: i64) -> Answer<'a, ()> {
        let (live, why) = (Arc::clone(&self.live), why.to_owned());
        let refused = self.store.call_then(
            move |connection| journal::refuse(connection, id, &why, now_ms),
            move |key| {
                if let Some(key) = key {
                    live.remove_journal(key);
                }
            },
        );
        Box::pin(async move { refused.await.map(|_| ()) })
    }

    fn journal_refused(&self, after: u64, limit: usize) -> Answer<'_, Vec<RefusedEntry>> {
        self.store.call(move |connection| journal::refused(connection, after, limit))
    }

    fn journal_settle(&self, id: u64) -> Answer<'_, bool> {
        self.store.call(move |connection| journal::settle(connection, id))
    }

    fn journal_count<'a>(&'a self, key: Option<&'a StationKey>) -> Answer<'a, u64> {
        ready(Ok(self.live.journal_count(key)))
    }

    fn agree<'a>(&'a self, name: &'a str, value: &'a str) -> Answer<'a, String> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.store.call(move |connection| agreement::agree(connection, &name, &value))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            // Closing again finds nobody to write it.
            drop(self.store.post(stations::Flush::new(Arc::clone(&self.live))).await);
            self.store.close().await;
            Ok(())
        })
    }
}

/// Password hashes and what stations send are nobody else's business.
fn make_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn ready<'a, T: Send + 'a>(value: Result<T, DirectoryError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(value))
}

/// Writes the page that it reads; nothing else.
const PROBE: &str = "UPDATE sqlite_sequence SET seq = seq WHERE name = 'journal';
INSERT INTO sqlite_sequence (name, seq) SELECT 'journal', 0
WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'journal');";

const FILE_NAME: &str = "directory.sqlite3";

#[cfg(test)]
mod tests;
