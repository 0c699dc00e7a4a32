//! Bare mode: the frames alone, on `{station}/in` and `{station}/out`, for AWS IoT Core and brokers of MQTT 3.1.1.
//!
//! Rules and functions that were written for AWS's own OCPP sample work as they are: a call of a station is published to
//! `{station}/in`, and whoever processes it publishes the answer to `{station}/out`. A CALL that comes there is a command;
//! what the station says to it comes back on `{station}/in`.
//!
//! A frame has no room for an envelope's metadata. The gateway's message id is therefore replaced by a token that says
//! which connection and which call it is, and put back into the answer: an answer that comes late finds nobody, and never
//! a later connection's call. Everything else that the metadata do for other transports this mode cannot do; what that
//! means is in `docs/bare-mode.md`.
//!
//! There is one connection to the broker for up to 50 stations, as AWS IoT Core allows no more subscriptions on one.

mod frames;
mod stations;

use crate::{
    bus::{SCHEMES, outcome},
    hands::{Audience, Hands},
    line::{Ack, Line, Listener, Pace, Settings, Unsubscribed},
    packet::{Level, Message},
    tls,
};
use bytes::Bytes;
use bytestring::ByteString;
use foldhash::{HashMap, HashMapExt as _};
use frames::{Said, said, token, with_id};
use futures_util::future::BoxFuture;
use stations::{Awaited, Present, Table, topic_of};
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use switchboard_bus::{
    Address, Attendance, Bus, Capabilities, Connect, ConnectError, Consumer, Endpoint, Envelope, Kind,
    Metadata, OutcomeKind, PublishError, State, SubscribeError, Subscribed, Subscription, Tells, Topic,
};
use tokio::{runtime::Handle, sync::watch};
use tokio_rustls::TlsConnector;

/// The bus of a gateway in bare mode. Clones are the same participant.
///
/// It carries calls of the stations that [attend](Bus::attend) to whoever listens on the broker, and their answers and
/// commands back. Workers of ours cannot take calls from it, and gateways do not hear each other; what is said to an
/// inbox, presence and events stay within the process.
#[derive(Clone)]
pub struct Bare(Arc<Shared>);

struct Shared {
    endpoints: Vec<Endpoint>,
    tls: TlsConnector,
    client_id: String,
    is_idempotent: bool,
    table: Mutex<Table>,
    inboxes: Mutex<HashMap<ByteString, Arc<Hands>>>,
    presence: Audience,
    events: Audience,
    next_member: AtomicU64,
    late: AtomicU64,
    state: watch::Sender<State>,
    runtime: Handle,
    this: Weak<Self>,
}

impl Bare {
    /// The largest body that is carried: what AWS IoT Core takes, less what a longer message id may add.
    pub const BODY_BYTES_MAX: usize = 128 * 1024 - frames::TOKEN_BYTES_MAX;

    /// Begins to connect, and returns at once. To be called on a tokio runtime, which its tasks run on.
    ///
    /// With `?idempotent=true` in the URL, calls are handed over again while they are not answered.
    ///
    /// # Errors
    /// When this configuration can never work.
    #[expect(clippy::needless_pass_by_value, reason = "all drivers are made alike")]
    pub fn connect(connect: Connect) -> Result<Self, ConnectError> {
        let endpoints = connect.endpoints(&SCHEMES)?;
        let tls = tls::connector(&connect.tls, endpoints.iter().any(|endpoint| endpoint.scheme.tls))?;
        let is_idempotent =
            endpoints.first().and_then(|endpoint| endpoint.parameter("idempotent")) == Some("true");
        let shared = Arc::new_cyclic(|this: &Weak<Shared>| Shared {
            endpoints,
            tls,
            client_id: client_id(&connect.namespace, &connect.participant),
            is_idempotent,
            table: Mutex::new(Table::new()),
            inboxes: Mutex::new(HashMap::new()),
            presence: Audience::default(),
            events: Audience::default(),
            next_member: AtomicU64::new(0),
            late: AtomicU64::new(0),
            state: watch::Sender::new(State::Away),
            runtime: Handle::current(),
            this: this.clone(),
        });
        // The first connection is there before the first station, so that it is known whether the broker is.
        shared.table().first_line(|index| shared.line(index));
        Ok(Self(shared))
    }

