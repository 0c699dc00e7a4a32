//! Answers kept for calls that are sent again (C09).

use std::time::{Duration, Instant};

/// The last answers of a connection with what they answered, in a bounded number of bytes.
///
/// A call is recognised by two hashes of 64 bits, one of its id and one of its whole text: keeping the texts would cost
/// more than the answers. A station that builds a collision cheats itself only.
#[derive(Debug)]
pub(super) struct Replay {
    /// Oldest first.
    kept: Vec<Kept>,
    /// The answers, one after the other, in the same order.
    answers: Vec<u8>,
    /// When to look for old ones. It does not move with each answer, so that a busy connection's timer stands still.
    purge_at: Instant,
}

#[derive(Debug)]
struct Kept {
    id: u64,
    frame: u64,
    answer_bytes: usize,
    at: Instant,
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
    pub(super) const fn new(purge_at: Instant) -> Self {
        Self { kept: Vec::new(), answers: Vec::new(), purge_at }
    }

    pub(super) fn recall(&self, id: &str, frame: &str, now: Instant, window: Duration) -> Recall {
        let id = hash(id);
        let mut frame_hash = None;
        let mut reused = false;
        let mut start = 0;
        for kept in &self.kept {
            let end = start + kept.answer_bytes;
            if kept.id == id && now.saturating_duration_since(kept.at) < window {
                reused = true;
                if kept.frame == *frame_hash.get_or_insert_with(|| hash(frame)) {
                    let answer = self.answers.get(start..end).unwrap_or_default();
                    return Recall::Same(String::from_utf8_lossy(answer).into_owned());
                }
            }
            start = end;
        }
        if reused { Recall::IdReused } else { Recall::New }
    }

    /// Keeps an answer and forgets the oldest ones for it.
    pub(super) fn keep(&mut self, id: &str, frame: &str, answer: &str, now: Instant, bytes_max: usize) {
        let cost = |answers: usize, kept: usize| answers + kept * size_of::<Kept>();
        if cost(answer.len(), 1) > bytes_max {
            return;
        }
        let (mut forgotten, mut forgotten_bytes) = (0, 0);
        while cost(self.answers.len() - forgotten_bytes + answer.len(), self.kept.len() - forgotten + 1)
            > bytes_max
        {
            let Some(oldest) = self.kept.get(forgotten) else { break };
            forgotten_bytes += oldest.answer_bytes;
            forgotten += 1;
        }
        self.forget(forgotten);
        self.answers.reserve_exact(answer.len());
        self.answers.extend_from_slice(answer.as_bytes());
        self.kept.reserve_exact(1);
        self.kept.push(Kept { id: hash(id), frame: hash(frame), answer_bytes: answer.len(), at: now });
    }

    /// Forgets what is older than the window. Whether anything is left.
    pub(super) fn purge(&mut self, now: Instant, window: Duration) -> bool {
        let old =
            self.kept.iter().take_while(|kept| now.saturating_duration_since(kept.at) >= window).count();
        self.forget(old);
        self.purge_at = self.kept.last().map_or(now, |newest| newest.at + window);
        !self.kept.is_empty()
    }

    /// When to purge.
    pub(super) const fn purge_at(&self) -> Instant {
        self.purge_at
    }

    fn forget(&mut self, count: usize) {
        let bytes: usize = self.kept.drain(..count).map(|kept| kept.answer_bytes).sum();
        self.answers.drain(..bytes);
    }
}

/// Eight bytes at a step, folded by a wide multiplication.
fn hash(text: &str) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let fold = |state: u64, word: u64| {
        let wide = u128::from(state ^ word) * u128::from(FACTOR);
        (wide as u64) ^ (wide >> 64) as u64
    };
    let (words, rest) = text.as_bytes().as_chunks();
    let state = words.iter().fold(FACTOR ^ text.len() as u64, |state, word| {
        fold(state, u64::from_le_bytes(*word)).wrapping_add(FACTOR)
    });
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    fold(state, u64::from_le_bytes(last))
}
