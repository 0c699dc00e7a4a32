//! A bound on how often the log says the same: what befalls ten thousand stations at once is told a few times and then
//! counted. A full disk, or a thousand wrong passwords a second, must not bury what else there is to say.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
    level_filters::LevelFilter,
    subscriber::Interest,
    warn,
};
use tracing_subscriber::layer::{Context, Filter};

/// Warnings and errors of one place in the code between two reports. Life-cycle lines are not counted: each is of its
/// own station.
const LINES_MAX: u32 = 10;
/// Its own lines are no subject of it.
const TARGET: &str = "switchboard::log";

/// Counts what was said since the last report, by the place in the code that says it.
#[derive(Debug, Default)]
pub(crate) struct Limit(Mutex<HashMap<Identifier, Said>>);

#[derive(Debug, Default)]
struct Said {
    lines: u32,
    left_out: u64,
    message: String,
}

impl Limit {
    /// Whether one more line of this place is written.
    fn admits(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == TARGET {
            return true;
        }
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = places.entry(metadata.callsite()).or_default();
        if said.lines < LINES_MAX {
            said.lines += 1;
            return true;
        }
        if said.left_out == 0 {
            event.record(&mut Message(&mut said.message));
        }
        said.left_out += 1;
        false
    }

    /// Tells what was left out, and begins anew. To be called now and then.
    pub(crate) fn report(&self) {
        let places = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for said in places.into_values().filter(|said| said.left_out > 0) {
            warn!(target: TARGET, left_out = said.left_out, like = said.message, "more of this was not logged");
        }
    }
}

/// The limit as a filter of the log.
#[derive(Debug)]
pub(super) struct Filtered(pub(super) Arc<Limit>);

impl<S: Subscriber> Filter<S> for Filtered {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> Interest {
        // The library forgets what `event_enabled` said of a place that it takes for always enabled.
        Interest::sometimes()
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.0.admits(event)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

/// Takes the message of an event.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tracing_subscriber::{Layer, layer::SubscriberExt, registry};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_said_again_and_again_is_counted_and_the_rest_is_written() {
        let lines = Lines::default();
        let limit = Arc::new(Limit::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let log = registry().with(layer.with_filter(Filtered(Arc::clone(&limit))));
        tracing::subscriber::with_default(log, || {
            for station in 0..1000 {
                tracing::error!(station, "the disk is full");
            }
            for station in 0..30 {
                tracing::info!(station, "connected");
            }
            tracing::warn!("something else");
            limit.report();
            limit.report();
            tracing::error!(station = 1000, "the disk is full");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        // The last one is another place in the code.
        assert_eq!(count("ERROR"), 11, "{text}");
        assert_eq!(count("connected"), 30);
        assert_eq!(count("something else"), 1);
        assert_eq!(count("left_out=990"), 1, "{text}");
        assert_eq!(count("left_out"), 1);
    }
}
