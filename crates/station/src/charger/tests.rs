//! The charger with a fake clock and a scripted central system. Everything that it says is judged by the schemas.

mod behaviour;

use super::{Charger, Moment, Reply};
use crate::{
    Books, BooksHandle, Config, Link,
    client::{Event, Step},
};
use bytestring::ByteString;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use switchboard_messages::{v16, v21, v201};
use switchboard_rpc::{
    ErrorCode, MessageId, Version,
    frame::{write_error, write_result},
};

/// A call of the charger that nobody has answered yet.
struct Call {
    id: MessageId,
    action: String,
    payload: Value,
}

/// How a call is to end.
enum End {
    Answered(Value),
    Refused,
    /// Not at all.
    Lost,
}

/// A charger, its clock, its line, and everything it has said.
struct Bench {
    charger: Charger,
    books: BooksHandle,
    version: Version,
    now: Moment,
    said: Vec<(String, Value)>,
    /// What it wants no answer to (2.1).
    sent: Vec<(String, Value)>,
    /// Calls that wait for an answer.
    open: VecDeque<Call>,
    /// What the charger answered.
    replies: VecDeque<Value>,
    /// What it did with its line.
    steps: Vec<Step>,
    /// Whether there is a central system to connect to.
    line: bool,
    next_transaction: i64,
    next_id: u64,
    /// What the central system says to a tag.
    verdict: &'static str,
}

impl Bench {
    fn new(version: Version, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new("ws://nowhere", "CP1");
        config.version = version;
        config.connectors = 1;
        config.ping_interval = Duration::ZERO;
        change(&mut config);
        let books = BooksHandle::default();
        let now = Moment { at: instant(), unix_ms: 1_700_000_000_000 };
        Self {
            charger: Charger::new(config, books.clone(), now),
            books,
            version,
            now,
            said: Vec::new(),
            sent: Vec::new(),
            open: VecDeque::new(),
            replies: VecDeque::new(),
            steps: Vec::new(),
            line: true,
            next_transaction: 40,
            next_id: 0,
            verdict: "Accepted",
        }
    }

    /// Booted and accepted.
    fn accepted(version: Version, change: impl FnOnce(&mut Config)) -> Self {
        let mut bench = Self::new(version, change);
        bench.settle();
        assert_eq!(bench.books().link, Link::Accepted);
        bench
    }

    fn books(&self) -> Books {
        self.books.snapshot()
    }

    /// Does what a driver does, until there is nothing to be done at this moment.
    fn pump(&mut self) {
        loop {
            let mut silent = true;
            while let Some(transmit) = self.charger.client().poll_transmit(self.now.at) {
                silent = false;
                self.transmitted(&transmit.text);
            }
            while let Some(event) = self.charger.client().poll_event(self.now.at) {
                silent = false;
                if matches!(event, Event::Disconnected { .. }) {
                    self.open.clear();
                }
                self.charger.handle_event(event, self.now);
            }
            while let Some(step) = self.charger.client().poll_step(self.now.at) {
                silent = false;
                self.steps.push(step);
                let client = self.charger.client();
                match step {
                    Step::Connect if self.line => client.handle_connected(self.now.at),
                    Step::Connect => client.handle_connect_failed("no line", None, self.now.at),
                    Step::Close(_, reason) => client.handle_disconnected(reason, self.now.at),
                    Step::Drop => client.handle_disconnected("dropped", self.now.at),
                    Step::Ping => client.handle_alive(),
                }
            }
            if silent {
                return;
            }
        }
    }

    fn transmitted(&mut self, text: &str) {
        let frame: Value = serde_json::from_str(text).unwrap();
        let (action, payload) = (frame[2].as_str().unwrap_or_default().to_owned(), frame[3].clone());
        match frame[0].as_i64() {
            Some(2) => {
                let id = MessageId::new(frame[1].as_str().unwrap());
                self.open.push_back(Call { id, action, payload });
            }
            Some(6) => {
                self.judge(&action, false, &payload);
                self.sent.push((action, payload));
            }
            _ => self.replies.push_back(frame),
        }
    }

