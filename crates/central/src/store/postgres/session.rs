//! A thread's connection, and the small runtime that turns it.

use super::{ANSWER, BACK_OFF, CONNECT, Error, IDLE, LOCK, Nature, Server, Value, schema};
use crate::store::sql::{self, Token};
use futures_util::TryStreamExt;
use futures_util::future::{join, try_join_all};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use switchboard_postgres::Target;
use switchboard_router::Key;
use switchboard_router::once::Begin;
use switchboard_router::once::postgres::{self as once, Once, Statements};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Row};

pub(crate) type Statement = tokio_postgres::Statement;

/// A connection that is made anew when it is lost; never within a transaction.
pub(crate) struct Session {
    runtime: Runtime,
    server: Arc<Server>,
    live: RefCell<Option<Live>>,
    /// When the next attempt to connect may be made, and how long after that the one after it.
    next: Cell<(Instant, Duration)>,
    /// It has connected since the last transaction began.
    is_new: Cell<bool>,
    /// Statements of the present transaction whose answers nobody needs: each travels with the next one that is waited
    /// for, or with the commit, so that it costs no round trip of its own.
    deferred: RefCell<Vec<Deferred>>,
    /// Nothing is deferred in the present transaction.
    waits_for_each: Cell<bool>,
    /// Something failed in the present transaction. PostgreSQL then turns its commit into a rollback without a word.
    spoilt: Cell<bool>,
    /// Since when the present transaction runs, until it was found slow.
    begun: Cell<Option<Instant>>,
    /// What to do about a transaction that has taken longer than this.
    slow: RefCell<Option<Slow>>,
}

type Slow = (Duration, Box<dyn Fn() + Send>);

struct Live {
    client: Client,
    once: Statements,
    statements: RefCell<HashMap<String, Statement>>,
    connection: JoinHandle<()>,
}

/// A statement that is sent together with a later one.
enum Deferred {
    Begin,
    Kept(once::Kept),
    Run(Statement, Vec<Value<'static>>),
}

impl Deferred {
    /// Sends it when polled for the first time.
    async fn send(self, live: &Live) -> Result<(), tokio_postgres::Error> {
        match self {
            Self::Begin => live.client.batch_execute("BEGIN").await,
            Self::Kept(kept) => kept.write(&live.client, &live.once).await,
            Self::Run(statement, values) => live.client.execute_raw(&statement, values).await.map(drop),
        }
    }
}

/// So many statements are deferred at most. All of them are sent in order, as long as they are no more than thirty.
const DEFERRED_MAX: usize = 16;

/// What a statement gave.
pub(crate) struct Given {
    pub(crate) rows: Vec<Row>,
    pub(crate) changed: usize,
}

#[expect(clippy::disallowed_methods, reason = "how long a session waits before it connects again")]
fn now() -> Instant {
    Instant::now()
}

impl Session {
    /// One that is not connected yet.
    pub(crate) fn new(server: Arc<Server>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let next = Cell::new((now(), BACK_OFF.0));
        Ok(Self {
            runtime,
            server,
            live: RefCell::new(None),
            next,
            is_new: Cell::new(false),
            deferred: RefCell::default(),
            waits_for_each: Cell::new(false),
            spoilt: Cell::new(false),
            begun: Cell::new(None),
            slow: RefCell::new(None),
        })
    }

    /// Connects, unless that was tried in vain a moment ago.
    pub(crate) fn ensure(&self) -> Result<(), Error> {
        // A connection that was given up ends when the runtime turns.
        self.runtime.block_on(tokio::task::yield_now());
        if self.live.borrow().as_ref().is_some_and(|live| !live.client.is_closed()) {
            return Ok(());
        }
        let (next, back_off) = self.next.get();
        if now() < next {
            return Err(Error::Away(format!("{} was not there a moment ago", self.server.name)));
        }
        self.live.replace(None);
        match self.runtime.block_on(connect(&self.server)) {
            Ok(live) => {
                self.live.replace(Some(live));
                self.is_new.set(true);
                self.next.set((now(), BACK_OFF.0));
                self.server.is_there();
                Ok(())
            }
            Err(error) => {
                self.next.set((now() + back_off, (back_off * 2).min(BACK_OFF.1)));
                self.server.is_away(&error);
                Err(error)
            }
        }
    }

    /// Calls `then` once in each transaction that takes longer than `after`.
    pub(crate) fn when_slow(&self, after: Duration, then: Box<dyn Fn() + Send>) {
        self.slow.replace(Some((after, then)));
    }

    /// Ends the connection. The next [`ensure`](Self::ensure) makes another one.
    pub(crate) fn rest(&self) {
        self.live.replace(None);
        // It ends when the runtime turns.
        self.runtime.block_on(tokio::task::yield_now());
    }

