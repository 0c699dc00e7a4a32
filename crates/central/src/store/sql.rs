//! One way of asking for both databases, in the words of `rusqlite`, so that the books say each statement once.
//!
//! Over SQLite everything here is a call of `rusqlite` and no more: no value is boxed, no row copied. Over PostgreSQL
//! values and columns travel as SQLite's five kinds of values, as what the books can say of a column is what SQLite can.
//!
//! The statements are in the dialect that both understand, and a test runs each of them on both: `?1` is a parameter,
//! `IS NOT DISTINCT FROM` compares with null, the target of `ON CONFLICT` is named and so are the columns of its table, a
//! parameter is compared with a column before it is asked for null (that tells PostgreSQL its type), and `COLLATE NOCASE`
//! and `max` and `min` of two numbers are made in PostgreSQL by the [schema](super::postgres).

use super::known::Known;
use super::postgres::{self, Session};
use rusqlite::types::{FromSql, ToSql, ToSqlOutput, ValueRef};
use std::cell::{Ref, RefCell, RefMut};
use std::ops::Deref;
use switchboard_router::Key;
use switchboard_router::once::{self, Begin};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What a database answered instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
}

/// A connection to a database, of either kind.
pub(crate) struct Connection {
    engine: Engine,
    known: RefCell<Known>,
}

enum Engine {
    Sqlite(rusqlite::Connection),
    Postgres(Box<Session>),
}

impl From<rusqlite::Connection> for Connection {
    fn from(connection: rusqlite::Connection) -> Self {
        Self { engine: Engine::Sqlite(connection), known: RefCell::default() }
    }
}

impl From<Session> for Connection {
    fn from(session: Session) -> Self {
        Self { engine: Engine::Postgres(Box::new(session)), known: RefCell::default() }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Connection")
    }
}

