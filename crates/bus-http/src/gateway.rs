//! The side of the gateways.

use crate::client::{Client, PostError, Response};
use crate::config::{Config, Target};
use crate::headers;
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use http::StatusCode;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use switchboard_bus::{
    Address, Bus, Capabilities, Connect, ConnectError, Consumer, Envelope, InProcess, Kind, Metadata,
    PublishError, State, SubscribeError, Subscribed, Subscription, Tells, percent, presence::BEAT_DEFAULT,
};
use switchboard_rpc::{ErrorCode, Frame, Version, frame::write_error};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// A bus whose calls are posted to a function. Everything else stays in the process or goes to other gateways.
///
/// - A call is *taken* when its response has come; until then publishing goes on. No connection, 502 and 503 mean that nobody
///   listens, 429 that all hands are full; both are tried again by the gateway.
/// - After the request was sent, it is posted again only with `?idempotent=true`. Without, a call whose connection was lost stays
///   in the gateway's hands until its deadline: nobody knows whether it had its effect.
/// - The body of a response of 2xx is the answer; `ocpp-registration` among its headers is passed on. Another status is a handler
///   that failed: the station gets InternalError, or, if it is 5xx and the function idempotent, the call is posted again.
/// - `?health=/path` is asked every beat, and speaks for the function as a worker's sign of life does.
/// - `?events=URL` is posted each event, at most 64 at once; what is above it is dropped and counted.
/// - `?peer=NAME@URL`, for each other gateway: commands, outcomes and notices find their way there.
pub struct Http(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// For all within the process.
    pub(crate) local: InProcess,
    pub(crate) config: Config,
    client: Client,
    /// Which target the next call goes to.
    turn: AtomicUsize,
    /// Room for events on their way.
    events: Arc<Semaphore>,
    closed: CancellationToken,
}

impl Http {
    /// Makes one; whether the function is there shows with the first call.
    ///
    /// # Errors
    /// When it can never work.
    pub fn connect(connect: Connect) -> Result<Self, ConnectError> {
        let (config, _) = Config::read(&connect)?;
        let client = Client::new(&connect.tls)?;
        drop(connect);
        let inner = Arc::new(Inner {
            local: InProcess::new(),
            client,
            config,
            turn: AtomicUsize::new(0),
            events: Arc::new(Semaphore::new(EVENTS_MAX)),
            closed: CancellationToken::new(),
        });
        if let Some(health) = inner.config.health.clone() {
            let (watched, closed) = (Arc::clone(&inner), inner.closed.clone());
            tokio::spawn(async move { closed.run_until_cancelled(watched.listen_to(&health)).await });
        }
        Ok(Self(inner))
    }
}

