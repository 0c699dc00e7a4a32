//! A directory that fails when it is told to.

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use switchboard_bus::{ConnectionKey, OutcomeKind, Registration};
use switchboard_directory::{
    Account, Claim, Directory, DirectoryError, Embedded, Enqueued, JournalEntry, Location, OutboxEntry,
    RefusedEntry, StationKey, StationRecord, Terms,
};
use switchboard_rpc::StationId;
use tokio::sync::Notify;

type Answer<'a, T> = BoxFuture<'a, Result<T, DirectoryError>>;

/// A directory that can be away.
#[derive(Debug)]
pub(crate) struct Moody {
    inner: Box<dyn Directory>,
    failing: AtomicBool,
    slow: AtomicBool,
    waking: Notify,
}

impl Moody {
    pub(crate) fn new() -> Self {
        Self::around(Embedded::in_memory().unwrap())
    }

    pub(crate) fn around(inner: impl Directory) -> Self {
        Self {
            inner: Box::new(inner),
            failing: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            waking: Notify::new(),
        }
    }

    /// Whether everything fails from now on.
    pub(crate) fn fails(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Whether it keeps those waiting who want to send, from now on.
    pub(crate) fn is_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::Relaxed);
        self.waking.notify_waiters();
    }

    fn or_fail<'a, T: Send + 'a>(&self, answer: Answer<'a, T>) -> Answer<'a, T> {
        if self.failing.load(Ordering::Relaxed) {
            let why = std::io::Error::other("it was told to be away");
            return Box::pin(std::future::ready(Err(DirectoryError::Away(Box::new(why)))));
        }
        answer
    }
}

impl Directory for Moody {
    fn claim<'a>(
        &'a self,
        key: &'a StationKey,
        gateway: &'a ByteString,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, Claim> {
        self.or_fail(self.inner.claim(key, gateway, terms, now_ms))
    }
    fn release<'a>(&'a self, key: &'a StationKey, generation: u64, now_ms: i64) -> Answer<'a, ()> {
        self.or_fail(self.inner.release(key, generation, now_ms))
    }
    fn locate<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<Location>> {
        self.or_fail(self.inner.locate(key, now_ms))
    }
    fn restore<'a>(
        &'a self,
        key: &'a StationKey,
        connection: &'a ConnectionKey,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, bool> {
        self.or_fail(self.inner.restore(key, connection, terms, now_ms))
    }
    fn gateway_lease<'a>(&'a self, gateway: &'a ByteString, until_ms: i64) -> Answer<'a, bool> {
        self.or_fail(self.inner.gateway_lease(gateway, until_ms))
    }
    fn stations<'a>(
        &'a self,
        tenant: &'a str,
        after: Option<&'a StationId>,
        limit: usize,
        now_ms: i64,
    ) -> Answer<'a, Vec<StationRecord>> {
        self.or_fail(self.inner.stations(tenant, after, limit, now_ms))
    }
    fn station<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<StationRecord>> {
        self.or_fail(self.inner.station(key, now_ms))
    }
    fn set_registration<'a>(&'a self, key: &'a StationKey, registration: Registration) -> Answer<'a, ()> {
        self.or_fail(self.inner.set_registration(key, registration))
    }
    fn account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, Option<Account>> {
        self.or_fail(self.inner.account(key))
    }
    fn put_account(&self, account: Account) -> Answer<'_, ()> {
        self.or_fail(self.inner.put_account(account))
    }
    fn remove_account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, bool> {
        self.or_fail(self.inner.remove_account(key))
    }
    fn account_count(&self) -> Answer<'_, u64> {
        self.or_fail(self.inner.account_count())
    }
    fn outbox_put(&self, entry: OutboxEntry) -> Answer<'_, Enqueued> {
        self.or_fail(self.inner.outbox_put(entry))
    }
    fn outbox_waiting<'a>(
        &'a self,
        key: &'a StationKey,
        now_ms: i64,
        limit: usize,
    ) -> Answer<'a, Vec<OutboxEntry>> {
        self.or_fail(self.inner.outbox_waiting(key, now_ms, limit))
    }
    fn outbox_sending<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        generation: u64,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            // The entry is marked first: what is slow is the news of it.
            let marked = self.or_fail(self.inner.outbox_sending(key, id, generation)).await;
            loop {
                let woken = self.waking.notified();
                if !self.slow.load(Ordering::Relaxed) {
                    return marked;
                }
                woken.await;
            }
        })
    }
    fn outbox_put_back<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        generation: u64,
    ) -> Answer<'a, ()> {
        self.or_fail(self.inner.outbox_put_back(key, id, generation))
    }
    fn outbox_end<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        outcome: OutcomeKind,
        frame: Bytes,
        now_ms: i64,
    ) -> Answer<'a, ()> {
        self.or_fail(self.inner.outbox_end(key, id, outcome, frame, now_ms))
    }
    fn outbox_get<'a>(&'a self, key: &'a StationKey, id: &'a ByteString) -> Answer<'a, Option<OutboxEntry>> {
        self.or_fail(self.inner.outbox_get(key, id))
    }
    fn outbox_sweep(&self, now_ms: i64, limit: usize) -> Answer<'_, Vec<OutboxEntry>> {
        self.or_fail(self.inner.outbox_sweep(now_ms, limit))
    }
    fn outbox_lately<'a>(
        &'a self,
        gateway: &'a ByteString,
        within: Duration,
        limit: usize,
    ) -> Answer<'a, Vec<StationKey>> {
        self.or_fail(self.inner.outbox_lately(gateway, within, limit))
    }
    fn journal_turn<'a>(&'a self, owner: &'a ByteString, until_ms: i64, now_ms: i64) -> Answer<'a, bool> {
        self.or_fail(self.inner.journal_turn(owner, until_ms, now_ms))
    }
    fn journal_append(&self, entry: JournalEntry) -> Answer<'_, u64> {
        self.or_fail(self.inner.journal_append(entry))
    }
    fn journal_read<'a>(
        &'a self,
        key: Option<&'a StationKey>,
        after: u64,
        limit: usize,
    ) -> Answer<'a, Vec<JournalEntry>> {
        self.or_fail(self.inner.journal_read(key, after, limit))
    }
    fn journal_remove(&self, id: u64) -> Answer<'_, ()> {
        self.or_fail(self.inner.journal_remove(id))
    }
    fn journal_refuse<'a>(&'a self, id: u64, why: &'a str, now_ms: i64) -> Answer<'a, ()> {
        self.or_fail(self.inner.journal_refuse(id, why, now_ms))
    }
    fn journal_refused(&self, after: u64, limit: usize) -> Answer<'_, Vec<RefusedEntry>> {
        self.or_fail(self.inner.journal_refused(after, limit))
    }
    fn journal_settle(&self, id: u64) -> Answer<'_, bool> {
        self.or_fail(self.inner.journal_settle(id))
    }
    fn journal_count<'a>(&'a self, key: Option<&'a StationKey>) -> Answer<'a, u64> {
        self.or_fail(self.inner.journal_count(key))
    }
    fn agree<'a>(&'a self, name: &'a str, value: &'a str) -> Answer<'a, String> {
        self.or_fail(self.inner.agree(name, value))
    }
    fn close(&self) -> Answer<'_, ()> {
        self.or_fail(self.inner.close())
    }
}
