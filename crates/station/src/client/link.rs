//! The machine's socket and clock: what a client decides is done here, and what happens is told to it.

use super::{
    event::Event,
    machine::{Client, Step, chain},
    socket::{ConnectError, Endpoint, Socket, connect},
};
use bytestring::ByteString;
use futures_util::{FutureExt, SinkExt, StreamExt, future::BoxFuture};
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

/// How long the central system may leave unread what is written.
const WRITE_MAX: Duration = Duration::from_secs(20);
/// How long it may take to answer a close.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// How much is read in one go before others have their turn.
const READS_MAX: usize = 32;

/// The socket of a client, made, used and closed as the client says.
pub(crate) struct Link {
    state: State,
    ping: bool,
    /// Since when nothing can be written.
    blocked: Option<Instant>,
    /// A socket that is being closed.
    lingering: Option<BoxFuture<'static, ()>>,
    timer: Option<Pin<Box<Sleep>>>,
    filter: Option<Box<Filtered>>,
}

/// Changes what goes over the line, as stations do that are not what they should be.
pub(crate) trait Filter: Send {
    /// A connection was made.
    fn connected(&mut self);
    /// What is written instead of this text.
    fn outgoing(&mut self, text: &str) -> Vec<String>;
    /// What this text means to the station, if it is something else than what it says.
    fn incoming(&mut self, text: &str) -> Option<String>;
}

struct Filtered {
    filter: Box<dyn Filter>,
    /// What is still to be written of what it made of the last text.
    written: VecDeque<String>,
}

enum State {
    Down,
    Connecting(BoxFuture<'static, Result<Socket, ConnectError>>),
    Up(Box<Socket>),
}

impl Link {
    pub(crate) fn new(filter: Option<Box<dyn Filter>>) -> Self {
        let filter = filter.map(|filter| Box::new(Filtered { filter, written: VecDeque::new() }));
        Self { state: State::Down, ping: false, blocked: None, lingering: None, timer: None, filter }
    }

    /// Does what is to be done until something is to be told: the next event, or `None` once the client has stopped.
    ///
    /// Whenever the client was given a command, this must be polled again.
    pub(crate) fn poll(&mut self, task: &mut Context<'_>, client: &mut Client) -> Poll<Option<Event>> {
        loop {
            if self.lingering.as_mut().is_some_and(|closing| closing.poll_unpin(task).is_ready()) {
                self.lingering = None;
            }
            let now = now();
            let mut silent = !self.exchange(task, client, now);
            if let Some(event) = client.poll_event(now) {
                return Poll::Ready(Some(event));
            }
            while let Some(step) = client.poll_step(now) {
                silent = false;
                self.step(step, client, now);
            }
            if client.is_stopped() {
                self.state = State::Down;
                // What the last step has told comes first.
                if let Some(event) = client.poll_event(now) {
                    return Poll::Ready(Some(event));
                }
                if self.lingering.is_none() {
                    return Poll::Ready(None);
                }
            }
            let blocked = self.blocked.map(|since| since + WRITE_MAX);
            let next = [client.poll_timeout(), blocked].into_iter().flatten().min();
            if let Some(at) = next {
                if self.elapsed(at, task) {
                    client.handle_timeout(at.max(now));
                    silent = false;
                }
            } else {
                self.timer = None;
            }
            if silent {
                return Poll::Pending;
            }
        }
    }

    fn elapsed(&mut self, at: Instant, task: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
        if timer.deadline() != at.into() {
            timer.as_mut().reset(at.into());
        }
        timer.poll_unpin(task).is_ready()
    }

    /// Whether anything has moved.
    fn exchange(&mut self, task: &mut Context<'_>, client: &mut Client, now: Instant) -> bool {
        let ended = match &mut self.state {
            State::Down => return false,
            State::Connecting(connecting) => {
                let Poll::Ready(made) = connecting.poll_unpin(task) else { return false };
                match made {
                    Ok(socket) => {
                        self.state = State::Up(Box::new(socket));
                        self.blocked = None;
                        self.ping = false;
                        if let Some(filtered) = &mut self.filter {
                            filtered.written.clear();
                            filtered.filter.connected();
                        }
                        client.handle_connected(now);
                    }
                    Err(error) => {
                        self.state = State::Down;
                        client.handle_connect_failed(chain(&error), error.retry_after(), now);
                    }
                }
                return true;
            }
            State::Up(socket) => {
                let filter = &mut self.filter;
                let written = write(socket, &mut self.ping, &mut self.blocked, filter, task, client, now);
                match written
                    .and_then(|wrote| read(socket, filter, task, client, now).map(|read| wrote || read))
                {
                    Ok(moved) => return moved,
                    Err(ended) => ended,
                }
            }
        };
        client.handle_disconnected(ended.reason, now);
        if let State::Up(socket) = std::mem::replace(&mut self.state, State::Down)
            && ended.polite
        {
            self.linger(socket, None);
        }
        true
    }

