//! Stations come to be set as is desired: what they have is asked, what differs is sent, and what they took is asked once
//! more.

use super::setting::{self, Setting, Told};
use super::variable::{Name, Variable};
use crate::duty::{At, Duty, Fixed, Kind, Make, NewDuty, Settled, owe, words};
use crate::store::{Connection, StoreError};
use serde_json::{Value, json};
use std::{borrow::Cow, time::Duration};
use switchboard_router::Outcome;
use switchboard_rpc::Version;

type Found<T> = Result<T, StoreError>;

pub(crate) const KIND: &str = "configuration";
const REFRESH: &str = "configurationRefresh";
const RESET: &str = "configurationReset";

/// How many settings one call names. Stations of 2.x tell their own bounds in variables that would have to be asked for
/// first; this many fit everywhere that was seen.
const NAMES_MAX: usize = 10;

/// Phases of a setting.
const SET: i64 = 1;
const READ: i64 = 2;

/// A look at everything that a station is set to (1.6); in 2.x at what is desired or was ever asked for.
pub(crate) fn refresh(at: At<'_>, tenant: &str, station: &str) -> Found<()> {
    at.db
        .prepare_cached("UPDATE setting SET read_ms = NULL WHERE tenant = ?1 AND station = ?2")?
        .execute([tenant, station])?;
    owe(at, &NewDuty::new(tenant, station, REFRESH, "")).map(|_| ())
}

/// Brings a station's settings to what is desired.
#[derive(Debug)]
pub(crate) struct Configuration;

impl Kind for Configuration {
    fn name(&self) -> &'static str {
        KIND
    }

    fn make(&self, at: At<'_>, duty: &Duty, version: Version) -> Found<Make> {
        let (tenant, station) = (duty.tenant.as_str(), duty.station.as_str());
        // One that is silent or refuses may do so because of one of many.
        let most = if duty.failures > 0 { 1 } else { NAMES_MAX };
        let settings = setting::list(at.db, tenant, station, Some(version))?;
        let read: Vec<&Setting> = settings.iter().filter(|one| one.must_be_read()).take(most).collect();
        if !read.is_empty() {
            mark(at.db, duty, &read, READ)?;
            return Ok(read_call(version, &read));
        }
        let most = if version == Version::V16 { 1 } else { most };
        let set: Vec<&Setting> = settings.iter().filter(|one| one.must_be_set()).take(most).collect();
        if set.is_empty() {
            reset_if_wanted(at, tenant, station, version, &settings)?;
            return Ok(Make::Nothing);
        }
        mark(at.db, duty, &set, SET)?;
        Ok(set_call(version, &set))
    }

    fn settle(
        &self,
        at: At<'_>,
        duty: &Duty,
        version: Option<Version>,
        outcome: &Outcome,
        proposed: Settled,
    ) -> Found<Settled> {
        let (set, read) = (marked(at.db, duty, SET)?, marked(at.db, duty, READ)?);
        let is_16 = version == Some(Version::V16);
        let answer: Value = match outcome {
            Outcome::Answered(payload) => serde_json::from_str(payload).unwrap_or(Value::Null),
            Outcome::Refused { .. } if set.len() + read.len() > 1 && !is_16 => {
                return Ok(Settled::Again(words(outcome)));
            }
            Outcome::Refused { .. } => Value::Null,
            _ => return Ok(proposed),
        };
        let refused = matches!(outcome, Outcome::Refused { .. }).then(|| words(outcome));
        for name in &read {
            // One that it does not name it does not have, which is known now.
            setting::reported(at, &duty.tenant, &duty.station, &Told { name, value: None, readonly: None })?;
        }
        if !read.is_empty() {
            keep_report(at, duty, version, &answer)?;
        }
        for name in &set {
            let (status, reason) = match &refused {
                Some(reason) => (refusal(outcome), Some(reason.clone())),
                None => verdict(&answer, name, is_16),
            };
            at.db
                .prepare_cached(
                    "UPDATE setting SET answer = ?4, reason = ?5, read_ms = CASE ?4 WHEN 'Accepted' THEN NULL ELSE read_ms END
                     WHERE tenant = ?1 AND station = ?2 AND name = ?3",
                )?
                .execute((&duty.tenant, &duty.station, name, status, reason))?;
        }
        Ok(Settled::Next(Duration::ZERO))
    }
}

