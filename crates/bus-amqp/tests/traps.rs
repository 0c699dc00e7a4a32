//! What RabbitMQ does that one would not expect, as far as it concerns workers that share calls; and what becomes of us
//! when it goes away, freezes, or runs short.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which fail by panicking")]

mod support;

use anyhow::{Context as _, Result};
use std::sync::Arc;
use std::time::Duration;
use support::{DEADLINE, connected, namespace, namespace_at, state};
use switchboard_bus::conformance::Recorder;
use switchboard_bus::{
    Address, Bus, Connect, Envelope, Kind, Metadata, OutcomeKind, PublishError, State, Topic,
};
use switchboard_bus_amqp::Amqp;
use switchboard_rpc::StationId;
use switchboard_testkit::{
    Proxy,
    servers::{RabbitMq, free_address},
};
use tokio::time::Instant;

fn call(seq: u64, remaining: Option<Duration>) -> Envelope {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(StationId::new("CP001", 48).unwrap());
    metadata.action = Some("Heartbeat".into());
    metadata.seq = Some(seq);
    metadata.remaining = remaining;
    Envelope::new(metadata, format!(r#"[2,"{seq}","Heartbeat",{{}}]"#))
}

fn to_call() -> Address {
    Address::Call { tenant: "default".into(), station: StationId::new("CP001", 48).unwrap() }
}

async fn participant(connect: &Connect) -> Arc<dyn Bus> {
    let connect = Connect { participant: Connect::to("").participant, ..connect.clone() };
    Arc::new(connected(connect).await)
}

/// A participant behind a line that can be cut or held.
async fn behind(line: &Proxy, connect: &Connect, heartbeat: u32) -> Arc<dyn Bus> {
    let url = format!("amqp://guest:guest@{}/%2f?heartbeat={heartbeat}", line.address());
    participant(&Connect { urls: vec![url], ..connect.clone() }).await
}

async fn until(what: &str, mut is_it: impl FnMut() -> bool) {
    let wait = async {
        while !is_it() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

fn seqs(recorder: &Recorder) -> Vec<u64> {
    recorder.all().iter().filter_map(|envelope| envelope.metadata.seq).collect()
}

/// The queue of the workers must not outlive them, or the call would be taken by a queue that nobody reads.
#[tokio::test]
async fn a_gateway_learns_at_once_that_the_last_worker_is_gone() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let line = Proxy::to(support::broker().await.context("there was one")?.address()).await?;
    let gateway = participant(&connect).await;
    let worker = behind(&line, &connect, 5).await;
    let taken = Recorder::holding();
    let _calls = taken.listen(&worker, Topic::Calls, 8).await;
    gateway.publish(to_call(), call(1, None)).await?;
    taken.wait_for(1).await;
    // Killed: its connection ends, and nothing else is said.
    line.hold(true);
    line.cut();
    let returns = Recorder::new();
    let _returns = returns.listen(&gateway, Topic::Inbox("gateway".into()), 8).await;
    let mut again = call(2, None);
    again.metadata.reply_to = Some("gateway".into());
    let asking = async {
        while returns.count() == 0 {
            gateway.publish(to_call(), again.clone()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.context("the queue outlives its consumers")?;
    let returned = &returns.all()[0].metadata;
    assert_eq!((returned.kind, returned.outcome), (Kind::Returned, Some(OutcomeKind::Offline)));
    assert_eq!(returned.seq, Some(2));
    Ok(())
}

/// Each call that a killed worker had in hand goes to another, in their order, and without anybody's doing.
#[tokio::test]
async fn what_a_killed_worker_had_in_hand_goes_to_another() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let line = Proxy::to(support::broker().await.context("there was one")?.address()).await?;
    let gateway = participant(&connect).await;
    let killed = behind(&line, &connect, 5).await;
    let (dying, heir) = (Recorder::holding(), Recorder::new());
    let _dying = dying.listen(&killed, Topic::Calls, 8).await;
    for seq in 0..5 {
        gateway.publish(to_call(), call(seq, None)).await?;
    }
    dying.wait_for(5).await;
    let worker = participant(&connect).await;
    let _heir = heir.listen(&worker, Topic::Calls, 8).await;
    line.cut();
    heir.wait_for(5).await;
    assert_eq!(seqs(&heir), [0, 1, 2, 3, 4]);
    Ok(())
}

/// A frozen worker's socket stays open; two and a half heartbeats later the broker has given its calls to another. What the
/// zombie then says counts for nothing: it is on a connection that is gone.
#[tokio::test]
async fn a_frozen_worker_loses_its_calls_after_some_heartbeats_and_acknowledges_none_later() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let line = Proxy::to(support::broker().await.context("there was one")?.address()).await?;
    let gateway = participant(&connect).await;
    let frozen = behind(&line, &connect, 1).await;
    let (zombie, heir) = (Recorder::holding(), Recorder::holding());
    let _zombie = zombie.listen(&frozen, Topic::Calls, 1).await;
    gateway.publish(to_call(), call(1, None)).await?;
    zombie.wait_for(1).await;
    let worker = participant(&connect).await;
    let _heir = heir.listen(&worker, Topic::Calls, 1).await;
    line.hold(true);
    let begun = Instant::now();
    heir.wait_for(1).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // It comes back, connects again, and is done with what it had.
    let mut state = frozen.state();
    drop(tokio::time::timeout(DEADLINE, state.wait_for(|state| *state == State::Away)).await??);
    line.hold(false);
    drop(tokio::time::timeout(DEADLINE, state.wait_for(|state| *state == State::Connected)).await??);
    zombie.let_go();
    // Its hands are free, and the other still has the call: the next one goes to it.
    gateway.publish(to_call(), call(2, None)).await?;
    zombie.wait_for(2).await;
    assert_eq!((seqs(&zombie), seqs(&heir)), (vec![1, 2], vec![1]));
    Ok(())
}

/// No more than its hands hold, also when a reconnection makes the broker forget what is in them.
#[tokio::test]
async fn hands_that_were_full_before_a_reconnection_are_full_after_it() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let line = Proxy::to(support::broker().await.context("there was one")?.address()).await?;
    let (gateway, worker) = (participant(&connect).await, behind(&line, &connect, 5).await);
    let taken = Recorder::holding();
    let _calls = taken.listen(&worker, Topic::Calls, 1).await;
    gateway.publish(to_call(), call(1, None)).await?;
    taken.wait_for(1).await;
    let mut state = worker.state();
    state.mark_unchanged();
    line.cut();
    drop(tokio::time::timeout(DEADLINE, state.wait_for(|state| *state == State::Away)).await??);
    drop(tokio::time::timeout(DEADLINE, state.wait_for(|state| *state == State::Connected)).await??);
    // The broker may think the worker free, and give it this one, or the first one once more.
    let outcome = gateway.publish(to_call(), call(2, None)).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(taken.count(), 1);
    taken.let_go();
    taken.wait_for(2).await;
    Ok(())
}

/// Ending a consumer that has calls in hand stalls a standby where a queue has a single active consumer. With ours, which
/// compete, the others go on at once, what is in hand may be finished, and what came too late is given back.
#[tokio::test]
async fn a_worker_that_leaves_with_calls_in_hand_keeps_nobody_from_theirs() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let gateway = participant(&connect).await;
    let (first, second) = (participant(&connect).await, participant(&connect).await);
    let (leaving, staying) = (Recorder::holding(), Recorder::new());
    let left = leaving.listen(&first, Topic::Calls, 4).await;
    for seq in 0..4 {
        gateway.publish(to_call(), call(seq, None)).await?;
    }
    leaving.wait_for(4).await;
    let _staying = staying.listen(&second, Topic::Calls, 4).await;
    drop(left);
    for seq in 4..40 {
        gateway.publish(to_call(), call(seq, None)).await?;
    }
    until("the other one has the rest", || leaving.count() + staying.count() >= 40).await;
    let others: Vec<u64> = (4..40).filter(|seq| !seqs(&leaving).contains(seq)).collect();
    assert_eq!(seqs(&staying), others, "in order");
    // Finished, acknowledged, and then the TCP connection is dropped: nothing comes a second time.
    let before = leaving.count();
    (0..before).for_each(|_| leaving.let_go());
    first.close().await;
    gateway.publish(to_call(), call(40, None)).await?;
    until("it goes on", || seqs(&staying).last() == Some(&40)).await;
    assert_eq!((leaving.count(), staying.count()), (before, 41 - before));
    Ok(())
}

/// All workers one after the other; each leaves as a worker does: unsubscribed, finished, closed.
#[tokio::test]
async fn a_rolling_restart_of_all_workers_loses_and_doubles_nothing() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let gateway = participant(&connect).await;
    let mut workers = Vec::new();
    let mut recorders = Vec::new();
    let mut seq = 0;
    for round in 0..6 {
        let worker = participant(&connect).await;
        let recorder = Recorder::new();
        let subscribed = recorder.listen(&worker, Topic::Calls, 8).await;
        recorders.push(recorder);
        workers.push((worker, subscribed));
        for place in 0..50 {
            if round > 0 && place == 25 {
                let (worker, subscribed) = workers.remove(0);
                drop(subscribed);
                worker.close().await;
            }
            gateway.publish(to_call(), call(seq, None)).await?;
            seq += 1;
        }
    }
    let total = || recorders.iter().map(|recorder| recorder.count() as u64).sum::<u64>();
    until("all calls arrive", || total() >= seq).await;
    let mut all: Vec<u64> = recorders.iter().flat_map(|recorder| seqs(recorder)).collect();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..seq), "each once: {all:?}");
    Ok(())
}

