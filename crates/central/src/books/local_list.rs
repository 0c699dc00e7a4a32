//! Lists of tags that stations keep themselves, and how they are brought up to date: SendLocalList in parts.

use super::TokenStatus;
use super::tags::{self, Entry, latest};
use crate::duty::{At, Duty, Kind, Make, NewDuty, Settled, owe, words};
use crate::store::{Connection, Row, StoreError};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_messages::Timestamp;
use switchboard_router::Outcome;
use switchboard_rpc::Version;

type Found<T> = Result<T, StoreError>;

/// How many tags go into one message where the station does not say what it takes.
const PART: i64 = 50;
/// And at most, whatever it says: a message has its bounds.
const PART_MAX: i64 = 500;
/// Characters of an idTag of 1.6. Longer tags cannot be told to such a station.
const TAG_16_CHARACTERS_MAX: i64 = 20;
/// The type of a tag in 2.x that was registered without one.
const TYPE: &str = "ISO14443";

/// A station's list as it is in the books.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) station: String,
    pub(crate) wanted: bool,
    pub(crate) sent: Option<i64>,
    pub(crate) reported: Option<i64>,
    pub(crate) asked_ms: Option<i64>,
    pub(crate) part_max: Option<i64>,
    pub(crate) list_max: Option<i64>,
    pub(crate) limits_ms: Option<i64>,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) changed_ms: i64,
}

const COLUMNS: &str =
    "station, wanted, sent, reported, asked_ms, part_max, list_max, limits_ms, state, reason,
    changed_ms";

fn read(row: &Row<'_>) -> crate::store::Sql<Held> {
    Ok(Held {
        station: row.get(0)?,
        wanted: row.get(1)?,
        sent: row.get(2)?,
        reported: row.get(3)?,
        asked_ms: row.get(4)?,
        part_max: row.get(5)?,
        list_max: row.get(6)?,
        limits_ms: row.get(7)?,
        state: row.get(8)?,
        reason: row.get(9)?,
        changed_ms: row.get(10)?,
    })
}

pub(crate) fn list(db: &Connection, tenant: &str, station: Option<&str>) -> Found<Vec<Held>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM local_list WHERE tenant = ?1 AND (station = ?2 OR ?2 IS NULL) ORDER BY station"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map((tenant, station), read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn get(db: &Connection, tenant: &str, station: &str) -> Found<Option<Held>> {
    Ok(list(db, tenant, Some(station))?.pop())
}

/// Lays down whether a station shall keep a list. Off: what it was sent is taken from it, as nobody would keep it right.
pub(crate) fn want(at: At<'_>, tenant: &str, station: &str, wanted: bool) -> Found<()> {
    if !wanted && get(at.db, tenant, station)?.is_none() {
        return Ok(());
    }
    at.db
        .prepare_cached(
            "INSERT INTO local_list (tenant, station, wanted, state, changed_ms) VALUES (?1, ?2, ?3, 'owed', ?4)
             ON CONFLICT (tenant, station) DO UPDATE
             SET wanted = excluded.wanted, state = 'owed', reason = NULL, asked_ms = NULL, limits_ms = NULL,
                 changed_ms = excluded.changed_ms",
        )?
        .execute((tenant, station, wanted, at.now_ms))?;
    owe(at, &NewDuty::new(tenant, station, KIND, "")).map(|_| ())
}

/// The tags have changed: every list is owed the change. Gives out the stations to be nudged.
pub(crate) fn changed(at: At<'_>, tenant: &str) -> Found<Vec<String>> {
    let mut stations = Vec::new();
    for held in list(at.db, tenant, None)? {
        at.db
            .prepare_cached(
                "UPDATE local_list SET state = 'owed', reason = NULL, changed_ms = ?3 WHERE tenant = ?1 AND station = ?2",
            )?
            .execute((tenant, &held.station, at.now_ms))?;
        owe(at, &NewDuty::new(tenant, &held.station, KIND, ""))?;
        stations.push(held.station);
    }
    Ok(stations)
}

/// A station has booted: it may have lost its list, or got another one elsewhere. What it could not do it is asked again.
pub(crate) fn booted(at: At<'_>, tenant: &str, station: &str) -> Found<()> {
    let held = at
        .db
        .prepare_cached(
            "UPDATE local_list SET asked_ms = NULL, state = 'owed' WHERE tenant = ?1 AND station = ?2",
        )?
        .execute((tenant, station))?;
    if held > 0 {
        owe(at, &NewDuty::new(tenant, station, KIND, ""))?;
    }
    Ok(())
}

const KIND: &str = "localList";

/// Brings a station's list up to date.
#[derive(Debug)]
pub(crate) struct LocalList;

