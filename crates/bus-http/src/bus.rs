//! The bus itself.

use crate::calls::{DisplayChain, Functions};
use crate::client::{Client, PostError, Response};
use crate::config::{Config, Target};
use crate::place;
use crate::waits::{Awaited, Waits};
use crate::{headers, server};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use http::StatusCode;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use switchboard_bus::{
    Address, Bus, Capabilities, Commander, Connect, ConnectError, Consumer, Done, Envelope, InProcess, Kind,
    OutcomeKind, PublishError, State, SubscribeError, Subscribed, Subscription, Tells, Topic,
};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A bus whose calls are posted to functions, and whose other messages are posted to the process that their inbox names.
///
/// - A call is *taken* when its response has come; until then publishing goes on. No connection, 502 and 503 mean that nobody
///   listens, 429 that all hands are full; then the next endpoint is asked, and after the last one the gateway tries again.
///   So it does with 401, 403, 404, 405, 407 and 421, which say that the URL or the credentials are wrong.
/// - After the request was sent, it is posted again only with `?idempotent=true`. Without, a call whose connection was lost stays
///   in the gateway's hands until its deadline: nobody knows whether it had its effect.
/// - The body of a response of 2xx is the answer; `ocpp-registration` among its headers is passed on. Another status is a handler
///   that failed: the station gets InternalError, or, if it is 5xx and the function idempotent, the call is posted again.
/// - `?health=/path` is asked every beat at each endpoint, and speaks for it as a worker's sign of life does. One that does not
///   say 2xx within 1.1 s is not well: calls go to others first, and, if they may be posted again, are given up there.
/// - `?events=URL` is posted each event, at most 64 at once; what is above it is dropped and counted.
/// - An inbox whose name ends in `@URL` is posted to there; others are in this process, or nowhere.
/// - Who [listens](Self::listen) takes calls for the workers of this process, on any path, and `GET` there says 200 while there
///   are some, else 503. Without a worker a call gets 503, and 429 if the hands of all are full; 504 if it got no answer.
/// - With credentials in the URL requests must carry them; without, only this host may make any. Those that were given for
///   `https://` are never sent without TLS: what is for an inbox at `http://` is then not posted, and events there go without.
pub struct Http(Arc<Inner>);

pub(crate) struct Inner {
    /// For all within the process.
    pub(crate) local: InProcess,
    pub(crate) config: Config,
    pub(crate) client: Client,
    functions: Functions,
    /// Who waits at a request that was made to us.
    pub(crate) waits: Waits,
    /// Sends the commands that are posted to us.
    commander: Mutex<Option<Commander>>,
    /// How many subscribers take calls.
    pub(crate) takers: Arc<AtomicUsize>,
    /// Room for events on their way.
    events: Arc<Semaphore>,
    /// Connections of others to us.
    connections: TaskTracker,
    closed: CancellationToken,
    address: OnceLock<SocketAddr>,
}

impl Http {
    /// One that others cannot post to; whether the functions are there shows with the first call.
    ///
    /// # Errors
    /// When it can never work.
    #[expect(clippy::needless_pass_by_value, reason = "all drivers are made alike")]
    pub fn connect(connect: Connect) -> Result<Self, ConnectError> {
        let config = Config::read(&connect)?;
        let client = Client::new(&connect.tls, !config.tls)?;
        let inner = Arc::new(Inner {
            local: InProcess::new(),
            client,
            functions: Functions::new(&config),
            config,
            waits: Waits::default(),
            commander: Mutex::default(),
            takers: Arc::default(),
            events: Arc::new(Semaphore::new(EVENTS_MAX)),
            connections: TaskTracker::new(),
            closed: CancellationToken::new(),
            address: OnceLock::new(),
        });
        inner.functions.watch(&inner.client, &inner.local, &inner.closed);
        Ok(Self(inner))
    }

    /// One that others can post to, here. With TLS if the URL is `https://` and there is a certificate; else TLS, if any, ends in
    /// front of us.
    ///
    /// # Errors
    /// When it can never work.
    pub fn listen(connect: Connect, listener: TcpListener) -> Result<Self, ConnectError> {
        let fault = |error: std::io::Error| ConnectError::Driver(error.into());
        let tls = connect.tls.server_config()?.map(TlsAcceptor::from);
        let bus = Self::connect(connect)?;
        let tls = tls.filter(|_| bus.0.config.tls);
        listener.set_nonblocking(true).map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        bus.0.address.get_or_init(|| address);
        let listener = tokio::net::TcpListener::from_std(listener).map_err(fault)?;
        let answering = Arc::clone(&bus.0);
        let (closed, connections) = (bus.0.closed.clone(), bus.0.connections.clone());
        tokio::spawn(server::serve(listener, tls, closed, connections, move |request, peer| {
            let inner = Arc::clone(&answering);
            async move { inner.answer(request, peer).await }
        }));
        Ok(bus)
    }

    /// Where it listens, if it does.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address.get().copied()
    }

    /// Sends the commands that are posted to `/gateway/v1/commands` here with this one, until the bus is closed.
    pub fn obey(&self, commander: Commander) {
        *self.0.commander.lock().unwrap_or_else(PoisonError::into_inner) = Some(commander);
    }
}

