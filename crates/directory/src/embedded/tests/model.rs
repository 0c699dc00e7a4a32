//! The embedded directory against a model that is simple enough to be right.

use super::key;
use crate::conformance::command;
use crate::{Directory, Embedded, Enqueued, OutboxEntry, OutboxState, StationKey};
use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use switchboard_bus::{ConnectionKey, Lane, OutcomeKind};
use switchboard_rpc::Version;

#[derive(Clone, Debug)]
enum Operation {
    /// Moves the clock; also back.
    Clock(i64),
    Lease {
        gateway: u8,
        for_ms: i64,
    },
    Claim {
        station: u8,
        gateway: u8,
    },
    /// Of the latest generation, or one that is so much older.
    Release {
        station: u8,
        older: u64,
    },
    Locate {
        station: u8,
    },
    Put {
        station: u8,
        id: u8,
        urgent: bool,
        for_ms: i64,
    },
    Sending {
        station: u8,
        id: u8,
    },
    End {
        station: u8,
        id: u8,
    },
    Waiting {
        station: u8,
        limit: usize,
    },
    Sweep {
        limit: usize,
    },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    use Operation::{Claim, Clock, End, Lease, Locate, Put, Release, Sending, Sweep, Waiting};
    let (station, gateway, id) = (0_u8..3, 0_u8..2, 0_u8..4);
    let operation = prop_oneof![
        (-50_i64..200).prop_map(Clock),
        (gateway.clone(), -10_i64..300).prop_map(|(gateway, for_ms)| Lease { gateway, for_ms }),
        (station.clone(), gateway).prop_map(|(station, gateway)| Claim { station, gateway }),
        (station.clone(), 0_u64..2).prop_map(|(station, older)| Release { station, older }),
        station.clone().prop_map(|station| Locate { station }),
        (station.clone(), id.clone(), any::<bool>(), -10_i64..300)
            .prop_map(|(station, id, urgent, for_ms)| Put { station, id, urgent, for_ms }),
        (station.clone(), id.clone()).prop_map(|(station, id)| Sending { station, id }),
        (station.clone(), id).prop_map(|(station, id)| End { station, id }),
        (station, 0_usize..4).prop_map(|(station, limit)| Waiting { station, limit }),
        (0_usize..4).prop_map(|limit| Sweep { limit }),
    ];
    vec(operation, 0..80)
}

#[derive(Default)]
struct Model {
    now_ms: i64,
    clock_ms: i64,
    leases: HashMap<u8, i64>,
    stations: HashMap<u8, (u64, Option<u8>)>,
    /// In the order in which they came.
    outbox: Vec<(u8, OutboxEntry)>,
}

impl Model {
    fn located(&self, station: u8) -> Option<(u64, u8)> {
        let (generation, gateway) = *self.stations.get(&station)?;
        let gateway = gateway?;
        (*self.leases.get(&gateway)? > self.now_ms).then_some((generation, gateway))
    }

    fn command(&mut self, station: u8, id: u8) -> Option<&mut OutboxEntry> {
        let id = id.to_string();
        self.outbox.iter_mut().find(|(of, entry)| *of == station && entry.id == id).map(|(_, entry)| entry)
    }

    /// What a sweep may end, and how.
    fn sweepable(&self) -> BTreeMap<(u8, ByteString), OutcomeKind> {
        let mut all = BTreeMap::new();
        for (station, entry) in &self.outbox {
            let outcome = match entry.state {
                OutboxState::Waiting if entry.expires_ms <= self.now_ms => OutcomeKind::Expired,
                OutboxState::Sending { generation }
                    if self.located(*station).is_none_or(|(there, _)| there != generation) =>
                {
                    OutcomeKind::Unknown
                }
                _ => continue,
            };
            all.insert((*station, entry.id.clone()), outcome);
        }
        all
    }
}

fn station(number: u8) -> StationKey {
    key(&format!("CP{number}"))
}

fn gateway_name(number: u8) -> ByteString {
    format!("gateway-{number}").into()
}

