//! The machine with a fake clock against a scripted central system.

use super::{
    BillError, Client, Config, Ending, Event, MemoryQueue, NotCalled, Outcome, Queue, QueueError,
    Registration, Step, queue::Change,
};
use bytestring::ByteString;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use switchboard_rpc::{ErrorCode, MessageId, Version, connection::TransmitKind, frame};

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "where a fake clock begins does not matter")]
fn instant() -> Instant {
    Instant::now()
}

fn config(version: Version) -> Config {
    let mut config = Config::raw("ws://nowhere", "CP1", version, r#"{"reason":"PowerUp"}"#);
    config.seed = Some(1);
    config.ping_interval = Duration::ZERO;
    config
}

/// A queue whose content outlives the client, and whose disk can be full.
#[derive(Clone, Debug, Default)]
struct Disk {
    changes: Arc<Mutex<Vec<Change>>>,
    full: Arc<Mutex<bool>>,
}

impl Queue for Disk {
    fn load(&mut self) -> Result<Vec<Change>, QueueError> {
        Ok(self.changes.lock().unwrap().clone())
    }

    fn append(&mut self, changes: &[Change]) -> Result<(), QueueError> {
        if *self.full.lock().unwrap() {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(QueueError::Io { doing: "write to", path: "disk".into(), source });
        }
        self.changes.lock().unwrap().extend_from_slice(changes);
        Ok(())
    }

    fn rewrite(&mut self, changes: &[Change]) -> Result<(), QueueError> {
        *self.changes.lock().unwrap() = changes.to_vec();
        Ok(())
    }

    fn wants_rewrite(&self, live: usize) -> bool {
        self.changes.lock().unwrap().len() > 2 * live + 16
    }

    fn is_durable(&self) -> bool {
        true
    }
}

/// A call of the station as the central system sees it.
#[derive(Clone, Debug)]
struct Said {
    id: MessageId,
    action: String,
    payload: Value,
}

/// A client, its clock, and what it has done.
struct Bench {
    client: Client,
    now: Instant,
    events: Vec<Event>,
    steps: Vec<Step>,
    /// Calls that nobody has answered yet.
    said: Vec<Said>,
    /// Answers of the client.
    answers: Vec<Value>,
    /// What it told without wanting an answer.
    unanswered: Vec<Value>,
    calls: u64,
}

impl Bench {
    fn new(config: Config, queue: Box<dyn Queue>) -> Self {
        let now = instant();
        let mut bench = Self {
            client: Client::new(config, queue, now).unwrap(),
            now,
            events: Vec::new(),
            steps: Vec::new(),
            said: Vec::new(),
            answers: Vec::new(),
            unanswered: Vec::new(),
            calls: 0,
        };
        bench.poll();
        bench
    }

    /// Connected, and nothing said yet but the BootNotification.
    fn connected(config: Config) -> Self {
        let mut bench = Self::new(config, Box::new(MemoryQueue));
        bench.connect();
        bench
    }

    fn accepted(config: Config) -> Self {
        let mut bench = Self::connected(config);
        bench.accept(300);
        bench
    }

    fn connect(&mut self) {
        assert_eq!(self.steps.pop(), Some(Step::Connect));
        self.client.handle_connected(self.now);
        self.poll();
    }

    fn accept(&mut self, interval: u64) {
        self.boot("Accepted", interval);
    }

    fn boot(&mut self, status: &str, interval: u64) {
        let said = self.next("BootNotification");
        let answer = json!({ "status": status, "interval": interval, "currentTime": "2026-01-01T00:00:00Z" });
        self.answer(&said, &answer);
    }

    fn poll(&mut self) {
        loop {
            let mut silent = true;
            while let Some(transmit) = self.client.poll_transmit(self.now) {
                silent = false;
                let frame: Value = serde_json::from_str(&transmit.text).unwrap();
                match transmit.kind {
                    TransmitKind::Call { .. } => self.said.push(Said {
                        id: MessageId::new(frame[1].as_str().unwrap()),
                        action: frame[2].as_str().unwrap().to_owned(),
                        payload: frame[3].clone(),
                    }),
                    TransmitKind::Unanswered => self.unanswered.push(frame),
                    _ => self.answers.push(frame),
                }
            }
            while let Some(event) = self.client.poll_event(self.now) {
                silent = false;
                self.events.push(event);
            }
            while let Some(step) = self.client.poll_step(self.now) {
                silent = false;
                self.steps.push(step);
            }
            if silent {
                return;
            }
        }
    }

    /// The next call that the client makes, which must have this action.
    fn next(&mut self, action: &str) -> Said {
        assert!(!self.said.is_empty(), "nothing was said, not even {action}");
        let said = self.said.remove(0);
        assert_eq!(said.action, action, "{said:?}");
        said
    }

    fn answer(&mut self, said: &Said, payload: &Value) {
        let frame = frame::write_result(&said.id, payload.to_string().as_bytes());
        self.text(ByteString::try_from(frame).unwrap());
    }

    fn refuse(&mut self, said: &Said) {
        let frame =
            frame::write_error(&said.id, ErrorCode::InternalError, "", b"{}", self.client.config().version);
        self.text(ByteString::try_from(frame).unwrap());
    }

    fn text(&mut self, text: ByteString) {
        self.client.handle_text(text, self.now);
        self.poll();
    }

    #[expect(clippy::needless_pass_by_value, reason = "tests write payloads in place")]
    fn call(&mut self, action: &str, payload: Value) {
        self.calls += 1;
        let frame = json!([2, format!("c{}", self.calls), action, payload]).to_string();
        self.text(frame.into());
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let next = self.client.poll_timeout().filter(|at| *at <= end).unwrap_or(end).max(self.now);
            self.now = next;
            self.client.handle_timeout(self.now);
            self.poll();
            if next >= end {
                return;
            }
        }
    }

    fn lose(&mut self) {
        self.client.handle_disconnected("lost", self.now);
        self.said.clear();
        self.poll();
    }

    fn lose_and_return(&mut self) {
        self.lose();
        self.pass(3600 * SECOND);
        self.connect();
    }

    fn bill(&mut self, transaction: &str, action: &str, payload: &Value) -> Result<u64, BillError> {
        let receipt = self.client.bill(&transaction.into(), action, &payload.to_string());
        self.poll();
        receipt.map(|receipt| receipt.number)
    }
}