    fn judge(&self, action: &str, answer: bool, payload: &Value) {
        let payload = payload.to_string();
        let violations = match self.version {
            Version::V16 => v16::validate(action, answer, payload.as_bytes()),
            Version::V21 => v21::validate(action, answer, payload.as_bytes()),
            Version::V201 => v201::validate(action, answer, payload.as_bytes()),
        };
        assert_eq!(violations, Some(vec![]), "{action} {payload}");
    }

    /// The next thing that it asks.
    fn next_call(&mut self) -> Option<Call> {
        self.pump();
        self.open.pop_front()
    }

    /// Answers everything that is asked, until nothing is.
    fn settle(&mut self) {
        while let Some(call) = self.next_call() {
            let answer = self.answer(&call);
            self.end(call, End::Answered(answer));
        }
    }

    fn end(&mut self, call: Call, end: End) {
        self.judge(&call.action, false, &call.payload);
        let frame = match end {
            End::Answered(payload) => write_result(&call.id, payload.to_string().as_bytes()),
            End::Refused => write_error(&call.id, ErrorCode::InternalError, "", b"{}", self.version),
            End::Lost => return,
        };
        self.said.push((call.action, call.payload));
        let text = ByteString::try_from(frame).unwrap();
        self.charger.client().handle_text(text, self.now.at);
        self.pump();
    }

    /// The line goes, and is not there again before it is [`Self::connect`]ed.
    fn disconnect(&mut self) {
        self.line = false;
        self.charger.client().handle_disconnected("lost", self.now.at);
        self.pump();
    }

    /// The line is there again; the charger finds it within a minute.
    fn connect(&mut self) {
        self.line = true;
        while !self.charger.client().is_online() {
            self.step(self.now.at + MINUTE);
        }
    }

    fn answer(&mut self, call: &Call) -> Value {
        let info = json!({ "status": self.verdict });
        match (call.action.as_str(), self.version) {
            ("BootNotification", _) => json!({ "status": "Accepted", "interval": 3600, "currentTime": "x" }),
            ("Authorize" | "StopTransaction", Version::V16) => json!({ "idTagInfo": info }),
            ("StartTransaction", _) => {
                self.next_transaction += 1;
                json!({ "transactionId": self.next_transaction, "idTagInfo": info })
            }
            ("Authorize", _) => json!({ "idTokenInfo": info }),
            ("TransactionEvent", _) if call.payload.get("idToken").is_some() => {
                json!({ "idTokenInfo": info })
            }
            _ => json!({}),
        }
    }

    /// Lets time pass until something happens, or until then.
    fn step(&mut self, end: Instant) {
        let next = [self.charger.poll_timeout(), self.charger.client().poll_timeout()];
        let next = next.into_iter().flatten().min().unwrap_or(end).min(end).max(self.now.at);
        let step = next - self.now.at;
        self.now = Moment { at: next, unix_ms: self.now.unix_ms + i64::try_from(step.as_millis()).unwrap() };
        self.charger.client().handle_timeout(self.now.at);
        self.charger.handle_timeout(self.now);
        self.pump();
    }

    /// Lets time pass, answering everything.
    fn pass(&mut self, duration: Duration) {
        let end = self.now.at + duration;
        while self.now.at < end {
            self.step(end);
            self.settle();
        }
    }

    /// Lets time pass until it does this with its line.
    fn pass_until(&mut self, wanted: impl Fn(&Step) -> bool) {
        self.steps.clear();
        for _ in 0..1_000_000 {
            if self.steps.iter().any(&wanted) {
                return;
            }
            self.step(self.now.at + MINUTE);
            self.settle();
        }
        panic!("it never did: {:?}", self.steps);
    }

    #[expect(clippy::needless_pass_by_value, reason = "tests write payloads in place")]
    fn called(&mut self, action: &str, payload: Value) -> Reply {
        self.pump();
        self.replies.clear();
        self.next_id += 1;
        let frame = json!([2, format!("c{}", self.next_id), action, payload]).to_string();
        self.charger.client().handle_text(frame.into(), self.now.at);
        self.pump();
        let reply = self.replies.pop_front().unwrap_or_else(|| panic!("no answer to {action}"));
        if reply[0] == 3 {
            self.judge(action, true, &reply[2]);
            return Reply::Result(reply[2].clone());
        }
        let code = ErrorCode::from_wire(reply[2].as_str().unwrap()).unwrap();
        Reply::Error(code, reply[3].as_str().unwrap_or_default().to_owned())
    }

