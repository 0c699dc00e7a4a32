//! [`Mqtt`]: the bus over a broker of MQTT 5.

use crate::{
    address::{Place, Topics, envelope, put_properties},
    hands::{Audience, Hands},
    line::{Ack, Line, Listener, NOBODY_LISTENS, Outcome, PACKET_BYTES_MAX, Settings, Unsubscribed},
    packet::{Level, Message},
    tls,
};
use bytestring::ByteString;
use foldhash::{HashMap, HashMapExt as _};
use futures_util::future::BoxFuture;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use switchboard_bus::{
    Address, Bus, Capabilities, Connect, ConnectError, Consumer, Endpoint, Envelope, OutcomeKind,
    PublishError, Scheme, State, SubscribeError, Subscribed, Subscription, Tells, Topic,
};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsConnector;

/// The bus over a broker of MQTT 5, such as Mosquitto or EMQX. Clones are the same participant.
///
/// A participant has one connection for everything, and one more as soon as it takes calls: the broker counts what is
/// unacknowledged by connection, and a worker whose hands are full of calls must still hear the outcomes of its commands.
#[derive(Clone)]
pub struct Mqtt(Arc<Shared>);

struct Shared {
    topics: Topics,
    endpoints: Vec<Endpoint>,
    tls: TlsConnector,
    client_id: String,
    /// Everything but calls.
    main: Line,
    /// Calls, once somebody takes them.
    calls: Mutex<Option<Arc<Line>>>,
    calls_hands: Arc<Hands>,
    commands: Arc<Hands>,
    inboxes: Mutex<HashMap<ByteString, Arc<Hands>>>,
    presence: Audience,
    events: Audience,
    next_member: AtomicU64,
    lost: AtomicU64,
    state: watch::Sender<State>,
    this: Weak<Self>,
}

/// What this driver's URLs begin with.
pub(crate) const SCHEMES: [Scheme; 2] =
    [Scheme { name: "mqtt", port: 1883, tls: false }, Scheme { name: "mqtts", port: 8883, tls: true }];

impl Mqtt {
    /// The largest body that is carried, where the broker does not want less.
    pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

    /// Begins to connect, and returns at once. To be called on a tokio runtime, which its tasks run on.
    ///
    /// # Errors
    /// When this configuration can never work.
    #[expect(clippy::needless_pass_by_value, reason = "all drivers are made alike")]
    pub fn connect(connect: Connect) -> Result<Self, ConnectError> {
        let endpoints = connect.endpoints(&SCHEMES)?;
        let tls = tls::connector(&connect.tls, endpoints.iter().any(|endpoint| endpoint.scheme.tls))?;
        let topics = Topics::new(&connect.namespace, connect.partitions);
        let client_id = format!("switchboard-{}-{}", connect.namespace, connect.participant);
        let shared = Arc::new_cyclic(|this: &Weak<Shared>| {
            let nowhere = Address::Inbox(format!("{} probes", connect.participant).into());
            // Not begun in here: until this ends nobody could be told that it is there.
            let main = Line::resting(Settings {
                endpoints: endpoints.clone(),
                tls: tls.clone(),
                level: Level::V5,
                client_id: client_id.clone(),
                keep_alive_seconds: KEEP_ALIVE_SECONDS,
                receive_max: u16::MAX,
                probe: Some(topics.of(&nowhere)),
                pause_min: PAUSE_MIN,
                pace: None,
                waiting_max: WAITING_MAX,
            });
            Shared {
                topics,
                endpoints,
                tls,
                client_id,
                main,
                calls: Mutex::new(None),
                calls_hands: Hands::new(true, 0),
                commands: Hands::new(false, INBOX_WAITING_MAX),
                inboxes: Mutex::new(HashMap::new()),
                presence: Audience::default(),
                events: Audience::default(),
                next_member: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                state: watch::Sender::new(State::Away),
                this: this.clone(),
            }
        });
        let listener: Weak<dyn Listener> = shared.this.clone();
        shared.main.begin(listener);
        Ok(Self(shared))
    }

