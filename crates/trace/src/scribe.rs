//! The thread that follows the tap: it joins, redacts, records and gives to readers.
//!
//! It sleeps until something is there, and then a little longer, so that under load it is woken a few times a second and
//! not for each frame. While nobody reads and nothing is recorded the tap is closed.

use crate::{
    config::{Config, Personal},
    entry::{Entry, What},
    join::Joiner,
    line,
    metrics::Metrics,
    redact::Redactor,
    ring::{News, Ring, Snapshot},
    watcher::Watcher,
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use switchboard_gateway::{Record, Tap};
use tokio::sync::oneshot;

/// What others ask of the thread.
pub(crate) enum Request {
    /// A new reader. It gets what happens from now on, and the ring as it is now.
    Watch(Box<Watcher>, oneshot::Sender<Snapshot>),
    /// The ring as it is now.
    Flush(oneshot::Sender<Snapshot>),
}

/// Where requests are left.
pub(crate) struct Desk {
    /// None once nobody takes them any more.
    requests: Mutex<Option<Vec<Request>>>,
    pub(crate) stop: AtomicBool,
}

impl Desk {
    pub(crate) const fn new() -> Self {
        Self { requests: Mutex::new(Some(Vec::new())), stop: AtomicBool::new(false) }
    }

    /// Leaves a request; it is dropped if nobody takes it any more.
    pub(crate) fn leave(&self, request: Request) {
        if let Some(requests) = &mut *self.requests() {
            requests.push(request);
        }
    }

    fn take(&self) -> Vec<Request> {
        self.requests().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn close(&self) {
        *self.requests() = None;
    }

    fn is_asked(&self) -> bool {
        self.stop.load(Ordering::Acquire)
            || self.requests().as_ref().is_some_and(|requests| !requests.is_empty())
    }

    fn requests(&self) -> MutexGuard<'_, Option<Vec<Request>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.desk.close();
        self.tap.set_open(false);
    }
}

/// The thread's own.
pub(crate) struct Scribe {
    tap: Tap,
    desk: Arc<Desk>,
    redactor: Arc<Redactor>,
    ring: Ring,
    keeps: bool,
    keeps_personal: bool,
    joiner: Joiner,
    watchers: Vec<Watcher>,
    records: Vec<Record>,
    is_open: bool,
    swept: Instant,
    /// Records that were lost and of which the ring has not been told.
    metrics: Metrics,
}

impl Scribe {
    pub(crate) fn new(
        tap: Tap,
        desk: Arc<Desk>,
        redactor: Arc<Redactor>,
        config: &Config,
        metrics: Metrics,
    ) -> Self {
        Self {
            tap,
            desk,
            redactor,
            ring: Ring::new(config.folder.clone(), config.ring_bytes, metrics.clone()),
            keeps: config.ring_bytes > 0,
            keeps_personal: config.personal == Personal::Keep,
            joiner: Joiner::new(config.answer_deadline),
            watchers: Vec::new(),
            records: Vec::new(),
            is_open: false,
            swept: now(),
            metrics,
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) {
        self.tap.follow();
        self.open_or_close();
        while !self.desk.stop.load(Ordering::Acquire) {
            self.work();
            self.rest();
        }
        self.work();
        self.joiner_gives(|joiner, give| joiner.sweep(now(), true, give));
        self.flush();
    }

    /// Waits until there is something to do.
    fn rest(&mut self) {
        if self.desk.is_asked() {
            return;
        }
        let now = now();
        let sweep_at = (self.joiner.open() > 0).then_some(self.swept + SWEEP_INTERVAL);
        let owed_at = self.watchers.iter().any(Watcher::is_owed).then_some(now + BATCH);
        let next = [sweep_at, owed_at, self.ring.due_at()].into_iter().flatten().min();
        // A reader that went away is noticed when something is to be given to it, or here.
        let idle = if self.watchers.is_empty() { IDLE } else { WATCHED };
        let wait = next.map_or(idle, |next| next.saturating_duration_since(now).min(idle));
        thread::park_timeout(wait);
        if !self.desk.is_asked() && self.is_open {
            // The first record woke us. Others will come, and are taken together.
            thread::park_timeout(BATCH);
        }
    }

    fn work(&mut self) {
        self.follow_tap();
        let now = now();
        if now >= self.swept + SWEEP_INTERVAL {
            self.swept = now;
            self.joiner_gives(|joiner, give| joiner.sweep(now, false, give));
            self.metrics.open.set(i64::try_from(self.joiner.open()).unwrap_or(i64::MAX));
        }
        if self.ring.due_at().is_some_and(|due| now >= due) {
            self.flush();
        }
        for request in self.desk.take() {
            // What was recorded before the request is in the snapshot, and what comes after it is given to the reader.
            self.flush();
            let snapshot = self.ring.snapshot();
            match request {
                Request::Watch(watcher, reply) => {
                    // Who does not wait any more does not read either.
                    if reply.send(snapshot).is_ok() {
                        self.watchers.push(*watcher);
                    }
                }
                Request::Flush(reply) => drop(reply.send(snapshot)),
            }
        }
        let now_ms = wall_ms();
        self.watchers.retain_mut(|watcher| {
            watcher.tell_missed(now_ms);
            watcher.is_there()
        });
        self.open_or_close();
    }

    fn follow_tap(&mut self) {
        let mut records = std::mem::take(&mut self.records);
        let lost = self.tap.take(&mut records);
        self.metrics.seen.inc_by(records.len() as u64);
        let last = records.last().map(crate::entry::About::of);
        for record in records.drain(..) {
            self.see(record);
        }
        // Idle again: the room of a burst is given back.
        records.shrink_to(RECORDS_KEPT);
        self.records = records;
        if lost > 0 {
            self.metrics.lost.inc_by(lost);
            self.joiner.lost(now());
            if let Some(about) = last {
                let about = crate::entry::About { station: None, version: None, ..about };
                self.give(&Entry { about, what: What::Lost(lost) });
            }
        }
    }

    fn see(&mut self, record: Record) {
        let station = record.station.as_ref().map(switchboard_rpc::StationId::as_str);
        if !self.keeps && !self.watchers.iter().any(|watcher| watcher.query.filter.wants_station(station)) {
            return;
        }
        let frames = self.watchers.iter().any(|watcher| watcher.query.frames);
        self.joiner_gives(|joiner, give| joiner.see(record, frames, give));
    }

    /// Has the joiner do something and passes on what it gives.
    fn joiner_gives(&mut self, does: impl FnOnce(&mut Joiner, &mut dyn FnMut(Entry))) {
        // Taken out, so that what it gives can be passed on at once; it is small.
        let mut joiner = std::mem::replace(&mut self.joiner, Joiner::new(Duration::ZERO));
        does(&mut joiner, &mut |entry| self.give(&entry));
        self.joiner = joiner;
    }

    /// Records an entry and gives it to those who want it.
    fn give(&mut self, entry: &Entry) {
        let head = entry.head();
        let is_frame = matches!(entry.what, What::Frame(_));
        let is_one_of_many = matches!(entry.what, What::Exchange(_));
        let redactor = &self.redactor;
        // One for those who may see personal data, one for the others; made when the first one wants it.
        let mut lines: [Option<Arc<str>>; 2] = [None, None];
        let mut line = |personal: bool| -> Arc<str> {
            let line = &mut lines[usize::from(personal)];
            Arc::clone(line.get_or_insert_with(|| line::line(entry, redactor, personal).into()))
        };
        if self.keeps && !is_frame {
            let now = now();
            if self.ring.is_recording(now) {
                self.ring.append(&head, &line(self.keeps_personal), now);
            } else {
                self.ring.pass_over();
            }
        }
        let mut now_ms = None;
        for watcher in &mut self.watchers {
            let query = &watcher.query;
            // Who watches frames sees them instead of the calls that are made of them.
            let is_for = if query.frames { !is_one_of_many } else { !is_frame };
            if is_for && query.filter.wants(&head) {
                let now_ms = *now_ms.get_or_insert_with(wall_ms);
                let line = line(query.personal);
                watcher.give(&line, now_ms, &self.metrics);
            }
        }
    }

    fn flush(&mut self) {
        let now_ms = wall_ms();
        if let Some(news) = self.ring.flush(now(), now_ms) {
            let (event, reason, count) = match news {
                News::Stopped => ("unrecorded", "the trace cannot be recorded, see the log".to_owned(), None),
                News::Resumed(count) => (
                    "unrecorded",
                    format!("{count} entries were not recorded: the disk did not take them"),
                    Some(count),
                ),
            };
            let remark: Arc<str> = line::remark(event, now_ms, &reason, count).into();
            if count.is_some() {
                let head = crate::entry::Head { is_for_all: true, ..crate::entry::Head::at(now_ms) };
                self.ring.append(&head, &remark, now());
            }
            for watcher in &mut self.watchers {
                watcher.give(&remark, now_ms, &self.metrics);
            }
        }
    }

    fn open_or_close(&mut self) {
        self.metrics.watchers.set(i64::try_from(self.watchers.len()).unwrap_or(i64::MAX));
        let wanted = self.keeps || !self.watchers.is_empty();
        if wanted == self.is_open {
            return;
        }
        self.is_open = wanted;
        if wanted {
            self.joiner.begin(now());
        } else {
            self.joiner.forget();
        }
        self.tap.set_open(wanted);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the thread is a shell around the joiner, which reads no clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "what is shown is as of now")]
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How long more records are waited for.
const BATCH: Duration = Duration::from_millis(20);
/// How often calls without an answer are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long the thread sleeps at most.
const IDLE: Duration = Duration::from_secs(3600);
/// The same while somebody reads.
const WATCHED: Duration = Duration::from_secs(5);
/// Room for records that is kept.
const RECORDS_KEPT: usize = 256;
