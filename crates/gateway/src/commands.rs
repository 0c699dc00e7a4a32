//! The commands of one connection: those under way, and those that wait for it in the directory's outbox.

use bytes::Bytes;
use bytestring::ByteString;
use std::collections::VecDeque;
use switchboard_bus::{Kind, Lane, Metadata, OutcomeKind};
use switchboard_directory::OutboxEntry;
use switchboard_rpc::connection::{self, Outcome};

/// A command that the core has, until it ends.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) key: u64,
    /// As it came; what its outcome echoes.
    pub(crate) metadata: Box<Metadata>,
    /// Whether its fate is recorded in the outbox.
    pub(crate) outbox: bool,
}

/// The commands of one connection. Their number is bounded by the core's queue.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    open: Vec<Open>,
    next_key: u64,
    pub(crate) outbox: Option<Box<Outbox>>,
}

/// Commands of the outbox on their way to this station, one after another: the directory must know of each before it
/// is written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) waiting: VecDeque<OutboxEntry>,
    /// The directory is being asked, or a command of it is under way.
    pub(crate) busy: bool,
    /// There may be more than what waits here.
    pub(crate) again: bool,
}

impl Commands {
    pub(crate) const fn next_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    pub(crate) fn opened(&mut self, open: Open) {
        self.open.push(open);
    }

    /// The core's key of a command, to take it back.
    pub(crate) fn key_of(&self, id: &ByteString) -> Option<u64> {
        self.open.iter().find(|open| open.metadata.command_id.as_ref() == Some(id)).map(|open| open.key)
    }

    /// Takes out a command that has ended.
    pub(crate) fn ended(&mut self, key: u64) -> Option<Open> {
        let place = self.open.iter().position(|open| open.key == key)?;
        let open = self.open.remove(place);
        if self.open.is_empty() {
            // Most connections have none most of the time.
            self.open = Vec::new();
        }
        Some(open)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

/// What the sender is told, with the station's frame where there is one.
pub(crate) fn told(outcome: Outcome) -> (OutcomeKind, Bytes) {
    match outcome {
        Outcome::Answered { frame, .. } => (OutcomeKind::Answered, frame.into_bytes()),
        Outcome::Refused { frame, .. } => (OutcomeKind::Refused, frame.into_bytes()),
        Outcome::Expired => (OutcomeKind::Expired, Bytes::new()),
        Outcome::NotSent => (OutcomeKind::NotSent, Bytes::new()),
        Outcome::Cancelled => (OutcomeKind::Cancelled, Bytes::new()),
        // The station had it; what it made of it nobody can say.
        _ => (OutcomeKind::Unknown, Bytes::new()),
    }
}

/// The core's word for a lane.
pub(crate) const fn lane(lane: Lane) -> connection::Lane {
    match lane {
        Lane::Urgent => connection::Lane::Urgent,
        Lane::Normal => connection::Lane::Normal,
    }
}

/// The metadata that a command of the outbox would have come with.
pub(crate) fn metadata(entry: &OutboxEntry) -> Metadata {
    let mut metadata = Metadata::new(Kind::Command);
    metadata.tenant = entry.key.tenant.clone();
    metadata.station = Some(entry.key.station.clone());
    metadata.action = Some(entry.action.clone());
    metadata.command_id = Some(entry.id.clone());
    metadata.reply_to = entry.reply_to.clone();
    metadata.context = entry.context.clone();
    metadata.lane = entry.lane;
    metadata.remaining = Some(entry.timeout);
    metadata.outbox = true;
    metadata
}