impl Kind for LocalList {
    fn name(&self) -> &'static str {
        KIND
    }

    fn make(&self, at: At<'_>, duty: &Duty, version: Version) -> Found<Make> {
        let Some(held) = get(at.db, &duty.tenant, &duty.station)? else { return Ok(Make::Nothing) };
        if held.wanted && held.limits_ms.is_none() {
            return Ok(ask_limits(version));
        }
        if held.asked_ms.is_none() {
            return Ok(Make::Call("GetLocalListVersion".into(), "{}".to_owned()));
        }
        let (tenant, station) = (duty.tenant.as_str(), duty.station.as_str());
        tags::lock(at.db, tenant)?;
        let latest = latest(at.db, tenant)?;
        // The version alone does not say that the content is ours: it may be another system's.
        let from = held.sent.filter(|sent| held.reported == Some(*sent) && *sent <= latest);
        let part = if held.wanted {
            match next_part(at, tenant, &held, from, latest, version)? {
                Next::Part(part) => part,
                Next::Same => {
                    finish(at, tenant, station, "applied", None)?;
                    return Ok(Make::Nothing);
                }
                Next::TooLong { tags, most } => {
                    let reason = format!("the station keeps {most} tags at most, and there are {tags}");
                    finish(at, tenant, station, "failed", Some(&reason))?;
                    return Ok(Make::Cannot(reason));
                }
            }
        } else if held.sent.is_none() {
            remove(at.db, tenant, station)?;
            return Ok(Make::Nothing);
        } else {
            Part { full: true, to: latest.max(1), entries: Vec::new() }
        };
        at.db
            .prepare_cached("UPDATE local_list SET sending = ?3 WHERE tenant = ?1 AND station = ?2")?
            .execute((tenant, station, part.to))?;
        Ok(Make::Call("SendLocalList".into(), part.payload(version).to_string()))
    }

    fn settle(
        &self,
        at: At<'_>,
        duty: &Duty,
        version: Option<Version>,
        outcome: &Outcome,
        proposed: Settled,
    ) -> Found<Settled> {
        let (tenant, station) = (duty.tenant.as_str(), duty.station.as_str());
        let Some(held) = get(at.db, tenant, station)? else { return Ok(Settled::Done(None)) };
        let answer: Option<Value> = match outcome {
            Outcome::Answered(payload) => Some(serde_json::from_str(payload).unwrap_or(Value::Null)),
            _ => None,
        };
        // What is asked first is told first: in this order the calls are made.
        if held.wanted && held.limits_ms.is_none() {
            return match outcome {
                Outcome::Unknown => Ok(proposed),
                // One that does not tell gets small parts.
                _ => {
                    let limits = answer.as_ref().map(|answer| limits(answer, version)).unwrap_or_default();
                    at.db
                        .prepare_cached(
                            "UPDATE local_list SET part_max = ?3, list_max = ?4, limits_ms = ?5
                             WHERE tenant = ?1 AND station = ?2",
                        )?
                        .execute((tenant, station, limits.0, limits.1, at.now_ms))?;
                    Ok(Settled::Next(Duration::ZERO))
                }
            };
        }
        if held.asked_ms.is_none() {
            let told = answer.as_ref().map(|answer| {
                answer.get("listVersion").or_else(|| answer.get("versionNumber")).and_then(Value::as_i64)
            });
            return match (told, outcome) {
                (Some(Some(-1)), _) => fail(at, tenant, station, "the station keeps no lists"),
                (Some(reported), _) => {
                    at.db
                        .prepare_cached(
                            "UPDATE local_list SET reported = ?3, asked_ms = ?4 WHERE tenant = ?1 AND station = ?2",
                        )?
                        .execute((tenant, station, reported, at.now_ms))?;
                    Ok(Settled::Next(Duration::ZERO))
                }
                (None, Outcome::Refused { .. }) => fail(at, tenant, station, &words(outcome)),
                (None, _) => Ok(proposed),
            };
        }
        match (answer.as_ref().and_then(|answer| answer["status"].as_str()), outcome) {
            (Some("Accepted"), _) => {
                if !held.wanted {
                    remove(at.db, tenant, station)?;
                    return Ok(Settled::Done(None));
                }
                at.db
                    .prepare_cached(
                        "UPDATE local_list SET sent = sending, reported = sending, sending = NULL
                         WHERE tenant = ?1 AND station = ?2",
                    )?
                    .execute((tenant, station))?;
                forget_removed(at.db, tenant)?;
                Ok(Settled::Next(Duration::ZERO))
            }
            // It has another list than we thought: everything anew. One that says so to everything is tried again later.
            (Some("VersionMismatch"), _) => {
                at.db
                    .prepare_cached("UPDATE local_list SET sent = NULL WHERE tenant = ?1 AND station = ?2")?
                    .execute((tenant, station))?;
                if held.sent.is_some() {
                    return Ok(Settled::Next(Duration::ZERO));
                }
                Ok(Settled::Again("the station answered VersionMismatch to a full list".to_owned()))
            }
            (Some("Failed"), _) if held.sent.is_some() => {
                at.db
                    .prepare_cached("UPDATE local_list SET sent = NULL WHERE tenant = ?1 AND station = ?2")?
                    .execute((tenant, station))?;
                Ok(Settled::Next(Duration::ZERO))
            }
            (Some(status), _) => fail(at, tenant, station, &format!("the station answered {status}")),
            (None, Outcome::Answered(_)) => fail(at, tenant, station, "the station's answer has no status"),
            (None, Outcome::Refused { .. }) => fail(at, tenant, station, &words(outcome)),
            (None, _) => {
                // It may have taken the part or not: it is asked which version it has.
                at.db
                    .prepare_cached(
                        "UPDATE local_list SET asked_ms = NULL WHERE tenant = ?1 AND station = ?2",
                    )?
                    .execute((tenant, station))?;
                // If it has, then it has what we sent.
                at.db
                    .prepare_cached(
                        "UPDATE local_list SET sent = sending WHERE tenant = ?1 AND station = ?2 AND sending IS NOT NULL",
                    )?
                    .execute((tenant, station))?;
                Ok(proposed)
            }
        }
    }
}

