//! What an answer must carry, so that it finds its call.

use bytes::Bytes;
use bytestring::ByteString;
use std::fmt;
use switchboard_bus::{Done, Envelope, Kind, Metadata, OutcomeKind, Registration};
use switchboard_messages::Mode;
use switchboard_router::{Answer, Context, Key};
use switchboard_rpc::StationId;

/// Why an envelope cannot be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) &'static str);

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// One who waits for an answer: the metadata of its call, and the bus's acknowledgement.
pub(crate) struct Reply {
    metadata: Box<Metadata>,
    /// Dropped when the answer is on its way.
    _done: Done,
}

impl Reply {
    pub(crate) const fn new(metadata: Box<Metadata>, done: Done) -> Self {
        Self { metadata, _done: done }
    }

    /// Whose call it was.
    pub(crate) fn station(&self) -> Option<&StationId> {
        self.metadata.station.as_ref()
    }

    /// Where the answer goes, and the envelope that it goes in. None if nobody is to be told.
    pub(crate) fn envelope(&self, answer: &Answer, worker: &ByteString) -> Option<(ByteString, Envelope)> {
        let call = &self.metadata;
        if answer.later {
            // A SEND is held by its gateway until it is acknowledged, and goes again by itself.
            let inbox = call.reply_to.clone().filter(|_| call.kind == Kind::Call)?;
            let returned = Metadata { worker: Some(worker.clone()), ..call.returned(OutcomeKind::Busy) };
            return Some((inbox, Envelope::new(returned, Bytes::new())));
        }
        let body = match (&answer.frame, call.kind) {
            (Some(frame), _) => frame.clone(),
            // A SEND has no answer; its gateway, which holds it until then, is told by an empty one.
            (None, Kind::Send) if call.seq.is_some() => Bytes::new(),
            // Stale: the gateway gave it up long ago.
            (None, _) => return None,
        };
        let inbox = call.reply_to.clone()?;
        let metadata = Metadata {
            tenant: call.tenant.clone(),
            station: call.station.clone(),
            version: call.version,
            action: call.action.clone(),
            connection: call.connection.clone(),
            seq: call.seq,
            attempt: call.attempt,
            journal: call.journal,
            registration: answer.registration.map(registration),
            worker: Some(worker.clone()),
            ..Metadata::new(Kind::Answer)
        };
        Some((inbox, Envelope::new(metadata, body)))
    }
}

const fn registration(registration: switchboard_router::Registration) -> Registration {
    match registration {
        switchboard_router::Registration::Accepted => Registration::Accepted,
        switchboard_router::Registration::Pending => Registration::Pending,
        switchboard_router::Registration::Rejected => Registration::Rejected,
    }
}

/// What a router needs to know of a call, from its envelope.
pub(crate) fn context(metadata: &Metadata, mode: Mode) -> Result<Context, Missing> {
    let station = metadata.station.clone().ok_or(Missing("the station is missing"))?;
    let version = metadata.version.ok_or(Missing("the version is missing"))?;
    let connection = metadata.connection.as_ref().ok_or(Missing("the connection is missing"))?;
    let mut context = Context::new(station, version);
    context.tenant = metadata.tenant.clone();
    context.gateway = connection.gateway.clone();
    context.generation = connection.generation;
    if metadata.seq.is_none() && metadata.kind == Kind::Call {
        return Err(Missing("the number of the call is missing"));
    }
    // SENDs do not wait for one another, nor for the calls beside them: a lower number is not a sign of a stale one.
    context.keyed = metadata.kind == Kind::Call;
    context.seq = metadata.seq.unwrap_or_default();
    context.attempt = metadata.attempt;
    context.journal = metadata.journal;
    context.received_at_ms = metadata.received_at_ms.unwrap_or_default();
    context.remaining = metadata.remaining;
    context.mode = mode;
    context.traceparent = metadata.traceparent.clone();
    context.tracestate = metadata.tracestate.clone();
    Ok(context)
}

/// What tells a repeat of a call that is in hand. From the journal or not, it is the same call.
pub(crate) fn in_hand_key(context: &Context) -> Key {
    Key { journal: None, ..context.key() }
}
