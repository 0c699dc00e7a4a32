//! The bus itself.

use crate::{
    subjects::Subjects,
    taker::{Member, Seat},
};
use futures_util::future::BoxFuture;
use std::{
    cell::RefCell,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use switchboard_bus::{
    Address, Bus, Capabilities, Connect, ConnectError, Consumer, Envelope, PublishError, State,
    SubscribeError, Subscribed, Subscription, Tells, Topic, percent,
};
use switchboard_nats::{Line, RequestError, Taker, Writer};
use tokio::sync::watch;

/// A bus over core NATS, from server 2.9 on.
///
/// Publishing writes into the connection's buffer and never waits. Envelopes are handed to consumers by the one task of
/// the connection. What a consumer has no room for comes back to its sender as `busy`; of what cannot come back, presence
/// and events mostly, [`missed`](Self::missed) is the count.
pub struct Nats(Arc<Inner>);

pub(crate) struct Inner {
    line: Line,
    pub(crate) subjects: Subjects,
    pub(crate) missed: AtomicU64,
    pub(crate) unreadable: AtomicU64,
}

impl Nats {
    /// Begins to connect to `nats://` or `tls://` endpoints, and goes on trying for good; what is wrong is in the log.
    /// On a tokio runtime.
    ///
    /// # Errors
    /// When this configuration can never work.
    pub fn connect(connect: Connect) -> Result<Self, ConnectError> {
        for endpoint in connect.endpoints(switchboard_nats::SCHEMES)? {
            if let Some((name, _)) = endpoint.query.first() {
                let reason = format!("{name}= is no parameter of this bus; it has none");
                return Err(ConnectError::Url { url: endpoint.to_string(), reason });
            }
        }
        let line = Line::connect(&connect)?;
        let Connect { namespace, partitions, .. } = connect;
        let subjects = Subjects::new(&namespace, partitions);
        let (missed, unreadable) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { line, subjects, missed, unreadable })))
    }

    /// How often something was dropped because a subscriber's hands were full and nobody could be told.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// How often something came that is no envelope.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.0.unreadable.load(Ordering::Relaxed)
    }
}

impl Bus for Nats {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        match self.0.send(&to, &envelope) {
            // Takes no space, so that boxing it allocates nothing.
            Ok(()) => Box::pin(Published),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> BoxFuture<'_, Result<Subscribed, SubscribeError>> {
        Box::pin(self.0.subscribe(subscription, consumer))
    }

    fn state(&self) -> watch::Receiver<State> {
        self.0.line.state()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tells_nobody_listens: Tells::Later,
            tells_busy: Tells::Later,
            exclusive_inboxes: true,
            keeps_order: true,
            redelivers: false,
            tells_all: true,
            repeatable: true,
            body_bytes_max: self.0.body_bytes_max(),
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.line.close())
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Nats").field("line", &self.0.line).finish_non_exhaustive()
    }
}

impl Inner {
    /// The server counts headers too.
    fn body_bytes_max(&self) -> usize {
        self.line.max_payload().saturating_sub(HEADER_BYTES_MAX)
    }

    pub(crate) fn send(&self, to: &Address, envelope: &Envelope) -> Result<(), PublishError> {
        let Envelope { metadata, body } = envelope;
        let limit = self.body_bytes_max();
        if body.len() > limit {
            return Err(PublishError::TooLarge { bytes: body.len(), limit });
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { subject, reply, writer } = scratch;
            subject.clear();
            reply.clear();
            self.subjects.write(to, subject);
            let comes_back = matches!(to, Address::Call { .. } | Address::Command { .. } | Address::Inbox(_))
                && self.subjects.write_return(metadata, body, reply);
            metadata.encode_headers(&mut |name, value| writer.header(name, &percent::encode_value(value)));
            let reply = comes_back.then_some(reply.as_str());
            self.line.publish(writer, subject, reply, body).map_err(publish_error)
        })
    }

    /// Says that this inbox has an owner.
    pub(crate) fn answer_owner(&self, reply: &str) {
        if let Err(error) = self.line.publish(&mut Writer::new(), reply, None, b"") {
            tracing::debug!(%error, "who asked for the owner of an inbox was not answered");
        }
    }

    async fn subscribe(
        self: &Arc<Self>,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> Result<Subscribed, SubscribeError> {
        if let Topic::Inbox(name) = &subscription.topic {
            let asked = self.line.request(Writer::new(), &self.subjects.owner(name), b"", OWNER_MAX).await;
            match asked {
                Ok(_) => return Err(SubscribeError::InboxTaken(name.clone())),
                // An owner that does not answer is dead, or frozen, and will be fenced off by its generations.
                Err(RequestError::NobodyListens(_) | RequestError::NoAnswer) => {}
                Err(RequestError::Publish(error)) => return Err(unsaid(error)),
                Err(RequestError::Subscribe(error)) => return Err(subscribe_error(error)),
                Err(other) => return Err(SubscribeError::Refused(Box::new(other))),
            }
        }
        let member = Arc::new(Member {
            consumer,
            in_hand: AtomicU32::new(0),
            in_hand_max: subscription.in_hand_max.get(),
            inner: Arc::downgrade(self),
        });
        let (subjects, group) = self.subjects.of(&subscription.topic);
        let mut listening = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let taker: Arc<dyn Taker> = Arc::new(Seat(Arc::clone(&member)));
            listening.push(self.line.subscribe(&subject, group, taker).await.map_err(subscribe_error)?);
        }
        Ok(Subscribed::new(move || drop(listening)))
    }
}

/// What writing a message needs for a moment.
#[derive(Default)]
struct Scratch {
    subject: String,
    reply: String,
    writer: Writer,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn publish_error(error: switchboard_nats::PublishError) -> PublishError {
    match error {
        switchboard_nats::PublishError::Away => PublishError::Away,
        switchboard_nats::PublishError::Closed => PublishError::Closed,
        switchboard_nats::PublishError::Busy => PublishError::Busy,
        switchboard_nats::PublishError::TooLarge { bytes, limit }
        | switchboard_nats::PublishError::Subject { bytes, limit } => PublishError::TooLarge { bytes, limit },
        other => PublishError::Refused(Box::new(other)),
    }
}

fn subscribe_error(error: switchboard_nats::SubscribeError) -> SubscribeError {
    match error {
        switchboard_nats::SubscribeError::Away => SubscribeError::Away,
        switchboard_nats::SubscribeError::Closed => SubscribeError::Closed,
        other => SubscribeError::Refused(Box::new(other)),
    }
}

fn unsaid(error: switchboard_nats::PublishError) -> SubscribeError {
    match error {
        switchboard_nats::PublishError::Away | switchboard_nats::PublishError::Busy => SubscribeError::Away,
        switchboard_nats::PublishError::Closed => SubscribeError::Closed,
        other => SubscribeError::Refused(Box::new(other)),
    }
}

/// The future of what has been published already.
struct Published;

impl Future for Published {
    type Output = Result<(), PublishError>;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}

/// What our headers need at most, unless a sender's context is huge; that is refused then.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// How long the owner of an inbox has to say that it is there.
const OWNER_MAX: Duration = Duration::from_secs(1);
