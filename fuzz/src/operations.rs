//! Two connections that talk to each other over a line that loses, repeats and adds, with a clock that moves by hand.

use bytes::Bytes;
use bytestring::ByteString;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};
use switchboard_rpc::{
    Frame, MessageId, Registration, Version,
    connection::{Called, Config, Connection, Event, Lane, Outcome, Outgoing, Role, TransmitKind},
    frame,
};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The central side.
    Csms,
    /// The station.
    Station,
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// One side wants something of the other.
    Call { who: Who, action: u8, patience: u8 },
    /// One side takes back one of its calls.
    Cancel { who: Who, which: u8 },
    /// One side answers the call in its hand, rightly or not.
    Answer { who: Who, how: u8 },
    /// The line delivers the next text.
    Deliver { to: Who },
    /// The line delivers the next text twice.
    DeliverTwice { to: Who },
    /// The line loses the next text.
    Lose { to: Who },
    /// The line delivers something that nobody sent.
    Invent { to: Who, what: u8 },
    /// Time passes.
    Wait { quarter_seconds: u8 },
    /// Time passes until one side has something to do.
    WaitForTimer { who: Who },
    /// Processing thinks something else of the station.
    Register { what: u8 },
    /// One side sends something that wants no answer.
    Tell { who: Who },
    /// The socket goes.
    Close,
}

impl Operation {
    /// Any three bytes are an operation.
    pub fn decode([kind, first, second]: [u8; 3]) -> Self {
        let who = if kind & 0x80 == 0 { Who::Csms } else { Who::Station };
        match kind & 0x1f {
            0..=5 => Self::Call { who, action: first, patience: second },
            6 => Self::Cancel { who, which: first },
            7..=12 => Self::Answer { who, how: first },
            13..=19 => Self::Deliver { to: who },
            20 => Self::DeliverTwice { to: who },
            21 => Self::Lose { to: who },
            22 | 23 => Self::Invent { to: who, what: first },
            24 | 25 => Self::Wait { quarter_seconds: first },
            26 | 27 => Self::WaitForTimer { who },
            28 => Self::Register { what: first },
            29 => Self::Tell { who },
            30 if first == 0 => Self::Close,
            _ => Self::Deliver { to: who },
        }
    }
}

const ACTIONS: [&str; 8] = [
    "BootNotification",
    "Heartbeat",
    "MeterValues",
    "Authorize",
    "Reset",
    "GetConfiguration",
    "RemoteStartTransaction",
    "GetVariables",
];

