//! Which workers are alive, and which calls they say they have in hand.

use crate::desk::Holding;
use bytestring::ByteString;
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use switchboard_bus::presence::{self, CallKey, Facts};

/// What the workers said last.
pub(crate) struct Workers {
    beat: Duration,
    hasher: RandomState,
    known: Mutex<HashMap<ByteString, Worker>>,
}

struct Worker {
    heard: Instant,
    /// Hashes of the keys of the calls it named. Two calls of one hash cost at most a wait until the deadline.
    calls: HashSet<u64>,
    /// Where it takes calls that are meant for it alone.
    inbox: Option<ByteString>,
    /// It asks another directory than we do.
    strange: bool,
}

impl Workers {
    pub(crate) fn new(beat: Duration) -> Self {
        Self { beat, hasher: RandomState::new(), known: Mutex::default() }
    }

    /// A worker gave a sign of life with these facts in it; it asks another directory than we do or not. True if it did not
    /// say so before.
    pub(crate) fn hear(
        &self,
        worker: &ByteString,
        body: &[u8],
        facts: Facts,
        strange: bool,
        now: Instant,
    ) -> bool {
        let mut known = self.lock();
        if presence::is_end(body) {
            known.remove(worker);
            return false;
        }
        if known.len() >= WORKERS_MAX && !known.contains_key(worker) {
            known.retain(|_, worker| now.saturating_duration_since(worker.heard) <= self.silence());
            if known.len() >= WORKERS_MAX {
                // Its calls count as lost when they are old: handed over again, which costs work and no more.
                return false;
            }
        }
        let worker = known.entry(worker.clone()).or_insert_with(|| Worker {
            heard: now,
            calls: HashSet::new(),
            inbox: None,
            strange: false,
        });
        worker.heard = now;
        worker.inbox = facts.inbox;
        worker.calls.clear();
        worker.calls.extend(presence::calls(body).map(|call| self.hasher.hash_one(call)));
        if worker.calls.is_empty() {
            worker.calls.shrink_to(0);
        }
        let before = std::mem::replace(&mut worker.strange, strange);
        strange && !before
    }

    /// Who has a call that was handed over last at `since`.
    pub(crate) fn holding(&self, call: CallKey<'_>, since: Instant, now: Instant) -> Holding {
        let call = self.hasher.hash_one(call);
        let known = self.lock();
        let mut unsure = false;
        for worker in known.values() {
            if now.saturating_duration_since(worker.heard) > self.silence() {
                continue;
            }
            if worker.calls.contains(&call) {
                return Holding::Held;
            }
            // A worker names what it has had for a whole beat, so a sign from before that says nothing of this call.
            unsure |= worker.heard < since + self.beat + self.beat / 4;
        }
        if unsure { Holding::Unsure(now + self.beat / 4) } else { Holding::Lost }
    }

    /// The inbox of a worker that was heard just now, for this attempt of a call whose taker has come to nothing: it may be
    /// frozen with its subscription in place, and would be given its share of the next attempts, too. Of several, different
    /// ones for different attempts.
    pub(crate) fn inbox_of_one(&self, call: CallKey<'_>, attempt: u32, now: Instant) -> Option<ByteString> {
        let known = self.lock();
        let lately = self.beat + self.beat / 4;
        let inboxes = || {
            let heard = known.values().filter(|worker| now.saturating_duration_since(worker.heard) <= lately);
            heard.filter_map(|worker| worker.inbox.as_ref())
        };
        let count = u64::try_from(inboxes().count()).unwrap_or(u64::MAX);
        let which = self.hasher.hash_one((call, attempt)).checked_rem(count)?;
        inboxes().nth(usize::try_from(which).unwrap_or(0)).cloned()
    }

    /// Forgets those that have died. How many did, and when the next one would if it gave no sign until then.
    pub(crate) fn bury(&self, now: Instant) -> (usize, Option<Instant>) {
        let mut known = self.lock();
        let before = known.len();
        known.retain(|_, worker| now.saturating_duration_since(worker.heard) <= self.silence());
        let next = known.values().map(|worker| worker.heard + self.silence()).min();
        (before - known.len(), next)
    }

    /// How many are alive.
    pub(crate) fn alive(&self, now: Instant) -> usize {
        let known = self.lock();
        known.values().filter(|worker| now.saturating_duration_since(worker.heard) <= self.silence()).count()
    }

    /// A worker that is silent for longer is dead.
    fn silence(&self) -> Duration {
        self.beat * 9 / 4
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ByteString, Worker>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workers that are known at once.
const WORKERS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: CallKey<'_> = CallKey { tenant: "default", station: "CP1", generation: 5, seq: 9 };
    const OTHER: CallKey<'_> = CallKey { seq: 8, ..CALL };

    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of fake time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn beat(workers: &Workers, name: &'static str, calls: &[CallKey<'static>], now: Instant) {
        let facts = Facts { inbox: Some(format!("calls-of-{name}").into()), ..Facts::default() };
        let body = presence::body(calls.iter().copied());
        workers.hear(&ByteString::from_static(name), &body, facts, false, now);
    }

