//! Subscriptions: each has a channel of its own, with its queue, its prefetch and its acknowledgements.

use crate::config::Names;
use crate::line::{Order, Released, Shared};
use crate::publish::BODY_BYTES_MAX;
use crate::wire::{Content, Declare, Writer};
use bytestring::ByteString;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use switchboard_bus::{Consumer, Done, Envelope, State, SubscribeError, Subscribed, Subscription, Topic};
use tokio::sync::oneshot;

/// Told when a subscription listens, or cannot.
pub(crate) type Opened = oneshot::Sender<Result<(), SubscribeError>>;

/// One subscription, over all reconnections.
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) topic: Topic,
    in_hand_max: u32,
    in_hand: AtomicU32,
    consumer: Arc<dyn Consumer>,
    shared: Arc<Shared>,
}

impl Member {
    /// As many as it wants, except calls, which another is to be given if we die: there is nothing to acknowledge.
    const fn is_unbounded(&self) -> bool {
        self.in_hand_max > PREFETCH_MAX && !matches!(self.topic, Topic::Calls | Topic::Commands)
    }
}

/// Begins to listen. If the broker goes away meanwhile, as soon as it is there again.
pub(crate) async fn subscribe(
    shared: &Arc<Shared>,
    subscription: Subscription,
    consumer: Arc<dyn Consumer>,
) -> Result<Subscribed, SubscribeError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if let Topic::Inbox(name) = &subscription.topic
        && shared.config.names.inbox(name).is_none()
    {
        return Err(SubscribeError::Refused(Box::new(NameTooLong)));
    }
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let member = Arc::new(Member {
        id,
        topic: subscription.topic,
        in_hand_max: subscription.in_hand_max.get(),
        in_hand: AtomicU32::new(0),
        consumer,
        shared: Arc::clone(shared),
    });
    let (opened, result) = oneshot::channel();
    shared.tell(|line| match line.state {
        State::Connected => {
            line.orders.push(Order::Subscribe(member, opened));
            Ok(())
        }
        State::Away => Err(SubscribeError::Away),
        State::Closed => Err(SubscribeError::Closed),
    })?;
    let ending = Arc::clone(shared);
    // Before it is waited for, so that who stops waiting leaves no subscription behind.
    let subscribed = Subscribed::new(move || ending.tell(|line| line.orders.push(Order::Unsubscribe(id))));
    // The task that should answer ends when the bus is closed.
    result.await.unwrap_or(Err(SubscribeError::Closed))?;
    Ok(subscribed)
}

/// An AMQP name has at most 255 bytes.
#[derive(Debug, thiserror::Error)]
#[error("the inbox's name makes a queue's name of more than 255 bytes")]
struct NameTooLong;

/// The broker does not give what a subscription needs.
#[derive(Debug, thiserror::Error)]
#[error("the broker refused the queue with {code} {text}; the user needs the permissions of docs/support.md")]
pub(crate) struct QueueRefused {
    pub(crate) code: u16,
    pub(crate) text: String,
}

/// The channel of a subscription on the present connection.
pub(crate) struct Channel {
    pub(crate) number: u16,
    /// Tells it from others that have had its number.
    pub(crate) instance: u64,
    pub(crate) member: Arc<Member>,
    pub(crate) phase: Phase,
    /// What the broker waits for, in the order of their tags. At most the prefetch.
    unacked: VecDeque<(u64, Fate)>,
    /// What came while hands were full, which a reconnection makes possible. At most the prefetch.
    ready: VecDeque<(u64, Envelope)>,
    incoming: Option<Incoming>,
    /// Tags to be acknowledged at the end of this turn.
    done: Vec<u64>,
    /// Tags to be given back at the end of this turn.
    unwanted: Vec<u64>,
}

/// How far a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Opening,
    Open,
    /// The consumer is being cancelled.
    Leaving,
    /// It is cancelled; what is in hand is waited for.
    Draining,
    Closing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    InHand,
    Done,
    Acknowledged,
}

struct Incoming {
    tag: u64,
    /// None until its header was read; also if it is too large to be kept.
    content: Option<Content>,
    too_large: u64,
}