/// Small, so that every bound is met often.
fn config() -> Config {
    Config {
        inbound_calls_max: 2,
        inbound_bytes_max: 300,
        transmits_max: 4,
        outgoing_calls_max: 3,
        events_max: 6,
        bad_frames_max: 6,
        replay_bytes_max: 200,
        ..Config::default()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Waits,
    Written,
}

/// One side with all that is known about it from outside.
struct Side {
    connection: Connection,
    /// On the line towards it.
    line: VecDeque<ByteString>,
    next_key: u64,
    /// Its calls that have not ended.
    open: HashMap<u64, (MessageId, Progress)>,
    in_hand: Option<Called>,
    last_seq: u64,
    last_answered: u64,
    /// CALLs that were delivered to it and not given out yet, in their order.
    delivered_calls: VecDeque<ByteString>,
    calls_delivered: usize,
    answers_written: usize,
    /// Everything that was delivered to it and is no CALL.
    delivered_answers: Vec<ByteString>,
}

impl Side {
    fn new(role: Role, version: Version, now: Instant) -> Self {
        Self {
            connection: Connection::new(role, version, config(), now),
            line: VecDeque::new(),
            next_key: 0,
            open: HashMap::new(),
            in_hand: None,
            last_seq: 0,
            last_answered: 0,
            delivered_calls: VecDeque::new(),
            calls_delivered: 0,
            answers_written: 0,
            delivered_answers: Vec::new(),
        }
    }

    fn deliver(&mut self, text: ByteString, now: Instant) {
        match Frame::parse(&text, self.connection.version()) {
            Ok(Frame::Call { .. }) => {
                self.delivered_calls.push_back(text.clone());
                self.calls_delivered += 1;
            }
            _ => self.delivered_answers.push(text.clone()),
        }
        self.connection.handle_text(text, now);
    }

    fn ended(&mut self, key: u64, outcome: &Outcome) {
        let (id, progress) = self.open.remove(&key).expect("a call ends once, and only if it was taken");
        let expected = match outcome {
            Outcome::Expired | Outcome::NotSent | Outcome::Cancelled => Progress::Waits,
            _ => Progress::Written,
        };
        assert_eq!(progress, expected, "{key}: {outcome:?}");
        match outcome {
            Outcome::Answered { frame, .. } | Outcome::Refused { frame, .. } => {
                assert!(self.delivered_answers.contains(frame), "nobody sent {frame}");
                let frame = Frame::parse(frame, self.connection.version()).expect("a sound answer");
                assert_eq!(*frame.id(), id);
            }
            Outcome::MalformedAnswer { frame, .. } => {
                assert!(self.delivered_answers.contains(frame), "nobody sent {frame}");
            }
            _ => {}
        }
    }

    /// Polls everything. Gives what goes on the line and whether the connection wants to be closed.
    fn settle(&mut self, now: Instant) -> (Vec<ByteString>, bool) {
        let (mut texts, mut close) = (Vec::new(), false);
        while let Some(transmit) = self.connection.poll_transmit(now) {
            serde_json::from_str::<serde_json::Value>(&transmit.text).expect("what is written is JSON");
            match transmit.kind {
                TransmitKind::Call { key } => {
                    let (_, progress) = self.open.get(&key).expect("a call that has not ended");
                    assert_eq!(*progress, Progress::Waits, "a call is written twice");
                }
                TransmitKind::Answer { seq } => {
                    assert!(seq > self.last_answered, "answers out of order");
                    self.last_answered = seq;
                    self.answers_written += 1;
                }
                TransmitKind::Repeat => self.answers_written += 1,
                TransmitKind::Error | TransmitKind::Unanswered => {}
            }
            texts.push(transmit.text);
        }
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Called(called) => {
                    assert!(self.in_hand.is_none(), "two calls in hand");
                    assert!(called.seq > self.last_seq, "calls out of order");
                    self.last_seq = called.seq;
                    // Repeated calls and those beyond a bound are not given out; none overtakes another.
                    while self.delivered_calls.pop_front().expect("a call that came") != called.frame {}
                    self.in_hand = Some(called);
                }
                Event::Ended { key, outcome } => self.ended(key, &outcome),
                Event::Written { key } => {
                    let written = self.open.values().filter(|(_, progress)| *progress == Progress::Written);
                    assert_eq!(written.count(), 0, "two calls are outstanding");
                    let (_, progress) = self.open.get_mut(&key).expect("a call that has not ended");
                    *progress = Progress::Written;
                }
                Event::Close { .. } => close = true,
                _ => {}
            }
        }
        // A text may bring events, an event never a text: another round would find nothing.
        assert!(self.connection.poll_transmit(now).is_none());
        assert!(self.answers_written <= self.calls_delivered, "more answers than calls");
        assert!(self.connection.calls_waiting() <= 2 * config().outgoing_calls_max);
        (texts, close)
    }
}

struct World {
    now: Instant,
    csms: Side,
    station: Side,
    closed: bool,
}

impl World {
    fn side(&mut self, who: Who) -> &mut Side {
        match who {
            Who::Csms => &mut self.csms,
            Who::Station => &mut self.station,
        }
    }

