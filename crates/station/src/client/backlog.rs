//! Messages that must not get lost: in the order in which things happened, one at a time, until each is dealt with.

use super::{
    config::Config,
    payload,
    queue::{Change, Kind, Open, Queue, QueueError, Record},
};
use bytestring::ByteString;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use switchboard_rpc::Version;

/// Why a message was not taken to be billed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BillError {
    /// Only messages about transactions are queued; everything else is called.
    #[error("{0} is not about a transaction; send it with `call`")]
    NotBilling(ByteString),
    /// The payload is no JSON object.
    #[error("the payload is not a JSON object")]
    NotAnObject,
    /// The payload names another transaction than the one that it is billed under (2.x).
    #[error("the payload is about another transaction")]
    OtherTransaction,
    /// The transaction has not begun, or has ended.
    #[error("no such transaction goes on: it was not started, or has ended")]
    NoSuchTransaction,
    /// The transaction has begun before.
    #[error("the transaction was started before")]
    StartedBefore,
    /// The request is not valid (V09).
    #[error("the request is not valid: {0}")]
    Invalid(String),
    /// As many starts and ends wait as may: do not charge before they are told.
    #[error("the queue is full: {0} messages wait")]
    Full(usize),
}

/// A message was taken to be billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Its number, which rises.
    pub number: u64,
    /// Whether it survives a restart of the station.
    pub durable: bool,
}

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) action: ByteString,
    pub(super) payload: ByteString,
}

/// Something to be told.
#[derive(Debug)]
pub(super) enum Told {
    /// So many readings were left out.
    Thinned(u64),
    /// The disk does not keep what it should.
    NotKept(QueueError),
}

/// The message at the front, once it is dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dealt {
    pub(super) record: Record,
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    /// On which connection it happened; zero: on none, or before the last start.
    epoch: u64,
}

/// What waits, and what is known of the transactions that it is about.
#[derive(Debug)]
pub(super) struct Backlog {
    config: Arc<Config>,
    store: Box<dyn Queue>,
    waiting: VecDeque<Waiting>,
    open: BTreeMap<ByteString, Open>,
    next_number: u64,
    failures: u32,
    not_before: Option<Instant>,
    attempts: u32,
    retry_interval: Duration,
    /// Whether the first one was handed out and its end is not known.
    in_flight: bool,
    /// Changes that the queue did not take when it should.
    owed: Vec<Change>,
    told: Vec<Told>,
}

impl Backlog {
    /// What was left by an earlier life of the station.
    pub(super) fn load(config: Arc<Config>, mut store: Box<dyn Queue>) -> Result<Self, QueueError> {
        let changes = store.load()?;
        let mut backlog = Self::new(config, store);
        for change in changes {
            backlog.apply(change);
        }
        // What a full disk made late was written behind what came after it.
        backlog.waiting.make_contiguous().sort_by_key(|waiting| waiting.record.number);
        Ok(backlog)
    }

    /// With nothing in it, whatever the queue holds.
    pub(super) fn new(config: Arc<Config>, store: Box<dyn Queue>) -> Self {
        Self {
            store,
            waiting: VecDeque::new(),
            open: BTreeMap::new(),
            next_number: 1,
            failures: 0,
            not_before: None,
            attempts: config.message_attempts,
            retry_interval: config.message_retry_interval,
            in_flight: false,
            owed: Vec::new(),
            told: Vec::new(),
            config,
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Added(record) => {
                self.next_number = self.next_number.max(record.number + 1);
                self.waiting.push_back(Waiting { record, epoch: 0 });
            }
            Change::Done(number) => {
                self.next_number = self.next_number.max(number + 1);
                // Nearly always the first one: looking through all of them each time would take long at the start.
                if self.waiting.front().is_some_and(|waiting| waiting.record.number == number) {
                    drop(self.waiting.pop_front());
                } else {
                    self.waiting.retain(|waiting| waiting.record.number != number);
                }
            }
            Change::Open(open) => drop(self.open.insert(open.transaction.clone(), open)),
            Change::Closed(transaction) => drop(self.open.remove(&transaction)),
        }
    }