    fn status(&mut self, action: &str, payload: Value) -> String {
        match self.called(action, payload) {
            Reply::Result(answer) => answer["status"].as_str().unwrap_or_default().to_owned(),
            Reply::Error(code, _) => code.to_string(),
        }
    }

    /// The actions that were said since the last time, without reports of status.
    fn actions(&mut self) -> Vec<String> {
        let said = std::mem::take(&mut self.said);
        said.into_iter().map(|(action, _)| action).filter(|action| action != "StatusNotification").collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "where a fake clock begins does not matter")]
fn instant() -> Instant {
    Instant::now()
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_visit_is_billed_and_its_meter_adds_up_in_1_6() {
    let mut bench = Bench::accepted(Version::V16, |_| {});
    bench.actions();
    bench.pass(MINUTE * 90);
    let said = std::mem::take(&mut bench.said);
    let of = |action: &str| {
        said.iter().filter(|(one, _)| one == action).map(|(_, payload)| payload).collect::<Vec<_>>()
    };
    let (start, stop) = (of("StartTransaction")[0], of("StopTransaction")[0]);
    assert_eq!(stop["transactionId"], 41);
    let mut last = start["meterStart"].as_u64().unwrap();
    let readings = of("MeterValues").into_iter().filter(|payload| payload["transactionId"] == 41);
    let mut count = 0;
    for reading in readings {
        let value = &reading["meterValue"][0]["sampledValue"][0];
        let next: u64 = value["value"].as_str().unwrap().parse().unwrap();
        assert!(next >= last, "a meter never runs backwards");
        last = next;
        count += 1;
    }
    assert!(count > 2, "{count} readings");
    assert!(stop["meterStop"].as_u64().unwrap() >= last);
    let book = bench.books().transactions[&1].clone();
    assert_eq!(book.energy_wh(), stop["meterStop"].as_u64().unwrap() - start["meterStart"].as_u64().unwrap());
    assert!(book.energy_wh() > 1000 && book.ended && book.settled);
    let statuses: Vec<_> =
        of("StatusNotification").into_iter().map(|payload| payload["status"].as_str().unwrap()).collect();
    assert_eq!(&statuses[..4], ["Preparing", "Charging", "Finishing", "Available"]);
}

#[test]
fn a_visit_is_told_in_numbered_events_in_2_0_1() {
    let mut bench = Bench::accepted(Version::V201, |_| {});
    bench.pass(MINUTE * 90);
    let id = bench.books().transactions[&1].id.clone().unwrap();
    let events: Vec<&Value> = bench
        .said
        .iter()
        .filter(|(action, payload)| {
            action == "TransactionEvent" && payload["transactionInfo"]["transactionId"] == *id
        })
        .map(|(_, payload)| payload)
        .collect();
    let kinds: Vec<_> = events.iter().map(|event| event["eventType"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("Started", "Ended"));
    assert!(kinds.len() > 4 && kinds[1..kinds.len() - 1].iter().all(|kind| *kind == "Updated"), "{kinds:?}");
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["seqNo"], number);
        assert_eq!(event.get("idToken").is_some(), number == 0, "the token is told once");
    }
    let meter = |event: &Value| event["meterValue"][0]["sampledValue"][0]["value"].as_u64().unwrap();
    assert_eq!(meter(events.last().unwrap()) - meter(events[0]), bench.books().transactions[&1].energy_wh());
}

#[test]
fn boot_is_repeated_when_the_central_system_says() {
    for status in ["Pending", "Rejected"] {
        let mut bench = Bench::new(Version::V16, |_| {});
        let call = bench.next_call().unwrap();
        bench.end(call, End::Answered(json!({ "status": status, "interval": 7 })));
        assert!(bench.next_call().is_none(), "{status}: nothing else may be said");
        if status == "Pending" {
            let start = json!({ "idTag": "A" });
            assert_eq!(bench.status("RemoteStartTransaction", start), "Rejected");
        }
        bench.pass(Duration::from_millis(6_999));
        assert_eq!(bench.actions(), ["BootNotification"], "{status}: not before it was told");
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.actions(), ["BootNotification"], "{status}");
        assert_eq!(bench.books().boots, 2);
    }
}

