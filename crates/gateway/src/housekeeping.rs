//! What a gateway does now and then, whatever its stations do: its lease, the clock, p99, expired commands, the sweep.

use crate::{
    registry::Parcel,
    shared::{Shared, now},
    unrecorded,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use switchboard_bus::{Kind, Metadata, OutcomeKind, State};
use switchboard_directory::OutboxState;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Renews the lease, a third of its length apart, and ends it at the end.
pub(crate) async fn keep_lease(shared: Arc<Shared>, stop: CancellationToken) {
    let lease = shared.config.lease.max(Duration::from_millis(100));
    let mut turn = interval(lease / 3);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    let mut renewed_last = now();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = turn.tick() => {}
        }
        let renewed = shared.directory.gateway_lease(&shared.name, until(&shared, lease)).await;
        if let Err(error) = &renewed
            && !failing
        {
            tracing::error!(%error, "the lease of this gateway could not be renewed: commands fail, sockets stay");
        }
        if let Ok(false) = renewed {
            tracing::error!(
                "the directory has forgotten this gateway's lease, as one does that was restored from a copy"
            );
            shared.forgotten.notify_one();
        }
        failing = renewed.is_err();
        let now = now();
        // Also one that came late: so may have those of others.
        let in_time = !failing && now.saturating_duration_since(renewed_last) < lease;
        shared.directory_is_steady(in_time, now);
        if !failing {
            renewed_last = now;
        }
    }
    if let Err(error) = shared.directory.gateway_lease(&shared.name, 0).await {
        tracing::warn!(%error, "the lease of this gateway could not be ended");
    }
}

fn until(shared: &Shared, lease: Duration) -> i64 {
    shared.clock.wall_ms(now()).saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
}

/// Every second: the clock, the p99, gauges; every two: whether stations still have entries in the journal; every five: the
/// outbox; every ten: what compressing leaves about.
pub(crate) async fn tick(shared: Arc<Shared>, stop: CancellationToken) {
    let mut turn = interval(Duration::from_secs(1));
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seconds = 0_u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => {}
        }
        seconds = seconds.wrapping_add(1);
        let now = now();
        follow_the_clock(&shared, now).await;
        shared.tell_again(now);
        let p99 = shared.patience.reckon();
        shared.metrics.answer_p99_seconds.set(p99.as_secs_f64());
        shared.metrics.workers.set(i64::try_from(shared.workers.alive(now)).unwrap_or(i64::MAX));
        if seconds.is_multiple_of(10) {
            shared.compression.tidy();
        }
        let turns = async {
            unrecorded::record_again(&shared).await;
            if seconds.is_multiple_of(2) && shared.processing_away_for(now).is_zero() {
                shared.journal.look_up_again(&shared).await;
            }
            if seconds.is_multiple_of(5) {
                sweep_outbox(&shared).await;
                look_for_hints(&shared).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = turns => {}
        }
    }
}

/// Follows the wall clock. Where that was set, nothing of ours may take it for time that has passed: leases are renewed
/// before they are judged by the new time.
async fn follow_the_clock(shared: &Shared, now: Instant) {
    let drift_ms = shared.clock.drift_ms(now);
    if drift_ms.abs() < STEP_MS {
        shared.clock.set_right(now);
        return;
    }
    tracing::warn!(
        by_seconds = drift_ms / 1000,
        "the clock was set: deadlines do not follow it; the expiry of tags and of kept commands, and what stations are told, do"
    );
    if drift_ms > 0 {
        let lease = shared.config.lease.max(Duration::from_millis(100));
        let until_ms = until(shared, lease).saturating_add(drift_ms);
        if let Err(error) = shared.directory.gateway_lease(&shared.name, until_ms).await {
            tracing::warn!(%error, "the lease of this gateway could not be renewed");
        }
    }
    shared.clock.set_right(now);
}

/// Tells the senders of commands that have expired, or whose connection died while they were sent.
async fn sweep_outbox(shared: &Shared) {
    // A directory that was away has let everybody's lease run out, and nobody died of it.
    while shared.knows_who_is_alive(now()) {
        let ended = match shared.directory.outbox_sweep(shared.clock.wall_ms(now()), SWEEP_PAGE).await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(%error, "the outbox could not be swept");
                return;
            }
        };
        let more = ended.len() >= SWEEP_PAGE;
        for entry in ended {
            let OutboxState::Ended { outcome, frame } = entry.state.clone() else { continue };
            let mut metadata = Metadata::new(Kind::Command);
            metadata.tenant = entry.key.tenant;
            metadata.station = Some(entry.key.station);
            metadata.action = Some(entry.action);
            metadata.command_id = Some(entry.id);
            metadata.reply_to = entry.reply_to;
            metadata.context = entry.context;
            if outcome == OutcomeKind::Unknown {
                tracing::warn!(station = ?metadata.station, id = ?metadata.command_id, "a command has an unknown end");
            }
            shared.tell_outcome(Box::new(metadata), outcome, frame);
        }
        if !more {
            return;
        }
    }
}

/// Tells our connections of commands that came to wait without their knowing: the sender died before it said so, the station
/// was between two gateways, or another gateway put one back.
async fn look_for_hints(shared: &Shared) {
    match shared.directory.outbox_lately(&shared.name, LATELY, SWEEP_PAGE).await {
        Ok(stations) => {
            for handle in stations.iter().filter_map(|key| shared.registry.find(key)) {
                // If there is no room the next look finds it.
                drop(handle.post(Parcel::Outbox));
            }
        }
        Err(error) => tracing::debug!(%error, "the outbox could not be looked at"),
    }
}

/// Tells all waiting calls when the bus is back.
pub(crate) async fn watch_bus(shared: Arc<Shared>, stop: CancellationToken) {
    let mut state = shared.bus.state();
    let mut before = *state.borrow_and_update();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
        let present = *state.borrow_and_update();
        if present == before {
            continue;
        }
        match present {
            State::Connected => {
                tracing::info!("the bus is back");
                // Whether anybody takes calls, the next one shows.
                shared.processing_is_back();
                shared.tell_again(now());
                shared.registry.tell_bus_back();
                shared.journal.wake();
            }
            other => {
                tracing::warn!(state = ?other, "the bus is away");
                shared.processing_is_away(now());
            }
        }
        before = present;
    }
}

/// Finds out when a worker has died, and has those asked who wait for answers: by how long processing takes lately they
/// might wait for long.
pub(crate) async fn watch_workers(shared: Arc<Shared>, stop: CancellationToken) {
    let bus = shared.bus.state();
    let beat = shared.config.beat.max(Duration::from_millis(1));
    loop {
        let (_, next) = shared.workers.bury(now());
        let due = next.unwrap_or_else(|| now() + beat);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until((due + Duration::from_millis(1)).into()) => {}
        }
        if now().saturating_duration_since(due) > beat {
            // It was this process that stood still: what the workers said meanwhile is yet to be read.
            tokio::time::sleep(beat).await;
        }
        let (gone, _) = shared.workers.bury(now());
        // While the bus is away, nothing is heard of anybody.
        if gone > 0 && *bus.borrow() == State::Connected {
            tracing::warn!(gone, "workers have died, or are not heard of any more");
            shared.registry.tell_worker_gone();
        }
    }
}

const SWEEP_PAGE: usize = 256;
/// Several times as long as from one look to the next.
const LATELY: Duration = Duration::from_secs(30);
/// What is more than a clock that is being set right bit by bit.
const STEP_MS: i64 = 2_000;
