//! Whether a database can be written: told once when that changes, and counted in between.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The health of one database. Clones share it.
///
/// A disk that is full fails every write; one line for each would fill what is left of it. So the first failure is
/// logged, then a count at intervals, then that it is over.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    what: &'static str,
    /// Looked at by every write that succeeds, so that those cost no lock.
    troubled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    trouble: Option<Trouble>,
    /// Since the last line about it.
    failed: u64,
    reported: Option<Instant>,
}

#[derive(Debug)]
struct Trouble {
    why: String,
    since: Instant,
    /// Another write will not help.
    lasting: bool,
    told: bool,
}

impl Health {
    /// Of a database that has not failed yet; `what` is its name for people.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Inner { what, troubled: AtomicBool::new(false), state }))
    }

    /// So many writes failed. `lasting`: the file itself is damaged, which no later success cures.
    pub fn failed(&self, why: &dyn fmt::Display, writes: u64, lasting: bool, now: Instant) {
        let what = self.0.what;
        let mut state = self.state();
        state.failed += writes;
        let quiet = state.reported.is_some_and(|at| now.saturating_duration_since(at) < REPORT_EVERY);
        let (since, was_told) =
            state.trouble.as_ref().map_or((now, false), |trouble| (trouble.since, trouble.told));
        let lasting = lasting || state.trouble.as_ref().is_some_and(|trouble| trouble.lasting);
        state.trouble = Some(Trouble { why: why.to_string(), since, lasting, told: was_told || !quiet });
        self.0.troubled.store(true, Ordering::Release);
        if quiet {
            return;
        }
        state.reported = Some(now);
        let failed = std::mem::take(&mut state.failed);
        drop(state);
        tracing::error!(
            error = %why, failed,
            "the {what} cannot be written; what stations send is answered again when it can, and nothing that was answered is lost"
        );
    }

    /// A write succeeded.
    pub fn succeeded(&self, now: Instant) {
        if !self.0.troubled.load(Ordering::Acquire) {
            return;
        }
        let what = self.0.what;
        let mut state = self.state();
        if state.trouble.as_ref().is_some_and(|trouble| trouble.lasting) {
            return;
        }
        self.0.troubled.store(false, Ordering::Release);
        let Some(trouble) = state.trouble.take() else { return };
        // Whoever was told nothing of it in the last seconds needs not hear that it is over either.
        if trouble.told {
            let failed = std::mem::take(&mut state.failed);
            drop(state);
            let seconds = now.saturating_duration_since(trouble.since).as_secs();
            tracing::info!(seconds, failed, "the {what} can be written again");
        }
    }

    /// Why it cannot be written; none if it can, as far as is known.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if !self.0.troubled.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state();
        state
            .trouble
            .as_ref()
            .map(|trouble| format!("the {} cannot be written: {}", self.0.what, trouble.why))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a trouble that lasts is told again.
const REPORT_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn trouble_is_known_until_a_write_succeeds_and_damage_for_good() {
        let health = Health::new("books");
        let now = Instant::now();
        health.succeeded(now);
        assert_eq!(health.trouble(), None);
        health.failed(&"the disk is full", 3, false, now);
        health.failed(&"the disk is full", 3, false, now + Duration::from_secs(1));
        assert_eq!(health.trouble().unwrap(), "the books cannot be written: the disk is full");
        assert_eq!(health.state().failed, 3, "the second time is counted and not told");
        health.succeeded(now + Duration::from_secs(2));
        assert_eq!(health.trouble(), None);
        health.failed(&"it is damaged", 1, true, now + Duration::from_secs(3));
        health.succeeded(now + Duration::from_secs(4));
        assert!(health.trouble().is_some());
    }
}