impl Connection {
    /// A statement, prepared once for each connection.
    pub(crate) fn prepare_cached<'c>(&'c self, sql: &str) -> Result<Statement<'c>> {
        Ok(match &self.engine {
            Engine::Sqlite(connection) => Statement::Sqlite(connection.prepare_cached(sql)?),
            Engine::Postgres(session) => Statement::Postgres(session, session.prepare(sql)?),
        })
    }

    /// Prepares a statement and runs it; how many rows it changed.
    pub(crate) fn execute(&self, sql: &str, parameters: impl Params) -> Result<usize> {
        self.prepare_cached(sql)?.execute(parameters)
    }

    /// Its first row.
    #[cfg(test)]
    pub(crate) fn query_row<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        self.prepare_cached(sql)?.query_row(parameters, read)
    }

    /// Adds a row; its number, which is in the column `id`.
    pub(crate) fn insert(&self, sql: &str, parameters: impl Params) -> Result<i64> {
        match &self.engine {
            Engine::Sqlite(connection) => {
                // Not `RETURNING`: SQLite makes a table for what that gives.
                connection.prepare_cached(sql)?.execute(parameters)?;
                Ok(connection.last_insert_rowid())
            }
            Engine::Postgres(_) => {
                self.prepare_cached(&format!("{sql} RETURNING id"))?.query_row(parameters, |row| row.get(0))
            }
        }
    }

    /// The next of some numbers that are given once and never again, whatever becomes of the transaction that asks.
    pub(crate) fn next_number(&self, name: &str) -> Result<i64> {
        match &self.engine {
            Engine::Sqlite(_) => self
                .prepare_cached("UPDATE counter SET value = value + 1 WHERE name = ?1 RETURNING value")?
                .query_row([name], |row| row.get(0)),
            // A row would be held until the end of the transaction, by a worker that may be frozen in it.
            Engine::Postgres(_) => self
                .prepare_cached("SELECT nextval(CAST(CAST(?1 AS text) AS regclass))")?
                .query_row([name], |row| row.get(0)),
        }
    }

    /// Whether other processes use the same books.
    pub(crate) fn is_shared(&self) -> bool {
        self.postgres().is_some()
    }

    /// What is known without asking.
    pub(crate) fn known(&self) -> Ref<'_, Known> {
        self.known.borrow()
    }

    /// To note what has been found.
    pub(crate) fn learn(&self) -> RefMut<'_, Known> {
        self.known.borrow_mut()
    }

    /// Keeps calls of a station and what else changes its things away, until the transaction ends. Calls with a key need
    /// not ask: [`Transaction::once`] does it. SQLite has one writer.
    pub(crate) fn lock_station(&self, tenant: &str, station: &str) -> Result<()> {
        match self.postgres() {
            Some(session) => Ok(session.lock_station(tenant, station)?),
            None => Ok(()),
        }
    }

    /// Writes something of no meaning.
    pub(crate) fn probe(&self) -> Result<()> {
        let table = if self.is_shared() { "version" } else { "counter" };
        self.execute(&format!("UPDATE {table} SET value = value"), []).map(|_| ())
    }

    /// Keeps all other transactions away from what is named so, until this one ends. SQLite has one writer.
    pub(crate) fn lock(&self, kind: &str, tenant: &str, name: &str) -> Result<()> {
        if let Engine::Postgres(_) = &self.engine {
            let name = format!("{kind}\n{tenant}\n{name}");
            self.prepare_cached("SELECT 1 FROM pg_advisory_xact_lock(hashtextextended(?1, 8180))")?
                .query_row([&name], |_| Ok(()))?;
        }
        Ok(())
    }

    /// Begins a transaction that writes.
    pub(super) fn begin(&self) -> Result<Transaction<'_>> {
        self.transaction(rusqlite::TransactionBehavior::Immediate)
    }

    /// Begins a transaction that reads, and sees one state of the books.
    pub(super) fn snapshot(&self) -> Result<Transaction<'_>> {
        self.transaction(rusqlite::TransactionBehavior::Deferred)
    }

    fn transaction(&self, behavior: rusqlite::TransactionBehavior) -> Result<Transaction<'_>> {
        let sqlite = match &self.engine {
            Engine::Sqlite(connection) => Some(rusqlite::Transaction::new_unchecked(connection, behavior)?),
            Engine::Postgres(session) => {
                if session.begin(matches!(behavior, rusqlite::TransactionBehavior::Deferred))? {
                    // Where there is a new connection there may be another server, with older books.
                    self.learn().forget();
                }
                None
            }
        };
        Ok(Transaction { connection: self, sqlite, ended: false })
    }

    pub(super) fn execute_batch(&self, sql: &str) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Engine::Postgres(session) => Ok(session.batch(sql)?),
        }
    }

    /// The next message, waited for. A connection over a network is looked after meanwhile.
    pub(super) fn receive<T>(&self, queue: &mut tokio::sync::mpsc::Receiver<T>) -> Option<T> {
        match &self.engine {
            Engine::Sqlite(_) => {
                let message = queue.blocking_recv();
                // Whoever queued it may be about to queue more, and waits for this very core if all are busy. Let
                // it: they share a commit then, and it is not interrupted for each.
                std::thread::yield_now();
                message
            }
            Engine::Postgres(session) => session.receive(queue),
        }
    }

    /// Says so when a transaction has taken longer than this. A file never does.
    pub(super) fn when_slow(&self, after: std::time::Duration, then: Box<dyn Fn() + Send>) {
        if let Some(session) = self.postgres() {
            session.when_slow(after, then);
        }
    }

    /// Whether a transaction could begin now; connects if need be.
    pub(super) fn is_ready(&self) -> bool {
        self.postgres().is_none_or(|session| session.ensure().is_ok())
    }

    /// Gives back what costs the server something while it is not used.
    pub(super) fn rest(&self) {
        if let Some(session) = self.postgres() {
            session.rest();
        }
    }

    pub(super) const fn sqlite(&self) -> Option<&rusqlite::Connection> {
        match &self.engine {
            Engine::Sqlite(connection) => Some(connection),
            Engine::Postgres(_) => None,
        }
    }

    pub(super) fn postgres(&self) -> Option<&Session> {
        match &self.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(session) => Some(session),
        }
    }

    /// Which books these are, where several processes may have them.
    pub(crate) fn identity(&self) -> Result<Option<String>> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(None),
            Engine::Postgres(session) => Ok(Some(session.identity()?)),
        }
    }

    /// The highest generation whose call had its effect.
    pub(crate) fn generation_max(&self) -> Result<u64> {
        match &self.engine {
            Engine::Sqlite(connection) => Ok(once::sqlite::Once::generation_max(connection)?),
            Engine::Postgres(session) => Ok(session.generation_max()?),
        }
    }
}

