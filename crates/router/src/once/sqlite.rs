//! `Once` over SQLite, by `rusqlite`.
//!
//! ```
//! use rusqlite::{Connection, TransactionBehavior};
//! use switchboard_router::{CallError, Key, Reply, once::{Begin, sqlite::Once}};
//! # use switchboard_messages::Message;
//!
//! fn count<R: Message>(db: &mut Connection, key: &Key, response: R) -> Result<Reply<R>, CallError> {
//!     let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
//!     let token = match Once::begin(&transaction, key)? {
//!         Begin::Fresh(token) => token,
//!         Begin::Repeat(payload) => return Ok(Reply::stored(payload)),
//!         Begin::Stale => return Ok(Reply::Silence),
//!     };
//!     transaction.execute("UPDATE counter SET value = value + 1", [])?;      // the effect
//!     token.store(&transaction, &response)?;                                 // and the answer, or neither
//!     transaction.commit()?;
//!     Ok(Reply::New(response))
//! }
//! ```

use super::{Begin, JOURNAL_ROWS_MAX, Last, Verdict, earlier, stored};
use crate::Key;
use bytestring::ByteString;
use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension, ToSql, Transaction, TransactionState, params};
use switchboard_messages::{Message, Violations};

/// Remembers which call of each station was the last to have its effect, and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Once;

/// Why the memory of calls failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnceError {
    /// The database did.
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    /// The answer is not valid, so that it must not be sent, nor stored (V09).
    #[error("the answer is not valid")]
    Invalid(#[from] Violations),
}

/// The duty to store the answer of a fresh call.
#[derive(Debug)]
#[must_use = "a call whose answer is not stored has its effect again when it is repeated"]
pub struct Token<'a> {
    key: &'a Key,
    /// The keys that were the last before this one, as they are stored.
    earlier: Vec<u8>,
    /// Rows of journalled calls have to be looked through for each call of the station.
    any_journalled: bool,
}

/// What [`Once`] has last written about stations: where nobody else writes the database it need not be read again.
///
/// Whatever it is given to must be rolled back or committed before it is used in another transaction; after a rollback it
/// must be [forgotten](Self::forget).
#[derive(Debug, Default)]
pub struct Memory {
    /// By tenant and station.
    stations: HashMap<Box<str>, HashMap<Box<str>, Remembered>>,
    count: usize,
}

#[derive(Debug)]
struct Remembered {
    generation: i64,
    seq: i64,
    earlier: Vec<u8>,
}

/// So many stations are remembered. Beyond that all are forgotten: those that send most are soon known again.
const REMEMBERED_MAX: usize = 65_536;

impl Memory {
    /// Forgets everything.
    pub fn forget(&mut self) {
        self.stations.clear();
        self.count = 0;
    }

    /// The keys before this call, if it is known that it has had no effect.
    fn earlier(&self, key: &Key) -> Option<Vec<u8>> {
        if key.journal.is_some() {
            return None;
        }
        let known = self.stations.get(&*key.tenant)?.get(key.station.as_str())?;
        let (this, last) = ((stored(key.generation), stored(key.seq)), (known.generation, known.seq));
        (this > last).then(|| earlier::before(this, last, &known.earlier))
    }

    fn remember(&mut self, key: &Key, earlier: Vec<u8>) {
        let (tenant, station) = (&*key.tenant, key.station.as_str());
        let last = Remembered { generation: stored(key.generation), seq: stored(key.seq), earlier };
        if let Some(known) = self.stations.get_mut(tenant).and_then(|of_tenant| of_tenant.get_mut(station)) {
            *known = last;
            return;
        }
        if self.count >= REMEMBERED_MAX {
            self.forget();
        }
        self.stations.entry(tenant.into()).or_default().insert(station.into(), last);
        self.count += 1;
    }

    fn forget_station(&mut self, key: &Key) {
        let of_tenant = self.stations.get_mut(&*key.tenant);
        if of_tenant.and_then(|of_tenant| of_tenant.remove(key.station.as_str())).is_some() {
            self.count -= 1;
        }
    }
}

