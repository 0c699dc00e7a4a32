//! The directory itself.

use crate::{
    bucket::{Bucket, Fault, Written},
    keys,
    records::{Registered, Station},
};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{
    future::BoxFuture,
    stream::{self, StreamExt as _, TryStreamExt as _},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};
use switchboard_bus::{Connect, ConnectError, ConnectionKey, OutcomeKind, Registration};
use switchboard_directory::{
    Account, Claim, Directory, DirectoryError, Enqueued, Given, JournalEntry, Location, OutboxEntry,
    PasswordHash, RefusedEntry, StationKey, StationRecord, Terms,
};
use switchboard_nats::{Line, SCHEMES};
use switchboard_rpc::StationId;

/// A directory for several processes in a NATS key-value bucket, from server 2.9 with JetStream on.
///
/// It keeps neither outbox nor journal: [`keeps`](Directory::keeps) is false, what would put something into them fails
/// with [`DirectoryError::NotKept`], and what looks into them finds nothing. A bucket `NAME` has a second one beside it,
/// `NAME-leases`, whose keys are forgotten after an hour.
#[derive(Debug)]
pub struct NatsKv {
    line: Line,
    bucket: Bucket,
    leases: Bucket,
    given: Given,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, DirectoryError>>;

impl NatsKv {
    /// Begins to connect to endpoints like `nats://host/BUCKET`, and goes on trying for good; while the server is away
    /// everything fails with [`DirectoryError::Away`]. With `?replicas=3` a cluster keeps so many copies. On a tokio
    /// runtime.
    ///
    /// # Errors
    /// When this configuration can never work.
    #[expect(clippy::needless_pass_by_value, reason = "as all drivers are made")]
    pub fn connect(connect: Connect) -> Result<Self, ConnectError> {
        let endpoints = connect.endpoints(SCHEMES)?;
        let Some(first) = endpoints.first() else { return Err(no_bucket(&connect)) };
        let name = first.path.trim_matches('/');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(no_bucket(&connect));
        }
        let replicas = match first.parameter("replicas").map(str::parse) {
            None => 1,
            Some(Ok(replicas @ 1..=5)) => replicas,
            Some(_) => {
                return Err(ConnectError::Url {
                    url: first.to_string(),
                    reason: "replicas is a number from 1 to 5".to_owned(),
                });
            }
        };
        let line = Line::connect(&connect)?;
        let leases = format!("{name}-leases");
        Ok(Self {
            line,
            bucket: Bucket::new(name.to_owned(), replicas, None),
            leases: Bucket::new(leases, replicas, Some(LEASES_AGE_MAX)),
            given: Given::default(),
        })
    }

    /// A record, and when it was written.
    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<(Option<T>, u64), DirectoryError> {
        let entry = self.bucket.get(&self.line, key).await?;
        let record = entry.value.map(|value| serde_json::from_slice(&value)).transpose();
        let record = record.map_err(|_| DirectoryError::Damaged { detail: format!("the value of {key}") })?;
        Ok((record, entry.sequence))
    }