fn start() -> Value {
    json!({ "connectorId": 1, "idTag": "A", "meterStart": 1, "timestamp": "2026-01-01T00:00:00Z" })
}

fn reading(number: u64) -> Value {
    json!({ "connectorId": 1, "transactionId": 0, "meterValue": [number] })
}

fn stop() -> Value {
    json!({ "transactionId": 0, "meterStop": 2, "timestamp": "2026-01-01T00:00:00Z" })
}

fn event(kind: &str, seq_no: u64) -> Value {
    let trigger = if kind == "Updated" { "MeterValuePeriodic" } else { "Authorized" };
    json!({
        "eventType": kind, "seqNo": seq_no, "triggerReason": trigger,
        "transactionInfo": { "transactionId": "T1" },
    })
}

fn name(event: &Event) -> String {
    let text = format!("{event:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

#[test]
fn nothing_but_the_boot_notification_is_sent_before_it_is_accepted() {
    for version in Version::ALL {
        let mut bench = Bench::connected(config(version));
        let refused = bench.client.call("Heartbeat", "{}", bench.now);
        assert_eq!(refused, Err(NotCalled::NotAccepted(Registration::Unknown)));
        let (action, payload) = if version == Version::V16 {
            ("StartTransaction", start())
        } else {
            ("TransactionEvent", event("Started", 0))
        };
        bench.bill("T1", action, &payload).unwrap();
        bench.pass(10 * SECOND);
        assert_eq!(bench.said.len(), 1, "{version}: only the boot");
        bench.boot("Rejected", 60);
        bench.pass(59 * SECOND);
        assert!(bench.said.is_empty(), "{version}");
        bench.pass(SECOND);
        bench.boot("Pending", 30);
        bench.pass(29 * SECOND);
        assert!(bench.said.is_empty(), "{version}");
        bench.pass(SECOND);
        bench.accept(300);
        bench.next(action);
        assert!(bench.client.call("Authorize", "{}", bench.now).is_ok());
    }
}

#[test]
fn a_boot_that_fails_is_repeated_in_the_stations_own_time() {
    let mut bench = Bench::connected(config(Version::V16));
    let said = bench.next("BootNotification");
    bench.refuse(&said);
    bench.pass(29 * SECOND);
    assert!(bench.said.is_empty());
    bench.pass(SECOND);
    // Not answered in time, then again after the wait.
    bench.next("BootNotification");
    bench.pass(30 * SECOND);
    assert!(bench.said.is_empty());
    bench.pass(30 * SECOND);
    // Zero leaves it to the station as well.
    bench.boot("Pending", 0);
    bench.pass(30 * SECOND);
    bench.next("BootNotification");
    assert_eq!(bench.events.iter().filter(|event| name(event) == "BootFailed").count(), 2);
}

#[test]
fn while_pending_only_what_was_asked_for_is_sent() {
    for version in Version::ALL {
        let mut bench = Bench::connected(config(version));
        bench.boot("Pending", 3600);
        let status = |bench: &mut Bench| bench.client.call("StatusNotification", "{}", bench.now);
        assert_eq!(status(&mut bench), Err(NotCalled::NotAccepted(Registration::Pending)));
        bench.call("TriggerMessage", json!({ "requestedMessage": "StatusNotification" }));
        let Some(Event::Called(called)) = bench.events.pop() else { panic!("{version}") };
        assert!(status(&mut bench).is_err(), "not before it was said that it will come");
        let answer = frame::write_result(&called.id, br#"{"status":"Accepted"}"#);
        bench.client.answer(called.seq, answer, bench.now).unwrap();
        bench.poll();
        assert!(status(&mut bench).is_ok(), "{version}");
        assert!(bench.client.call("Authorize", "{}", bench.now).is_err());
        bench.poll();
        bench.next("StatusNotification");

        // A trigger brings the next boot at once (and says so in 2.x), and the client answers it itself.
        bench.call("TriggerMessage", json!({ "requestedMessage": "BootNotification" }));
        assert_eq!(bench.answers.last().unwrap()[2]["status"], "Accepted");
        assert!(bench.said.is_empty(), "the status waits for its answer");
        bench.pass(30 * SECOND);
        let said = bench.next("BootNotification");
        let reason = if version == Version::V16 { "PowerUp" } else { "Triggered" };
        assert_eq!(said.payload["reason"], reason);

        // Nobody may start to charge.
        let remote =
            if version == Version::V16 { "RemoteStartTransaction" } else { "RequestStartTransaction" };
        bench.call(remote, json!({}));
        assert_eq!(bench.answers.last().unwrap()[2]["status"], "Rejected");
    }
}

#[test]
fn a_pending_station_may_report_what_it_is_asked_to() {
    let mut bench = Bench::connected(config(Version::V201));
    bench.boot("Pending", 3600);
    bench.call("GetBaseReport", json!({ "requestId": 1, "reportBase": "FullInventory" }));
    let Some(Event::Called(called)) = bench.events.pop() else { panic!() };
    let answer = frame::write_result(&called.id, br#"{"status":"Accepted"}"#);
    bench.client.answer(called.seq, answer, bench.now).unwrap();
    assert!(bench.client.call("NotifyReport", "{}", bench.now).is_ok());
}

#[test]
fn a_rejected_station_answers_as_its_version_wants_it() {
    let mut bench = Bench::connected(config(Version::V201));
    bench.boot("Rejected", 3600);
    bench.call("GetVariables", json!({}));
    assert_eq!(bench.answers.last().unwrap()[2], "SecurityError");

    let mut bench = Bench::connected(config(Version::V16));
    bench.boot("Rejected", 3600);
    bench.call("GetConfiguration", json!({}));
    assert!(bench.answers.is_empty());
    // What it does not answer does not stop what comes later.
    bench.pass(3600 * SECOND);
    bench.accept(300);
    bench.call("GetConfiguration", json!({}));
    assert!(matches!(bench.events.last(), Some(Event::Called(_))));
}

#[test]
fn a_trigger_for_a_boot_is_refused_by_an_accepted_station_of_2_x() {
    for (version, status, boots) in
        [(Version::V16, "Accepted", 1), (Version::V201, "Rejected", 0), (Version::V21, "Rejected", 0)]
    {
        let mut bench = Bench::accepted(config(version));
        bench.call("TriggerMessage", json!({ "requestedMessage": "BootNotification" }));
        assert_eq!(bench.answers.last().unwrap()[2]["status"], status);
        assert_eq!(bench.said.len(), boots);
        bench.said.clear();
        bench.pass(31 * SECOND);
        bench.call("TriggerMessage", json!({ "requestedMessage": "Heartbeat" }));
        bench.next("Heartbeat");
    }
}

#[test]
fn l07_a_later_connection_needs_no_boot() {
    let mut bench = Bench::accepted(config(Version::V16));
    bench.lose_and_return();
    assert!(bench.said.is_empty());
    assert!(bench.client.call("Heartbeat", "{}", bench.now).is_ok());
    // A restart does.
    bench.lose_and_return();
    bench.client.restart(SECOND, bench.now);
    bench.poll();
    assert_eq!(bench.steps.pop(), Some(Step::Close(1000, "restarting")));
    bench.lose();
    bench.pass(SECOND);
    bench.connect();
    bench.next("BootNotification");
}

#[test]
fn a_heartbeat_is_sent_as_often_as_it_was_told() {
    let mut bench = Bench::connected(config(Version::V16));
    bench.accept(60);
    for _ in 0..5 {
        bench.pass(30 * SECOND);
        assert!(bench.said.is_empty());
        // Other traffic is no reason in 1.6.
        let key = bench.client.call("DataTransfer", "{}", bench.now).unwrap();
        bench.poll();
        let said = bench.next("DataTransfer");
        bench.answer(&said, &json!({}));
        assert!(matches!(bench.events.last(), Some(Event::Ended { key: ended, .. }) if *ended == key));
        bench.pass(30 * SECOND);
        let said = bench.next("Heartbeat");
        bench.answer(&said, &json!({ "currentTime": "2026-01-01T00:00:00Z" }));
        assert_eq!(name(bench.events.last().unwrap()), "Heartbeat");
    }
}

#[test]
fn in_2_x_other_traffic_takes_the_place_of_heartbeats_but_for_one_a_day() {
    let mut bench = Bench::connected(config(Version::V201));
    bench.accept(100);
    let mut heartbeats = 0;
    for _ in 0..(3 * 24 * 60) {
        bench.pass(30 * SECOND);
        bench.client.call("StatusNotification", "{}", bench.now).unwrap();
        bench.poll();
        bench.pass(30 * SECOND);
        for said in std::mem::take(&mut bench.said) {
            heartbeats += u32::from(said.action == "Heartbeat");
            bench.answer(&said, &json!({}));
        }
        bench.events.clear();
    }
    assert!((2..=4).contains(&heartbeats), "{heartbeats} in three days");
    bench.pass(100 * SECOND);
    bench.next("Heartbeat");
}

#[test]
fn the_wait_before_connecting_again_doubles_and_begins_anew_after_a_connection() {
    let mut config = config(Version::V16);
    config.back_off = super::BackOff { wait_minimum: SECOND, random_range: SECOND, repeat_times: 3 };
    let mut bench = Bench::new(config, Box::new(MemoryQueue));
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(bench.steps.pop(), Some(Step::Connect));
        bench.client.handle_connect_failed("nobody there", None, bench.now);
        bench.poll();
        let Some(Event::NotConnected { retry_in, .. }) = bench.events.pop() else { panic!() };
        waits.push(retry_in.as_secs());
        bench.pass(retry_in);
    }
    // With up to a second at random.
    for (wait, least) in waits.iter().zip([1, 2, 4, 8, 8, 8]) {
        assert!((least..=least + 1).contains(wait), "{waits:?}");
    }
    // The central system asks for more.
    assert_eq!(bench.steps.pop(), Some(Step::Connect));
    bench.client.handle_connect_failed("503", Some(60 * SECOND), bench.now);
    bench.pass(59 * SECOND);
    assert!(bench.steps.is_empty());
    bench.pass(SECOND);
    bench.connect();
    bench.lose();
    bench.pass(2 * SECOND);
    assert_eq!(bench.steps.pop(), Some(Step::Connect));
}

#[test]
fn pings_without_any_sign_of_life_end_the_connection() {
    let mut config = config(Version::V16);
    config.ping_interval = 10 * SECOND;
    let mut bench = Bench::connected(config);
    bench.accept(86_400);
    bench.pass(10 * SECOND);
    assert_eq!(bench.steps, [Step::Ping]);
    bench.client.handle_alive();
    bench.pass(30 * SECOND);
    assert_eq!(bench.steps, [Step::Ping; 4]);
    bench.pass(10 * SECOND);
    assert_eq!(bench.steps.pop(), Some(Step::Close(1008, "no sign of life")));
}

#[test]
fn the_transaction_id_of_1_6_is_put_into_what_was_queued_before_it_was_known() {
    let mut bench = Bench::new(config(Version::V16), Box::new(MemoryQueue));
    bench.bill("a", "StartTransaction", &start()).unwrap();
    bench.bill("a", "MeterValues", &reading(1)).unwrap();
    bench.bill("a", "StopTransaction", &stop()).unwrap();
    assert_eq!(bench.bill("a", "MeterValues", &reading(2)), Err(BillError::NoSuchTransaction));
    bench.bill("", "MeterValues", &json!({ "connectorId": 0, "meterValue": [] })).unwrap();
    bench.connect();
    bench.accept(300);
    let said = bench.next("StartTransaction");
    assert_eq!(said.payload, start());
    bench.answer(&said, &json!({ "transactionId": 42, "idTagInfo": { "status": "Accepted" } }));
    for action in ["MeterValues", "StopTransaction"] {
        let said = bench.next(action);
        assert_eq!(said.payload["transactionId"], 42);
        assert!(bench.said.is_empty(), "one at a time");
        bench.answer(&said, &json!({}));
    }
    let said = bench.next("MeterValues");
    assert_eq!(said.payload.get("transactionId"), None);
    bench.answer(&said, &json!({}));
    assert_eq!(bench.client.unbilled(), 0);
    assert_eq!(bench.client.transactions().count(), 0);
}

#[test]
fn whoever_never_learnt_the_transaction_id_of_1_6_says_minus_one() {
    let mut config = config(Version::V16);
    config.message_attempts = 2;
    config.message_retry_interval = 10 * SECOND;
    let mut bench = Bench::accepted(config);
    bench.bill("a", "StartTransaction", &start()).unwrap();
    bench.bill("a", "StopTransaction", &stop()).unwrap();
    let said = bench.next("StartTransaction");
    bench.refuse(&said);
    bench.pass(9 * SECOND);
    assert!(bench.said.is_empty(), "nothing overtakes");
    bench.pass(SECOND);
    // This time nobody answers.
    bench.next("StartTransaction");
    bench.pass(30 * SECOND);
    assert_eq!(name(bench.events.last().unwrap()), "GivenUp");
    assert_eq!(bench.next("StopTransaction").payload["transactionId"], -1);
}

#[test]
fn a_retry_waits_as_many_intervals_as_there_were_attempts() {
    let mut config = config(Version::V16);
    config.message_attempts = 4;
    config.message_retry_interval = 10 * SECOND;
    let mut bench = Bench::accepted(config);
    bench.bill("a", "StartTransaction", &start()).unwrap();
    for failed in 1..4 {
        let said = bench.next("StartTransaction");
        bench.refuse(&said);
        bench.pass(10 * SECOND * failed - SECOND);
        assert!(bench.said.is_empty(), "{failed}");
        bench.pass(SECOND);
    }
    // A lost connection is no attempt, and the new one is a new chance.
    bench.lose_and_return();
    let said = bench.next("StartTransaction");
    bench.refuse(&said);
    assert_eq!(name(bench.events.last().unwrap()), "GivenUp");
    assert_eq!(bench.client.unbilled(), 0);
}

#[test]
fn what_happened_without_a_connection_says_so_in_2_x() {
    for version in [Version::V201, Version::V21] {
        let mut bench = Bench::accepted(config(version));
        bench.bill("T1", "TransactionEvent", &event("Started", 0)).unwrap();
        assert_eq!(bench.next("TransactionEvent").payload.get("offline"), None);
        bench.lose();
        bench.bill("T1", "TransactionEvent", &event("Updated", 1)).unwrap();
        bench.pass(3600 * SECOND);
        bench.connect();
        bench.bill("T1", "TransactionEvent", &event("Ended", 2)).unwrap();
        // The first one was not answered before the connection went.
        for (seq_no, offline) in [(0, Some(true)), (1, Some(true)), (2, None)] {
            let said = bench.next("TransactionEvent");
            assert_eq!(said.payload["seqNo"], seq_no);
            assert_eq!(said.payload.get("offline").and_then(Value::as_bool), offline);
            bench.answer(&said, &json!({}));
        }
        let other = bench.bill("T2", "TransactionEvent", &event("Started", 0));
        assert_eq!(other, Err(BillError::OtherTransaction));
        let other = bench.bill("T2", "StatusNotification", &json!({}));
        assert_eq!(other, Err(BillError::NotBilling("StatusNotification".into())));
    }
}

#[test]
fn at_the_bound_readings_are_left_out_and_never_a_start_or_an_end() {
    let mut config = config(Version::V16);
    config.queue_messages_max = 10;
    let mut bench = Bench::new(config, Box::new(MemoryQueue));
    bench.bill("a", "StartTransaction", &start()).unwrap();
    for number in 0..30 {
        bench.bill("a", "MeterValues", &reading(number)).unwrap();
    }
    bench.bill("a", "StopTransaction", &stop()).unwrap();
    let thinned: u64 = bench
        .events
        .iter()
        .map(|event| if let Event::Thinned { readings } = event { *readings } else { 0 })
        .sum();
    assert_eq!(thinned + bench.client.unbilled() as u64, 32);
    assert!(bench.client.unbilled() <= 10);
    bench.connect();
    bench.accept(300);
    let (mut actions, mut readings) = (Vec::new(), Vec::new());
    while let Some(said) = bench.said.pop() {
        actions.push(said.action.clone());
        readings.extend(said.payload["meterValue"][0].as_u64());
        bench.answer(&said, &json!({ "transactionId": 1 }));
    }
    assert_eq!(actions.first().unwrap(), "StartTransaction");
    assert_eq!(actions.last().unwrap(), "StopTransaction");
    assert!(readings.is_sorted() && readings.last() == Some(&29), "{readings:?}");
}

#[test]
fn a_queue_full_of_starts_and_ends_takes_no_further_start_but_the_end_of_what_goes_on() {
    let mut config = config(Version::V16);
    config.queue_messages_max = 4;
    let mut bench = Bench::new(config, Box::new(MemoryQueue));
    for transaction in ["a", "b", "c", "d"] {
        bench.bill(transaction, "StartTransaction", &start()).unwrap();
    }
    assert_eq!(bench.bill("e", "StartTransaction", &start()), Err(BillError::Full(4)));
    for transaction in ["a", "b", "c", "d"] {
        bench.bill(transaction, "StopTransaction", &stop()).unwrap();
    }
    assert_eq!(bench.client.unbilled(), 8);
}

#[test]
fn what_the_disk_does_not_take_is_told_and_sent_and_kept_as_soon_as_it_can_be() {
    let disk = Disk::default();
    let mut bench = Bench::new(config(Version::V16), Box::new(disk.clone()));
    bench.bill("a", "StartTransaction", &start()).unwrap();
    *disk.full.lock().unwrap() = true;
    let receipt = bench.client.bill(&"a".into(), "MeterValues", &reading(1).to_string()).unwrap();
    bench.poll();
    assert!(!receipt.durable);
    let Some(Event::QueueFailed { error }) = bench.events.pop() else { panic!() };
    assert!(error.contains("cannot write to disk"), "{error}");
    *disk.full.lock().unwrap() = false;
    bench.bill("a", "StopTransaction", &stop()).unwrap();
    let again = Bench::new(config(Version::V16), Box::new(disk));
    assert_eq!(again.client.unbilled(), 3);
}

#[test]
fn a_client_that_stops_bills_first_and_waits_no_longer_than_it_may() {
    for answers in [true, false] {
        let mut bench = Bench::accepted(config(Version::V16));
        bench.bill("a", "StartTransaction", &start()).unwrap();
        bench.client.stop(bench.now);
        bench.poll();
        let said = bench.next("StartTransaction");
        bench.pass(2 * SECOND);
        assert!(bench.steps.is_empty());
        if answers {
            bench.answer(&said, &json!({ "transactionId": 1 }));
        } else {
            bench.pass(SECOND);
        }
        assert_eq!(bench.steps.pop(), Some(Step::Close(1000, "switched off")));
        bench.lose();
        assert!(bench.client.is_stopped() && matches!(bench.events.last(), Some(Event::Stopped)));
        assert_eq!(bench.client.unbilled(), usize::from(!answers));
        assert_eq!(bench.client.poll_timeout(), None);
    }
}

#[test]
fn without_a_line_it_stops_at_once_unless_something_would_be_lost_with_it() {
    let offline = |queue: Box<dyn Queue>| {
        let mut bench = Bench::new(config(Version::V16), queue);
        bench.connect();
        bench.accept(300);
        bench.lose();
        bench
    };
    // Nothing to say; or what is said is on a disk.
    for billed in [false, true] {
        let mut bench = offline(Box::<Disk>::default());
        if billed {
            bench.bill("a", "StartTransaction", &start()).unwrap();
        }
        bench.client.stop(bench.now);
        assert!(bench.client.is_stopped());
    }
    let mut bench = offline(Box::new(MemoryQueue));
    bench.bill("a", "StartTransaction", &start()).unwrap();
    bench.client.stop(bench.now);
    for _ in 0..2 {
        bench.pass(SECOND);
        assert_eq!(bench.steps.pop(), Some(Step::Connect), "it waits no longer than it must");
        bench.client.handle_connect_failed("nobody there", None, bench.now);
        bench.poll();
    }
    bench.client.restart(SECOND, bench.now);
    bench.pass(SECOND);
    assert!(bench.client.is_stopped(), "the grace is over, and whoever ends does not begin anew");
    assert_eq!(bench.client.poll_timeout(), None);

    // Somebody comes in time.
    let mut bench = offline(Box::new(MemoryQueue));
    bench.bill("a", "StartTransaction", &start()).unwrap();
    bench.client.stop(bench.now);
    bench.pass(SECOND);
    bench.connect();
    let said = bench.next("StartTransaction");
    bench.answer(&said, &json!({ "transactionId": 1 }));
    assert_eq!(bench.steps.pop(), Some(Step::Close(1000, "switched off")));
}

#[test]
fn a_line_that_is_cut_says_nothing_more_and_comes_back_when_it_was_told() {
    for boots in [false, true] {
        let mut bench = Bench::accepted(config(Version::V201));
        bench.bill("T1", "TransactionEvent", &event("Started", 0)).unwrap();
        bench.next("TransactionEvent");
        bench.client.cut(70 * SECOND, bench.now);
        if boots {
            bench.client.boot_again(bench.now);
        }
        assert_eq!(bench.client.call("Authorize", "{}", bench.now), Err(NotCalled::Offline));
        bench.bill("T1", "TransactionEvent", &event("Ended", 1)).unwrap();
        assert_eq!(bench.steps, [Step::Drop], "without a word");
        bench.lose();
        bench.pass(69 * SECOND);
        assert_eq!(bench.steps, [Step::Drop]);
        bench.pass(SECOND);
        bench.connect();
        if boots {
            bench.accept(300);
        }
        for _ in 0..2 {
            let said = bench.next("TransactionEvent");
            assert_eq!(said.payload["offline"], true, "what happened without a line says so");
            bench.answer(&said, &json!({}));
        }
    }
}

#[test]
fn a_new_connection_can_be_wished_and_is_no_boot() {
    let mut bench = Bench::accepted(config(Version::V16));
    bench.client.set_password(Some(b"new".to_vec()));
    bench.client.reconnect(SECOND, bench.now);
    bench.poll();
    assert_eq!(bench.steps.pop(), Some(Step::Close(1000, "reconnecting")));
    bench.lose();
    bench.pass(SECOND);
    bench.connect();
    assert!(bench.said.is_empty() && !bench.client.is_ending());
    assert_eq!(
        (bench.client.registration(), bench.client.password()),
        (Registration::Accepted, Some(&b"new"[..]))
    );
}

#[test]
fn pings_and_retries_can_be_set_while_it_runs() {
    let mut bench = Bench::accepted(config(Version::V16));
    bench.client.set_ping_interval(10 * SECOND, bench.now);
    bench.pass(10 * SECOND);
    assert_eq!(bench.steps.pop(), Some(Step::Ping));
    bench.client.set_ping_interval(Duration::ZERO, bench.now);
    bench.pass(100 * SECOND);
    assert_eq!(bench.steps, []);
    bench.client.set_message_retries(2, SECOND);
    bench.bill("a", "StartTransaction", &start()).unwrap();
    for _ in 0..2 {
        let said = bench.next("StartTransaction");
        bench.refuse(&said);
        bench.pass(SECOND);
    }
    assert_eq!(bench.client.unbilled(), 0, "given up after the second");
}

#[test]
fn every_call_that_was_written_is_told_with_its_end_and_its_time_where_that_is_wished() {
    for wished in [false, true] {
        let mut config = config(Version::V16);
        config.tells_exchanges = wished;
        let mut bench = Bench::connected(config);
        bench.pass(SECOND);
        bench.accept(300);
        for _ in 0..3 {
            bench.client.call("Authorize", "{}", bench.now).unwrap();
        }
        bench.poll();
        bench.pass(2 * SECOND);
        let said = bench.next("Authorize");
        bench.refuse(&said);
        // The second was written and the third was not.
        bench.lose();
        let told = bench.events.iter().filter_map(|event| match event {
            Event::Exchanged { end, after } => Some((*end, after.as_secs())),
            _ => None,
        });
        let all = [(Ending::Answered, 1), (Ending::Refused, 2), (Ending::Lost, 0)];
        assert_eq!(told.collect::<Vec<_>>(), if wished { &all[..] } else { &[] });
    }
}

#[test]
fn sends_and_result_errors_are_of_2_1_only() {
    let mut bench = Bench::accepted(config(Version::V21));
    bench.client.send("NotifyPeriodicEventStream", b"{}").unwrap();
    bench.client.result_error(&MessageId::new("x"), ErrorCode::FormatViolation, "what?").unwrap();
    bench.text(r#"[5,"y","GenericError","huh",{}]"#.into());
    bench.poll();
    assert_eq!(bench.unanswered[0][0], 6);
    assert_eq!(bench.unanswered[1], json!([5, "x", "FormatViolation", "what?", {}]));
    let Some(Event::ResultError { code, .. }) = bench.events.last() else { panic!() };
    assert_eq!(code, "GenericError");

    let mut bench = Bench::accepted(config(Version::V201));
    assert_eq!(bench.client.send("NotifyPeriodicEventStream", b"{}"), Err(NotCalled::NotUnanswered));
}

#[test]
fn a_boot_answer_without_a_status_is_refused_in_2_1() {
    for version in [Version::V201, Version::V21] {
        let mut bench = Bench::connected(config(version));
        let said = bench.next("BootNotification");
        bench.answer(&said, &json!({ "interval": 3 }));
        assert_eq!(bench.unanswered.len(), usize::from(version == Version::V21));
        let Some(Event::BootFailed { outcome: Outcome::Answered { .. } }) = bench.events.last() else {
            panic!()
        };
        bench.pass(30 * SECOND);
        bench.accept(300);
    }
}

/// Whatever happens to the line, the answers and the station itself: what arrives, without repeats of the very last one,
/// is what was billed, in order; nothing is billed twice and nothing lost.
#[test]
fn nothing_is_lost_or_billed_twice_over_random_drops_refusals_and_restarts() {
    for seed in 0..200 {
        random_life(seed);
    }
}

/// The transaction that a message is about, and its place in it.
fn told(payload: &Value) -> Option<(usize, u64)> {
    if let Some(name) = payload["transactionInfo"]["transactionId"].as_str() {
        return Some((name[1..].parse().unwrap(), payload["seqNo"].as_u64().unwrap()));
    }
    let number = ["transactionId", "meterStart"].iter().find_map(|one| payload[one].as_u64())?;
    let place = ["meterValue", "meterStop"].iter().find_map(|one| payload[one].as_u64());
    Some((usize::try_from(number).unwrap(), place.unwrap_or(0)))
}

fn random_life(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let version = Version::ALL[random.usize(..3)];
    let old = version == Version::V16;
    let mut config = config(version);
    config.message_attempts = 0;
    config.seed = Some(seed);
    let disk = Disk::default();
    let mut bench = Bench::new(config.clone(), Box::new(disk.clone()));
    // What was billed: transaction and place in it; what arrived, in the central system's terms.
    let mut billed: Vec<(usize, u64)> = Vec::new();
    let mut arrived: Vec<(usize, u64)> = Vec::new();
    let mut going_on: Option<(usize, u64)> = None;
    let mut transactions = 0;
    for step in 0..400 {
        let calm = step > 340;
        match random.u32(..100) {
            // Something happens at the station.
            0..40 if !calm => {
                let (transaction, place, kind) = match going_on.take() {
                    None => {
                        transactions += 1;
                        going_on = Some((transactions, 1));
                        (transactions, 0, "Started")
                    }
                    Some((transaction, place)) if random.u32(..4) == 0 => (transaction, place, "Ended"),
                    Some((transaction, place)) => {
                        going_on = Some((transaction, place + 1));
                        (transaction, place, "Updated")
                    }
                };
                let name = format!("T{transaction}");
                let (action, payload) = match (old, kind) {
                    (true, "Started") => ("StartTransaction", json!({ "meterStart": transaction })),
                    (true, "Updated") => ("MeterValues", json!({ "meterValue": place })),
                    (true, _) => ("StopTransaction", json!({ "transactionId": -1, "meterStop": place })),
                    _ => {
                        let mut event = event(kind, place);
                        event["transactionInfo"]["transactionId"] = name.clone().into();
                        ("TransactionEvent", event)
                    }
                };
                bench.bill(&name, action, &payload).unwrap();
                billed.push((transaction, place));
            }
            // The line goes, or the station with it.
            40..46 if !calm && bench.client.is_online() => bench.lose(),
            46..50 if !calm => {
                bench = Bench::new(config.clone(), Box::new(disk.clone()));
            }
            _ => {}
        }
        if bench.steps.last() == Some(&Step::Connect) {
            bench.connect();
        }
        // The central system takes calls in order; it may refuse one, answer late or never.
        while let Some(said) = (!bench.said.is_empty()).then(|| bench.said.remove(0)) {
            let fate = if calm { 99 } else { random.u32(..100) };
            if fate < 5 {
                break;
            }
            if said.action == "BootNotification" {
                bench.answer(&said, &json!({ "status": "Accepted", "interval": 3600 }));
                continue;
            }
            if said.action == "Heartbeat" {
                bench.answer(&said, &json!({}));
                continue;
            }
            if fate < 15 {
                bench.refuse(&said);
                continue;
            }
            let (transaction, place) = told(&said.payload).unwrap();
            // A repeat is recognised by what it says, and can only be of the last one.
            if arrived.last() != Some(&(transaction, place)) {
                arrived.push((transaction, place));
            }
            // Acted on, and yet the answer does not arrive.
            if fate < 25 {
                break;
            }
            bench.answer(&said, &json!({ "transactionId": transaction }));
        }
        bench.pass(SECOND * random.u32(..60));
    }
    for _ in 0..200 {
        if bench.steps.last() == Some(&Step::Connect) {
            bench.connect();
        }
        while let Some(said) = (!bench.said.is_empty()).then(|| bench.said.remove(0)) {
            if said.action == "BootNotification" {
                bench.answer(&said, &json!({ "status": "Accepted", "interval": 3600 }));
                continue;
            }
            let key = told(&said.payload);
            if let Some(key) = key {
                if arrived.last() != Some(&key) {
                    arrived.push(key);
                }
                bench.answer(&said, &json!({ "transactionId": key.0 }));
            } else {
                bench.answer(&said, &json!({}));
            }
        }
        bench.pass(60 * SECOND);
    }
    assert_eq!(bench.client.unbilled(), 0, "seed {seed}");
    assert_eq!(arrived, billed, "seed {seed}");
}
