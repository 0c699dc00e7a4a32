//! The peer's CALLs: one in hand, the others waiting behind it.

use super::{
    Called, Config,
    queue::pop_and_shrink,
    replay::{Recall, Replay},
};
use crate::{
    Version,
    frame::{FrameKind, Layout, same_id, write_answered},
};
use bytes::Bytes;
use bytestring::ByteString;
use std::{collections::VecDeque, time::Instant};

/// A CALL as it came.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) seq: u64,
    pub(super) text: ByteString,
    pub(super) layout: Layout,
    pub(super) received: Instant,
}

#[derive(Debug)]
struct Waiting {
    call: Arrived,
    /// The call before it that it repeats word by word: it waits for that one's answer.
    repeats: Option<u64>,
    answer: Option<ByteString>,
}

/// What happened to a call that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is in hand or waits.
    Taken,
    /// It waits for the answer of another one.
    Repeats,
    /// It waits or is in hand, though another call with its id does as well.
    IdReused,
}

/// What comes next after a call was dealt with.
#[derive(Debug)]
pub(super) enum Next {
    /// An answer that was given before.
    Repeat(ByteString),
    /// A new call is in hand; its id was used before for something else.
    InHandIdReused,
    /// A new call is in hand.
    InHand,
}

/// The peer's CALLs of a connection.
#[derive(Debug)]
pub(super) struct Inbound {
    in_hand: Option<Arrived>,
    given: bool,
    waiting: VecDeque<Waiting>,
    last_seq: u64,
    /// There while it holds something.
    replay: Option<Box<Replay>>,
}

impl Inbound {
    pub(super) const fn new() -> Self {
        Self { in_hand: None, given: false, waiting: VecDeque::new(), last_seq: 0, replay: None }
    }

    pub(super) fn is_full(&self, config: &Config) -> bool {
        self.waiting.len() >= config.inbound_calls_max
            || self.waiting.iter().map(|waiting| waiting.call.text.len()).sum::<usize>()
                > config.inbound_bytes_max
    }

    pub(super) const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// A number for something that is no call.
    pub(super) const fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// The number of the call in hand, if it has been given out.
    pub(super) fn in_hand(&self) -> Option<u64> {
        self.in_hand.as_ref().filter(|_| self.given).map(|call| call.seq)
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.in_hand.is_none()
    }

    /// Nothing is in hand, and nothing waits.
    pub(super) fn is_free(&self) -> bool {
        self.in_hand.is_none() && self.waiting.is_empty()
    }

    /// Takes a CALL while [nothing is before it](Self::is_free), as is usual: it needs no place in the queue.
    pub(super) fn take(
        &mut self,
        text: ByteString,
        layout: Layout,
        received: Instant,
        config: &Config,
    ) -> Next {
        self.last_seq += 1;
        self.begin(Arrived { seq: self.last_seq, text, layout, received }, received, config)
    }

    /// Takes a CALL to the end of the queue.
    pub(super) fn push(&mut self, text: ByteString, layout: Layout, received: Instant) -> Arrival {
        self.last_seq += 1;
        let call = Arrived { seq: self.last_seq, text, layout, received };
        let id = layout.id_json(&call.text);
        let before = || self.in_hand.iter().chain(self.waiting.iter().map(|waiting| &waiting.call));
        // C09: the same words again are the same call again; the same id with other words is another call.
        let repeats = before().find(|earlier| earlier.text == call.text).map(|earlier| earlier.seq);
        let arrival = if repeats.is_some() {
            Arrival::Repeats
        } else if before().any(|earlier| same_id(earlier.layout.id_json(&earlier.text), id)) {
            Arrival::IdReused
        } else {
            Arrival::Taken
        };
        self.waiting.push_back(Waiting { call, repeats, answer: None });
        arrival
    }

    /// Takes the next call in hand if there is none. To be repeated until `None`.
    pub(super) fn advance(&mut self, now: Instant, config: &Config) -> Option<Next> {
        if self.in_hand.is_some() {
            return None;
        }
        let Waiting { call, answer, .. } = pop_and_shrink(&mut self.waiting)?;
        Some(match answer {
            Some(answer) => Next::Repeat(answer),
            None => self.begin(call, now, config),
        })
    }