fn fail(at: At<'_>, tenant: &str, station: &str, reason: &str) -> Found<Settled> {
    finish(at, tenant, station, "failed", Some(reason))?;
    Ok(Settled::Refused(reason.to_owned()))
}

fn finish(at: At<'_>, tenant: &str, station: &str, state: &str, reason: Option<&str>) -> Found<()> {
    at.db
        .prepare_cached(
            "UPDATE local_list SET state = ?3, reason = ?4, changed_ms = ?5 WHERE tenant = ?1 AND station = ?2",
        )?
        .execute((tenant, station, state, reason, at.now_ms))?;
    Ok(())
}

fn remove(db: &Connection, tenant: &str, station: &str) -> Found<()> {
    db.prepare_cached("DELETE FROM local_list WHERE tenant = ?1 AND station = ?2")?
        .execute([tenant, station])?;
    forget_removed(db, tenant)
}

/// Removed tags need to be remembered only until every list has been told.
fn forget_removed(db: &Connection, tenant: &str) -> Found<()> {
    db.prepare_cached(
        "DELETE FROM token_gone
         WHERE tenant = ?1
           AND changed <= coalesce((SELECT min(sent) FROM local_list WHERE tenant = ?1 AND sent IS NOT NULL),
                                   9223372036854775807)",
    )?
    .execute([tenant])?;
    Ok(())
}

fn ask_limits(version: Version) -> Make {
    match version {
        Version::V16 => Make::Call(
            "GetConfiguration".into(),
            json!({ "key": ["LocalAuthListMaxLength", "SendLocalListMaxLength"] }).to_string(),
        ),
        Version::V201 | Version::V21 => Make::Call(
            "GetVariables".into(),
            json!({ "getVariableData": [
                { "component": { "name": "LocalAuthListCtrlr" }, "variable": { "name": "ItemsPerMessage" } },
            ] })
            .to_string(),
        ),
    }
}

/// How many tags a station takes at once, and in all, by its own word.
fn limits(answer: &Value, version: Option<Version>) -> (Option<i64>, Option<i64>) {
    let number =
        |value: &Value| value.as_str().and_then(|text| text.trim().parse().ok()).filter(|most| *most > 0);
    if version == Some(Version::V16) {
        let of = |key: &str| {
            let told = answer["configurationKey"].as_array()?;
            let told = told
                .iter()
                .find(|told| told["key"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(key)))?;
            number(&told["value"])
        };
        (of("SendLocalListMaxLength"), of("LocalAuthListMaxLength"))
    } else {
        (number(&answer["getVariableResult"][0]["attributeValue"]), None)
    }
}

/// What is sent next.
enum Next {
    Part(Part),
    /// The station has everything.
    Same,
    /// It cannot keep so many.
    TooLong {
        tags: usize,
        most: i64,
    },
}

/// One message.
struct Part {
    full: bool,
    to: i64,
    entries: Vec<Change>,
}

enum Change {
    Put(Entry),
    Gone { token: String, kind: Option<String> },
}

impl Change {
    fn token(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.token,
            Self::Gone { token, .. } => token,
        }
    }
}