#[test]
fn heartbeats_follow_the_interval_of_the_boot() {
    let mut bench = Bench::new(Version::V16, |config| config.visited = 0);
    let call = bench.next_call().unwrap();
    bench.end(call, End::Answered(json!({ "status": "Accepted", "interval": 10 })));
    bench.settle();
    bench.actions();
    bench.pass(Duration::from_secs(35));
    assert_eq!(bench.actions(), ["Heartbeat"; 3]);
    assert_eq!(
        bench.status("ChangeConfiguration", json!({ "key": "HeartbeatInterval", "value": "5" })),
        "Accepted"
    );
    bench.pass(Duration::from_secs(21));
    assert_eq!(bench.actions(), ["Heartbeat"; 4]);
}

#[test]
fn what_happened_offline_is_told_in_order_afterwards() {
    for version in [Version::V16, Version::V201] {
        let mut bench = Bench::accepted(version, |_| {});
        bench.actions();
        bench.disconnect();
        bench.pass(MINUTE * 300);
        assert_eq!(bench.actions(), Vec::<String>::new());
        let before = bench.books();
        assert!(before.transactions.len() > 2 && before.unsent > 6 && !before.all_settled(), "{before:?}");
        bench.connect();
        let energy_wh = bench.books().energy_wh();
        bench.settle();
        let after = bench.books();
        assert_eq!((after.unsent, after.given_up, after.energy_wh()), (0, 0, energy_wh));
        assert!(after.transactions.values().all(|book| book.id.is_some() && book.settled == book.ended));
        let said = bench.actions();
        assert!(!said.iter().any(|action| action == "BootNotification"), "L07: no boot at a reconnection");
        if version == Version::V16 {
            let starts = said.iter().filter(|action| *action == "StartTransaction").count();
            assert_eq!(starts, after.transactions.len());
            assert_eq!(said[0], "StartTransaction");
        }
    }
}

#[test]
fn a_lost_connection_costs_no_attempt_and_a_refusal_does() {
    let mut bench = Bench::accepted(Version::V16, |config| {
        config.visited = 0;
        config.billing_attempts = 2;
    });
    assert_eq!(bench.status("RemoteStartTransaction", json!({ "idTag": "A" })), "Accepted");
    let start = |bench: &mut Bench| loop {
        let call = bench.next_call().unwrap();
        if call.action == "StartTransaction" {
            break call;
        }
        bench.end(call, End::Answered(json!({})));
    };
    for _ in 0..10 {
        let call = start(&mut bench);
        bench.end(call, End::Lost);
        bench.disconnect();
        bench.connect();
    }
    assert_eq!((bench.books().unsent, bench.books().given_up), (1, 0));
    let call = start(&mut bench);
    bench.end(call, End::Refused);
    bench.step(bench.now.at + MINUTE);
    let call = start(&mut bench);
    bench.end(call, End::Refused);
    assert_eq!((bench.books().unsent, bench.books().given_up), (0, 1));
    // Whoever never learnt its id says -1.
    bench.pass(MINUTE * 120);
    let stop = bench.said.iter().find(|(action, _)| action == "StopTransaction").unwrap();
    assert_eq!(stop.1["transactionId"], -1);
}