    /// How many envelopes were dropped here because whoever they were for had its hands full, or could not be read.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Mqtt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mqtt").field("main", &self.0.main).finish_non_exhaustive()
    }
}

impl Bus for Mqtt {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        let tells_all = matches!(to, Address::Presence | Address::Event { .. });
        match self.0.publish(&to, &envelope) {
            Ok(told) => Box::pin(async move { outcome(&told.await, tells_all) }),
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
        self.0.state.subscribe()
    }

    fn capabilities(&self) -> Capabilities {
        let main = &self.0.main;
        let room = main.packet_bytes_max();
        Capabilities {
            tells_nobody_listens: if main.tells_nobody_listens() { Tells::AtOnce } else { Tells::Never },
            tells_busy: Tells::Later,
            exclusive_inboxes: main.tells_nobody_listens(),
            keeps_order: true,
            redelivers: false,
            tells_all: true,
            repeatable: true,
            body_bytes_max: Self::BODY_BYTES_MAX.min(room.saturating_sub(HEADERS_BYTES_MAX).max(room / 2)),
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.0.state.send_replace(State::Closed);
            let calls = self.0.lock_calls().take();
            if let Some(calls) = calls {
                calls.close().await;
            }
            self.0.main.close().await;
            // Dropped without the lock: a consumer may hold a subscription.
            let inboxes = std::mem::take(&mut *self.0.inboxes());
            drop(inboxes);
        })
    }
}

impl Shared {
    fn publish(&self, to: &Address, envelope: &Envelope) -> Result<oneshot::Receiver<Outcome>, PublishError> {
        if *self.state.borrow() == State::Closed {
            return Err(PublishError::Closed);
        }
        let (bytes, limit) = (envelope.body.len(), Mqtt::BODY_BYTES_MAX);
        if bytes > limit {
            return Err(PublishError::TooLarge { bytes, limit });
        }
        let put = |out: &mut bytes::BytesMut| put_properties(out, &envelope.metadata, &self.topics);
        self.main.publish(&self.topics.of(to), put, &envelope.body)
    }

    async fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> Result<Subscribed, SubscribeError> {
        if *self.state.borrow() == State::Closed {
            return Err(SubscribeError::Closed);
        }
        let Subscription { topic, in_hand_max } = subscription;
        let in_hand_max = in_hand_max.get();
        let id = self.next_member.fetch_add(1, Ordering::Relaxed);
        let filter = self.topics.filter(&topic);
        // Ends it again if it cannot be made, or this future is dropped meanwhile.
        let leave = {
            let (this, topic) = (self.this.clone(), topic.clone());
            move || {
                if let Some(shared) = this.upgrade() {
                    shared.leave(&topic, id);
                }
            }
        };
        let subscribed = match &topic {
            Topic::Calls => {
                let line = self.calls_line(in_hand_max);
                self.calls_hands.join(id, in_hand_max, consumer);
                let subscribed = Subscribed::new(leave);
                if tokio::time::timeout(UP_MAX, line.wait_until_up()).await.is_err() {
                    return Err(SubscribeError::Away);
                }
                line.subscribe(&filter).await.map_err(|error| refused(error, &filter))?;
                return Ok(subscribed);
            }
            Topic::Inbox(name) => {
                let hands = Hands::new(false, INBOX_WAITING_MAX);
                {
                    let mut inboxes = self.inboxes();
                    if inboxes.contains_key(name) {
                        return Err(SubscribeError::InboxTaken(name.clone()));
                    }
                    hands.join(id, in_hand_max, consumer);
                    inboxes.insert(name.clone(), hands);
                }
                let subscribed = Subscribed::new(leave);
                if self.has_owner(name, &filter).await? {
                    return Err(SubscribeError::InboxTaken(name.clone()));
                }
                subscribed
            }
            Topic::Commands => {
                self.commands.join(id, in_hand_max, consumer);
                Subscribed::new(leave)
            }
            Topic::Presence | Topic::Events => {
                let audience = if topic == Topic::Presence { &self.presence } else { &self.events };
                audience.join(id, in_hand_max, consumer);
                Subscribed::new(leave)
            }
        };
        self.main.subscribe(&filter).await.map_err(|error| refused(error, &filter))?;
        Ok(subscribed)
    }