    /// The next message. Meanwhile the connection is looked after.
    pub(crate) fn receive<T>(&self, queue: &mut mpsc::Receiver<T>) -> Option<T> {
        enum Woken<T> {
            Message(Option<T>),
            Lost,
            Again,
        }
        loop {
            let mut live = self.live.borrow_mut();
            let pause = self.next.get().0.saturating_duration_since(now());
            let woken = self.runtime.block_on(async {
                match live.as_mut() {
                    Some(live) => tokio::select! {
                        biased;
                        message = queue.recv() => Woken::Message(message),
                        _ = &mut live.connection => Woken::Lost,
                    },
                    None => tokio::select! {
                        biased;
                        message = queue.recv() => Woken::Message(message),
                        () = tokio::time::sleep(pause) => Woken::Again,
                    },
                }
            });
            drop(live);
            match woken {
                Woken::Message(message) => return message,
                Woken::Lost => {
                    self.live.replace(None);
                }
                // How it went is told by the server's state.
                Woken::Again => drop(self.ensure()),
            }
        }
    }

    /// The statement, in the words of PostgreSQL.
    pub(crate) fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        if let Some(known) = live.statements.borrow().get(sql) {
            return Ok(known.clone());
        }
        // `?1` to `$1`: no statement of the books has a question mark of another meaning.
        let statement = self.block(live.client.prepare(&sql.replace('?', "$")))?;
        live.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Runs a statement.
    pub(crate) fn run(&self, statement: &Statement, values: Vec<Value<'_>>) -> Result<Given, Error> {
        self.begin_now()?;
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        self.block_after_deferred(live, async {
            let mut stream = pin!(live.client.query_raw(statement, values).await?);
            let mut rows = Vec::new();
            while let Some(row) = stream.try_next().await? {
                rows.push(row);
            }
            let changed = stream.rows_affected().unwrap_or(0);
            Ok(Given { rows, changed: usize::try_from(changed).unwrap_or(usize::MAX) })
        })
    }

    /// Runs a statement whose answer nobody needs: if it fails, what comes after it in the transaction does.
    pub(crate) fn run_later(&self, statement: &Statement, values: Vec<Value<'_>>) -> Result<(), Error> {
        if self.waits_for_each.get() || self.deferred.borrow().len() >= DEFERRED_MAX {
            return self.run(statement, values).map(drop);
        }
        self.begin_now()?;
        let values = values.into_iter().map(Value::into_owned).collect();
        self.deferred.borrow_mut().push(Deferred::Run(statement.clone(), values));
        Ok(())
    }

    /// Runs statements without parameters.
    pub(crate) fn batch(&self, sql: &str) -> Result<(), Error> {
        self.begin_now()?;
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        self.block_after_deferred(live, live.client.batch_execute(sql))
    }

    /// Begins a transaction, on a new connection if the old one is lost; whether it is the first on its connection.
    pub(crate) fn begin(&self, reads: bool) -> Result<bool, Error> {
        self.ensure()?;
        self.deferred.borrow_mut().clear();
        self.waits_for_each.set(reads);
        self.spoilt.set(false);
        self.begun.set(self.slow.borrow().is_some().then(now));
        if reads {
            let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            let mut begun = self.batch(sql);
            // It was lost since it was used last, which shows only now.
            if begun.is_err() && self.is_lost() && self.ensure().is_ok() {
                self.spoilt.set(false);
                begun = self.batch(sql);
            }
            begun?;
        } else {
            // One that was lost meanwhile shows at the first statement; then the batch is done again.
            self.deferred.borrow_mut().push(Deferred::Begin);
        }
        Ok(self.is_new.take())
    }

    /// Begins the transaction, if that waits for the first statement. One that changes something must not run without.
    fn begin_now(&self) -> Result<(), Error> {
        if !matches!(self.deferred.borrow().first(), Some(Deferred::Begin)) {
            return Ok(());
        }
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        self.block_after_deferred(live, std::future::ready(Ok(())))
    }

    /// From here to the end of the transaction each statement is waited for.
    pub(crate) fn wait_for_each(&self) {
        self.waits_for_each.set(true);
    }

    /// Undoes what was done since a savepoint.
    pub(crate) fn rollback_to(&self, savepoint: &str) -> Result<(), Error> {
        self.batch(&format!("ROLLBACK TO {savepoint}"))?;
        self.spoilt.set(false);
        Ok(())
    }

    pub(crate) fn commit(&self) -> Result<(), Error> {
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        if self.spoilt.get() {
            return Err(Error::Spoilt);
        }
        self.block_after_deferred(live, live.client.batch_execute("COMMIT"))
    }

    /// Takes back what was done. A connection on which that fails is given up.
    pub(crate) fn rollback(&self) {
        self.deferred.borrow_mut().clear();
        if self.live.borrow().is_some() && self.batch("ROLLBACK").is_err() {
            self.live.replace(None);
        }
    }

    /// Whether the transaction that was begun is gone with its connection.
    pub(crate) fn is_lost(&self) -> bool {
        self.live.borrow().as_ref().is_none_or(|live| live.client.is_closed())
    }

