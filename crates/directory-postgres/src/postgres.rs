//! The directory itself: which lane does what.

use crate::batch::{Kind, Task};
use crate::config::{Config, ConnectError};
use crate::fault::{Fault, away};
use crate::lane::{Lane, Message, PATIENCE};
use crate::session::Session;
use crate::standing::{Standing, State};
use crate::{agreement, journal, outbox, stations};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;
use switchboard_bus::{ConnectionKey, OutcomeKind, Registration};
use switchboard_directory::{
    Account, Claim, Directory, DirectoryError, Enqueued, Given, JournalEntry, Location, OutboxEntry,
    RefusedEntry, StationKey, StationRecord, Terms,
};
use switchboard_rpc::StationId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// A directory in PostgreSQL, which any number of processes share.
///
/// # What is durable
/// Everything that was answered with `Ok` has been committed with `synchronous_commit = on`. Operations that come together
/// go out together and share one commit.
///
/// # When the server is away
/// It is connected to again, with pauses that grow to a second. What is asked meanwhile waits for two seconds, and then
/// fails as [`DirectoryError::Away`]; once it has been away for that long, at once. What was under way when a connection
/// was lost is asked again where that changes nothing.
///
/// # Time
/// Leases and expiries are judged by the server's clock: the caller's times are moved by as much as its clock differs, if
/// that is more than a quarter of a second.
///
/// # Bounds
/// 256 waiting commands per station, outcomes for a day; stations and the journal as the disk allows. 1024 operations may
/// wait per connection; whoever comes with one more waits to hand it over.
#[derive(Debug)]
pub struct Postgres {
    /// The first is for leases, and for what concerns no single station.
    lanes: Vec<mpsc::Sender<Message>>,
    standing: Arc<Standing>,
    given: Given,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, DirectoryError>>;

impl Postgres {
    /// Begins to connect, and returns at once: a server that is not there is waited for. To be called within a runtime.
    ///
    /// # Errors
    /// When this configuration can never work.
    #[expect(clippy::needless_pass_by_value, reason = "as all drivers have it")]
    pub fn connect(config: Config) -> Result<Self, ConnectError> {
        let settings = Arc::new(config.settings()?);
        let connector = settings.connector.clone();
        let standing = Arc::new(Standing::new(settings.target.clone()));
        let lanes = (0..config.connections.clamp(2, CONNECTIONS_MAX))
            .map(|_| {
                let (sender, queue) = mpsc::channel(QUEUE_MAX);
                let lane = Lane::new(Arc::clone(&settings), connector.clone(), Arc::clone(&standing), queue);
                tokio::spawn(lane.work());
                sender
            })
            .collect();
        Ok(Self { lanes, standing, given: Given::default() })
    }

    /// Whether the database is there, and when that changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.standing.watch()
    }

    /// Waits until the database is there.
    ///
    /// # Errors
    /// When it is there and cannot be used, as it belongs to a newer program; or was closed.
    pub async fn ready(&self) -> Result<(), DirectoryError> {
        let mut state = self.standing.watch();
        let ready = state.wait_for(|state| !matches!(state, State::Waiting | State::Away)).await;
        match ready.map(|state| state.clone()) {
            Ok(State::There) => Ok(()),
            _ => Err(self.standing.refusal()),
        }
    }

    /// Has an operation done by the lane of a station, or by the first one.
    fn call<T, R>(&self, key: Option<&StationKey>, kind: Kind, run: R) -> Answer<'_, T>
    where
        T: Send + 'static,
        R: Fn(Arc<Session>, bool) -> BoxFuture<'static, Result<T, Fault>> + Send + 'static,
    {
        let lane = self.lane(key);
        let key = key.cloned();
        Box::pin(async move {
            let Some(lane) = lane else { return Err(away("it was closed")) };
            let (answer, answered) = oneshot::channel();
            let deadline = Instant::now() + PATIENCE;
            let task = Task { key, kind, deadline, run, again: false, value: None, answer };
            // The bound of the queue is as much waiting as anybody is asked to do.
            match tokio::time::timeout(PATIENCE, lane.send(Message::Job(Box::new(task)))).await {
                Ok(Ok(())) => answered.await.unwrap_or_else(|_| Err(away("it was closed"))),
                Ok(Err(_)) => Err(away("it was closed")),
                Err(_) => Err(away("it has more to do than it can")),
            }
        })
    }

    fn lane(&self, key: Option<&StationKey>) -> Option<&mpsc::Sender<Message>> {
        let (first, others) = self.lanes.split_first()?;
        let Some(key) = key else { return Some(first) };
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one(key);
        let place = usize::try_from(hash % u64::try_from(others.len().max(1)).unwrap_or(1)).unwrap_or(0);
        Some(others.get(place).unwrap_or(first))
    }
}