    fn settle(&mut self) {
        let (to_station, close_csms) = self.csms.settle(self.now);
        let (to_csms, close_station) = self.station.settle(self.now);
        self.station.line.extend(to_station);
        self.csms.line.extend(to_csms);
        if (close_csms || close_station) && !self.closed {
            self.close();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        for who in [Who::Csms, Who::Station] {
            let now = self.now;
            let side = self.side(who);
            side.connection.handle_close(now);
            side.in_hand = None;
            let (texts, _) = side.settle(now);
            assert!(texts.is_empty(), "something was written after the end");
            assert!(side.open.is_empty(), "a call of ours never ended");
            assert_eq!(side.connection.poll_timeout(), None);
            assert!(!side.connection.wants_input() && side.connection.is_idle());
        }
    }

    fn wait(&mut self, until: Instant) {
        self.now = self.now.max(until);
        let now = self.now;
        for who in [Who::Csms, Who::Station] {
            self.side(who).connection.handle_timeout(now);
        }
        self.settle();
        for who in [Who::Csms, Who::Station] {
            let timeout = self.side(who).connection.poll_timeout();
            assert!(timeout.is_none_or(|timeout| timeout > now), "a timer that never comes to rest");
        }
    }

    fn perform(&mut self, operation: Operation) {
        let now = self.now;
        match operation {
            Operation::Call { who, action, patience } => {
                let side = self.side(who);
                side.next_key += 1;
                let key = side.next_key;
                let id = MessageId::new(&format!("{who:?}-{key}"));
                let call = Outgoing {
                    key,
                    id: id.clone(),
                    action: ACTIONS[usize::from(action) % ACTIONS.len()].into(),
                    payload: Bytes::from_static(br#"{"a":[1,"]"]}"#),
                    lane: if action & 0x80 == 0 { Lane::Normal } else { Lane::Urgent },
                    answer_timeout: Duration::from_secs(1 + u64::from(patience & 0x0f) * 4),
                    queue_timeout: Duration::from_secs(u64::from(patience >> 4) * 8),
                };
                if side.connection.call(call, now).is_ok() {
                    side.open.insert(key, (id, Progress::Waits));
                }
            }
            Operation::Cancel { who, which } => {
                let side = self.side(who);
                let key = side.next_key.saturating_sub(u64::from(which & 7));
                let waits = side.open.get(&key).is_some_and(|(_, progress)| *progress == Progress::Waits);
                assert_eq!(side.connection.cancel(key), waits);
            }
            Operation::Answer { who, how } => self.side(who).answer(how, now),
            Operation::Deliver { to } | Operation::DeliverTwice { to } => {
                let times = if matches!(operation, Operation::DeliverTwice { .. }) { 2 } else { 1 };
                let side = self.side(to);
                if side.connection.wants_input()
                    && let Some(text) = side.line.pop_front()
                {
                    for _ in 0..times {
                        side.deliver(text.clone(), now);
                    }
                }
            }
            Operation::Lose { to } => {
                self.side(to).line.pop_front();
            }
            Operation::Invent { to, what } => {
                let side = self.side(to);
                side.deliver(invention(what, side), now);
            }
            Operation::Wait { quarter_seconds } => {
                self.wait(now + Duration::from_millis(250) * u32::from(quarter_seconds));
            }
            Operation::WaitForTimer { who } => {
                if let Some(timeout) = self.side(who).connection.poll_timeout() {
                    self.wait(timeout);
                }
            }
            Operation::Register { what } => self.csms.connection.set_registration(match what % 4 {
                0 => Registration::Pending,
                1 => Registration::Rejected,
                _ => Registration::Accepted,
            }),
            Operation::Tell { who } => {
                let side = self.side(who);
                let told = frame::write_send(&MessageId::new("told"), "NotifyPeriodicEventStream", b"");
                let _refused = side.connection.send_unanswered(told);
            }
            Operation::Close => self.close(),
        }
        self.settle();
    }
}

impl Side {
    fn answer(&mut self, how: u8, now: Instant) {
        let Some(called) = self.in_hand.take() else {
            let answer = frame::write_result(&MessageId::new("nobody asked"), b"");
            self.connection.answer(self.last_seq, answer, now).expect_err("nothing is in hand");
            return;
        };
        let version = self.connection.version();
        let payload = format!("{{\"n\":\"{}\"}}", "x".repeat(usize::from(how >> 3) * 4));
        let answer = match how & 7 {
            0 => frame::write_error(
                &called.id,
                switchboard_rpc::ErrorCode::InternalError,
                "failed",
                b"",
                version,
            ),
            1 => {
                let other = frame::write_result(&MessageId::new("other"), payload.as_bytes());
                self.connection.answer(called.seq, other, now).expect_err("it has another id");
                self.in_hand = Some(called);
                return;
            }
            2 => {
                assert!(self.connection.leave_unanswered(called.seq, now));
                return;
            }
            3 => {
                let answer = frame::write_result(&called.id, payload.as_bytes());
                self.connection.answer(called.seq + 1, answer, now).expect_err("it has another number");
                self.in_hand = Some(called);
                return;
            }
            _ => frame::write_result(&called.id, payload.as_bytes()),
        };
        self.connection.answer(called.seq, answer, now).expect("the call is in hand");
    }
}

/// Texts that a peer or the line could come up with; some are about a call that is open.
fn invention(what: u8, side: &Side) -> ByteString {
    let open = side.open.values().find(|(_, progress)| *progress == Progress::Written);
    let id = open.map_or("\"none\"", |(id, _)| id.as_json());
    match what % 20 {
        0 => "".into(),
        1 => "nonsense".into(),
        2 => format!("[3,{id},{{}}]").into(),
        3 => format!("[3,{id}]").into(),
        4 => format!("[4,{id},\"GenericError\"]").into(),
        5 => format!("[3,{id},{{\"a\":").into(),
        6 => format!("[5,{id},\"GenericError\",\"\",{{}}]").into(),
        7 => "[2,\"same\",\"MeterValues\",{}]".into(),
        8 => "[2,\"same\",\"MeterValues\",{\"a\":1}]".into(),
        9 => "[2,\"same\",\"Heartbeat\",{}]".into(),
        10 => "[2,42,\"BootNotification\",{}]".into(),
        11 => "[2,\"a\",\"Heartbeat\",[]]".into(),
        12 => "[2,\"a\",\"Heartbeat\"]".into(),
        13 => "[6,\"a\",\"NotifyPeriodicEventStream\",{}]".into(),
        14 => format!("[2,\"big\",\"MeterValues\",{{\"x\":\"{}\"}}]", "x".repeat(400)).into(),
        15 => "[9,\"a\"]".into(),
        16 => format!("[2,\"{}\",\"Heartbeat\",{{}}]", "é".repeat(37)).into(),
        17 => "[2,\"\\u0073ame\",\"MeterValues\",{}]".into(),
        18 => format!("[3,{id},null]").into(),
        _ => format!("[2,{what},\"StatusNotification\",{{}}]").into(),
    }
}

/// Lets all this happen to a connection of one of the versions, and checks after each step what must always hold:
/// every call of ours ends exactly once and as far as it got, its answer is one that came for it, at most one is
/// outstanding, the other side's calls are given out one at a time and in order, answers are in order and no more than
/// the calls, what waits is bounded, and timers come to rest.
pub fn run(version: u8, operations: &[Operation]) {
    let version = Version::ALL[usize::from(version) % Version::ALL.len()];
    let now = Instant::now();
    let mut world = World {
        now,
        csms: Side::new(Role::Csms, version, now),
        station: Side::new(Role::Station, version, now),
        closed: false,
    };
    for operation in operations {
        world.perform(*operation);
        if world.closed {
            break;
        }
    }
    if !world.closed {
        // Whatever happened, a year later nothing is left to wait for.
        world.wait(world.now + Duration::from_secs(365 * 24 * 60 * 60));
        world.close();
    }
}
