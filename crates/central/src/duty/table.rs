//! The table of duties.

use super::kind::kind;
use super::{At, Duty, DutyState, Make, NewDuty, Settled};
use crate::store::{Connection, Row, StoreError};
use std::time::Duration;
use switchboard_router::Outcome;
use switchboard_rpc::{Registration, Version};

type Found<T> = Result<T, StoreError>;

/// How many of a station's due duties one look considers: those that the station may not get yet are passed over.
const LOOK_MAX: i64 = 64;
/// The second attempt comes after this time, the next ones each after twice as long, up to the longest.
const BACK_OFF: Duration = Duration::from_secs(15);
const BACK_OFF_MAX: Duration = Duration::from_secs(3600);
/// The same where the station was not there after all, or had too much to do.
const AWAY: Duration = Duration::from_secs(1);
const AWAY_MAX: Duration = Duration::from_secs(60);
/// How long what became of a call can be asked for again by its key, after the process has died. The gateway's side
/// remembers it for a day.
const REMEMBERED: Duration = Duration::from_secs(12 * 3600);
/// How long ended duties are kept, to be looked at.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

const COLUMNS: &str = "id, tenant, station, kind, key, version, action, payload, context, repeatable, timeout_ms,
    not_before_ms, due_ms, expires_ms, attempts_max, state, revision, attempts, failures, outcome, reason, owed_ms,
    changed_ms";

fn read(row: &Row<'_>) -> crate::store::Sql<Duty> {
    Ok(Duty {
        id: row.get(0)?,
        tenant: row.get(1)?,
        station: row.get(2)?,
        kind: row.get(3)?,
        key: row.get(4)?,
        version: row.get::<_, Option<String>>(5)?.as_deref().and_then(Version::from_number),
        action: row.get(6)?,
        payload: row.get(7)?,
        context: row.get(8)?,
        repeatable: row.get(9)?,
        timeout: Duration::from_millis(row.get::<_, i64>(10)?.unsigned_abs()),
        not_before_ms: row.get(11)?,
        due_ms: row.get(12)?,
        expires_ms: row.get(13)?,
        attempts_max: row.get(14)?,
        state: DutyState::from_name(&row.get::<_, String>(15)?).unwrap_or(DutyState::GivenUp),
        revision: row.get(16)?,
        attempts: row.get(17)?,
        failures: row.get(18)?,
        outcome: row.get(19)?,
        reason: row.get(20)?,
        owed_ms: row.get(21)?,
        changed_ms: row.get(22)?,
    })
}

fn rows(db: &Connection, sql: &str, parameters: impl crate::store::Params) -> Found<Vec<Duty>> {
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map(parameters, read)?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Lays down that something is owed; gives out its number. Whoever calls it lets the attendant know after the commit
/// ([`Central::nudge`](crate::Central)).
pub(crate) fn owe(at: At<'_>, duty: &NewDuty<'_>) -> Found<i64> {
    let fixed = duty.fixed.as_ref();
    Ok(at
        .db
        .prepare_cached(
            "INSERT INTO duty (tenant, station, kind, key, version, action, payload, context, repeatable, timeout_ms,
                               not_before_ms, due_ms, expires_ms, attempts_max, state, revision, attempts, failures,
                               owed_ms, changed_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, max(?11, ?12), ?13, ?14, 'open', 0, 0, 0, ?12, ?12)
             ON CONFLICT (tenant, station, kind, key) DO UPDATE
             SET version = excluded.version, action = excluded.action, payload = excluded.payload,
                 context = excluded.context, repeatable = excluded.repeatable, timeout_ms = excluded.timeout_ms,
                 not_before_ms = excluded.not_before_ms, due_ms = excluded.due_ms, expires_ms = excluded.expires_ms,
                 attempts_max = excluded.attempts_max, revision = duty.revision + 1, failures = 0,
                 attempts = CASE duty.state WHEN 'sending' THEN duty.attempts ELSE 0 END,
                 outcome = CASE duty.state WHEN 'sending' THEN duty.outcome END,
                 reason = CASE duty.state WHEN 'sending' THEN duty.reason END,
                 owed_ms = CASE duty.state WHEN 'sending' THEN duty.owed_ms ELSE excluded.owed_ms END,
                 state = CASE duty.state WHEN 'sending' THEN duty.state ELSE 'open' END, changed_ms = excluded.changed_ms
             RETURNING id",
        )?
        .query_row(
            crate::store::params![
                duty.tenant,
                duty.station,
                duty.kind,
                duty.key,
                fixed.map(|fixed| fixed.version.as_str()),
                fixed.map(|fixed| fixed.action),
                fixed.map(|fixed| &fixed.payload),
                duty.context,
                duty.repeatable,
                milliseconds(duty.timeout),
                duty.not_before_ms,
                at.now_ms,
                duty.expires_ms,
                duty.attempts_max,
            ],
            |row| row.get(0),
        )?)
}