    /// Takes a call in hand, unless its answer is known.
    fn begin(&mut self, call: Arrived, now: Instant, config: &Config) -> Next {
        // Asked only now, so that an answer from memory does not overtake the calls before it (C10).
        let recall = match &self.replay {
            Some(replay) => {
                replay.recall(call.layout.id_json(&call.text), &call.text, now, config.replay_window)
            }
            None => Recall::New,
        };
        if let Recall::Same(answer) = recall {
            return Next::Repeat(answer.into());
        }
        self.in_hand = Some(call);
        self.given = false;
        if recall == Recall::IdReused { Next::InHandIdReused } else { Next::InHand }
    }

    /// Gives out the call in hand, once.
    pub(super) fn give(&mut self) -> Option<Called> {
        let call = self.in_hand.as_ref().filter(|_| !self.given)?;
        self.given = true;
        Some(Called {
            seq: call.seq,
            id: call.layout.id(&call.text),
            action: call.layout.name(&call.text),
            payload: call.layout.payload(&call.text),
            frame: call.text.clone(),
            received: call.received,
        })
    }

    /// Checks an answer to the call in hand and brings it into the form in which it is written.
    pub(super) fn check_answer(&self, frame: Bytes, version: Version) -> Option<(ByteString, FrameKind)> {
        let call = self.in_hand.as_ref()?;
        let text = ByteString::try_from(frame).ok()?;
        let layout = Layout::of(&text, version).ok()?;
        let id = call.layout.id_json(&call.text);
        if !matches!(layout.kind, FrameKind::Result | FrameKind::Error) || !same_id(id, layout.id_json(&text))
        {
            return None;
        }
        Some((write_answered(text, &layout, id, version), layout.kind))
    }

    /// The call in hand has this answer.
    pub(super) fn answered(&mut self, answer: &ByteString, kind: FrameKind, now: Instant, config: &Config) {
        let Some(call) = self.in_hand.take() else { return };
        for waiting in &mut self.waiting {
            if waiting.repeats == Some(call.seq) {
                waiting.answer = Some(answer.clone());
            }
        }
        // C09: an error is not kept: who sends the call again wants it tried again. Heartbeat carries the time and
        // Authorize a decision of the moment.
        let action = call.layout.name(&call.text);
        if kind == FrameKind::Result
            && !config.replay_window.is_zero()
            && config.replay_bytes_max > 0
            && !matches!(&*action, "Heartbeat" | "Authorize")
        {
            let replay = self.replay.get_or_insert_with(|| Box::new(Replay::new(now, config.replay_window)));
            replay.keep(call.layout.id_json(&call.text), &call.text, answer, now, config.replay_bytes_max);
        }
    }

    /// The call in hand gets no answer. The first call that repeats it takes its place.
    pub(super) fn silenced(&mut self) {
        let Some(call) = self.in_hand.take() else { return };
        let mut heir = None;
        for waiting in &mut self.waiting {
            if waiting.repeats == Some(call.seq) {
                waiting.repeats = heir;
                heir = heir.or(Some(waiting.call.seq));
            }
        }
    }

    pub(super) fn purge_at(&self) -> Option<Instant> {
        self.replay.as_ref().map(|replay| replay.purge_at())
    }

    pub(super) fn purge(&mut self, now: Instant, config: &Config) {
        if self
            .replay
            .as_mut()
            .is_some_and(|replay| replay.purge_at() <= now && !replay.purge(now, config.replay_window))
        {
            self.replay = None;
        }
    }

    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.replay.as_ref().map_or(0, |replay| replay.bytes())
    }

    #[cfg(test)]
    pub(super) fn waiting_capacity(&self) -> usize {
        self.waiting.capacity()
    }

    /// The connection has ended.
    pub(super) fn clear(&mut self) {
        *self = Self { last_seq: self.last_seq, ..Self::new() };
    }
}
