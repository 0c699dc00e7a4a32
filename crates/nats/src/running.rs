//! The task of a connection: reads, delivers, writes; and connects again when that ends.

use crate::{
    connecting::{Dialling, Greeted, Stream},
    line::{Shared, Turn},
    protocol::{self, Op},
};
use bytes::{Buf as _, BytesMut};
use std::{
    error::Error as _,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, Sleep},
};
use tokio_util::io::poll_read_buf;

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// We wanted it.
    Closed,
    /// The server wants its clients to go elsewhere.
    Leaving,
    Lost(String),
}

/// Connects, again and again, until the line is closed.
pub(crate) async fn run(shared: Arc<Shared>, mut dialling: Dialling) {
    let mut pause = PAUSE_MIN;
    let mut told = Vec::new();
    let mut closing = shared.state.subscribe();
    while !shared.is_closing() {
        let dialled = tokio::select! {
            dialled = dialling.dial() => dialled,
            _closing = closing.wait_for(|_| shared.is_closing()) => break,
        };
        let why = match dialled {
            Ok(greeted) => {
                told.clear();
                let since = now();
                let endpoint = greeted.endpoint.clone();
                match serve(&shared, greeted).await {
                    End::Closed => break,
                    End::Leaving => {
                        dialling.leave();
                        tracing::info!(
                            server = endpoint,
                            "the NATS server is about to go; another one is tried"
                        );
                    }
                    End::Lost(why) => {
                        tracing::warn!(
                            server = endpoint,
                            why,
                            "the connection to NATS is lost; it is tried again"
                        );
                    }
                }
                shared.lost();
                if since.elapsed() >= LASTING {
                    pause = PAUSE_MIN;
                    continue;
                }
                None
            }
            Err(error) => Some(match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        };
        // Once for each reason, not for each attempt.
        if let Some(why) = why
            && !told.contains(&why)
        {
            tracing::warn!(why, "waiting for NATS");
            if told.len() < TOLD_MAX {
                told.push(why);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)) => {}
            _closing = closing.wait_for(|_| shared.is_closing()) => break,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
    shared.closed();
}

/// What happens on one connection until it ends.
async fn serve(shared: &Arc<Shared>, greeted: Greeted) -> End {
    let Greeted { mut stream, info, endpoint, read, has_others } = greeted;
    if info.version_numbers().is_none_or(|version| version < TESTED_SINCE) {
        tracing::warn!(server = endpoint, version = info.version, "older than the versions that are tested");
    }
    tracing::info!(
        server = endpoint,
        version = info.version,
        max_payload = info.max_payload,
        "connected to NATS"
    );
    shared.know(info);
    let write = shared.begin_again();
    let mut connection = Connection {
        shared,
        stream: stream.as_mut(),
        read,
        write,
        restored: false,
        has_others,
        heard: now(),
        knocked: false,
        timer: Box::pin(tokio::time::sleep(KNOCK_AFTER)),
        unflushed: false,
    };
    let end = poll_fn(|context| connection.poll(context)).await;
    if end == End::Closed {
        // It is gone either way, also where the server takes no leave of us.
        drop(tokio::time::timeout(LEAVE_MAX, stream.shutdown()).await);
    }
    end
}

struct Connection<'a> {
    shared: &'a Arc<Shared>,
    stream: Pin<&'a mut dyn Stream>,
    read: BytesMut,
    /// Being written.
    write: BytesMut,
    /// The server has confirmed our subscriptions.
    restored: bool,
    has_others: bool,
    heard: Instant,
    /// We asked for a sign of life, and nothing came since.
    knocked: bool,
    timer: Pin<Box<Sleep>>,
    unflushed: bool,
}

impl Connection<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        self.shared.awake();
        for _ in 0..TURNS_MAX {
            let mut progress = false;
            match self.poll_read(context) {
                Ok(read) => progress |= read,
                Err(end) => return Poll::Ready(end),
            }
            let mut leaving = false;
            let under_way = !self.write.is_empty();
            if !under_way {
                match self.shared.turn(&mut self.write, context.waker()) {
                    Turn::Write => progress = true,
                    Turn::Wait => {}
                    Turn::Leave => leaving = true,
                }
            }
            match self.poll_write(context) {
                Ok(true) if leaving => return Poll::Ready(End::Closed),
                // More may have come in the meantime.
                Ok(true) if under_way => progress = true,
                Ok(_) => {}
                Err(error) => return Poll::Ready(End::Lost(error)),
            }
            if !progress {
                return self.poll_silence(context);
            }
        }
        // A flood: others want their turn too.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and delivers all that came with it; whether there was anything.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if self.read.capacity() - self.read.len() < READ_BYTES_MIN {
            self.read.reserve(READ_BYTES);
        }
        match poll_read_buf(self.stream.as_mut(), context, &mut self.read) {
            Poll::Ready(Ok(0)) => return Err(End::Lost("the server closed it".to_owned())),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Err(End::Lost(error.to_string())),
            Poll::Pending => return Ok(false),
        }
        self.heard = now();
        self.knocked = false;
        while let Some(op) = protocol::next(&mut self.read).map_err(|error| End::Lost(error.to_string()))? {
            match op {
                Op::Message(message) => self.shared.deliver(message),
                Op::Unreadable => {
                    tracing::warn!("a message has a subject or headers that are no text; it is dropped");
                }
                Op::Ping => self.shared.pong_back().map_err(|full| End::Lost(full.to_owned()))?,
                Op::Pong => {
                    self.shared.pong();
                    if !self.restored {
                        self.restored = true;
                        self.shared.restored();
                    }
                }
                Op::Ok => {}
                Op::Info(info) => {
                    let leaving = info.lame_duck && self.has_others;
                    self.shared.know(*info);
                    if leaving {
                        return Err(End::Leaving);
                    }
                }
                Op::Error(text) => {
                    tracing::warn!(text, "the NATS server refuses something");
                    self.shared.refused(&text);
                }
            }
        }
        Ok(true)
    }

    /// Writes what there is; whether that is all of it.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<bool, String> {
        while !self.write.is_empty() {
            match self.stream.as_mut().poll_write(context, &self.write) {
                Poll::Ready(Ok(0)) => return Err("the server takes nothing any more".to_owned()),
                Poll::Ready(Ok(count)) => {
                    self.write.advance(count);
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error.to_string()),
                Poll::Pending => return Ok(false),
            }
        }
        if self.unflushed {
            match self.stream.as_mut().poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(error.to_string()),
                Poll::Pending => return Ok(false),
            }
        }
        // So that it is written from its beginning again, into the memory that it has.
        if self.write.capacity() > WRITE_BYTES_KEPT {
            self.write = BytesMut::new();
        } else {
            self.write.clear();
        }
        Ok(true)
    }

    /// A server that is silent is asked for a sign of life, and then counts as away.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<End> {
        while self.timer.as_mut().poll(context).is_ready() {
            let silent = self.heard.elapsed();
            if silent >= KNOCK_AFTER + AWAY_AFTER && self.knocked {
                return Poll::Ready(End::Lost("the server is silent".to_owned()));
            }
            let next = if silent < KNOCK_AFTER {
                self.heard + KNOCK_AFTER
            } else {
                if !std::mem::replace(&mut self.knocked, true) {
                    self.shared.knock();
                    context.waker().wake_by_ref();
                }
                now() + AWAY_AFTER
            };
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }
}

/// The monotonic clock.
fn now() -> Instant {
    Instant::now()
}

/// Versions that the tests run with, or are said to behave alike.
const TESTED_SINCE: (u32, u32) = (2, 9);
/// The first pause between two attempts, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How many reasons are remembered; an endpoint has few.
const TOLD_MAX: usize = 64;
/// How long a server may be silent before it is asked, and how long it then has.
const KNOCK_AFTER: Duration = Duration::from_secs(2);
const AWAY_AFTER: Duration = Duration::from_secs(3);
/// A connection that ends sooner was of no use: the next is not made at once, or a server that throws us out would have
/// us come back as fast as we can.
const LASTING: Duration = Duration::from_secs(1);
/// How long the end of TLS may take.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// Rounds of work before other tasks have their turn.
const TURNS_MAX: usize = 32;
/// What is read at once, if there is so much.
const READ_BYTES: usize = 64 * 1024;
const READ_BYTES_MIN: usize = 4 * 1024;
/// A burst's memory is given back.
const WRITE_BYTES_KEPT: usize = 256 * 1024;
