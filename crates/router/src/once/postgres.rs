//! `Once` over PostgreSQL, by `tokio-postgres`.
//!
//! ```
//! use switchboard_router::{CallError, Key, Reply, once::{Begin, postgres::Once}};
//! use tokio_postgres::Client;
//! # use switchboard_messages::Message;
//!
//! async fn count<R: Message>(db: &mut Client, key: &Key, response: R) -> Result<Reply<R>, CallError> {
//!     let mut transaction = db.transaction().await?;
//!     let token = match Once::begin(&mut transaction, key).await? {
//!         Begin::Fresh(token) => token,
//!         Begin::Repeat(payload) => return Ok(Reply::stored(payload)),
//!         Begin::Stale => return Ok(Reply::Silence),
//!     };
//!     transaction.execute("UPDATE counter SET value = value + 1", &[]).await?;   // the effect
//!     token.store(&transaction, &response).await?;                               // and the answer, or neither
//!     transaction.commit().await?;
//!     Ok(Reply::New(response))
//! }
//! ```
//!
//! Two things belong to the connection, as a worker that is frozen in the middle of a transaction holds its station's row:
//! `SET idle_in_transaction_session_timeout = '2s'` lets the server end that transaction, and `SET lock_timeout = '3s'`
//! bounds the wait of the worker that got the same call after it. When a frozen worker wakes up, its commit fails.

use super::{Begin, JOURNAL_ROWS_MAX, Last, Verdict, stored};
use crate::Key;
use switchboard_messages::{Message, Violations};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, GenericClient, Row, Statement, Transaction};

/// Remembers which call of each station was the last to have its effect, and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Once;

/// Why an answer could not be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnceError {
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] Error),
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
}

/// What `Once` asks, prepared on one connection: spares the server reading and planning it for each call.
#[derive(Clone, Debug)]
pub struct Statements(Vec<Statement>);

impl Once {
    /// Makes the tables, if they are not there. Any number of processes may do so at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_tables(client: &Client) -> Result<(), Error> {
        client.batch_execute(TABLES).await
    }

    /// Prepares what is asked of the database, for [`begin_prepared`](Self::begin_prepared). The tables must be there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prepare(client: &Client) -> Result<Statements, Error> {
        let mut statements = Vec::with_capacity(ALL.len());
        for Query { sql, types, .. } in ALL {
            statements.push(client.prepare_typed(sql, types).await?);
        }
        Ok(Statements(statements))
    }

    /// Locks the station's row and tells whether this call has had its effect.
    ///
    /// Two transactions with calls of one station run one after the other from here to their ends. In one that is
    /// `REPEATABLE READ` or `SERIALIZABLE` it must be the first statement, and the second of two fails with a serialization
    /// failure instead of waiting; the call comes again.
    ///
    /// # Errors
    /// When the database fails. Nothing is decided then; the transaction must be rolled back.
    pub async fn begin<'a>(
        transaction: &mut Transaction<'_>,
        key: &'a Key,
    ) -> Result<Begin<Token<'a>>, Error> {
        Self::decide(transaction, None, key).await
    }

    /// As [`begin`](Self::begin), on the connection on which the statements were prepared. This may be a client on which a
    /// transaction was begun by hand.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn begin_prepared<'a>(
        transaction: &impl GenericClient,
        statements: &Statements,
        key: &'a Key,
    ) -> Result<Begin<Token<'a>>, Error> {
        Self::decide(transaction, Some(statements), key).await
    }

    async fn decide<'a>(
        transaction: &impl GenericClient,
        statements: Option<&Statements>,
        key: &'a Key,
    ) -> Result<Begin<Token<'a>>, Error> {
        let (tenant, station) = (&*key.tenant, key.station.as_str());
        let of_station: [&(dyn ToSql + Sync); 2] = [&tenant, &station];
        let mut row = LOCK.row(transaction, statements, &of_station).await?;
        if row.is_none() {
            // A row for a station that is new says: nothing yet, lower than every key. Whoever else inserts it at this
            // moment is waited for.
            INSERT.row(transaction, statements, &of_station).await?;
            row = LOCK.row(transaction, statements, &of_station).await?;
        }
        let mut last = match row {
            Some(row) => Last {
                generation: row.try_get(0)?,
                seq: row.try_get(1)?,
                answer: row.try_get(2)?,
                earlier: row.try_get(3)?,
                any_journalled: row.try_get(4)?,
            },
            // Of another transaction that this one does not see, or deleted meanwhile. It comes again if it matters.
            None => return Ok(Begin::Stale),
        };
        match last.judge(key) {
            Verdict::Repeat(answer) => return Ok(Begin::Repeat(answer)),
            Verdict::Stale => return Ok(Begin::Stale),
            Verdict::Fresh => {}
            Verdict::Journalled => {
                let (generation, seq) = (stored(key.generation), stored(key.seq));
                let row =
                    JOURNALLED.row(transaction, statements, &[&tenant, &station, &generation, &seq]).await?;
                if let Some(row) = row {
                    return Ok(Begin::Repeat(row.try_get::<_, String>(0)?.into()));
                }
            }
        }
        Ok(Begin::Fresh(Token { key, earlier: last.into_earlier(key) }))
    }

    /// Locks a station's row, for what changes its things without being a call of it: until the end of the transaction no
    /// call of the station has its effect.
    ///
    /// # Errors
    /// When the database fails. The transaction must be rolled back.
    pub async fn lock(
        transaction: &impl GenericClient,
        statements: &Statements,
        tenant: &str,
        station: &str,
    ) -> Result<(), Error> {
        let of_station: [&(dyn ToSql + Sync); 2] = [&tenant, &station];
        if LOCK.row(transaction, Some(statements), &of_station).await?.is_none() {
            INSERT.row(transaction, Some(statements), &of_station).await?;
            LOCK.row(transaction, Some(statements), &of_station).await?;
        }
        Ok(())
    }

    /// The highest generation whose call had its effect; 0 if none had.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn generation_max(client: &Client) -> Result<u64, Error> {
        let row = client
            .query_one(
                "SELECT greatest((SELECT max(generation) FROM once), (SELECT max(generation) FROM once_journalled))",
                &[],
            )
            .await?;
        let highest: Option<i64> = row.try_get(0)?;
        Ok(highest.map_or(0, |highest| u64::try_from(highest).unwrap_or(0)))
    }
}

