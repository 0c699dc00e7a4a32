//! The register of tags: laid down, changed and removed by the operator.
//!
//! Every change has a number, one higher than the last one of the tenant. Local lists at stations are brought up to date
//! by these numbers.

use super::TokenStatus;
use crate::duty::At;
use crate::store::{Connection, Row, StoreError};

type Found<T> = Result<T, StoreError>;

/// A tag as it is in the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) token: String,
    pub(crate) status: TokenStatus,
    pub(crate) group: Option<String>,
    pub(crate) expiry_ms: Option<i64>,
    pub(crate) kind: Option<String>,
    pub(crate) changed: i64,
}

pub(super) const COLUMNS: &str = "token, status, parent, expiry_ms, type, changed";

pub(super) fn read(row: &Row<'_>) -> crate::store::Sql<Entry> {
    Ok(Entry {
        token: row.get(0)?,
        status: TokenStatus::from_name(&row.get::<_, String>(1)?).unwrap_or(TokenStatus::Invalid),
        group: row.get(2)?,
        expiry_ms: row.get(3)?,
        kind: row.get(4)?,
        changed: row.get(5)?,
    })
}

fn counter(tenant: &str) -> String {
    format!("tags {tenant}")
}

/// Lets nobody else change the register, nor look at it for a list, until the transaction ends.
pub(crate) fn lock(db: &Connection, tenant: &str) -> Found<()> {
    Ok(db.lock("tags", tenant, "")?)
}

/// The number of the last change.
pub(crate) fn latest(db: &Connection, tenant: &str) -> Found<i64> {
    Ok(db
        .prepare_cached("SELECT coalesce(max(value), 0) FROM counter WHERE name = ?1")?
        .query_row([counter(tenant)], |row| row.get(0))?)
}

fn next(db: &Connection, tenant: &str) -> Found<i64> {
    Ok(db
        .prepare_cached(
            "INSERT INTO counter (name, value) VALUES (?1, 1)
             ON CONFLICT (name) DO UPDATE SET value = counter.value + 1 RETURNING value",
        )?
        .query_row([counter(tenant)], |row| row.get(0))?)
}

/// One tag, whatever the case of its letters.
pub(crate) fn get(db: &Connection, tenant: &str, token: &str) -> Found<Option<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM token WHERE tenant = ?1 AND token = ?2");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query_map([tenant, token], read)?;
    Ok(rows.next().transpose()?)
}

/// Which tags to list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) status: Option<TokenStatus>,
    pub(crate) group: Option<String>,
    pub(crate) containing: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
}

/// Tags in order of their letters.
pub(crate) fn list(at: At<'_>, tenant: &str, wanted: &Wanted) -> Found<Vec<Entry>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM token
         WHERE tenant = ?1 AND (token > ?2 OR ?2 IS NULL) AND (parent = ?3 COLLATE NOCASE OR ?3 IS NULL)
           AND (instr(lower(token), lower(?4)) > 0 OR ?4 IS NULL)
           AND (CASE WHEN status = 'Accepted' AND expiry_ms <= ?6 THEN 'Expired' ELSE status END = ?5
                OR ?5 IS NULL)
         ORDER BY token LIMIT ?7"
    );
    let mut statement = at.db.prepare_cached(&sql)?;
    let rows = statement.query_map(
        (
            tenant,
            &wanted.after,
            &wanted.group,
            &wanted.containing,
            wanted.status.map(TokenStatus::as_str),
            at.now_ms,
            i64::try_from(wanted.limit).unwrap_or(i64::MAX),
        ),
        read,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many there are.
pub(crate) fn count(db: &Connection, tenant: &str) -> Found<u64> {
    let count: i64 = db
        .prepare_cached("SELECT count(*) FROM token WHERE tenant = ?1")?
        .query_row([tenant], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Lays down a tag, in place of what was known of it. What says nothing new is no change.
pub(crate) fn put(db: &Connection, tenant: &str, entry: &Entry) -> Found<()> {
    if let Some(known) = get(db, tenant, &entry.token)?
        && (Entry { changed: entry.changed, ..known }) == *entry
    {
        return Ok(());
    }
    let changed = next(db, tenant)?;
    db.prepare_cached("DELETE FROM token_gone WHERE tenant = ?1 AND token = ?2")?
        .execute([tenant, &entry.token])?;
    db.prepare_cached(
        "INSERT INTO token (tenant, token, status, parent, expiry_ms, type, changed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (tenant, token) DO UPDATE
         SET token = excluded.token, status = excluded.status, parent = excluded.parent,
             expiry_ms = excluded.expiry_ms, type = excluded.type, changed = excluded.changed",
    )?
    .execute((
        tenant,
        &entry.token,
        entry.status.as_str(),
        &entry.group,
        entry.expiry_ms,
        &entry.kind,
        changed,
    ))?;
    Ok(())
}

/// Removes a tag; whether there was one. Stations that have a list are told by the number of the change.
pub(crate) fn remove(db: &Connection, tenant: &str, token: &str) -> Found<bool> {
    let Some(entry) = get(db, tenant, token)? else { return Ok(false) };
    let changed = next(db, tenant)?;
    db.prepare_cached("DELETE FROM token WHERE tenant = ?1 AND token = ?2")?.execute([tenant, token])?;
    db.prepare_cached(
        "INSERT INTO token_gone (tenant, token, type, changed)
         SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM local_list WHERE tenant = ?1)
         ON CONFLICT (tenant, token) DO UPDATE
         SET token = excluded.token, type = excluded.type, changed = excluded.changed",
    )?
    .execute((tenant, &entry.token, &entry.kind, changed))?;
    Ok(true)
}