/// The broker drops an expired message only at the head of its queue; but it gives nobody one that has expired, also
/// behind one that has not.
#[tokio::test]
async fn a_call_whose_time_is_over_is_given_to_nobody() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let (gateway, worker) = (participant(&connect).await, participant(&connect).await);
    let taken = Recorder::holding();
    let _calls = taken.listen(&worker, Topic::Calls, 1).await;
    let long = Some(Duration::from_secs(60));
    gateway.publish(to_call(), call(1, long)).await?;
    taken.wait_for(1).await;
    gateway.publish(to_call(), call(2, long)).await?;
    gateway.publish(to_call(), call(3, Some(Duration::from_millis(50)))).await?;
    gateway.publish(to_call(), call(4, long)).await?;
    // The third one's time, however slow the broker is; there is nothing to look at, as it stays counted.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for count in 2..=3 {
        taken.let_go();
        taken.wait_for(count).await;
    }
    assert_eq!(seqs(&taken), [1, 2, 4]);
    Ok(())
}

/// A thousand stations cost the broker nothing that it would have to remember.
#[tokio::test]
async fn stations_are_no_objects_of_the_broker() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let broker = support::broker().await.context("there was one")?;
    let (gateway, worker) = (participant(&connect).await, participant(&connect).await);
    let taken = Recorder::new();
    let _calls = taken.listen(&worker, Topic::Calls, 1024).await;
    for number in 0..1000 {
        let station = StationId::new(format!("CP{number}"), 48)?;
        let mut envelope = call(number, None);
        envelope.metadata.station = Some(station.clone());
        gateway.publish(Address::Call { tenant: "default".into(), station }, envelope).await?;
    }
    taken.wait_for(1000).await;
    let bindings = broker.control(&["eval", "length(rabbit_binding:list(<<\"/\">>))."]).await?;
    // Those of the tests beside this one, and each queue's own to the default exchange.
    let bindings: u32 = bindings.trim().parse()?;
    assert!(bindings < 200, "{bindings}");
    Ok(())
}