    /// How many answers came that no call waited for: late ones, second ones, and those to nothing of ours.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.0.late.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Bare {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bare").field("client_id", &self.0.client_id).finish_non_exhaustive()
    }
}

impl Bus for Bare {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        if *self.0.state.borrow() == State::Closed {
            return ready(Err(PublishError::Closed));
        }
        let (bytes, limit) = (envelope.body.len(), Self::BODY_BYTES_MAX);
        if bytes > limit {
            return ready(Err(PublishError::TooLarge { bytes, limit }));
        }
        match to {
            Address::Call { tenant, station } => {
                let key = (tenant, station.text().clone());
                match self.0.prepare(&key, envelope) {
                    Ok(prepared) => Box::pin(self.0.hand_over(prepared)),
                    Err(error) => ready(Err(error)),
                }
            }
            // Here commands come on the topics of their stations.
            Address::Command { .. } => ready(Err(PublishError::NobodyListens)),
            Address::Inbox(name) if name == COMMANDS => Box::pin(self.0.tell_outcome(envelope)),
            Address::Inbox(name) => ready(self.0.deliver(&name, envelope)),
            Address::Presence => {
                self.0.presence.tell(&envelope);
                ready(Ok(()))
            }
            Address::Event { .. } => {
                self.0.events.tell(&envelope);
                ready(Ok(()))
            }
        }
    }

    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> BoxFuture<'_, Result<Subscribed, SubscribeError>> {
        Box::pin(std::future::ready(self.0.subscribe(subscription, consumer)))
    }

    fn attend(&self, who: Attendance) -> Option<Subscribed> {
        self.0.attend(who)
    }

    fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tells_nobody_listens: Tells::Never,
            tells_busy: Tells::Never,
            exclusive_inboxes: true,
            keeps_order: true,
            redelivers: false,
            tells_all: false,
            repeatable: self.0.is_idempotent,
            body_bytes_max: Self::BODY_BYTES_MAX,
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.0.state.send_replace(State::Closed);
            let lines = self.0.table().clear();
            futures_util::future::join_all(lines.iter().map(|line| line.close())).await;
            // Dropped without the lock: a consumer may hold a subscription.
            let inboxes = std::mem::take(&mut *self.0.inboxes());
            drop(inboxes);
        })
    }
}

fn ready<'a>(result: Result<(), PublishError>) -> BoxFuture<'a, Result<(), PublishError>> {
    Box::pin(std::future::ready(result))
}

/// A call that is about to be published.
struct Prepared {
    present: Arc<Present>,
    frame: Bytes,
    /// Of a SEND: where its acknowledgement goes.
    acknowledgement: Option<Box<Metadata>>,
    /// Of a call from the journal whose station is not here: it is as if it were, until the answer can come no more.
    visit: Option<(Subscribed, Duration)>,
}

