//! The contract of a directory. Unstable until real databases have proved it.

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::{fmt, time::Duration};
use switchboard_bus::{ConnectionKey, Lane, OutcomeKind, Registration};
use switchboard_rpc::{StationId, Version};

/// A station of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StationKey {
    /// Whose; `default` where tenants are not used.
    pub tenant: ByteString,
    /// Which.
    pub station: StationId,
}

impl StationKey {
    /// The same key in strings of its own: identities are often slices of a message, which they would keep in memory.
    #[must_use]
    pub fn detached(&self) -> Self {
        let station = StationId::new(self.station.as_str().to_owned(), usize::MAX);
        Self {
            tenant: if self.tenant == *DEFAULT_TENANT {
                ByteString::from_static(DEFAULT_TENANT)
            } else {
                ByteString::from(&*self.tenant)
            },
            // What was an identity is one.
            station: station.unwrap_or_else(|_| self.station.clone()),
        }
    }
}

const DEFAULT_TENANT: &str = "default";

/// What a directory gives to a connection that was just accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Higher than all before for this station: `max(stored + 1, unix milliseconds)`.
    pub generation: u64,
    /// The connection that this one replaces, if it is not known to have ended.
    pub previous: Option<ConnectionKey>,
    /// The registration that survives reconnection (L07).
    pub registration: Option<Registration>,
}

/// What a connection's handshake settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it speaks.
    pub version: Version,
    /// Whether its messages are compressed.
    pub compressed: bool,
}

impl From<Version> for Terms {
    /// Without compression.
    fn from(version: Version) -> Self {
        Self { version, compressed: false }
    }
}

/// Where a connected station is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Which connection.
    pub connection: ConnectionKey,
    /// What it speaks.
    pub version: Version,
    /// Whether its messages are compressed.
    pub compressed: bool,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

/// How a station proves who it is, as it is stored. Prints redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(…)")
    }
}

/// A station that the operator registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub key: StationKey,
    /// Its password as an Argon2 hash in PHC form; none where no credentials are asked.
    pub password: Option<PasswordHash>,
    /// When it was registered, in milliseconds since 1970.
    pub created_ms: i64,
}

/// What is known of a station: registered, seen, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationRecord {
    /// Who.
    pub key: StationKey,
    /// Whether the operator registered it.
    pub registered: bool,
    /// Whether it has a password.
    pub has_password: bool,
    /// Where it is, if connected.
    pub location: Option<Location>,
    /// Its registration, if processing told it.
    pub registration: Option<Registration>,
    /// When it last came or went, in milliseconds since 1970.
    pub seen_ms: Option<i64>,
}

/// A command that waits for its station, or whose fate must survive its gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Names the command; the idempotency key where the caller gave one. Unique per station.
    pub id: ByteString,
    /// To whom.
    pub key: StationKey,
    /// The action.
    pub action: ByteString,
    /// The payload, a JSON object.
    pub payload: Bytes,
    /// Which queue.
    pub lane: Lane,
    /// How long to wait for the answer once written.
    pub timeout: Duration,
    /// When it is of no use any more, in milliseconds since 1970.
    pub expires_ms: i64,
    /// Where the outcome goes.
    pub reply_to: Option<ByteString>,
    /// The sender's context, returned with the outcome.
    pub context: Option<ByteString>,
    /// How far it is.
    pub state: OutboxState,
}

/// How far a command in the outbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxState {
    /// It waits.
    Waiting,
    /// A gateway was about to write it to this generation, or has. After a crash in this state nobody knows, and it
    /// is never sent again.
    Sending {
        /// Of the connection that it was to be written to.
        generation: u64,
    },
    /// It has ended.
    Ended {
        /// How.
        outcome: OutcomeKind,
        /// The station's frame, where there was one.
        frame: Bytes,
    },
}

/// What became of the attempt to put a command into the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in.
    Fresh,
    /// One of this id is there already, in this state.
    Repeat(OutboxState),
}

/// A call whose answer needed nothing from processing and which could not be processed in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Rises in the order of appending, per directory. Zero before it is appended.
    pub id: u64,
    /// Whose.
    pub key: StationKey,
    /// What the connection speaks.
    pub version: Version,
    /// Which connection brought it.
    pub connection: ConnectionKey,
    /// Which call of the connection.
    pub seq: u64,
    /// The action.
    pub action: ByteString,
    /// The station's frame, byte by byte.
    pub frame: Bytes,
    /// When it came, in milliseconds since 1970.
    pub received_ms: i64,
}

