//! The side of processing: requests come in, and workers of this process answer them.

use crate::client::{Client, PostError};
use crate::config::Config;
use crate::gateway::{DisplayChain, check_size};
use crate::headers;
use crate::server::{Answer, empty, is_allowed, said, serve};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use switchboard_bus::{
    Address, Bus, Capabilities, Connect, ConnectError, Consumer, Done, Envelope, InProcess, Kind,
    PublishError, State, SubscribeError, Subscribed, Subscription, Topic,
};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// A bus whose calls come as requests: `worker::serve(router, function, …)` makes an HTTP function of a router.
///
/// - The URL says where to listen. `POST` to its path is a call; `GET` says 200 while a worker takes calls, else 503.
/// - Without a worker a call gets 503, and 429 if the hands of all are full. One that nobody answers in time gets 504.
/// - With credentials in the URL requests must carry them; without, only this host may make any.
/// - `?gateway=URL`: commands to stations are posted there. It may be any gateway that knows the others as its peers.
#[derive(Debug)]
pub struct Function {
    inner: Arc<Inner>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Inner {
    local: InProcess,
    config: Config,
    client: Client,
    /// A worker takes calls.
    listens: Arc<AtomicBool>,
    next: AtomicU64,
    closed: CancellationToken,
}

impl Function {
    /// Listens.
    ///
    /// # Errors
    /// When it can never work, or the port is taken.
    pub fn listen(connect: &Connect) -> Result<Self, ConnectError> {
        let (config, endpoints) = Config::read(connect)?;
        let endpoint = &endpoints[0];
        if endpoint.scheme.tls {
            return Err(ConnectError::Url {
                url: endpoint.to_string(),
                reason: "a function listens without TLS; let what stands in front of it end TLS".to_owned(),
            });
        }
        let fault = |error: std::io::Error| ConnectError::Driver(error.into());
        let listener = TcpListener::bind((endpoint.host.as_str(), endpoint.port)).map_err(fault)?;
        Self::serve(config, Client::new(&connect.tls)?, listener).map_err(fault)
    }

