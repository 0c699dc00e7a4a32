//! A central system in a folder of its own, and stations that talk to it through the router alone.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "helpers of tests")]

use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use switchboard_central::{
    AlarmKind, Central, Clock, Config, Database, Tag, TokenStatus, Transaction, TransactionFilter,
};
use switchboard_router::{Answer, Context, Router};
use switchboard_rpc::{StationId, Version};
use switchboard_testkit::servers::Postgres;
use tempfile::TempDir;

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW_MS: i64 = 1_767_225_600_000;

pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) database: Database,
    pub(crate) central: Central,
    pub(crate) router: Router,
    pub(crate) now_ms: Arc<AtomicI64>,
    generations: AtomicU64,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now_ms = Arc::new(AtomicI64::new(NOW_MS));
        let sqlite = || format!("sqlite:{}", folder.path().join("central.db").display());
        let database = Database::parse(&postgres().unwrap_or_else(sqlite)).unwrap();
        let central = open(&database, &now_ms, change);
        let router = central.router();
        router.check().unwrap();
        Self { folder, database, central, router, now_ms, generations: AtomicU64::new(1) }
    }

    /// Closes the books and opens them again.
    pub(crate) async fn reopened(self, change: impl FnOnce(&mut Config)) -> Self {
        self.central.close().await;
        let central = open(&self.database, &self.now_ms, change);
        let router = central.router();
        Self { central, router, ..self }
    }

    pub(crate) fn pass(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// A new connection of a station.
    pub(crate) fn connect(&self, identity: &str, version: Version) -> Station<'_> {
        let mut context = Context::new(StationId::new(identity.to_owned(), 48).unwrap(), version);
        context.generation = self.generations.fetch_add(1, Ordering::Relaxed);
        Station { site: self, context, seq: AtomicU64::new(0) }
    }

    pub(crate) fn v16(&self, identity: &str) -> Station<'_> {
        self.connect(identity, Version::V16)
    }

    /// A station of 2.0.1 that has booted.
    pub(crate) async fn v201(&self, identity: &str) -> Station<'_> {
        self.v2x(identity, Version::V201).await
    }

    /// A station of 2.0.1 or 2.1 that has booted.
    pub(crate) async fn v2x(&self, identity: &str, version: Version) -> Station<'_> {
        let station = self.connect(identity, version);
        let boot = json!({"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V"}});
        assert_eq!(station.call("BootNotification", boot).await["status"], "Accepted");
        station
    }

    /// Registers a tag.
    pub(crate) async fn tag(&self, tenant: &str, tag: &str, status: TokenStatus, expires_ms: Option<i64>) {
        let mut tag = Tag::new(tag).unwrap();
        (tag.status, tag.expires_ms) = (status, expires_ms);
        self.central.put_tags(tenant, vec![tag]).await.unwrap();
    }

    pub(crate) async fn transactions(&self) -> Vec<Transaction> {
        let mut filter = TransactionFilter::default();
        filter.limit = usize::MAX;
        self.central.transactions(filter).await.unwrap()
    }

    /// The kinds of all alarms with how often each was raised, in order of kind.
    pub(crate) async fn alarms(&self) -> Vec<(AlarmKind, u64)> {
        let mut alarms: Vec<_> = self
            .central
            .alarms(1000)
            .await
            .unwrap()
            .into_iter()
            .map(|alarm| (alarm.kind, alarm.count))
            .collect();
        alarms.sort_by_key(|(kind, _)| kind.as_str());
        alarms
    }
}

/// Whether the tests run over PostgreSQL: the test `postgres` is made of the others.
const ON_POSTGRES: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"postgres");