    /// Takes a message.
    pub(super) fn add(
        &mut self,
        transaction: &ByteString,
        action: ByteString,
        payload: &str,
        epoch: u64,
    ) -> Result<Receipt, BillError> {
        let version = self.config.version;
        let Some(summary) = payload::summary(version, &action, payload) else {
            return Err(if payload::is_object(payload) {
                BillError::NotBilling(action)
            } else {
                BillError::NotAnObject
            });
        };
        if summary.transaction.as_ref().is_some_and(|named| *named != **transaction) {
            return Err(BillError::OtherTransaction);
        }
        let late = if version == Version::V16 { "transactionId" } else { "offline" };
        let payload = payload::without(payload, late).ok_or(BillError::NotAnObject)?;
        let known = self.open.get(transaction);
        match summary.kind {
            Kind::Start if known.is_some() => return Err(BillError::StartedBefore),
            Kind::Start => {}
            Kind::Reading if transaction.is_empty() => {}
            _ if known.is_none_or(|open| open.ended) => return Err(BillError::NoSuchTransaction),
            _ => {}
        }
        let record = Record {
            number: self.next_number,
            transaction: transaction.clone(),
            kind: summary.kind,
            action,
            payload,
        };
        self.make_room(&record)?;
        self.next_number += 1;
        let mut changes = Vec::with_capacity(2);
        if !transaction.is_empty() {
            let open = self.open.entry(transaction.clone()).or_insert_with(|| Open::new(transaction.clone()));
            open.ended = summary.kind == Kind::Stop;
            open.seq_no = summary.seq_no.or(open.seq_no);
            changes.push(Change::Open(open.clone()));
        }
        let number = record.number;
        changes.push(Change::Added(record.clone()));
        // Before it is kept, since that may rewrite the queue from what waits.
        self.waiting.push_back(Waiting { record, epoch });
        let kept = self.keep(changes);
        Ok(Receipt { number, durable: kept && self.store.is_durable() })
    }

    /// At the bound every second reading is left out, as the specification lets a station do that runs out of memory (2.0.1
    /// E04.FR.07 and .08); starts and ends never are.
    fn make_room(&mut self, record: &Record) -> Result<(), BillError> {
        let max = self.config.queue_messages_max.max(2);
        if self.waiting.len() < max {
            return Ok(());
        }
        // The first one may be on its way.
        let (mut place, mut leave_out, mut numbers) = (0_usize, true, Vec::new());
        self.waiting.retain(|waiting| {
            place += 1;
            let thin = place > 1 && waiting.record.kind == Kind::Reading;
            let leaves = thin && leave_out;
            if thin {
                leave_out = !leave_out;
            }
            if leaves {
                numbers.push(Change::Done(waiting.record.number));
            }
            !leaves
        });
        let thinned = numbers.len() as u64;
        if thinned > 0 {
            self.tell(Told::Thinned(thinned));
            self.keep(numbers);
        } else if record.kind != Kind::Start && !record.transaction.is_empty() && self.waiting.len() < max * 2
        {
            // A transaction that began when there was room is told to its end.
        } else {
            return Err(BillError::Full(self.waiting.len()));
        }
        Ok(())
    }

    /// The first message, if it may be sent now. It is then on its way until one of `answered`, `failed` and `lost` says what
    /// became of it.
    pub(super) fn hand_out(&mut self, now: Instant, epoch: u64) -> Option<Due> {
        if self.in_flight || self.not_before.is_some_and(|not_before| now < not_before) {
            return None;
        }
        let waiting = self.waiting.front()?;
        let record = &waiting.record;
        self.in_flight = true;
        let payload = match self.config.version {
            Version::V16 if record.kind == Kind::Start || record.transaction.is_empty() => {
                record.payload.clone()
            }
            Version::V16 => {
                // Errata 3.18: whoever never learnt the id says -1.
                let id = self.open.get(&record.transaction).and_then(|open| open.id).unwrap_or(-1);
                payload::with(&record.payload, "transactionId", &id.to_string())
            }
            // MeterValues of 2.x have no such member.
            _ if record.action != "TransactionEvent" || waiting.epoch == epoch => record.payload.clone(),
            _ => payload::with(&record.payload, "offline", "true"),
        };
        Some(Due { action: record.action.clone(), payload })
    }

    /// The first message was answered; in 1.6 with this number for its transaction.
    pub(super) fn answered(&mut self, id: Option<i64>) -> Option<Dealt> {
        let record = self.waiting.front()?.record.clone();
        let mut changes = Vec::with_capacity(3);
        if record.kind == Kind::Start
            && let Some(open) = self.open.get_mut(&record.transaction)
            && id.is_some()
        {
            open.id = id;
            changes.push(Change::Open(open.clone()));
        }
        self.dealt_with(&record, changes);
        Some(Dealt { record })
    }

