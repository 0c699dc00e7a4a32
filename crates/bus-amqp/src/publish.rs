//! Envelopes out, and who learns what became of them.
//!
//! A call and a command are published as mandatory, and the broker returns them if no queue takes them. That one was
//! *not* returned is known when the broker has answered something that was said behind it: the fence, a `basic.qos` that
//! changes nothing, sent a few milliseconds after the first message that waits for it and for all of them together. So a
//! call that is answered by then — nearly every one — costs nothing, and nobody waits for a confirm of its own, which
//! would cost the broker a message between its processes and us a frame for each.
//!
//! All else needs no verdict: who expects an answer or an outcome asks again, and signs of life and events are for those
//! who listen.

use crate::line::{Line, OUT_BYTES_MAX, Shared};
use crate::wire::{Publish, Writer};
use foldhash::HashMap;
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use switchboard_bus::{Address, Envelope, Kind, PublishError, State, partition, percent};

/// The channel that is published on.
pub(crate) const CHANNEL: u16 = 1;
/// The largest body: half of what brokers of version 4 take by default.
pub(crate) const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a message waits for others before one fence is sent for all of them.
pub(crate) const FENCE_AFTER: Duration = Duration::from_millis(5);

/// What became of mandatory messages. As many as there are futures that wait.
#[derive(Default)]
pub(crate) struct Verdicts {
    last: u64,
    waiting: HashMap<u64, Verdict>,
    /// The number up to which the fence that is under way decides.
    fence: Option<u64>,
    /// Somebody would rather not wait for others.
    pub(crate) urgent: bool,
}

enum Verdict {
    Unknown(Option<Waker>),
    /// Some queue has it.
    Taken,
    Returned,
    /// The connection went before it was known.
    Lost,
}

impl Verdicts {
    const fn next(&self) -> u64 {
        self.last + 1
    }

    fn wait(&mut self, urgent: bool) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, Verdict::Unknown(None));
        self.urgent |= urgent;
        self.last
    }

    /// Whether a fence would decide something, and none is under way.
    pub(crate) fn want_fence(&self) -> bool {
        self.fence.is_none() && !self.waiting.is_empty()
    }

    /// A fence is being sent.
    pub(crate) const fn fence_sent(&mut self) {
        self.fence = Some(self.last);
        self.urgent = false;
    }

    /// The fence was answered: what was not returned by now was taken. Gives back whom to wake, outside the lock.
    #[must_use]
    pub(crate) fn fence_passed(&mut self) -> Vec<Waker> {
        let Some(upto) = self.fence.take() else { return Vec::new() };
        self.settle(|number| number <= upto, || Verdict::Taken)
    }

    /// The broker gave this one back.
    #[must_use]
    pub(crate) fn returned(&mut self, number: u64) -> Option<Waker> {
        self.waiting.get_mut(&number)?.settle(Verdict::Returned)
    }

    /// The connection is gone, or cannot be written to.
    #[must_use]
    pub(crate) fn lost(&mut self) -> Vec<Waker> {
        self.fence = None;
        self.settle(|_| true, || Verdict::Lost)
    }

    fn settle(&mut self, whom: impl Fn(u64) -> bool, how: impl Fn() -> Verdict) -> Vec<Waker> {
        let those = self.waiting.iter_mut().filter(|(number, _)| whom(**number));
        those.filter_map(|(_, verdict)| verdict.settle(how())).collect()
    }
}

impl Verdict {
    fn settle(&mut self, verdict: Self) -> Option<Waker> {
        if !matches!(self, Self::Unknown(_)) {
            return None;
        }
        match std::mem::replace(self, verdict) {
            Self::Unknown(waker) => waker,
            _ => None,
        }
    }
}

/// Waits for the verdict on one message.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    number: u64,
}

impl Future for Waiting {
    type Output = Result<(), PublishError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut line = self.shared.lock();
        match line.verdicts.waiting.get_mut(&self.number) {
            Some(Verdict::Unknown(waker)) => {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            Some(Verdict::Returned) => Poll::Ready(Err(PublishError::NobodyListens)),
            Some(Verdict::Lost) => Poll::Ready(Err(PublishError::Refused(Box::new(Unsure)))),
            Some(Verdict::Taken) | None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.lock().verdicts.waiting.remove(&self.number);
    }
}

/// The one error after which somebody may have it.
#[derive(Debug, thiserror::Error)]
#[error("the connection to the broker was lost before it was known whether the message was taken")]
struct Unsure;

/// No frame holds the headers.
#[derive(Debug, thiserror::Error)]
#[error("the headers are larger than a frame of this connection, {limit} bytes")]
struct HeadersTooLarge {
    limit: usize,
}

/// Puts an envelope on its way. What is given back, if anything, knows what became of it.
pub(crate) fn publish(
    shared: &Arc<Shared>,
    to: &Address,
    envelope: &Envelope,
) -> Result<Option<Waiting>, PublishError> {
    let bytes = envelope.body.len();
    if bytes > BODY_BYTES_MAX {
        return Err(PublishError::TooLarge { bytes, limit: BODY_BYTES_MAX });
    }
    let names = &shared.config.names;
    let metadata = &envelope.metadata;
    let mut digits = itoa::Buffer::new();
    let (exchange, key): (&str, Cow<'_, str>) = match to {
        Address::Call { tenant, station } => {
            let partition = partition(tenant, station.as_str(), shared.config.partitions);
            (&names.calls, digits.format(partition).into())
        }
        // The default exchange takes the name of a queue as its key.
        Address::Inbox(name) => match names.inbox(name) {
            Some(queue) => ("", queue.into()),
            None => return Err(PublishError::NobodyListens),
        },
        Address::Presence => (&names.presence, "".into()),
        Address::Event { tenant, station } => {
            let (tenant, station) = (percent::encode_token(tenant), percent::encode_token(station.as_str()));
            (&names.events, format!("{tenant}.{station}").into())
        }
    };
    let is_for_one = matches!(to, Address::Call { .. } | Address::Inbox(_));
    let wants_verdict = is_for_one && matches!(metadata.kind, Kind::Call | Kind::Command);
    let reply_to = metadata.reply_to.as_ref().and_then(|name| names.inbox(name));
    let append = |line: &mut Line| {
        match line.state {
            State::Connected => {}
            State::Away => return Err(PublishError::Away),
            State::Closed => return Err(PublishError::Closed),
        }
        if line.out.len() > OUT_BYTES_MAX {
            return Err(PublishError::Busy);
        }
        let to = Publish {
            exchange,
            key: &key,
            number: wants_verdict.then(|| line.verdicts.next()),
            reply_to: reply_to.as_deref(),
            expiration_ms: metadata.remaining.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        };
        let frame_max = line.frame_max;
        let mut writer = Writer::new(&mut line.out, CHANNEL);
        let headers = |put: &mut dyn FnMut(&'static str, &str)| {
            metadata.encode_headers(&mut |name, value| put(name, value));
        };
        if !writer.publish(&to, headers, &envelope.body, frame_max) {
            return Err(PublishError::Refused(Box::new(HeadersTooLarge { limit: frame_max })));
        }
        // A gateway's first attempt does not wait for its verdict but for the answer; all others do.
        let urgent = metadata.kind == Kind::Command || metadata.journal.is_some();
        Ok(wants_verdict.then(|| line.verdicts.wait(urgent)))
    };
    let number = shared.tell(append)?;
    Ok(number.map(|number| Waiting { shared: Arc::clone(shared), number }))
}