    fn step(&mut self, step: Step, client: &mut Client, now: Instant) {
        match step {
            Step::Connect => {
                let config = client.config();
                let password = client.password().map(<[u8]>::to_vec);
                let endpoint = Endpoint {
                    url: config.url.clone(),
                    id: config.id.clone(),
                    version: config.version,
                    tls: config.tls.clone(),
                    compression: config.compression,
                };
                self.state =
                    State::Connecting(async move { connect(&endpoint, password.as_deref()).await }.boxed());
            }
            Step::Ping => self.ping = true,
            Step::Drop => {
                self.state = State::Down;
                client.handle_disconnected("the line or the power has failed", now);
            }
            Step::Close(code, reason) => {
                if let State::Up(socket) = std::mem::replace(&mut self.state, State::Down) {
                    let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
                    self.linger(socket, Some(frame));
                }
                client.handle_disconnected(reason, now);
            }
        }
    }

    /// Closes in a friendly way, if the other side lets it.
    fn linger(&mut self, mut socket: Box<Socket>, frame: Option<CloseFrame>) {
        let closing = async move {
            if frame.is_none() || socket.web.close(frame).await.is_ok() {
                while let Some(Ok(_)) = socket.web.next().await {}
            }
        };
        self.lingering = Some(tokio::time::timeout(CLOSE_MAX, closing).map(drop).boxed());
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.state {
            State::Down => "Link(down)",
            State::Connecting(_) => "Link(connecting)",
            State::Up(_) => "Link(up)",
        })
    }
}

/// The end of a connection that we did not ask for.
struct Ended {
    reason: String,
    /// Whether the other side has said so, and waits for the same from us.
    polite: bool,
}

fn lost(reason: impl Into<String>) -> Ended {
    Ended { reason: reason.into(), polite: false }
}

fn write(
    socket: &mut Socket,
    ping: &mut bool,
    blocked: &mut Option<Instant>,
    filter: &mut Option<Box<Filtered>>,
    task: &mut Context<'_>,
    client: &mut Client,
    now: Instant,
) -> Result<bool, Ended> {
    let mut moved = false;
    let broken = |error: tokio_tungstenite::tungstenite::Error| lost(chain(&error));
    loop {
        if socket.web.poll_ready_unpin(task).map_err(broken)?.is_pending() {
            break;
        }
        let message = if std::mem::take(ping) {
            Message::Ping(bytes::Bytes::new())
        } else if let Some(text) = next_text(filter, client, now) {
            socket.text(text)
        } else {
            break;
        };
        moved = true;
        socket.web.start_send_unpin(message).map_err(broken)?;
    }
    if socket.web.poll_flush_unpin(task).map_err(broken)?.is_ready() {
        *blocked = None;
    } else if now.saturating_duration_since(*blocked.get_or_insert(now)) >= WRITE_MAX {
        return Err(lost("the central system does not read"));
    }
    Ok(moved)
}

fn next_text(filter: &mut Option<Box<Filtered>>, client: &mut Client, now: Instant) -> Option<Utf8Bytes> {
    let Some(filtered) = filter else {
        let text = client.poll_transmit(now)?.text;
        // It was text and stays it.
        return Some(Utf8Bytes::try_from(text.into_bytes()).unwrap_or_default());
    };
    while filtered.written.is_empty() {
        let text = client.poll_transmit(now)?.text;
        filtered.written.extend(filtered.filter.outgoing(&text));
    }
    filtered.written.pop_front().map(Utf8Bytes::from)
}

fn read(
    socket: &mut Socket,
    filter: &mut Option<Box<Filtered>>,
    task: &mut Context<'_>,
    client: &mut Client,
    now: Instant,
) -> Result<bool, Ended> {
    let mut moved = false;
    for _ in 0..READS_MAX {
        if !client.wants_input() {
            break;
        }
        let Poll::Ready(message) = socket.poll_next(task) else { break };
        moved = true;
        match message {
            Some(Ok(Message::Text(text))) => {
                // Validated by the socket already.
                let meant = filter.as_mut().and_then(|filtered| filtered.filter.incoming(&text));
                let text = meant.map_or_else(
                    || ByteString::try_from(bytes::Bytes::from(text)).unwrap_or_default(),
                    ByteString::from,
                );
                client.handle_text(text, now);
            }
            Some(Ok(Message::Close(frame))) => {
                let reason = frame.map_or_else(
                    || "closed by the central system".to_owned(),
                    |frame| {
                        format!("closed by the central system: {} {}", u16::from(frame.code), frame.reason)
                    },
                );
                return Err(Ended { reason, polite: true });
            }
            Some(Ok(_)) => client.handle_alive(),
            Some(Err(error)) => return Err(lost(chain(&error))),
            None => return Err(lost("the connection has ended")),
        }
    }
    Ok(moved)
}

#[expect(clippy::disallowed_methods, reason = "the one place where the client reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
