//! What a line's task and those who use it share.

use super::Settings;
use crate::packet::{
    self, Level, Limits, put_ping, put_puback, put_publish, put_subscribe, put_unsubscribe, set_id,
};
use bytes::BytesMut;
use foldhash::{HashMap, HashMapExt as _};
use futures_util::task::AtomicWaker;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use switchboard_bus::PublishError;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// What became of something that was published.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The broker said this of it.
    Acknowledged(u8),
    /// It was written and the line was lost: nobody knows.
    Lost,
    /// It was never written.
    Unwritten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not there, or not with all subscriptions.
    Away,
    Up,
    /// Nothing more is published.
    Closing,
}

/// What an answer of the broker is for.
pub(super) enum Request {
    Subscribe(oneshot::Sender<u8>),
    /// One of those that must be answered before the line is up.
    Restore,
    /// Nobody waits.
    Forget,
}

/// Who waits for a PUBACK.
pub(super) enum Publisher {
    Caller(oneshot::Sender<Outcome>),
    /// The probe.
    Line,
}

struct Waiting {
    packet: BytesMut,
    /// Where its number goes.
    place: usize,
    sender: oneshot::Sender<Outcome>,
}

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) closing: CancellationToken,
    pub(super) waker: AtomicWaker,
    /// Whether it is there with all its subscriptions, for whoever waits for that.
    pub(super) up: watch::Sender<bool>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) phase: Phase,
    /// The broker has let us in.
    pub(super) is_connected: bool,
    /// Counts the connections, so that nothing of one is taken for something of another.
    pub(super) epoch: u64,
    /// The task will look here before it sleeps; nobody needs to wake it.
    pub(super) is_awake: bool,
    /// To be written.
    pub(super) out: BytesMut,
    pub(super) filters: BTreeSet<Box<str>>,
    pub(super) tells_nobody_listens: bool,
    pub(super) packet_bytes_max: usize,
    /// How many answers are missing until the line is up.
    pub(super) restoring: usize,
    /// The broker has answered something since this was looked at.
    pub(super) is_answered: bool,
    scratch: BytesMut,
    /// By the number of the packet, less one.
    publishers: Vec<Option<Publisher>>,
    /// Numbers that are free.
    free: Vec<u16>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// How many may be published at once now, where that is limited.
    credit: u32,
    requests: HashMap<u16, Request>,
    next_request: u16,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        let credit = settings.pace.map_or(u32::MAX, |pace| pace.burst);
        Self {
            settings,
            closing: CancellationToken::new(),
            waker: AtomicWaker::new(),
            up: watch::Sender::new(false),
            state: Mutex::new(State {
                phase: Phase::Away,
                is_connected: false,
                epoch: 0,
                is_awake: false,
                out: BytesMut::new(),
                filters: BTreeSet::new(),
                tells_nobody_listens: true,
                packet_bytes_max: PACKET_BYTES_MAX,
                restoring: 0,
                is_answered: false,
                scratch: BytesMut::new(),
                publishers: Vec::new(),
                free: Vec::new(),
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                credit,
                requests: HashMap::new(),
                next_request: 0,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task look at what there is to be written.
    pub(super) fn wake(&self, mut state: MutexGuard<'_, State>) {
        if !state.is_awake {
            state.is_awake = true;
            drop(state);
            self.waker.wake();
        }
    }
}

impl State {
    /// The broker has let us in: asks for everything that there has to be. True: there is nothing to wait for.
    pub(super) fn begin(&mut self, settings: &Settings, limits: &Limits) -> bool {
        self.epoch += 1;
        self.is_connected = true;
        let window = limits.receive_max.min(WINDOW_MAX);
        self.publishers = (0..window).map(|_| None).collect();
        self.free = (1..=window).rev().collect();
        let told = limits.packet_bytes_max.and_then(|bytes| usize::try_from(bytes).ok());
        self.packet_bytes_max = told.unwrap_or(PACKET_BYTES_MAX).min(PACKET_BYTES_MAX);
        let filters: Vec<Box<str>> = self.filters.iter().cloned().collect();
        for some in filters.chunks(SUBSCRIPTIONS_PER_PACKET) {
            let some: Vec<&str> = some.iter().map(AsRef::as_ref).collect();
            self.subscribe(settings.level, &some, Request::Restore);
            self.restoring += 1;
        }
        if let Some(probe) = &settings.probe
            && let Some(id) = self.free.pop()
        {
            let place = put_publish(&mut self.out, settings.level, probe, &[], &[]);
            self.write_id(place, id, Publisher::Line);
            self.restoring += 1;
        }
        self.restoring == 0
    }

    /// The line is gone. Gives those who wait for it, who are to be told without the lock.
    pub(super) fn end(&mut self) -> Ended {
        if self.phase == Phase::Up {
            self.phase = Phase::Away;
        }
        self.is_connected = false;
        self.epoch += 1;
        self.restoring = 0;
        self.out = BytesMut::new();
        self.waiting_bytes = 0;
        self.free.clear();
        Ended {
            publishers: std::mem::take(&mut self.publishers),
            waiting: std::mem::take(&mut self.waiting),
            requests: std::mem::take(&mut self.requests),
        }
    }

    pub(super) fn publish(
        &mut self,
        settings: &Settings,
        topic: &str,
        put_properties: impl FnOnce(&mut BytesMut) -> Result<(), PublishError>,
        body: &[u8],
    ) -> Result<oneshot::Receiver<Outcome>, PublishError> {
        self.scratch.clear();
        if settings.level == Level::V5 {
            put_properties(&mut self.scratch)?;
        }
        if topic.len() > usize::from(u16::MAX) {
            return Err(PublishError::TooLarge { bytes: topic.len(), limit: usize::from(u16::MAX) });
        }
        let bytes = topic.len() + self.scratch.len() + body.len() + PUBLISH_OVERHEAD;
        if bytes > self.packet_bytes_max {
            let limit = self.packet_bytes_max.saturating_sub(bytes - body.len());
            return Err(PublishError::TooLarge { bytes: body.len(), limit });
        }
        let (sender, receiver) = oneshot::channel();
        if self.waiting.is_empty()
            && self.credit > 0
            && self.out.len() < OUT_BYTES_MAX
            && let Some(id) = self.free.pop()
        {
            let place = put_publish(&mut self.out, settings.level, topic, &self.scratch, body);
            self.write_id(place, id, Publisher::Caller(sender));
            self.spend();
        } else if self.waiting.len() < settings.waiting_max && self.waiting_bytes + bytes < WAITING_BYTES_MAX
        {
            let mut packet = BytesMut::new();
            let place = put_publish(&mut packet, settings.level, topic, &self.scratch, body);
            self.waiting_bytes += packet.len();
            self.waiting.push_back(Waiting { packet, place, sender });
        } else {
            return Err(PublishError::Busy);
        }
        Ok(receiver)
    }

    fn write_id(&mut self, place: usize, id: u16, publisher: Publisher) {
        set_id(&mut self.out, place, id);
        if let Some(slot) = self.publishers.get_mut(usize::from(id) - 1) {
            *slot = Some(publisher);
        }
    }

    const fn spend(&mut self) {
        if self.credit != u32::MAX {
            self.credit -= 1;
        }
    }

    /// Writes what waits, as far as it may.
    pub(super) fn release(&mut self) {
        while self.credit > 0 && self.out.len() < OUT_BYTES_MAX {
            // Whoever does not wait any more does not want it published.
            while self.waiting.front().is_some_and(|waiting| waiting.sender.is_closed()) {
                self.forget_first();
            }
            if self.waiting.is_empty() {
                return;
            }
            let Some(id) = self.free.pop() else { return };
            let Some(waiting) = self.forget_first() else { return };
            let place = self.out.len() + waiting.place;
            self.out.extend_from_slice(&waiting.packet);
            self.write_id(place, id, Publisher::Caller(waiting.sender));
            self.spend();
        }
    }

    fn forget_first(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.waiting_bytes -= first.packet.len();
        Some(first)
    }

    /// Time has passed: more may be published, where that is limited.
    pub(super) fn earn(&mut self, pace: super::Pace) {
        self.credit = self.credit.saturating_add(pace.per_tick).min(pace.burst);
        self.release();
    }

    /// The broker acknowledged.
    pub(super) fn acknowledged(&mut self, id: u16) -> Option<Publisher> {
        let publisher = self.publishers.get_mut(usize::from(id).checked_sub(1)?)?.take()?;
        self.is_answered = true;
        self.free.push(id);
        self.release();
        Some(publisher)
    }

    /// Nothing waits to be written or acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.out.is_empty() && self.free.len() == self.publishers.len()
    }

    /// Somebody waits for a word of the broker.
    pub(super) fn expects_word(&self) -> bool {
        self.free.len() < self.publishers.len() || !self.requests.is_empty()
    }

    pub(super) fn subscribe(&mut self, level: Level, filters: &[&str], request: Request) {
        let id = self.request(request);
        put_subscribe(&mut self.out, level, id, filters.iter().copied());
    }

    pub(super) fn unsubscribe(&mut self, level: Level, filter: &str) {
        let id = self.request(Request::Forget);
        put_unsubscribe(&mut self.out, level, id, [filter]);
    }

    pub(super) fn ping(&mut self) {
        put_ping(&mut self.out);
    }

    pub(super) fn disconnect(&mut self) {
        packet::put_disconnect(&mut self.out);
    }

    pub(super) fn answered(&mut self, id: u16) -> Option<Request> {
        let request = self.requests.remove(&id);
        self.is_answered |= request.is_some();
        request
    }

    /// A number for what is no PUBLISH, from a range of its own.
    fn request(&mut self, request: Request) -> u16 {
        loop {
            self.next_request = self.next_request.checked_add(1).unwrap_or(0).max(WINDOW_MAX + 1);
            if !self.requests.contains_key(&self.next_request) || self.requests.len() > REQUESTS_MAX {
                self.requests.insert(self.next_request, request);
                return self.next_request;
            }
        }
    }
}

/// Those who waited for a line that is gone.
pub(super) struct Ended {
    publishers: Vec<Option<Publisher>>,
    waiting: VecDeque<Waiting>,
    requests: HashMap<u16, Request>,
}

impl Ended {
    pub(super) fn tell(self) {
        // Whoever does not wait any more needs not be told.
        for publisher in self.publishers.into_iter().flatten() {
            if let Publisher::Caller(sender) = publisher {
                drop(sender.send(Outcome::Lost));
            }
        }
        for waiting in self.waiting {
            drop(waiting.sender.send(Outcome::Unwritten));
        }
        drop(self.requests);
    }
}

/// The right to acknowledge one message. Dropped, it is not acknowledged.
pub(crate) struct Ack(pub(super) Option<(Arc<Shared>, u64, u16)>);

impl Ack {
    /// For what did not come from a broker.
    pub(crate) const NONE: Self = Self(None);

    /// Acknowledges, unless the connection that it came on is gone.
    pub(crate) fn ack(self) {
        let Some((shared, epoch, id)) = self.0 else { return };
        let mut state = shared.lock();
        if state.epoch == epoch && state.is_connected {
            put_puback(&mut state.out, id);
            shared.wake(state);
        }
    }
}

impl std::fmt::Debug for Ack {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ack")
    }
}

/// The largest packet in either direction, unless the broker wants smaller ones.
pub(crate) const PACKET_BYTES_MAX: usize = 17 * 1024 * 1024;
/// A PUBLISH without its topic, properties and body.
const PUBLISH_OVERHEAD: usize = 1 + 4 + 2 + 2 + 4;
/// Messages on their way to the broker, even if it would take more.
const WINDOW_MAX: u16 = 1024;
/// What waits to be written; beyond, publishing waits, and then is refused.
const OUT_BYTES_MAX: usize = 1024 * 1024;
const WAITING_BYTES_MAX: usize = 2 * PACKET_BYTES_MAX;
/// AWS IoT Core takes no more.
const SUBSCRIPTIONS_PER_PACKET: usize = 8;
/// Requests that the broker has not answered; far more than ever are made at once.
const REQUESTS_MAX: usize = 32 * 1024;