/// A database of its own, where there is PostgreSQL. The first one makes the tables, and the others are copies of it.
fn postgres() -> Option<String> {
    static FIRST: OnceLock<()> = OnceLock::new();
    let server = if ON_POSTGRES { Postgres::shared("postgres").unwrap()? } else { return None };
    FIRST.get_or_init(|| {
        let url = format!("postgres://postgres@{}/template1", server.address());
        let central = open(&Database::parse(&url).unwrap(), &Arc::new(AtomicI64::new(NOW_MS)), |_| ());
        drop(central);
        // A database is copied only while nobody is connected to it.
        let users = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'template1'";
        while server.psql("postgres", users).unwrap() != "0" {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    Some(server.database().unwrap())
}

fn open(database: &Database, now_ms: &Arc<AtomicI64>, change: impl FnOnce(&mut Config)) -> Central {
    let mut config = Config::with(database.clone());
    change(&mut config);
    let now_ms = Arc::clone(now_ms);
    Central::open_with_clock(config, Clock::new(move || now_ms.load(Ordering::Relaxed))).unwrap()
}

/// One connection of a station.
pub(crate) struct Station<'a> {
    pub(crate) site: &'a Site,
    pub(crate) context: Context,
    seq: AtomicU64,
}

impl Station<'_> {
    /// The context of the next call.
    pub(crate) fn next(&self) -> Context {
        let mut context = self.context.clone();
        context.seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
        context
    }

    /// A new call, and the payload that it is answered with.
    pub(crate) async fn call(&self, action: &str, payload: Value) -> Value {
        self.call_as(&self.next(), action, &payload).await
    }

    /// As `call`, with a payload that is no valid JSON value of ours, and a context of the caller's.
    pub(crate) async fn call_as(&self, context: &Context, action: &str, payload: &Value) -> Value {
        self.call_text(context, action, &payload.to_string()).await
    }

    pub(crate) async fn call_text(&self, context: &Context, action: &str, payload: &str) -> Value {
        let frame = self.frame(context, action, payload).await;
        assert_eq!(frame[0], 3, "{action} {payload} was answered with {frame}");
        frame[2].clone()
    }

    /// The whole frame of the answer; null for silence.
    pub(crate) async fn frame(&self, context: &Context, action: &str, payload: &str) -> Value {
        let answer = self.answer(context, action, payload).await;
        answer.frame.map_or(Value::Null, |frame| serde_json::from_slice(&frame).unwrap())
    }

    pub(crate) async fn answer(&self, context: &Context, action: &str, payload: &str) -> Answer {
        let id = format!("{}-{}", context.generation, context.seq);
        let frame = format!(r#"[2,"{id}","{action}",{payload}]"#);
        self.site.router.answer(context, frame.into()).await
    }

    /// The code of the CALLERROR that answers this.
    pub(crate) async fn refusal(&self, action: &str, payload: Value) -> String {
        let frame = self.frame(&self.next(), action, &payload.to_string()).await;
        assert_eq!(frame[0], 4, "{action} {payload} was answered with {frame}");
        frame[2].as_str().unwrap().to_owned()
    }

    pub(crate) async fn start(&self, payload: Value) -> i64 {
        let answer = self.call("StartTransaction", payload).await;
        let id = answer["transactionId"].as_i64().unwrap();
        assert!(id > 0 && i32::try_from(id).is_ok(), "{answer}");
        id
    }
}

pub(crate) fn start(connector: i64, token: &str, time: &str, meter: i64) -> Value {
    json!({"connectorId": connector, "idTag": token, "timestamp": time, "meterStart": meter})
}

pub(crate) fn stop(transaction: i64, time: &str, meter: i64) -> Value {
    json!({"transactionId": transaction, "timestamp": time, "meterStop": meter})
}

pub(crate) fn meter(connector: i64, transaction: Option<i64>, time: &str, samples: Value) -> Value {
    let mut payload =
        json!({"connectorId": connector, "meterValue": [{"timestamp": time, "sampledValue": samples}]});
    if let Some(transaction) = transaction {
        payload["transactionId"] = transaction.into();
    }
    payload
}

pub(crate) fn event(kind: &str, transaction: &str, seq: i64, time: &str) -> Value {
    json!({
        "eventType": kind,
        "timestamp": time,
        "triggerReason": "Authorized",
        "seqNo": seq,
        "transactionInfo": {"transactionId": transaction},
    })
}

pub(crate) fn with(mut payload: Value, members: Value) -> Value {
    for (name, value) in members.as_object().unwrap() {
        payload[name] = value.clone();
    }
    payload
}
