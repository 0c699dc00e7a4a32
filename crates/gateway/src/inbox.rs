//! What the bus brings to this gateway: answers, commands, notices of other gateways, and workers' signs of life.

use crate::{
    mailbox::PostError,
    registry::Parcel,
    shared::{Shared, now},
};
use bytes::Bytes;
use bytestring::ByteString;
use std::{
    num::NonZeroU32,
    sync::{Arc, Weak, atomic::Ordering},
};
use switchboard_bus::{
    Address, ConnectionKey, Consumer, Done, Envelope, Kind, Metadata, OutcomeKind, PublishError,
    presence::{self, Facts},
};
use switchboard_directory::StationKey;

/// The inbox of a gateway. It holds no strong reference, since the bus holds it and the gateway holds the bus.
#[derive(Debug)]
pub(crate) struct Inbox(pub(crate) Weak<Shared>);

impl Consumer for Inbox {
    fn deliver(&self, envelope: Envelope, done: Done) {
        if let Some(shared) = self.0.upgrade() {
            sort(&shared, envelope);
        }
        drop(done);
    }
}

/// Hears the workers' signs of life.
#[derive(Debug)]
pub(crate) struct Ear(pub(crate) Weak<Shared>);

impl Consumer for Ear {
    fn deliver(&self, envelope: Envelope, done: Done) {
        if let (Some(shared), Some(worker)) = (self.0.upgrade(), &envelope.metadata.worker) {
            let facts = Facts::read(&envelope.body);
            let ours = &shared.config.directory;
            let strange = ours.is_some() && facts.directory.is_some() && facts.directory != *ours;
            let generation = facts.generation;
            if shared.workers.hear(worker, &envelope.body, facts, strange, now()) {
                tracing::error!(
                    %worker,
                    "a worker asks another directory than this gateway: its commands find no station, and what it keeps for \
                     stations that are offline is never sent; give gateways and workers of a namespace the same --directory, and \
                     restart the worker if that was made anew"
                );
            }
            shared.generations.fetch_max(generation, Ordering::Relaxed);
            if !presence::is_end(&envelope.body) {
                // Nobody else may be there to find out: while upgrades are refused, the last station may have gone.
                shared.processing_is_back();
            }
        }
        drop(done);
    }
}

/// Takes commands whose senders do not know where their station is, and passes each on to the gateway that has it.
#[derive(Debug)]
pub(crate) struct Exchange(pub(crate) Weak<Shared>);

impl Exchange {
    /// How many may wait for the directory at once; what comes above waits with the broker or goes back as busy.
    pub(crate) const IN_HAND_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);
}

impl Consumer for Exchange {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let Some(shared) = self.0.upgrade() else { return };
        let (Kind::Command, Some(station)) = (envelope.metadata.kind, envelope.metadata.station.clone())
        else {
            tracing::debug!(kind = ?envelope.metadata.kind, "it is no command to a station");
            return;
        };
        let key = StationKey { tenant: envelope.metadata.tenant.clone(), station };
        if shared.registry.find(&key).is_some() {
            command(&shared, &key, envelope);
            return;
        }
        let task = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            pass_on(&task, &key, envelope).await;
            drop(done);
        });
    }
}

/// Hands a command to the gateway that has its station. Whoever sent it is told if there is none.
async fn pass_on(shared: &Shared, key: &StationKey, envelope: Envelope) {
    let (metadata, is_cancellation) = (envelope.metadata.clone(), envelope.body.is_empty());
    let outcome = match shared.directory.locate(key, shared.clock.wall_ms(now())).await {
        Ok(Some(there)) if there.connection.gateway != shared.name => {
            match shared.bus.publish(Address::Inbox(there.connection.gateway), envelope).await {
                Ok(()) => return,
                Err(PublishError::NobodyListens) => OutcomeKind::Offline,
                Err(PublishError::Busy) => OutcomeKind::Busy,
                // Somebody may have it.
                Err(PublishError::Refused(_)) => OutcomeKind::Unknown,
                Err(_) => OutcomeKind::NotSent,
            }
        }
        Ok(_) => OutcomeKind::Offline,
        Err(error) => {
            tracing::warn!(station = %key.station, %error, "where a station is could not be learned for a command");
            OutcomeKind::NotSent
        }
    };
    if !is_cancellation && !metadata.outbox {
        shared.tell_outcome(metadata, outcome, Bytes::new());
    }
}