    /// The first message was refused, or not answered in time. Gives it out when it is given up.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Dealt> {
        self.in_flight = false;
        self.failures = self.failures.saturating_add(1);
        if self.attempts == 0 || self.failures < self.attempts {
            // 1.6 section 3.7.1, 2.0.1 E13.FR.03: the interval times the number of transmissions so far.
            let wait = self.retry_interval.saturating_mul(self.failures);
            self.not_before = now.checked_add(wait);
            return None;
        }
        let record = self.waiting.front()?.record.clone();
        self.dealt_with(&record, Vec::new());
        Some(Dealt { record })
    }

    /// The connection went before the first message was answered: it will be sent again, and that is no failure of it.
    pub(super) fn lost(&mut self) {
        self.in_flight = false;
    }

    /// How often a message is sent from now on before it is given up, and with which waits.
    pub(super) const fn set_retries(&mut self, attempts: u32, interval: Duration) {
        self.attempts = attempts;
        self.retry_interval = interval;
    }

    /// Whether messages wait that do not survive the station.
    pub(super) fn would_be_lost(&self) -> bool {
        !self.waiting.is_empty() && !self.store.is_durable()
    }

    /// A new connection is a new chance: nothing need wait.
    pub(super) fn connected(&mut self) {
        self.not_before = None;
    }

    fn dealt_with(&mut self, record: &Record, mut changes: Vec<Change>) {
        drop(self.waiting.pop_front());
        self.in_flight = false;
        self.failures = 0;
        self.not_before = None;
        changes.push(Change::Done(record.number));
        if record.kind == Kind::Stop && self.open.remove(&record.transaction).is_some() {
            changes.push(Change::Closed(record.transaction.clone()));
        }
        self.keep(changes);
    }

    /// Hands changes to the queue, after those that it owes us still.
    fn keep(&mut self, changes: Vec<Change>) -> bool {
        if !self.store.is_durable() {
            return true;
        }
        let all = if self.owed.is_empty() {
            changes
        } else {
            self.owed.extend(changes);
            std::mem::take(&mut self.owed)
        };
        if let Err(error) = self.store.append(&all) {
            self.tell(Told::NotKept(error));
            self.owed = all;
            self.bound_owed();
            return false;
        }
        let live = self.waiting.len() + self.open.len();
        if self.store.wants_rewrite(live)
            && let Err(error) = self.store.rewrite(&self.state())
        {
            self.tell(Told::NotKept(error));
        }
        true
    }

    /// What the disk does not take is not collected for ever: all that counts is how things stand now.
    fn bound_owed(&mut self) {
        if self.owed.len() > self.config.queue_messages_max.saturating_mul(4).max(64) {
            let waits = |number: &u64| self.waiting.iter().any(|waiting| waiting.record.number == *number);
            let (mut owed, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
            for change in self.owed.drain(..).rev() {
                let keep = match &change {
                    Change::Added(record) => waits(&record.number),
                    Change::Done(_) => true,
                    Change::Open(open) => seen.insert(open.transaction.clone()),
                    Change::Closed(transaction) => seen.insert(transaction.clone()),
                };
                if keep {
                    owed.push(change);
                }
            }
            owed.reverse();
            self.owed = owed;
        }
    }

    /// The least that tells how things stand.
    fn state(&self) -> Vec<Change> {
        let last = self.next_number.saturating_sub(1);
        let mut changes = vec![Change::Done(last)];
        changes.extend(self.open.values().cloned().map(Change::Open));
        changes.extend(self.waiting.iter().map(|waiting| Change::Added(waiting.record.clone())));
        // The number of the last message is kept even if that message is gone, since numbers rise.
        if self.waiting.back().is_some_and(|waiting| waiting.record.number == last) {
            changes.remove(0);
        }
        changes
    }

    fn tell(&mut self, told: Told) {
        const TOLD_MAX: usize = 64;
        if self.told.len() < TOLD_MAX {
            self.told.push(told);
        }
    }

    /// What is to be told.
    pub(super) fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// When the first message may be sent, if it waits for that.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.in_flight && !self.waiting.is_empty())
    }

    /// The number of the first message.
    pub(super) fn first_number(&self) -> Option<u64> {
        self.waiting.front().map(|waiting| waiting.record.number)
    }

    /// How many messages wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether any message of this transaction waits.
    pub(super) fn holds(&self, transaction: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.record.transaction == transaction)
    }

    /// Transactions that have begun and whose end was not dealt with.
    pub(super) fn open(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }
}