/// Takes a duty back that has not been handed over; whether that was still possible.
pub(crate) fn withdraw(at: At<'_>, tenant: &str, station: &str, kind: &str, key: &str) -> Found<bool> {
    let withdrawn = at
        .db
        .prepare_cached(
            "UPDATE duty SET state = 'withdrawn', changed_ms = ?5
             WHERE tenant = ?1 AND station = ?2 AND kind = ?3 AND key = ?4 AND state = 'open'",
        )?
        .execute((tenant, station, kind, key, at.now_ms))?;
    Ok(withdrawn > 0)
}

/// Duties, those that changed last first; of one station or of all.
pub(crate) fn list(
    db: &Connection,
    tenant: &str,
    station: Option<&str>,
    open: bool,
    limit: usize,
) -> Found<Vec<Duty>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM duty
         WHERE tenant = ?1 AND (station = ?2 OR ?2 IS NULL) AND (NOT ?3 OR state IN ('open', 'sending'))
         ORDER BY changed_ms DESC, id DESC LIMIT ?4"
    );
    rows(db, &sql, (tenant, station, open, i64::try_from(limit).unwrap_or(i64::MAX)))
}

/// A station has booted: what failed before it did is worth another attempt at once.
pub(crate) fn booted(at: At<'_>, tenant: &str, station: &str) -> Found<()> {
    at.db
        .prepare_cached(
            "UPDATE duty SET due_ms = max(not_before_ms, ?3), failures = 0
             WHERE tenant = ?1 AND station = ?2 AND state = 'open' AND failures > 0",
        )?
        .execute((tenant, station, at.now_ms))?;
    Ok(())
}

/// Whether anything is owed to a station.
pub(crate) fn is_owed(db: &Connection, tenant: &str, station: &str) -> Found<bool> {
    Ok(next_due(db, tenant, station)?.is_some())
}

/// Stations to which something is owed that changed since then, with when it is due or expires.
pub(super) fn agenda(db: &Connection, since_ms: i64) -> Found<Vec<(String, String, i64)>> {
    let mut statement = db.prepare_cached(
        "SELECT tenant, station, min(min(due_ms, coalesce(expires_ms, due_ms))) FROM duty
         WHERE state = 'open' AND changed_ms >= ?1 GROUP BY tenant, station",
    )?;
    let found = statement.query_map([since_ms], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// When a station's next open duty is due or expires.
pub(super) fn next_due(db: &Connection, tenant: &str, station: &str) -> Found<Option<i64>> {
    Ok(db
        .prepare_cached(
            "SELECT min(min(due_ms, coalesce(expires_ms, due_ms))) FROM duty
             WHERE tenant = ?1 AND station = ?2 AND state = 'open'",
        )?
        .query_row([tenant, station], |row| row.get(0))?)
}

/// How long a process counts as living after it last said so. Only one that is known to be dead loses its duties, as what
/// it sends is then sent by another: the longer, the later that happens; the shorter, the more often while it still lives.
const LIVES_MS: i64 = 10_000;

/// Tells the other processes that this one lives.
pub(super) fn live(at: At<'_>, me: &str) -> Found<()> {
    if at.db.is_shared() {
        at.db
            .prepare_cached(
                "INSERT INTO worker (id, until_ms) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET until_ms = excluded.until_ms",
            )?
            .execute((me, at.now_ms + LIVES_MS))?;
    }
    Ok(())
}

/// Tells the other processes that this one ends.
pub(super) fn leave(at: At<'_>, me: &str) -> Found<()> {
    if at.db.is_shared() {
        at.db
            .prepare_cached("DELETE FROM worker WHERE id = ?1 OR until_ms < ?2")?
            .execute((me, at.now_ms - milliseconds(KEPT)))?;
    }
    Ok(())
}

/// Whether a duty is still being sent by this process, and in this attempt: another one may have taken over while this
/// one was frozen.
pub(super) fn is_ours(at: At<'_>, duty: &Duty, me: &str) -> Found<bool> {
    Ok(at
        .db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM duty WHERE id = ?1 AND state = 'sending' AND owner = ?2 AND attempts = ?3)",
        )?
        .query_row((duty.id, me, duty.attempts), |row| row.get(0))?)
}

