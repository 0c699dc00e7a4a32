//! The loop around the charger: a socket, a timer, and the clock.

use crate::{
    BooksHandle, Config,
    charger::{Charger, End, Moment, Reply, Wish},
    client::socket::{ConnectError, Endpoint, connect},
    quirk::Wire,
};
use bytestring::ByteString;
use futures_util::{SinkExt, StreamExt};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use switchboard_rpc::{
    Connection, MessageId,
    connection::{self, Event, Lane, Outcome, Outgoing, Role},
    frame::{write_error, write_result},
};
use tokio::{net::TcpStream, time};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long the central system may leave unread what is written.
const WRITE_MAX: Duration = Duration::from_secs(20);
/// How many pings may stay without any sign of life.
const SILENT_PINGS_MAX: u32 = 3;
/// How long a station that is being switched off waits between two attempts to connect.
const HURRY: Duration = Duration::from_millis(500);
/// How often somebody looks whether pings are wanted again, where they are not.
const PING_PAUSE: Duration = Duration::from_secs(60);

/// A simulated charging station.
#[derive(Debug)]
pub struct Simulated {
    config: Config,
    books: BooksHandle,
}

impl Simulated {
    /// A station that is switched off.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, books: BooksHandle::default() }
    }

    /// What it knows of its business, also while it runs.
    #[must_use]
    pub fn books(&self) -> BooksHandle {
        self.books.clone()
    }

    /// Switches it on and lets it live until `shutdown` is cancelled; then it ends what goes on, tells it within a few
    /// seconds, and returns.
    pub async fn run(self, shutdown: CancellationToken) {
        let charger = Charger::new(self.config.clone(), self.books, now());
        let mut life = Life {
            random: fastrand::Rng::with_seed(self.config.seed ^ 1),
            charger,
            shutdown,
            stopping: false,
            config: self.config,
            failures: 0,
        };
        while life.one_connection().await {}
    }
}

/// Why a connection has ended.
enum Ended {
    /// The network or the central system ended it.
    Lost,
    /// The station did.
    Wished(Wish),
}

struct Life {
    config: Config,
    charger: Charger,
    random: fastrand::Rng,
    shutdown: CancellationToken,
    stopping: bool,
    failures: u32,
}

impl Life {
    /// Connects, and stays connected as long as it lasts. False: the station is switched off.
    async fn one_connection(&mut self) -> bool {
        let Config { url, id, version, .. } = self.config.clone();
        let endpoint = Endpoint { url: url.to_string(), id, version };
        let password = self.charger.password();
        let connecting = connect(&endpoint, password.as_deref());
        let made = tokio::select! {
            made = connecting => Some(made),
            () = self.shutdown.cancelled(), if !self.stopping => None,
        };
        let Some(made) = made else { return self.stop() };
        let wait = match made {
            Ok(socket) => {
                self.failures = 0;
                match self.online(socket).await {
                    Ended::Wished(Wish::End) => return false,
                    Ended::Wished(Wish::Restart(wait) | Wish::Silence(wait)) => wait,
                    Ended::Lost => self.back_off(),
                }
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let why = format!("{error}{}", cause.unwrap_or_default());
                self.config.statistics.failed_to_connect(why);
                self.tell(&error);
                self.back_off()
            }
        };
        self.offline(wait).await
    }

    fn tell(&self, error: &ConnectError) {
        // The first failure is news, the following ones are not.
        let station = &self.config.id;
        let cause = std::error::Error::source(error).map(ToString::to_string);
        if self.failures == 0 {
            warn!(station, %error, cause, "no connection to the central system");
        } else {
            debug!(station, %error, cause, "no connection to the central system");
        }
    }