impl Shared {
    fn prepare(&self, key: &(ByteString, ByteString), envelope: Envelope) -> Result<Prepared, PublishError> {
        let Envelope { metadata, body } = envelope;
        let unfit = |what: &'static str| PublishError::Refused(what.into());
        let (Some(version), Some(connection), Some(seq)) =
            (metadata.version, metadata.connection.clone(), metadata.seq)
        else {
            return Err(unfit("a call without its version, connection or number"));
        };
        let text = ByteString::try_from(body).map_err(|_| unfit("a call that is not UTF-8"))?;
        let Some(Said::Call { id, .. }) = said(&text, version) else {
            return Err(unfit("a call that is no CALL"));
        };
        let frame = with_id(&text, &id, &token(connection.generation, seq))
            .ok_or_else(|| unfit("a call without id"))?;
        let mut visit = None;
        let mut present = self.table().present(key);
        // What the journal holds may be of an earlier connection; nothing else may.
        let fits = |present: &Arc<Present>| {
            metadata.journal.is_some() || present.who.connection.generation == connection.generation
        };
        if !present.as_ref().is_some_and(fits) && metadata.journal.is_some() {
            let station = metadata.station.clone().ok_or_else(|| unfit("a call without its station"))?;
            let who = Attendance { tenant: key.0.clone(), station, version, connection: connection.clone() };
            let wait = metadata.remaining.unwrap_or(VISIT_DEFAULT);
            visit = self.attend(who).map(|attending| (attending, wait));
            present = self.table().present(key);
        }
        let present = present.filter(fits).ok_or(PublishError::NobodyListens)?;
        let is_send = metadata.kind == Kind::Send;
        let mut about = Metadata::new(Kind::Answer);
        about.tenant = metadata.tenant;
        about.station = metadata.station;
        about.version = metadata.version;
        about.action = metadata.action;
        about.connection = metadata.connection;
        about.seq = metadata.seq;
        about.attempt = metadata.attempt;
        about.journal = metadata.journal;
        let acknowledgement = if is_send {
            Some(Box::new(about))
        } else {
            present.await_answer(Awaited { about: Box::new(about), id: id.as_json().into() });
            None
        };
        Ok(Prepared { present, frame, acknowledgement, visit })
    }

    async fn hand_over(&self, prepared: Prepared) -> Result<(), PublishError> {
        let Prepared { present, frame, acknowledgement, visit } = prepared;
        if let Some((attending, wait)) = visit {
            self.runtime.spawn(async move {
                tokio::time::sleep(wait).await;
                drop(attending);
            });
        }
        // The answer could otherwise come before we listen.
        present.is_subscribed().await?;
        let told = present.line.publish(&present.topic_in, |_| Ok(()), &frame)?;
        outcome(&told.await, false)?;
        if let Some(about) = acknowledgement
            && let Some(gateway) = about.connection.as_ref().map(|connection| connection.gateway.clone())
        {
            // Nobody answers a SEND, and nobody but the broker could say that it has it.
            self.deliver(&gateway, Envelope { metadata: about, body: Bytes::new() })?;
        }
        Ok(())
    }

    /// What became of a command that came from the broker goes back there.
    async fn tell_outcome(&self, envelope: Envelope) -> Result<(), PublishError> {
        let Envelope { metadata, body } = envelope;
        let (Some(station), Some(id)) = (&metadata.station, &metadata.command_id) else {
            return Err(PublishError::NobodyListens);
        };
        let kind = metadata.outcome.unwrap_or(OutcomeKind::Unknown);
        let frame = frames::outcome(kind, body, metadata.version, id);
        let key = (metadata.tenant.clone(), station.text().clone());
        let (line, topic) = {
            let table = self.table();
            match table.present(&key) {
                Some(present) => (Arc::clone(&present.line), present.topic_in.clone()),
                // It has gone meanwhile, and whoever commanded it wants to know.
                None => (table.any_line().ok_or(PublishError::Closed)?, topic_of(&key, "in")),
            }
        };
        let told = line.publish(&topic, |_| Ok(()), &frame)?;
        outcome(&told.await, false)
    }

