//! Whatever comes, however often and in whatever order: the books equal a simple model of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "helpers of tests"
)]

mod common;

use common::{Site, event, meter, start, stop, with};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use switchboard_central::AlarmKind;
use switchboard_rpc::Version;

/// Something that a station sends, told by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    Start,
    Meter(u8),
    /// Two of them differ: a station that changed its mind.
    Stop(u8),
    Event(u8),
}

const METERS: u8 = 4;
const EVENTS: u8 = 5;
const OLD_STATIONS: u8 = 2;
const NEW_STATIONS: u8 = 2;
const CHARGES: u8 = 2;

/// One delivery of a message: which, and what happens around it.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    station: u8,
    charge: u8,
    message: Message,
    /// The gateway hands it over twice.
    twice: bool,
    /// It comes on a new connection.
    reconnect: bool,
    /// Processing was restarted before it came.
    restart: bool,
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let message = prop_oneof![
        Just(Message::Start),
        (0..METERS).prop_map(Message::Meter),
        (0..2_u8).prop_map(Message::Stop),
        (0..EVENTS).prop_map(Message::Event),
    ];
    let around = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.05));
    (0..OLD_STATIONS + NEW_STATIONS, 0..CHARGES, message, around).prop_map(
        |(station, charge, message, (twice, reconnect, restart))| Delivery {
            station,
            charge,
            message,
            twice,
            reconnect,
            restart,
        },
    )
}

/// What each station says of each of its charges, once, in order.
fn everything() -> Vec<Delivery> {
    let mut all = Vec::new();
    for station in 0..OLD_STATIONS + NEW_STATIONS {
        for charge in 0..CHARGES {
            let messages: Vec<Message> = if station < OLD_STATIONS {
                let meters = (0..METERS).map(Message::Meter);
                [Message::Start].into_iter().chain(meters).chain((0..2).map(Message::Stop)).collect()
            } else {
                (0..EVENTS).map(Message::Event).collect()
            };
            for message in messages {
                all.push(Delivery {
                    station,
                    charge,
                    message,
                    twice: false,
                    reconnect: false,
                    restart: false,
                });
            }
        }
    }
    all
}

fn time(charge: u8, minute: u8) -> String {
    format!("2025-12-31T{:02}:{minute:02}:00Z", 10 + charge)
}

fn register(charge: u8, step: u8) -> i64 {
    i64::from(charge) * 10_000 + i64::from(step) * 100
}

/// The model: for each charge of an old station its id and how it ended; for each of a new one which events came.
#[derive(Default)]
struct Model {
    ids: BTreeMap<(u8, u8), i64>,
    meters: BTreeMap<(u8, u8), BTreeSet<u8>>,
    ends: BTreeMap<(u8, u8), u8>,
    variants: BTreeSet<(u8, u8)>,
    events: BTreeMap<(u8, u8), BTreeSet<u8>>,
    answers: BTreeMap<(u8, u8, Message), Value>,
}

impl Model {
    fn payload(&self, (station, charge): (u8, u8), message: Message) -> (&'static str, Value) {
        let id = self.ids.get(&(station, charge)).copied().unwrap_or_default();
        match message {
            Message::Start => (
                "StartTransaction",
                start(i64::from(charge) + 1, "TAG", &time(charge, 0), register(charge, 0)),
            ),
            Message::Meter(step) => {
                let sample = json!([{"value": register(charge, step + 1).to_string(), "unit": "Wh"}]);
                ("MeterValues", meter(i64::from(charge) + 1, Some(id), &time(charge, step + 1), sample))
            }
            Message::Stop(variant) => {
                let end = stop(id, &time(charge, 50), register(charge, 50 + variant));
                ("StopTransaction", with(end, json!({"idTag": "TAG"})))
            }
            Message::Event(seq) => {
                let kind = match seq {
                    0 => "Started",
                    seq if seq + 1 == EVENTS => "Ended",
                    _ => "Updated",
                };
                let sample = json!([{"timestamp": time(charge, seq), "sampledValue": [{"value": register(charge, seq)}]}]);
                let told = event(kind, &format!("tx-{charge}"), seq.into(), &time(charge, seq));
                let told = with(told, json!({"meterValue": sample}));
                let token = json!({"idToken": {"idToken": "TAG", "type": "Central"}, "evse": {"id": 1}});
                ("TransactionEvent", if seq == 0 { with(told, token) } else { told })
            }
        }
    }

