//! Joins calls with their answers.
//!
//! A state machine without I/O or clock: records go in, entries come out. Whose answer is missing is told after a time;
//! that the gateway itself knows it earlier comes as a record. What was lost on the way here makes nobody look guilty:
//! answers whose call was not seen are passed over for a while, and calls whose answer may be among the lost say so.

use crate::entry::{About, Direction, Entry, Exchange, Outcome, Passed, What};
use bytestring::ByteString;
use std::{
    collections::{HashMap, VecDeque, hash_map},
    time::{Duration, Instant},
};
use switchboard_gateway::{Record, Seen, Unprocessed};
use switchboard_rpc::{Fault, Frame, FrameKind, MessageId, StationId, Version};

/// Joins calls with their answers.
#[derive(Debug)]
pub(crate) struct Joiner {
    conversations: HashMap<Key, Conversation>,
    open: usize,
    bytes: usize,
    /// How long an answer of processing is waited for.
    patience: Duration,
    /// Until then answers without a call are no news.
    quiet_until: Option<Instant>,
    lost_at: Option<Instant>,
}

/// Tenant, station and generation: a connection.
type Key = (ByteString, StationId, u64);

/// The open calls of a connection. There is one only while there are any, or a late answer may come.
#[derive(Debug, Default)]
struct Conversation {
    /// The station's, the one in hand first.
    inward: VecDeque<Open>,
    /// Ours; the protocol allows one.
    outward: VecDeque<Open>,
    /// Our last call that was not answered in time.
    late: Option<(MessageId, ByteString)>,
}

#[derive(Debug)]
struct Open {
    about: About,
    at: Instant,
    id: MessageId,
    action: ByteString,
    request: ByteString,
    attempts: u32,
    note: Option<&'static str>,
}

impl Joiner {
    pub(crate) fn new(answer_deadline: Duration) -> Self {
        Self {
            conversations: HashMap::new(),
            open: 0,
            bytes: 0,
            patience: answer_deadline + GRACE,
            quiet_until: None,
            lost_at: None,
        }
    }

