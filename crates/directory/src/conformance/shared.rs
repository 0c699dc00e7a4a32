//! What holds between processes that share a directory. Each directory here is what one process has of it.

use super::journal::{append, entry as call, seqs};
use super::outbox::{entry as command, state, text};
use super::{NOW, key};
use crate::{Directory, OutboxState, StationKey};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::{BoxFuture, join_all};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use switchboard_bus::{ConnectionKey, OutcomeKind, Registration};
use switchboard_rpc::Version;

/// Opens one directory for several processes at once.
pub trait Sharing: fmt::Debug + Send + Sync {
    /// The directory as one more process has it. None of those who have it need close it first.
    fn join(&self) -> BoxFuture<'_, Arc<dyn Directory>>;

    /// Kills whatever keeps the data, as a power cut would, and has it start again.
    fn crash(&self) -> BoxFuture<'_, ()>;
}

/// The later one is told of the earlier, wherever both are, and everybody knows where the station is.
pub async fn of_two_gateways_the_later_claim_names_the_earlier_one(sharing: &dyn Sharing) {
    let (here, there) = (sharing.join().await, sharing.join().await);
    let (one, two) = (ByteString::from("sharing-1"), ByteString::from("sharing-2"));
    here.gateway_lease(&one, NOW + 3_000).await.unwrap();
    there.gateway_lease(&two, NOW + 3_000).await.unwrap();
    let key = key("sharing", "CP001");
    let first = here.claim(&key, &one, Version::V16.into(), NOW).await.unwrap();
    let second = there.claim(&key, &two, Version::V201.into(), NOW).await.unwrap();
    assert!(second.generation > first.generation);
    let expected = ConnectionKey { gateway: one, generation: first.generation };
    assert_eq!(second.previous, Some(expected));
    // The late end of the first.
    here.release(&key, first.generation, NOW + 1).await.unwrap();
    for directory in [&here, &there] {
        let found = directory.locate(&key, NOW + 1).await.unwrap().expect("it is connected");
        let expected = ConnectionKey { gateway: two.clone(), generation: second.generation };
        assert_eq!((found.connection, found.version), (expected, Version::V201));
    }
    // What processing said to one gateway counts at the next.
    here.set_registration(&key, Registration::Accepted).await.unwrap();
    assert_eq!(
        there.claim(&key, &two, Version::V16.into(), NOW + 2).await.unwrap().registration,
        Some(Registration::Accepted)
    );
}

/// Of many claims at once from everywhere each but the first replaces another, and none is replaced twice.
pub async fn claims_from_everywhere_make_one_chain(sharing: &dyn Sharing) {
    const TURNS: usize = 15;
    let directories = [sharing.join().await, sharing.join().await, sharing.join().await];
    let key = key("chain", "CP001");
    let claiming = directories.iter().enumerate().map(|(number, directory)| {
        let (key, gateway) = (key.clone(), ByteString::from(format!("chain-{number}")));
        async move {
            let mut claims = Vec::new();
            for _ in 0..TURNS {
                let claim = directory.claim(&key, &gateway, Version::V16.into(), NOW).await.unwrap();
                claims.push((gateway.clone(), claim));
            }
            claims
        }
    });
    let mut claims: Vec<_> = join_all(claiming).await.into_iter().flatten().collect();
    claims.sort_by_key(|(_, claim)| claim.generation);
    let mut before = None;
    for (gateway, claim) in claims {
        assert_eq!(claim.previous, before);
        before = Some(ConnectionKey { gateway, generation: claim.generation });
    }
}

/// A gateway's lease counts for everybody: renewed by one, judged by the others.
pub async fn a_lease_that_ran_out_is_seen_by_all(sharing: &dyn Sharing) {
    let (here, there) = (sharing.join().await, sharing.join().await);
    let (key, gateway) = (key("lapse", "CP001"), ByteString::from("lapse-1"));
    here.gateway_lease(&gateway, NOW + 3_000).await.unwrap();
    here.claim(&key, &gateway, Version::V16.into(), NOW).await.unwrap();
    assert!(there.locate(&key, NOW + 2_999).await.unwrap().is_some());
    assert_eq!(there.locate(&key, NOW + 3_000).await.unwrap(), None);
    here.gateway_lease(&gateway, NOW + 6_000).await.unwrap();
    assert!(there.locate(&key, NOW + 3_000).await.unwrap().is_some());
}