impl Once {
    /// Makes the tables, if they are not there.
    ///
    /// # Errors
    /// When the database fails.
    pub fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS once (
                tenant TEXT NOT NULL,
                station TEXT NOT NULL,
                generation INTEGER NOT NULL,
                seq INTEGER NOT NULL,
                answer TEXT,
                earlier BLOB NOT NULL,
                journalled INTEGER NOT NULL DEFAULT 0,
                PRIMARY KEY (station, tenant)
            ) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS once_journalled (
                tenant TEXT NOT NULL,
                station TEXT NOT NULL,
                generation INTEGER NOT NULL,
                seq INTEGER NOT NULL,
                journal INTEGER NOT NULL,
                answer TEXT NOT NULL,
                PRIMARY KEY (tenant, station, generation, seq)
            ) WITHOUT ROWID;",
        )
    }

    /// Locks the station's row and tells whether this call has had its effect.
    ///
    /// The lock is a write: two transactions with calls of one station run one after the other. It must be the first
    /// statement of the transaction, or the transaction be `IMMEDIATE`; else SQLite may refuse to turn a read transaction
    /// into a write one, and the call fails with `SQLITE_BUSY`.
    ///
    /// # Errors
    /// When the database fails. Nothing is decided then; the transaction must be rolled back.
    pub fn begin<'a>(transaction: &Transaction<'_>, key: &'a Key) -> rusqlite::Result<Begin<Token<'a>>> {
        let station = params![&*key.tenant, key.station.as_str()];
        // A row for a station that is new says: nothing yet, lower than every key. This takes the lock also where the row
        // is there; whoever has the lock already is spared it. Not `RETURNING`: SQLite makes a table for what that gives,
        // with pages of its own, each time.
        let insert = || {
            let sql = "INSERT INTO once (tenant, station, generation, seq, answer, earlier)
                VALUES (?1, ?2, -1, -1, NULL, x'') ON CONFLICT DO NOTHING";
            transaction.prepare_cached(sql)?.execute(station)
        };
        if transaction.transaction_state(Some(rusqlite::MAIN_DB))? != TransactionState::Write {
            insert()?;
        }
        let mut last = match Self::last(transaction, station)? {
            Some(last) => last,
            None => {
                insert()?;
                Last::default()
            }
        };
        match last.judge(key) {
            Verdict::Repeat(answer) => return Ok(Begin::Repeat(answer)),
            Verdict::Stale => return Ok(Begin::Stale),
            Verdict::Fresh => {}
            Verdict::Journalled => {
                if let Some(answer) = Self::journalled(transaction, key)? {
                    return Ok(Begin::Repeat(answer));
                }
            }
        }
        let any_journalled = last.any_journalled;
        Ok(Begin::Fresh(Token { key, earlier: last.into_earlier(key), any_journalled }))
    }

    /// As [`begin`](Self::begin), where nobody else writes this database: a station whose last call is remembered is not
    /// looked for.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_remembering<'a>(
        transaction: &Transaction<'_>,
        memory: &Memory,
        key: &'a Key,
    ) -> rusqlite::Result<Begin<Token<'a>>> {
        if let Some(earlier) = memory.earlier(key)
            && transaction.transaction_state(Some(rusqlite::MAIN_DB))? == TransactionState::Write
        {
            return Ok(Begin::Fresh(Token { key, earlier, any_journalled: false }));
        }
        Self::begin(transaction, key)
    }

    /// The highest generation whose call had its effect; 0 if none had.
    ///
    /// # Errors
    /// When the database fails.
    pub fn generation_max(connection: &Connection) -> rusqlite::Result<u64> {
        let highest: Option<i64> = connection.query_row(
            "SELECT max(generation) FROM
            (SELECT generation FROM once UNION ALL SELECT generation FROM once_journalled)",
            [],
            |row| row.get(0),
        )?;
        Ok(highest.map_or(0, |highest| u64::try_from(highest).unwrap_or(0)))
    }

    /// The station's row, if it has one.
    fn last(transaction: &Transaction<'_>, station: &[&dyn ToSql]) -> rusqlite::Result<Option<Last>> {
        transaction
            .prepare_cached(
                "SELECT generation, seq, answer, earlier, journalled FROM once
                    WHERE tenant = ?1 AND station = ?2",
            )?
            .query_row(station, |row| {
                Ok(Last {
                    generation: row.get(0)?,
                    seq: row.get(1)?,
                    answer: row.get(2)?,
                    earlier: row.get(3)?,
                    any_journalled: row.get(4)?,
                })
            })
            .optional()
    }

    /// A journalled call is worked off after later calls of its station, so that it is known by a row of its own and
    /// leaves the last key alone. The row carries the call's own key, which is never given twice: a journal id is, once
    /// its directory was lost.
    fn journalled(transaction: &Transaction<'_>, key: &Key) -> rusqlite::Result<Option<ByteString>> {
        let answer: Option<String> = transaction
            .prepare_cached(
                "SELECT answer FROM once_journalled
                WHERE tenant = ?1 AND station = ?2 AND generation = ?3 AND seq = ?4",
            )?
            .query_row(
                params![&*key.tenant, key.station.as_str(), stored(key.generation), stored(key.seq)],
                |row| row.get(0),
            )
            .optional()?;
        Ok(answer.map(ByteString::from))
    }
}