impl Channel {
    /// A channel for a subscription, and everything that it has to say to the broker, in one go.
    pub(crate) fn open(number: u16, member: Arc<Member>, names: &Names, out: &mut Vec<u8>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut writer = Writer::new(out, number);
        writer.channel_open();
        let anonymous = |length_max, age_max_ms| Declare {
            name: "",
            exclusive: true,
            length_max: Some(length_max),
            age_max_ms: Some(age_max_ms),
        };
        // An empty name is the queue that this channel declared last.
        match &member.topic {
            Topic::Calls => {
                writer.queue_declare(&Declare {
                    name: &names.workers,
                    exclusive: false,
                    length_max: None,
                    age_max_ms: None,
                });
                writer.queue_bind("", &names.any_call, "");
            }
            Topic::Commands => writer.queue_declare(&Declare {
                name: &names.commands,
                exclusive: false,
                length_max: None,
                age_max_ms: None,
            }),
            Topic::Inbox(name) => writer.queue_declare(&Declare {
                name: &names.inbox(name).unwrap_or_default(),
                ..anonymous(INBOX_LENGTH_MAX, INBOX_AGE_MAX_MS)
            }),
            Topic::Presence => {
                writer.queue_declare(&anonymous(PRESENCE_LENGTH_MAX, PRESENCE_AGE_MAX_MS));
                writer.queue_bind("", &names.presence, "");
            }
            Topic::Events => {
                writer.queue_declare(&anonymous(EVENTS_LENGTH_MAX, EVENTS_AGE_MAX_MS));
                writer.queue_bind("", &names.events, "#");
            }
        }
        if !member.is_unbounded() {
            writer.qos(u16::try_from(member.in_hand_max).unwrap_or(u16::MAX));
        }
        writer.consume("", TAG, member.is_unbounded());
        Self {
            number,
            instance: NEXT.fetch_add(1, Ordering::Relaxed),
            member,
            phase: Phase::Opening,
            unacked: VecDeque::new(),
            ready: VecDeque::new(),
            incoming: None,
            done: Vec::new(),
            unwanted: Vec::new(),
        }
    }

    /// A delivery begins.
    pub(crate) fn begin(&mut self, tag: u64) {
        self.incoming = Some(Incoming { tag, content: None, too_large: 0 });
    }

    /// Its header. None: there was no delivery, or it had one.
    pub(crate) fn header(&mut self, headers: &[u8], body_bytes: u64) -> Option<()> {
        let incoming = self.incoming.as_mut().filter(|incoming| incoming.content.is_none())?;
        match usize::try_from(body_bytes).ok().filter(|bytes| *bytes <= BODY_BYTES_MAX) {
            Some(bytes) => incoming.content = Some(Content::new(headers, bytes)),
            None => incoming.too_large = body_bytes,
        }
        self.finish()
    }

    /// Part of its body.
    pub(crate) fn body(&mut self, part: &[u8]) -> Option<()> {
        let incoming = self.incoming.as_mut()?;
        match &mut incoming.content {
            Some(content) => content.add(part)?,
            None => incoming.too_large = incoming.too_large.checked_sub(part.len() as u64)?,
        }
        self.finish()
    }

    /// Takes the delivery if it is whole.
    fn finish(&mut self) -> Option<()> {
        let Incoming { tag, content, too_large } = self.incoming.take()?;
        let content = match content {
            Some(content) if content.is_whole() => content.envelope().map_err(|error| error.to_string()),
            None if too_large == 0 => Err("its body is too large".to_owned()),
            content => {
                self.incoming = Some(Incoming { tag, content, too_large });
                return Some(());
            }
        };
        let is_unbounded = self.member.is_unbounded();
        if matches!(self.phase, Phase::Leaving | Phase::Draining | Phase::Closing) {
            if !is_unbounded {
                self.unwanted.push(tag);
            }
            return Some(());
        }
        if self.unacked.len() >= PREFETCH_MAX as usize {
            // No broker gives more than was asked for.
            return None;
        }
        match content {
            Ok(envelope) if is_unbounded => hand_over(&self.member, envelope, Done::noop()),
            Ok(envelope) => {
                self.unacked.push_back((tag, Fate::InHand));
                self.ready.push_back((tag, envelope));
                self.deliver();
            }
            Err(reason) => {
                tracing::warn!(topic = ?self.member.topic, reason, "a message on the bus is no envelope; it is dropped");
                if !is_unbounded {
                    self.unacked.push_back((tag, Fate::InHand));
                    self.done.push(tag);
                }
            }
        }
        Some(())
    }