#[test]
fn remote_start_and_stop_do_what_they_answer() {
    let mut bench = Bench::accepted(Version::V16, |config| config.visited = 0);
    bench.actions();
    let start = json!({ "idTag": "A1", "connectorId": 1 });
    assert_eq!(bench.status("RemoteStartTransaction", start.clone()), "Accepted");
    assert_eq!(bench.status("RemoteStartTransaction", start), "Rejected", "the connector is taken");
    bench.pass(MINUTE);
    assert_eq!(bench.actions(), ["StartTransaction"]);
    assert_eq!(bench.books().transactions[&1].token, "A1");
    assert_eq!(bench.status("RemoteStopTransaction", json!({ "transactionId": 4711 })), "Rejected");
    assert_eq!(bench.status("RemoteStopTransaction", json!({ "transactionId": 41 })), "Accepted");
    bench.settle();
    let (_, stop) = bench.said.iter().find(|(action, _)| action == "StopTransaction").unwrap();
    assert_eq!(stop["reason"], "Remote");
    assert!(bench.books().all_settled());

    let mut bench = Bench::accepted(Version::V201, |config| config.visited = 0);
    bench.actions();
    let start = json!({ "remoteStartId": 9, "idToken": { "idToken": "A1", "type": "Central" } });
    let Reply::Result(answer) = bench.called("RequestStartTransaction", start) else { panic!() };
    let id = answer["transactionId"].clone();
    assert!(id.is_string(), "{answer}");
    bench.settle();
    let (_, event) = bench.said.iter().find(|(action, _)| action == "TransactionEvent").unwrap();
    assert_eq!(
        (&event["transactionInfo"]["remoteStartId"], &event["triggerReason"]),
        (&json!(9), &json!("RemoteStart"))
    );
    assert_eq!(event["idToken"], json!({ "idToken": "A1", "type": "Central" }));
    let status = bench.called("GetTransactionStatus", json!({ "transactionId": id }));
    assert_eq!(status, Reply::Result(json!({ "ongoingIndicator": true, "messagesInQueue": false })));
    assert_eq!(bench.status("RequestStopTransaction", json!({ "transactionId": id })), "Accepted");
    bench.settle();
    assert!(bench.books().all_settled());
}

#[test]
fn a_driver_who_is_not_accepted_does_not_charge() {
    let mut bench = Bench::accepted(Version::V16, |_| {});
    bench.verdict = "Blocked";
    bench.pass(MINUTE * 60);
    assert!(bench.books().transactions.is_empty());
    // Remote starts ask nobody first; the answer to the start ends them.
    assert_eq!(bench.status("RemoteStartTransaction", json!({ "idTag": "A" })), "Accepted");
    bench.settle();
    let (_, stop) = bench.said.iter().find(|(action, _)| action == "StopTransaction").unwrap();
    assert_eq!(stop["reason"], "DeAuthorized");
    assert!(bench.books().all_settled());
}

#[test]
fn a_reset_ends_what_goes_on_and_boots_again() {
    for (version, request, action) in [
        (Version::V16, json!({ "type": "Soft" }), "StopTransaction"),
        (Version::V201, json!({ "type": "Immediate" }), "TransactionEvent"),
    ] {
        let mut bench = Bench::accepted(version, |config| config.visited = 0);
        let start = match version {
            Version::V16 => ("RemoteStartTransaction", json!({ "idTag": "A" })),
            _ => (
                "RequestStartTransaction",
                json!({ "remoteStartId": 1, "idToken": { "idToken": "A", "type": "Central" } }),
            ),
        };
        assert_eq!(bench.status(start.0, start.1), "Accepted");
        bench.settle();
        bench.actions();
        assert_eq!(bench.status("Reset", request), "Accepted");
        bench.steps.clear();
        bench.pump();
        assert_eq!(bench.steps, [], "bills first");
        bench.settle();
        assert_eq!(bench.actions(), [action]);
        assert_eq!(bench.steps, [Step::Close(1000, "restarting")]);
        bench.connect();
        bench.settle();
        assert_eq!(bench.said[0].0, "BootNotification");
        if version == Version::V201 {
            assert_eq!(bench.said[0].1["reason"], "RemoteReset");
        }
        assert_eq!(bench.books().boots, 2);
    }
}

#[test]
fn a_reset_on_idle_waits_for_the_last_car() {
    let mut bench = Bench::accepted(Version::V201, |config| config.visited = 0);
    let start = json!({ "remoteStartId": 1, "idToken": { "idToken": "A", "type": "Central" } });
    assert_eq!(bench.status("RequestStartTransaction", start), "Accepted");
    assert_eq!(bench.status("Reset", json!({ "type": "OnIdle" })), "Scheduled");
    bench.settle();
    bench.steps.clear();
    bench.pass(MINUTE);
    assert_eq!(bench.steps, []);
    bench.pass_until(|step| matches!(step, Step::Close(_, "restarting")));
    assert!(bench.books().transactions[&1].settled);
}

