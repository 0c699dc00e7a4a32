//! Answers kept for calls that are sent again (C09).

use super::later;
use std::time::{Duration, Instant};

/// The last answers of a connection with what they answered, in a bounded number of bytes.
///
/// A call is recognised by two hashes, one of its id and one of its whole text: keeping the texts would cost more than
/// the answers. A station that builds a collision cheats itself only. Of an answer only what follows the id is kept, as
/// the call that is repeated brings the id along.
///
/// All is in one piece of memory, so that the bound is what is really held: for each answer a head of
/// [`HEAD_BYTES`] and its text, oldest first. A station has one call in hand, so that what it repeats is among its last
/// few: there are never more than [`ANSWERS_MAX`].
#[derive(Debug)]
pub(super) struct Replay {
    kept: Vec<u8>,
    /// How many answers that are.
    count: u8,
    /// What the times in the heads count from.
    begun: Instant,
    /// When to look for old ones. It does not move with each answer, so that a busy connection's timer stands still.
    purge_at: Instant,
}

/// Hash of the id, hash of the frame, milliseconds since `begun`, bytes of the answer.
const HEAD_BYTES: usize = 4 + 8 + 4 + 2;

/// So many calls of a connection at most are recognised.
const ANSWERS_MAX: u8 = 8;

/// What a CALLRESULT begins with; the id follows.
const RESULT: &str = "[3,";

/// After so long the clock of the heads begins again, far from the end of its 32 bits.
const CLOCK_MAX: Duration = Duration::from_secs(24 * 60 * 60);

struct Kept<'kept> {
    id: u32,
    frame: u64,
    /// Milliseconds since `begun`.
    since: u32,
    answer: &'kept [u8],
}

/// What is known about a call that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recall {
    /// Nothing like it was answered lately.
    New,
    /// The same call was answered with this.
    Same(String),
    /// Another call had its id.
    IdReused,
}

impl Replay {
    pub(super) fn new(now: Instant, window: Duration) -> Self {
        Self { kept: Vec::new(), count: 0, begun: now, purge_at: later(now, window) }
    }

    pub(super) fn recall(&self, id: &str, frame: &str, now: Instant, window: Duration) -> Recall {
        let short = hash(id) as u32;
        let mut recall = Recall::New;
        for kept in self.iter().filter(|kept| kept.id == short) {
            if now.saturating_duration_since(self.at(&kept)) >= window {
                continue;
            }
            if kept.frame == hash(frame) {
                return Recall::Same(format!("{RESULT}{id}{}", String::from_utf8_lossy(kept.answer)));
            }
            recall = Recall::IdReused;
        }
        recall
    }

    /// Keeps a CALLRESULT with this id and forgets the oldest ones for it.
    pub(super) fn keep(&mut self, id: &str, frame: &str, answer: &str, now: Instant, bytes_max: usize) {
        let Some(answer) = answer.strip_prefix(RESULT).and_then(|rest| rest.strip_prefix(id)) else { return };
        let needed = HEAD_BYTES + answer.len();
        let since = u32::try_from(now.saturating_duration_since(self.begun).as_millis());
        let (Ok(since), Ok(answer_bytes), true) = (since, u16::try_from(answer.len()), needed <= bytes_max)
        else {
            return;
        };
        let (mut forgotten, mut left) = (0, self.count);
        for kept in self.iter() {
            if left < ANSWERS_MAX && self.kept.len() - forgotten + needed <= bytes_max {
                break;
            }
            forgotten += HEAD_BYTES + kept.answer.len();
            left -= 1;
        }
        self.kept.drain(..forgotten);
        self.count = left + 1;
        self.kept.reserve_exact(needed);
        self.kept.extend_from_slice(&(hash(id) as u32).to_le_bytes());
        self.kept.extend_from_slice(&hash(frame).to_le_bytes());
        self.kept.extend_from_slice(&since.to_le_bytes());
        self.kept.extend_from_slice(&answer_bytes.to_le_bytes());
        self.kept.extend_from_slice(answer.as_bytes());
    }

    /// Forgets what is older than the window. Whether anything is left.
    pub(super) fn purge(&mut self, now: Instant, window: Duration) -> bool {
        let (mut forgotten, mut left, mut newest) = (0, self.count, None);
        for kept in self.iter() {
            let at = self.at(&kept);
            if newest.is_none() && now.saturating_duration_since(at) >= window {
                forgotten += HEAD_BYTES + kept.answer.len();
                left -= 1;
            } else {
                newest = Some(at);
            }
        }
        self.kept.drain(..forgotten);
        self.count = left;
        self.purge_at = newest.map_or(now, |newest| later(newest, window));
        !self.kept.is_empty() && now.saturating_duration_since(self.begun) < CLOCK_MAX
    }

    /// When to purge.
    pub(super) const fn purge_at(&self) -> Instant {
        self.purge_at
    }

    /// What is allocated for it besides itself.
    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// When an answer was kept.
    fn at(&self, kept: &Kept<'_>) -> Instant {
        self.begun + Duration::from_millis(kept.since.into())
    }

    fn iter(&self) -> impl Iterator<Item = Kept<'_>> {
        let mut rest = self.kept.as_slice();
        std::iter::from_fn(move || {
            let (id, after) = rest.split_first_chunk()?;
            let (frame, after) = after.split_first_chunk()?;
            let (since, after) = after.split_first_chunk()?;
            let (answer_bytes, after) = after.split_first_chunk()?;
            let (answer, after) = after.split_at_checked(u16::from_le_bytes(*answer_bytes).into())?;
            rest = after;
            Some(Kept {
                id: u32::from_le_bytes(*id),
                frame: u64::from_le_bytes(*frame),
                since: u32::from_le_bytes(*since),
                answer,
            })
        })
    }
}

/// Eight bytes at a step, folded by a wide multiplication. Four run side by side, as each waits for the one before it.
fn hash(text: &str) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let fold = |state: u64, word: u64| {
        let wide = u128::from(state ^ word) * u128::from(FACTOR);
        ((wide as u64) ^ (wide >> 64) as u64).wrapping_add(FACTOR)
    };
    let (blocks, rest) = text.as_bytes().as_chunks::<32>();
    let mut lanes = [1, 2, 3, 4_u64].map(|lane| lane.wrapping_mul(FACTOR));
    for block in blocks {
        let (words, _) = block.as_chunks();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = fold(*lane, u64::from_le_bytes(*word));
        }
    }
    let state = lanes.into_iter().fold(text.len() as u64, fold);
    let (words, rest) = rest.as_chunks();
    let state = words.iter().fold(state, |state, word| fold(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    fold(state, u64::from_le_bytes(last))
}
