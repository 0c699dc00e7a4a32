//! Calls, posted to functions.

use crate::bus::Inner;
use crate::client::{Client, PostError, Response};
use crate::config::{Config, Target};
use crate::headers;
use bytes::Bytes;
use bytestring::ByteString;
use http::StatusCode;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use switchboard_bus::{
    Address, Bus as _, Envelope, InProcess, Kind, Metadata, PublishError, Registration,
    presence::BEAT_DEFAULT,
};
use switchboard_rpc::{ErrorCode, Frame, Version, frame::write_error};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// The functions that calls are posted to.
pub(crate) struct Functions {
    all: Vec<Arc<Function>>,
    /// Which one the next call goes to.
    turn: AtomicUsize,
    idempotent: bool,
}

/// One of them.
struct Function {
    target: Target,
    /// Whether it said lately that it is well; always, where it is not asked.
    is_well: watch::Sender<bool>,
    /// Whether it did, and not only nobody has asked yet.
    says_so: AtomicBool,
    /// Room for calls that are posted at once. Each has a connection of its own for that time; further ones wait here, one per
    /// station at most.
    room: Semaphore,
}

impl Functions {
    pub(crate) fn new(config: &Config) -> Self {
        let function = |target: &Target| {
            let is_well = watch::Sender::new(true);
            let room = Semaphore::new(POSTS_MAX);
            Arc::new(Function { target: target.clone(), is_well, says_so: AtomicBool::new(false), room })
        };
        Self {
            all: config.targets.iter().map(function).collect(),
            turn: AtomicUsize::new(0),
            idempotent: config.idempotent,
        }
    }

    /// Begins to ask those that are to be asked whether they are well.
    pub(crate) fn watch(&self, client: &Client, local: &InProcess, closed: &CancellationToken) {
        for (number, function) in self.all.iter().enumerate() {
            let Some(health) = function.target.health.clone() else { continue };
            let (function, client) = (Arc::clone(function), client.clone());
            let (local, closed) = (local.clone(), closed.clone());
            let name = ByteString::from(format!("function-{}", number + 1));
            tokio::spawn(async move {
                closed.run_until_cancelled(function.listen_to(&health, name, &client, &local)).await;
            });
        }
    }

    /// In the order in which they are to be tried: each has its turn, and those that are not well come last.
    fn in_turn(&self) -> impl Iterator<Item = &Arc<Function>> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.all.len();
        let (before, after) = self.all.split_at(first);
        let in_turn = move |well: bool| {
            after.iter().chain(before).filter(move |function| *function.is_well.borrow() == well)
        };
        // Read twice; whoever becomes well, or ceases to be, in between is tried twice or not at all this time.
        in_turn(true).chain(in_turn(false))
    }

    /// Posts a call until somebody takes it, and waits for the answer.
    pub(crate) async fn call(&self, inner: &Inner, envelope: Envelope) -> Result<(), PublishError> {
        let timeout = envelope.metadata.remaining.unwrap_or(RESPONSE_MAX);
        let mut is_busy = false;
        for function in self.in_turn() {
            let uri = &function.target.uri;
            let fault: Box<dyn Error + Send + Sync> = match function
                .post(inner, &envelope, timeout, self.idempotent)
                .await
            {
                Ok(response) => match self.answered(inner, &envelope, response).await {
                    Verdict::Taken => return Ok(()),
                    Verdict::Busy => {
                        is_busy = true;
                        continue;
                    }
                    // It is there, and says itself that it cannot now.
                    Verdict::Nobody(StatusCode::SERVICE_UNAVAILABLE) if function.says_that_it_is_well() => {
                        tracing::debug!(%uri, "the function is well and takes no calls");
                        is_busy = true;
                        continue;
                    }
                    Verdict::Nobody(status @ (StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE)) => {
                        tracing::debug!(%status, %uri, "nobody listens at the function");
                        continue;
                    }
                    Verdict::Nobody(status) => {
                        tracing::warn!(%status, %uri, "the function refuses calls: look at its URL and credentials");
                        continue;
                    }
                    Verdict::Failed(reason) => reason.into(),
                },
                Err(PostError::NotSent(error)) => {
                    tracing::debug!(error = %DisplayChain(&error), %uri, "the function cannot be reached");
                    continue;
                }
                Err(error) => error.into(),
            };
            let station = envelope.metadata.station.as_ref();
            if self.idempotent {
                tracing::debug!(?station, %uri, error = %DisplayChain(&*fault), "a call was not answered; it is posted again");
            } else {
                tracing::warn!(
                    ?station, %uri, error = %DisplayChain(&*fault),
                    "a call may have been processed; it is not posted again"
                );
            }
            return Err(PublishError::Refused(fault));
        }
        Err(if is_busy { PublishError::Busy } else { PublishError::NobodyListens })
    }

    /// Makes the answer of a response and puts it into the inbox that waits for it.
    async fn answered(&self, inner: &Inner, call: &Envelope, response: Response) -> Verdict {
        let Response { status, headers, body } = response;
        let sent = &call.metadata;
        let body = match status {
            _ if status.is_success() && sent.reply_to.is_none() => return Verdict::Taken,
            _ if status.is_success()
                && (body.starts_with(b"[") || (body.is_empty() && sent.kind == Kind::Send)) =>
            {
                body
            }
            // A page of something between us and the function, perhaps.
            _ if status.is_success() => {
                return Verdict::Failed(format!("the response of {status} holds no answer"));
            }
            StatusCode::TOO_MANY_REQUESTS => return Verdict::Busy,
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED
            | StatusCode::MISDIRECTED_REQUEST => return Verdict::Nobody(status),
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => {
                return Verdict::Failed(format!("the status is {status}"));
            }
            _ if status.is_server_error() && self.idempotent => {
                return Verdict::Failed(format!("the status is {status}"));
            }
            status => {
                tracing::warn!(%status, station = ?sent.station, "the function failed a call");
                internal_error(call)
            }
        };
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
        if let Err(error) = inner.local.publish(Address::Inbox(inbox), Envelope::new(metadata, body)).await {
            tracing::debug!(%error, "an answer came to an inbox that is gone");
        }
        Verdict::Taken
    }
}