impl Token<'_> {
    /// Stores the answer with the effects. The call counts as done when the transaction is committed.
    ///
    /// # Errors
    /// When the answer is not valid or the database fails. The transaction must be rolled back.
    pub async fn store(
        self,
        transaction: &impl GenericClient,
        answer: &impl Message,
    ) -> Result<(), OnceError> {
        let mut payload = Vec::with_capacity(128);
        answer.encode(&mut payload)?;
        let payload = String::from_utf8_lossy(&payload).into_owned();
        Ok(self.store_payload(transaction, &payload).await?)
    }

    /// Stores the payload of an answer, the text of a JSON object, as [`store`](Self::store) does.
    ///
    /// # Errors
    /// When the database fails. The transaction must be rolled back.
    pub async fn store_payload(self, transaction: &impl GenericClient, payload: &str) -> Result<(), Error> {
        self.keep(transaction, None, payload).await
    }

    /// As [`store_payload`](Self::store_payload), on the connection on which the statements were prepared.
    ///
    /// # Errors
    /// When the database fails. The transaction must be rolled back.
    pub async fn store_prepared(
        self,
        transaction: &impl GenericClient,
        statements: &Statements,
        payload: &str,
    ) -> Result<(), Error> {
        self.keep(transaction, Some(statements), payload).await
    }

    /// What is to be stored, for [`Kept::write`]: over a network it may travel together with whatever comes after it.
    #[must_use = "a call whose answer is not stored has its effect again when it is repeated"]
    pub fn kept(self, payload: &str) -> Kept {
        Kept { key: self.key.clone(), earlier: self.earlier, payload: payload.to_owned() }
    }

    async fn keep(
        self,
        transaction: &impl GenericClient,
        statements: Option<&Statements>,
        payload: &str,
    ) -> Result<(), Error> {
        keep(transaction, statements, self.key, &self.earlier, payload).await
    }
}

/// A call and its answer that are to be stored in the same transaction, and are not yet.
#[derive(Debug)]
#[must_use = "a call whose answer is not stored has its effect again when it is repeated"]
pub struct Kept {
    key: Key,
    earlier: Vec<u8>,
    payload: String,
}

impl Kept {
    /// Stores them. When this is polled for the first time everything is on its way, unless the call comes from a journal.
    ///
    /// # Errors
    /// When the database fails. The transaction must be rolled back.
    pub async fn write(
        &self,
        transaction: &impl GenericClient,
        statements: &Statements,
    ) -> Result<(), Error> {
        keep(transaction, Some(statements), &self.key, &self.earlier, &self.payload).await
    }

    /// Whether several statements store it, each after the answer to the one before.
    #[must_use]
    pub const fn takes_several(&self) -> bool {
        self.key.journal.is_some()
    }
}

