//! What a worker counts.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// What a worker counts. Clones count together.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Calls and SENDs taken from the bus, repeats included.
    pub taken: Counter,
    /// Of these, repeats of a call that was still in hand: they wait for its answer.
    pub joined: Counter,
    /// Of these, calls whose handler did not answer at once and became a task.
    pub waited: Counter,
    /// Calls answered with a CALLRESULT.
    pub results: Counter,
    /// Calls answered with a CALLERROR.
    pub errors: Counter,
    /// Calls and SENDs that were not answered: stale, or without an answer by their nature.
    pub silences: Counter,
    /// Calls and SENDs that could not be dealt with now: they come again.
    pub given_back: Counter,
    /// Answers that the bus did not take. The gateway hands such a call over again.
    pub answers_lost: Counter,
    /// Envelopes that are not what a worker is sent.
    pub unreadable: Counter,
    /// Outcomes of commands that were handed to the router.
    pub outcomes: Counter,
    /// Calls in hand now.
    pub in_hand: Gauge,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("switchboard_worker");
        for (name, help, counter) in [
            ("calls_taken", "Calls and SENDs taken from the bus", &self.taken),
            ("calls_joined", "Repeats of calls that were still in hand", &self.joined),
            ("calls_waited", "Calls whose handler did not answer at once", &self.waited),
            ("results", "Calls answered with a CALLRESULT", &self.results),
            ("errors", "Calls answered with a CALLERROR", &self.errors),
            ("silences", "Calls and SENDs that were not answered", &self.silences),
            (
                "given_back",
                "Calls and SENDs that could not be dealt with now, and come again",
                &self.given_back,
            ),
            ("answers_lost", "Answers that the bus did not take", &self.answers_lost),
            ("envelopes_unreadable", "Envelopes that are not what a worker is sent", &self.unreadable),
            ("outcomes", "Outcomes of commands handed to the router", &self.outcomes),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register("calls_in_hand", "Calls in hand now", self.in_hand.clone());
    }
}
