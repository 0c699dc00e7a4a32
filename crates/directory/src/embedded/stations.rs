//! Accounts, registrations and the rows of stations.

use super::fault::{Fault, damaged};
use super::live::{Columns, Live, Row};
use super::store::Job;
use crate::{Account, DirectoryError, PasswordHash, StationKey};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;
use switchboard_bus::Registration;
use switchboard_rpc::StationId;
use tokio::sync::oneshot;

/// Reads into memory what the database knows.
pub(super) fn load(connection: &Connection, live: &Live) -> Result<(), Fault> {
    let mut statement =
        connection.prepare("SELECT tenant, station, generation, registration, seen_ms FROM station")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let registration: Option<String> = row.get(3)?;
        let registration = registration.map(|word| registration_of(&word)).transpose()?;
        let generation = row.get::<_, i64>(2)?.cast_unsigned();
        live.load_station(&key(row)?, Columns { generation, registration, seen_ms: row.get(4)? });
    }
    let mut statement = connection.prepare("SELECT tenant, station, password IS NOT NULL FROM account")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        live.set_account(&key(row)?, Some(row.get(2)?));
    }
    let mut statement =
        connection.prepare("SELECT tenant, station, count(*) FROM journal GROUP BY tenant, station")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        live.add_journal(&key(row)?, row.get::<_, i64>(2)?.cast_unsigned());
    }
    Ok(())
}

/// The key in the first two columns.
pub(super) fn key(row: &rusqlite::Row<'_>) -> Result<StationKey, Fault> {
    let station: String = row.get(1)?;
    Ok(StationKey {
        tenant: row.get::<_, String>(0)?.into(),
        station: StationId::new(station, usize::MAX).map_err(|_| damaged("a station without identity"))?,
    })
}

pub(super) fn account(connection: &Connection, key: &StationKey) -> Result<Option<Account>, Fault> {
    let found = connection
        .prepare_cached("SELECT password, created_ms FROM account WHERE tenant = ?1 AND station = ?2")?
        .query_row(params![&*key.tenant, key.station.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.map(|(password, created_ms): (Option<String>, i64)| Account {
        key: key.clone(),
        password: password.map(PasswordHash),
        created_ms,
    }))
}

pub(super) fn put_account(connection: &Connection, account: &Account) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO account (tenant, station, password, created_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (tenant, station) DO UPDATE
             SET password = excluded.password, created_ms = excluded.created_ms",
        )?
        .execute(params![
            &*account.key.tenant,
            account.key.station.as_str(),
            account.password.as_ref().map(|hash| &hash.0),
            account.created_ms,
        ])?;
    Ok(())
}

pub(super) fn remove_account(connection: &Connection, key: &StationKey) -> Result<bool, Fault> {
    let removed = connection
        .prepare_cached("DELETE FROM account WHERE tenant = ?1 AND station = ?2")?
        .execute(params![&*key.tenant, key.station.as_str()])?;
    Ok(removed > 0)
}

/// Writes the changed rows of stations, whichever changed: of those that ask for it at the same time the first one does it
/// for all.
#[derive(Debug)]
pub(super) struct Flush {
    live: Arc<Live>,
    rows: Vec<Row>,
    /// Who waits for it.
    answer: Option<oneshot::Sender<Result<(), DirectoryError>>>,
}

impl Flush {
    /// Nobody waits for it.
    pub(super) const fn new(live: Arc<Live>) -> Self {
        Self { live, rows: Vec::new(), answer: None }
    }

    /// Tells when they are written.
    pub(super) const fn telling(
        live: Arc<Live>,
        answer: oneshot::Sender<Result<(), DirectoryError>>,
    ) -> Self {
        Self { live, rows: Vec::new(), answer: Some(answer) }
    }
}

impl Job for Flush {
    fn run(&mut self, connection: &Connection) -> Result<(), Fault> {
        // Those of a time before were rolled back.
        self.live.take_dirty(&mut self.rows);
        let written = write(connection, &self.rows);
        if written.is_err() {
            // Before the next one is asked, which would else think them written.
            self.live.put_back(std::mem::take(&mut self.rows));
        }
        written
    }

    fn is_whole(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, outcome: Result<(), DirectoryError>) {
        if outcome.is_err() {
            self.live.put_back(self.rows);
        }
        match (self.answer, outcome) {
            // Whoever asked may have gone.
            (Some(answer), outcome) => drop(answer.send(outcome)),
            // They are tried again with the next ones: nothing depends on them but the list of who was here when.
            (None, Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the stations' rows were not written"
                );
            }
            (None, Ok(())) => {}
        }
    }
}

fn write(connection: &Connection, rows: &[Row]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut write = connection.prepare_cached(
        "INSERT INTO station (tenant, station, generation, registration, seen_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (tenant, station) DO UPDATE
         SET generation = excluded.generation, registration = excluded.registration, seen_ms = excluded.seen_ms",
    )?;
    for Row { key, columns } in rows {
        let (tenant, station) = (&*key.tenant, key.station.as_str());
        if let Some(Columns { generation, registration, seen_ms }) = columns {
            let registration = registration.map(registration_name);
            write.execute(params![tenant, station, generation.cast_signed(), registration, seen_ms])?;
        } else {
            connection
                .prepare_cached("DELETE FROM station WHERE tenant = ?1 AND station = ?2")?
                .execute(params![tenant, station])?;
        }
    }
    Ok(())
}

const fn registration_name(registration: Registration) -> &'static str {
    match registration {
        Registration::Accepted => "accepted",
        Registration::Pending => "pending",
        Registration::Rejected => "rejected",
    }
}

fn registration_of(word: &str) -> Result<Registration, Fault> {
    [Registration::Accepted, Registration::Pending, Registration::Rejected]
        .into_iter()
        .find(|registration| registration_name(*registration) == word)
        .ok_or_else(|| damaged("a registration that does not exist"))
}
