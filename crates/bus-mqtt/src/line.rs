//! One connection to a broker, made again whenever it is lost.
//!
//! Whoever publishes writes into the connection's buffer; its one task writes that out, reads, and hands on what came. So
//! a message costs no task, no channel and no copy of its headers, and what comes together goes out in one write.
//!
//! Sessions are clean, and nothing that was published on one connection is sent again on the next: who published is told,
//! and knows better than we do whether it still matters.

mod serve;
mod state;

pub(crate) use serve::NOBODY_LISTENS;
pub(crate) use state::{Ack, Outcome, PACKET_BYTES_MAX};

use crate::packet::{Level, Message};
use bytes::BytesMut;
use serve::run;
use state::{Phase, Request, Shared};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use switchboard_bus::{Endpoint, PublishError};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_rustls::TlsConnector;

/// Who is told what comes on a line. On the line's own task: it must not wait.
pub(crate) trait Listener: Send + Sync + 'static {
    /// A message came.
    fn message(&self, message: Message, ack: Ack);

    /// The line is there with all its subscriptions, or gone. Told before whoever published on it is.
    fn turned(&self, line: &str, up: bool);
}

/// How a line is made.
pub(crate) struct Settings {
    /// Tried one after another.
    pub(crate) endpoints: Vec<Endpoint>,
    /// For those that want it.
    pub(crate) tls: TlsConnector,
    pub(crate) level: Level,
    pub(crate) client_id: String,
    /// How many messages the broker may have on their way to us.
    pub(crate) receive_max: u16,
    /// Where nobody listens: the broker's answer to a message there shows whether it tells.
    pub(crate) probe: Option<String>,
    /// How long the broker bears our silence: half as long again.
    pub(crate) keep_alive_seconds: u16,
    /// How long to wait before the second attempt to connect; doubled each time.
    pub(crate) pause_min: Duration,
    /// How much may be published, where that is limited.
    pub(crate) pace: Option<Pace>,
    /// How much may wait for its turn to be published.
    pub(crate) waiting_max: usize,
}

/// A limit on what is published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// At once.
    pub(crate) burst: u32,
    /// Every [`PACE_TICK`], up to `burst`.
    pub(crate) per_tick: u32,
}

/// One connection. Dropped, it is gone without a word.
pub(crate) struct Line {
    shared: Arc<Shared>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Line {
    /// One that begins to connect.
    pub(crate) fn new(settings: Settings, listener: Weak<dyn Listener>) -> Self {
        let line = Self::resting(settings);
        line.begin(listener);
        line
    }

    /// One that does nothing yet, for a listener that is not there yet.
    pub(crate) fn resting(settings: Settings) -> Self {
        Self { shared: Arc::new(Shared::new(settings)), task: std::sync::Mutex::new(None) }
    }

    /// Has it begin to connect. The listener has to be there: what happens is told once.
    pub(crate) fn begin(&self, listener: Weak<dyn Listener>) {
        let task = tokio::spawn(run(Arc::clone(&self.shared), listener));
        *self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(task);
    }

    /// Whether it is there with all its subscriptions.
    pub(crate) fn is_up(&self) -> bool {
        self.shared.lock().phase == Phase::Up
    }

    /// Waits until it is there.
    pub(crate) async fn wait_until_up(&self) {
        let mut up = self.shared.up.subscribe();
        // Its sender is ours.
        drop(up.wait_for(|up| *up).await);
    }

    /// Whether the broker tells that nobody listens; assumed as long as it has not been asked.
    pub(crate) fn tells_nobody_listens(&self) -> bool {
        self.shared.lock().tells_nobody_listens
    }

    /// The largest packet that the broker takes.
    pub(crate) fn packet_bytes_max(&self) -> usize {
        self.shared.lock().packet_bytes_max
    }

    /// Publishes; `put_properties` writes those of MQTT 5. The receiver is told what the broker said.
    pub(crate) fn publish(
        &self,
        topic: &str,
        put_properties: impl FnOnce(&mut BytesMut) -> Result<(), PublishError>,
        body: &[u8],
    ) -> Result<oneshot::Receiver<Outcome>, PublishError> {
        let mut state = self.shared.lock();
        match state.phase {
            Phase::Up => {}
            Phase::Away => return Err(PublishError::Away),
            Phase::Closing => return Err(PublishError::Closed),
        }
        let receiver = state.publish(&self.shared.settings, topic, put_properties, body)?;
        self.shared.wake(state);
        Ok(receiver)
    }

    /// Subscribes now, and again after each reconnection.
    pub(crate) async fn subscribe(&self, filter: &str) -> Result<(), Unsubscribed> {
        let (is_new, answered) = {
            let mut state = self.shared.lock();
            if state.phase != Phase::Up {
                return Err(Unsubscribed::Away);
            }
            let (sender, receiver) = oneshot::channel();
            let is_new = state.filters.insert(filter.into());
            state.subscribe(self.shared.settings.level, &[filter], Request::Subscribe(sender));
            self.shared.wake(state);
            (is_new, receiver)
        };
        let fault = match answered.await {
            Ok(0..0x80) => return Ok(()),
            Ok(reason) => Unsubscribed::Refused(reason),
            Err(_) => Unsubscribed::Away,
        };
        // Somebody else's stays, and is made again; ours may have been made again already.
        if is_new {
            self.unsubscribe(filter);
        }
        Err(fault)
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&self, filter: &str) {
        let mut state = self.shared.lock();
        if state.filters.remove(filter) && state.is_connected {
            state.unsubscribe(self.shared.settings.level, filter);
            self.shared.wake(state);
        }
    }

    /// Publishes what is buffered, takes leave, and waits until that is done, though not for long.
    pub(crate) async fn close(&self) {
        {
            let mut state = self.shared.lock();
            state.phase = Phase::Closing;
            self.shared.wake(state);
        }
        self.shared.closing.cancel();
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(CLOSE_MAX, &mut task).await.is_err()
        {
            task.abort();
            // Whoever still waits for the broker is told, and not left waiting.
            let ended = self.shared.lock().end();
            ended.tell();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
        }
        let mut state = self.shared.lock();
        state.phase = Phase::Closing;
        drop(state.end());
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Line")
            .field("client_id", &self.shared.settings.client_id)
            .finish_non_exhaustive()
    }
}

/// Why there is no subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsubscribed {
    /// The line is not there.
    Away,
    /// The broker said no.
    Refused(u8),
}

/// How often what may be published grows, where it is limited.
pub(crate) const PACE_TICK: Duration = Duration::from_millis(100);
/// How long taking leave may last.
const CLOSE_MAX: Duration = Duration::from_secs(5);