    fn serve(config: Config, client: Client, listener: TcpListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let inner = Arc::new(Inner {
            local: InProcess::new(),
            config,
            client,
            listens: Arc::default(),
            next: AtomicU64::new(0),
            closed: CancellationToken::new(),
        });
        let answering = Arc::clone(&inner);
        tokio::spawn(serve(listener, inner.closed.clone(), move |request, peer| {
            let inner = Arc::clone(&answering);
            async move { inner.answer(request, peer).await }
        }));
        Ok(Self { inner, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        if request.method() == Method::GET || request.method() == Method::HEAD {
            let listens = self.listens.load(Ordering::Relaxed);
            return empty(if listens { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE });
        }
        if request.method() != Method::POST {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        if !is_allowed(request.headers(), peer, self.config.authorization.as_ref()) {
            return said(StatusCode::UNAUTHORIZED, "the credentials of the bus are missing\n");
        }
        let metadata = match headers::read(request.headers()) {
            Ok(metadata) => metadata,
            Err(error) => return said(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let (true, Some(station)) =
            (matches!(metadata.kind, Kind::Call | Kind::Send), metadata.station.clone())
        else {
            return said(StatusCode::BAD_REQUEST, "only calls of stations are answered\n");
        };
        let Ok(body) = headers::body(request.into_body()).await else {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        };
        self.call(Address::Call { tenant: metadata.tenant.clone(), station }, Envelope::new(metadata, body))
            .await
    }

    /// Gives a call to a worker and waits for its answer at an inbox of its own.
    async fn call(&self, to: Address, mut call: Envelope) -> Answer {
        let (answered, answer) = oneshot::channel();
        let inbox = ByteString::from(format!("request-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let subscription = Subscription { topic: Topic::Inbox(inbox.clone()), in_hand_max: NonZeroU32::MAX };
        let consumer = Arc::new(Awaited(Mutex::new(Some(answered))));
        let Ok(_subscribed) = self.local.subscribe(subscription, consumer).await else {
            return empty(StatusCode::SERVICE_UNAVAILABLE);
        };
        call.metadata.reply_to = Some(inbox);
        let limit = call.metadata.remaining.unwrap_or(ANSWER_MAX);
        match self.local.publish(to, call).await {
            Ok(()) => {}
            Err(PublishError::Busy) => return empty(StatusCode::TOO_MANY_REQUESTS),
            Err(PublishError::TooLarge { .. }) => return empty(StatusCode::PAYLOAD_TOO_LARGE),
            Err(_) => return empty(StatusCode::SERVICE_UNAVAILABLE),
        }
        let Ok(Ok(answer)) = tokio::time::timeout(limit, answer).await else {
            return empty(StatusCode::GATEWAY_TIMEOUT);
        };
        let mut response = said(StatusCode::OK, answer.body);
        headers::write(&answer.metadata, response.headers_mut());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Posts a command to a gateway, waits for its outcome there, and puts it into the inbox that waits for it here.
    async fn command(&self, command: Envelope) -> Result<(), PublishError> {
        check_size(&command)?;
        let target = self.config.gateway.as_ref().and_then(|gateway| gateway.below(COMMANDS_PATH));
        let Some(target) = target else {
            let reason = "no gateway is known to post commands to: add ?gateway=URL to the URL of the bus";
            return Err(PublishError::Refused(reason.into()));
        };
        // It may wait that long for its turn, and as long again for its answer.
        let limit = command.metadata.remaining.unwrap_or(ANSWER_MAX).saturating_mul(2) + COMMAND_GRACE;
        let response = self.client.post(&target, &command, limit).await.map_err(|error| match error {
            PostError::NotSent(error) => {
                tracing::warn!(error = %DisplayChain(&error), "the gateway cannot be reached");
                PublishError::Away
            }
            error => PublishError::Refused(error.into()),
        })?;
        let outcome = headers::read(&response.headers);
        match (outcome, command.metadata.reply_to) {
            (Ok(metadata), Some(inbox)) if metadata.kind == Kind::Outcome => {
                self.local.publish(Address::Inbox(inbox), Envelope::new(metadata, response.body)).await
            }
            _ if response.status.is_success() => Ok(()),
            // Everything else says that it went nowhere.
            _ => Err(PublishError::Away),
        }
    }
}

/// Waits for the one envelope that an inbox gets.
struct Awaited(Mutex<Option<oneshot::Sender<Envelope>>>);

impl Consumer for Awaited {
    fn deliver(&self, envelope: Envelope, _done: Done) {
        let answered = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answered) = answered {
            // Whoever asked may have gone.
            drop(answered.send(envelope));
        }
    }
}

impl Bus for Function {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        let is_closed = *self.inner.local.state().borrow() == State::Closed;
        let leads_to_gateway = matches!(to, Address::Inbox(_) | Address::Command { .. });
        if !is_closed && leads_to_gateway && envelope.metadata.kind == Kind::Command {
            return Box::pin(self.inner.command(envelope));
        }
        self.inner.local.publish(to, envelope)
    }

    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> BoxFuture<'_, Result<Subscribed, SubscribeError>> {
        let is_calls = subscription.topic == Topic::Calls;
        Box::pin(async move {
            let subscribed = self.inner.local.subscribe(subscription, consumer).await?;
            if !is_calls {
                return Ok(subscribed);
            }
            self.inner.listens.store(true, Ordering::Relaxed);
            let listens = Arc::clone(&self.inner.listens);
            Ok(Subscribed::new(move || {
                listens.store(false, Ordering::Relaxed);
                drop(subscribed);
            }))
        })
    }

    fn state(&self) -> watch::Receiver<State> {
        self.inner.local.state()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { body_bytes_max: crate::BODY_BYTES_MAX, ..self.inner.local.capabilities() }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.closed.cancel();
        self.inner.local.close()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.inner.closed.cancel();
    }
}

/// Where commands are posted to.
pub(crate) const COMMANDS_PATH: &str = "/gateway/v1/commands";
/// How long an answer is waited for where nobody says.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const COMMAND_GRACE: Duration = Duration::from_secs(10);