/// Marks the settings that the call under way is about.
fn mark(db: &Connection, duty: &Duty, settings: &[&Setting], phase: i64) -> Found<()> {
    db.prepare_cached("UPDATE setting SET phase = 0 WHERE tenant = ?1 AND station = ?2 AND phase <> 0")?
        .execute([&duty.tenant, &duty.station])?;
    for one in settings {
        let asked = one.desired.as_ref().filter(|_| phase == SET);
        db.prepare_cached(
            "INSERT INTO setting (tenant, station, name, phase, asked) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (tenant, station, name) DO UPDATE
             SET phase = excluded.phase, asked = coalesce(excluded.asked, setting.asked),
                 answer = CASE WHEN excluded.asked IS NULL THEN setting.answer END",
        )?
        .execute((&duty.tenant, &duty.station, &one.name, phase, asked))?;
    }
    Ok(())
}

fn marked(db: &Connection, duty: &Duty, phase: i64) -> Found<Vec<String>> {
    let mut statement = db.prepare_cached(
        "SELECT name FROM setting WHERE tenant = ?1 AND station = ?2 AND phase = ?3 ORDER BY name",
    )?;
    let rows = statement.query_map((&duty.tenant, &duty.station, phase), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn variable(name: &str) -> Option<Variable> {
    match Name::parse(name) {
        Ok(Name::Variable(variable)) => Some(variable),
        _ => None,
    }
}

fn read_call(version: Version, settings: &[&Setting]) -> Make {
    if version == Version::V16 {
        let keys: Vec<&str> = settings.iter().map(|one| one.name.as_str()).collect();
        return Make::Call("GetConfiguration".into(), json!({ "key": keys }).to_string());
    }
    let data: Vec<Value> =
        settings.iter().filter_map(|one| variable(&one.name)).map(|variable| variable.members()).collect();
    Make::Call("GetVariables".into(), json!({ "getVariableData": data }).to_string())
}

fn set_call(version: Version, settings: &[&Setting]) -> Make {
    let desired = |one: &Setting| one.desired.clone().unwrap_or_default();
    if let (Version::V16, [one, ..]) = (version, settings) {
        let payload = json!({ "key": one.name, "value": desired(one) });
        return Make::Call("ChangeConfiguration".into(), payload.to_string());
    }
    let data: Vec<Value> = settings
        .iter()
        .filter_map(|one| {
            let mut members = variable(&one.name)?.members();
            members["attributeValue"] = json!(desired(one));
            Some(members)
        })
        .collect();
    Make::Call("SetVariables".into(), json!({ "setVariableData": data }).to_string())
}

/// What a station reports of itself.
fn keep_report(at: At<'_>, duty: &Duty, version: Option<Version>, answer: &Value) -> Found<()> {
    let (tenant, station) = (duty.tenant.as_str(), duty.station.as_str());
    if version == Some(Version::V16) {
        for one in answer["configurationKey"].as_array().into_iter().flatten() {
            let Some(name) = one["key"].as_str() else { continue };
            let value = plain(&one["value"]);
            let told = Told { name, value: value.as_deref(), readonly: flag(&one["readonly"]) };
            setting::reported(at, tenant, station, &told)?;
        }
        return Ok(());
    }
    for one in answer["getVariableResult"].as_array().into_iter().flatten() {
        let Some(variable) = Variable::of_members(one) else { continue };
        let value = plain(&one["attributeValue"]).filter(|_| one["attributeStatus"] == "Accepted");
        let name = variable.to_string();
        let told = Told { name: &name, value: value.as_deref(), readonly: None };
        setting::reported(at, tenant, station, &told)?;
    }
    Ok(())
}

/// A value as the text that it should be: some stations tell numbers and booleans.
fn plain(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(_) | Value::Bool(_) => Some(Cow::Owned(value.to_string())),
        _ => None,
    }
}

/// A boolean, also as a number.
fn flag(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| match value.as_u64()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    })
}

/// What a station answered for one setting, and why.
fn verdict(answer: &Value, name: &str, is_16: bool) -> (String, Option<String>) {
    const NO_ANSWER: &str = "the station's answer does not speak of it";
    let (status, reason) = if is_16 {
        (answer["status"].as_str(), None)
    } else {
        let results = answer["setVariableResult"].as_array();
        let result = results.and_then(|results| match results.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|result| {
                Variable::of_members(result)
                    .is_some_and(|variable| variable.to_string().eq_ignore_ascii_case(name))
            }),
        });
        let info = result.map(|result| &result["attributeStatusInfo"]);
        let reason = info.and_then(|info| {
            let code = info["reasonCode"].as_str()?;
            Some(
                info["additionalInfo"]
                    .as_str()
                    .map_or_else(|| code.to_owned(), |more| format!("{code}: {more}")),
            )
        });
        (result.and_then(|result| result["attributeStatus"].as_str()), reason)
    };
    match status {
        Some(status) => (status.to_owned(), reason),
        None => ("Rejected".to_owned(), Some(NO_ANSWER.to_owned())),
    }
}

