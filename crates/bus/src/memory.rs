//! The in-process bus: gateway and workers in one process, and every test of them.
//!
//! Nothing is queued. `publish` writes the envelope's headers, reads them again and calls the consumer on the publisher's
//! own task, so that what works here has been through the contract's form, and a call costs no task switch.

use crate::Envelope;
use crate::contract::{
    Address, Bus, Capabilities, Consumer, Done, PublishError, Release, State, SubscribeError, Subscribed,
    Subscription, Tells, Topic,
};
use bytestring::ByteString;
use foldhash::HashMap;
use futures_util::future::BoxFuture;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};
use tokio::sync::watch;

/// A bus within one process. Clones are the same bus.
///
/// Competing consumers of calls take turns, passing over those with full hands. `publish` does its work before it
/// returns the future. It takes a lock for the look-up only, never while a consumer runs. A subscriber that misses
/// presence or an event because its hands are full is counted in [`missed`](Self::missed).
#[derive(Clone)]
pub struct InProcess(Arc<Shared>);

struct Shared {
    state: watch::Sender<State>,
    table: RwLock<Table>,
    next_member: AtomicU64,
    turn: AtomicUsize,
    missed: AtomicU64,
}

/// Who listens. As large as what this process subscribes; the slices are replaced whole, so that a publisher takes one
/// reference and lets go of the lock.
#[derive(Default)]
struct Table {
    closed: bool,
    calls: Arc<[Arc<Member>]>,
    commands: Arc<[Arc<Member>]>,
    presence: Arc<[Arc<Member>]>,
    events: Arc<[Arc<Member>]>,
    inboxes: HashMap<ByteString, Arc<Member>>,
}

struct Member {
    id: u64,
    in_hand: AtomicU32,
    in_hand_max: u32,
    consumer: Arc<dyn Consumer>,
}

impl InProcess {
    /// The largest body that it carries, in bytes: far above the largest frame that a gateway accepts.
    pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

    /// A bus that nobody listens to yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            state: watch::Sender::new(State::Connected),
            table: RwLock::default(),
            next_member: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            missed: AtomicU64::new(0),
        }))
    }

    /// How often a subscriber missed presence or an event because its hands were full.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }
}

impl Default for InProcess {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("InProcess").field("state", &*self.0.state.borrow()).finish_non_exhaustive()
    }
}

impl Bus for InProcess {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        match self.0.publish(&to, envelope) {
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
        Box::pin(std::future::ready(self.0.subscribe(subscription, consumer)))
    }

    fn hears_events(&self) -> bool {
        !self.0.table.read().unwrap_or_else(PoisonError::into_inner).events.is_empty()
    }

    fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tells_nobody_listens: Tells::AtOnce,
            tells_busy: Tells::AtOnce,
            exclusive_inboxes: true,
            keeps_order: true,
            redelivers: false,
            tells_all: true,
            repeatable: true,
            body_bytes_max: Self::BODY_BYTES_MAX,
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let table = {
            let mut table = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *table, Table { closed: true, ..Table::default() })
        };
        // Consumers are dropped here, outside the lock: they may hold this bus.
        drop(table);
        self.0.state.send_replace(State::Closed);
        Box::pin(std::future::ready(()))
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

impl Shared {
    fn publish(&self, to: &Address, envelope: Envelope) -> Result<(), PublishError> {
        let bytes = envelope.body.len();
        if bytes > InProcess::BODY_BYTES_MAX {
            return Err(PublishError::TooLarge { bytes, limit: InProcess::BODY_BYTES_MAX });
        }
        match to {
            Address::Call { .. } => {
                let members = self.members(|table| Arc::clone(&table.calls))?;
                let (member, done) = self.next_with_room(&members)?;
                member.deliver(transported(envelope)?, done);
            }
            Address::Command { .. } => {
                let members = self.members(|table| Arc::clone(&table.commands))?;
                let (member, done) = self.next_with_room(&members)?;
                member.deliver(transported(envelope)?, done);
            }
            Address::Inbox(name) => {
                let member = self
                    .members(|table| table.inboxes.get(name).cloned())?
                    .ok_or(PublishError::NobodyListens)?;
                let done = Member::take_room(&member).ok_or(PublishError::Busy)?;
                member.deliver(transported(envelope)?, done);
            }
            Address::Presence => {
                let members = self.members(|table| Arc::clone(&table.presence))?;
                self.tell_all(&members, envelope)?;
            }
            Address::Event { .. } => {
                let members = self.members(|table| Arc::clone(&table.events))?;
                self.tell_all(&members, envelope)?;
            }
        }
        Ok(())
    }

