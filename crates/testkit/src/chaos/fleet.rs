//! Stations that charge, and keep count of what they said and were answered. They share no code with the product.
//!
//! Each is as a good station is: what is about a transaction is sent until it is answered, on a new connection and under a
//! new id if need be, and nothing overtakes it.

use super::Plan;
use super::cell::{ABNORMAL, TRY_AGAIN_LATER};
use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Readings of a transaction.
pub(super) const READINGS: u32 = 3;
/// How long a station waits for an answer. The gateway's deadline is below.
const ANSWER: Duration = Duration::from_secs(35);
/// What a gateway has for an answer, less what clocks and a busy machine may differ.
const DEADLINE: Duration = Duration::from_secs(24);
/// What is answered after this is late: other stations have given it up.
const LATE: Duration = Duration::from_secs(30);
/// How long it thinks about one command in four.
const THOUGHT: Duration = Duration::from_millis(1500);
/// How long it waits before it sends again what was refused.
const AGAIN: Duration = Duration::from_secs(2);

/// Of what is wrong, so much is kept.
const KEPT_MAX: usize = 1000;
/// The code of a close frame without one.
const NO_CODE: u16 = 1005;

/// What is true of one transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Billed {
    /// Its start was sent.
    pub(super) sent: bool,
    /// Which number the start was answered with; 0: none yet.
    pub(super) id: i64,
    /// How many readings were sent, and which were answered.
    pub(super) readings_sent: u32,
    pub(super) readings: u32,
    pub(super) stop_sent: bool,
    pub(super) stopped: bool,
}

/// What all of them have counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) answers: u64,
    /// Calls that an open connection never answered.
    pub(super) unanswered: u64,
    /// Calls that were answered with an error, by code.
    pub(super) refused: BTreeMap<String, u64>,
    /// What was refused, or cost the connection, before it could have been late.
    pub(super) hasty: Vec<String>,
    /// Connections that the other side ended, by close code.
    pub(super) closed: BTreeMap<u16, u64>,
    /// Connections that it did not let in.
    pub(super) turned_away: u64,
    /// What was said to them that should not have been.
    pub(super) wrong: Vec<String>,
    /// The longest wait for an answer, and for which.
    pub(super) longest: (Duration, String),
    /// Commands that they got: what was in it, and how often.
    pub(super) commands: BTreeMap<String, u32>,
    pub(super) transactions: BTreeMap<(usize, u32), Billed>,
    /// How many stations have been answered at all.
    pub(super) begun: usize,
}

/// Stations at work.
#[derive(Debug)]
pub(super) struct Fleet {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    gateways: Vec<SocketAddr>,
    tally: Mutex<Tally>,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The identity of a station.
pub(super) fn identity(station: usize) -> String {
    format!("K{station:04}")
}

/// When something of a transaction was, by the station's clock: distinct for each.
pub(super) fn time(number: u32, minute: u32) -> String {
    format!(
        "2025-{:02}-{:02}T{:02}:{minute:02}:00Z",
        1 + number / 600 % 12,
        1 + number % 600 / 24,
        number % 24
    )
}

/// The register, in Wh.
pub(super) fn meter(number: u32, minute: u32) -> u32 {
    number * 1000 + minute * 10
}

/// The minute of a reading, beginning with 1.
pub(super) fn minute(reading: u32) -> u32 {
    reading * 10
}

/// The minute of the end.
pub(super) const STOP: u32 = 50;

impl Fleet {
    pub(super) fn start(gateways: Vec<SocketAddr>, plan: &Plan) -> Self {
        let shared = Arc::new(Shared { gateways, tally: Mutex::default() });
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for station in 0..plan.stations {
            let one = Station {
                shared: Arc::clone(&shared),
                stop: stop.subscribe(),
                name: identity(station),
                station,
                random: Random::new(plan.seed.wrapping_mul(1_000_003).wrapping_add(station as u64)),
                turn: station,
                line: None,
                messages: 0,
                answered: false,
                pause: plan.pause,
                later: None,
            };
            tasks.spawn(one.live());
        }
        Self { shared, stop, tasks }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.shared.tally()
    }

    /// Lets them end their transactions and go; how many had not done so in time.
    pub(super) async fn finish(&mut self, patience: Duration) -> usize {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        drop(timeout(patience, all).await);
        self.tasks.len()
    }
}

/// Numbers without a pattern that a seed repeats: xorshift64*.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound.max(1)
    }
}

type Line = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[derive(Debug)]
struct Station {
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    name: String,
    station: usize,
    random: Random,
    /// Which gateway next.
    turn: usize,
    line: Option<Line>,
    messages: u64,
    answered: bool,
    pause: Duration,
    /// The answer to a command that it takes its time for.
    later: Option<(Instant, Value)>,
}