    fn deliver(&self, inbox: &ByteString, envelope: Envelope) -> Result<(), PublishError> {
        let hands = self.inboxes().get(inbox).cloned().ok_or(PublishError::NobodyListens)?;
        hands.take(envelope, Ack::NONE).map_err(|_| PublishError::Busy)
    }

    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> Result<Subscribed, SubscribeError> {
        if *self.state.borrow() == State::Closed {
            return Err(SubscribeError::Closed);
        }
        let Subscription { topic, in_hand_max } = subscription;
        let id = self.next_member.fetch_add(1, Ordering::Relaxed);
        let in_hand_max = in_hand_max.get();
        match &topic {
            Topic::Calls => {
                return Err(SubscribeError::Refused(
                    "in bare mode calls go to functions on the broker, not to workers; \
                     leave ?mode=bare out of the URL for a broker of MQTT 5"
                        .into(),
                ));
            }
            Topic::Commands => return Ok(Subscribed::new(|| {})),
            Topic::Inbox(name) => {
                let mut inboxes = self.inboxes();
                if inboxes.contains_key(name) {
                    return Err(SubscribeError::InboxTaken(name.clone()));
                }
                let hands = Hands::new(false, INBOX_WAITING_MAX);
                hands.join(id, in_hand_max, consumer);
                inboxes.insert(name.clone(), hands);
            }
            Topic::Presence => self.presence.join(id, in_hand_max, consumer),
            Topic::Events => self.events.join(id, in_hand_max, consumer),
        }
        let this = self.this.clone();
        Ok(Subscribed::new(move || {
            let Some(shared) = this.upgrade() else { return };
            match &topic {
                Topic::Inbox(name) => {
                    let hands = shared.inboxes().remove(name);
                    if let Some(hands) = hands {
                        hands.leave(id);
                    }
                }
                Topic::Presence => drop(shared.presence.leave(id)),
                Topic::Events => drop(shared.events.leave(id)),
                Topic::Calls | Topic::Commands => {}
            }
        }))
    }

    fn attend(&self, who: Attendance) -> Option<Subscribed> {
        if *self.state.borrow() == State::Closed {
            return None;
        }
        let key = (who.tenant.clone(), who.station.text().clone());
        if topic_of(&key, "out").len() > TOPIC_BYTES_MAX {
            tracing::warn!(
                station = %key.1,
                "the station's identity makes a topic that is longer than AWS IoT Core takes; its calls go nowhere"
            );
            return None;
        }
        let generation = who.connection.generation;
        let (present, is_new) = self.table().enter(key.clone(), who, |index| self.line(index))?;
        if is_new {
            self.runtime.spawn(listen(present));
        }
        let this = self.this.clone();
        Some(Subscribed::new(move || {
            if let Some(shared) = this.upgrade() {
                // Dropped without the lock: its connection may be its last station's.
                let left = shared.table().leave(&key, generation);
                drop(left);
            }
        }))
    }

    fn line(&self, index: usize) -> Line {
        let listener: Weak<dyn Listener> = self.this.clone();
        Line::new(
            Settings {
                endpoints: self.endpoints.clone(),
                tls: self.tls.clone(),
                level: Level::V4,
                client_id: format!("{}-{index}", self.client_id),
                receive_max: u16::MAX,
                probe: None,
                keep_alive_seconds: KEEP_ALIVE_SECONDS,
                pause_min: PAUSE_MIN,
                pace: Some(PACE),
                waiting_max: WAITING_MAX,
            },
            listener,
        )
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inboxes(&self) -> MutexGuard<'_, HashMap<ByteString, Arc<Hands>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_late(&self, station: &str, what: &'static str) {
        self.late.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(station, what, "an answer was dropped");
    }

    /// A frame came for a station.
    fn handle(&self, present: &Present, text: &ByteString) {
        let who = &present.who;
        let station = who.station.as_str();
        match said(text, who.version) {
            Some(Said::Answer { id }) => {
                let Some(Awaited { mut about, id: own }) = present.answered(&id.text()) else {
                    self.is_late(station, "no call waits for it");
                    return;
                };
                let Some(body) = with_id(text, &id, &own) else { return };
                about.registration = frames::registration(about.action.as_deref(), text, who.version);
                let Some(gateway) = about.connection.as_ref().map(|connection| connection.gateway.clone())
                else {
                    return;
                };
                if let Err(error) = self.deliver(&gateway, Envelope { metadata: about, body }) {
                    tracing::warn!(station, %error, "an answer was lost");
                }
            }
            Some(Said::Call { id, action }) => {
                if !present.is_first(id.as_json()) {
                    return;
                }
                let mut metadata = Metadata::new(Kind::Command);
                metadata.tenant = who.tenant.clone();
                metadata.station = Some(who.station.clone());
                metadata.version = Some(who.version);
                metadata.action = Some(action);
                metadata.command_id = Some(id.as_json().into());
                metadata.reply_to = Some(COMMANDS);
                let body = text.clone().into_bytes();
                if let Err(error) = self.deliver(&who.connection.gateway, Envelope::new(metadata, body)) {
                    tracing::warn!(station, %error, "a command was lost");
                }
            }
            None => tracing::warn!(station, "what came for a station is no frame of its version"),
        }
    }
}