    /// Takes note of a message and its answer; the same message always has the same answer.
    fn note(&mut self, key: (u8, u8), message: Message, answer: Value) -> Result<(), TestCaseError> {
        match message {
            Message::Start => {
                let id = answer["transactionId"].as_i64().unwrap();
                prop_assert_eq!(*self.ids.entry(key).or_insert(id), id, "one transaction, one id");
            }
            Message::Meter(step) => {
                self.meters.entry(key).or_default().insert(step);
            }
            Message::Stop(variant) => {
                if *self.ends.entry(key).or_insert(variant) != variant {
                    self.variants.insert(key);
                }
            }
            Message::Event(seq) => {
                self.events.entry(key).or_default().insert(seq);
            }
        }
        let before = self.answers.entry((key.0, key.1, message)).or_insert_with(|| answer.clone());
        prop_assert_eq!(&answer, before, "the same message has the same answer");
        Ok(())
    }

    async fn compare(&self, site: &Site) -> Result<(), TestCaseError> {
        let booked = site.transactions().await;
        prop_assert_eq!(booked.len(), self.ids.len() + self.events.len());
        prop_assert_eq!(self.ids.values().collect::<BTreeSet<_>>().len(), self.ids.len(), "ids are unique");
        for (key, id) in &self.ids {
            let found = booked.iter().find(|charge| charge.id == *id).unwrap();
            prop_assert_eq!(&found.station, &identity(key.0));
            prop_assert_eq!(found.ended, self.ends.contains_key(key));
            let steps = self.meters.get(key).cloned().unwrap_or_default();
            prop_assert_eq!(site.central.readings(*id).await.unwrap().len(), steps.len());
            let end = match self.ends.get(key) {
                Some(variant) => Some(50 + variant),
                None => steps.last().map(|step| step + 1),
            };
            let energy = end.map(|end| (register(key.1, end) - register(key.1, 0)).to_string());
            prop_assert_eq!(found.energy.map(|energy| energy.to_string()), energy);
        }
        for (key, seqs) in &self.events {
            let found = booked
                .iter()
                .find(|charge| {
                    charge.station == identity(key.0) && charge.remote_id == Some(format!("tx-{}", key.1))
                })
                .unwrap();
            prop_assert_eq!(found.ended, seqs.contains(&(EVENTS - 1)));
            prop_assert_eq!(found.started.is_some(), seqs.contains(&0));
            prop_assert_eq!(found.token.is_some(), seqs.contains(&0));
            let events = found.events.as_ref().unwrap();
            prop_assert_eq!(events.count, seqs.len() as u64);
            prop_assert_eq!(events.complete, seqs.len() == usize::from(EVENTS));
            let (first, last) = (seqs.first().unwrap(), seqs.last().unwrap());
            let energy = register(key.1, *last) - register(key.1, *first);
            prop_assert_eq!(found.energy.unwrap().to_string(), energy.to_string());
        }
        let alarms = site.alarms().await;
        prop_assert_eq!(alarms, vec![(AlarmKind::StopVariant, 1); self.variants.len()]);
        Ok(())
    }
}

fn identity(station: u8) -> String {
    format!("S{station}")
}

async fn run(deliveries: Vec<Delivery>) -> Result<(), TestCaseError> {
    let mut site = Site::with(|config| config.refuse_unregistered_2x = false);
    let mut model = Model::default();
    let mut connections: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
    let mut generation = 0;
    let half = deliveries.len() / 2;
    for (position, delivery) in deliveries.into_iter().chain(everything()).enumerate() {
        let old = delivery.station < OLD_STATIONS;
        // Old stations say other things than new ones.
        if old == matches!(delivery.message, Message::Event(_)) {
            continue;
        }
        if delivery.restart {
            site = site.reopened(|config| config.refuse_unregistered_2x = false).await;
        }
        let key = (delivery.station, delivery.charge);
        // Without the answer to its start a station cannot name a transaction.
        let first = (old && !model.ids.contains_key(&key)).then_some(Message::Start);
        for message in first.into_iter().chain([delivery.message]) {
            let version = if old { Version::V16 } else { Version::V201 };
            let connection = connections.entry(delivery.station).or_default();
            if delivery.reconnect || connection.0 == 0 {
                generation += 1;
                *connection = (generation, 0);
            }
            connection.1 += 1;
            let station = site.connect(&identity(delivery.station), version);
            let mut context = station.context.clone();
            (context.generation, context.seq) = *connection;
            let (action, payload) = model.payload(key, message);
            for _ in 0..=usize::from(delivery.twice) {
                let answer = station.call_as(&context, action, &payload).await;
                model.note(key, message, answer)?;
                context.attempt += 1;
            }
        }
        if position == half {
            model.compare(&site).await?;
        }
    }
    model.compare(&site).await
}

proptest! {
    #![proptest_config(Config { cases: 24, max_shrink_iters: 200, ..Config::default() })]

    #[test]
    fn the_books_equal_the_model(deliveries in vec(delivery(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(deliveries))?;
    }
}
