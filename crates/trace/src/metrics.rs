//! What the trace counts.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// The handles of the trace's metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) seen: Counter,
    pub(crate) lost: Counter,
    pub(crate) recorded: Counter,
    pub(crate) recorded_bytes: Counter,
    pub(crate) unrecorded: Counter,
    pub(crate) ring_bytes: Gauge,
    pub(crate) open: Gauge,
    pub(crate) watchers: Gauge,
    pub(crate) lines: Counter,
    pub(crate) lines_missed: Counter,
}

impl Metrics {
    /// Makes the handles and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("switchboard_trace");
        registry.register("records", "Frames and events that the trace was handed", metrics.seen.clone());
        registry.register(
            "records_lost",
            "Frames and events that were more than the trace could take, and are in no trace",
            metrics.lost.clone(),
        );
        registry.register(
            "entries_recorded",
            "Entries that were written to the ring",
            metrics.recorded.clone(),
        );
        registry.register(
            "bytes_recorded",
            "Bytes that were written to the ring",
            metrics.recorded_bytes.clone(),
        );
        registry.register(
            "entries_unrecorded",
            "Entries that could not be written to the ring, or were too large for it",
            metrics.unrecorded.clone(),
        );
        registry.register("ring_bytes", "Bytes that the ring has on disk", metrics.ring_bytes.clone());
        registry.register("calls_open", "Calls whose answers the trace waits for", metrics.open.clone());
        registry.register("watchers", "Readers that follow the traffic", metrics.watchers.clone());
        registry.register("lines", "Lines for readers", metrics.lines.clone());
        registry.register(
            "lines_missed",
            "Lines that a reader missed since it was too slow",
            metrics.lines_missed.clone(),
        );
        metrics
    }
}
