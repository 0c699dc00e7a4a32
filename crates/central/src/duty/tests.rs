//! Duties with a line whose other end the test plays, and a clock that it owns.

use super::{At, DutyState, Fixed, Line, NewDuty, Order, list, owe};
use crate::{Central, Clock, Config, Database};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use switchboard_router::{Context, Outcome};
use switchboard_rpc::{StationId, Version};
use switchboard_testkit::servers::Postgres;

/// A line whose other end the test plays.
#[derive(Debug, Default)]
struct Played {
    spoken: Mutex<Option<Version>>,
    outcomes: Mutex<VecDeque<Outcome>>,
    got: Mutex<Vec<Order>>,
}

impl Line for Played {
    fn spoken<'a>(
        &'a self,
        _: &'a ByteString,
        _: &'a StationId,
    ) -> BoxFuture<'a, Result<Option<Version>, String>> {
        let spoken = *self.spoken.lock().unwrap();
        Box::pin(async move { Ok(spoken) })
    }

    fn call(&self, order: Order) -> BoxFuture<'_, Outcome> {
        self.got.lock().unwrap().push(order);
        let next = self.outcomes.lock().unwrap().pop_front();
        Box::pin(async move {
            match next {
                Some(outcome) => outcome,
                None => std::future::pending().await,
            }
        })
    }
}

struct Site {
    _folder: tempfile::TempDir,
    database: Database,
    central: Central,
    line: Arc<Played>,
    now_ms: Arc<AtomicI64>,
}

