//! The client with a socket, a task and `async`.

use super::{
    BillError, Client, Config, Event, NotCalled, Outcome, Queue, QueueError, Receipt, Registration,
    link::{Link, now},
    typed::Billing,
};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{FutureExt, task::AtomicWaker};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as Task, Poll},
};
use switchboard_messages::{Message, Mode, Request, Sender, Violations};
use switchboard_router::{Answering, Context, Faults, Router};
use switchboard_rpc::{Frame, IdentityError, MessageId, StationId, Version};
use tokio::sync::{broadcast, oneshot, watch};

/// How many events may wait for who listens to them. Whoever is slower misses the oldest.
const EVENTS_MAX: usize = 256;
/// The longest identity that is taken; what the central system accepts may be shorter.
const IDENTITY_MAX: usize = 255;
/// How many handlers may still run for connections that are gone. Beyond it the oldest is dropped.
const HANDLERS_MAX: usize = 16;

/// A charging station on the line: it connects, boots, sends what is billed, and connects again, in a task of its own.
///
/// Cloning gives another handle of the same station. It lives until [`close`](Self::close), not until its handles
/// are dropped.
///
/// Calls of the central system go to the handlers of a [`Router`], added with
/// [`on_command`](Router::on_command). The client answers some itself, see [`Client`].
///
/// ```no_run
/// use switchboard_messages::v16::{
///     AuthorizeRequest, BootNotificationRequest, RemoteStartStopStatus, RemoteStartTransactionRequest,
///     RemoteStartTransactionResponse,
/// };
/// use switchboard_router::{CallError, Router};
/// use switchboard_station::client::{Config, FileQueue, Station};
///
/// async fn remote_start(request: RemoteStartTransactionRequest) -> Result<RemoteStartTransactionResponse, CallError> {
///     println!("{} shall charge", request.id_tag);
///     Ok(RemoteStartTransactionResponse::new(RemoteStartStopStatus::Accepted))
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let boot = BootNotificationRequest::new("One".to_owned(), "Example".to_owned());
/// let config = Config::new("ws://127.0.0.1:8180/ocpp", "CP001", &boot)?;
/// let queue = FileQueue::open("CP001.queue")?;
/// let station = Station::connect(config, queue, |_| Router::new().on_command(remote_start))?;
///
/// station.accepted().await;
/// let answer = station.call(AuthorizeRequest::new("04A1B2C3D4E5F6".to_owned())).await?;
/// println!("{:?}", answer.id_tag_info.status);
/// station.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Station {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    /// Of the task that has the socket.
    waker: AtomicWaker,
    events: broadcast::Sender<Event>,
    status: watch::Sender<Status>,
}

struct Inner {
    client: Client,
    link: Link,
    calls: HashMap<u64, oneshot::Sender<Outcome>>,
}

/// How a station is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether there is a connection.
    pub online: bool,
    /// How far it is with the central system's consent.
    pub registration: Registration,
    /// How many messages wait to be billed.
    pub unbilled: usize,
    /// Whether it has ended.
    pub stopped: bool,
}