impl Inner {
    /// Tells the process of a function that is well, every beat.
    async fn listen_to(&self, health: &http::Uri) {
        let mut ticks = tokio::time::interval(BEAT_DEFAULT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut was_well = None;
        loop {
            ticks.tick().await;
            let is_well = self.client.is_well(health, BEAT_DEFAULT * 2).await;
            if was_well.replace(is_well) != Some(is_well) {
                if is_well {
                    tracing::info!(%health, "the function is well");
                } else {
                    tracing::warn!(%health, "the function does not say that it is well");
                }
            }
            if is_well {
                let mut metadata = Metadata::new(Kind::Presence);
                metadata.worker = Some(FUNCTION);
                // Who has no room misses it.
                drop(self.local.publish(Address::Presence, Envelope::new(metadata, Bytes::new())).await);
            }
        }
    }

    async fn call(&self, envelope: Envelope) -> Result<(), PublishError> {
        check_size(&envelope)?;
        let timeout = envelope.metadata.remaining.unwrap_or(RESPONSE_MAX);
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let targets = &self.config.targets;
        for place in 0..targets.len() {
            let target = &targets[(first + place) % targets.len()];
            let fault: Box<dyn Error + Send + Sync> = match self.client.post(target, &envelope, timeout).await
            {
                Ok(response) => match self.answered(&envelope, response).await {
                    Verdict::Taken => return Ok(()),
                    Verdict::Busy => return Err(PublishError::Busy),
                    Verdict::Nobody(status) => {
                        tracing::debug!(%status, "nobody listens at the function");
                        continue;
                    }
                    Verdict::Failed(reason) => reason.into(),
                },
                Err(PostError::NotSent(error)) => {
                    tracing::debug!(error = %DisplayChain(&error), "the function cannot be reached");
                    continue;
                }
                Err(error) => error.into(),
            };
            if self.config.idempotent {
                return Err(PublishError::Refused(fault));
            }
            let station = envelope.metadata.station.as_ref();
            tracing::warn!(?station, error = %DisplayChain(&*fault), "a call may have been processed; it is not posted again");
            // The gateway gives it up at its deadline, which is no later than this.
            tokio::time::sleep(timeout + UNSURE_GRACE).await;
            return Err(PublishError::Refused(fault));
        }
        Err(PublishError::NobodyListens)
    }

    /// Makes the answer of a response and puts it into the inbox that waits for it.
    async fn answered(&self, call: &Envelope, response: Response) -> Verdict {
        let Response { status, headers, body } = response;
        let is_send = call.metadata.kind == Kind::Send;
        let body = match status {
            status if status.is_success() && (!body.is_empty() || is_send) => body,
            status if status.is_success() => return Verdict::Failed("the response is empty".to_owned()),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => return Verdict::Nobody(status),
            StatusCode::TOO_MANY_REQUESTS => return Verdict::Busy,
            StatusCode::GATEWAY_TIMEOUT => return Verdict::Failed(format!("the status is {status}")),
            status if status.is_server_error() && self.config.idempotent => {
                return Verdict::Failed(format!("the status is {status}"));
            }
            status => {
                tracing::warn!(%status, station = ?call.metadata.station, "the function failed a call");
                internal_error(call)
            }
        };
        let sent = &call.metadata;
        let Some(inbox) = sent.reply_to.clone() else { return Verdict::Taken };
        // What the function says of itself; which call it answers is known.
        let metadata = Metadata {
            tenant: sent.tenant.clone(),
            station: sent.station.clone(),
            version: sent.version,
            action: sent.action.clone(),
            connection: sent.connection.clone(),
            seq: sent.seq,
            attempt: sent.attempt,
            journal: sent.journal,
            registration: headers::text(&headers, "ocpp-registration").and_then(|text| registration(&text)),
            worker: Some(headers::text(&headers, "ocpp-worker").unwrap_or(FUNCTION)),
            ..Metadata::new(Kind::Answer)
        };
        if let Err(error) = self.local.publish(Address::Inbox(inbox), Envelope::new(metadata, body)).await {
            tracing::debug!(%error, "an answer came to an inbox that is gone");
        }
        Verdict::Taken
    }

    /// An inbox that is not in this process: it is a gateway's, or that of somebody who waits at one.
    async fn to_peer(&self, name: &ByteString, envelope: Envelope) -> Result<(), PublishError> {
        let path = format!("{INBOX_PATH}{}", percent::encode_token(name));
        let (named, others): (Vec<_>, Vec<_>) = self.config.peers.iter().partition(|(peer, _)| peer == name);
        for (_, peer) in named.into_iter().chain(others) {
            let Some(target) = peer.below(&path) else { continue };
            match self.client.post(&target, &envelope, PEER_MAX).await {
                Ok(Response { status, .. }) if status.is_success() => return Ok(()),
                Ok(Response { status: StatusCode::NOT_FOUND, .. }) | Err(PostError::NotSent(_)) => {}
                Ok(Response { status: StatusCode::TOO_MANY_REQUESTS, .. }) => return Err(PublishError::Busy),
                Ok(Response { status, .. }) => {
                    return Err(PublishError::Refused(format!("the gateway said {status}").into()));
                }
                Err(error) => return Err(PublishError::Refused(error.into())),
            }
        }
        Err(PublishError::NobodyListens)
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

/// What a response means for its call.
enum Verdict {
    Taken,
    Busy,
    Nobody(StatusCode),
    /// It may have had its effect.
    Failed(String),
}

impl Bus for Http {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        if *self.0.local.state().borrow() == State::Closed {
            return Box::pin(std::future::ready(Err(PublishError::Closed)));
        }
        match &to {
            Address::Call { .. } => Box::pin(self.0.call(envelope)),
            Address::Inbox(name) if !self.0.config.peers.is_empty() => {
                let name = name.clone();
                Box::pin(async move {
                    match self.0.local.publish(to, envelope.clone()).await {
                        Err(PublishError::NobodyListens) => self.0.to_peer(&name, envelope).await,
                        result => result,
                    }
                })
            }
            Address::Event { .. } => {
                if let Some(target) = self.0.config.events.clone() {
                    self.0.post_event(target, envelope.clone());
                }
                self.0.local.publish(to, envelope)
            }
            _ => self.0.local.publish(to, envelope),
        }
    }

    /// Calls are given to functions; a subscriber of them in the process would get none.
    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> BoxFuture<'_, Result<Subscribed, SubscribeError>> {
        if subscription.topic == switchboard_bus::Topic::Calls {
            let error = "over HTTP calls are posted to a function: run workers with this URL to listen at";
            return Box::pin(std::future::ready(Err(SubscribeError::Refused(error.into()))));
        }
        self.0.local.subscribe(subscription, consumer)
    }

    fn state(&self) -> watch::Receiver<State> {
        self.0.local.state()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tells_nobody_listens: Tells::AtOnce,
            tells_busy: Tells::AtOnce,
            exclusive_inboxes: true,
            keeps_order: true,
            redelivers: false,
            repeatable: self.0.config.idempotent,
            body_bytes_max: crate::BODY_BYTES_MAX,
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.closed.cancel();
        self.0.local.close()
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.0.closed.cancel();
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let targets: Vec<_> = self.0.config.targets.iter().filter_map(|target| target.uri.host()).collect();
        formatter.debug_struct("Http").field("functions", &targets).finish_non_exhaustive()
    }
}

pub(crate) fn check_size(envelope: &Envelope) -> Result<(), PublishError> {
    let bytes = envelope.body.len();
    if bytes > crate::BODY_BYTES_MAX {
        return Err(PublishError::TooLarge { bytes, limit: crate::BODY_BYTES_MAX });
    }
    Ok(())
}

/// What the station of a call is told whose function failed.
fn internal_error(call: &Envelope) -> Bytes {
    let version = call.metadata.version.unwrap_or(Version::V16);
    let text = ByteString::try_from(call.body.clone()).ok();
    match text.and_then(|text| Frame::parse_head(&text, version)) {
        Some(frame) if call.metadata.kind == Kind::Call => {
            write_error(frame.id(), ErrorCode::InternalError, "the function failed", b"", version)
        }
        _ => Bytes::new(),
    }
}

fn registration(word: &str) -> Option<switchboard_bus::Registration> {
    use switchboard_bus::Registration;
    [
        ("accepted", Registration::Accepted),
        ("pending", Registration::Pending),
        ("rejected", Registration::Rejected),
    ]
    .into_iter()
    .find_map(|(name, registration)| (name == word).then_some(registration))
}

/// An error with its causes, in one line.
pub(crate) struct DisplayChain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for DisplayChain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut before = "";
        while let Some(error) = next {
            write!(formatter, "{before}{error}")?;
            (before, next) = (": ", error.source());
        }
        Ok(())
    }
}

/// Where an inbox of a gateway is posted to.
pub(crate) const INBOX_PATH: &str = "/gateway/v1/inbox/";
/// The name of a worker that is a function.
const FUNCTION: ByteString = ByteString::from_static("function");
/// How long a response is waited for where nobody says.
const RESPONSE_MAX: Duration = Duration::from_secs(30);
/// How much later than its deadline a call is let go of that may have been processed.
const UNSURE_GRACE: Duration = Duration::from_secs(5);
const PEER_MAX: Duration = Duration::from_secs(5);
const EVENT_MAX: Duration = Duration::from_secs(10);
const EVENTS_MAX: usize = 64;
