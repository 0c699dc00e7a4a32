//! The connection as its users see it.

use crate::{
    connecting::Dialling,
    protocol::{self, Info, Message, NOBODY_LISTENS, Writer},
    running,
};
use bytes::BytesMut;
use bytestring::ByteString;
use foldhash::HashMap;
use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};
use switchboard_bus::{Connect, ConnectError, State};
use tokio::sync::{oneshot, watch};

/// Takes what comes for a subscription.
///
/// It is called by the one task of the connection, so it must neither block nor wait.
pub trait Taker: Send + Sync + 'static {
    /// Takes one message.
    fn take(&self, message: Message);
}

/// Why nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The server cannot be reached.
    #[error("the NATS server is away")]
    Away,
    /// It was closed from our side.
    #[error("the connection to NATS is closed")]
    Closed,
    /// More waits to be written than may.
    #[error("the NATS server takes no more at the moment")]
    Busy,
    /// Its subjects are longer than servers take, which hang up on whoever says them: they may be made of what others said.
    #[error("subjects of {bytes} bytes exceed the limit of {limit}")]
    Subject {
        /// Its own, and that for the answer.
        bytes: usize,
        /// What fits into a line of the protocol.
        limit: usize,
    },
    /// It is larger than the server takes.
    #[error("a message of {bytes} bytes exceeds the server's limit of {limit}")]
    TooLarge {
        /// Headers and payload.
        bytes: usize,
        /// What the server said.
        limit: usize,
    },
}

/// Why there is no subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The server cannot be reached, or went before it confirmed.
    #[error("the NATS server is away")]
    Away,
    /// It was closed from our side.
    #[error("the connection to NATS is closed")]
    Closed,
    /// The server does not want us to.
    #[error("the NATS server refuses: {0}")]
    Refused(String),
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It could not be made.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The answers could not be listened for.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// Nobody listens at the subject.
    #[error("nobody answers at {0}")]
    NobodyListens(ByteString),
    /// It did not come in time, or the server went meanwhile; whether it had an effect is not known.
    #[error("no answer came")]
    NoAnswer,
}

/// A connection to a NATS server, or to one after another of a cluster. Dropped, it is closed.
pub struct Line {
    shared: Arc<Shared>,
    requests: tokio::sync::Mutex<Option<Requests>>,
}

/// What the users and the task of the connection share.
pub(crate) struct Shared {
    out: Mutex<Out>,
    takers: Mutex<HashMap<u64, Arc<Subscribed>>>,
    pub(crate) state: watch::Sender<State>,
    /// What the server last said about itself.
    info: Mutex<Info>,
    next_sid: AtomicU64,
    max_payload: AtomicUsize,
}

/// What is to be written.
#[derive(Default)]
struct Out {
    phase: Phase,
    /// Empty while the server is away. [`OUT_BYTES_MAX`] bounds it.
    buffer: BytesMut,
    /// Who waits for the answers to our pings, in their order. None: nobody does.
    pongs: VecDeque<Option<oneshot::Sender<()>>>,
    /// The task of the connection, if it waits.
    task: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Away,
    Connected,
    /// What is in the buffer is still written.
    Closing,
    Closed,
}

/// A subscription: what is said again on a new connection.
struct Subscribed {
    subject: ByteString,
    group: Option<ByteString>,
    taker: Arc<dyn Taker>,
    refusal: Mutex<Option<String>>,
}

/// Ends a subscription when it is dropped.
pub struct Listening {
    shared: Weak<Shared>,
    sid: u64,
}

/// What the task of the connection has to do next.
pub(crate) enum Turn {
    /// Write what is in the buffer now.
    Write,
    Wait,
    /// Write what is in the buffer, then leave.
    Leave,
}

impl Line {
    /// Begins to connect, and goes on trying for good. On a tokio runtime.
    ///
    /// # Errors
    /// When this configuration can never work.
    pub fn connect(connect: &Connect) -> Result<Self, ConnectError> {
        let dialling = Dialling::new(connect)?;
        let shared = Arc::new(Shared {
            out: Mutex::default(),
            takers: Mutex::default(),
            state: watch::Sender::new(State::Away),
            info: Mutex::default(),
            next_sid: AtomicU64::new(1),
            max_payload: AtomicUsize::new(MAX_PAYLOAD_DEFAULT),
        });
        drop(tokio::spawn(running::run(Arc::clone(&shared), dialling)));
        Ok(Self { shared, requests: tokio::sync::Mutex::new(None) })
    }