/// What a process that died left behind as being sent, and what is too old to be kept.
///
/// What may be repeated is open again. Of the rest the outcome can be asked for by its key, as long as it is remembered;
/// after that nobody knows.
pub(super) fn recover(at: At<'_>, me: &str) -> Found<()> {
    let remembered = at.now_ms - milliseconds(REMEMBERED);
    let left = if at.db.is_shared() {
        let sql = format!(
            "SELECT {COLUMNS} FROM duty
             WHERE state = 'sending' AND owner <> ?1 AND owner NOT IN (SELECT id FROM worker WHERE until_ms > ?2)
             ORDER BY id FOR UPDATE SKIP LOCKED"
        );
        rows(at.db, &sql, (me, at.now_ms))?
    } else {
        rows(at.db, &format!("SELECT {COLUMNS} FROM duty WHERE state = 'sending' AND owner <> ?1"), [me])?
    };
    for duty in left {
        if duty.repeatable || duty.changed_ms > remembered {
            at.db
                .prepare_cached(
                    "UPDATE duty SET state = 'open', due_ms = ?2, attempts = ?3, changed_ms = ?2 WHERE id = ?1",
                )?
                .execute((duty.id, at.now_ms, duty.attempts - u32::from(!duty.repeatable)))?;
        } else {
            settle(at, &duty, None, &Outcome::Unknown)?;
        }
    }
    at.db
        .prepare_cached("DELETE FROM duty WHERE state NOT IN ('open', 'sending') AND changed_ms < ?1")?
        .execute([at.now_ms - milliseconds(KEPT)])?;
    Ok(())
}

/// What to do for a station now.
#[derive(Clone, Debug)]
pub(super) enum Begun {
    /// Make this call; it is marked as being sent.
    Call { duty: Box<Duty>, action: String, payload: String },
    /// Something is due that the station may not get before it is accepted.
    Held,
    /// Nothing is due now.
    Nothing,
}

/// Ends what has expired.
pub(super) fn expire(at: At<'_>, tenant: &str, station: &str) -> Found<u64> {
    let sql = format!(
        "SELECT {COLUMNS} FROM duty
         WHERE tenant = ?1 AND station = ?2 AND state = 'open' AND expires_ms <= ?3 LIMIT {LOOK_MAX}"
    );
    let expired = rows(at.db, &sql, (tenant, station, at.now_ms))?;
    for duty in &expired {
        settle(at, duty, None, &Outcome::Expired)?;
    }
    Ok(expired.len() as u64)
}

/// Marks the first duty that may be sent as being sent, and ends those on the way that need no call.
pub(super) fn begin(at: At<'_>, tenant: &str, station: &str, version: Version, me: &str) -> Found<Begun> {
    let booted = crate::books::query::registration(at.db, tenant, station)?;
    let registration = match booted.as_ref().and_then(|(_, registration)| registration.as_deref()) {
        Some("Pending") => Registration::Pending,
        Some("Rejected") => Registration::Rejected,
        // One that never booted with us goes on with the registration that it has elsewhere (L07).
        _ => Registration::Accepted,
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM duty
         WHERE tenant = ?1 AND station = ?2 AND state = 'open' AND due_ms <= ?3 ORDER BY id LIMIT {LOOK_MAX}"
    );
    let mut begun = Begun::Nothing;
    for mut duty in rows(at.db, &sql, (tenant, station, at.now_ms))? {
        let (action, payload) = match kind(&duty.kind).make(at, &duty, version)? {
            Make::Call(action, payload) => (action.into_owned(), payload),
            Make::Nothing => {
                end(at, &duty, DutyState::Done, None, None)?;
                continue;
            }
            Make::Cannot(reason) => {
                end(at, &duty, DutyState::Refused, None, Some(&reason))?;
                continue;
            }
        };
        if !registration.allows(version, &action) {
            begun = Begun::Held;
            continue;
        }
        at.db
            .prepare_cached(
                "UPDATE duty SET state = 'sending', attempts = attempts + 1, changed_ms = ?2, owner = ?3 WHERE id = ?1",
            )?
            .execute((duty.id, at.now_ms, me))?;
        duty.attempts += 1;
        return Ok(Begun::Call { duty: Box::new(duty), action, payload });
    }
    Ok(begun)
}