/// Why a station cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its identity cannot be one.
    #[error("the identity cannot be used")]
    Identity(#[from] IdentityError),
    /// Its queue cannot be read.
    #[error("the queue of unsent messages cannot be read")]
    Queue(#[from] QueueError),
    /// Its handlers contradict one another.
    #[error("the handlers contradict one another")]
    Handlers(#[from] Faults),
}

/// Why a call of the station gave no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It was not sent.
    #[error(transparent)]
    NotCalled(#[from] NotCalled),
    /// The central system refused it with a CALLERROR.
    #[error("the central system refused it with {code}: {description}")]
    Refused {
        /// The code as it was written.
        code: ByteString,
        /// For people.
        description: ByteString,
        /// Any JSON.
        details: ByteString,
    },
    /// No answer came in time, or none that can be read as a frame: nobody knows whether the central system acted on it.
    #[error("no answer came in time")]
    TimedOut,
    /// The connection went before an answer came.
    #[error("the connection was lost before an answer came")]
    Lost,
    /// The request is not valid and was not sent (V09).
    #[error("the request is not valid")]
    Invalid(#[source] Violations),
    /// The answer cannot be read as the response. In 2.1 the central system was told so (C12).
    #[error("the answer cannot be read")]
    Unreadable(#[source] Violations),
    /// The request is of another version than the station speaks.
    #[error("the station speaks {station:?} and the request is of {request:?}")]
    WrongVersion {
        /// What the station speaks.
        station: Version,
        /// What the request is written in.
        request: Version,
    },
}

/// A transaction, by the station's own name for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transaction(ByteString);

impl Transaction {
    /// A new one. Its name is a UUID, as 2.x recommends for the `transactionId`.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        Self(uuid::Uuid::new_v4().to_string().into())
    }

    /// The one with this name, as [`Station::transactions`] tells it.
    #[must_use]
    pub fn named(name: impl Into<ByteString>) -> Self {
        Self(name.into())
    }

    /// Its name; in 2.x what `transactionInfo.transactionId` must be.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Station {
    /// Starts a station. It connects at once and for as long as it takes; nobody need be there yet.
    ///
    /// `handlers` gets the station, to be put into the state of the handlers.
    ///
    /// # Errors
    /// When the queue cannot be read, the handlers contradict one another, or the identity is none.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(
        config: Config,
        queue: impl Queue + 'static,
        handlers: impl FnOnce(Self) -> Router,
    ) -> Result<Self, StartError> {
        let context = Context::new(StationId::new(config.id.clone(), IDENTITY_MAX)?, config.version);
        let client = Client::new(config, Box::new(queue), now())?;
        let inner = Inner { client, link: Link::new(None), calls: HashMap::new() };
        let shared = Arc::new(Shared {
            status: watch::Sender::new(status(&inner.client)),
            inner: Mutex::new(inner),
            waker: AtomicWaker::new(),
            events: broadcast::Sender::new(EVENTS_MAX),
        });
        let station = Self { shared: shared.clone() };
        let router = handlers(station.clone());
        router.check()?;
        let mut life = Life { shared, router, context, handling: Vec::new() };
        tokio::spawn(std::future::poll_fn(move |task| life.poll(task)));
        Ok(station)
    }

    /// Calls the central system and waits for its response. Dropped before it was written, it is not sent. With a request
    /// that only the central system sends, or that is not answered, it does not compile.
    ///
    /// # Errors
    /// When it cannot be sent now, is not answered, or the answer is no response. It is not kept for later: what must not
    /// get lost is [billed](Self::bill).
    pub async fn call<R: Request>(&self, request: R) -> Result<R::Response, CallError> {
        const {
            assert!(
                !matches!(R::SENDER, Sender::Csms) && R::HAS_RESPONSE,
                "a station does not call with this request"
            );
        }
        let payload = self.encode(&request)?;
        let Answered { id, payload } = self.exchange(R::ACTION.into(), payload).await?;
        match R::Response::decode(payload.as_bytes(), Mode::Lenient) {
            Ok(decoded) => Ok(decoded.value),
            Err(violations) => {
                let mut inner = self.shared.lock();
                if let Some(id) = id
                    && let Err(error) =
                        inner.client.result_error(&id, violations.code(), &violations.to_string())
                {
                    tracing::debug!(%error, "the central system is not told that its answer makes no sense");
                }
                drop(inner);
                self.shared.waker.wake();
                Err(CallError::Unreadable(violations))
            }
        }
    }

    /// The same with JSON text, for actions that OCPP does not have or payloads that its schemas do not allow.
    ///
    /// # Errors
    /// When it cannot be sent now, or is not answered.
    pub async fn call_raw(
        &self,
        action: impl Into<ByteString>,
        payload: impl Into<Bytes>,
    ) -> Result<ByteString, CallError> {
        Ok(self.exchange(action.into(), payload.into()).await?.payload)
    }

    /// Tells the central system something that it does not answer (SEND, 2.1).
    ///
    /// # Errors
    /// When it cannot be sent now.
    pub fn send<R: Request>(&self, message: &R) -> Result<(), CallError> {
        const { assert!(!R::HAS_RESPONSE, "this request is answered: use `call`") }
        let payload = self.encode(message)?;
        self.shared.lock().client.send(R::ACTION, &payload)?;
        self.shared.waker.wake();
        Ok(())
    }

    /// Takes a message that must not get lost, and returns at once, also without a connection: see [`Client::bill`].
    /// In 1.6 the request's `transactionId` does not matter; the client puts it in when it is known.
    ///
    /// With a [`FileQueue`](super::FileQueue) it waits for the disk.
    ///
    /// # Errors
    /// When the request is not valid, or the queue is full.
    pub fn bill<R: Billing>(&self, transaction: &Transaction, request: &R) -> Result<Receipt, BillError> {
        let mut payload = Vec::new();
        request.encode(&mut payload).map_err(|violations| BillError::Invalid(violations.to_string()))?;
        // What a message writes is JSON and so UTF-8.
        self.bill_raw(transaction, R::ACTION, std::str::from_utf8(&payload).unwrap_or_default())
    }

    /// The same with JSON text.
    ///
    /// # Errors
    /// When it is no message about a transaction, or the queue is full.
    pub fn bill_raw(
        &self,
        transaction: &Transaction,
        action: impl Into<ByteString>,
        payload: &str,
    ) -> Result<Receipt, BillError> {
        let mut inner = self.shared.lock();
        let receipt = inner.client.bill(&transaction.0, action, payload);
        self.shared.tell_status(&inner.client);
        drop(inner);
        self.shared.waker.wake();
        receipt
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events(self.shared.events.subscribe())
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        *self.shared.status.borrow()
    }

    /// Waits until it is as wanted, or has ended; gives how it then is.
    ///
    /// ```no_run
    /// # async fn example(station: switchboard_station::client::Station) {
    /// // Everything that happened is told and answered.
    /// station.until(|status| status.unbilled == 0).await;
    /// # }
    /// ```
    pub async fn until(&self, mut wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut statuses = self.shared.status.subscribe();
        // The sender lives as long as `self`.
        let status = statuses.wait_for(|status| status.stopped || wanted(status)).await;
        status.map_or_else(|_| Status { stopped: true, ..Status::default() }, |status| *status)
    }

    /// Waits until the central system has accepted it. False: it has ended before.
    pub async fn accepted(&self) -> bool {
        !self.until(|status| status.online && status.registration == Registration::Accepted).await.stopped
    }

    /// Transactions that have begun and whose end was not answered yet, and the `seqNo` of their last messages: after a
    /// restart what an earlier life of the station has left, which whoever finds no car there must end.
    #[must_use]
    pub fn transactions(&self) -> Vec<super::Open> {
        self.shared.lock().client.transactions().cloned().collect()
    }

    /// Another password from the next connection on.
    pub fn set_password(&self, password: Vec<u8>) {
        self.shared.lock().client.set_password(Some(password));
    }

    /// Looks at the machine, or gives it a command that this type does not have.
    pub fn with_client<T>(&self, look: impl FnOnce(&mut Client) -> T) -> T {
        let mut inner = self.shared.lock();
        let seen = look(&mut inner.client);
        self.shared.tell_status(&inner.client);
        drop(inner);
        self.shared.waker.wake();
        seen
    }

    /// Bills what can be billed within [`Config::stop_grace`], closes the connection, and ends.
    pub async fn close(&self) {
        self.with_client(|client| client.stop(now()));
        self.until(|status| status.stopped).await;
    }

    fn encode<R: Request>(&self, request: &R) -> Result<Bytes, CallError> {
        let station = self.shared.lock().client.config().version;
        if station != R::VERSION {
            return Err(CallError::WrongVersion { station, request: R::VERSION });
        }
        let mut payload = Vec::new();
        request.encode(&mut payload).map_err(CallError::Invalid)?;
        Ok(payload.into())
    }

    async fn exchange(&self, action: ByteString, payload: Bytes) -> Result<Answered, CallError> {
        let (sender, receiver) = oneshot::channel();
        let key = {
            let mut inner = self.shared.lock();
            let key = inner.client.call(action, payload, now())?;
            inner.calls.insert(key, sender);
            key
        };
        self.shared.waker.wake();
        let open = OpenCall { shared: &self.shared, key };
        let outcome = receiver.await.map_err(|_| CallError::Lost)?;
        drop(open);
        match outcome {
            Outcome::Answered { payload, frame } => {
                let version = self.shared.lock().client.config().version;
                let id = Frame::parse(&frame, version).ok().map(|frame| frame.id().clone());
                Ok(Answered { id, payload })
            }
            Outcome::Refused { code, description, details, .. } => {
                Err(CallError::Refused { code, description, details })
            }
            Outcome::TimedOut | Outcome::MalformedAnswer { .. } => Err(CallError::TimedOut),
            Outcome::Expired => Err(CallError::NotCalled(NotCalled::Full)),
            _ => Err(CallError::Lost),
        }
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.shared.lock();
        formatter.debug_struct("Station").field("id", &inner.client.config().id).finish_non_exhaustive()
    }
}

struct Answered {
    id: Option<MessageId>,
    payload: ByteString,
}

/// A call that somebody waits for; taken back when nobody does any more.
struct OpenCall<'station> {
    shared: &'station Shared,
    key: u64,
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        if inner.calls.remove(&self.key).is_some() {
            inner.client.cancel(self.key);
            drop(inner);
            self.shared.waker.wake();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The machine is consistent after every call; a panic elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_status(&self, client: &Client) {
        let now = status(client);
        self.status.send_if_modified(|before| {
            let changed = *before != now && !before.stopped;
            if changed {
                *before = now;
            }
            changed
        });
    }
}

fn status(client: &Client) -> Status {
    Status {
        online: client.is_online(),
        registration: client.registration(),
        unbilled: client.unbilled(),
        // Only the task that has the socket knows when that is closed.
        stopped: false,
    }
}

/// What happens at a station.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` once the station has ended. Calls and their ends are not among them. Whoever is 256 events
    /// behind misses the oldest, which is logged.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.0.recv().await {
                Ok(Event::Stopped) | Err(broadcast::error::RecvError::Closed) => return None,
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener is too slow for its station's events");
                }
            }
        }
    }
}