#[test]
fn switched_off_it_bills_first() {
    let mut bench = Bench::accepted(Version::V16, |config| config.visited = 0);
    assert_eq!(bench.status("RemoteStartTransaction", json!({ "idTag": "A" })), "Accepted");
    bench.settle();
    bench.charger.handle_shutdown(bench.now);
    bench.pump();
    assert!(bench.charger.client().is_online());
    bench.settle();
    assert_eq!(bench.steps.last(), Some(&Step::Close(1000, "switched off")));
    assert!(bench.charger.client().is_stopped() && bench.books().all_settled());
    // And if nobody answers it does not wait for ever.
    let mut bench = Bench::accepted(Version::V16, |config| config.visited = 0);
    assert_eq!(bench.status("RemoteStartTransaction", json!({ "idTag": "A" })), "Accepted");
    bench.charger.handle_shutdown(bench.now);
    for _ in 0..10 {
        bench.step(bench.now.at + MINUTE);
    }
    assert!(bench.charger.client().is_stopped() && !bench.books().all_settled());
}

#[test]
fn switched_off_without_a_line_it_tries_for_a_while_to_send_its_bills() {
    for comes_back in [true, false] {
        let mut bench = Bench::accepted(Version::V16, |config| {
            config.visited = 0;
            config.finish = MINUTE;
        });
        assert_eq!(bench.status("RemoteStartTransaction", json!({ "idTag": "A" })), "Accepted");
        bench.settle();
        bench.disconnect();
        bench.charger.handle_shutdown(bench.now);
        bench.pass(MINUTE / 2);
        assert!(!bench.charger.client().is_stopped());
        bench.line = comes_back;
        bench.pass(Duration::from_secs(1));
        assert_eq!(bench.books().all_settled(), comes_back);
        bench.pass(MINUTE / 2);
        assert!(bench.charger.client().is_stopped());
    }
    // With nothing to say it ends at once.
    let mut bench = Bench::accepted(Version::V16, |config| config.visited = 0);
    bench.disconnect();
    bench.charger.handle_shutdown(bench.now);
    assert!(bench.charger.client().is_stopped());
}

#[test]
fn triggers_bring_the_message_that_was_asked_for() {
    let mut bench = Bench::accepted(Version::V16, |config| config.visited = 0);
    bench.said.clear();
    for (message, status, said) in [
        ("BootNotification", "Accepted", Some("BootNotification")),
        ("Heartbeat", "Accepted", Some("Heartbeat")),
        ("MeterValues", "Accepted", Some("MeterValues")),
        ("StatusNotification", "Accepted", Some("StatusNotification")),
        ("DiagnosticsStatusNotification", "Accepted", Some("DiagnosticsStatusNotification")),
        ("FirmwareStatusNotification", "Accepted", Some("FirmwareStatusNotification")),
    ] {
        assert_eq!(
            bench.status("TriggerMessage", json!({ "requestedMessage": message })),
            status,
            "{message}"
        );
        bench.settle();
        let actions: Vec<_> = std::mem::take(&mut bench.said).into_iter().map(|(action, _)| action).collect();
        assert_eq!(actions.first().map(String::as_str), said, "{message}");
    }
    let unknown = json!({ "requestedMessage": "MeterValues", "connectorId": 9 });
    assert_eq!(bench.status("TriggerMessage", unknown), "Rejected");
    // 2.0.1 F06.FR.17
    let mut bench = Bench::accepted(Version::V201, |config| config.visited = 0);
    assert_eq!(bench.status("TriggerMessage", json!({ "requestedMessage": "BootNotification" })), "Rejected");
}