/// What a CALLERROR says of the one setting that it answers.
fn refusal(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused { code, .. } if matches!(&**code, "NotImplemented" | "NotSupported") => {
            "NotSupported"
        }
        _ => "Rejected",
    }
    .to_owned()
}

/// Resets the station, once, if whoever set something that takes effect only then wants it.
fn reset_if_wanted(
    at: At<'_>,
    tenant: &str,
    station: &str,
    version: Version,
    settings: &[Setting],
) -> Found<()> {
    let waits = |one: &&Setting| one.reboot && one.state == setting::SettingState::RebootRequired;
    let waiting: Vec<&Setting> = settings.iter().filter(waits).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    for one in waiting {
        // Else a station that never takes the value would be reset for ever.
        at.db
            .prepare_cached("UPDATE setting SET reset = ?4 WHERE tenant = ?1 AND station = ?2 AND name = ?3")?
            .execute((tenant, station, &one.name, &one.desired))?;
    }
    let kind = if version == Version::V16 { "Soft" } else { "OnIdle" };
    let mut duty = NewDuty::new(tenant, station, RESET, "");
    duty.fixed = Some(Fixed { version, action: "Reset", payload: json!({ "type": kind }).to_string() });
    duty.repeatable = false;
    owe(at, &duty).map(|_| ())
}

/// Asks a station for everything that it is set to.
#[derive(Debug)]
pub(crate) struct Refresh;

impl Kind for Refresh {
    fn name(&self) -> &'static str {
        REFRESH
    }

    fn make(&self, at: At<'_>, duty: &Duty, version: Version) -> Found<Make> {
        if version == Version::V16 {
            return Ok(Make::Call("GetConfiguration".into(), "{}".to_owned()));
        }
        let settings = setting::list(at.db, &duty.tenant, &duty.station, Some(version))?;
        let unread: Vec<&Setting> = settings
            .iter()
            .filter(|one| one.reported_ms.is_none() && variable(&one.name).is_some())
            .take(NAMES_MAX)
            .collect();
        if unread.is_empty() {
            owe(at, &NewDuty::new(&duty.tenant, &duty.station, KIND, ""))?;
            return Ok(Make::Nothing);
        }
        mark(at.db, duty, &unread, READ)?;
        Ok(read_call(version, &unread))
    }

    fn settle(
        &self,
        at: At<'_>,
        duty: &Duty,
        version: Option<Version>,
        outcome: &Outcome,
        proposed: Settled,
    ) -> Found<Settled> {
        let Outcome::Answered(payload) = outcome else { return Ok(proposed) };
        let answer = serde_json::from_str(payload).unwrap_or(Value::Null);
        if version != Some(Version::V16) {
            for name in marked(at.db, duty, READ)? {
                let told = Told { name: &name, value: None, readonly: None };
                setting::reported(at, &duty.tenant, &duty.station, &told)?;
            }
        }
        keep_report(at, duty, version, &answer)?;
        if version == Some(Version::V16) {
            owe(at, &NewDuty::new(&duty.tenant, &duty.station, KIND, ""))?;
            return Ok(Settled::Done(None));
        }
        Ok(Settled::Next(Duration::ZERO))
    }
}

/// Resets a station so that settings take effect.
#[derive(Debug)]
pub(crate) struct Reset;

impl Kind for Reset {
    fn name(&self) -> &'static str {
        RESET
    }

    fn settle(
        &self,
        _: At<'_>,
        _: &Duty,
        _: Option<Version>,
        outcome: &Outcome,
        proposed: Settled,
    ) -> Found<Settled> {
        let Outcome::Answered(payload) = outcome else { return Ok(proposed) };
        let answer: Value = serde_json::from_str(payload).unwrap_or(Value::Null);
        Ok(match answer["status"].as_str() {
            Some("Accepted" | "Scheduled") => Settled::Done(None),
            Some(status) => Settled::Refused(format!("the station answered {status}")),
            None => Settled::Refused("the station's answer has no status".to_owned()),
        })
    }
}
