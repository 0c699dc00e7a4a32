//! The central system as a whole: opened once, asked by handlers, the command line and the API, and closed at the end.

use crate::books::{Rules, query, reading_key};
use crate::clock::Clock;
use crate::config::Config;
use crate::decimal::Decimal;
use crate::duty::{self, Agenda, Duty};
use crate::handlers;
use crate::operations::Watches;
use crate::store::{Limits, OpenError, Store, StoreError, StoreStats};
use crate::views::{
    Alarm, MeterReading, Notice, OddStop, Report, Station, Transaction, TransactionFilter, UnreadableMessage,
    Warning,
};
use bytestring::ByteString;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use switchboard_router::Router;
use switchboard_rpc::StationId;
use switchboard_sqlite::{Health, Saved};

/// A complete small central system. Clones share it.
#[derive(Clone, Debug)]
pub struct Central(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) accepted: Accepted,
    pub(crate) agenda: Agenda,
    pub(crate) watches: Arc<Watches>,
    /// Which process this is, among those that share the books.
    pub(crate) worker: String,
}

impl Central {
    /// Opens the books, makes them if there are none, and starts the threads that keep them.
    ///
    /// # Errors
    /// When the file belongs to another process, was written by a later version, is damaged, or cannot be opened.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_by(config, Clock::system(), true)
    }

    /// Puts new books in the place of damaged ones, with what can still be read of them; none if they are not damaged.
    /// The damaged ones are kept beside them.
    ///
    /// # Errors
    /// When another process has them, or nothing can be saved. Then everything is as it was.
    pub fn salvage(path: &Path) -> Result<Option<Saved>, OpenError> {
        Store::salvage(path, Clock::system().now_ms())
    }

    /// As [`open`](Self::open), with a clock of the caller's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_clock(config: Config, clock: Clock) -> Result<Self, OpenError> {
        Self::open_by(config, clock, false)
    }

    /// `corrects`: whether the clock of a database server counts rather than this one.
    fn open_by(config: Config, clock: Clock, corrects: bool) -> Result<Self, OpenError> {
        let limits = Limits {
            queue_calls_max: config.queue_calls_max,
            batch_calls_max: config.batch_calls_max,
            batch_time_max: config.batch_time_max,
            readers: config.readers,
            before_commit: |transaction, calls| reading_key::follow(transaction, calls),
        };
        let (store, corrected) = Store::open(&config.database, limits, &clock, corrects)?;
        // Of other processes that share the books.
        let accepted = Accepted { is_shared: corrected.is_some(), ..Accepted::default() };
        let clock = corrected.unwrap_or(clock);
        Ok(Self(Arc::new(Inner {
            store,
            config,
            clock,
            accepted,
            agenda: Agenda::default(),
            watches: Arc::default(),
            worker: worker_name(),
        })))
    }

    /// The handlers of every message that a station sends, in all versions. Handlers of your own go in front:
    /// `mine.otherwise(central.router())`.
    pub fn router(&self) -> Router {
        handlers::router().with_state(self.clone())
    }

    /// Writes what is queued and closes the books. Calls that come later are answered with an error.
    pub async fn close(&self) {
        self.0.store.close().await;
    }

    /// What the store has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.0.store.stats()
    }

    /// What is owed to stations and what became of it, the latest change first; of one station or of all, only what has
    /// not ended or everything.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn duties(
        &self,
        tenant: &str,
        station: Option<&str>,
        open: bool,
        limit: usize,
    ) -> Result<Vec<Duty>, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.map(str::to_owned));
        self.0.store.read(move |db| duty::list(db, &tenant, station.as_deref(), open, limit)).await
    }

    /// Lets the attendant know that something is owed to a station, after that was committed.
    pub(crate) fn nudge(&self, tenant: &ByteString, station: &StationId) {
        self.0.agenda.nudge(tenant, station);
    }

    /// Whether the books can be written, as far as is known.
    #[must_use]
    pub fn health(&self) -> &Health {
        self.0.store.health()
    }

    /// Writes something of no meaning, so that [`health`](Self::health) learns of a disk that has room again although
    /// no station says anything.
    pub async fn probe(&self) {
        let write = |db: &crate::store::Transaction<'_>| Ok(db.probe()?);
        // How it went is the health's to know.
        drop(self.0.store.write(write).await);
    }

    /// The highest generation of a connection whose call is in the books. Whoever gives generations must give higher ones
    /// (`design`: generations fence the past), also after it has lost its own memory of them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn generation_max(&self) -> Result<u64, StoreError> {
        self.0.store.read(|db| Ok(db.generation_max()?)).await
    }

    /// Which books these are, if several workers may have them: none of a file.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn identity(&self) -> Result<Option<String>, StoreError> {
        self.0.store.read(|db| Ok(db.identity()?)).await
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            unknown_tokens: self.0.config.unknown_tokens,
            refuse_concurrent: self.0.config.refuse_concurrent,
        }
    }

    /// All stations that ever sent a message, in order of tenant and identity.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn stations(&self) -> Result<Vec<Station>, StoreError> {
        self.0.store.read(query::stations).await
    }

    /// Transactions, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn transactions(&self, filter: TransactionFilter) -> Result<Vec<Transaction>, StoreError> {
        self.0.store.read(move |db| query::transactions(db, &filter)).await
    }

    /// One transaction, by its number in the books.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn transaction(&self, id: i64) -> Result<Option<Transaction>, StoreError> {
        self.0.store.read(move |db| query::transaction(db, id)).await
    }

    /// The energy of a transaction so far in Wh, exactly; none if there is no such transaction or no reading of it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn meter_total(&self, id: i64) -> Result<Option<Decimal>, StoreError> {
        Ok(self.transaction(id).await?.and_then(|transaction| transaction.energy))
    }

    /// The readings of a transaction, in order of time.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn readings(&self, id: i64) -> Result<Vec<MeterReading>, StoreError> {
        self.0
            .store
            .read(move |db| match query::station_of(db, id)? {
                Some(station) => query::readings(db, station, id),
                None => Ok(Vec::new()),
            })
            .await
    }

    /// The readings that a station sent under a transactionId that is not in the books, in order of time; those outside
    /// of transactions under 0.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn loose_readings(
        &self,
        tenant: &str,
        station: &str,
        claimed: i64,
    ) -> Result<Vec<MeterReading>, StoreError> {
        self.of_station(tenant, station, Vec::new(), move |db, number| query::readings(db, number, claimed))
            .await
    }

    /// What people should look at, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn alarms(&self, limit: usize) -> Result<Vec<Alarm>, StoreError> {
        self.0.store.read(move |db| query::alarms(db, limit)).await
    }

    /// What was forgiven when messages were read, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn warnings(&self, limit: usize) -> Result<Vec<Warning>, StoreError> {
        self.0.store.read(move |db| query::warnings(db, limit)).await
    }

    /// StopTransactions that ended nothing, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn odd_stops(&self, limit: usize) -> Result<Vec<OddStop>, StoreError> {
        self.0.store.read(move |db| query::odd_stops(db, limit)).await
    }

    /// Messages that could not be read, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn unreadable(&self, limit: usize) -> Result<Vec<UnreadableMessage>, StoreError> {
        self.0.store.read(move |db| query::unreadable(db, limit)).await
    }

    /// Notifications of a station, of one action or of all, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn notices(
        &self,
        tenant: &str,
        station: &str,
        action: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Notice>, StoreError> {
        let action = action.map(str::to_owned);
        self.of_station(tenant, station, Vec::new(), move |db, number| {
            query::notices(db, number, action.as_deref(), limit)
        })
        .await
    }

    /// An answer of a station that comes in parts, by the action and the number of the request.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn report(
        &self,
        tenant: &str,
        station: &str,
        action: &str,
        request: i64,
    ) -> Result<Report, StoreError> {
        let action = action.to_owned();
        let empty = Report { parts: Vec::new(), complete: false };
        self.of_station(tenant, station, empty, move |db, number| query::report(db, number, &action, request))
            .await
    }

    pub(crate) async fn of_station<R: Send + 'static>(
        &self,
        tenant: &str,
        station: &str,
        otherwise: R,
        read: impl FnOnce(&crate::store::Connection, i64) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.to_owned());
        self.0
            .store
            .read(move |db| match query::station_number(db, &tenant, &station)? {
                Some(number) => read(db, number),
                None => Ok(otherwise),
            })
            .await
    }
}

