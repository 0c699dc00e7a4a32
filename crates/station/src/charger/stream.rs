//! What only stations of 2.1 do: a stream of what is drawn, limits that drivers and the central system set, priority.

use super::{Asked, Charger, Kind, Moment, outgoing::time};
use crate::client::Outcome;
use serde_json::{Value, json};
use switchboard_rpc::Version;

/// The one stream that a station has, and the monitor that it belongs to, which is built in.
const STREAM: i64 = 1;
/// How many values are sent together, unless the central system wants it otherwise.
const VALUES: usize = 8;
/// And at most.
const VALUES_MAX: usize = 100;
/// How many wait for a connection at most; beyond it the oldest are dropped.
const WAITING_MAX: usize = 200;

/// What is drawn, told now and then without an answer.
#[derive(Debug)]
pub(super) struct Stream {
    values: usize,
    /// When, in milliseconds since 1970, and how much, in W.
    samples: Vec<(i64, u64)>,
}

impl Charger {
    /// Asks for the stream; without consent there is none.
    pub(super) fn open_stream(&mut self) {
        if self.config.version == Version::V21 {
            self.notice(
                "OpenPeriodicEventStream",
                json!({ "constantStreamData": {
                    "id": STREAM, "variableMonitoringId": 1, "params": { "values": VALUES },
                }}),
            );
        }
    }

    pub(super) fn stream_opened(&mut self, outcome: &Outcome) {
        let Outcome::Answered { payload, .. } = outcome else { return };
        let answer: Value = serde_json::from_str(payload).unwrap_or_default();
        if answer["status"] == "Accepted" {
            self.stream = Some(Box::new(Stream { values: VALUES, samples: Vec::new() }));
        }
    }

    /// The meters were read: what the station draws goes into the stream.
    pub(super) fn feed_stream(&mut self, now: Moment) {
        let drawn: f64 =
            self.connectors.iter().filter_map(|one| one.session.as_ref()).map(|one| one.power_w()).sum();
        let Some(stream) = &mut self.stream else { return };
        if stream.samples.len() >= WAITING_MAX {
            stream.samples.remove(0);
        }
        stream.samples.push((now.unix_ms, super::whole(drawn)));
        while let Some(stream) = &mut self.stream
            && stream.samples.len() >= stream.values
            && self.client.is_online()
        {
            let batch: Vec<_> = stream.samples.drain(..stream.values).collect();
            let base = batch.first().map_or(now.unix_ms, |(at, _)| *at);
            let data: Vec<Value> = batch
                .iter()
                .map(|(at, watts)| {
                    #[expect(clippy::cast_precision_loss, reason = "hours at most")]
                    let seconds = (at - base) as f64 / 1000.0;
                    json!({ "t": seconds, "v": watts.to_string() })
                })
                .collect();
            let payload = json!({ "id": STREAM, "pending": stream.samples.len(), "basetime": time(base),
                "data": data });
            let sent = self.client.send("NotifyPeriodicEventStream", payload.to_string().as_bytes());
            if let Err(error) = sent {
                tracing::debug!(station = self.config.id, %error, "a part of the stream was not sent");
            }
        }
    }

    pub(super) fn streams(&self) -> Value {
        let data: Vec<Value> = self
            .stream
            .iter()
            .map(|stream| json!({ "id": STREAM, "variableMonitoringId": 1, "params": { "values": stream.values } }))
            .collect();
        if data.is_empty() { json!({}) } else { json!({ "constantStreamData": data }) }
    }

    pub(super) fn adjust_stream(&mut self, request: &Value) -> Value {
        let values = request["params"]["values"].as_u64().and_then(|values| usize::try_from(values).ok());
        let wanted = values.filter(|values| (1..=VALUES_MAX).contains(values));
        let status = match (&mut self.stream, wanted) {
            (Some(stream), Some(values)) if request["id"] == STREAM => {
                stream.values = values;
                "Accepted"
            }
            _ => "Rejected",
        };
        json!({ "status": status })
    }

    /// The central system has answered an event with a limit of the transaction (E16).
    pub(super) fn limited(&mut self, number: u64, answer: &Value, now: Moment) {
        let Some(most_wh) = answer["transactionLimit"]["maxEnergy"].as_f64() else { return };
        let Some(connector) = self.connectors.iter_mut().find(|one| one.transaction() == Some(number)) else {
            return;
        };
        let id = connector.id;
        let Some(session) = &mut connector.session else { return };
        if session.limit_wh.is_some_and(|before| (before - most_wh).abs() < 0.5) {
            return;
        }
        session.limit_wh = Some(most_wh.max(0.0));
        self.bill_of(id, Kind::Limit { most_wh }, now);
        self.judge_flow(now);
    }

    /// Priority for a transaction, or no more (K21).
    pub(super) fn use_priority(&mut self, request: &Value, now: Moment) -> Value {
        let id = request["transactionId"].as_str().unwrap_or_default();
        let number = self.untold.iter().find(|one| one.name == id).map(|one| one.number);
        let here = self.connectors.iter().find(|one| number.is_some() && one.transaction() == number);
        let Some(here) = here.map(|one| one.id) else { return json!({ "status": "Rejected" }) };
        if !self.profiles.has_priority(here) {
            return json!({ "status": "NoProfile" });
        }
        self.flow(now);
        if let Some(session) = self.connector(here).and_then(|one| one.session.as_mut()) {
            session.priority = request["activate"] == true;
        }
        self.judge_flow(now);
        json!({ "status": "Accepted" })
    }

    /// Drivers in a hurry ask for priority at the station, where there is such a thing (K22).
    pub(super) fn hurry(&mut self, id: u32, now: Moment) {
        if self.config.version != Version::V21 || !self.profiles.has_priority(id) || self.random.f64() >= 0.2
        {
            return;
        }
        let Some(session) = self.connector(id).and_then(|one| one.session.as_mut()) else { return };
        session.priority = true;
        let number = session.transaction;
        let name = self.untold.iter().find(|one| one.number == number).map(|one| one.name.to_string());
        self.notice("NotifyPriorityCharging", json!({ "transactionId": name, "activated": true }));
        self.judge_flow(now);
    }

    /// A call that somebody waits for has ended.
    pub(super) fn ended(&mut self, asked: Asked, outcome: &Outcome, now: Moment) {
        match asked {
            Asked::Consent { connector } => self.authorized(connector, outcome, now),
            Asked::Stream => self.stream_opened(outcome),
        }
    }
}