    /// Hands over what is there, as far as hands are free.
    pub(crate) fn deliver(&mut self) {
        while self.member.in_hand.load(Ordering::Acquire) < self.member.in_hand_max {
            let Some((tag, envelope)) = self.ready.pop_front() else { return };
            self.member.in_hand.fetch_add(1, Ordering::AcqRel);
            let (member, channel, instance) = (Arc::clone(&self.member), self.number, self.instance);
            let done = Done::new(move || {
                member.in_hand.fetch_sub(1, Ordering::AcqRel);
                member.shared.tell(|line| line.released.push(Released { channel, instance, tag }));
            });
            hand_over(&self.member, envelope, done);
        }
    }

    /// A delivery was dealt with.
    pub(crate) fn release(&mut self, tag: u64) {
        self.done.push(tag);
    }

    /// Ends the consumer; what is in hand stays in hand.
    pub(crate) fn leave(&mut self, out: &mut Vec<u8>) {
        if matches!(self.phase, Phase::Opening | Phase::Open) {
            self.phase = Phase::Leaving;
            Writer::new(out, self.number).cancel(TAG);
            self.unwanted.extend(self.ready.drain(..).map(|(tag, _)| tag));
            let unwanted = &self.unwanted;
            self.unacked.retain(|(tag, _)| !unwanted.contains(tag));
        }
    }

    /// Says to the broker what this turn came to. Acknowledgements that stand side by side are one.
    pub(crate) fn settle(&mut self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out, self.number);
        for tag in self.unwanted.drain(..) {
            writer.give_back(tag);
        }
        for tag in &self.done {
            if let Ok(place) = self.unacked.binary_search_by_key(tag, |(tag, _)| *tag)
                && let Some((_, fate)) = self.unacked.get_mut(place)
            {
                *fate = Fate::Done;
            }
        }
        let mut last = None;
        while let Some((tag, fate)) = self.unacked.front().copied()
            && fate != Fate::InHand
        {
            if fate == Fate::Done {
                last = Some(tag);
            }
            self.unacked.pop_front();
        }
        if let Some(last) = last {
            writer.ack(last, true);
        }
        for tag in self.done.drain(..) {
            if let Ok(place) = self.unacked.binary_search_by_key(&tag, |(tag, _)| *tag)
                && let Some((_, fate)) = self.unacked.get_mut(place)
            {
                *fate = Fate::Acknowledged;
                writer.ack(tag, false);
            }
        }
        if self.phase == Phase::Draining && self.unacked.is_empty() {
            writer.channel_close();
            self.phase = Phase::Closing;
        }
    }

    /// Whether [`settle`](Self::settle) has something to say.
    pub(crate) fn is_unsettled(&self) -> bool {
        !self.done.is_empty() || !self.unwanted.is_empty() || self.phase == Phase::Draining
    }

    /// Whether hands were full.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

/// Why a broker may have closed the channel of a subscription that was being made.
pub(crate) fn refusal(member: &Member, code: u16, text: String) -> Option<SubscribeError> {
    const NOT_FOUND: u16 = 404;
    const RESOURCE_LOCKED: u16 = 405;
    match (&member.topic, code) {
        // The queue of the workers went with its last consumer while we came.
        (_, NOT_FOUND) => None,
        (Topic::Inbox(name), RESOURCE_LOCKED) => Some(SubscribeError::InboxTaken(ByteString::clone(name))),
        _ => Some(SubscribeError::Refused(Box::new(QueueRefused { code, text }))),
    }
}

pub(crate) fn hand_over(member: &Member, envelope: Envelope, done: Done) {
    // The panic's own message has been printed by the hook; the connection is not to suffer from it.
    if catch_unwind(AssertUnwindSafe(|| member.consumer.deliver(envelope, done))).is_err() {
        tracing::error!("a consumer panicked; what it was given is lost");
    }
}

/// The name of the one consumer that a channel has.
const TAG: &str = "s";
/// What AMQP can count.
const PREFETCH_MAX: u32 = 65_535;
/// More than a gateway's stations answer at once. Beyond it, and later than this, an answer is lost and asked for again.
const INBOX_LENGTH_MAX: u32 = 1_000_000;
const INBOX_AGE_MAX_MS: u32 = 60_000;
/// Each replaces the one before.
const PRESENCE_LENGTH_MAX: u32 = 10_000;
const PRESENCE_AGE_MAX_MS: u32 = 5_000;
/// Whoever must know keeps its own record.
const EVENTS_LENGTH_MAX: u32 = 100_000;
const EVENTS_AGE_MAX_MS: u32 = 60_000;
