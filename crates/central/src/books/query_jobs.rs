//! Reading jobs, reservations and profiles.

use super::query::{Found, limit_of, rows};
use crate::store::{Connection, Row};
use crate::views::{DesiredProfile, Job, Jobs, Profiles, ReportedProfile, Reservation, Step, Token, When};
use serde_json::value::RawValue;

/// Jobs of a kind, the latest first, and the statuses of no job.
pub(crate) fn jobs(
    db: &Connection,
    tenant: &str,
    kind: &str,
    station: Option<&str>,
    limit: usize,
) -> Found<Jobs> {
    let mut jobs = rows(
        db,
        "SELECT job.id, identity, kind, what, url, phase, status, detail, file, firmware_before, firmware_after,
                requested_ms, updated_ms
         FROM job JOIN station ON station.id = job.station
         WHERE tenant = ?1 AND kind = ?2 AND (identity = ?3 OR ?3 IS NULL) ORDER BY job.id DESC LIMIT ?4",
        (tenant, kind, station, limit_of(limit)),
        |row| {
            Ok(Job {
                id: row.get(0)?,
                station: row.get(1)?,
                kind: row.get(2)?,
                what: row.get(3)?,
                url: without_credentials(&row.get::<_, String>(4)?),
                phase: row.get(5)?,
                status: row.get(6)?,
                detail: row.get(7)?,
                file: row.get(8)?,
                firmware_before: row.get(9)?,
                firmware_after: row.get(10)?,
                requested_at: When(row.get(11)?),
                updated_at: When(row.get(12)?),
                steps: Vec::new(),
            })
        },
    )?;
    for job in &mut jobs {
        job.steps = rows(
            db,
            "SELECT identity, status, claimed, remark, at_ms FROM job_step JOIN station ON station.id = job_step.station
             WHERE job = ?1 ORDER BY job_step.id",
            [job.id],
            step,
        )?;
    }
    let stray = rows(
        db,
        "SELECT identity, status, claimed, remark, at_ms FROM job_step JOIN station ON station.id = job_step.station
         WHERE job IS NULL AND tenant = ?1 AND kind = ?2 AND (identity = ?3 OR ?3 IS NULL)
         ORDER BY job_step.id DESC LIMIT ?4",
        (tenant, kind, station, limit_of(limit)),
        step,
    )?;
    Ok(Jobs { jobs, stray })
}

fn step(row: &Row<'_>) -> crate::store::Sql<Step> {
    Ok(Step {
        station: row.get(0)?,
        status: row.get(1)?,
        request: row.get(2)?,
        remark: row.get(3)?,
        at: When(row.get(4)?),
    })
}

/// A URL without the user and the password that may stand in it.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://…@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// Reservations, the latest first. One whose time is over is shown as that, whether or not the station said so: stations
/// of 1.6 cannot.
pub(crate) fn reservations(
    db: &Connection,
    tenant: &str,
    station: Option<&str>,
    now_ms: i64,
    limit: usize,
) -> Found<Vec<Reservation>> {
    rows(
        db,
        "SELECT reservation.id, identity, evse, token, until_ms,
                CASE WHEN state IN ('requested', 'accepted') AND until_ms <= ?4 THEN 'expired' ELSE state END,
                detail, charge, requested_ms, updated_ms
         FROM reservation JOIN station ON station.id = reservation.station
         WHERE tenant = ?1 AND (identity = ?2 OR ?2 IS NULL) ORDER BY reservation.id DESC LIMIT ?3",
        (tenant, station, limit_of(limit), now_ms),
        |row| {
            Ok(Reservation {
                id: row.get(0)?,
                station: row.get(1)?,
                connector: row.get::<_, Option<i64>>(2)?.filter(|connector| *connector != 0),
                tag: Some(Token::new(row.get(3)?)),
                until: When(row.get(4)?),
                state: row.get(5)?,
                detail: row.get(6)?,
                transaction: row.get(7)?,
                requested_at: When(row.get(8)?),
                updated_at: When(row.get(9)?),
            })
        },
    )
}

/// The profiles of a station.
pub(crate) fn profiles(db: &Connection, station: i64) -> Found<Profiles> {
    let raw = |text: String| RawValue::from_string(text).unwrap_or_default();
    let desired = rows(
        db,
        "SELECT id, evse, purpose, stack_level, state, detail, content, requested_ms, updated_ms FROM profile
         WHERE station = ?1 ORDER BY evse, purpose, stack_level, id",
        [station],
        |row| {
            Ok(DesiredProfile {
                id: row.get(0)?,
                connector: row.get(1)?,
                purpose: row.get(2)?,
                stack_level: row.get(3)?,
                state: row.get(4)?,
                detail: row.get(5)?,
                profile: raw(row.get(6)?),
                requested_at: When(row.get(7)?),
                updated_at: When(row.get(8)?),
            })
        },
    )?;
    let reported = rows(
        db,
        "SELECT id, evse, source, content, reported_ms FROM reported_profile WHERE station = ?1 ORDER BY evse, id, source",
        [station],
        |row| {
            Ok(ReportedProfile {
                id: row.get(0)?,
                connector: row.get(1)?,
                source: row.get(2)?,
                profile: raw(row.get(3)?),
                reported_at: When(row.get(4)?),
            })
        },
    )?;
    Ok(Profiles { desired, reported })
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for (url, shown) in [
            ("ftp://user:p@ss@host/a@b", "ftp://…@host/a@b"),
            ("https://host/x", "https://host/x"),
            ("https://host/x?to=a@b", "https://host/x?to=a@b"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