/// A transaction. Dropped, it is rolled back.
#[derive(Debug)]
pub(crate) struct Transaction<'c> {
    connection: &'c Connection,
    sqlite: Option<rusqlite::Transaction<'c>>,
    ended: bool,
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Transaction<'_> {
    pub(super) fn commit(mut self) -> Result<()> {
        match (self.sqlite.take(), self.connection.postgres()) {
            (Some(transaction), _) => transaction.commit()?,
            (None, Some(session)) => session.commit()?,
            (None, None) => {}
        }
        self.ended = true;
        Ok(())
    }

    /// Has each statement be waited for, so that a failure is told where it happens.
    pub(super) fn wait_for_each(&self) {
        if let Some(session) = self.connection.postgres() {
            session.wait_for_each();
        }
    }

    /// Undoes what was done since a savepoint.
    pub(super) fn rollback_to(&self, savepoint: &str) -> Result<()> {
        self.connection.learn().forget();
        match self.connection.postgres() {
            Some(session) => Ok(session.rollback_to(savepoint)?),
            None => self.execute_batch(&format!("ROLLBACK TO {savepoint}")),
        }
    }

    /// Whether the database has ended it by itself.
    pub(super) fn is_lost(&self) -> bool {
        match (&self.sqlite, self.connection.postgres()) {
            (Some(transaction), _) => transaction.is_autocommit(),
            (None, Some(session)) => session.is_lost(),
            (None, None) => false,
        }
    }

    /// Whether a call has had its effect; locks its station's row.
    pub(crate) fn once<'a>(&self, key: &'a Key) -> Result<Begin<Token<'a>>> {
        Ok(match (&self.sqlite, self.connection.postgres()) {
            (Some(transaction), _) => {
                match once::sqlite::Once::begin_remembering(transaction, &self.known().calls, key)? {
                    Begin::Fresh(token) => Begin::Fresh(Token::Sqlite(token)),
                    Begin::Repeat(answer) => Begin::Repeat(answer),
                    Begin::Stale => Begin::Stale,
                }
            }
            (None, Some(session)) => session.once(key)?,
            (None, None) => Begin::Stale,
        })
    }

    /// Stores the answer of a fresh call with its effects.
    pub(crate) fn store(&self, token: Token<'_>, answer: &str) -> Result<()> {
        match (token, &self.sqlite, self.connection.postgres()) {
            (Token::Sqlite(token), Some(transaction), _) => {
                Ok(token.store_remembering(transaction, &mut self.learn().calls, answer)?)
            }
            (Token::Postgres(token), _, Some(session)) => Ok(session.store(token, answer)?),
            // A token of another connection: there is none.
            _ => Ok(()),
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.connection.learn().forget();
        if let Some(session) = self.connection.postgres() {
            session.rollback();
        }
    }
}

/// The duty to store the answer of a fresh call.
#[derive(Debug)]
#[must_use = "a call whose answer is not stored has its effect again when it is repeated"]
pub(crate) enum Token<'a> {
    Sqlite(once::sqlite::Token<'a>),
    Postgres(once::postgres::Token<'a>),
}

/// A prepared statement.
pub(crate) enum Statement<'c> {
    Sqlite(rusqlite::CachedStatement<'c>),
    Postgres(&'c Session, postgres::Statement),
}

impl Statement<'_> {
    /// Runs it; how many rows it changed.
    pub(crate) fn execute(&mut self, parameters: impl Params) -> Result<usize> {
        match self {
            Self::Sqlite(statement) => Ok(statement.execute(parameters)?),
            Self::Postgres(session, statement) => Ok(session.run(statement, parameters.values()?)?.changed),
        }
    }

    /// Runs it where nobody asks what came of it: over a network together with what follows. If it fails, that does.
    pub(crate) fn execute_later(&mut self, parameters: impl Params) -> Result<()> {
        match self {
            Self::Sqlite(statement) => Ok(statement.execute(parameters).map(drop)?),
            Self::Postgres(session, statement) => Ok(session.run_later(statement, parameters.values()?)?),
        }
    }

    pub(crate) fn query(&mut self, parameters: impl Params) -> Result<Rows<'_>> {
        Ok(match self {
            Self::Sqlite(statement) => Rows::Sqlite(statement.query(parameters)?),
            Self::Postgres(session, statement) => {
                Rows::Postgres(session.run(statement, parameters.values()?)?.rows.into_iter())
            }
        })
    }

    /// Its first row; [`OptionalExtension`] tells that there is none.
    pub(crate) fn query_row<T>(
        &mut self,
        parameters: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        match self.query(parameters)?.next()? {
            Some(row) => read(&row),
            None => Err(rusqlite::Error::QueryReturnedNoRows.into()),
        }
    }

    /// Its rows, each brought into a form.
    pub(crate) fn query_map<T, F: FnMut(&Row<'_>) -> Result<T>>(
        &mut self,
        parameters: impl Params,
        read: F,
    ) -> Result<Mapped<'_, F>> {
        Ok(Mapped { rows: self.query(parameters)?, read })
    }
}