impl Inner {
    /// Sends the commands of those who have no inbox.
    pub(crate) fn commander(&self) -> Option<Commander> {
        self.commander.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts an envelope into an inbox, wherever it is.
    async fn tell(self: &Arc<Self>, name: ByteString, envelope: Envelope) -> Result<(), PublishError> {
        let Err(envelope) = self.waits.give(&name, envelope) else { return Ok(()) };
        let Some(uri) = place::of_inbox(&name) else {
            return self.local.publish(Address::Inbox(name), envelope).await;
        };
        match self.local.publish(Address::Inbox(name), envelope.clone()).await {
            Err(PublishError::NobodyListens) => {}
            result => return result,
        }
        check_size(&envelope)?;
        if !self.config.may_carry(&uri) {
            tracing::warn!(
                %uri,
                "another process of this bus wants to be told something without encryption, and the credentials of this bus are \
                 for https only: give it an https URL as bus_advertise"
            );
            return Err(PublishError::Away);
        }
        let target = Target { uri, authorization: self.config.authorization.clone(), health: None };
        let awaited = matches!(envelope.metadata.kind, Kind::Command)
            && Awaited::by(&envelope.metadata, envelope.body.is_empty()).is_some();
        if awaited {
            self.ask(target, envelope).await
        } else {
            self.post(&target, &envelope, POST_MAX).await.map(drop)
        }
    }

    /// Posts a command, and puts the outcome that is the response into the inbox that waits for it here. Returns as soon as it
    /// can be taken for granted that the command is there; what shows later comes back to that inbox, too. If the connection is
    /// lost before the response, its gateway posts the outcome to where we listen.
    async fn ask(self: &Arc<Self>, target: Target, command: Envelope) -> Result<(), PublishError> {
        let (told, telling) = oneshot::channel();
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            // It may wait that long for its turn, and as long again for its answer.
            let limit = command.metadata.remaining.unwrap_or(OUTCOME_MAX).saturating_mul(2) + OUTCOME_GRACE;
            let result = inner.post(&target, &command, limit).await;
            let Some(reply_to) = command.metadata.reply_to.clone() else { return };
            let (result, envelope) = match result {
                Ok(Some(outcome)) => (Ok(()), Some(outcome)),
                Ok(None) => (Ok(()), None),
                Err(PublishError::Refused(why)) if inner.address.get().is_some() && why.is::<PostError>() => {
                    tracing::debug!(error = %DisplayChain(&*why), "the outcome of a command must come another way");
                    (Ok(()), None)
                }
                Err(error) => {
                    let returned = returned(&command, &error);
                    (Err(error), returned)
                }
            };
            let is_error = result.is_err();
            let unheard = told.send(result).is_err();
            if let Some(envelope) = envelope.filter(|_| unheard || !is_error)
                && let Err(error) = inner.local.publish(Address::Inbox(reply_to), envelope).await
            {
                tracing::debug!(%error, "the outcome of a command came to an inbox that is gone");
            }
        });
        // A task that panicked has told nothing, and somebody may have the command.
        tokio::time::timeout(KNOWN_AFTER, telling).await.map_or(Ok(()), |told| told.unwrap_or(Ok(())))
    }

    /// Posts an envelope to an inbox; the outcome, if the response is one.
    async fn post(
        &self,
        target: &Target,
        envelope: &Envelope,
        timeout: Duration,
    ) -> Result<Option<Envelope>, PublishError> {
        let uri = &target.uri;
        match self.client.post(target, envelope, timeout).await {
            Ok(Response { status, headers, body }) if status.is_success() => {
                let outcome = headers::read(&headers).ok().filter(|metadata| metadata.kind == Kind::Outcome);
                Ok(outcome.map(|metadata| Envelope::new(metadata, body)))
            }
            Ok(Response { status: StatusCode::NOT_FOUND, .. }) => Err(PublishError::NobodyListens),
            Ok(Response { status: StatusCode::TOO_MANY_REQUESTS, .. }) => Err(PublishError::Busy),
            Ok(Response { status: status @ StatusCode::UNAUTHORIZED, .. }) => {
                tracing::warn!(
                    %status, %uri,
                    "another process of this bus refuses our credentials: give all the same in the URL of the bus, or as \
                     bus_user and bus_password"
                );
                Err(PublishError::Away)
            }
            // It said nothing more about it.
            Ok(Response { status: StatusCode::GATEWAY_TIMEOUT, .. }) => Ok(None),
            Ok(Response { status, body, .. }) => {
                let said = String::from_utf8_lossy(&body).chars().take(200).collect::<String>();
                Err(PublishError::Refused(format!("{uri} said {status}: {}", said.trim()).into()))
            }
            Err(PostError::NotSent(error)) => {
                tracing::warn!(
                    %uri, error = %DisplayChain(&error),
                    "another process of this bus cannot be reached: if it runs, its bus_advertise must be a URL that leads there \
                     from here"
                );
                Err(PublishError::NobodyListens)
            }
            Err(error) => Err(PublishError::Refused(error.into())),
        }
    }

    fn post_event(self: &Arc<Self>, target: Target, envelope: Envelope) {
        let Ok(room) = Arc::clone(&self.events).try_acquire_owned() else {
            tracing::warn!("more events happen than the function takes; one is dropped");
            return;
        };
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            match inner.client.post(&target, &envelope, EVENT_MAX).await {
                Ok(response) if response.status.is_success() => {}
                Ok(Response { status, .. }) => tracing::warn!(%status, "an event was not taken"),
                Err(error) => tracing::warn!(error = %DisplayChain(&error), "an event was not taken"),
            }
            drop(room);
        });
    }
}