async fn check(directory: &Embedded, model: &mut Model, operation: Operation) {
    let now_ms = model.now_ms;
    match operation {
        Operation::Clock(by) => model.now_ms = (now_ms + by).max(0),
        Operation::Lease { gateway, for_ms } => {
            directory.gateway_lease(&gateway_name(gateway), now_ms + for_ms).await.unwrap();
            model.leases.insert(gateway, now_ms + for_ms);
        }
        Operation::Claim { station: number, gateway } => {
            let claim = directory
                .claim(&station(number), &gateway_name(gateway), Version::V16.into(), now_ms)
                .await
                .unwrap();
            model.clock_ms = model.clock_ms.max(now_ms);
            let (last, previous) = model.stations.get(&number).copied().unwrap_or((0, None));
            assert_eq!(claim.generation, (last + 1).max(model.clock_ms.cast_unsigned()));
            let previous = previous.map(|was| ConnectionKey { gateway: gateway_name(was), generation: last });
            assert_eq!(claim.previous, previous);
            model.stations.insert(number, (claim.generation, Some(gateway)));
        }
        Operation::Release { station: number, older } => {
            let latest = model.stations.get(&number).map_or(1, |(generation, _)| *generation);
            directory.release(&station(number), latest.saturating_sub(older), now_ms).await.unwrap();
            model.clock_ms = model.clock_ms.max(now_ms);
            if let Some((_, connection)) = model.stations.get_mut(&number).filter(|_| older == 0) {
                *connection = None;
            }
        }
        Operation::Locate { station: number } => {
            let there = directory.locate(&station(number), now_ms).await.unwrap();
            let there = there.map(|location| location.connection);
            let expected = model
                .located(number)
                .map(|(generation, gateway)| ConnectionKey { gateway: gateway_name(gateway), generation });
            assert_eq!(there, expected);
        }
        Operation::Put { station: number, id, urgent, for_ms } => {
            let lane = if urgent { Lane::Urgent } else { Lane::Normal };
            let expires_ms = now_ms + for_ms;
            let entry = OutboxEntry { lane, expires_ms, ..command(station(number), &id.to_string()) };
            let enqueued = directory.outbox_put(entry.clone()).await.unwrap();
            if let Some(there) = model.command(number, id) {
                assert_eq!(enqueued, Enqueued::Repeat(there.state.clone()));
            } else {
                assert_eq!(enqueued, Enqueued::Fresh);
                model.outbox.push((number, entry));
            }
        }
        Operation::Sending { station: number, id } => {
            let generation = model.stations.get(&number).map_or(1, |(generation, _)| *generation);
            let name = ByteString::from(id.to_string());
            let taken = directory.outbox_sending(&station(number), &name, generation).await.unwrap();
            let waits = model.command(number, id).filter(|entry| entry.state == OutboxState::Waiting);
            assert_eq!(taken, waits.is_some());
            if let Some(entry) = waits {
                entry.state = OutboxState::Sending { generation };
            }
        }
        Operation::End { station: number, id } => {
            let (name, frame) = (ByteString::from(id.to_string()), Bytes::from_static(b"[3,\"x\",{}]"));
            let outcome = OutcomeKind::Answered;
            directory.outbox_end(&station(number), &name, outcome, frame.clone(), now_ms).await.unwrap();
            let ended = |state: &OutboxState| matches!(state, OutboxState::Ended { .. });
            if let Some(entry) = model.command(number, id).filter(|entry| !ended(&entry.state)) {
                entry.state = OutboxState::Ended { outcome, frame };
            }
            let there = directory.outbox_get(&station(number), &name).await.unwrap();
            assert_eq!(there.as_ref(), model.command(number, id).as_deref());
        }
        Operation::Waiting { station: number, limit } => {
            let waiting = directory.outbox_waiting(&station(number), now_ms, limit).await.unwrap();
            let mut expected: Vec<_> = model
                .outbox
                .iter()
                .filter(|(of, entry)| {
                    *of == number && entry.state == OutboxState::Waiting && entry.expires_ms > now_ms
                })
                .map(|(_, entry)| entry.clone())
                .collect();
            // Sorting is stable: within a lane they stay as they came.
            expected.sort_by_key(|entry| entry.lane == Lane::Normal);
            expected.truncate(limit);
            assert_eq!(waiting, expected);
        }
        Operation::Sweep { limit } => {
            let swept = directory.outbox_sweep(now_ms, limit).await.unwrap();
            let may = model.sweepable();
            assert_eq!(swept.len(), may.len().min(limit));
            for entry in swept {
                let number: u8 = entry.key.station.as_str()[2..].parse().unwrap();
                let outcome = may[&(number, entry.id.clone())];
                let state = OutboxState::Ended { outcome, frame: Bytes::new() };
                assert_eq!(entry.state, state);
                model.command(number, entry.id.parse().unwrap()).unwrap().state = state;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_it_does_as_the_model(operations in operations()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = Embedded::in_memory().unwrap();
            let mut model = Model { now_ms: 1_000, ..Model::default() };
            for operation in operations {
                check(&directory, &mut model, operation).await;
            }
        });
    }
}