/// Rows as they come.
pub(crate) enum Rows<'s> {
    Sqlite(rusqlite::Rows<'s>),
    Postgres(std::vec::IntoIter<tokio_postgres::Row>),
}

impl Rows<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        Ok(match self {
            Self::Sqlite(rows) => rows.next()?.map(Row::Sqlite),
            Self::Postgres(rows) => rows.next().map(Row::Postgres),
        })
    }
}

/// Rows in the form into which they are brought.
pub(crate) struct Mapped<'s, F> {
    rows: Rows<'s>,
    read: F,
}

impl<T, F: FnMut(&Row<'_>) -> Result<T>> Iterator for Mapped<'_, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.rows.next() {
            Ok(row) => row.map(|row| (self.read)(&row)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// A row.
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(tokio_postgres::Row),
}

impl Row<'_> {
    /// The value of a column, by its place.
    pub(crate) fn get<I: Place, T: FromSql>(&self, place: I) -> Result<T> {
        match self {
            Self::Sqlite(row) => Ok(row.get(place.number())?),
            Self::Postgres(row) => {
                let place = place.number();
                let value = postgres::column(row, place)?;
                T::column_result(value).map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(place, value.data_type(), Box::new(error))
                        .into()
                })
            }
        }
    }

    /// The text of a column, if it holds one.
    pub(crate) fn text(&self, place: usize) -> Result<Option<&str>> {
        let value = match self {
            Self::Sqlite(row) => row.get_ref(place)?,
            Self::Postgres(row) => postgres::column(row, place)?,
        };
        match value {
            ValueRef::Null => Ok(None),
            other => Ok(Some(other.as_str().map_err(rusqlite::Error::from)?)),
        }
    }
}

/// Where a column is.
pub(crate) trait Place {
    fn number(self) -> usize;
}

impl Place for usize {
    fn number(self) -> usize {
        self
    }
}

/// That there is no row is no error.
pub(crate) trait OptionalExtension<T> {
    fn optional(self) -> Result<Option<T>>;
}

impl<T> OptionalExtension<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Error::Sqlite(rusqlite::Error::QueryReturnedNoRows)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The values of a statement's parameters: a tuple, an array, or what `rusqlite::params!` makes.
pub(crate) trait Params: rusqlite::Params {
    /// For PostgreSQL.
    fn values(&self) -> Result<Vec<postgres::Value<'_>>>;
}

fn value(value: &(impl ToSql + ?Sized)) -> Result<postgres::Value<'_>> {
    Ok(match value.to_sql()? {
        ToSqlOutput::Borrowed(value) => value.into(),
        ToSqlOutput::Owned(value) => value.into(),
        _ => return Err(rusqlite::Error::InvalidQuery.into()),
    })
}

impl Params for [&(dyn ToSql + Send + Sync); 0] {
    fn values(&self) -> Result<Vec<postgres::Value<'_>>> {
        Ok(Vec::new())
    }
}

impl Params for () {
    fn values(&self) -> Result<Vec<postgres::Value<'_>>> {
        Ok(Vec::new())
    }
}

impl Params for &[&dyn ToSql] {
    fn values(&self) -> Result<Vec<postgres::Value<'_>>> {
        self.iter().copied().map(value).collect()
    }
}

macro_rules! arrays {
    ($($length:literal)*) => {
        $(impl<T: ToSql> Params for [T; $length] {
            fn values(&self) -> Result<Vec<postgres::Value<'_>>> {
                self.iter().map(value).collect()
            }
        })*
    };
}
arrays!(1 2 3 4);

macro_rules! tuples {
    ($($($name:ident)+;)*) => {
        $(impl<$($name: ToSql),+> Params for ($($name,)+) {
            fn values(&self) -> Result<Vec<postgres::Value<'_>>> {
                #[expect(non_snake_case, reason = "the names of types are those of values")]
                let ($($name,)+) = self;
                Ok(vec![$(value($name)?),+])
            }
        })*
    };
}
tuples! {
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
    A B C D E F G H I;
    A B C D E F G H I J;
    A B C D E F G H I J K;
    A B C D E F G H I J K L;
    A B C D E F G H I J K L M;
    A B C D E F G H I J K L M N;
}
