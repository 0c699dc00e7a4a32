//! What the bus carries: an OCPP-J frame as its body, and typed metadata that travel in the transport's own headers.

use bytes::Bytes;
use bytestring::ByteString;
use std::time::Duration;
use switchboard_rpc::{StationId, Version};

/// What an envelope is for: the header `ocpp-kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A CALL of a station, to be answered.
    Call,
    /// A SEND of a station (2.1), never answered.
    Send,
    /// The answer to a call: a CALLRESULT or CALLERROR frame.
    Answer,
    /// A CALLRESULTERROR for a station (2.1).
    ResultError,
    /// A call from our side to a station. With an empty body: the cancellation of the command of the same id.
    Command,
    /// What became of a command.
    Outcome,
    /// Something that happened to a connection.
    Event,
    /// A sign of life of a worker.
    Presence,
    /// A call or command that nobody took, back at the inbox that its answer was to go to. `outcome` says why.
    Returned,
}

/// Which connection of a station: the gateway that holds it and its generation.
///
/// A station's generations rise with each accepted connection. Whatever carries an older one is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// The gateway that holds the socket.
    pub gateway: ByteString,
    /// The generation that the directory gave to the connection.
    pub generation: u64,
}

/// A station's registration as processing sees it (the status of its last BootNotification).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Registration {
    /// Everything may be sent in both directions.
    Accepted,
    /// Only configuration and information commands go out.
    Pending,
    /// No command goes out.
    Rejected,
}

/// How a command ended, where the body alone cannot say it: the header `ocpp-outcome`.
///
/// `Answered` and `Refused` have the station's own frame as their body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// The station answered with a CALLRESULT; the body is that frame.
    Answered,
    /// The station answered with a CALLERROR; the body is that frame.
    Refused,
    /// The station is not connected; of what was returned: nobody listens there.
    Offline,
    /// The connection's queue is full; of what was returned: everybody has as much in hand as they may.
    Busy,
    /// The command waited longer than it was allowed to, and was never sent.
    Expired,
    /// The caller took it back before it was sent.
    Cancelled,
    /// The socket went, or the station may not be called now; the command was never written.
    NotSent,
    /// It was written, and no answer came: nobody knows whether the station acted on it.
    Unknown,
}

/// In which queue of a connection a command waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Before all normal commands.
    Urgent,
    /// In order of arrival.
    #[default]
    Normal,
}

/// The metadata of an envelope. Which fields are set depends on [`Kind`]; the table stands in `docs/contract.md`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// `ocpp-kind`
    pub kind: Kind,
    /// `ocpp-tenant`; `default` where tenants are not used.
    pub tenant: ByteString,
    /// `ocpp-station`; absent only in presence.
    pub station: Option<StationId>,
    /// `ocpp-version`
    pub version: Option<Version>,
    /// `ocpp-action`
    pub action: Option<ByteString>,
    /// `ocpp-gateway` and `ocpp-generation`
    pub connection: Option<ConnectionKey>,
    /// `ocpp-seq`: which call of the connection. With tenant, station and generation it is the idempotency key.
    pub seq: Option<u64>,
    /// `ocpp-received-at`, RFC 3339 in UTC on the wire: milliseconds since 1970.
    pub received_at_ms: Option<i64>,
    /// `ocpp-remaining-ms`: what is left of the deadline when this is handed over.
    pub remaining: Option<Duration>,
    /// `ocpp-reply-to`: the inbox that the answer or outcome goes to.
    pub reply_to: Option<ByteString>,
    /// `ocpp-attempt`: 1 for the first hand-over. 0 where it means nothing.
    pub attempt: u32,
    /// `ocpp-command-id`
    pub command_id: Option<ByteString>,
    /// `ocpp-context`: opaque to us, returned with the outcome.
    pub context: Option<ByteString>,
    /// `ocpp-registration`, on answers.
    pub registration: Option<Registration>,
    /// `ocpp-outcome`, on outcomes, and on what was returned.
    pub outcome: Option<OutcomeKind>,
    /// `ocpp-lane`, on commands.
    pub lane: Lane,
    /// `ocpp-outbox`, on commands: it stands in the directory's outbox under its id. Whoever writes it to the station
    /// records it there as being sent first, and how it ended afterwards.
    pub outbox: bool,
    /// `ocpp-journal`: the journal id of a call that was answered from the journal and is now worked off.
    pub journal: Option<u64>,
    /// `ocpp-epoch`: the partition epoch of a sending actor.
    pub epoch: Option<u64>,
    /// `ocpp-worker`: the worker that answers or gives back, or whose sign of life this is.
    pub worker: Option<ByteString>,
    /// `traceparent`
    pub traceparent: Option<ByteString>,
    /// `tracestate`
    pub tracestate: Option<ByteString>,
}