    pub(crate) fn once<'a>(&self, key: &'a Key) -> Result<Begin<Token<'a>>, sql::Error> {
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        // The row that it locks is a question that changes nothing, and may travel with the beginning.
        let begun = Once::begin_prepared(&live.client, &live.once, key);
        Ok(match self.block_after_deferred(live, begun)? {
            Begin::Fresh(token) => Begin::Fresh(Token::Postgres(token)),
            Begin::Repeat(answer) => Begin::Repeat(answer),
            Begin::Stale => Begin::Stale,
        })
    }

    pub(crate) fn store(&self, token: once::Token<'_>, answer: &str) -> Result<(), Error> {
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        let kept = token.kept(answer);
        if kept.takes_several() || self.waits_for_each.get() {
            return self.block_after_deferred(live, kept.write(&live.client, &live.once));
        }
        self.deferred.borrow_mut().push(Deferred::Kept(kept));
        Ok(())
    }

    pub(crate) fn lock_station(&self, tenant: &str, station: &str) -> Result<(), Error> {
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        self.block_after_deferred(live, Once::lock(&live.client, &live.once, tenant, station))
    }

    pub(crate) fn identity(&self) -> Result<String, Error> {
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        self.block(schema::identity(&live.client))
    }

    pub(crate) fn generation_max(&self) -> Result<u64, Error> {
        let live = self.live.borrow();
        let live = live.as_ref().ok_or_else(|| self.gone())?;
        self.block(Once::generation_max(&live.client))
    }

    /// Waits until a transaction that began then is slow, and says so.
    async fn found_slow(&self, begun: Option<Instant>) {
        let after = self.slow.borrow().as_ref().map(|(after, _)| *after);
        let Some((begun, after)) = begun.zip(after) else { return };
        tokio::time::sleep_until((begun + after).into()).await;
        if let Some((_, then)) = &*self.slow.borrow() {
            then();
        }
    }

    fn gone(&self) -> Error {
        Error::Away(format!("the connection to {} is lost", self.server.name))
    }

    /// Sends what was deferred, and at once what comes after it; waits for all answers.
    fn block_after_deferred<T>(
        &self,
        live: &Live,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let deferred = self.deferred.take();
        self.block(async {
            // A statement is sent when it is polled for the first time; so these are on their way in their order.
            let mut before = pin!(try_join_all(deferred.into_iter().map(|statement| statement.send(live))));
            match poll_fn(|task| Poll::Ready(before.as_mut().poll(task))).await {
                Poll::Pending => {}
                // There were none.
                Poll::Ready(Ok(_)) => return answer.await,
                // One cannot be sent at all. Then nothing may be that would count on it, least of all the commit.
                Poll::Ready(Err(error)) => return Err(error),
            }
            let (before, answer) = join(before, answer).await;
            before.and(answer)
        })
    }

    /// Waits for an answer. One that does not come in time never will: what it did is not known, and the connection ends.
    fn block<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Error> {
        let answer = self.runtime.block_on(async {
            let mut answer = pin!(answer);
            let mut limit = pin!(tokio::time::sleep(ANSWER));
            loop {
                let begun = self.begun.get();
                tokio::select! {
                    biased;
                    answer = &mut answer => break answer.map_err(Error::from),
                    () = self.found_slow(begun), if begun.is_some() => self.begun.set(None),
                    () = &mut limit => {
                        break Err(Error::Away(format!("{} has not answered for {ANSWER:?}", self.server.name)));
                    }
                }
            }
        });
        if let Err(error) = &answer {
            self.spoilt.set(true);
            // Also where the connection still stands: a server that has come to be one that only reads.
            if error.nature() == Nature::Away
                && let Some(live) = &*self.live.borrow()
            {
                live.connection.abort();
            }
        }
        answer
    }
}

async fn connect(server: &Server) -> Result<Live, Error> {
    let mut failed = Error::Away("nobody knows where it is".to_owned());
    for target in &server.targets {
        match connect_to(server, target).await {
            Ok(live) => return Ok(live),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn connect_to(server: &Server, target: &Target) -> Result<Live, Error> {
    let connected = tokio::time::timeout(2 * CONNECT, async {
        let (client, connection) = target.server.connect(target.connector.clone()).await?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a connection to PostgreSQL ended");
            }
        });
        client.batch_execute(&settings()).await?;
        let asked_ms = server.own_ms();
        let row = client
            .query_one("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)", &[])
            .await?;
        server.clock_said(row.try_get(0)?, asked_ms);
        let found = schema::make(&client, server.now_ms()).await?;
        if found > schema::KNOWN {
            return Err(Error::Newer(format!(
                "the books in {} have schema version {found}, and this program knows versions up to {}; use a newer \
                 program",
                server.name,
                schema::KNOWN
            )));
        }
        let once = Once::prepare(&client).await?;
        Ok(Live { client, once, statements: RefCell::default(), connection })
    });
    match connected.await {
        Ok(connected) => connected,
        Err(_) => Err(Error::Away(format!("{} does not answer", server.name))),
    }
}

/// What every connection is set to. What is answered is on the server's disk, also where the server says otherwise.
fn settings() -> String {
    format!(
        "SELECT set_config('search_path', '{schema}', false),
               set_config('default_transaction_isolation', 'read committed', false),
               set_config('idle_in_transaction_session_timeout', '{idle}', false),
               set_config('lock_timeout', '{lock}', false);
        SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        schema = schema::SCHEMA,
        idle = IDLE.as_millis(),
        lock = LOCK.as_millis(),
    )
}
