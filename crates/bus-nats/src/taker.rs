//! What comes from the server, as envelopes for a consumer.

use crate::nats::Inner;
use bytestring::ByteString;
use std::sync::{
    Arc, Weak,
    atomic::{AtomicU32, Ordering},
};
use switchboard_bus::{
    Address, Consumer, Done, Envelope, HeaderError, Kind, Metadata, OutcomeKind, Release, percent,
};
use switchboard_nats::{Message, NOBODY_LISTENS, Taker};

/// One subscription: its consumer, and how much that has in hand.
pub(crate) struct Member {
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) in_hand: AtomicU32,
    pub(crate) in_hand_max: u32,
    /// The connection holds this, and the bus the connection.
    pub(crate) inner: Weak<Inner>,
}

/// A member as the connection knows it; the second pointer is what its envelopes let go of.
pub(crate) struct Seat(pub(crate) Arc<Member>);

impl Taker for Seat {
    fn take(&self, message: Message) {
        let member = &self.0;
        let Some(inner) = member.inner.upgrade() else { return };
        let metadata = match read(&inner, &message) {
            Ok(Some(metadata)) => metadata,
            Ok(None) => return,
            Err(error) => {
                inner.unreadable.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a message on the bus cannot be read");
                return;
            }
        };
        let room = |in_hand| (in_hand < member.in_hand_max).then_some(in_hand + 1);
        if member.in_hand.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_err() {
            inner.give_back(&metadata, &message.payload);
            return;
        }
        let release: Arc<dyn Release> = Arc::<Member>::clone(member);
        let envelope = Envelope { metadata: Box::new(metadata), body: message.payload };
        member.consumer.deliver(envelope, Done::shared(release));
    }
}

impl Release for Member {
    fn release(&self) {
        self.in_hand.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The metadata of a message; none if it was not for the consumer.
fn read(inner: &Inner, message: &Message) -> Result<Option<Metadata>, HeaderError> {
    if message.status == Some(NOBODY_LISTENS) {
        let Some(mut metadata) = inner.subjects.read_return(&message.subject, Kind::Returned) else {
            return Ok(None);
        };
        metadata.outcome = Some(OutcomeKind::Offline);
        return Ok(Some(metadata));
    }
    let read =
        Metadata::decode_headers(message.headers().map(|(name, value)| (name, Value::new(message, value))));
    match read {
        Ok(metadata) => Ok(Some(metadata)),
        Err(HeaderError::Missing { name }) => {
            if inner.subjects.asks_for_owner(&message.subject) {
                if let Some(reply) = &message.reply {
                    inner.answer_owner(reply);
                }
                return Ok(None);
            }
            // A worker that simply responded: the subject says to what.
            let answered = inner.subjects.read_return(&message.subject, Kind::Answer);
            match answered.filter(|answered| answered.seq.is_some()) {
                Some(metadata) => Ok(Some(metadata)),
                None => Err(HeaderError::Missing { name }),
            }
        }
        Err(error) => Err(error),
    }
}

impl Inner {
    /// Somebody has no room for this: it goes back to whoever sent it, or is counted.
    fn give_back(&self, metadata: &Metadata, body: &[u8]) {
        let Some(inbox) = metadata.reply_to.clone().filter(|_| metadata.comes_back(body)) else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let returned = Envelope::new(metadata.returned(OutcomeKind::Busy), "");
        if let Err(error) = self.send(&Address::Inbox(inbox), &returned) {
            // Its sender asks again after a while.
            tracing::debug!(%error, "what there is no room for could not be given back");
        }
    }
}

/// A header's value: a slice of all headers, or decoded.
struct Value<'a> {
    all: &'a ByteString,
    text: &'a str,
    decoded: Option<ByteString>,
}

impl<'a> Value<'a> {
    fn new(message: &'a Message, text: &'a str) -> Self {
        let decoded = if text.contains('%') { percent::decode_value(text) } else { None };
        Self { all: &message.headers, text, decoded }
    }
}

impl AsRef<str> for Value<'_> {
    fn as_ref(&self) -> &str {
        self.decoded.as_deref().unwrap_or(self.text)
    }
}

impl From<Value<'_>> for ByteString {
    fn from(value: Value<'_>) -> Self {
        match value.decoded {
            Some(decoded) => decoded,
            None => value.all.slice_ref(value.text),
        }
    }
}