impl Directory for Postgres {
    fn claim<'a>(
        &'a self,
        key: &'a StationKey,
        gateway: &'a ByteString,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, Claim> {
        let (station, gateway) = (key.clone(), gateway.clone());
        self.call(Some(key), Kind::Writes, move |session, again| {
            Box::pin(stations::claim(session, station.clone(), gateway.clone(), terms, now_ms, again))
        })
    }

    fn release<'a>(&'a self, key: &'a StationKey, generation: u64, now_ms: i64) -> Answer<'a, ()> {
        let station = key.clone();
        self.call(Some(key), Kind::Writes, move |session, _| {
            Box::pin(stations::release(session, station.clone(), generation, now_ms))
        })
    }

    fn locate<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<Location>> {
        let station = key.clone();
        self.call(Some(key), Kind::Reads, move |session, _| {
            Box::pin(stations::locate(session, station.clone(), now_ms))
        })
    }

    fn restore<'a>(
        &'a self,
        key: &'a StationKey,
        connection: &'a ConnectionKey,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, bool> {
        let (station, connection) = (key.clone(), connection.clone());
        self.call(Some(key), Kind::Writes, move |session, _| {
            Box::pin(stations::restore(session, station.clone(), connection.clone(), terms, now_ms))
        })
    }

    fn gateway_lease<'a>(&'a self, gateway: &'a ByteString, until_ms: i64) -> Answer<'a, bool> {
        let name = gateway.clone();
        let renewing = self.call(None, Kind::Writes, move |session, _| {
            Box::pin(stations::lease(session, name.clone(), until_ms))
        });
        Box::pin(async move {
            let (found, given_ms) = renewing.await?;
            Ok(self.given.renewed(gateway, found, if until_ms > 0 { given_ms } else { 0 }))
        })
    }

    fn stations<'a>(
        &'a self,
        tenant: &'a str,
        after: Option<&'a StationId>,
        limit: usize,
        now_ms: i64,
    ) -> Answer<'a, Vec<StationRecord>> {
        let (tenant, after) = (ByteString::from(tenant), after.cloned());
        self.call(None, Kind::Reads, move |session, _| {
            Box::pin(stations::list(session, tenant.clone(), after.clone(), limit, now_ms))
        })
    }

    fn station<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<StationRecord>> {
        let station = key.clone();
        self.call(Some(key), Kind::Reads, move |session, _| {
            Box::pin(stations::one(session, station.clone(), now_ms))
        })
    }

    fn set_registration<'a>(&'a self, key: &'a StationKey, registration: Registration) -> Answer<'a, ()> {
        let station = key.clone();
        self.call(Some(key), Kind::Writes, move |session, _| {
            Box::pin(stations::set_registration(session, station.clone(), registration))
        })
    }

    fn account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, Option<Account>> {
        let station = key.clone();
        self.call(Some(key), Kind::Reads, move |session, _| {
            Box::pin(stations::account(session, station.clone()))
        })
    }

    fn put_account(&self, account: Account) -> Answer<'_, ()> {
        let key = account.key.clone();
        self.call(Some(&key), Kind::Writes, move |session, _| {
            Box::pin(stations::put_account(session, account.clone()))
        })
    }

    fn remove_account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, bool> {
        let station = key.clone();
        self.call(Some(key), Kind::WritesOnce, move |session, _| {
            Box::pin(stations::remove_account(session, station.clone()))
        })
    }

    fn account_count(&self) -> Answer<'_, u64> {
        self.call(None, Kind::Reads, |session, _| Box::pin(stations::account_count(session)))
    }

    fn outbox_put(&self, entry: OutboxEntry) -> Answer<'_, Enqueued> {
        let key = entry.key.clone();
        self.call(Some(&key), Kind::WritesOnce, move |session, _| {
            Box::pin(outbox::put(session, entry.clone()))
        })
    }

    fn outbox_waiting<'a>(
        &'a self,
        key: &'a StationKey,
        now_ms: i64,
        limit: usize,
    ) -> Answer<'a, Vec<OutboxEntry>> {
        let station = key.clone();
        self.call(Some(key), Kind::Reads, move |session, _| {
            Box::pin(outbox::waiting(session, station.clone(), now_ms, limit))
        })
    }

    fn outbox_sending<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        generation: u64,
    ) -> Answer<'a, bool> {
        let (station, id) = (key.clone(), id.clone());
        self.call(Some(key), Kind::Writes, move |session, again| {
            Box::pin(outbox::sending(session, station.clone(), id.clone(), generation, again))
        })
    }

    fn outbox_put_back<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        generation: u64,
    ) -> Answer<'a, ()> {
        let (station, id) = (key.clone(), id.clone());
        self.call(Some(key), Kind::Writes, move |session, _| {
            Box::pin(outbox::put_back(session, station.clone(), id.clone(), generation))
        })
    }

    fn outbox_end<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        outcome: OutcomeKind,
        frame: Bytes,
        now_ms: i64,
    ) -> Answer<'a, ()> {
        let (station, id) = (key.clone(), id.clone());
        self.call(Some(key), Kind::Writes, move |session, _| {
            Box::pin(outbox::end(session, station.clone(), id.clone(), outcome, frame.clone(), now_ms))
        })
    }

    fn outbox_get<'a>(&'a self, key: &'a StationKey, id: &'a ByteString) -> Answer<'a, Option<OutboxEntry>> {
        let (station, id) = (key.clone(), id.clone());
        self.call(Some(key), Kind::Reads, move |session, _| {
            Box::pin(outbox::get(session, station.clone(), id.clone()))
        })
    }

    fn outbox_sweep(&self, now_ms: i64, limit: usize) -> Answer<'_, Vec<OutboxEntry>> {
        // What it gives out nobody else is given: if that is lost, those who wait find the ends in the outbox.
        self.call(None, Kind::WritesOnce, move |session, _| Box::pin(outbox::sweep(session, now_ms, limit)))
    }

    fn outbox_lately<'a>(
        &'a self,
        gateway: &'a ByteString,
        within: Duration,
        limit: usize,
    ) -> Answer<'a, Vec<StationKey>> {
        let gateway = gateway.clone();
        self.call(None, Kind::Reads, move |session, _| {
            Box::pin(outbox::lately(session, gateway.clone(), within, limit))
        })
    }

    fn journal_turn<'a>(&'a self, owner: &'a ByteString, until_ms: i64, now_ms: i64) -> Answer<'a, bool> {
        let owner = owner.clone();
        self.call(None, Kind::Writes, move |session, _| {
            Box::pin(journal::turn(session, owner.clone(), until_ms, now_ms))
        })
    }

    fn journal_append(&self, entry: JournalEntry) -> Answer<'_, u64> {
        let key = entry.key.clone();
        self.call(Some(&key), Kind::Writes, move |session, _| {
            Box::pin(journal::append(session, entry.clone()))
        })
    }

    fn journal_read<'a>(
        &'a self,
        key: Option<&'a StationKey>,
        after: u64,
        limit: usize,
    ) -> Answer<'a, Vec<JournalEntry>> {
        let station = key.cloned();
        self.call(key, Kind::Reads, move |session, _| {
            Box::pin(journal::read(session, station.clone(), after, limit))
        })
    }

    fn journal_remove(&self, id: u64) -> Answer<'_, ()> {
        self.call(None, Kind::Writes, move |session, _| Box::pin(journal::remove(session, id)))
    }

    fn journal_refuse<'a>(&'a self, id: u64, why: &'a str, now_ms: i64) -> Answer<'a, ()> {
        let why = ByteString::from(why);
        self.call(None, Kind::Writes, move |session, _| {
            Box::pin(journal::refuse(session, id, why.clone(), now_ms))
        })
    }

    fn journal_refused(&self, after: u64, limit: usize) -> Answer<'_, Vec<RefusedEntry>> {
        self.call(None, Kind::Reads, move |session, _| Box::pin(journal::refused(session, after, limit)))
    }

    fn journal_settle(&self, id: u64) -> Answer<'_, bool> {
        self.call(None, Kind::WritesOnce, move |session, _| Box::pin(journal::settle(session, id)))
    }

    fn journal_count<'a>(&'a self, key: Option<&'a StationKey>) -> Answer<'a, u64> {
        let station = key.cloned();
        self.call(key, Kind::Reads, move |session, _| Box::pin(journal::count(session, station.clone())))
    }

    fn agree<'a>(&'a self, name: &'a str, value: &'a str) -> Answer<'a, String> {
        let (name, value) = (ByteString::from(name), ByteString::from(value));
        self.call(None, Kind::Writes, move |session, _| {
            Box::pin(agreement::agree(session, name.clone(), value.clone()))
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            // Together: where the server is silent, each takes its time.
            futures_util::future::join_all(self.lanes.iter().map(async |lane| {
                let (closer, closed) = oneshot::channel();
                let sent = tokio::time::timeout(CLOSE_LIMIT, lane.send(Message::Close(closer))).await;
                if matches!(sent, Ok(Ok(()))) {
                    // Never answered: the sender is dropped when all is done.
                    drop(tokio::time::timeout(CLOSE_LIMIT, closed).await);
                }
            }))
            .await;
            self.standing.closed();
            Ok(())
        })
    }
}

/// How many operations may wait for a lane. One more waits outside, in its caller's task.
const QUEUE_MAX: usize = 1024;
const CONNECTIONS_MAX: usize = 64;
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