    /// Whether somebody listens at an inbox: the broker says so of an empty message, which a listener passes over.
    async fn has_owner(&self, name: &ByteString, filter: &str) -> Result<bool, SubscribeError> {
        if !self.main.tells_nobody_listens() {
            return Ok(false);
        }
        let asked = self.main.publish(filter, |_| Ok(()), &[]);
        let told = match asked {
            Ok(told) => outcome(&told.await, false),
            Err(error) => Err(error),
        };
        match told {
            Ok(()) => Ok(true),
            Err(PublishError::NobodyListens) => Ok(false),
            Err(PublishError::Closed) => Err(SubscribeError::Closed),
            Err(PublishError::Away) => Err(SubscribeError::Away),
            Err(error) => {
                tracing::debug!(%name, %error, "whether an inbox has an owner could not be learned");
                Err(SubscribeError::Away)
            }
        }
    }

    /// The line for calls. What may be in hand decides how much the broker may send; a few more, so that those for which
    /// there is no hand come here to be given back, and do not lie with the broker.
    fn calls_line(&self, in_hand_max: u32) -> Arc<Line> {
        let mut calls = self.lock_calls();
        let line = calls.get_or_insert_with(|| {
            let listener: Weak<dyn Listener> = self.this.clone();
            let receive_max = u16::try_from(in_hand_max.saturating_add(AHEAD)).unwrap_or(u16::MAX);
            Arc::new(Line::new(
                Settings {
                    endpoints: self.endpoints.clone(),
                    tls: self.tls.clone(),
                    level: Level::V5,
                    client_id: format!("{}-calls", self.client_id),
                    // A frozen worker is noticed by this, and until then gets its share of the calls.
                    keep_alive_seconds: CALLS_KEEP_ALIVE_SECONDS,
                    receive_max,
                    probe: None,
                    pause_min: PAUSE_MIN,
                    pace: None,
                    waiting_max: 0,
                },
                listener,
            ))
        });
        Arc::clone(line)
    }

    fn leave(&self, topic: &Topic, id: u64) {
        let filter = self.topics.filter(topic);
        match topic {
            Topic::Calls => {
                // The line stays for the acknowledgements of what is in hand.
                let line = if self.calls_hands.leave(id) { self.lock_calls().clone() } else { None };
                if let Some(line) = line {
                    line.unsubscribe(&filter);
                }
            }
            Topic::Inbox(name) => {
                let hands = self.inboxes().get(name).cloned();
                if let Some(hands) = hands
                    && hands.leave(id)
                {
                    self.inboxes().remove(name);
                    self.main.unsubscribe(&filter);
                }
            }
            Topic::Commands if self.commands.leave(id) => self.main.unsubscribe(&filter),
            Topic::Presence if self.presence.leave(id) => self.main.unsubscribe(&filter),
            Topic::Events if self.events.leave(id) => self.main.unsubscribe(&filter),
            Topic::Commands | Topic::Presence | Topic::Events => {}
        }
    }

    /// Tells whoever sent a call or command that hands are full here, so that it is handed over again at once, to another
    /// one if there is one: the broker gives each its turn and does not know who is busy. So does a worker that leaves.
    fn give_back(&self, sent: &Envelope) {
        let metadata = &sent.metadata;
        let Some(inbox) = metadata.reply_to.clone().filter(|_| metadata.comes_back(&sent.body)) else {
            return;
        };
        let returned = Envelope::new(metadata.returned(OutcomeKind::Busy), "");
        // Nobody waits for the broker's answer: at worst the call is handed over again later.
        if let Err(error) = self.publish(&Address::Inbox(inbox), &returned) {
            tracing::debug!(%error, "that hands are full could not be told");
        }
    }

    fn lost(&self, what: &'static str) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("{what}");
    }