const STATION: &str = "CP1";

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now_ms = Arc::new(AtomicI64::new(1_000_000));
        let sqlite = || Database::Sqlite { path: folder.path().join("central.db") };
        let database = postgres().unwrap_or_else(sqlite);
        let central = open(&database, &now_ms);
        let line = Arc::new(Played::default());
        *line.spoken.lock().unwrap() = Some(Version::V16);
        Self { _folder: folder, database, central, line, now_ms }
    }

    /// As if the process had died and come again.
    async fn restarted(self) -> Self {
        self.central.close().await;
        if self.central.0.store.is_shared() {
            // Until then it may only be frozen.
            self.now_ms.fetch_add(11_000, Ordering::Relaxed);
        }
        self.again()
    }

    /// As another process that shares the books, or has them after this one.
    fn again(self) -> Self {
        let central = open(&self.database, &self.now_ms);
        Self { central, ..self }
    }

    async fn owe(&self, change: impl Fn(&mut NewDuty<'_>) + Send + 'static) {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let owed = move |transaction: &crate::store::Transaction<'_>| {
            let mut duty = NewDuty::new("default", STATION, "plain", "1");
            duty.fixed =
                Some(Fixed { version: Version::V16, action: "ClearCache", payload: "{}".to_owned() });
            change(&mut duty);
            owe(At { db: transaction, now_ms }, &duty)
        };
        self.central.0.store.write(owed).await.unwrap();
        self.central.nudge(&"default".into(), &station());
    }

    fn answers(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.line.outcomes.lock().unwrap().extend(outcomes);
    }

    fn sent(&self) -> usize {
        self.line.got.lock().unwrap().len()
    }

    async fn state(&self) -> (DutyState, u32) {
        let read = |db: &crate::store::Connection| list(db, "default", None, false, 10);
        let duty = self.central.0.store.read(read).await.unwrap().remove(0);
        (duty.state, duty.attempts)
    }

    async fn comes_to(&self, state: DutyState, attempts: u32) {
        let begun = clock();
        loop {
            let found = self.state().await;
            if found == (state, attempts) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{found:?}, not {state:?} after {attempts}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until so many have been handed to the line: the books say that one is being sent before it is.
    async fn comes_to_have_sent(&self, count: usize) {
        let begun = clock();
        while self.sent() < count {
            assert!(begun.elapsed() < Duration::from_secs(30), "{} sent, not {count}", self.sent());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn call(&self, seq: u64, action: &str, payload: &str) {
        let mut context = Context::new(station(), Version::V16);
        (context.generation, context.seq) = (1, seq);
        let frame = format!(r#"[2,"1","{action}",{payload}]"#);
        assert!(self.central.router().answer(&context, frame.into()).await.frame.is_some());
    }
}

/// An empty database, where the tests are those over PostgreSQL and it is there.
fn postgres() -> Option<Database> {
    if !module_path!().ends_with("on_postgres") {
        return None;
    }
    let server = Postgres::shared(module_path!()).unwrap()?;
    Some(Database::parse(&server.database().unwrap()).unwrap())
}

fn open(database: &Database, now_ms: &Arc<AtomicI64>) -> Central {
    let now_ms = Arc::clone(now_ms);
    let mut config = Config::with(database.clone());
    config.registration = switchboard_router::Registration::Accepted;
    Central::open_with_clock(config, Clock::new(move || now_ms.load(Ordering::Relaxed))).unwrap()
}

fn station() -> StationId {
    StationId::new(STATION, 48).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a deadline")]
fn clock() -> Instant {
    Instant::now()
}

fn answered() -> Outcome {
    Outcome::Answered(r#"{"status":"Accepted"}"#.into())
}

#[tokio::test]
async fn what_is_owed_to_a_station_that_is_away_is_sent_when_it_is_heard_again() {
    let site = Site::new();
    *site.line.spoken.lock().unwrap() = None;
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.owe(|_| ()).await;
    // It was looked for and is known to be away.
    while site.central.0.agenda.next_ms() != Some(1_000_000 + 60_000) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((site.sent(), site.state().await), (0, (DutyState::Open, 0)));
    *site.line.spoken.lock().unwrap() = Some(Version::V16);
    site.answers([answered()]);
    site.call(1, "Heartbeat", "{}").await;
    site.comes_to(DutyState::Done, 1).await;
    assert_eq!(site.sent(), 1);
    attendance.stop().await;
}

#[tokio::test]
async fn only_what_may_be_repeated_is_sent_again_after_silence() {
    let site = Site::new();
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.answers([Outcome::Unknown, answered(), Outcome::Unknown]);
    site.owe(|_| ()).await;
    site.comes_to(DutyState::Open, 1).await;
    site.now_ms.fetch_add(15_000, Ordering::Relaxed);
    site.comes_to(DutyState::Done, 2).await;
    site.owe(|duty| duty.repeatable = false).await;
    site.comes_to(DutyState::Unknown, 1).await;
    assert_eq!(site.sent(), 3);
    attendance.stop().await;
}

#[tokio::test]
async fn a_boot_ends_the_waiting_after_failures() {
    let site = Site::new();
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.answers([Outcome::Unknown, answered()]);
    site.owe(|_| ()).await;
    site.comes_to(DutyState::Open, 1).await;
    site.call(1, "BootNotification", r#"{"chargePointVendor":"V","chargePointModel":"M"}"#).await;
    site.comes_to(DutyState::Done, 2).await;
    attendance.stop().await;
}

#[tokio::test]
async fn what_a_station_refuses_is_not_asked_again() {
    let site = Site::new();
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    let refused = Outcome::Refused {
        code: "NotImplemented".into(),
        description: ByteString::new(),
        details: "{}".into(),
    };
    site.answers([refused]);
    site.owe(|_| ()).await;
    site.comes_to(DutyState::Refused, 1).await;
    let duty = site.central.duties("default", Some(STATION), false, 1).await.unwrap().remove(0);
    assert_eq!(duty.reason.as_deref(), Some("the station refused with NotImplemented"));
    attendance.stop().await;
}

#[tokio::test]
async fn what_was_being_sent_when_the_process_died_is_not_forgotten() {
    for repeatable in [true, false] {
        let site = Site::new();
        let attendance = site.central.attend(site.line.clone()).await.unwrap();
        site.owe(move |duty| duty.repeatable = repeatable).await;
        site.comes_to(DutyState::Sending, 1).await;
        site.comes_to_have_sent(1).await;
        drop(attendance);
        let site = site.restarted().await;
        site.answers([answered()]);
        let attendance = site.central.attend(site.line.clone()).await.unwrap();
        // What may not be repeated is asked for by its key, so that it is still the first attempt.
        site.comes_to(DutyState::Done, if repeatable { 2 } else { 1 }).await;
        let keys: Vec<_> = site.line.got.lock().unwrap().iter().map(|order| order.key.clone()).collect();
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[0], keys[1]);
        assert_eq!(keys[0].is_none(), repeatable);
        attendance.stop().await;
    }
}

#[tokio::test]
async fn what_nobody_can_ask_for_any_more_is_unknown() {
    let site = Site::new();
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.owe(|duty| duty.repeatable = false).await;
    site.comes_to(DutyState::Sending, 1).await;
    site.comes_to_have_sent(1).await;
    drop(attendance);
    site.now_ms.fetch_add(13 * 3600 * 1000, Ordering::Relaxed);
    let site = site.restarted().await;
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.comes_to(DutyState::Unknown, 1).await;
    assert_eq!(site.sent(), 1);
    attendance.stop().await;
}

#[tokio::test]
async fn a_pending_station_gets_what_it_may_get_and_the_rest_after_its_acceptance() {
    let site = Site::new();
    let boot = r#"{"chargePointVendor":"V","chargePointModel":"M"}"#;
    let set = |registration: Option<switchboard_router::Registration>| {
        let central = site.central.clone();
        async move {
            let station = station();
            let policy = registration.map(crate::BootPolicy::new);
            central.set_boot_policy("default", &station, policy).await.unwrap();
        }
    };
    set(Some(switchboard_router::Registration::Pending)).await;
    site.call(1, "BootNotification", boot).await;
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.answers([answered(), answered()]);
    site.owe(|_| ()).await;
    site.owe(|duty| {
        duty.key = "2";
        duty.fixed =
            Some(Fixed { version: Version::V16, action: "GetConfiguration", payload: "{}".to_owned() });
    })
    .await;
    site.comes_to(DutyState::Done, 1).await;
    let sent = |site: &Site| -> Vec<String> {
        site.line.got.lock().unwrap().iter().map(|order| order.action.to_string()).collect()
    };
    assert_eq!(sent(&site), ["GetConfiguration"]);
    set(None).await;
    site.now_ms.fetch_add(1, Ordering::Relaxed);
    site.call(2, "BootNotification", boot).await;
    site.comes_to(DutyState::Done, 1).await;
    let begun = clock();
    while site.sent() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sent(&site), ["GetConfiguration", "ClearCache"]);
    attendance.stop().await;
}

#[tokio::test]
async fn what_expires_before_the_station_comes_is_never_sent() {
    let site = Site::new();
    *site.line.spoken.lock().unwrap() = None;
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.owe(|duty| duty.expires_ms = Some(1_005_000)).await;
    site.now_ms.fetch_add(60_000, Ordering::Relaxed);
    site.comes_to(DutyState::Expired, 0).await;
    assert_eq!(site.sent(), 0);
    attendance.stop().await;
}

#[tokio::test]
async fn what_is_owed_anew_while_it_is_sent_is_sent_once_more() {
    let site = Site::new();
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.owe(|_| ()).await;
    site.comes_to(DutyState::Sending, 1).await;
    site.owe(|_| ()).await;
    assert_eq!(site.state().await, (DutyState::Sending, 1));
    drop(attendance);
    let site = site.restarted().await;
    site.answers([answered()]);
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.comes_to(DutyState::Done, 2).await;
    attendance.stop().await;
}

#[tokio::test]
async fn a_call_in_another_version_than_the_station_speaks_is_not_sent() {
    let site = Site::new();
    *site.line.spoken.lock().unwrap() = Some(Version::V201);
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.owe(|_| ()).await;
    site.comes_to(DutyState::Refused, 0).await;
    assert_eq!(site.sent(), 0);
    attendance.stop().await;
}

#[tokio::test]
async fn of_processes_that_share_the_books_one_sends_what_is_owed() {
    let site = Site::new();
    if !site.central.0.store.is_shared() {
        return;
    }
    let others: Vec<Central> = (0..3).map(|_| open(&site.database, &site.now_ms)).collect();
    let mut attendances = vec![site.central.attend(site.line.clone()).await.unwrap()];
    for other in &others {
        attendances.push(other.attend(site.line.clone()).await.unwrap());
    }
    for number in 0..20 {
        site.answers([answered()]);
        site.owe(|_| ()).await;
        // All are told at once, as they would be by the beat.
        for other in &others {
            other.nudge(&"default".into(), &station());
        }
        site.comes_to(DutyState::Done, 1).await;
        assert_eq!(site.sent(), number + 1);
    }
    for attendance in attendances {
        attendance.stop().await;
    }
}

#[tokio::test]
async fn what_is_owed_through_one_process_is_sent_by_another() {
    let site = Site::new();
    if !site.central.0.store.is_shared() {
        return;
    }
    let other = open(&site.database, &site.now_ms);
    let attendance = other.attend(site.line.clone()).await.unwrap();
    site.answers([answered()]);
    site.owe(|_| ()).await;
    site.comes_to(DutyState::Done, 1).await;
    attendance.stop().await;
}

#[tokio::test]
async fn what_a_process_hears_that_was_taken_for_dead_does_not_count() {
    let site = Site::new();
    if !site.central.0.store.is_shared() {
        return;
    }
    let attendance = site.central.attend(site.line.clone()).await.unwrap();
    site.owe(|_| ()).await;
    site.comes_to(DutyState::Sending, 1).await;
    let duty = site.central.duties("default", None, false, 1).await.unwrap().remove(0);
    let zombie = site.central.0.worker.clone();
    // Frozen, it does not say that it lives.
    drop(attendance);
    site.now_ms.fetch_add(11_000, Ordering::Relaxed);
    let other = open(&site.database, &site.now_ms);
    let attendance = other.attend(site.line.clone()).await.unwrap();
    site.comes_to(DutyState::Sending, 2).await;
    let late = move |transaction: &crate::store::Transaction<'_>| {
        super::table::is_ours(At { db: transaction, now_ms: 0 }, &duty, &zombie)
    };
    assert!(!site.central.0.store.write(late).await.unwrap());
    attendance.stop().await;
}