/// What came in.
enum Heard {
    /// An answer: 3 or 4, its id, the rest.
    Answer(u64, String, Vec<Value>),
    /// The line has ended, with this code.
    Gone(u16),
}

impl Station {
    async fn live(mut self) {
        // Not all in the same instant.
        sleep(Duration::from_millis(self.random.below(2000))).await;
        let boot = json!({ "chargePointVendor": "Chaos", "chargePointModel": "K" });
        self.insist("BootNotification", &boot).await;
        for number in 0.. {
            if *self.stop.borrow() {
                break;
            }
            self.transaction(number).await;
            self.once("Heartbeat", &json!({})).await;
            self.pause().await;
        }
        if let Some(mut line) = self.line.take() {
            // Who goes anyway needs no answer.
            drop(timeout(Duration::from_secs(2), line.close(None)).await);
        }
    }

    async fn transaction(&mut self, number: u32) {
        self.note(number, |billed| billed.sent = true);
        let start = json!({
            "connectorId": 1, "idTag": "CHAOS", "timestamp": time(number, 0), "meterStart": meter(number, 0)
        });
        let answer = self.insist("StartTransaction", &start).await;
        let id = answer["transactionId"].as_i64().unwrap_or_default();
        if id <= 0 || answer["idTagInfo"]["status"] != "Accepted" {
            self.wrong(&format!("a start is answered with {answer}"));
        }
        self.note(number, |billed| billed.id = id);
        for reading in 1..=READINGS {
            self.pause().await;
            let at = minute(reading);
            let sample = json!({ "value": meter(number, at).to_string() });
            let values = json!({
                "connectorId": 1, "transactionId": id,
                "meterValue": [{ "timestamp": time(number, at), "sampledValue": [sample] }]
            });
            self.note(number, |billed| billed.readings_sent = reading);
            let answer = self.insist("MeterValues", &values).await;
            if answer != json!({}) {
                self.wrong(&format!("a reading is answered with {answer}"));
            }
            self.note(number, |billed| billed.readings = reading);
        }
        self.pause().await;
        let status = json!({ "connectorId": 1, "errorCode": "NoError", "status": "Finishing" });
        self.once("StatusNotification", &status).await;
        let stop =
            json!({ "transactionId": id, "timestamp": time(number, STOP), "meterStop": meter(number, STOP) });
        self.note(number, |billed| billed.stop_sent = true);
        let answer = self.insist("StopTransaction", &stop).await;
        if !answer.is_object() {
            self.wrong(&format!("a stop is answered with {answer}"));
        }
        self.note(number, |billed| billed.stopped = true);
    }

    fn note(&self, number: u32, what: impl FnOnce(&mut Billed)) {
        what(self.shared.tally().transactions.entry((self.station, number)).or_default());
    }

    fn wrong(&self, what: &str) {
        self.keep(|tally| &mut tally.wrong, what);
    }

    fn hasty(&self, what: &str) {
        self.keep(|tally| &mut tally.hasty, what);
    }

    fn keep(&self, place: impl FnOnce(&mut Tally) -> &mut Vec<String>, what: &str) {
        let mut tally = self.shared.tally();
        let place = place(&mut tally);
        if place.len() < KEPT_MAX {
            place.push(format!("{}: {what}", self.name));
        }
    }

    /// Sends until it is answered.
    async fn insist(&mut self, action: &str, payload: &Value) -> Value {
        let begun = Instant::now();
        loop {
            if let Some(answer) = self.ask(action, payload, begun).await {
                return answer;
            }
            if self.line.is_some() {
                // Refused, or not answered.
                self.listen(AGAIN).await;
            }
        }
    }

    /// Sends once, if there is a line.
    async fn once(&mut self, action: &str, payload: &Value) {
        if self.line.is_some() {
            self.ask(action, payload, Instant::now()).await;
        }
    }