/// Whoever puts it in, one takes it, and all see how it ended.
pub async fn a_command_is_taken_by_one_gateway_and_its_end_seen_by_all(sharing: &dyn Sharing) {
    let directories = [sharing.join().await, sharing.join().await, sharing.join().await];
    let key = key("taken", "CP001");
    for round in 0..10 {
        let id = ByteString::from(format!("command {round}"));
        directories[round % 3].outbox_put(command(key.clone(), &id)).await.unwrap();
        let taking = directories.iter().zip(1_u64..).map(async |(directory, generation)| {
            directory.outbox_sending(&key, &id, generation).await.unwrap().then_some(generation)
        });
        let takers: Vec<u64> = join_all(taking).await.into_iter().flatten().collect();
        assert_eq!(takers.len(), 1, "{takers:?}");
        let frame = Bytes::from_static(b"[3,\"x\",{}]");
        directories[0].outbox_end(&key, &id, OutcomeKind::Answered, frame.clone(), NOW).await.unwrap();
        for directory in &directories {
            let ended = OutboxState::Ended { outcome: OutcomeKind::Answered, frame: frame.clone() };
            assert_eq!(state(directory, &key, &id).await, ended);
        }
    }
}

/// As unknown, by one of those who sweep, once its lease has run out; and it is never sent again.
pub async fn what_a_dead_gateway_was_sending_is_ended_once_by_the_living(sharing: &dyn Sharing) {
    let (dead, one, two) = (sharing.join().await, sharing.join().await, sharing.join().await);
    let gateway = ByteString::from("abandoned-1");
    let keys: Vec<StationKey> = (0..20).map(|number| key("abandoned", &format!("CP{number}"))).collect();
    dead.gateway_lease(&gateway, NOW + 3_000).await.unwrap();
    for key in &keys {
        let claim = dead.claim(key, &gateway, Version::V16.into(), NOW).await.unwrap();
        one.outbox_put(command(key.clone(), "a")).await.unwrap();
        assert!(dead.outbox_sending(key, &text("a"), claim.generation).await.unwrap());
    }
    let sweep = async |now_ms| {
        let mut ended = Vec::new();
        loop {
            let both = join_all([one.outbox_sweep(now_ms, 7), two.outbox_sweep(now_ms, 7)]).await;
            let both: Vec<_> = both.into_iter().flat_map(Result::unwrap).collect();
            if both.is_empty() {
                ended.retain(|entry: &crate::OutboxEntry| entry.key.tenant == "abandoned");
                return ended;
            }
            ended.extend(both);
        }
    };
    assert_eq!(sweep(NOW + 2_999).await, [], "it lives");
    let ended = sweep(NOW + 3_000).await;
    let mut told: Vec<_> = ended.iter().map(|entry| entry.key.clone()).collect();
    told.sort();
    told.dedup();
    assert_eq!((ended.len(), told.len()), (keys.len(), keys.len()), "each once");
    let unknown = OutboxState::Ended { outcome: OutcomeKind::Unknown, frame: Bytes::new() };
    for key in &keys {
        assert_eq!(state(&two, key, "a").await, unknown);
        assert!(!two.outbox_sending(key, &text("a"), 9).await.unwrap());
    }
}

/// Of one station, whichever gateway it was at, in the order in which its calls were kept.
pub async fn a_journal_of_two_appenders_keeps_the_order_of_each_station(sharing: &dyn Sharing) {
    const TURNS: u64 = 20;
    let directories = [sharing.join().await, sharing.join().await];
    let keys: Vec<StationKey> = (0..8).map(|number| key("appenders", &format!("CP{number}"))).collect();
    // Each station goes to and fro between the two.
    join_all(keys.iter().map(async |key| {
        for seq in 0..TURNS {
            append(&directories[usize::try_from(seq % 2).unwrap()], key, seq).await;
        }
    }))
    .await;
    for directory in &directories {
        for key in &keys {
            assert!(seqs(directory, key, 1000).await.into_iter().eq(0..TURNS), "{key:?}");
            assert_eq!(directory.journal_count(Some(key)).await.unwrap(), TURNS);
        }
    }
}

