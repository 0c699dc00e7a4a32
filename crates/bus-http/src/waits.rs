//! Who waits, at a request, for what is said to somebody else's inbox: the answer to the call that the request brought, or the
//! outcome of its command. Bounded by the connections that there may be.

use bytestring::ByteString;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_bus::{Envelope, Kind, Metadata};
use switchboard_rpc::StationId;
use tokio::sync::oneshot;

/// All who wait. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<Awaited, Vec<(u64, oneshot::Sender<Envelope>)>>,
    next: u64,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Awaited {
    /// The answer to a call, at the inbox of its gateway.
    Answer { inbox: ByteString, tenant: ByteString, station: StationId, generation: u64, seq: Option<u64> },
    /// The outcome of a command, at the inbox of its sender.
    Outcome { inbox: ByteString, tenant: ByteString, station: StationId, id: ByteString },
}

impl Awaited {
    /// What whoever publishes this waits for; none if nobody does.
    pub(crate) fn by(metadata: &Metadata, is_empty: bool) -> Option<Self> {
        let inbox = metadata.reply_to.clone()?;
        match metadata.kind {
            Kind::Call | Kind::Send => Self::answer(inbox, metadata),
            // What is in the outbox is followed there, and a cancellation has no outcome of its own.
            Kind::Command if !metadata.outbox && !is_empty => {
                Self::outcome(inbox, metadata, metadata.command_id.clone()?)
            }
            _ => None,
        }
    }

    /// What this, said to that inbox, is the end of.
    fn ended_by(inbox: &ByteString, metadata: &Metadata) -> Option<Self> {
        match (metadata.kind, &metadata.command_id) {
            (Kind::Outcome | Kind::Returned, Some(id)) => Self::outcome(inbox.clone(), metadata, id.clone()),
            (Kind::Answer | Kind::Returned, _) => Self::answer(inbox.clone(), metadata),
            _ => None,
        }
    }

    /// Ids are unique per station only.
    fn outcome(inbox: ByteString, metadata: &Metadata, id: ByteString) -> Option<Self> {
        let (tenant, station) = (metadata.tenant.clone(), metadata.station.clone()?);
        Some(Self::Outcome { inbox, tenant, station, id })
    }

    fn answer(inbox: ByteString, metadata: &Metadata) -> Option<Self> {
        Some(Self::Answer {
            inbox,
            tenant: metadata.tenant.clone(),
            station: metadata.station.clone()?,
            generation: metadata.connection.as_ref().map_or(0, |connection| connection.generation),
            seq: metadata.seq,
        })
    }
}

impl Waits {
    /// Begins to wait.
    pub(crate) fn begin(&self, awaited: Awaited) -> Wait {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.lock();
        table.next += 1;
        let number = table.next;
        table.waiting.entry(awaited.clone()).or_default().push((number, sender));
        drop(table);
        Wait { waits: self.clone(), awaited, number, receiver }
    }

    /// Gives an envelope for this inbox to all who wait for it, or gives it back if nobody does.
    pub(crate) fn give(&self, inbox: &ByteString, envelope: Envelope) -> Result<(), Envelope> {
        let ended = Awaited::ended_by(inbox, &envelope.metadata);
        let Some(waiting) = ended.and_then(|ended| self.lock().waiting.remove(&ended)) else {
            return Err(envelope);
        };
        for (_, sender) in waiting {
            // Whoever asked may have gone.
            drop(sender.send(envelope.clone()));
        }
        Ok(())
    }

    /// Whoever worked on this call is done with it. If it was not answered, one who waits need not wait any longer: the one
    /// that came last, as one for whom there was no room is let go of at once.
    pub(crate) fn silent(&self, awaited: &Awaited) {
        let mut table = self.lock();
        let Some(waiting) = table.waiting.get_mut(awaited) else { return };
        let last = waiting.pop();
        if waiting.is_empty() {
            table.waiting.remove(awaited);
        }
        drop(table);
        drop(last);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Wait {
    waits: Waits,
    awaited: Awaited,
    number: u64,
    receiver: oneshot::Receiver<Envelope>,
}

impl Wait {
    /// What was waited for; none if it does not come.
    pub(crate) async fn ended(&mut self) -> Option<Envelope> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut table = self.waits.lock();
        let Some(waiting) = table.waiting.get_mut(&self.awaited) else { return };
        waiting.retain(|(number, _)| *number != self.number);
        if waiting.is_empty() {
            table.waiting.remove(&self.awaited);
        }
    }
}