    /// Part 4 of 2.0.1, section 5.3: doubled with each failure up to a bound, and as much again at random.
    fn back_off(&mut self) -> Duration {
        let doubled = self.config.back_off_min.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.config.back_off_max).mul_f64(1.0 + self.random.f64())
    }

    /// It is being switched off without a connection. False: and has nothing to say any more.
    fn stop(&mut self) -> bool {
        let moment = now();
        self.stopping = true;
        self.charger.handle_shutdown(moment);
        self.charger.poll_wish(moment).is_none()
    }

    /// Waits without a connection, while cars come and go. False: the station is switched off.
    async fn offline(&mut self, wait: Duration) -> bool {
        let until = now().at + wait;
        loop {
            // Who is being switched off has bills to send and waits no longer than it must.
            let until = if self.stopping { until.min(now().at + HURRY) } else { until };
            let next = self.charger.poll_timeout().map_or(until, |at| at.min(until));
            tokio::select! {
                () = time::sleep_until(next.into()) => {}
                () = self.shutdown.cancelled(), if !self.stopping => {
                    return self.stop();
                }
            }
            let now = now();
            self.charger.handle_timeout(now);
            if self.stopping && self.charger.poll_wish(now).is_some() {
                return false;
            }
            if now.at >= until {
                return true;
            }
        }
    }

    async fn online(&mut self, socket: WebSocketStream<TcpStream>) -> Ended {
        info!(station = self.config.id, version = %self.config.version, "connected");
        let begin = now();
        let limits = Arc::new(connection::Config::default());
        let mut online = Online {
            id: self.config.id.clone(),
            answer_timeout: self.config.answer_timeout,
            rpc: Connection::new(Role::Station, self.config.version, limits, begin.at),
            socket,
            wire: Wire::new(&self.config.quirks, begin.unix_ms),
            ping_at: begin.at + self.charger.ping_interval().unwrap_or(PING_PAUSE),
            silent_pings: 0,
        };
        self.charger.handle_connected(begin);
        let ended = self.live(&mut online).await;
        let end = now();
        online.rpc.handle_close(end.at);
        while let Some(event) = online.rpc.poll_event() {
            if let Event::Ended { key, .. } = event {
                self.charger.handle_ended(key, End::Lost, end);
            }
        }
        self.charger.handle_disconnected(end);
        let code = match &ended {
            Ended::Lost => "lost",
            Ended::Wished(Wish::End) => "switched off",
            Ended::Wished(Wish::Restart(_)) => "restarting",
            Ended::Wished(Wish::Silence(_)) => "line or power fail",
        };
        info!(station = self.config.id, why = code, "disconnected");
        if matches!(ended, Ended::Wished(Wish::Restart(_) | Wish::End)) {
            online.close().await;
        }
        ended
    }

    async fn live(&mut self, online: &mut Online) -> Ended {
        loop {
            if online.pump(&mut self.charger).await.is_err() {
                return Ended::Lost;
            }
            let moment = now();
            if let Some(wish) = self.charger.poll_wish(moment) {
                return Ended::Wished(wish);
            }
            let next = [self.charger.poll_timeout(), online.rpc.poll_timeout(), Some(online.ping_at)];
            let next = next.into_iter().flatten().min().unwrap_or(online.ping_at);
            tokio::select! {
                message = online.socket.next(), if online.rpc.wants_input() => {
                    online.silent_pings = 0;
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            // Validated by the socket already.
                            let meant = online.wire.as_mut().and_then(|wire| wire.incoming(text.as_str()));
                            let text = meant.map_or_else(|| ByteString::from(text.as_str()), ByteString::from);
                            online.rpc.handle_text(text, now().at);
                        }
                        Some(Ok(Message::Close(frame))) => {
                            debug!(station = self.config.id, ?frame, "the central system closes");
                            return Ended::Lost;
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return Ended::Lost,
                    }
                }
                () = time::sleep_until(next.into()) => {
                    let now = now();
                    online.rpc.handle_timeout(now.at);
                    self.charger.handle_timeout(now);
                    if now.at >= online.ping_at && online.ping(self.charger.ping_interval(), now.at).await.is_err() {
                        return Ended::Lost;
                    }
                }
                () = self.shutdown.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    self.charger.handle_shutdown(now());
                }
            }
        }
    }
}