    /// The traffic is followed from now on: what came before was not seen.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.quiet_until = Some(now + QUIET);
    }

    /// Nobody follows the traffic any more.
    pub(crate) fn forget(&mut self) {
        self.conversations = HashMap::new();
        (self.open, self.bytes, self.lost_at) = (0, 0, None);
    }

    /// Records were lost.
    pub(crate) fn lost(&mut self, now: Instant) {
        self.lost_at = Some(now);
        self.quiet_until = Some(now + QUIET);
    }

    /// How many calls wait for their answers.
    pub(crate) const fn open(&self) -> usize {
        self.open
    }

    /// Takes in a record and gives out what it makes known; single frames as well if `frames`.
    pub(crate) fn see(&mut self, record: Record, frames: bool, give: &mut dyn FnMut(Entry)) {
        let about = About::of(&record);
        let at = record.at;
        let (Some(station), Some(version)) = (record.station, record.version) else {
            if let Seen::Refused { address, path, status, reason } = record.seen {
                give(Entry { about, what: What::Refused { address, path, status, reason } });
            }
            return;
        };
        let key = (record.tenant, station, record.generation);
        match record.seen {
            Seen::Connected => give(Entry { about, what: What::Connected }),
            Seen::Received(text) => self.passed(Direction::In, key, about, at, version, &text, frames, give),
            Seen::Sent(text) => self.passed(Direction::Out, key, about, at, version, &text, frames, give),
            Seen::HandedOver { attempt } => {
                if let Some(open) = self.in_hand(&key) {
                    open.attempts = attempt;
                }
            }
            Seen::Unprocessed(Unprocessed::Journalled) => {
                if let Some(open) = self.in_hand(&key) {
                    open.note =
                        Some("not processed in time: kept in the journal and answered with an empty object");
                }
            }
            Seen::Unprocessed(Unprocessed::Failed) => {
                if let Some(open) = self.in_hand(&key) {
                    open.note = Some("not processed in time");
                }
            }
            Seen::Unprocessed(how) => {
                let note = if how == Unprocessed::Silence {
                    "not processed in time: left without an answer, so that the station repeats it"
                } else {
                    "not processed in time: the connection is closed, so that the station keeps it"
                };
                if let Some(open) = self.take(&key, Direction::In, |_| true) {
                    give(open.ended(Direction::In, Outcome::TimedOut, at, Some(note)));
                }
            }
            Seen::Unanswered => {
                if let Some(open) = self.take(&key, Direction::Out, |_| true) {
                    if let Some(conversation) = self.conversations.get_mut(&key) {
                        conversation.late = Some((open.id.clone(), open.action.clone()));
                    }
                    give(open.ended(Direction::Out, Outcome::TimedOut, at, None));
                }
            }
            Seen::Disconnected { reason, code, replaced } => {
                if let Some(conversation) = self.conversations.remove(&key) {
                    let Conversation { inward, outward, .. } = conversation;
                    let both = inward.into_iter().map(|open| (Direction::In, open));
                    for (direction, open) in
                        both.chain(outward.into_iter().map(|open| (Direction::Out, open)))
                    {
                        self.count_out(&open);
                        give(open.ended(
                            direction,
                            Outcome::Unanswered,
                            at,
                            Some("the connection ended first"),
                        ));
                    }
                }
                give(Entry { about, what: What::Disconnected { reason, code, replaced } });
            }
            _ => {}
        }
    }

    /// Gives out the calls that have waited for too long, or all.
    pub(crate) fn sweep(&mut self, now: Instant, all: bool, give: &mut dyn FnMut(Entry)) {
        let (patience, lost_at) = (self.patience, self.lost_at);
        let mut ended = Vec::new();
        self.conversations.retain(|_, conversation| {
            for direction in [Direction::In, Direction::Out] {
                let patience = if direction == Direction::In { patience } else { COMMAND_PATIENCE };
                let calls = conversation.calls(direction);
                while let Some(open) =
                    calls.pop_front_if(|open| all || now.saturating_duration_since(open.at) >= patience)
                {
                    ended.push((direction, open));
                }
            }
            !(conversation.inward.is_empty() && conversation.outward.is_empty())
        });
        for (direction, open) in ended {
            self.count_out(&open);
            let note = if lost_at.is_some_and(|lost_at| open.at <= lost_at) {
                "its answer may be among the records that are missing"
            } else if all {
                "the process ends"
            } else {
                "no answer was seen"
            };
            give(open.ended(direction, Outcome::Unanswered, now, Some(note)));
        }
    }

    /// A frame that a side sent.
    #[expect(clippy::too_many_arguments, reason = "all of a record, taken apart once")]
    fn passed(
        &mut self,
        from: Direction,
        key: Key,
        about: About,
        at: Instant,
        version: Version,
        text: &ByteString,
        frames: bool,
        give: &mut dyn FnMut(Entry),
    ) {
        let frame = match Frame::parse(text, version) {
            Ok(frame) => frame,
            Err(error) => {
                if frames {
                    let passed = Passed { text: text.clone(), ..Passed::bad(from) };
                    give(Entry { about: about.clone(), what: What::Frame(Box::new(passed)) });
                }
                if error.fault == Fault::Empty || from == Direction::Out {
                    return;
                }
                // C06: it ends our call.
                let is_answer = matches!(error.kind, Some(FrameKind::Result | FrameKind::Error));
                if let Some(id) = error.id.filter(|_| is_answer)
                    && let Some(open) = self.take(&key, Direction::Out, |open| open.id == id)
                {
                    let note = Some("its answer cannot be read");
                    give(open.ended(Direction::Out, Outcome::Unanswered, at, note));
                }
                give(Entry { about, what: What::Bad { fault: error.fault, text: text.clone() } });
                return;
            }
        };
        let other = if from == Direction::In { Direction::Out } else { Direction::In };
        let mut passed = Passed {
            kind: Some(frame.kind()),
            id: Some(frame.id().clone()),
            text: text.clone(),
            ..Passed::bad(from)
        };
        let show = |passed: Passed, about: &About, give: &mut dyn FnMut(Entry)| {
            if frames {
                give(Entry { about: about.clone(), what: What::Frame(Box::new(passed)) });
            }
        };
        match frame {
            Frame::Call { id, action, payload } => {
                (passed.action, passed.direction) = (Some(action.clone()), Some(from));
                passed.request = Some(payload.clone());
                show(passed, &about, give);
                let open = Open { about, at, id, action, request: payload, attempts: 1, note: None };
                self.push(key, from, open, give);
            }
            Frame::Send { id, action, payload } => {
                (passed.action, passed.direction) = (Some(action.clone()), Some(from));
                show(passed, &about, give);
                let open = Open { about, at, id, action, request: payload, attempts: 1, note: None };
                let mut entry = open.ended(from, Outcome::Sent, at, None);
                if let What::Exchange(exchange) = &mut entry.what {
                    exchange.latency = None;
                }
                give(entry);
            }
            Frame::Result { id, payload } => {
                self.answered(
                    &key,
                    other,
                    &id,
                    Outcome::Answered { response: payload },
                    at,
                    about,
                    passed,
                    frames,
                    give,
                );
            }
            Frame::Error { id, code, description, details } => {
                let outcome = Outcome::Refused { code, description, details };
                self.answered(&key, other, &id, outcome, at, about, passed, frames, give);
            }
            Frame::ResultError { id, code, description, .. } => {
                passed.direction = Some(from);
                show(passed, &about, give);
                give(Entry { about, what: What::ResultError { direction: from, id, code, description } });
            }
            _ => {}
        }
    }

    /// An answer to a call of this direction.
    #[expect(clippy::too_many_arguments, reason = "all of a record, taken apart once")]
    fn answered(
        &mut self,
        key: &Key,
        direction: Direction,
        id: &MessageId,
        outcome: Outcome,
        at: Instant,
        about: About,
        mut passed: Passed,
        frames: bool,
        give: &mut dyn FnMut(Entry),
    ) {
        passed.direction = Some(direction);
        let open = self.take(key, direction, |open| open.id == *id);
        if let Some(open) = &open {
            passed.action = Some(open.action.clone());
            passed.latency = Some(at.saturating_duration_since(open.at));
            passed.request = Some(open.request.clone());
        }
        let text = passed.text.clone();
        if frames {
            give(Entry { about: about.clone(), what: What::Frame(Box::new(passed)) });
        }
        if let Some(open) = open {
            give(open.ended(direction, outcome, at, None));
            return;
        }
        // An answer of ours without a call is one to a bad frame, or its call was not seen.
        if direction == Direction::In {
            return;
        }
        let late = self.conversations.get_mut(key).and_then(|conversation| {
            conversation.late.take_if(|(late, _)| late == id).map(|(_, action)| action)
        });
        if late.is_some() || self.quiet_until.is_none_or(|until| at >= until) {
            give(Entry { about, what: What::Unmatched { id: id.clone(), action: late, text } });
        }
    }

    fn push(&mut self, key: Key, direction: Direction, open: Open, give: &mut dyn FnMut(Entry)) {
        if self.open >= OPEN_MAX || self.bytes.saturating_add(open.request.len()) > OPEN_BYTES_MAX {
            let at = open.at;
            let note = Some("too many calls are open to wait for its answer");
            give(open.ended(direction, Outcome::Unanswered, at, note));
            return;
        }
        self.open += 1;
        self.bytes += open.request.len();
        self.conversations.entry(key).or_default().calls(direction).push_back(open);
    }

    fn in_hand(&mut self, key: &Key) -> Option<&mut Open> {
        self.conversations.get_mut(key)?.inward.front_mut()
    }

    fn take(&mut self, key: &Key, direction: Direction, which: impl Fn(&Open) -> bool) -> Option<Open> {
        let hash_map::Entry::Occupied(mut conversation) = self.conversations.entry(key.clone()) else {
            return None;
        };
        let calls = conversation.get_mut().calls(direction);
        let open = calls.iter().position(which).and_then(|at| calls.remove(at))?;
        // One of ours that was not answered in time leaves its name behind for a late answer.
        if direction == Direction::In
            && calls.is_empty()
            && conversation.get().outward.is_empty()
            && conversation.get().late.is_none()
        {
            conversation.remove();
        }
        self.count_out(&open);
        Some(open)
    }

    fn count_out(&mut self, open: &Open) {
        self.open -= 1;
        self.bytes -= open.request.len();
    }
}

