//! The loop around the charger: its client's socket, a timer, and the clock.

use crate::{
    BooksHandle, Config,
    charger::{Charger, Moment},
    client::{
        Event,
        link::{Filter, Link},
    },
    quirk::Wire,
};
use std::{
    future::poll_fn,
    time::{Duration, Instant, SystemTime},
};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long nothing happens at a station of which nothing is expected.
const IDLE: Duration = Duration::from_secs(3600);

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

    /// Switches it on and lets it live until `shutdown` is cancelled; then it ends what goes on, tells it within
    /// [`Config::finish`], and returns.
    pub async fn run(self, shutdown: CancellationToken) {
        let begin = now();
        let wire = Wire::new(self.config.version, &self.config.quirks, begin.unix_ms);
        let mut link = Link::new(wire.map(|wire| Box::new(wire) as Box<dyn Filter>));
        let id = self.config.id.clone();
        let mut charger = Charger::new(self.config, self.books, begin);
        let mut faster = charger.pace().changes();
        let (mut stopping, mut failing) = (false, false);
        loop {
            let next = charger.poll_timeout().unwrap_or_else(|| now().at + IDLE);
            tokio::select! {
                event = poll_fn(|task| link.poll(task, charger.client())) => {
                    let Some(event) = event else { return };
                    tell(&id, &event, &mut failing);
                    charger.handle_event(event, now());
                }
                () = time::sleep_until(next.into()) => charger.handle_timeout(now()),
                // Its sender lives as long as the charger.
                Ok(()) = faster.changed() => charger.handle_pace(now()),
                () = shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    charger.handle_shutdown(now());
                }
            }
        }
    }
}

/// What whoever looks on wants to read.
fn tell(station: &str, event: &Event, failing: &mut bool) {
    match event {
        Event::Connected { .. } => {
            *failing = false;
            info!(station, "connected");
        }
        // The first failure is news, the following ones are not.
        Event::NotConnected { error, .. } if !*failing => {
            *failing = true;
            warn!(station, error, "no connection to the central system");
        }
        Event::NotConnected { error, .. } => debug!(station, error, "no connection to the central system"),
        Event::Disconnected { reason } => info!(station, reason, "disconnected"),
        Event::Ended { outcome: crate::client::Outcome::Refused { code, description, .. }, .. } => {
            debug!(station, %code, %description, "the central system refused a call");
        }
        _ => {}
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the simulation reads the clocks")]
pub(crate) fn now() -> Moment {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment { at: Instant::now(), unix_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) }
}