    fn members<T>(&self, look_up: impl FnOnce(&Table) -> T) -> Result<T, PublishError> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if table.closed { Err(PublishError::Closed) } else { Ok(look_up(&table)) }
    }

    /// The first from the one whose turn it is that can take one more.
    fn next_with_room<'a>(
        &self,
        members: &'a [Arc<Member>],
    ) -> Result<(&'a Arc<Member>, Done), PublishError> {
        if members.is_empty() {
            return Err(PublishError::NobodyListens);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
        let (before, after) = members.split_at(turn);
        after
            .iter()
            .chain(before)
            .find_map(|member| Some((member, Member::take_room(member)?)))
            .ok_or(PublishError::Busy)
    }

    fn tell_all(&self, members: &[Arc<Member>], envelope: Envelope) -> Result<(), PublishError> {
        if members.is_empty() {
            return Ok(());
        }
        let envelope = transported(envelope)?;
        for member in members {
            match Member::take_room(member) {
                Some(done) => member.deliver(envelope.clone(), done),
                None => {
                    self.missed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    fn subscribe(
        self: &Arc<Self>,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> Result<Subscribed, SubscribeError> {
        let id = self.next_member.fetch_add(1, Ordering::Relaxed);
        let member = Arc::new(Member {
            id,
            in_hand: AtomicU32::new(0),
            in_hand_max: subscription.in_hand_max.get(),
            consumer,
        });
        let topic = subscription.topic;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.closed {
            return Err(SubscribeError::Closed);
        }
        if let Topic::Inbox(name) = &topic {
            if table.inboxes.contains_key(name) {
                return Err(SubscribeError::InboxTaken(name.clone()));
            }
            table.inboxes.insert(name.clone(), member);
        } else if let Some(members) = table.group(&topic) {
            *members = members.iter().cloned().chain([member]).collect();
        }
        drop(table);
        let shared = Arc::downgrade(self);
        Ok(Subscribed::new(move || unsubscribe(&shared, &topic, id)))
    }
}

impl Table {
    fn group(&mut self, topic: &Topic) -> Option<&mut Arc<[Arc<Member>]>> {
        match topic {
            Topic::Calls => Some(&mut self.calls),
            Topic::Commands => Some(&mut self.commands),
            Topic::Presence => Some(&mut self.presence),
            Topic::Events => Some(&mut self.events),
            Topic::Inbox(_) => None,
        }
    }
}

impl Member {
    fn take_room(member: &Arc<Self>) -> Option<Done> {
        let more = |in_hand| (in_hand < member.in_hand_max).then_some(in_hand + 1);
        member.in_hand.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        let release: Arc<dyn Release> = Arc::<Self>::clone(member);
        Some(Done::shared(release))
    }

    fn deliver(&self, envelope: Envelope, done: Done) {
        // The panic's own message has been printed by the hook; the publisher is not to suffer from it.
        if catch_unwind(AssertUnwindSafe(|| self.consumer.deliver(envelope, done))).is_err() {
            tracing::error!("a consumer panicked; what it was given is lost");
        }
    }
}

impl Release for Member {
    fn release(&self) {
        self.in_hand.fetch_sub(1, Ordering::AcqRel);
    }
}

fn unsubscribe(shared: &Weak<Shared>, topic: &Topic, id: u64) {
    let Some(shared) = shared.upgrade() else { return };
    let mut table = shared.table.write().unwrap_or_else(PoisonError::into_inner);
    // What is taken out is dropped after the lock: a consumer may hold this bus, and its drop may do anything.
    let (mut inbox, mut group) = (None, None);
    if let Topic::Inbox(name) = topic {
        // After closing, the name may have an owner again in another table; never take that one away.
        if table.inboxes.get(name).is_some_and(|member| member.id == id) {
            inbox = table.inboxes.remove(name);
        }
    } else if let Some(members) = table.group(topic) {
        let rest = members.iter().filter(|member| member.id != id).cloned().collect();
        group = Some(std::mem::replace(members, rest));
    }
    drop(table);
    drop((inbox, group));
}

/// The envelope as it is on the other side of a transport.
fn transported(mut envelope: Envelope) -> Result<Envelope, PublishError> {
    let refused = |error| PublishError::Refused(Box::new(error));
    *envelope.metadata = envelope.metadata.through_headers().map_err(refused)?;
    Ok(envelope)
}

#[cfg(test)]
mod tests;