    #[test]
    fn a_call_is_held_by_whoever_names_it_and_lives() {
        let start = start();
        let workers = Workers::new(milliseconds(500));
        beat(&workers, "a", &[OTHER, CALL], start + milliseconds(700));
        beat(&workers, "b", &[], start + milliseconds(700));
        assert_eq!(workers.holding(CALL, start, start + milliseconds(800)), Holding::Held);
        assert_eq!(workers.alive(start + milliseconds(800)), 2);
        // It died: within a second and a bit the call counts as lost.
        assert_eq!(workers.holding(CALL, start, start + milliseconds(1_830)), Holding::Lost);
        assert_eq!(workers.alive(start + milliseconds(1_830)), 0);
    }

    #[test]
    fn a_dead_worker_is_buried_once_and_as_soon_as_it_can_be_known() {
        let start = start();
        let workers = Workers::new(milliseconds(500));
        assert_eq!(workers.bury(start), (0, None));
        beat(&workers, "a", &[], start);
        beat(&workers, "b", &[], start + milliseconds(400));
        let known = start + milliseconds(1_125);
        assert_eq!(workers.bury(start + milliseconds(400)), (0, Some(known)));
        assert_eq!(workers.bury(known), (0, Some(known)));
        assert_eq!(workers.bury(known + milliseconds(1)), (1, Some(known + milliseconds(400))));
        assert_eq!(workers.bury(known + milliseconds(2)), (0, Some(known + milliseconds(400))));
        beat(&workers, "a", &[], known + milliseconds(2));
        assert_eq!(workers.alive(known + milliseconds(3)), 2);
    }

    #[test]
    fn s01_what_came_to_nothing_goes_to_one_that_was_heard_just_now() {
        let start = start();
        let workers = Workers::new(milliseconds(500));
        assert_eq!(workers.inbox_of_one(CALL, 2, start), None, "nobody is there");
        workers.hear(&ByteString::from_static("mute"), b"", Facts::default(), false, start);
        assert_eq!(workers.inbox_of_one(CALL, 2, start), None, "it has none");
        beat(&workers, "a", &[], start);
        beat(&workers, "b", &[], start);
        let mut chosen: HashSet<_> =
            (0..100).map(|attempt| workers.inbox_of_one(CALL, attempt, start)).collect();
        assert!(chosen.remove(&Some("calls-of-a".into())) && chosen.remove(&Some("calls-of-b".into())));
        assert!(chosen.is_empty(), "{chosen:?}");
        // One of them freezes. It does not count as dead yet, but it could have given a sign.
        beat(&workers, "b", &[], start + milliseconds(600));
        let now = start + milliseconds(700);
        assert_eq!(workers.alive(now), 3);
        for attempt in 0..100 {
            assert_eq!(workers.inbox_of_one(CALL, attempt, now), Some("calls-of-b".into()));
        }
        assert_eq!(workers.inbox_of_one(CALL, 2, start + milliseconds(1_300)), None, "both freeze");
    }

    #[test]
    fn a_worker_that_had_no_time_to_name_a_call_leaves_it_unsure() {
        let start = start();
        let workers = Workers::new(milliseconds(500));
        assert_eq!(workers.holding(CALL, start, start + milliseconds(500)), Holding::Lost, "nobody lives");
        beat(&workers, "a", &[], start + milliseconds(300));
        let now = start + milliseconds(500);
        assert_eq!(workers.holding(CALL, start, now), Holding::Unsure(now + milliseconds(125)));
        beat(&workers, "a", &[], start + milliseconds(800));
        assert_eq!(workers.holding(CALL, start, start + milliseconds(810)), Holding::Lost);
    }

    #[test]
    fn a_worker_that_says_goodbye_holds_nothing() {
        let start = start();
        let workers = Workers::new(milliseconds(500));
        beat(&workers, "a", &[CALL], start);
        workers.hear(&ByteString::from_static("a"), &presence::end(), Facts::default(), false, start);
        assert_eq!(workers.holding(CALL, start, start), Holding::Lost);
        assert_eq!(workers.alive(start), 0);
    }

    #[test]
    fn a_worker_of_another_directory_is_noticed_once() {
        let start = start();
        let workers = Workers::new(milliseconds(500));
        let name = ByteString::from_static("a");
        let heard = [false, true, true, false, true]
            .map(|strange| workers.hear(&name, b"", Facts::default(), strange, start));
        assert_eq!(heard, [false, true, false, false, true]);
    }
}
