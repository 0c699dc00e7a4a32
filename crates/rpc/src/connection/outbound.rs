//! Our CALLs: at most one is outstanding, the others wait in two lanes (C01).

use super::{CallRefused, Lane, Outgoing, Registration, later, queue::pop_and_shrink};
use crate::{MessageId, Version};
use std::{collections::VecDeque, time::Instant};

#[derive(Debug)]
struct Queued {
    call: Outgoing,
    expires: Instant,
}

/// A CALL of ours that was written and not yet answered.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) key: u64,
    pub(super) id: MessageId,
    deadline: Instant,
}

/// Our CALLs of a connection. There is one only while there are any.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    outstanding: Option<Outstanding>,
    urgent: VecDeque<Queued>,
    normal: VecDeque<Queued>,
}

impl Outbound {
    pub(super) fn push(&mut self, call: Outgoing, now: Instant, calls_max: usize) -> Result<(), CallRefused> {
        let lane = match call.lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Normal => &mut self.normal,
        };
        if lane.len() >= calls_max {
            return Err(CallRefused::Full);
        }
        let expires = later(now, call.queue_timeout);
        lane.push_back(Queued { call, expires });
        Ok(())
    }

    /// Takes the next call to be written, unless one is outstanding: urgent ones first.
    pub(super) fn write(&mut self, now: Instant) -> Option<Outgoing> {
        if self.outstanding.is_some() {
            return None;
        }
        let lane = if self.urgent.is_empty() { &mut self.normal } else { &mut self.urgent };
        let Queued { call, .. } = pop_and_shrink(lane)?;
        // C01: the deadline counts from here.
        let deadline = later(now, call.answer_timeout);
        self.outstanding = Some(Outstanding { key: call.key, id: call.id.clone(), deadline });
        Some(call)
    }

    /// The outstanding call, if `ends` says that it ends now.
    pub(super) fn end_outstanding(&mut self, ends: impl FnOnce(&Outstanding) -> bool) -> Option<u64> {
        self.outstanding.take_if(|outstanding| ends(outstanding)).map(|outstanding| outstanding.key)
    }

    pub(super) fn time_out(&mut self, now: Instant) -> Option<u64> {
        self.end_outstanding(|outstanding| outstanding.deadline <= now)
    }

    /// Takes out a waiting call that has waited too long. To be repeated until `None`.
    pub(super) fn expire(&mut self, now: Instant) -> Option<u64> {
        self.take_waiting(|queued| queued.expires <= now)
    }

    /// Takes out a waiting call that may not be sent. To be repeated until `None`.
    pub(super) fn forbid(&mut self, registration: Registration, version: Version) -> Option<u64> {
        self.take_waiting(|queued| !registration.allows(version, &queued.call.action))
    }

    pub(super) fn cancel(&mut self, key: u64) -> Option<u64> {
        self.take_waiting(|queued| queued.call.key == key)
    }

    /// Takes out any waiting call. To be repeated until `None`.
    pub(super) fn drain(&mut self) -> Option<u64> {
        self.take_waiting(|_| true)
    }

    fn take_waiting(&mut self, mut which: impl FnMut(&Queued) -> bool) -> Option<u64> {
        for lane in [&mut self.urgent, &mut self.normal] {
            if let Some(at) = lane.iter().position(&mut which) {
                return lane.remove(at).map(|queued| queued.call.key);
            }
        }
        None
    }

    pub(super) fn waiting(&self) -> usize {
        self.urgent.len() + self.normal.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outstanding.is_none() && self.waiting() == 0
    }

    /// When the outstanding call times out or a waiting one expires, whichever is first.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.urgent.iter().chain(&self.normal).map(|queued| queued.expires);
        waiting.chain(self.outstanding.as_ref().map(|outstanding| outstanding.deadline)).min()
    }
}