impl Token<'_> {
    /// Stores the answer with the effects. The call counts as done when the transaction is committed.
    ///
    /// # Errors
    /// When the answer is not valid or the database fails. The transaction must be rolled back.
    pub fn store(self, transaction: &Transaction<'_>, answer: &impl Message) -> Result<(), OnceError> {
        let mut payload = Vec::with_capacity(128);
        answer.encode(&mut payload)?;
        Ok(self.store_payload(transaction, &String::from_utf8_lossy(&payload))?)
    }

    /// Stores the payload of an answer, the text of a JSON object, as [`store`](Self::store) does.
    ///
    /// # Errors
    /// When the database fails. The transaction must be rolled back.
    pub fn store_payload(self, transaction: &Transaction<'_>, payload: &str) -> rusqlite::Result<()> {
        self.write(transaction, payload)
    }

    /// As [`store_payload`](Self::store_payload), and remembers it.
    ///
    /// # Errors
    /// When the database fails. The transaction must be rolled back.
    pub fn store_remembering(
        self,
        transaction: &Transaction<'_>,
        memory: &mut Memory,
        payload: &str,
    ) -> rusqlite::Result<()> {
        self.write(transaction, payload)?;
        if self.key.journal.is_some() || self.any_journalled {
            memory.forget_station(self.key);
        } else {
            memory.remember(self.key, self.earlier);
        }
        Ok(())
    }

    fn write(&self, transaction: &Transaction<'_>, payload: &str) -> rusqlite::Result<()> {
        let key = self.key;
        let (tenant, station) = (&*key.tenant, key.station.as_str());
        let (generation, seq) = (stored(key.generation), stored(key.seq));
        if let Some(journal) = key.journal {
            transaction
                .prepare_cached("UPDATE once SET journalled = 1 WHERE tenant = ?1 AND station = ?2")?
                .execute(params![tenant, station])?;
            transaction
                .prepare_cached(
                    "INSERT INTO once_journalled (tenant, station, generation, seq, journal, answer)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![tenant, station, generation, seq, stored(journal), payload])?;
            transaction
                .prepare_cached(
                    "DELETE FROM once_journalled WHERE tenant = ?1 AND station = ?2 AND (generation, seq) <
                    (SELECT generation, seq FROM once_journalled WHERE tenant = ?1 AND station = ?2
                     ORDER BY generation DESC, seq DESC LIMIT 1 OFFSET ?3)",
                )?
                .execute(params![tenant, station, JOURNAL_ROWS_MAX - 1])?;
        } else {
            transaction
                .prepare_cached(
                    "UPDATE once SET generation = ?3, seq = ?4, answer = ?5, earlier = ?6
                    WHERE tenant = ?1 AND station = ?2",
                )?
                .execute(params![tenant, station, generation, seq, payload, self.earlier])?;
        }
        Ok(())
    }
}