/// Writes down what became of a call, with what its kind makes of it.
pub(super) fn settle(at: At<'_>, duty: &Duty, version: Option<Version>, outcome: &Outcome) -> Found<()> {
    if matches!(outcome, Outcome::Offline | Outcome::NotSent | Outcome::Busy | Outcome::Cancelled) {
        // Nothing has happened at the station: it is owed as before. That the station went counts as no attempt.
        return again(at, duty, outcome, None, back_off(AWAY, AWAY_MAX, duty.failures), false);
    }
    let proposed = Settled::proposed(duty, outcome);
    let settled = kind(&duty.kind).settle(at, duty, version, outcome, proposed)?;
    let name = Some(name(outcome));
    match settled {
        Settled::Done(reason) => end(at, duty, DutyState::Done, name, reason.as_deref()),
        Settled::Refused(reason) => end(at, duty, DutyState::Refused, name, Some(&reason)),
        Settled::Unknown => end(at, duty, DutyState::Unknown, name, None),
        Settled::Expired => end(at, duty, DutyState::Expired, name, None),
        Settled::Next(after) => {
            at.db
                .prepare_cached(
                    "UPDATE duty SET state = 'open', due_ms = ?2, failures = 0, outcome = ?3, reason = NULL,
                            changed_ms = ?4
                     WHERE id = ?1",
                )?
                .execute((duty.id, at.now_ms + milliseconds(after), name, at.now_ms))?;
            Ok(())
        }
        Settled::Again(reason) => {
            if duty.attempts_max.is_some_and(|most| duty.attempts >= most) {
                return end(at, duty, DutyState::GivenUp, name, Some(&reason));
            }
            again(at, duty, outcome, Some(&reason), back_off(BACK_OFF, BACK_OFF_MAX, duty.failures), true)
        }
    }
}

/// Ends a duty that its kind cannot settle: a mistake of ours must not be repeated for ever.
pub(super) fn give_up(at: At<'_>, duty: &Duty, outcome: &Outcome, reason: &str) -> Found<()> {
    end(at, duty, DutyState::GivenUp, Some(name(outcome)), Some(reason))
}

fn back_off(first: Duration, most: Duration, failures: u32) -> i64 {
    milliseconds(first.saturating_mul(1_u32 << failures.min(16)).min(most))
}

fn again(
    at: At<'_>,
    duty: &Duty,
    outcome: &Outcome,
    reason: Option<&str>,
    after_ms: i64,
    counts: bool,
) -> Found<()> {
    // What was owed anew in the meantime is due as whoever did so said.
    at.db
        .prepare_cached(
            "UPDATE duty SET state = 'open', due_ms = CASE revision WHEN ?2 THEN ?3 ELSE due_ms END,
                    failures = CASE revision WHEN ?2 THEN failures + 1 ELSE 0 END, attempts = ?4, outcome = ?5,
                    reason = coalesce(?6, reason), changed_ms = ?7
             WHERE id = ?1",
        )?
        .execute((
            duty.id,
            duty.revision,
            at.now_ms + after_ms,
            duty.attempts - u32::from(!counts && duty.repeatable),
            name(outcome),
            reason,
            at.now_ms,
        ))?;
    Ok(())
}

fn end(at: At<'_>, duty: &Duty, state: DutyState, outcome: Option<&str>, reason: Option<&str>) -> Found<()> {
    at.db
        .prepare_cached(
            "UPDATE duty SET state = CASE revision WHEN ?2 THEN ?3 ELSE 'open' END, outcome = ?4, reason = ?5,
                    failures = 0, changed_ms = ?6
             WHERE id = ?1",
        )?
        .execute((duty.id, duty.revision, state.as_str(), outcome, reason, at.now_ms))?;
    Ok(())
}

/// An outcome's name, as it is kept and shown.
fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered(_) => "answered",
        Outcome::Refused { .. } => "refused",
        Outcome::Offline => "offline",
        Outcome::Busy => "busy",
        Outcome::Expired => "expired",
        Outcome::Cancelled => "cancelled",
        Outcome::NotSent => "notSent",
        _ => "unknown",
    }
}