impl Conversation {
    const fn calls(&mut self, direction: Direction) -> &mut VecDeque<Open> {
        match direction {
            Direction::In => &mut self.inward,
            Direction::Out => &mut self.outward,
        }
    }
}

impl Open {
    fn ended(self, direction: Direction, outcome: Outcome, at: Instant, note: Option<&'static str>) -> Entry {
        let Self { about, at: since, id, action, request, attempts, note: earlier } = self;
        Entry {
            about,
            what: What::Exchange(Box::new(Exchange {
                direction,
                id,
                action,
                request,
                outcome,
                latency: Some(at.saturating_duration_since(since)),
                attempts,
                note: note.or(earlier),
            })),
        }
    }
}

impl Passed {
    const fn bad(from: Direction) -> Self {
        Self {
            from,
            kind: None,
            id: None,
            action: None,
            direction: Some(from),
            text: ByteString::from_static(""),
            latency: None,
            request: None,
        }
    }
}

/// What processing may take beyond its deadline until we say that no answer was seen: it is journalled meanwhile.
const GRACE: Duration = Duration::from_secs(10);
/// How long an answer to a command is waited for, if the gateway does not say so earlier. No command waits longer.
const COMMAND_PATIENCE: Duration = Duration::from_secs(660);
/// How long answers are passed over whose call may not have been seen.
const QUIET: Duration = Duration::from_secs(60);
/// Calls that wait for their answers. Beyond it a call is told without its answer.
const OPEN_MAX: usize = 200_000;
/// Bytes of their payloads.
const OPEN_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests;