/// The socket is of no use any more.
struct Broken;

/// One connection.
struct Online {
    id: String,
    answer_timeout: Duration,
    rpc: Connection,
    socket: WebSocketStream<TcpStream>,
    /// What it does to whole messages that it should not.
    wire: Option<Wire>,
    ping_at: Instant,
    silent_pings: u32,
}

impl Online {
    /// Carries calls, events and texts between charger, core and socket until all are silent.
    async fn pump(&mut self, charger: &mut Charger) -> Result<(), Broken> {
        loop {
            let mut silent = true;
            let moment = now();
            while let Some(transmit) = self.rpc.poll_transmit(moment.at) {
                silent = false;
                match &mut self.wire {
                    None => self.write(Message::text(transmit.text.to_string())).await?,
                    Some(wire) => {
                        for text in wire.outgoing(&transmit.text) {
                            self.write(Message::text(text)).await?;
                        }
                    }
                }
            }
            while let Some(event) = self.rpc.poll_event() {
                silent = false;
                self.happened(event, charger, moment)?;
            }
            while let Some(call) = charger.poll_call(moment) {
                silent = false;
                let outgoing = Outgoing {
                    key: call.key,
                    id: MessageId::new(&uuid::Uuid::new_v4().to_string()),
                    action: ByteString::from_static(call.action),
                    payload: call.payload.to_string().into(),
                    lane: Lane::Normal,
                    answer_timeout: self.answer_timeout,
                    queue_timeout: self.answer_timeout,
                };
                if self.rpc.call(outgoing, moment.at).is_err() {
                    charger.handle_ended(call.key, End::Lost, moment);
                    return Err(Broken);
                }
            }
            if silent {
                return Ok(());
            }
        }
    }

    fn happened(&mut self, event: Event, charger: &mut Charger, moment: Moment) -> Result<(), Broken> {
        match event {
            Event::Called(called) => {
                let answer = match charger.handle_called(&called.action, called.payload.as_bytes(), moment) {
                    Reply::Result(payload) => write_result(&called.id, payload.to_string().as_bytes()),
                    Reply::Error(code, description) => {
                        write_error(&called.id, code, &description, b"{}", self.rpc.version())
                    }
                };
                // Refused only if the connection has ended meanwhile.
                self.rpc.answer(called.seq, answer, moment.at).map_err(|_| Broken)?;
            }
            Event::Ended { key, outcome } => {
                let end = match outcome {
                    Outcome::Answered { payload, .. } => {
                        serde_json::from_str(&payload).map_or(End::Failed, End::Answered)
                    }
                    Outcome::Refused { code, description, .. } => {
                        debug!(station = self.id, %code, %description, "the central system refused a call");
                        End::Refused
                    }
                    Outcome::MalformedAnswer { .. } | Outcome::TimedOut | Outcome::Expired => End::Failed,
                    _ => End::Lost,
                };
                charger.handle_ended(key, end, moment);
            }
            Event::Close { code, reason } => {
                warn!(station = self.id, code, reason, "the central system breaks the protocol");
                return Err(Broken);
            }
            _ => {}
        }
        Ok(())
    }

    async fn ping(&mut self, every: Option<Duration>, now: Instant) -> Result<(), Broken> {
        self.ping_at = now + every.unwrap_or(PING_PAUSE);
        if every.is_none() {
            return Ok(());
        }
        self.silent_pings += 1;
        if self.silent_pings > SILENT_PINGS_MAX {
            return Err(Broken);
        }
        self.write(Message::Ping(bytes::Bytes::new())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Broken> {
        match time::timeout(WRITE_MAX, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Broken),
        }
    }

    /// Closes in a friendly way, if the other side lets it.
    async fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "switched off".into() };
        let closing = async {
            if self.socket.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        // Whoever does not answer a close is left alone after a second.
        drop(time::timeout(Duration::from_secs(1), closing).await);
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where this crate reads the clocks")]
pub(crate) fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment { at: Instant::now(), unix_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) }
}