impl Function {
    /// Posts a call when there is room, and waits for the response. One that falls silent meanwhile is given up, if the call
    /// may be given to another.
    async fn post(
        &self,
        inner: &Inner,
        envelope: &Envelope,
        timeout: Duration,
        idempotent: bool,
    ) -> Result<Response, PostError> {
        let posting = async {
            let Ok(_room) = self.room.acquire().await else { return Err(PostError::Silent) };
            let silent =
                async { if idempotent { self.falls_silent().await } else { std::future::pending().await } };
            tokio::select! {
                response = inner.client.post(&self.target, envelope, timeout) => response,
                () = silent => Err(PostError::Silent),
            }
        };
        tokio::time::timeout(timeout, posting).await.unwrap_or(Err(PostError::TimedOut(timeout)))
    }

    fn says_that_it_is_well(&self) -> bool {
        self.says_so.load(Ordering::Relaxed)
    }

    /// Ends when it has not been well for a while. One that was not from the beginning has that while, too.
    async fn falls_silent(&self) {
        let mut is_well = self.is_well.subscribe();
        loop {
            // The sender lives as long as this.
            drop(is_well.wait_for(|well| !well).await);
            let again = tokio::time::timeout(SILENCE_MAX, is_well.wait_for(|well| *well)).await;
            if again.is_err() {
                return;
            }
        }
    }

    /// Asks it every beat, and tells the process of one that is well as a worker's sign of life does.
    async fn listen_to(&self, health: &http::Uri, name: ByteString, client: &Client, local: &InProcess) {
        let mut ticks = tokio::time::interval(BEAT_DEFAULT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut was_well = None;
        loop {
            ticks.tick().await;
            let is_well = client.is_well(health, SILENCE_MAX).await;
            self.says_so.store(is_well, Ordering::Relaxed);
            self.is_well.send_if_modified(|before| std::mem::replace(before, is_well) != is_well);
            if was_well.replace(is_well) != Some(is_well) {
                if is_well {
                    tracing::info!(%health, "the function is well");
                } else {
                    tracing::warn!(%health, "the function does not say that it is well");
                }
            }
            if is_well {
                let mut metadata = Metadata::new(Kind::Presence);
                metadata.worker = Some(name.clone());
                // Who has no room misses it.
                drop(local.publish(Address::Presence, Envelope::new(metadata, Bytes::new())).await);
            }
        }
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.all.iter().filter_map(|function| function.target.uri.authority());
        formatter.debug_list().entries(hosts).finish()
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

fn registration(word: &str) -> Option<Registration> {
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

/// The name of a worker that does not say one.
const FUNCTION: ByteString = ByteString::from_static("function");
/// How long a response is waited for where nobody says.
const RESPONSE_MAX: Duration = Duration::from_secs(30);
/// Calls that are posted to one function at once.
const POSTS_MAX: usize = 1024;
/// A function that is silent for longer does not live: as long as a worker's presence may stay away.
const SILENCE_MAX: Duration = Duration::from_millis(1125);