    /// Changes a station's record until nobody has come in between. None: there is nothing to change.
    async fn change<R>(
        &self,
        key: &StationKey,
        mut change: impl FnMut(&mut Station) -> Option<R>,
    ) -> Result<Option<R>, DirectoryError> {
        let name = keys::of(keys::STATION, key);
        let mut pause = PAUSE_MIN;
        loop {
            let (record, sequence) = self.read::<Station>(&name).await?;
            let mut record = record.unwrap_or_default();
            let Some(outcome) = change(&mut record) else { return Ok(None) };
            let value = json(&record)?;
            if self.bucket.replace(&self.line, &name, &value, sequence).await? == Written::Done {
                return Ok(Some(outcome));
            }
            // Those who meet at one station step aside for different times.
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Until when a gateway is there.
    async fn lease(&self, gateway: &str) -> Result<i64, DirectoryError> {
        let entry = self.leases.get(&self.line, &keys::lease(gateway)).await?;
        let until = entry.value.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok());
        Ok(until.unwrap_or(0))
    }

    async fn alive(&self, location: Location, now_ms: i64) -> Result<Option<Location>, DirectoryError> {
        let until = self.lease(&location.connection.gateway).await?;
        Ok((until > now_ms).then_some(location))
    }

    async fn record(&self, key: &StationKey) -> Result<Option<StationRecord>, DirectoryError> {
        let (station, account) = (keys::of(keys::STATION, key), keys::of(keys::ACCOUNT, key));
        let (station, account) =
            futures_util::future::try_join(self.read::<Station>(&station), self.read::<Registered>(&account))
                .await?;
        let station = station.0.unwrap_or_default();
        if account.0.is_none() && station.seen_ms.is_none() {
            return Ok(None);
        }
        Ok(Some(StationRecord {
            key: key.clone(),
            registered: account.0.is_some(),
            has_password: account.0.is_some_and(|account| account.password.is_some()),
            location: station.location(),
            registration: station.registration(),
            seen_ms: station.seen_ms,
        }))
    }

    async fn page(
        &self,
        tenant: &str,
        after: Option<&StationId>,
        limit: usize,
        now_ms: i64,
    ) -> Result<Vec<StationRecord>, DirectoryError> {
        let mut ids = BTreeSet::new();
        for kind in [keys::STATION, keys::ACCOUNT] {
            let names = self.bucket.keys(&self.line, &keys::of_tenant(kind, tenant)).await?;
            let stations = names.iter().filter_map(|name| keys::station(name));
            ids.extend(stations.filter(|station| after.is_none_or(|after| station > after)));
        }
        let records = stream::iter(ids)
            .map(|station| async move {
                let key = StationKey { tenant: tenant.into(), station };
                self.record(&key).await
            })
            .buffered(LOOKS_AT_ONCE)
            // One that has only a registration was never here.
            .try_filter_map(|record| std::future::ready(Ok(record)))
            .take(limit);
        let mut records: Vec<StationRecord> = records.try_collect().await?;
        let mut leases: HashMap<ByteString, i64> = HashMap::new();
        for record in &mut records {
            let Some(location) = record.location.take() else { continue };
            let gateway = &location.connection.gateway;
            let until = match leases.get(gateway) {
                Some(until) => *until,
                None => {
                    let until = self.lease(gateway).await?;
                    leases.insert(gateway.clone(), until);
                    until
                }
            };
            record.location = (until > now_ms).then_some(location);
        }
        Ok(records)
    }
}

impl Directory for NatsKv {
    fn claim<'a>(
        &'a self,
        key: &'a StationKey,
        gateway: &'a ByteString,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, Claim> {
        Box::pin(async move {
            let claim = self.change(key, |station| {
                let previous = station.claim(gateway, terms, now_ms);
                Some(Claim { generation: station.generation, previous, registration: station.registration() })
            });
            claim
                .await?
                .ok_or_else(|| DirectoryError::Damaged { detail: "a claim without a record".to_owned() })
        })
    }

    fn release<'a>(&'a self, key: &'a StationKey, generation: u64, now_ms: i64) -> Answer<'a, ()> {
        Box::pin(async move {
            let release = self.change(key, |station| {
                if station.generation != generation {
                    return None;
                }
                station.connection.take()?;
                station.seen_ms = Some(now_ms);
                Some(())
            });
            release.await.map(drop)
        })
    }

    fn locate<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<Location>> {
        Box::pin(async move {
            let (station, _) = self.read::<Station>(&keys::of(keys::STATION, key)).await?;
            match station.and_then(|station| station.location()) {
                Some(location) => self.alive(location, now_ms).await,
                None => Ok(None),
            }
        })
    }