/// Until it is given up or runs out. What a directory of one process need not decide, it gives to whoever asks.
pub async fn the_turn_at_the_journal_is_one_gateways_at_a_time(sharing: &dyn Sharing) {
    let (here, there) = (sharing.join().await, sharing.join().await);
    let (one, two) = (ByteString::from("turn-1"), ByteString::from("turn-2"));
    let turn = async |directory: &Arc<dyn Directory>, owner, until_ms, now_ms| {
        directory.journal_turn(owner, until_ms, now_ms).await.unwrap()
    };
    assert!(turn(&here, &one, NOW + 10, NOW).await);
    if Arc::ptr_eq(&here, &there) {
        return;
    }
    assert!(!turn(&there, &two, NOW + 19, NOW + 9).await, "it is the other's");
    assert!(turn(&here, &one, NOW + 19, NOW + 9).await, "kept");
    assert!(!turn(&there, &two, NOW, NOW + 10).await, "nobody else gives it up");
    assert!(turn(&there, &two, NOW + 29, NOW + 19).await, "it has run out");
    assert!(!turn(&here, &one, NOW + 39, NOW + 20).await);
    assert!(turn(&there, &two, 0, NOW + 20).await, "given up");
    assert!(turn(&here, &one, NOW + 30, NOW + 20).await);
    turn(&here, &one, 0, NOW + 20).await;
}

/// With two processes in the middle of everything. What failed may be there or not.
pub async fn what_was_answered_survives_a_crash(sharing: &dyn Sharing) {
    const STATIONS: u64 = 8;
    let directories = [sharing.join().await, sharing.join().await];
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for station in 0..STATIONS {
        let directory = Arc::clone(&directories[usize::try_from(station % 2).unwrap()]);
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        let key = key("crash", &format!("CP{station}"));
        tasks.push(tokio::spawn(async move {
            let gateway = ByteString::from(format!("crash-{}", station % 2));
            let mut kept = Kept { key: key.clone(), ..Kept::default() };
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let mut well = true;
                match directory.journal_append(call(key.clone(), turn)).await {
                    Ok(id) => drop(kept.journal.insert(turn, id)),
                    Err(error) => well = retryable(&error),
                }
                let id = format!("command {turn}");
                match directory.outbox_put(command(key.clone(), &id)).await {
                    Ok(_) => {
                        let sending = directory.outbox_sending(&key, &text(&id), turn).await;
                        let state = match sending {
                            Ok(true) => Some(OutboxState::Sending { generation: turn }),
                            _ => None,
                        };
                        kept.commands.push((id, state));
                    }
                    Err(error) => well = retryable(&error),
                }
                match directory.claim(&key, &gateway, Version::V16.into(), NOW).await {
                    Ok(claim) => {
                        assert!(claim.generation > kept.generation, "{} again", claim.generation);
                        kept.generation = claim.generation;
                    }
                    Err(error) => well = retryable(&error),
                }
                if well {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            kept
        }));
    }
    let reach = async |count: usize| {
        let reached = async {
            while done.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("it works again");
    };
    reach(40).await;
    sharing.crash().await;
    reach(done.load(Ordering::Relaxed) + 40).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        let kept = task.await.unwrap();
        let directory = &directories[0];
        let read = directory.journal_read(Some(&kept.key), 0, usize::MAX).await.unwrap();
        assert!(read.is_sorted_by(|one, two| one.id < two.id && one.seq < two.seq), "{:?}", kept.key);
        let there: BTreeMap<u64, u64> = read.iter().map(|entry| (entry.seq, entry.id)).collect();
        for (seq, id) in kept.journal {
            assert_eq!(there.get(&seq), Some(&id), "{:?} {seq}", kept.key);
        }
        for (id, expected) in kept.commands {
            let there = directory.outbox_get(&kept.key, &text(&id)).await.unwrap();
            let there = there.unwrap_or_else(|| panic!("{id} is lost"));
            assert!(expected.is_none_or(|state| there.state == state), "{:?}", there.state);
        }
    }
}

/// What one station was promised.
#[derive(Debug)]
struct Kept {
    key: StationKey,
    journal: BTreeMap<u64, u64>,
    commands: Vec<(String, Option<OutboxState>)>,
    generation: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self { key: key("crash", "CP"), journal: BTreeMap::new(), commands: Vec::new(), generation: 0 }
    }
}

fn retryable(error: &crate::DirectoryError) -> bool {
    assert!(error.is_retryable(), "{error:?}");
    false
}