/// What a command comes back as that nobody took, if that is certain.
fn returned(command: &Envelope, error: &PublishError) -> Option<Envelope> {
    let outcome = match error {
        PublishError::NobodyListens | PublishError::Away => OutcomeKind::Offline,
        PublishError::Busy => OutcomeKind::Busy,
        _ => return None,
    };
    Some(Envelope::new(command.metadata.returned(outcome), Bytes::new()))
}

/// Has whoever waits for an answer told when a worker is done with the call.
struct Attentive {
    consumer: Arc<dyn Consumer>,
    waits: Waits,
}

impl Consumer for Attentive {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let done = match Awaited::by(&envelope.metadata, false) {
            Some(awaited) => {
                let waits = self.waits.clone();
                Done::new(move || {
                    drop(done);
                    waits.silent(&awaited);
                })
            }
            None => done,
        };
        self.consumer.deliver(envelope, done);
    }
}

impl Bus for Http {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        if *self.0.local.state().borrow() == State::Closed {
            return Box::pin(std::future::ready(Err(PublishError::Closed)));
        }
        if let Err(error) = check_size(&envelope) {
            return Box::pin(std::future::ready(Err(error)));
        }
        match to {
            Address::Call { .. } => Box::pin(self.0.functions.call(&self.0, envelope)),
            Address::Inbox(name) => Box::pin(self.0.tell(name, envelope)),
            Address::Event { .. } => {
                if let Some(target) = self.0.config.events.clone() {
                    self.0.post_event(target, envelope.clone());
                }
                self.0.local.publish(to, envelope)
            }
            // Others post theirs to `/gateway/v1/commands`.
            Address::Presence | Address::Command { .. } => self.0.local.publish(to, envelope),
        }
    }

    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> BoxFuture<'_, Result<Subscribed, SubscribeError>> {
        if subscription.topic != Topic::Calls {
            return self.0.local.subscribe(subscription, consumer);
        }
        if self.address().is_none() && *self.0.local.state().borrow() != State::Closed {
            let error = "over HTTP calls are posted to whoever listens, and this process does not";
            return Box::pin(std::future::ready(Err(SubscribeError::Refused(error.into()))));
        }
        Box::pin(async move {
            let consumer = Arc::new(Attentive { consumer, waits: self.0.waits.clone() });
            let subscribed = self.0.local.subscribe(subscription, consumer).await?;
            self.0.takers.fetch_add(1, Ordering::Relaxed);
            let takers = Arc::clone(&self.0.takers);
            Ok(Subscribed::new(move || {
                takers.fetch_sub(1, Ordering::Relaxed);
                drop(subscribed);
            }))
        })
    }

    /// Always there, since there is no broker.
    fn state(&self) -> watch::Receiver<State> {
        self.0.local.state()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tells_nobody_listens: Tells::AtOnce,
            tells_busy: Tells::AtOnce,
            exclusive_inboxes: false,
            // Two that are published at once go over two connections.
            keeps_order: false,
            redelivers: false,
            repeatable: self.0.config.idempotent,
            tells_all: false,
            body_bytes_max: crate::BODY_BYTES_MAX,
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.closed.cancel();
        self.0.connections.close();
        Box::pin(async move {
            // Answers that are there are still written.
            drop(tokio::time::timeout(CLOSE_MAX, self.0.connections.wait()).await);
            // It holds this bus.
            drop(self.0.commander.lock().unwrap_or_else(PoisonError::into_inner).take());
            self.0.local.close().await;
        })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.0.closed.cancel();
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Http")
            .field("functions", &self.0.functions)
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

fn check_size(envelope: &Envelope) -> Result<(), PublishError> {
    let bytes = envelope.body.len();
    if bytes > crate::BODY_BYTES_MAX {
        return Err(PublishError::TooLarge { bytes, limit: crate::BODY_BYTES_MAX });
    }
    Ok(())
}

/// How long a post to an inbox may take, which is answered at once.
const POST_MAX: Duration = Duration::from_secs(5);
/// How long an outcome is waited for where nobody says, and how much longer than its sender says.
const OUTCOME_MAX: Duration = Duration::from_secs(30);
const OUTCOME_GRACE: Duration = Duration::from_secs(10);
/// A command of which nothing else is known by then is at its gateway.
const KNOWN_AFTER: Duration = Duration::from_millis(500);
/// How long closing waits for requests that are at hand.
const CLOSE_MAX: Duration = Duration::from_secs(3);
const EVENT_MAX: Duration = Duration::from_secs(10);
const EVENTS_MAX: usize = 64;