    /// Whether the server can be reached, and when that changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// What the server last said about itself; nothing of it before the first connection.
    #[must_use]
    pub fn info(&self) -> Info {
        lock(&self.shared.info).clone()
    }

    /// How large a message may be, headers included; before the first connection what servers allow by default.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.shared.max_payload.load(Ordering::Relaxed)
    }

    /// Publishes what `writer` holds with this payload. It is written with whatever else is to be written, in order.
    ///
    /// # Errors
    /// As [`PublishError`] says. The headers are gone then, too.
    pub fn publish(
        &self,
        writer: &mut Writer,
        subject: &str,
        reply: Option<&str>,
        payload: &[u8],
    ) -> Result<(), PublishError> {
        let bytes = writer.header_bytes() + payload.len();
        let limit = self.max_payload();
        let subject_bytes = subject.len() + reply.map_or(0, str::len);
        let mut out = lock(&self.shared.out);
        let fault = match out.phase {
            Phase::Connected if subject_bytes > SUBJECT_BYTES_MAX => {
                Some(PublishError::Subject { bytes: subject_bytes, limit: SUBJECT_BYTES_MAX })
            }
            Phase::Connected if bytes > limit => Some(PublishError::TooLarge { bytes, limit }),
            Phase::Connected if out.buffer.len() > OUT_BYTES_MAX => Some(PublishError::Busy),
            Phase::Connected => None,
            Phase::Away => Some(PublishError::Away),
            Phase::Closing | Phase::Closed => Some(PublishError::Closed),
        };
        if let Some(fault) = fault {
            drop(out);
            *writer = Writer::new();
            return Err(fault);
        }
        writer.finish(subject, reply, payload, &mut out.buffer);
        let task = out.task.take();
        drop(out);
        wake(task);
        Ok(())
    }

    /// Gives what is sent to `subject` to `taker`, from when this returns; of a group each message goes to one only. It is
    /// said again on each new connection.
    ///
    /// # Errors
    /// As [`SubscribeError`] says.
    pub async fn subscribe(
        &self,
        subject: &str,
        group: Option<&str>,
        taker: Arc<dyn Taker>,
    ) -> Result<Listening, SubscribeError> {
        if subject.len() > SUBJECT_BYTES_MAX {
            return Err(SubscribeError::Refused(format!(
                "a subject of {} bytes is longer than servers take",
                subject.len()
            )));
        }
        let sid = self.shared.next_sid.fetch_add(1, Ordering::Relaxed);
        let subscribed = Arc::new(Subscribed {
            subject: subject.into(),
            group: group.map(ByteString::from),
            taker,
            refusal: Mutex::default(),
        });
        let pong = {
            let mut out = lock(&self.shared.out);
            out.usable()?;
            lock(&self.shared.takers).insert(sid, Arc::clone(&subscribed));
            protocol::subscribe(subject, group, sid, &mut out.buffer);
            out.ping()
        };
        let listening = Listening { shared: Arc::downgrade(&self.shared), sid };
        // Gone with the connection; then the subscription goes too, as nobody knows of it.
        pong.await.map_err(|_| SubscribeError::Away)?;
        match lock(&subscribed.refusal).take() {
            Some(refusal) => Err(SubscribeError::Refused(refusal)),
            None => Ok(listening),
        }
    }

    /// Publishes and waits for one answer.
    ///
    /// # Errors
    /// As [`RequestError`] says.
    pub async fn request(
        &self,
        mut writer: Writer,
        subject: &str,
        payload: &[u8],
        within: Duration,
    ) -> Result<Message, RequestError> {
        let expecting = async {
            let mut requests = self.requests.lock().await;
            let requests = match &mut *requests {
                Some(requests) => requests,
                none => none.insert(Requests::new(self).await?),
            };
            Ok::<_, SubscribeError>(requests.expect())
        };
        // The first one listens for the answers to all, which a silent server does not confirm.
        let expected = tokio::time::timeout(within, expecting).await;
        let (token, reply, answer) = expected.map_err(|_| RequestError::NoAnswer)??;
        let waiting = Waiting { table: Arc::clone(&token.0), token: token.1 };
        self.publish(&mut writer, subject, Some(&reply), payload)?;
        let answer = tokio::time::timeout(within, answer).await;
        drop(waiting);
        match answer {
            Ok(Ok(message)) if message.status == Some(NOBODY_LISTENS) && message.payload.is_empty() => {
                Err(RequestError::NobodyListens(subject.into()))
            }
            Ok(Ok(message)) => Ok(message),
            Ok(Err(_)) | Err(_) => Err(RequestError::NoAnswer),
        }
    }

    /// Writes what is to be written, unless the server is away, and disconnects.
    pub async fn close(&self) {
        self.shared.begin_to_close();
        let mut state = self.state();
        let closed = state.wait_for(|state| *state == State::Closed);
        if tokio::time::timeout(CLOSING_MAX, closed).await.is_err() {
            self.shared.closed();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.begin_to_close();
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Line").field("state", &*self.shared.state.borrow()).finish_non_exhaustive()
    }
}