    /// One attempt. None: refused, not answered, or the line went.
    async fn ask(&mut self, action: &str, payload: &Value, begun: Instant) -> Option<Value> {
        if self.line.is_none() {
            self.connect().await;
        }
        self.messages += 1;
        let id = format!("{}-{}", self.name, self.messages);
        if !self.say(&json!([2, id, action, payload])).await {
            return None;
        }
        let said = Instant::now();
        let limit = said + ANSWER;
        loop {
            let Ok(heard) = tokio::time::timeout_at(limit, self.hear()).await else {
                self.shared.tally().unanswered += 1;
                return None;
            };
            let waited = said.elapsed();
            match heard {
                Heard::Gone(code) => {
                    if code == TRY_AGAIN_LATER && waited < DEADLINE {
                        self.hasty(&format!("{action} cost the connection after {waited:?}"));
                    }
                    return None;
                }
                Heard::Answer(kind, of, mut rest) if of == id => {
                    if kind == 4 && waited < DEADLINE {
                        self.hasty(&format!("{action} was refused after {waited:?}: {rest:?}"));
                    } else if waited > LATE {
                        self.wrong(&format!("{action} was answered after {waited:?}"));
                    }
                    let mut tally = self.shared.tally();
                    if kind == 4 {
                        let code = rest.first().and_then(Value::as_str).unwrap_or("?");
                        *tally.refused.entry(format!("{action}: {code}")).or_default() += 1;
                        return None;
                    }
                    tally.answers += 1;
                    if !std::mem::replace(&mut self.answered, true) {
                        tally.begun += 1;
                    }
                    let took = begun.elapsed();
                    if took > tally.longest.0 {
                        tally.longest = (took, format!("{action} of {}", self.name));
                    }
                    return rest.pop();
                }
                Heard::Answer(kind, of, rest) => {
                    self.wrong(&format!("[{kind},\"{of}\",{rest:?}] while {id} was open"));
                }
            }
        }
    }

    async fn pause(&mut self) {
        let mean = u64::try_from(self.pause.as_millis()).unwrap_or(1000);
        let pause = Duration::from_millis(mean / 2 + self.random.below(mean));
        self.listen(pause).await;
    }

    /// Answers commands for so long.
    async fn listen(&mut self, duration: Duration) {
        let until = Instant::now() + duration;
        while self.line.is_some() {
            match tokio::time::timeout_at(until, self.hear()).await {
                Err(_) => return,
                Ok(Heard::Gone(_)) => {}
                Ok(Heard::Answer(kind, of, rest)) => {
                    self.wrong(&format!("[{kind},\"{of}\",{rest:?}] while nothing was open"));
                }
            }
        }
        tokio::time::sleep_until(until).await;
    }

    /// The next answer; commands are answered meanwhile.
    async fn hear(&mut self) -> Heard {
        loop {
            let Some(line) = self.line.as_mut() else { return Heard::Gone(ABNORMAL) };
            let due = self.later.as_ref().map(|(at, _)| *at);
            let heard = tokio::select! {
                heard = line.next() => heard,
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    if let Some((_, answer)) = self.later.take() {
                        self.say(&answer).await;
                    }
                    continue;
                }
            };
            let text = match heard {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(frame))) => {
                    return self.gone(frame.map_or(NO_CODE, |frame| frame.code.into()));
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => {
                    return self.gone(ABNORMAL);
                }
            };
            match serde_json::from_str::<Value>(&text) {
                Ok(Value::Array(mut frame)) if frame.len() >= 3 && frame[1].is_string() => {
                    let kind = frame[0].as_u64().unwrap_or_default();
                    let id = frame[1].as_str().unwrap_or_default().to_owned();
                    if kind != 2 {
                        return Heard::Answer(kind, id, frame.split_off(2));
                    }
                    let what = frame[3]["data"].as_str().unwrap_or_default().to_owned();
                    // Counted before it is answered: whoever is told of it finds it done.
                    *self.shared.tally().commands.entry(what.clone()).or_default() += 1;
                    let answer = json!([3, id, { "status": "Accepted", "data": format!("done {what}") }]);
                    if self.random.below(4) > 0 {
                        self.say(&answer).await;
                    } else {
                        // So that some are always under way when something dies.
                        self.later = Some((Instant::now() + THOUGHT, answer));
                    }
                }
                _ => self.wrong(&format!("no frame: {text}")),
            }
        }
    }

    async fn say(&mut self, frame: &Value) -> bool {
        let Some(line) = self.line.as_mut() else { return false };
        if line.send(Message::text(frame.to_string())).await.is_ok() {
            return true;
        }
        self.gone(ABNORMAL);
        false
    }

    fn gone(&mut self, code: u16) -> Heard {
        self.later = None;
        if self.line.take().is_some() {
            *self.shared.tally().closed.entry(code).or_default() += 1;
        }
        Heard::Gone(code)
    }

    /// Connects, as often as it takes, at one gateway after the other.
    async fn connect(&mut self) {
        loop {
            let address = self.shared.gateways[self.turn % self.shared.gateways.len()];
            match timeout(Duration::from_secs(10), connected(address, &self.name)).await {
                Ok(Ok(line)) => {
                    self.line = Some(line);
                    return;
                }
                _ => self.shared.tally().turned_away += 1,
            }
            self.turn += 1;
            sleep(Duration::from_millis(300 + self.random.below(700))).await;
        }
    }
}

async fn connected(address: SocketAddr, name: &str) -> Result<Line> {
    let mut request = format!("ws://{address}/ocpp/{name}").into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("ocpp1.6"));
    let (line, _) = tokio_tungstenite::connect_async(request).await?;
    Ok(line)
}
