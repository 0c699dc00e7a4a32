//! The beat.

use crate::calls::Calls;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use switchboard_bus::{
    Address, Envelope, Kind, Metadata,
    presence::{self, CallKey},
};
use tokio::time::MissedTickBehavior;

/// Tells the gateways every beat who is here and with what in hand, at once the first time. Never ends by itself.
pub(crate) async fn beat(calls: Arc<Calls>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell(&calls, false).await;
    }
}

/// Tells it once.
pub(crate) async fn tell(calls: &Calls, leaving: bool) {
    // All calls in hand, not only those that are old: one that was not named in this beat could be older than a beat
    // before the next one names it, and its gateway would take it for lost.
    let body = if leaving {
        presence::end()
    } else {
        let mut facts = calls.facts.clone();
        facts.inbox = Some(calls.inbox());
        facts.generation = facts.generation.max(calls.generation.load(Ordering::Relaxed));
        presence::body_with(
            &facts,
            calls.in_hand().keys().map(|key| CallKey {
                tenant: &key.tenant,
                station: key.station.as_str(),
                generation: key.generation,
                seq: key.seq,
            }),
        )
    };
    let mut metadata = Metadata::new(Kind::Presence);
    metadata.worker = Some(calls.id.clone());
    let envelope = Envelope::new(metadata, body);
    if let Err(error) = calls.bus.publish(Address::Presence, envelope).await {
        tracing::debug!(%error, "a sign of life was not carried");
    }
}