#[test]
fn settings_are_read_and_changed() {
    let mut bench = Bench::accepted(Version::V16, |_| {});
    let Reply::Result(answer) =
        bench.called("GetConfiguration", json!({ "key": ["NumberOfConnectors", "Colour"] }))
    else {
        panic!()
    };
    assert_eq!(
        answer["configurationKey"],
        json!([{ "key": "NumberOfConnectors", "readonly": true, "value": "1" }])
    );
    assert_eq!(answer["unknownKey"], json!(["Colour"]));
    let Reply::Result(answer) = bench.called("GetConfiguration", json!({})) else { panic!() };
    assert!(answer["configurationKey"].as_array().unwrap().len() > 3);
    assert_eq!(bench.status("ChangeConfiguration", json!({ "key": "Colour", "value": "1" })), "NotSupported");

    let mut bench = Bench::accepted(Version::V201, |_| {});
    let variable = |component: &str, variable: &str| json!({ "component": { "name": component }, "variable": { "name": variable } });
    let ask =
        json!({ "getVariableData": [variable("OCPPCommCtrlr", "HeartbeatInterval"), variable("X", "Y")] });
    let Reply::Result(answer) = bench.called("GetVariables", ask) else { panic!() };
    assert_eq!(answer["getVariableResult"][0]["attributeValue"], "3600");
    assert_eq!(answer["getVariableResult"][1]["attributeStatus"], "UnknownComponent");
    let mut change = variable("OCPPCommCtrlr", "HeartbeatInterval");
    change["attributeValue"] = "60".into();
    let Reply::Result(answer) = bench.called("SetVariables", json!({ "setVariableData": [change] })) else {
        panic!()
    };
    assert_eq!(answer["setVariableResult"][0]["attributeStatus"], "Accepted");
}

#[test]
fn what_it_does_not_do_is_answered_with_the_right_code() {
    for (version, action, payload, code) in [
        (Version::V16, "Fly", json!({}), ErrorCode::NotImplemented),
        (
            Version::V16,
            "InstallCertificate",
            json!({ "certificateType": "ManufacturerRootCertificate", "certificate": "x" }),
            ErrorCode::NotSupported,
        ),
        (Version::V16, "BootNotification", json!({}), ErrorCode::NotSupported),
        (Version::V16, "RemoteStartTransaction", json!({}), ErrorCode::OccurrenceConstraintViolation),
        (Version::V16, "Reset", json!({ "type": "Warm" }), ErrorCode::PropertyConstraintViolation),
        (Version::V201, "RemoteStartTransaction", json!({}), ErrorCode::NotImplemented),
        (Version::V201, "Reset", json!({ "type": 1 }), ErrorCode::TypeConstraintViolation),
    ] {
        let mut bench = Bench::accepted(version, |_| {});
        let Reply::Error(found, _) = bench.called(action, payload) else { panic!("{action}") };
        assert_eq!(found, code, "{version} {action}");
    }
}

#[test]
fn a_life_at_changing_speed_is_the_same_in_its_own_time() {
    // An own day takes as long as the speeds say, and as many cars come.
    let lived = |changes: bool| {
        let mut bench = Bench::accepted(Version::V16, |config| {
            config.pace = Some(crate::Pace::new(1.0, instant()));
            config.seed = 5;
        });
        let pace = bench.charger.pace().clone();
        let begin = bench.now.at;
        let mut speeds = [1.0, 30.0, 2.0, 60.0, 0.5].into_iter().cycle();
        while pace.seconds(bench.now.at) < 5.0 * 86_400.0 {
            if changes {
                pace.set_speed(speeds.next().unwrap(), bench.now.at);
                bench.charger.handle_pace(bench.now);
            }
            bench.pass(MINUTE * 10);
        }
        let books = bench.books();
        (bench.now.at - begin, books.transactions.len(), books.energy_wh())
    };
    let ((slow, sold, energy), (fast, as_many, as_much)) = (lived(false), lived(true));
    assert!(fast * 10 < slow, "{fast:?} {slow:?}");
    // Not the very same, as chances are drawn in the order in which things happen.
    let near = |one: u64, other: u64| one.abs_diff(other) * 5 < one;
    assert!(near(sold as u64, as_many as u64), "{sold} {as_many}");
    assert!(near(energy, as_much), "{energy} {as_much}");
}

#[test]
fn the_same_seed_lives_the_same_life() {
    let life = |seed: u64| {
        let mut bench = Bench::accepted(Version::V16, |config| config.seed = seed);
        bench.pass(MINUTE * 600);
        bench.said.iter().map(|(action, payload)| format!("{action} {payload}")).collect::<Vec<_>>()
    };
    assert_eq!(life(1), life(1));
    assert_ne!(life(1), life(2));
}
