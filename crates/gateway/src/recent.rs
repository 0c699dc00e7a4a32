//! Which commands came lately: a bus delivers at least once, and a station must get each once.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Remembers the commands of the last minutes, by hashes; two of one hash would lose the second, which does not happen.
pub(crate) struct Recent {
    hasher: RandomState,
    seen: Mutex<Seen>,
}

struct Seen {
    /// Since `since`.
    present: HashSet<u64>,
    /// Before that.
    previous: HashSet<u64>,
    since: Instant,
}

impl Recent {
    pub(crate) fn new(now: Instant) -> Self {
        let seen = Seen { present: HashSet::new(), previous: HashSet::new(), since: now };
        Self { hasher: RandomState::new(), seen: Mutex::new(seen) }
    }

    /// Whether this one comes for the first time; it is remembered for at least [`MEMORY`], unless there are too many.
    pub(crate) fn is_new(&self, command: impl Hash, now: Instant) -> bool {
        let hash = self.hasher.hash_one(command);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.present.len() >= COMMANDS_MAX || now.saturating_duration_since(seen.since) >= MEMORY {
            seen.previous = std::mem::take(&mut seen.present);
            seen.since = now;
        }
        !seen.previous.contains(&hash) && seen.present.insert(hash)
    }
}

/// Far longer than a broker holds what it could not deliver: no command waits that long without a place in the outbox.
const MEMORY: Duration = Duration::from_secs(300);
/// Commands in each half. When there are more, the older half is forgotten early.
const COMMANDS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of fake time")]
    fn a_command_is_new_once_within_minutes() {
        let start = Instant::now();
        let recent = Recent::new(start);
        assert!(recent.is_new(("CP1", "a"), start));
        assert!(!recent.is_new(("CP1", "a"), start + MEMORY / 2));
        assert!(recent.is_new(("CP2", "a"), start));
        assert!(!recent.is_new(("CP1", "a"), start + MEMORY), "still in the older half");
        assert!(recent.is_new(("CP1", "b"), start + MEMORY));
        assert!(recent.is_new(("CP1", "a"), start + MEMORY * 2), "forgotten");
        for number in 0..COMMANDS_MAX * 3 {
            assert!(recent.is_new(number, start + MEMORY * 2));
        }
        let seen = recent.seen.lock().unwrap();
        assert!(seen.present.len() + seen.previous.len() <= COMMANDS_MAX * 2);
    }
}