/// A call of the journal that processing refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEntry {
    /// The call.
    pub entry: JournalEntry,
    /// The error that answered it.
    pub why: String,
    /// When that was, in milliseconds since 1970.
    pub refused_ms: i64,
}

/// Why a directory could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It cannot be reached now; nothing is known of the outcome.
    #[error("the directory is away")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It has no room left. What was there is untouched.
    #[error("the directory has no room left")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another process owns it.
    #[error("{path} belongs to another process; stop it, or reach it through its API")]
    Owned {
        /// Which file.
        path: String,
    },
    /// The place where it is to keep its data cannot be used.
    #[error("{path} cannot be used")]
    Unusable {
        /// Which folder or file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A directory of this kind does not keep such things.
    #[error("this kind of directory does not keep {what}: use one in PostgreSQL for that")]
    NotKept {
        /// What was to be kept.
        what: &'static str,
    },
    /// What it holds cannot be read.
    #[error("the directory is damaged: {detail}")]
    Damaged {
        /// What was found.
        detail: String,
    },
}

impl DirectoryError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Full(_))
    }
}

/// What every method gives back.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, DirectoryError>>;

/// Knows where every station is, what is queued for it, and what was journalled.
///
/// # Promises
/// - **Generations.** `claim` is atomic per station; a later claim returns a higher generation and names the connection
///   that it replaces. `release` of any but the latest generation changes nothing.
/// - **Liveness.** A location counts only while its gateway's lease is fresh.
/// - **Durability.** `journal_append`, `journal_refuse`, `outbox_put`, `outbox_sending`, `outbox_put_back`, `outbox_end`, accounts, registrations and what was agreed are on a
///   synced disk when `Ok` comes back. Locations need not be: generations rise with the clock.
/// - **Turns.** The journal is worked off by one process at a time: by whoever has the turn.
/// - **Order.** Journal entries of one station come out in the order in which they went in.
/// - **Time** is the caller's, in milliseconds since 1970, so that tests own it.
pub trait Directory: Send + Sync + fmt::Debug + 'static {
    /// Records a connection as the latest of its station.
    fn claim<'a>(
        &'a self,
        key: &'a StationKey,
        gateway: &'a ByteString,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, Claim>;
    /// Records that a connection has ended. Without effect unless it is still the latest one.
    fn release<'a>(&'a self, key: &'a StationKey, generation: u64, now_ms: i64) -> Answer<'a, ()>;
    /// Where a station is; none if it is not connected or its gateway's lease has run out.
    fn locate<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<Location>>;
    /// Records again a connection that the directory has lost, with the generation that it had. Without effect where this
    /// generation is known or a later one; whether it was recorded.
    fn restore<'a>(
        &'a self,
        key: &'a StationKey,
        connection: &'a ConnectionKey,
        terms: Terms,
        now_ms: i64,
    ) -> Answer<'a, bool>;
    /// Renews a gateway's lease until `until_ms`; a time in the past ends it. False if the directory has forgotten the lease
    /// that this process was given last, as one does that was restored from a copy: then it may have lost connections too.
    fn gateway_lease<'a>(&'a self, gateway: &'a ByteString, until_ms: i64) -> Answer<'a, bool>;
    /// Stations of a tenant in order of id, after `after`, at most `limit`.
    fn stations<'a>(
        &'a self,
        tenant: &'a str,
        after: Option<&'a StationId>,
        limit: usize,
        now_ms: i64,
    ) -> Answer<'a, Vec<StationRecord>>;

    /// One station; none if it is neither registered nor was ever seen.
    fn station<'a>(&'a self, key: &'a StationKey, now_ms: i64) -> Answer<'a, Option<StationRecord>>;

    /// Keeps a station's registration (L07).
    fn set_registration<'a>(&'a self, key: &'a StationKey, registration: Registration) -> Answer<'a, ()>;
    /// The account of a station.
    fn account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, Option<Account>>;
    /// Registers a station or replaces its account.
    fn put_account(&self, account: Account) -> Answer<'_, ()>;
    /// Removes an account; whether there was one.
    fn remove_account<'a>(&'a self, key: &'a StationKey) -> Answer<'a, bool>;
    /// How many stations are registered.
    fn account_count(&self) -> Answer<'_, u64>;

    /// Whether there are an outbox and a journal. Where there are none, looking into them finds nothing, and putting
    /// something in fails with [`DirectoryError::NotKept`].
    fn keeps(&self) -> bool {
        true
    }
    /// Puts a command into the outbox, once per station and id.
    fn outbox_put(&self, entry: OutboxEntry) -> Answer<'_, Enqueued>;
    /// The waiting commands of a station, urgent ones first, then in order; those that have expired are not among them.
    fn outbox_waiting<'a>(
        &'a self,
        key: &'a StationKey,
        now_ms: i64,
        limit: usize,
    ) -> Answer<'a, Vec<OutboxEntry>>;
    /// Records that a command is about to be written; whether it was still waiting. Only then may it be written.
    fn outbox_sending<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        generation: u64,
    ) -> Answer<'a, bool>;
    /// Takes back that a command was about to be written to this generation, when it certainly was not: it waits again.
    /// Without effect in any other state.
    fn outbox_put_back<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        generation: u64,
    ) -> Answer<'a, ()>;
    /// Records how a command ended. Without effect if it has ended already.
    fn outbox_end<'a>(
        &'a self,
        key: &'a StationKey,
        id: &'a ByteString,
        outcome: OutcomeKind,
        frame: Bytes,
        now_ms: i64,
    ) -> Answer<'a, ()>;
    /// One command of the outbox.
    fn outbox_get<'a>(&'a self, key: &'a StationKey, id: &'a ByteString) -> Answer<'a, Option<OutboxEntry>>;
    /// Ends what has expired, and as unknown what a dead connection was sending; gives out what it ended.
    fn outbox_sweep(&self, now_ms: i64, limit: usize) -> Answer<'_, Vec<OutboxEntry>>;

    /// Appends a call; gives it its id. On disk when this returns.
    fn journal_append(&self, entry: JournalEntry) -> Answer<'_, u64>;
    /// The oldest entries with ids above `after`, at most `limit`, of one station or of all. Ids begin above zero.
    fn journal_read<'a>(
        &'a self,
        key: Option<&'a StationKey>,
        after: u64,
        limit: usize,
    ) -> Answer<'a, Vec<JournalEntry>>;
    /// Removes an entry that processing has answered.
    fn journal_remove(&self, id: u64) -> Answer<'_, ()>;
    /// Takes an entry out of the journal that processing will never take, and keeps it aside, with the reason. Nothing
    /// that a station was told is well is thrown away.
    fn journal_refuse<'a>(&'a self, id: u64, why: &'a str, now_ms: i64) -> Answer<'a, ()>;
    /// The oldest entries that were kept aside, with ids above `after`, at most `limit`.
    fn journal_refused(&self, after: u64, limit: usize) -> Answer<'_, Vec<RefusedEntry>>;
    /// Removes an entry that was kept aside, when people have dealt with it; whether there was one.
    fn journal_settle(&self, id: u64) -> Answer<'_, bool>;
    /// How many entries wait, of one station or of all.
    fn journal_count<'a>(&'a self, key: Option<&'a StationKey>) -> Answer<'a, u64>;

    /// Stations whose latest connection is at this gateway and for which commands began to wait within the last `within`,
    /// at most `limit`: for a hint that was lost, or given before the station was here. A directory of one process, where
    /// none can be lost, has none to name.
    fn outbox_lately<'a>(
        &'a self,
        _gateway: &'a ByteString,
        _within: Duration,
        _limit: usize,
    ) -> Answer<'a, Vec<StationKey>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// Takes the turn at working the journal off, or keeps it, until `until_ms`; whether it is this one's. Nobody else
    /// has it until then; a time in the past gives it up. In a directory of one process it is always that one's.
    fn journal_turn<'a>(&'a self, _owner: &'a ByteString, _until_ms: i64, _now_ms: i64) -> Answer<'a, bool> {
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Records something that all processes of an installation must have in common, unless it was recorded under this
    /// name before; gives out what holds. `partitions.default`, say, and `256`.
    fn agree<'a>(&'a self, name: &'a str, value: &'a str) -> Answer<'a, String>;

    /// Writes what is pending and closes.
    fn close(&self) -> Answer<'_, ()>;
}