/// Who publishes is told, who listens goes on, and all is well when the alarm is over.
#[tokio::test]
async fn a_broker_that_is_short_of_memory_is_away_until_it_has_some() -> Result<()> {
    let Some(broker) = RabbitMq::start("a_broker_that_is_short_of_memory").await? else { return Ok(()) };
    let connect = namespace_at(broker.url());
    let (gateway, worker) = (participant(&connect).await, participant(&connect).await);
    let taken = Recorder::new();
    let _calls = taken.listen(&worker, Topic::Calls, 8).await;
    gateway.publish(to_call(), call(1, None)).await?;
    taken.wait_for(1).await;
    let mut state = gateway.state();
    broker.control(&["set_vm_memory_high_watermark", "0"]).await?;
    let blocked = async {
        // It is those who publish that are told.
        while gateway.publish(to_call(), call(2, None)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, blocked).await?;
    let away = gateway.publish(to_call(), call(3, None)).await;
    assert!(matches!(away, Err(PublishError::Away)), "{away:?}");
    broker.control(&["set_vm_memory_high_watermark", "0.8"]).await?;
    drop(tokio::time::timeout(DEADLINE, state.wait_for(|state| *state == State::Connected)).await??);
    gateway.publish(to_call(), call(4, None)).await?;
    until("the last one comes", || seqs(&taken).contains(&4)).await;
    Ok(())
}

/// The time to live is the broker's to count, which closes the channel, and so loses everything on it, where it cannot.
#[tokio::test]
async fn a_deadline_that_no_broker_can_count_harms_nobody() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let (gateway, worker) = (participant(&connect).await, participant(&connect).await);
    let taken = Recorder::new();
    let _calls = taken.listen(&worker, Topic::Calls, 8).await;
    for (seq, days) in [(1, 49), (2, 50), (3, 1_000_000)] {
        gateway.publish(to_call(), call(seq, Some(Duration::from_secs(days * 86_400)))).await?;
    }
    taken.wait_for(3).await;
    assert_eq!(seqs(&taken), [1, 2, 3]);
    Ok(())
}