impl Metadata {
    /// Metadata of this kind with everything else absent, for tenant `default`.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            tenant: ByteString::from_static("default"),
            station: None,
            version: None,
            action: None,
            connection: None,
            seq: None,
            received_at_ms: None,
            remaining: None,
            reply_to: None,
            attempt: 0,
            command_id: None,
            context: None,
            registration: None,
            outcome: None,
            lane: Lane::Normal,
            outbox: false,
            journal: None,
            epoch: None,
            worker: None,
            traceparent: None,
            tracestate: None,
        }
    }

    /// Whether this comes back to its sender if nobody takes it, as [`Bus`](crate::Bus) promises. `body` is what it is the
    /// metadata of.
    #[must_use]
    pub fn comes_back(&self, body: &[u8]) -> bool {
        self.reply_to.is_some()
            && match self.kind {
                Kind::Call => true,
                // The outbox is looked into again, and a cancellation has its command's id: its sender would take its
                // return for that command's end.
                Kind::Command => !self.outbox && !body.is_empty(),
                _ => false,
            }
    }

    /// What its sender is told then.
    #[must_use]
    pub fn returned(&self, outcome: OutcomeKind) -> Self {
        Self {
            tenant: self.tenant.clone(),
            station: self.station.clone(),
            connection: self.connection.clone(),
            seq: self.seq,
            attempt: self.attempt,
            journal: self.journal,
            command_id: self.command_id.clone(),
            outcome: Some(outcome),
            ..Self::new(Kind::Returned)
        }
    }
}

/// One message on the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// What travels in headers. Boxed: an envelope is handed on a dozen times on its way, and this is half a kilobyte.
    pub metadata: Box<Metadata>,
    /// The OCPP-J frame exactly as it is on the socket, or empty.
    pub body: Bytes,
}

impl Envelope {
    /// An envelope of these two.
    #[must_use]
    pub fn new(metadata: Metadata, body: impl Into<Bytes>) -> Self {
        Self { metadata: Box::new(metadata), body: body.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_back_and_commands_that_somebody_waits_for_and_nothing_else() {
        let comes_back = |kind, body: &'static [u8], change: fn(&mut Metadata)| {
            let mut metadata = Metadata::new(kind);
            metadata.reply_to = Some("inbox".into());
            change(&mut metadata);
            metadata.comes_back(body)
        };
        for (kind, expected) in [
            (Kind::Call, true),
            (Kind::Command, true),
            (Kind::Send, false),
            (Kind::Answer, false),
            (Kind::Outcome, false),
            (Kind::Event, false),
            (Kind::Presence, false),
            (Kind::Returned, false),
            (Kind::ResultError, false),
        ] {
            assert_eq!(comes_back(kind, b"[]", |_| {}), expected, "{kind:?}");
        }
        assert!(!comes_back(Kind::Command, b"", |_| {}), "a cancellation");
        assert!(!comes_back(Kind::Command, b"[]", |metadata| metadata.outbox = true));
        assert!(!comes_back(Kind::Call, b"[]", |metadata| metadata.reply_to = None));
    }
}
