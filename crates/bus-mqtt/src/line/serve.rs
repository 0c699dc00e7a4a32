//! The task of a line: connects, writes, reads, and begins again.

use super::{
    Ack, Listener, PACE_TICK,
    state::{Outcome, PACKET_BYTES_MAX, Phase, Publisher, Request, Shared},
};
use crate::packet::{self, Hello, Level, Limits, Malformed, Packet};
use bytes::{Buf as _, BytesMut};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};
use switchboard_bus::Endpoint;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::io::poll_read_buf;

/// A socket, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the broker cannot be reached")]
    Io(#[from] io::Error),
    #[error("the broker's certificate cannot be trusted; the ca_file names its authority, the URL its host")]
    Untrusted(#[source] io::Error),
    #[error("the broker did not answer in time")]
    Silent,
    #[error("the broker answers nothing that it is asked, although it talks")]
    Evasive,
    #[error("the broker talks and takes nothing")]
    Deaf,
    #[error("the host's name cannot be used with TLS")]
    Name,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the broker does not let us in ({0:#04x}): {advice}", advice = refusal(*.0))]
    Refused(u8),
    #[error("the broker does not allow a subscription ({0:#04x}): give this user the right to subscribe")]
    Subscription(u8),
    #[error("the broker lacks something: {0}")]
    Unfit(&'static str),
    #[error("the broker closed the connection ({0:#04x}): {advice}", advice = farewell(*.0))]
    Closed(u8),
}

impl Fault {
    /// How long the next attempt may wait. A broker that is away is back at any moment, and to knock costs nothing; one
    /// that turns us away will hardly have changed its mind, and two who have one name take it from each other.
    const fn pause_max(&self) -> Duration {
        match self {
            Self::Io(_) | Self::Silent => PAUSE_MAX,
            _ => REFUSED_PAUSE_MAX,
        }
    }
}

/// Connects, again and again until the line is closed.
pub(super) async fn run(shared: Arc<Shared>, listener: Weak<dyn Listener>) {
    let client_id = &shared.settings.client_id;
    let pause_min = shared.settings.pause_min;
    let mut pause = pause_min;
    let mut pause_max = PAUSE_MAX;
    let mut told = Vec::new();
    loop {
        for endpoint in &shared.settings.endpoints {
            let connecting = async { timeout(CONNECT_MAX, connect(&shared, endpoint)).await };
            let connected = tokio::select! {
                () = shared.closing.cancelled() => return,
                connected = connecting => connected.unwrap_or(Err(Fault::Silent)),
            };
            let fault = match connected {
                Ok((stream, read, limits)) => {
                    let since = Instant::now();
                    let fault = serve(&shared, &listener, stream, read, &limits, || {
                        tracing::info!(broker = %endpoint, client_id, "connected to the MQTT broker");
                        told.clear();
                    })
                    .await;
                    if since.elapsed() >= LASTING {
                        pause = pause_min;
                    }
                    let ended = shared.lock().end();
                    shared.up.send_replace(false);
                    if let Some(listener) = listener.upgrade() {
                        listener.turned(client_id, false);
                    }
                    ended.tell();
                    fault
                }
                Err(fault) => Some(fault),
            };
            let Some(fault) = fault else { return };
            pause_max = fault.pause_max();
            let error: &dyn std::error::Error = &fault;
            let reason = format!("{endpoint} {error}");
            // Once for each reason, not for each attempt.
            if told.contains(&reason) {
                tracing::debug!(broker = %endpoint, client_id, error, "the MQTT broker is still away");
            } else {
                tracing::warn!(broker = %endpoint, client_id, error, "the MQTT broker is away: it is waited for");
                if told.len() < TOLD_MAX {
                    told.push(reason);
                }
            }
        }
        pause = pause.min(pause_max.max(pause_min));
        tokio::select! {
            () = shared.closing.cancelled() => return,
            () = tokio::time::sleep(pause.mul_f64(0.75 + 0.5 * fastrand::f64())) => {}
        }
        pause *= 2;
    }
}

async fn connect(shared: &Shared, endpoint: &Endpoint) -> Result<(Box<dyn Stream>, BytesMut, Limits), Fault> {
    let settings = &shared.settings;
    let socket = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    // Otherwise a small packet waits for the acknowledgement of the one before it: 11 calls a second.
    socket.set_nodelay(true)?;
    let mut stream: Box<dyn Stream> = if endpoint.scheme.tls {
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| Fault::Name)?;
        Box::new(settings.tls.connect(name, socket).await.map_err(|error| match is_untrusted(&error) {
            true => Fault::Untrusted(error),
            false => error.into(),
        })?)
    } else {
        Box::new(socket)
    };
    let mut buffer = BytesMut::new();
    let hello = Hello {
        client_id: &settings.client_id,
        keep_alive_seconds: settings.keep_alive_seconds,
        user: endpoint.user.as_deref(),
        password: endpoint.password.as_ref().map(|password| password.reveal()),
        receive_max: Some(settings.receive_max),
        packet_bytes_max: u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX),
    };
    packet::put_connect(&mut buffer, settings.level, &hello);
    stream.write_all(&buffer).await?;
    stream.flush().await?;
    buffer.clear();
    loop {
        match packet::take(&mut buffer, settings.level, PACKET_BYTES_MAX)? {
            Some(Packet::Connected { reason: 0, limits }) => {
                return match limits {
                    _ if settings.level == Level::V4 => Ok((stream, buffer, limits)),
                    Limits { shared_subscriptions: false, .. } => Err(Fault::Unfit("shared subscriptions")),
                    Limits { qos_max: 0, .. } => Err(Fault::Unfit("quality of service 1")),
                    limits => Ok((stream, buffer, limits)),
                };
            }
            Some(Packet::Connected { reason, .. }) => return Err(Fault::Refused(reason)),
            Some(_) => return Err(Malformed("something before its CONNACK").into()),
            None if stream.read_buf(&mut buffer).await? == 0 => {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            None => {}
        }
    }
}

/// Whether it is the broker's certificate that we do not accept.
fn is_untrusted(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>());
    matches!(error, Some(tokio_rustls::rustls::Error::InvalidCertificate(_)))
}

/// Serves one connection until it is lost; none if the line was closed from our side.
async fn serve(
    shared: &Arc<Shared>,
    listener: &Weak<dyn Listener>,
    stream: Box<dyn Stream>,
    read: BytesMut,
    limits: &Limits,
    is_up: impl FnMut(),
) -> Option<Fault> {
    let mut ticks = interval(if shared.settings.pace.is_some() { PACE_TICK } else { TICK });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let own = shared.settings.keep_alive_seconds;
    let keep_alive = limits.keep_alive_seconds.filter(|seconds| *seconds > 0).unwrap_or(own).min(own);
    let ticks_of = |time: Duration| u32::try_from(time.as_millis() / ticks.period().as_millis()).unwrap_or(1);
    let mut serving = Serving {
        shared,
        listener,
        stream,
        read,
        writing: BytesMut::new(),
        is_unflushed: false,
        epoch: 0,
        silent: 0,
        quiet: 0,
        unanswered: 0,
        silence_max: ticks_of(SILENCE_MAX).max(2),
        quiet_max: ticks_of(Duration::from_secs(keep_alive.into()) / 2).max(1),
        ticks,
        is_up,
        is_leaving: false,
    };
    let nothing_to_wait_for = {
        let mut state = shared.lock();
        let done = state.begin(&shared.settings, limits);
        serving.epoch = state.epoch;
        done
    };
    if nothing_to_wait_for {
        serving.turn_up();
    }
    poll_fn(|context| serving.poll(context)).await.err()
}

struct Serving<'a, F> {
    shared: &'a Arc<Shared>,
    listener: &'a Weak<dyn Listener>,
    stream: Box<dyn Stream>,
    read: BytesMut,
    writing: BytesMut,
    is_unflushed: bool,
    epoch: u64,
    /// Ticks since something was read.
    silent: u32,
    /// Ticks since something was written.
    quiet: u32,
    /// Ticks since it answered something, while we wait for an answer.
    unanswered: u32,
    silence_max: u32,
    quiet_max: u32,
    ticks: Interval,
    is_up: F,
    is_leaving: bool,
}

impl<F: FnMut()> Serving<'_, F> {
    /// Ends with `Ok` when leave was taken.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.shared.waker.register(context.waker());
        self.shared.lock().is_awake = true;
        let level = self.shared.settings.level;
        for _ in 0..ROUNDS_MAX {
            while self.ticks.poll_tick(context).is_ready() {
                self.tick()?;
            }
            let is_blocked = self.poll_write(context)?.is_pending();
            if !is_blocked && self.is_leaving {
                return Poll::Ready(Ok(()));
            }
            // What was taken out of the buffer lives on in whoever holds it.
            if self.read.capacity() - self.read.len() < READ_MIN {
                self.read.reserve(READ_BYTES);
            }
            if let Poll::Ready(bytes) = poll_read_buf(Pin::new(&mut self.stream), context, &mut self.read)? {
                if bytes == 0 {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
                }
                self.silent = 0;
                while let Some(packet) = packet::take(&mut self.read, level, PACKET_BYTES_MAX)? {
                    self.handle(packet)?;
                }
                continue;
            }
            let mut state = self.shared.lock();
            if state.phase == Phase::Closing && state.is_idle() && self.writing.is_empty() && !self.is_leaving
            {
                state.disconnect();
                self.is_leaving = true;
            }
            // Blocked, the socket wakes us, and what is to be written has to wait for that anyway.
            if is_blocked || state.out.is_empty() {
                state.is_awake = is_blocked;
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            if self.writing.is_empty() {
                self.writing.clear();
                if self.writing.capacity() > BUFFER_KEPT {
                    self.writing = BytesMut::new();
                }
                std::mem::swap(&mut self.shared.lock().out, &mut self.writing);
            }
            if self.writing.is_empty() {
                break;
            }
            match Pin::new(&mut self.stream).poll_write(context, &self.writing)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                Poll::Ready(bytes) => {
                    self.writing.advance(bytes);
                    self.is_unflushed = true;
                    self.quiet = 0;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.is_unflushed {
            match Pin::new(&mut self.stream).poll_flush(context)? {
                Poll::Ready(()) => self.is_unflushed = false,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn handle(&mut self, packet: Packet) -> Result<(), Fault> {
        match packet {
            Packet::Message(message) => {
                let ack = Ack(message.id.map(|id| (Arc::clone(self.shared), self.epoch, id)));
                if let Some(listener) = self.listener.upgrade() {
                    listener.message(message, ack);
                }
            }
            Packet::Published { id, reason } => {
                let publisher = self.shared.lock().acknowledged(id);
                match publisher {
                    // Whoever gave up does not care.
                    Some(Publisher::Caller(sender)) => drop(sender.send(Outcome::Acknowledged(reason))),
                    Some(Publisher::Line) => {
                        self.shared.lock().tells_nobody_listens = reason == NOBODY_LISTENS;
                        self.restored();
                    }
                    None => tracing::debug!(id, "the broker acknowledged what was not published"),
                }
            }
            Packet::Subscribed { id, reasons } => {
                let reason = reasons.iter().copied().max().unwrap_or(0);
                let request = self.shared.lock().answered(id);
                match request {
                    Some(Request::Subscribe(sender)) => drop(sender.send(reason)),
                    Some(Request::Restore | Request::Forget) if reason >= 0x80 => {
                        return Err(Fault::Subscription(reason));
                    }
                    Some(Request::Restore) => self.restored(),
                    Some(Request::Forget) | None => {}
                }
            }
            Packet::Unsubscribed { id } => drop(self.shared.lock().answered(id)),
            Packet::Disconnected { reason } => return Err(Fault::Closed(reason)),
            Packet::Pong => {}
            Packet::Connected { .. } => return Err(Malformed("a second CONNACK").into()),
        }
        Ok(())
    }

    /// One of the answers came that are waited for.
    fn restored(&mut self) {
        let mut state = self.shared.lock();
        state.restoring = state.restoring.saturating_sub(1);
        let is_last = state.restoring == 0 && state.phase == Phase::Away;
        drop(state);
        if is_last {
            self.turn_up();
        }
    }

    fn turn_up(&mut self) {
        {
            let mut state = self.shared.lock();
            if state.phase != Phase::Away {
                return;
            }
            state.phase = Phase::Up;
        }
        (self.is_up)();
        self.shared.up.send_replace(true);
        if let Some(listener) = self.listener.upgrade() {
            listener.turned(&self.shared.settings.client_id, true);
        }
    }

    fn tick(&mut self) -> Result<(), Fault> {
        let mut state = self.shared.lock();
        if let Some(pace) = self.shared.settings.pace {
            state.earn(pace);
        }
        self.silent += 1;
        self.quiet += 1;
        // A ping goes out well before anybody could lose patience, and makes the broker break its silence.
        if self.silent == self.silence_max / 3 || self.quiet >= self.quiet_max {
            state.ping();
            self.quiet = 0;
        }
        if self.silent > self.silence_max || (self.silent == self.silence_max && state.expects_word()) {
            return Err(Fault::Silent);
        }
        // It may also talk and never come to the point; whoever publishes would wait for good.
        let waits = state.expects_word() && !std::mem::take(&mut state.is_answered);
        self.unanswered = if waits { self.unanswered + 1 } else { 0 };
        if self.unanswered > self.silence_max {
            return Err(Fault::Evasive);
        }
        if state.out.len() > OUT_BYTES_MAX {
            return Err(Fault::Deaf);
        }
        Ok(())
    }
}

const fn refusal(reason: u8) -> &'static str {
    match reason {
        0x01 | 0x84 => {
            "it does not speak this MQTT; one without MQTT 5 serves the bare mode only (?mode=bare)"
        }
        0x02 | 0x85 => "it does not like the client id, which is made of the participant's name",
        0x04 | 0x86 => "check user and password",
        0x05 | 0x87 => "check user and password, and what this user may do",
        0x8c => "it wants another kind of authentication",
        _ => "its log may say why",
    }
}

const fn farewell(reason: u8) -> &'static str {
    match reason {
        TAKEN_OVER => "another process has this participant's name; give each its own",
        0x8b => "it is shutting down",
        0x93 => "more was on its way than it takes",
        0x95 => "a packet was larger than it takes",
        0x96 => "more was published than it allows",
        _ => "its log may say why",
    }
}

/// A PUBACK's reason: no matching subscribers.
pub(crate) const NOBODY_LISTENS: u8 = 0x10;
/// A DISCONNECT's reason: the session was taken over.
const TAKEN_OVER: u8 = 0x8e;
/// A broker that is silent for longer although it was asked is away.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How many reasons are remembered; an endpoint has few.
const TOLD_MAX: usize = 64;
const TICK: Duration = Duration::from_secs(1);
const CONNECT_MAX: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A connection that did not last so long counts as one more that failed: two who have one name would else take it from
/// each other many times a second.
const LASTING: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 16 * 1024;
const READ_MIN: usize = 4 * 1024;
/// A buffer that has grown larger is not kept.
const BUFFER_KEPT: usize = 256 * 1024;
/// So much is never left to be written by publishers; acknowledgements are more only where the broker does not read them.
const OUT_BYTES_MAX: usize = 2 * PACKET_BYTES_MAX;
/// Rounds of work before other tasks have their turn.
const ROUNDS_MAX: usize = 64;
