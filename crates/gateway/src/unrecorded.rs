//! How commands of the outbox ended that the directory could not be told, as it was away: it is told later, so that who asks
//! there does not find them under way for ever, or unknown, although we know.

use crate::shared::{Shared, now};
use bytes::Bytes;
use bytestring::ByteString;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use switchboard_bus::OutcomeKind;
use switchboard_directory::StationKey;

/// The end of a command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) key: StationKey,
    pub(crate) id: ByteString,
    pub(crate) outcome: OutcomeKind,
    pub(crate) frame: Bytes,
}

/// Ends that wait for the directory, each with the time from which on nobody cares.
#[derive(Debug, Default)]
pub(crate) struct Unrecorded(Mutex<VecDeque<(Ended, Instant)>>);

/// Tells the directory how a command ended; later, if that is away.
pub(crate) async fn record(shared: &Shared, ended: Ended) {
    let now = now();
    if let Some(ended) = try_to(shared, ended).await {
        let mut waiting = shared.unrecorded.lock();
        if waiting.len() >= WAITING_MAX {
            // Whoever asks for it learns that nobody knows.
            waiting.pop_front();
        }
        waiting.push_back((ended, now + CARED_FOR));
    }
}

/// Tries again what waits, until the directory fails again. Called every second.
pub(crate) async fn record_again(shared: &Shared) {
    // One that this is cancelled with is lost: that is when the gateway stops.
    while let Some((ended, until)) = { shared.unrecorded.lock().pop_front() } {
        if now() >= until {
            continue;
        }
        if let Some(ended) = try_to(shared, ended).await {
            shared.unrecorded.lock().push_front((ended, until));
            return;
        }
    }
}

/// Gives back what the directory may take later.
async fn try_to(shared: &Shared, ended: Ended) -> Option<Ended> {
    let now_ms = shared.clock.wall_ms(now());
    let Ended { key, id, outcome, frame } = &ended;
    match shared.directory.outbox_end(key, id, *outcome, frame.clone(), now_ms).await {
        Ok(()) => None,
        Err(error) => {
            let again = error.is_retryable();
            tracing::warn!(station = %key.station, %id, %error, again, "the end of a command could not be recorded");
            again.then_some(ended)
        }
    }
}

impl Unrecorded {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Ended, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There are hardly more than commands were on their way when the directory went; beyond this the oldest is forgotten.
const WAITING_MAX: usize = 1_024;
/// A directory that is away for longer has lost more than this.
const CARED_FOR: Duration = Duration::from_secs(3_600);