/// The changes after `from`, in their order, as many as go into one message; all tags if it has none of ours.
fn next_part(
    at: At<'_>,
    tenant: &str,
    held: &Held,
    from: Option<i64>,
    latest: i64,
    version: Version,
) -> Found<Next> {
    if from == Some(latest) {
        return Ok(Next::Same);
    }
    let fits = |token: &str| version != Version::V16 || fits_16(token);
    if let Some(most) = held.list_max {
        let count: i64 = at
            .db
            .prepare_cached("SELECT count(*) FROM token WHERE tenant = ?1 AND (?2 OR length(token) <= ?3)")?
            .query_row((tenant, version != Version::V16, TAG_16_CHARACTERS_MAX), |row| row.get(0))?;
        if count > most {
            return Ok(Next::TooLong { tags: usize::try_from(count).unwrap_or(usize::MAX), most });
        }
    }
    let part_max = held.part_max.unwrap_or(PART).min(PART_MAX);
    let after = from.unwrap_or(0);
    let sql = format!(
        "SELECT {}, 0 FROM token WHERE tenant = ?1 AND changed > ?2
         UNION ALL
         SELECT token, '', NULL, NULL, type, changed, 1 FROM token_gone WHERE tenant = ?1 AND changed > ?2 AND ?3
         ORDER BY 6 LIMIT ?4",
        tags::COLUMNS
    );
    let mut statement = at.db.prepare_cached(&sql)?;
    // One more than fits tells whether this is the last part.
    let rows = statement.query_map((tenant, after, from.is_some(), part_max + 1), |row| {
        let entry = tags::read(row)?;
        let gone: bool = row.get(6)?;
        Ok((entry.changed, gone, entry))
    })?;
    let mut entries = Vec::new();
    let mut last = latest;
    for row in rows {
        let (number, gone, entry) = row?;
        if i64::try_from(entries.len()).unwrap_or(i64::MAX) >= part_max {
            break;
        }
        last = number;
        entries.push(if gone {
            Change::Gone { token: entry.token, kind: entry.kind }
        } else {
            Change::Put(entry)
        });
    }
    let more: bool = at
        .db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM token WHERE tenant = ?1 AND changed > ?2)
                 OR EXISTS (SELECT 1 FROM token_gone WHERE tenant = ?1 AND changed > ?2 AND ?3)",
        )?
        .query_row((tenant, last, from.is_some()), |row| row.get(0))?;
    let to = if more { last } else { latest };
    entries.retain(|entry| fits(entry.token()));
    if entries.is_empty() && from.is_some() && !more {
        // Nothing of it concerns this station, and a message without content would only raise its version.
        return Ok(Next::Same);
    }
    Ok(Next::Part(Part { full: from.is_none(), to: to.max(1), entries }))
}

impl Part {
    fn payload(&self, version: Version) -> Value {
        let entries: Vec<Value> = self.entries.iter().map(|entry| entry.payload(version)).collect();
        let kind = if self.full { "Full" } else { "Differential" };
        let number = if version == Version::V16 { "listVersion" } else { "versionNumber" };
        let mut payload = json!({ number: self.to, "updateType": kind });
        // 2.x allows no empty list; without one a full update empties the station's.
        if !entries.is_empty() {
            payload["localAuthorizationList"] = Value::Array(entries);
        }
        payload
    }
}

impl Change {
    fn payload(&self, version: Version) -> Value {
        match (self, version) {
            (Self::Gone { token, .. }, Version::V16) => json!({ "idTag": token }),
            (Self::Gone { token, kind }, _) => json!({ "idToken": id_token(token, kind.as_deref()) }),
            (Self::Put(entry), Version::V16) => {
                let mut info = json!({ "status": status_16(entry.status) });
                if let Some(expiry_ms) = entry.expiry_ms {
                    info["expiryDate"] = json!(time(expiry_ms));
                }
                if let Some(group) = entry.group.as_ref().filter(|group| fits_16(group)) {
                    info["parentIdTag"] = json!(group);
                }
                json!({ "idTag": entry.token, "idTagInfo": info })
            }
            (Self::Put(entry), _) => {
                let mut info = json!({ "status": entry.status.as_str() });
                if let Some(expiry_ms) = entry.expiry_ms {
                    info["cacheExpiryDateTime"] = json!(time(expiry_ms));
                }
                if let Some(group) = &entry.group {
                    info["groupIdToken"] = json!({ "idToken": group, "type": "Central" });
                }
                json!({ "idToken": id_token(&entry.token, entry.kind.as_deref()), "idTokenInfo": info })
            }
        }
    }
}

fn fits_16(tag: &str) -> bool {
    i64::try_from(tag.chars().count()).is_ok_and(|length| length <= TAG_16_CHARACTERS_MAX)
}

fn id_token(token: &str, kind: Option<&str>) -> Value {
    json!({ "idToken": token, "type": kind.unwrap_or(TYPE) })
}

const fn status_16(status: TokenStatus) -> &'static str {
    match status {
        TokenStatus::Unknown => "Invalid",
        other => other.as_str(),
    }
}

fn time(ms: i64) -> String {
    Timestamp::from_unix_millis(ms).to_string()
}