    fn inboxes(&self) -> MutexGuard<'_, HashMap<ByteString, Arc<Hands>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_calls(&self) -> MutexGuard<'_, Option<Arc<Line>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Shared {
    fn message(&self, message: Message, ack: Ack) {
        let Some(place) = self.topics.place(&message.topic) else {
            ack.ack();
            return;
        };
        if message.properties.is_empty() && message.payload.is_empty() {
            // Somebody asked whether this inbox has an owner.
            ack.ack();
            return;
        }
        let envelope = match envelope(message) {
            Ok(envelope) => envelope,
            Err(error) => {
                ack.ack();
                self.lost.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(?place, %error, "a message came that is no envelope");
                return;
            }
        };
        match place {
            Place::Call => {
                if let Err(envelope) = self.calls_hands.take(envelope, ack) {
                    self.give_back(&envelope);
                }
            }
            Place::Command => {
                if let Err(envelope) = self.commands.take(envelope, ack) {
                    self.give_back(&envelope);
                }
            }
            Place::Inbox(name) => {
                let hands = self.inboxes().get(&name).cloned();
                match hands {
                    Some(hands) => {
                        if let Err(envelope) = hands.take(envelope, ack) {
                            self.lost("an inbox is full: what came for it is lost");
                            self.give_back(&envelope);
                        }
                    }
                    None => ack.ack(),
                }
            }
            Place::Presence | Place::Event => {
                ack.ack();
                let audience = if place == Place::Presence { &self.presence } else { &self.events };
                self.lost.fetch_add(audience.tell(&envelope), Ordering::Relaxed);
            }
        }
    }

    fn turned(&self, _line: &str, up: bool) {
        self.state.send_if_modified(|state| {
            // Looked at in here: both lines tell, and what one of them saw before the other turned is not to be the last
            // word.
            let are_up = || self.main.is_up() && self.lock_calls().as_ref().is_none_or(|calls| calls.is_up());
            let now = if up && are_up() { State::Connected } else { State::Away };
            let changes = *state != State::Closed && *state != now;
            if changes {
                *state = now;
            }
            changes
        });
    }
}

/// What the broker's answer means.
pub(crate) fn outcome(
    told: &Result<Outcome, oneshot::error::RecvError>,
    tells_all: bool,
) -> Result<(), PublishError> {
    match told {
        Ok(Outcome::Acknowledged(0)) => Ok(()),
        Ok(Outcome::Acknowledged(NOBODY_LISTENS)) if tells_all => Ok(()),
        Ok(Outcome::Acknowledged(NOBODY_LISTENS)) => Err(PublishError::NobodyListens),
        // Its quota is exceeded.
        Ok(Outcome::Acknowledged(0x97)) => Err(PublishError::Busy),
        Ok(Outcome::Acknowledged(reason)) => {
            Err(PublishError::Refused(format!("the broker answered {reason:#04x}").into()))
        }
        // It may have arrived, and may not.
        Ok(Outcome::Lost) => Err(PublishError::Refused("the connection was lost before the answer".into())),
        Ok(Outcome::Unwritten) | Err(_) => Err(PublishError::Away),
    }
}

fn refused(error: Unsubscribed, filter: &str) -> SubscribeError {
    match error {
        Unsubscribed::Away => SubscribeError::Away,
        Unsubscribed::Refused(reason) => SubscribeError::Refused(
            format!("the broker answered {reason:#04x} to a subscription to {filter}").into(),
        ),
    }
}

/// Room for topic and headers in the largest packet.
const HEADERS_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(Mqtt::BODY_BYTES_MAX + HEADERS_BYTES_MAX < PACKET_BYTES_MAX);
/// Messages that wait for the broker to take them; beyond, publishing is refused as busy.
const WAITING_MAX: usize = 8192;
/// What waits for an inbox whose owner has its hands full; beyond, it is lost.
const INBOX_WAITING_MAX: usize = 4096;
const PAUSE_MIN: std::time::Duration = std::time::Duration::from_millis(100);
/// Calls that may be here although no hand is free.
const AHEAD: u32 = 16;
const KEEP_ALIVE_SECONDS: u16 = 10;
const CALLS_KEEP_ALIVE_SECONDS: u16 = 4;
/// How long subscribing to calls waits for their line.
const UP_MAX: std::time::Duration = std::time::Duration::from_secs(10);