impl Out {
    fn usable(&self) -> Result<(), SubscribeError> {
        match self.phase {
            Phase::Connected => Ok(()),
            Phase::Away => Err(SubscribeError::Away),
            Phase::Closing | Phase::Closed => Err(SubscribeError::Closed),
        }
    }

    /// Pings, so that what was said before is known to have been done.
    fn ping(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.buffer.extend_from_slice(PING);
        self.pongs.push_back(Some(sender));
        wake(self.task.take());
        receiver
    }
}

/// For the task of the connection.
impl Shared {
    /// A new connection: everything that is subscribed, to be written first. What it confirms with a pong.
    pub(crate) fn begin_again(&self) -> BytesMut {
        let mut out = lock(&self.out);
        // Ends of subscriptions that this connection never hears of.
        out.buffer.clear();
        let mut text = BytesMut::new();
        for (sid, subscribed) in &*lock(&self.takers) {
            protocol::subscribe(&subscribed.subject, subscribed.group.as_deref(), *sid, &mut text);
        }
        text.extend_from_slice(PING);
        out.pongs = VecDeque::from([None]);
        text
    }

    /// The server says something about itself.
    pub(crate) fn know(&self, info: Info) {
        let max_payload = if info.max_payload == 0 { MAX_PAYLOAD_DEFAULT } else { info.max_payload };
        self.max_payload.store(max_payload, Ordering::Relaxed);
        *lock(&self.info) = info;
    }

    /// The server has all subscriptions again.
    pub(crate) fn restored(&self) {
        let mut out = lock(&self.out);
        if out.phase == Phase::Away {
            out.phase = Phase::Connected;
            self.state.send_if_modified(|state| {
                *state != State::Closed && std::mem::replace(state, State::Connected) != State::Connected
            });
        }
    }

    /// The connection is gone: so is what was not written.
    pub(crate) fn lost(&self) {
        let mut out = lock(&self.out);
        out.buffer = BytesMut::new();
        out.pongs = VecDeque::new();
        if out.phase == Phase::Connected {
            out.phase = Phase::Away;
            self.state.send_if_modified(|state| {
                *state != State::Closed && std::mem::replace(state, State::Away) != State::Away
            });
        }
    }

    fn begin_to_close(&self) {
        let mut out = lock(&self.out);
        if matches!(out.phase, Phase::Away | Phase::Connected) {
            out.phase = Phase::Closing;
        }
        let task = out.task.take();
        drop(out);
        // Consumers are dropped here, outside the lock: they may hold this line.
        let takers = std::mem::take(&mut *lock(&self.takers));
        drop(takers);
        wake(task);
        self.state.send_if_modified(|_| true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(lock(&self.out).phase, Phase::Closing | Phase::Closed)
    }

    pub(crate) fn closed(&self) {
        let mut out = lock(&self.out);
        out.phase = Phase::Closed;
        out.buffer = BytesMut::new();
        out.pongs = VecDeque::new();
        drop(out);
        self.state.send_replace(State::Closed);
    }

    /// The task is at work, and need not be woken for what it will see by itself.
    pub(crate) fn awake(&self) {
        lock(&self.out).task = None;
    }

    /// Puts what is to be written into `buffer`, which is empty, or has `task` woken when there is something.
    pub(crate) fn turn(&self, buffer: &mut BytesMut, task: &Waker) -> Turn {
        let mut out = lock(&self.out);
        std::mem::swap(&mut out.buffer, buffer);
        if matches!(out.phase, Phase::Closing | Phase::Closed) {
            Turn::Leave
        } else if buffer.is_empty() {
            if !out.task.as_ref().is_some_and(|waiting| waiting.will_wake(task)) {
                out.task = Some(task.clone());
            }
            Turn::Wait
        } else {
            Turn::Write
        }
    }

    /// Answers a ping; not where the server asks and asks and takes nothing.
    pub(crate) fn pong_back(&self) -> Result<(), &'static str> {
        let mut out = lock(&self.out);
        // One message above what publishers may leave there is usual.
        if out.buffer.len() > OUT_BYTES_MAX + protocol::MESSAGE_BYTES_MAX {
            return Err("the server asks for signs of life and takes none");
        }
        out.buffer.extend_from_slice(PONG);
        Ok(())
    }