/// The task that has the socket.
struct Life {
    shared: Arc<Shared>,
    router: Router,
    context: Context,
    handling: Vec<Handling>,
}

/// A call of the central system that a handler has.
struct Handling {
    /// On which connection it came.
    connection: u64,
    seq: u64,
    answering: Answering,
}

impl Life {
    fn poll(&mut self, task: &mut Task<'_>) -> Poll<()> {
        self.shared.waker.register(task.waker());
        loop {
            self.poll_handlers(task);
            let polled = {
                let mut inner = self.shared.lock();
                let Inner { client, link, .. } = &mut *inner;
                let polled = link.poll(task, client);
                self.shared.tell_status(client);
                polled
            };
            match polled {
                Poll::Ready(Some(event)) => self.happened(event),
                Poll::Ready(None) => {
                    // Whoever waits for an answer gets none.
                    self.shared.lock().calls.clear();
                    self.shared.status.send_modify(|status| status.stopped = true);
                    // To have no listener is no failure.
                    drop(self.shared.events.send(Event::Stopped));
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_handlers(&mut self, task: &mut Task<'_>) {
        let shared = &self.shared;
        self.handling.retain_mut(|handling| {
            let Poll::Ready(answer) = handling.answering.poll_unpin(task) else { return true };
            let mut inner = shared.lock();
            // The answer of an earlier connection's call goes nowhere (C11).
            if inner.client.connections() == handling.connection {
                match answer.frame {
                    Some(frame) => {
                        if let Err(error) = inner.client.answer(handling.seq, frame, now()) {
                            tracing::debug!(%error, "an answer was not sent");
                        }
                    }
                    None => drop(inner.client.leave_unanswered(handling.seq, now())),
                }
            }
            false
        });
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Called(called) => {
                let connection = self.shared.lock().client.connections();
                let mut context = self.context.clone();
                context.generation = connection;
                context.seq = called.seq;
                if self.handling.len() >= HANDLERS_MAX {
                    drop(self.handling.remove(0));
                }
                let answering = self.router.answer(&context, called.frame);
                self.handling.push(Handling { connection, seq: called.seq, answering });
            }
            Event::Ended { key, outcome } => {
                if let Some(sender) = self.shared.lock().calls.remove(&key) {
                    // Whoever does not wait any more does not care.
                    drop(sender.send(outcome));
                }
            }
            event => {
                log(&self.context.station, &event);
                // To have no listener is no failure.
                drop(self.shared.events.send(event));
            }
        }
    }
}

/// What an operator of the station wants to read.
fn log(station: &StationId, event: &Event) {
    match event {
        Event::Connected { .. } => tracing::info!(%station, "connected"),
        Event::NotConnected { error, retry_in } => {
            tracing::warn!(%station, error, retry_in = retry_in.as_secs(), "no connection");
        }
        Event::Disconnected { reason } => tracing::info!(%station, reason, "disconnected"),
        Event::Registered { registration, .. } => tracing::info!(%station, ?registration, "booted"),
        Event::GivenUp { number, action, .. } => {
            tracing::error!(%station, number, %action, "a billing message was refused too often and is given up");
        }
        Event::Thinned { readings } => {
            tracing::warn!(%station, readings, "too much waits to be billed: readings were left out");
        }
        Event::QueueFailed { error } => {
            tracing::error!(%station, error, "the queue cannot keep what is to be billed; a restart would lose it");
        }
        _ => {}
    }
}