impl Listener for Shared {
    fn message(&self, message: Message, ack: Ack) {
        ack.ack();
        let present = self.table().listening(&message.topic);
        let Some(present) = present else {
            self.is_late(&message.topic, "the station is not here");
            return;
        };
        match ByteString::try_from(message.payload) {
            Ok(text) => self.handle(&present, &text),
            Err(_) => tracing::warn!(topic = %message.topic, "what came for a station is not UTF-8"),
        }
    }

    fn turned(&self, line: &str, up: bool) {
        // Stations on the other lines are told when they publish.
        if line != format!("{}-0", self.client_id) {
            return;
        }
        let now = if up { State::Connected } else { State::Away };
        self.state.send_if_modified(|state| {
            let changes = *state != State::Closed && *state != now;
            if changes {
                *state = now;
            }
            changes
        });
    }
}

/// Subscribes to what is said to a station, again and again while the broker is away, until the station is gone.
async fn listen(present: Arc<Present>) {
    let present = Arc::downgrade(&present);
    let mut pause = LISTEN_PAUSE_MIN;
    loop {
        {
            let Some(present) = present.upgrade() else { return };
            match present.line.subscribe(&present.topic_out).await {
                Ok(()) => {
                    present.subscribed();
                    return;
                }
                Err(Unsubscribed::Away) => {}
                Err(Unsubscribed::Refused(reason)) => {
                    tracing::error!(
                        topic = present.topic_out,
                        reason,
                        "the broker refuses a station's topic: give this client the right to subscribe to it"
                    );
                    pause = LISTEN_PAUSE_MAX;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LISTEN_PAUSE_MAX);
    }
}

/// At most 128 bytes with the number behind it, as AWS IoT Core wants it. The end of a name is what tells it from others.
fn client_id(namespace: &str, participant: &str) -> String {
    let mut start =
        participant.len().saturating_sub(CLIENT_ID_BYTES_MAX - NUMBER_BYTES_MAX - 2 - namespace.len());
    while !participant.is_char_boundary(start) {
        start += 1;
    }
    format!("{namespace}-{}", participant.get(start..).unwrap_or_default())
}

/// The inbox whose mail goes to the broker. No gateway can have it: the name has a control character.
const COMMANDS: ByteString = ByteString::from_static("\u{1}bare");
/// AWS IoT Core allows 100 messages a second on one connection in each direction: never more than that within any second.
const PACE: Pace = Pace { burst: 20, per_tick: 7 };
/// AWS IoT Core lets a client id connect once a second; a quarter less than this is the shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(1_500);
/// AWS IoT Core ends a connection, and with it 49 other stations', on which a longer one is said.
const TOPIC_BYTES_MAX: usize = 256;
/// AWS IoT Core knows none that is shorter.
const KEEP_ALIVE_SECONDS: u16 = 30;
/// Two seconds' worth; beyond, publishing is refused as busy, and calls are tried again.
const WAITING_MAX: usize = 150;
const INBOX_WAITING_MAX: usize = 4096;
/// How long a call of the journal is listened for, if it does not say.
const VISIT_DEFAULT: Duration = Duration::from_secs(25);
const LISTEN_PAUSE_MIN: Duration = Duration::from_millis(50);
const LISTEN_PAUSE_MAX: Duration = Duration::from_secs(5);
const CLIENT_ID_BYTES_MAX: usize = 128;
const NUMBER_BYTES_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_never_longer_than_128_bytes() {
        assert_eq!(client_id("default", "gateway-1"), "default-gateway-1");
        let long = client_id(&"n".repeat(64), &"ü".repeat(64));
        assert!(long.len() + "-123456".len() <= 128 && long.ends_with('ü'), "{}", long.len());
    }
}