    /// Pings for a sign of life.
    pub(crate) fn knock(&self) {
        let mut out = lock(&self.out);
        out.buffer.extend_from_slice(PING);
        out.pongs.push_back(None);
    }

    /// The server answers the oldest of our pings.
    pub(crate) fn pong(&self) {
        let waiting = lock(&self.out).pongs.pop_front().flatten();
        // One who has gone in the meantime does not want to know.
        waiting.map(|waiting| waiting.send(()).is_ok());
    }

    /// The server refuses something, which is not always the end of the connection.
    pub(crate) fn refused(&self, text: &str) {
        for subscribed in lock(&self.takers).values() {
            if text.contains("Subscription") && text.contains(&format!("\"{}\"", subscribed.subject)) {
                *lock(&subscribed.refusal) = Some(text.to_owned());
            }
        }
    }

    pub(crate) fn deliver(&self, message: Message) {
        let subscribed = lock(&self.takers).get(&message.sid).cloned();
        // Else it was under way when the subscription ended.
        let Some(subscribed) = subscribed else { return };
        // The panic's own message has been printed by the hook; the others are not to suffer from it.
        if catch_unwind(AssertUnwindSafe(|| subscribed.taker.take(message))).is_err() {
            tracing::error!("a consumer panicked; what it was given is lost");
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let taken = {
            let mut out = lock(&shared.out);
            let taken = lock(&shared.takers).remove(&self.sid);
            // Also while a connection is only being restored: it may have been told of the subscription.
            if taken.is_some() && matches!(out.phase, Phase::Connected | Phase::Away) {
                protocol::unsubscribe(self.sid, &mut out.buffer);
                wake(out.task.take());
            }
            taken
        };
        // Outside the locks: its drop may do anything.
        drop(taken);
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listening").field("sid", &self.sid).finish_non_exhaustive()
    }
}

/// Who waits for an answer, by the last part of its subject. As many as requests are under way.
type Table = Mutex<HashMap<ByteString, oneshot::Sender<Message>>>;

/// The one subscription for the answers to all requests.
struct Requests {
    prefix: String,
    next: AtomicU64,
    table: Arc<Table>,
    _listening: Listening,
}

struct Answers(Arc<Table>);

struct Waiting {
    table: Arc<Table>,
    token: ByteString,
}

impl Requests {
    async fn new(line: &Line) -> Result<Self, SubscribeError> {
        let prefix = format!("_INBOX.{}.", uuid::Uuid::new_v4().simple());
        let table: Arc<Table> = Arc::default();
        let taker = Arc::new(Answers(Arc::clone(&table)));
        let listening = line.subscribe(&format!("{prefix}*"), None, taker).await?;
        Ok(Self { prefix, next: AtomicU64::new(0), table, _listening: listening })
    }

    fn expect(&self) -> ((Arc<Table>, ByteString), String, oneshot::Receiver<Message>) {
        let token = ByteString::from(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let (sender, receiver) = oneshot::channel();
        lock(&self.table).insert(token.clone(), sender);
        let reply = format!("{}{token}", self.prefix);
        ((Arc::clone(&self.table), token), reply, receiver)
    }
}

impl Taker for Answers {
    fn take(&self, message: Message) {
        let token = message.subject.rsplit('.').next().unwrap_or_default();
        let waiting = lock(&self.0).remove(token);
        // One who has gone in the meantime does not want to know.
        waiting.map(|waiting| waiting.send(message).is_ok());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.table).remove(&self.token);
    }
}

fn wake(task: Option<Waker>) {
    if let Some(task) = task {
        task.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What servers allow unless they are told otherwise.
const MAX_PAYLOAD_DEFAULT: usize = 1024 * 1024;
const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";
/// Servers take lines of 4,096 bytes; the rest is for the verb and the numbers.
const SUBJECT_BYTES_MAX: usize = 4096 - 64;
/// What may wait to be written: a server that does not read is soon taken for away, and until then it is busy.
const OUT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long closing waits until all is written.
const CLOSING_MAX: Duration = Duration::from_secs(2);