/// Who closes waits for the broker to have heard everything; it may go in that moment.
#[tokio::test]
async fn a_bus_that_is_closed_while_its_broker_goes_does_not_come_back() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let line = Proxy::to(support::broker().await.context("there was one")?.address()).await?;
    // Where it would turn to next.
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("amqp://guest:guest@{}/%2f,{}", line.address(), other.local_addr()?);
    let leaving = participant(&Connect { urls: vec![url], ..connect }).await;
    line.hold(true);
    let closing = tokio::spawn(async move { leaving.close().await });
    // It has taken the order.
    tokio::time::sleep(Duration::from_millis(100)).await;
    line.cut();
    tokio::time::timeout(DEADLINE, closing).await??;
    let came = tokio::time::timeout(Duration::from_secs(1), other.accept()).await;
    assert!(came.is_err(), "it goes on trying");
    Ok(())
}

/// The second of two places is taken when the first is not there; and who comes before the broker waits for it.
#[tokio::test]
async fn an_absent_broker_is_waited_for_and_another_place_is_tried() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let nobody = free_address()?;
    let both = Connect { urls: vec![format!("amqp://{nobody},{}", connect.urls[0])], ..connect.clone() };
    let begun = Instant::now();
    let bus = Amqp::connect(both)?;
    assert!(begun.elapsed() < Duration::from_secs(1), "it does not wait");
    assert_eq!(*bus.state().borrow(), State::Away);
    state(&bus, State::Connected).await;
    Ok(())
}

/// Credentials that are wrong are no reason to end: an operator may mend them. They are told, and never shown.
#[tokio::test]
async fn wrong_credentials_leave_the_bus_away() -> Result<()> {
    let Some(connect) = namespace().await else { return Ok(()) };
    let url = connect.urls[0].replace("guest:guest", "guest:wrong-secret");
    let bus = Amqp::connect(Connect { urls: vec![url], ..connect })?;
    assert!(!format!("{bus:?}").contains("wrong-secret"));
    let away = bus.publish(to_call(), call(1, None)).await;
    assert!(matches!(away, Err(PublishError::Away)), "{away:?}");
    Ok(())
}