/// A name that no process had before.
fn worker_name() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Stations whose registration is known to be accepted, so that what needs nothing else from the books needs no look
/// into them.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    stations: RwLock<HashMap<(ByteString, StationId), i64>>,
    /// Whether other processes answer boots as well. Then what is known here is soon old.
    is_shared: bool,
}

/// How long a station counts as accepted that may have been answered otherwise by another process.
const ACCEPTED_MS: i64 = 5_000;

/// Beyond this the memory starts anew; it only saves look-ups.
const ACCEPTED_MAX: usize = 100_000;

impl Accepted {
    pub(crate) fn contains(&self, tenant: &ByteString, station: &StationId, clock: &Clock) -> bool {
        let accepted = self.stations.read().unwrap_or_else(PoisonError::into_inner);
        let noted_ms = accepted.get(&(tenant.clone(), station.clone()));
        noted_ms.is_some_and(|noted_ms| !self.is_shared || clock.now_ms() - noted_ms < ACCEPTED_MS)
    }

    pub(crate) fn note(&self, tenant: &ByteString, station: &StationId, clock: &Clock, is_accepted: bool) {
        let mut accepted = self.stations.write().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), station.clone());
        if is_accepted {
            if accepted.len() >= ACCEPTED_MAX {
                accepted.clear();
            }
            accepted.insert(key, clock.now_ms());
        } else {
            accepted.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Central, Config};
    use bytestring::ByteString;
    use switchboard_router::Context;
    use switchboard_rpc::{StationId, Version};

    async fn answer(central: &Central, seq: u64, action: &str, payload: &str) -> String {
        let mut context = Context::new(StationId::new("CP1", 48).unwrap(), Version::V16);
        (context.generation, context.seq) = (1, seq);
        let frame = ByteString::from(format!(r#"[2,"1","{action}",{payload}]"#));
        let answer = central.router().answer(&context, frame).await;
        answer.frame.map_or_else(String::new, |frame| String::from_utf8(frame.to_vec()).unwrap())
    }

    async fn quota(central: &Central, pages: i64) {
        let set = move |transaction: &crate::store::Transaction<'_>| {
            Ok(transaction.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
        };
        central.0.store.write(set).await.unwrap();
    }

    #[test]
    fn of_processes_that_share_the_books_the_servers_clock_counts() {
        use crate::{Clock, Database};
        use switchboard_testkit::servers::Postgres;
        let Some(server) = Postgres::shared("the server's clock").unwrap() else { return };
        let database = Database::parse(&server.database().unwrap()).unwrap();
        let system = Clock::system();
        let hour_ms = 3_600_000;
        let ahead = Clock::new(move || system.now_ms() + hour_ms);
        let central = Central::open_by(Config::with(database), ahead, true).unwrap();
        let off_ms = central.0.clock.now_ms().abs_diff(Clock::system().now_ms());
        assert!(off_ms < 60_000, "{off_ms}");
    }

    #[tokio::test]
    async fn a_full_disk_fails_what_must_be_kept_until_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let central = Central::open(Config::at(folder.path().join("central.db"))).unwrap();
        let start = |minute: i64| {
            format!(
                r#"{{"connectorId":1,"idTag":"TAG","timestamp":"2026-01-01T10:{minute:02}:00Z","meterStart":0}}"#
            )
        };
        let begun = answer(&central, 1, "StartTransaction", &start(0)).await;
        assert!(begun.starts_with(r#"[3,"1","#), "{begun}");

        quota(&central, 1).await;
        let csr = "x".repeat(100_000);
        let large = format!(r#"{{"vendorId":"com.example","data":"{csr}"}}"#);
        let refused = answer(&central, 2, "DataTransfer", &large).await;
        assert_eq!(refused, "", "a refusal would be the end of the message");
        assert!(central.health().trouble().unwrap().contains("full"));
        // What needs no room is served.
        assert!(answer(&central, 3, "Heartbeat", "{}").await.starts_with("[3,"));
        assert!(answer(&central, 4, "Authorize", r#"{"idTag":"TAG"}"#).await.starts_with("[3,"));

        quota(&central, 1_000_000).await;
        // The station tries again, and what was answered before is still there.
        assert!(answer(&central, 5, "DataTransfer", &large).await.starts_with("[3,"));
        let again = answer(&central, 6, "StartTransaction", &start(0)).await;
        assert_eq!(again, begun);
        assert_eq!(central.notices("default", "CP1", None, 10).await.unwrap().len(), 1);
        assert_eq!(central.health().trouble(), None);
    }
}