fn sort(shared: &Arc<Shared>, envelope: Envelope) {
    if envelope.metadata.kind == Kind::Answer {
        answer(shared, envelope);
        return;
    }
    let Some(key) = envelope
        .metadata
        .station
        .clone()
        .map(|station| StationKey { tenant: envelope.metadata.tenant.clone(), station })
    else {
        return;
    };
    match envelope.metadata.kind {
        Kind::Command => command(shared, &key, envelope),
        Kind::Returned => returned(shared, &key, &envelope.metadata),
        Kind::ResultError => {
            if let Some(handle) = here(shared, &key, envelope.metadata.connection.as_ref()) {
                // A report about an answer; nobody waits for it.
                drop(handle.post(Parcel::Unanswered(envelope.body)));
            }
        }
        Kind::Event => {
            // Another gateway has a newer connection of a station of ours.
            if let Some(connection) =
                envelope.metadata.connection.filter(|connection| connection.gateway == shared.name)
                && let Some(handle) = shared.registry.bury(&key.detached(), connection.generation, now())
            {
                shared.count_replacement(&handle.key);
                drop(handle.post(Parcel::Replaced));
            }
        }
        kind => tracing::debug!(?kind, "the inbox of a gateway takes no such message"),
    }
}

fn answer(shared: &Shared, envelope: Envelope) {
    let Metadata { tenant, station, seq, attempt, registration, journal, connection, .. } =
        *envelope.metadata;
    let Some(key) = station.map(|station| StationKey { tenant, station }) else { return };
    if let Some(id) = journal {
        if !shared.journal.answer(id, &key, seq, envelope.body) {
            shared.metrics.answers_late.inc();
        }
        return;
    }
    // C11, S10: for an earlier connection, or for none.
    let Some((handle, seq)) = here(shared, &key, connection.as_ref()).zip(seq) else {
        shared.metrics.answers_late.inc();
        return;
    };
    if handle.post(Parcel::Answer { seq, attempt, frame: envelope.body, registration }).is_err() {
        shared.metrics.answers_late.inc();
    }
}

/// Nobody took a call of ours, as far as the bus could tell only now.
fn returned(shared: &Shared, key: &StationKey, metadata: &Metadata) {
    // A worker whose hands are full is there.
    if metadata.outcome != Some(OutcomeKind::Busy) {
        shared.processing_is_away(now());
    }
    if let Some(id) = metadata.journal {
        shared.journal.returned(id, key, metadata.seq, metadata.worker.is_some());
    } else if let Some((handle, seq)) = here(shared, key, metadata.connection.as_ref()).zip(metadata.seq) {
        // One that finds no room is a call that is handed over again a little later.
        drop(handle.post(Parcel::Returned { seq, attempt: metadata.attempt }));
    }
}

fn command(shared: &Shared, key: &StationKey, envelope: Envelope) {
    let is_cancellation = envelope.body.is_empty();
    // One of the outbox is written once by what the outbox says of it.
    if !is_cancellation
        && !envelope.metadata.outbox
        && let Some(id) = &envelope.metadata.command_id
        && !shared.recent.is_new((&key.tenant, &key.station, id), now())
    {
        tracing::debug!(station = %key.station, %id, "the bus delivered a command again");
        return;
    }
    let Some(handle) = shared.registry.find(key) else {
        // One of the outbox stays there for the station's next connection.
        if !is_cancellation && !envelope.metadata.outbox {
            shared.tell_outcome(envelope.metadata, OutcomeKind::Offline, Bytes::new());
        }
        return;
    };
    if envelope.metadata.outbox && !is_cancellation {
        // The next look into the outbox finds it if there is no room for this hint now.
        drop(handle.post(Parcel::Outbox));
        return;
    }
    if let Err((error, Parcel::Command(envelope))) = handle.post(Parcel::Command(Box::new(envelope)))
        && !is_cancellation
    {
        let outcome = match error {
            PostError::Full => OutcomeKind::Busy,
            PostError::Closed => OutcomeKind::Offline,
        };
        shared.tell_outcome(envelope.metadata, outcome, Bytes::new());
    }
}

/// The connection of ours that an envelope means: this generation and no other.
fn here(
    shared: &Shared,
    key: &StationKey,
    connection: Option<&ConnectionKey>,
) -> Option<Arc<crate::registry::Handle>> {
    let connection = connection.filter(|connection| connection.gateway == shared.name)?;
    shared.registry.find(key).filter(|handle| handle.generation == connection.generation)
}

/// Tells the gateway of an earlier connection that it is replaced.
pub(crate) fn tell_replaced(shared: &Shared, key: &StationKey, previous: ConnectionKey) {
    let gateway: ByteString = previous.gateway.clone();
    let mut metadata = Metadata::new(Kind::Event);
    metadata.tenant = key.tenant.clone();
    metadata.station = Some(key.station.clone());
    metadata.connection = Some(previous);
    let envelope = Envelope::new(metadata, Bytes::from_static(br#"{"event":"replaced"}"#));
    shared.tell(Address::Inbox(gateway), envelope);
}