async fn keep(
    transaction: &impl GenericClient,
    statements: Option<&Statements>,
    key: &Key,
    earlier: &[u8],
    payload: &str,
) -> Result<(), Error> {
    let (tenant, station) = (&*key.tenant, key.station.as_str());
    let (generation, seq) = (stored(key.generation), stored(key.seq));
    if let Some(journal) = key.journal {
        let journal = stored(journal);
        MARK.row(transaction, statements, &[&tenant, &station]).await?;
        KEEP.row(transaction, statements, &[&tenant, &station, &generation, &seq, &journal, &payload])
            .await?;
        let rows_before = JOURNAL_ROWS_MAX - 1;
        FORGET.row(transaction, statements, &[&tenant, &station, &rows_before]).await?;
    } else {
        UPDATE
            .row(transaction, statements, &[&tenant, &station, &generation, &seq, &payload, &earlier])
            .await?;
    }
    Ok(())
}

/// Something that is asked of the database.
struct Query {
    /// Its place in [`ALL`].
    number: usize,
    sql: &'static str,
    types: &'static [Type],
}

impl Query {
    /// Asks; in one round trip, also where nothing was prepared.
    async fn row(
        &self,
        transaction: &impl GenericClient,
        statements: Option<&Statements>,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, Error> {
        if let Some(statement) = statements.and_then(|statements| statements.0.get(self.number)) {
            return transaction.query_opt(statement, values).await;
        }
        let typed: Vec<_> = values.iter().copied().zip(self.types.iter().cloned()).collect();
        Ok(transaction.query_typed(self.sql, &typed).await?.pop())
    }
}

const ALL: [&Query; 7] = [&LOCK, &INSERT, &JOURNALLED, &UPDATE, &MARK, &KEEP, &FORGET];

static LOCK: Query = Query {
    number: 0,
    sql: "SELECT generation, seq, answer, earlier, journalled FROM once
        WHERE tenant = $1 AND station = $2 FOR UPDATE",
    types: &[Type::TEXT, Type::TEXT],
};

static INSERT: Query = Query {
    number: 1,
    sql: "INSERT INTO once (tenant, station, generation, seq, answer, earlier)
        VALUES ($1, $2, -1, -1, NULL, '') ON CONFLICT DO NOTHING",
    types: &[Type::TEXT, Type::TEXT],
};

/// A journalled call is worked off after later calls of its station, so that it is known by a row of its own and leaves the
/// last key alone. The row carries the call's own key, which is never given twice: a journal id is, once its directory was
/// lost.
static JOURNALLED: Query = Query {
    number: 2,
    sql: "SELECT answer FROM once_journalled
        WHERE tenant = $1 AND station = $2 AND generation = $3 AND seq = $4",
    types: &[Type::TEXT, Type::TEXT, Type::INT8, Type::INT8],
};

static UPDATE: Query = Query {
    number: 3,
    sql: "UPDATE once SET generation = $3, seq = $4, answer = $5, earlier = $6
        WHERE tenant = $1 AND station = $2",
    types: &[Type::TEXT, Type::TEXT, Type::INT8, Type::INT8, Type::TEXT, Type::BYTEA],
};

static MARK: Query = Query {
    number: 4,
    sql: "UPDATE once SET journalled = TRUE WHERE tenant = $1 AND station = $2",
    types: &[Type::TEXT, Type::TEXT],
};

static KEEP: Query = Query {
    number: 5,
    sql: "INSERT INTO once_journalled (tenant, station, generation, seq, journal, answer)
        VALUES ($1, $2, $3, $4, $5, $6)",
    types: &[Type::TEXT, Type::TEXT, Type::INT8, Type::INT8, Type::INT8, Type::TEXT],
};

static FORGET: Query = Query {
    number: 6,
    sql: "DELETE FROM once_journalled WHERE tenant = $1 AND station = $2 AND (generation, seq) <
        (SELECT generation, seq FROM once_journalled WHERE tenant = $1 AND station = $2
         ORDER BY generation DESC, seq DESC LIMIT 1 OFFSET $3)",
    types: &[Type::TEXT, Type::TEXT, Type::INT8],
};

/// The lock is for those who start at the same moment: `IF NOT EXISTS` alone fails for the second of them. A station's row
/// is changed with every call: room in its page lets it stay where the index finds it.
const TABLES: &str = "SELECT pg_advisory_xact_lock(7812734019364);
    CREATE TABLE IF NOT EXISTS once (
        tenant TEXT NOT NULL,
        station TEXT NOT NULL,
        generation BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        answer TEXT,
        earlier BYTEA NOT NULL,
        journalled BOOLEAN NOT NULL DEFAULT FALSE,
        PRIMARY KEY (tenant, station)
    ) WITH (fillfactor = 50);
    CREATE TABLE IF NOT EXISTS once_journalled (
        tenant TEXT NOT NULL,
        station TEXT NOT NULL,
        generation BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        journal BIGINT NOT NULL,
        answer TEXT NOT NULL,
        PRIMARY KEY (tenant, station, generation, seq)
    );";
