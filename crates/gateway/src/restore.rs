//! The directory against our connections: what it knows of later ones, and what it has lost.

use crate::{
    registry::{Handle, Parcel, SHARDS},
    shared::{Shared, now},
};
use futures_util::stream::{self, StreamExt as _};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use switchboard_directory::DirectoryError;
use tokio_util::sync::CancellationToken;

/// Compares our connections with the directory: bit by bit, in case a message about a newer one was lost (L01), and all of them
/// at once when the directory has forgotten us.
pub(crate) async fn sweep(shared: Arc<Shared>, stop: CancellationToken) {
    let interval = shared.config.sweep_interval;
    let pause = (interval / u32::try_from(SHARDS).unwrap_or(1)).max(Duration::from_millis(1));
    let restored = AtomicUsize::new(0);
    let mut part = 0;
    loop {
        let forgotten = tokio::select! {
            () = stop.cancelled() => return,
            () = shared.forgotten.notified() => true,
            () = tokio::time::sleep(pause), if !interval.is_zero() => false,
        };
        let parts = if forgotten { 0..SHARDS } else { part..part + 1 };
        part = (part + 1) % SHARDS;
        let compared = stream::iter(parts.flat_map(|part| shared.registry.part(part)))
            .map(|handle| compare(&shared, handle, forgotten, &restored))
            .buffer_unordered(COMPARED_AT_ONCE)
            .collect::<()>();
        tokio::select! {
            () = stop.cancelled() => return,
            () = compared => {}
        }
        let restored = restored.swap(0, Ordering::Relaxed);
        if restored > 0 {
            tracing::warn!(restored, "connections that the directory had lost were recorded again");
        }
    }
}

/// `forgotten`: the directory has lost what it was told, and that is no question of a lease that ran out.
async fn compare(shared: &Shared, handle: Arc<Handle>, forgotten: bool, restored: &AtomicUsize) {
    let now = now();
    // Not knowing is no reason to close anything.
    let Ok(location) = shared.directory.locate(&handle.key, shared.clock.wall_ms(now)).await else { return };
    let known = location.map(|location| location.connection.generation);
    if known.is_some_and(|known| known > handle.generation) {
        drop(handle.post(Parcel::Replaced));
    } else if known != Some(handle.generation) && (forgotten || shared.knows_who_is_alive(now)) {
        match restore(shared, &handle).await {
            Ok(true) => {
                restored.fetch_add(1, Ordering::Relaxed);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(station = %handle.key.station, %error, "a lost connection could not be recorded");
                // Nobody may come by here for long.
                if forgotten {
                    shared.forgotten.notify_one();
                }
            }
        }
    }
}

/// Records a connection that the directory has lost; whether it had. Nothing is taken from a later one.
pub(crate) async fn restore(shared: &Shared, handle: &Handle) -> Result<bool, DirectoryError> {
    let connection = shared.connection(handle.generation);
    let now_ms = shared.clock.wall_ms(now());
    let restored = shared.directory.restore(&handle.key, &connection, handle.terms(), now_ms).await?;
    let is_here =
        shared.registry.find(&handle.key).is_some_and(|present| present.generation == handle.generation);
    if restored && !is_here {
        // It ended meanwhile, and said so when the directory did not know it.
        shared.directory.release(&handle.key, handle.generation, now_ms).await?;
    }
    Ok(restored)
}

/// Connections that are compared with the directory together.
const COMPARED_AT_ONCE: usize = 32;
