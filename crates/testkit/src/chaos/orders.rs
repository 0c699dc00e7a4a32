//! Commands that go out all the time, and what their senders were told.
//!
//! Each has a key of its own, so that whoever loses the line to the API on the way asks again, at another worker.

use super::fleet::{Random, Tally, identity};
use crate::http;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// One is sent so often.
const EVERY: Duration = Duration::from_millis(100);
/// How long a sender asks for the outcome: longer than anything is away.
const PATIENCE: Duration = Duration::from_secs(150);

/// What a command's sender was told: its key and the whole answer; none: nothing at all.
pub(super) type Told = (String, Option<Value>);

/// Commands on their way.
#[derive(Debug)]
pub(super) struct Orders {
    stop: watch::Sender<bool>,
    issuing: JoinHandle<()>,
    /// How many have been sent.
    sent: Arc<AtomicUsize>,
    told: Arc<Mutex<Vec<Told>>>,
}

/// What is wrong with what senders were told.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) sent: usize,
    pub(super) without_outcome: usize,
    /// Of which whoever sent them on the broker heard nothing: only where there is no API of ours.
    pub(super) silent: usize,
    pub(super) unknown: usize,
    pub(super) doubled: usize,
    pub(super) invented: Vec<String>,
}

impl Orders {
    pub(super) fn start(apis: Vec<SocketAddr>, stations: usize, seed: u64) -> Self {
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let answers = Arc::clone(&told);
        let sent: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&sent);
        let issuing = tokio::spawn(async move {
            let mut random = Random::new(seed ^ 0xc0_ffee);
            let mut senders = JoinSet::new();
            for number in 0_usize.. {
                let station = identity(usize::try_from(random.below(stations as u64)).unwrap_or(0));
                count.fetch_add(1, Ordering::Relaxed);
                senders.spawn(send(apis.clone(), number, station, Arc::clone(&answers)));
                if timeout(EVERY, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
                    break;
                }
            }
            while senders.join_next().await.is_some() {}
        });
        Self { stop, issuing, sent, told }
    }

    /// Sends no more, and waits for the outcomes of those that are under way.
    pub(super) async fn finish(&mut self) {
        self.stop.send_replace(true);
        drop(timeout(PATIENCE + Duration::from_secs(5), &mut self.issuing).await);
    }

    /// Compares what senders were told with what stations got.
    pub(super) fn judge(&self, tally: &Tally) -> Judged {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        judge(self.sent.load(Ordering::Relaxed), &told, tally)
    }
}

/// Compares what the senders of so many commands were told with what stations got.
pub(super) fn judge(sent: usize, told: &[Told], tally: &Tally) -> Judged {
    // Whose sender has not even given up is without an outcome as well.
    let without_outcome = sent.saturating_sub(told.len());
    let mut judged = Judged { sent, without_outcome, ..Judged::default() };
    for (key, answer) in told {
        let times = tally.commands.get(key).copied().unwrap_or(0);
        if times > 1 {
            judged.doubled += 1;
        }
        let Some(answer) = answer else {
            judged.without_outcome += 1;
            continue;
        };
        let right = match answer["outcome"].as_str() {
            Some("answered") => times > 0 && answer["payload"]["data"] == format!("done {key}"),
            Some("unknown") => {
                judged.unknown += 1;
                true
            }
            Some("silence") => {
                judged.silent += 1;
                true
            }
            Some("offline" | "busy" | "expired" | "cancelled" | "notSent") => times == 0,
            _ => false,
        };
        if !right {
            judged.invented.push(format!("{key} reached its station {times} times: {answer}"));
        }
    }
    judged
}

async fn send(apis: Vec<SocketAddr>, number: usize, station: String, told: Arc<Mutex<Vec<Told>>>) {
    let key = format!("order-{number}");
    let body = json!({
        "action": "DataTransfer", "payload": { "vendorId": "chaos", "data": key }, "key": key, "timeoutMs": 10_000
    })
    .to_string();
    let limit = Instant::now() + PATIENCE;
    let mut outcome = None;
    for attempt in number.. {
        let api = apis[attempt % apis.len()];
        let request = format!(
            "POST /v1/stations/{station}/commands HTTP/1.1\r\nHost: {api}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let Ok(answer) = timeout_at(limit, http::exchange(api, request.as_bytes())).await else { break };
        // Anything but an outcome says that the API could not do it now.
        let body = answer.ok().and_then(|answer| {
            let (head, body) = answer.split_once("\r\n\r\n")?;
            head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str::<Value>(body).ok())?
        });
        if body.is_some() {
            outcome = body;
            break;
        }
        if Instant::now() > limit {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    told.lock().unwrap_or_else(PoisonError::into_inner).push((key, outcome));
}
