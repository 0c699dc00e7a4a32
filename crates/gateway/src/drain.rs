//! The end of a gateway (L05): upgrades are refused, connections finish what they have in hand and are closed in waves.

use crate::{
    registry::Parcel,
    shared::{Shared, now},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Asks all connections to end, spread over the drain time, and waits until they have.
pub(crate) async fn drain(shared: &Arc<Shared>) {
    shared.draining.store(true, Ordering::Relaxed);
    let connections: Vec<_> = shared.registry.all().collect();
    let count = u32::try_from(connections.len()).unwrap_or(u32::MAX);
    tracing::info!(connections = count, "draining");
    let rate = shared.config.drain_rate.max(1);
    let spread = (Duration::from_secs(1) * count / rate).min(shared.config.drain_time);
    let beginning = now();
    let mut next = beginning;
    for (place, handle) in connections.into_iter().enumerate() {
        let due = beginning + spread.mul_f64(place as f64 / f64::from(count.max(1)));
        // In waves of a few: a timer for each would be finer than it needs to be.
        if due >= next + WAVE {
            tokio::time::sleep_until(due.into()).await;
            next = due;
        }
        // A full mailbox always has room for this; a closed one belongs to a connection that has ended.
        drop(handle.post(Parcel::Drain));
    }
    // Those that were accepted while we began.
    for handle in shared.registry.all() {
        drop(handle.post(Parcel::Drain));
    }
    shared.tasks.close();
    let patience =
        shared.config.drain_grace + shared.config.close_timeout * 3 + shared.config.handshake_timeout;
    if tokio::time::timeout(patience, shared.tasks.wait()).await.is_err() {
        tracing::warn!(connections = shared.registry.len(), "connections did not end in time");
    }
}

const WAVE: Duration = Duration::from_millis(20);
