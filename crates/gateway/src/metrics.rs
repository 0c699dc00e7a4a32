//! What a gateway counts. A station's id is never a label.

use crate::{compression, handshake::Refusal};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::time::Duration;
use switchboard_bus::OutcomeKind;
use switchboard_rpc::connection::Stats;

/// The handles of a gateway's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) opened: Counter,
    pub(crate) closed: Family<Closed, Counter>,
    pub(crate) refused: Family<Refused, Counter>,
    pub(crate) replaced: Counter,
    pub(crate) flapping: Counter,
    pub(crate) calls: Counter,
    pub(crate) ends: Family<Ended, Counter>,
    /// The one end that happens for nearly every call, without a look-up.
    pub(crate) processed: Counter,
    pub(crate) handed_over_again: Counter,
    pub(crate) answers_late: Counter,
    pub(crate) answers_unfit: Counter,
    pub(crate) answer_seconds: Histogram,
    pub(crate) answer_p99_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(crate) commands: Family<Commanded, Counter>,
    pub(crate) journal_entries: Gauge,
    pub(crate) journal_worked_off: Counter,
    pub(crate) journal_refused: Counter,
    pub(crate) workers: Gauge,
    pub(crate) sends: Counter,
    pub(crate) sends_lost: Counter,
    pub(crate) result_errors: Counter,
    pub(crate) bad_frames: Counter,
    pub(crate) calls_repeated: Counter,
    pub(crate) station_answers_unmatched: Counter,
    pub(crate) compression: compression::Counters,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Closed {
    pub(crate) cause: Cause,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    Station,
    Lost,
    Silent,
    Slow,
    Protocol,
    Replaced,
    Shutdown,
    ProcessingAway,
    Directory,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Refused {
    pub(crate) reason: RefusedFor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RefusedFor {
    NotAnUpgrade,
    Malformed,
    Path,
    Unknown,
    Credentials,
    Subprotocol,
    Taken,
    Draining,
    Limit,
    ProcessingAway,
    LookUp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Ended {
    pub(crate) by: By,
}

/// What ended a call other than an answer of processing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum By {
    Journal,
    Gateway,
    Error,
    Silence,
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Commanded {
    pub(crate) outcome: CommandOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CommandOutcome {
    Answered,
    Refused,
    Offline,
    Busy,
    Expired,
    Cancelled,
    NotSent,
    Unknown,
}

/// Words of a label as they are everywhere else that people read them: `not-sent`.
macro_rules! words {
    ($($label:ty),*) => {$(
        impl prometheus_client::encoding::EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>) -> std::fmt::Result {
                std::fmt::Write::write_str(encoder, &$crate::metrics::hyphenated(&format!("{self:?}")))
            }
        }
    )*};
}
pub(crate) use words;
words!(Cause, RefusedFor, By, CommandOutcome);

/// `NotSent` as `not-sent`.
pub(crate) fn hyphenated(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

impl Metrics {
    /// Makes the handles and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        // From a tenth of a millisecond to 25 s.
        let buckets = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 25.0];
        let registry = registry.sub_registry_with_prefix("switchboard_gateway");
        let bad_frames = Counter::default();
        let metrics = Self {
            connections: Gauge::default(),
            opened: Counter::default(),
            closed: Family::default(),
            refused: Family::default(),
            replaced: Counter::default(),
            flapping: Counter::default(),
            calls: Counter::default(),
            ends: Family::default(),
            processed: Counter::default(),
            handed_over_again: Counter::default(),
            answers_late: Counter::default(),
            answers_unfit: Counter::default(),
            answer_seconds: Histogram::new(buckets),
            answer_p99_seconds: Gauge::default(),
            commands: Family::default(),
            journal_entries: Gauge::default(),
            journal_worked_off: Counter::default(),
            journal_refused: Counter::default(),
            workers: Gauge::default(),
            sends: Counter::default(),
            sends_lost: Counter::default(),
            result_errors: Counter::default(),
            calls_repeated: Counter::default(),
            station_answers_unmatched: Counter::default(),
            compression: compression::Counters::register(registry, &bad_frames),
            bad_frames,
        };
        registry.register("connections", "Stations that are connected", metrics.connections.clone());
        registry.register("connections_opened", "Connections that were accepted", metrics.opened.clone());
        registry.register("connections_closed", "Connections that ended, by cause", metrics.closed.clone());
        registry.register(
            "handshakes_refused",
            "Requests that got no 101, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "connections_replaced",
            "Connections that a newer one of the same station replaced",
            metrics.replaced.clone(),
        );
        registry.register(
            "stations_flapping",
            "Alarms about two connections of one identity that replace each other",
            metrics.flapping.clone(),
        );
        registry.register("calls_received", "Calls of stations", metrics.calls.clone());
        registry.register("calls_processed", "Calls that processing answered", metrics.processed.clone());
        registry.register(
            "calls_unprocessed",
            "Calls that ended without an answer of processing, by what ended them",
            metrics.ends.clone(),
        );
        registry.register(
            "calls_handed_over_again",
            "Second and further attempts to hand a call to processing",
            metrics.handed_over_again.clone(),
        );
        registry.register(
            "answers_late",
            "Answers of processing that nobody waited for any more, or that were for an earlier connection",
            metrics.answers_late.clone(),
        );
        registry.register(
            "answers_unfit",
            "Answers of processing that were no answer to their call, replaced by InternalError",
            metrics.answers_unfit.clone(),
        );
        registry.register(
            "answer_seconds",
            "From the receipt of a call to the answer of processing",
            metrics.answer_seconds.clone(),
        );
        registry.register(
            "answer_p99_seconds",
            "What 99 of 100 answers took at most lately",
            metrics.answer_p99_seconds.clone(),
        );
        registry.register("commands", "Commands to stations, by outcome", metrics.commands.clone());
        registry.register(
            "journal_entries",
            "Calls that wait in the journal for processing",
            metrics.journal_entries.clone(),
        );
        registry.register(
            "journal_worked_off",
            "Calls of the journal that processing answered",
            metrics.journal_worked_off.clone(),
        );
        registry.register(
            "journal_refused",
            "Answers to calls of the journal that were errors",
            metrics.journal_refused.clone(),
        );
        registry.register("workers", "Workers that give signs of life", metrics.workers.clone());
        registry.register(
            "sends_received",
            "Messages of stations that want no answer",
            metrics.sends.clone(),
        );
        registry.register(
            "sends_lost",
            "Messages that want no answer and that processing did not acknowledge in time",
            metrics.sends_lost.clone(),
        );
        registry.register(
            "result_errors_received",
            "Answers of ours that stations could not read (CALLRESULTERROR)",
            metrics.result_errors.clone(),
        );
        registry.register("frames_bad", "Texts of stations that are no frames", metrics.bad_frames.clone());
        registry.register(
            "calls_repeated",
            "Calls that were sent again and got the same answer again",
            metrics.calls_repeated.clone(),
        );
        registry.register(
            "station_answers_unmatched",
            "Answers of stations that belong to no call of ours",
            metrics.station_answers_unmatched.clone(),
        );
        metrics
    }

    pub(crate) fn ended(&self, by: By) {
        self.ends.get_or_create(&Ended { by }).inc();
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        let reason = match refusal {
            Refusal::NotAnUpgrade | Refusal::WebSocketVersion => RefusedFor::NotAnUpgrade,
            Refusal::Malformed(_) | Refusal::Identity(_) => RefusedFor::Malformed,
            Refusal::Path => RefusedFor::Path,
            Refusal::Unknown => RefusedFor::Unknown,
            Refusal::CredentialsMissing | Refusal::CredentialsWrong => RefusedFor::Credentials,
            Refusal::Subprotocol => RefusedFor::Subprotocol,
            Refusal::Taken => RefusedFor::Taken,
            Refusal::Draining => RefusedFor::Draining,
            Refusal::Busy | Refusal::AddressLimit | Refusal::TenantLimit => RefusedFor::Limit,
            Refusal::ProcessingAway => RefusedFor::ProcessingAway,
            Refusal::LookUp => RefusedFor::LookUp,
        };
        self.refused.get_or_create(&Refused { reason }).inc();
    }

    pub(crate) fn commanded(&self, outcome: OutcomeKind) {
        let outcome = match outcome {
            OutcomeKind::Answered => CommandOutcome::Answered,
            OutcomeKind::Refused => CommandOutcome::Refused,
            OutcomeKind::Offline => CommandOutcome::Offline,
            OutcomeKind::Busy => CommandOutcome::Busy,
            OutcomeKind::Expired => CommandOutcome::Expired,
            OutcomeKind::Cancelled => CommandOutcome::Cancelled,
            OutcomeKind::NotSent => CommandOutcome::NotSent,
            _ => CommandOutcome::Unknown,
        };
        self.commands.get_or_create(&Commanded { outcome }).inc();
    }

    pub(crate) fn answered(&self, took: Duration) {
        self.processed.inc();
        self.answer_seconds.observe(took.as_secs_f64());
    }

    /// Adds what a connection counted.
    pub(crate) fn add(&self, stats: &Stats) {
        self.sends.inc_by(stats.sends_received.into());
        self.bad_frames.inc_by(stats.bad_frames.into());
        self.calls_repeated.inc_by(stats.calls_repeated.into());
        self.station_answers_unmatched.inc_by(stats.answers_unmatched.into());
    }
}