    fn restore<'a>(
        &'a self,
        key: &'a StationKey,
        connection: &'a ConnectionKey,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            let restored =
                self.change(key, |station| station.restore(connection, terms, now_ms).then_some(()));
            Ok(restored.await?.is_some())
        })
    }

    fn gateway_lease<'a>(&'a self, gateway: &'a ByteString, until_ms: i64) -> Answer<'a, bool> {
        Box::pin(async move {
            let key = keys::lease(gateway);
            let found = Some(self.lease(gateway).await?).filter(|found| *found > 0);
            if until_ms > 0 {
                self.leases.put(&self.line, &key, until_ms.to_string().as_bytes()).await?;
            } else {
                self.leases.remove(&self.line, &key).await?;
            }
            Ok(self.given.renewed(gateway, found, until_ms))
        })
    }

    fn stations<'a>(
        &'a self,
        tenant: &'a str,
        after: Option<&'a StationId>,
        limit: usize,
        now_ms: i64,
    ) -> Answer<'a, Vec<StationRecord>> {
        Box::pin(self.page(tenant, after, limit, now_ms))
    }

    fn station<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<StationRecord>> {
        Box::pin(async move {
            let Some(mut record) = self.record(key).await? else { return Ok(None) };
            if let Some(location) = record.location.take() {
                record.location = self.alive(location, now_ms).await?;
            }
            Ok(Some(record))
        })
    }

    fn set_registration<'a>(&'a self, key: &'a StationKey, registration: Registration) -> Answer<'a, ()> {
        Box::pin(async move {
            let change = self.change(key, |station| {
                station.register(registration);
                Some(())
            });
            change.await.map(drop)
        })
    }

    fn account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, Option<Account>> {
        Box::pin(async move {
            let (account, _) = self.read::<Registered>(&keys::of(keys::ACCOUNT, key)).await?;
            Ok(account.map(|account| Account {
                key: key.clone(),
                password: account.password.map(PasswordHash),
                created_ms: account.created_ms,
            }))
        })
    }

    fn put_account(&self, account: Account) -> Answer<'_, ()> {
        Box::pin(async move {
            let key = keys::of(keys::ACCOUNT, &account.key);
            let password = account.password.map(|hash| hash.0);
            let value = json(&Registered { password, created_ms: account.created_ms })?;
            Ok(self.bucket.put(&self.line, &key, &value).await?)
        })
    }

    fn remove_account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, bool> {
        Box::pin(async move { Ok(self.bucket.remove(&self.line, &keys::of(keys::ACCOUNT, key)).await?) })
    }

    fn account_count(&self) -> Answer<'_, u64> {
        Box::pin(async move {
            let names = self.bucket.keys(&self.line, &format!("{}.>", keys::ACCOUNT)).await?;
            Ok(u64::try_from(names.len()).unwrap_or(u64::MAX))
        })
    }

    fn keeps(&self) -> bool {
        false
    }

    fn outbox_put(&self, _entry: OutboxEntry) -> Answer<'_, Enqueued> {
        not_kept("commands that wait for their station, or have a key")
    }

    fn outbox_waiting<'a>(
        &'a self,
        _key: &'a StationKey,
        _now_ms: i64,
        _limit: usize,
    ) -> Answer<'a, Vec<OutboxEntry>> {
        empty()
    }

    fn outbox_sending<'a>(
        &'a self,
        _key: &'a StationKey,
        _id: &'a ByteString,
        _generation: u64,
    ) -> Answer<'a, bool> {
        empty()
    }

    fn outbox_put_back<'a>(
        &'a self,
        _key: &'a StationKey,
        _id: &'a ByteString,
        _generation: u64,
    ) -> Answer<'a, ()> {
        empty()
    }

    fn outbox_end<'a>(
        &'a self,
        _key: &'a StationKey,
        _id: &'a ByteString,
        _outcome: OutcomeKind,
        _frame: Bytes,
        _now_ms: i64,
    ) -> Answer<'a, ()> {
        empty()
    }

    fn outbox_get<'a>(
        &'a self,
        _key: &'a StationKey,
        _id: &'a ByteString,
    ) -> Answer<'a, Option<OutboxEntry>> {
        empty()
    }

    fn outbox_sweep(&self, _now_ms: i64, _limit: usize) -> Answer<'_, Vec<OutboxEntry>> {
        empty()
    }

    fn journal_append(&self, _entry: JournalEntry) -> Answer<'_, u64> {
        not_kept("calls that are answered before they are processed")
    }

    fn journal_read<'a>(
        &'a self,
        _key: Option<&'a StationKey>,
        _after: u64,
        _limit: usize,
    ) -> Answer<'a, Vec<JournalEntry>> {
        empty()
    }

    fn journal_remove(&self, _id: u64) -> Answer<'_, ()> {
        empty()
    }

    fn journal_refuse<'a>(&'a self, _id: u64, _why: &'a str, _now_ms: i64) -> Answer<'a, ()> {
        empty()
    }

    fn journal_refused(&self, _after: u64, _limit: usize) -> Answer<'_, Vec<RefusedEntry>> {
        empty()
    }

    fn journal_settle(&self, _id: u64) -> Answer<'_, bool> {
        empty()
    }

    fn journal_count<'a>(&'a self, _key: Option<&'a StationKey>) -> Answer<'a, u64> {
        empty()
    }

    fn agree<'a>(&'a self, name: &'a str, value: &'a str) -> Answer<'a, String> {
        Box::pin(async move {
            let key = keys::agreement(name);
            loop {
                let entry = self.bucket.get(&self.line, &key).await?;
                if let Some(agreed) = entry.value {
                    return Ok(String::from_utf8_lossy(&agreed).into_owned());
                }
                let written = self.bucket.replace(&self.line, &key, value.as_bytes(), entry.sequence).await?;
                if written == Written::Done {
                    return Ok(value.to_owned());
                }
            }
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.line.close().await;
            Ok(())
        })
    }
}

fn json(record: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(record).map_err(|_| Fault::Unreadable)
}

/// What a place says that nothing was ever put into.
fn empty<'a, T: Default + Send + 'a>() -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok(T::default())))
}

fn not_kept<'a, T: Send + 'a>(what: &'static str) -> Answer<'a, T> {
    Box::pin(std::future::ready(Err(DirectoryError::NotKept { what })))
}

fn no_bucket(connect: &Connect) -> ConnectError {
    let url = format!("{connect:?}");
    let url = url.split('"').nth(1).unwrap_or_default().to_owned();
    ConnectError::Url {
        url,
        reason: "it names no bucket of letters, digits, '-' and '_': nats://host:4222/BUCKET".to_owned(),
    }
}

/// Leases are renewed every second or so.
const LEASES_AGE_MAX: Duration = Duration::from_secs(3600);
/// How many records are asked for at once.
const LOOKS_AT_ONCE: usize = 32;
/// How long those who meet at one station step aside.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
