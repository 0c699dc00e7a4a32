//! What stations shall be set to, and what they report.

use super::counterpart::of_another_version;
use super::variable::{NAME_MAX, Name};
use crate::duty::{At, NewDuty, owe};
use crate::store::{Connection, Row, StoreError};
use serde::Serialize;
use switchboard_rpc::Version;

type Found<T> = Result<T, StoreError>;

/// The station's name under which stands what is desired of every station.
pub(crate) const ALL: &str = "";

/// How it stands with a setting of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SettingState {
    /// Nothing is desired; it is only reported.
    Reported,
    /// The station has what is desired.
    Applied,
    /// The station is to be asked, as soon as it is there.
    Owed,
    /// The station took the value, and has yet to be asked what it reports now.
    Accepted,
    /// The station took the value, and reports another one nevertheless. It is asked again after its next boot.
    Differs,
    /// The station took the value, and uses it after a reboot.
    RebootRequired,
    /// The station does not take the value. It is not asked again until something else is desired.
    Rejected,
    /// The station does not know the setting.
    Unsupported,
    /// The name is none of the version that the station speaks.
    OtherVersion,
}

/// A setting of a station, desired and reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it shall be.
    pub desired: Option<String>,
    /// Whether that is desired of every station, and not of this one in particular.
    pub for_all: bool,
    /// What the station reported last.
    pub reported: Option<String>,
    /// When it did, in milliseconds since 1970.
    pub reported_ms: Option<i64>,
    /// Whether the station says that it cannot be changed.
    pub readonly: Option<bool>,
    /// How it stands with it.
    pub state: SettingState,
    /// Why, in words.
    pub reason: Option<String>,
    /// Whether the station is to be reset for its sake, and was not yet.
    #[serde(skip)]
    pub(crate) reboot: bool,
    #[serde(skip)]
    pub(crate) asked: Option<String>,
    #[serde(skip)]
    pub(crate) answer: Option<String>,
}

impl Setting {
    /// Whether the station has to tell it before anything else is done.
    pub(crate) const fn must_be_read(&self) -> bool {
        self.desired.is_some()
            && self.reported_ms.is_none()
            && !matches!(self.state, SettingState::OtherVersion | SettingState::RebootRequired)
    }

    /// Whether the station has to be asked to take what is desired.
    pub(crate) fn must_be_set(&self) -> bool {
        self.state == SettingState::Owed
    }

    fn judge(&mut self, version: Option<Version>) {
        let Some(desired) = &self.desired else { return };
        let fits = version.is_none_or(|version| {
            (version == Version::V16) != matches!(Name::parse(&self.name), Ok(Name::Variable(_)))
        });
        let has_it = self.reported.as_ref().is_some_and(|reported| means_the_same(reported, desired));
        let answered = self.answer.as_deref().filter(|_| self.asked.as_ref() == Some(desired));
        self.state = match answered {
            _ if !fits => SettingState::OtherVersion,
            _ if has_it && self.reported_ms.is_some() => SettingState::Applied,
            // What can only be written is reported by nobody.
            Some("Accepted") if self.reported_ms.is_some() && self.reported.is_some() => {
                SettingState::Differs
            }
            Some("Accepted") if self.reported_ms.is_none() => SettingState::Accepted,
            Some("Accepted") => SettingState::Applied,
            Some("RebootRequired") => SettingState::RebootRequired,
            Some("NotSupported" | "UnknownComponent" | "UnknownVariable" | "NotSupportedAttributeType") => {
                SettingState::Unsupported
            }
            Some(_) => SettingState::Rejected,
            None => SettingState::Owed,
        };
        match (self.state, version) {
            (SettingState::Owed | SettingState::Applied, _) => self.reason = None,
            (SettingState::OtherVersion, Some(version)) => {
                self.reason = Some(of_another_version(&self.name, version));
            }
            _ => {}
        }
    }
}

/// Whether two values are one: some stations write booleans as figures, or in capitals.
fn means_the_same(one: &str, other: &str) -> bool {
    let truth = |text: &str| match text {
        "0" => Some(false),
        "1" => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ => None,
    };
    one == other || truth(one).is_some_and(|one| truth(other) == Some(one))
}

/// All settings of a station that are desired or reported, in order of their names.
pub(crate) fn list(
    db: &Connection,
    tenant: &str,
    station: &str,
    version: Option<Version>,
) -> Found<Vec<Setting>> {
    let mut statement = db.prepare_cached(
        "WITH names (name) AS (
             SELECT name FROM desired WHERE tenant = ?1 AND station IN (?2, '')
             UNION SELECT name FROM setting WHERE tenant = ?1 AND station = ?2)
         SELECT coalesce(mine.name, every.name, setting.name), coalesce(mine.value, every.value), mine.value IS NULL AND every.value IS NOT NULL,
                setting.value, setting.read_ms, setting.readonly, setting.reason,
                coalesce(mine.reboot, every.reboot, 0) <> 0
                    AND setting.reset IS DISTINCT FROM coalesce(mine.value, every.value),
                setting.asked, setting.answer
         FROM names
         LEFT JOIN desired AS mine ON mine.tenant = ?1 AND mine.station = ?2 AND mine.name = names.name
         LEFT JOIN desired AS every ON every.tenant = ?1 AND every.station = '' AND every.name = names.name
         LEFT JOIN setting ON setting.tenant = ?1 AND setting.station = ?2 AND setting.name = names.name
         ORDER BY names.name",
    )?;
    let rows = statement.query_map([tenant, station], |row: &Row<'_>| {
        Ok(Setting {
            name: row.get(0)?,
            desired: row.get(1)?,
            for_all: row.get(2)?,
            reported: row.get(3)?,
            reported_ms: row.get(4)?,
            readonly: row.get(5)?,
            reason: row.get(6)?,
            reboot: row.get(7)?,
            asked: row.get(8)?,
            answer: row.get(9)?,
            state: SettingState::Reported,
        })
    })?;
    let mut settings: Vec<Setting> = rows.collect::<Result<_, _>>()?;
    for setting in &mut settings {
        setting.judge(version);
    }
    Ok(settings)
}

/// What is desired of every station.
pub(crate) fn desired_of_all(db: &Connection, tenant: &str) -> Found<Vec<(String, String)>> {
    let mut statement = db
        .prepare_cached("SELECT name, value FROM desired WHERE tenant = ?1 AND station = '' ORDER BY name")?;
    let rows = statement.query_map([tenant], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Lays down what a station, or every station, shall be set to. Whoever sets it again wants it to be asked again.
pub(crate) fn desire(
    at: At<'_>,
    tenant: &str,
    station: &str,
    values: &[(String, String)],
    reboot: bool,
) -> Found<()> {
    for (name, value) in values {
        at.db
            .prepare_cached(
                "INSERT INTO desired (tenant, station, name, value, reboot, set_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (tenant, station, name) DO UPDATE
                 SET value = excluded.value, reboot = excluded.reboot, set_ms = excluded.set_ms",
            )?
            .execute((tenant, station, name, value, reboot, at.now_ms))?;
        at.db
            .prepare_cached(
                "UPDATE setting SET asked = NULL, answer = NULL, reason = NULL, reset = NULL
                 WHERE tenant = ?1 AND (?2 = '' OR station = ?2) AND name = ?3",
            )?
            .execute([tenant, station, name])?;
    }
    Ok(())
}

/// Takes back what a station, or every station, shall be set to; how many of the names were.
pub(crate) fn undesire(db: &Connection, tenant: &str, station: &str, names: &[String]) -> Found<usize> {
    let mut removed = 0;
    for name in names {
        removed += db
            .prepare_cached("DELETE FROM desired WHERE tenant = ?1 AND station = ?2 AND name = ?3")?
            .execute([tenant, station, name])?;
    }
    Ok(removed)
}

/// The stations that are owed a look at their configuration after a change: this one, or all that were ever here.
pub(crate) fn concerned(at: At<'_>, tenant: &str, station: &str) -> Found<Vec<String>> {
    let stations = if station == ALL {
        let mut statement = at.db.prepare_cached("SELECT identity FROM station WHERE tenant = ?1")?;
        let rows = statement.query_map([tenant], |row| row.get(0))?;
        rows.collect::<Result<_, _>>()?
    } else {
        vec![station.to_owned()]
    };
    for station in &stations {
        owe(at, &NewDuty::new(tenant, station, super::configuring::KIND, ""))?;
    }
    Ok(stations)
}

/// A station has booted: what it has may have changed, and what it took may be in effect by now. What it rejected it
/// is not asked again.
pub(crate) fn booted(at: At<'_>, tenant: &str, station: &str) -> Found<()> {
    // Most stations have neither, and all boot at once after a night without power. `IN (?2, '')` would make a table.
    let (is_known, is_desired): (bool, bool) = at
        .db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM setting WHERE tenant = ?1 AND station = ?2),
                    EXISTS (SELECT 1 FROM desired WHERE tenant = ?1 AND station = ?2)
                    OR EXISTS (SELECT 1 FROM desired WHERE tenant = ?1 AND station = '')",
        )?
        .query_row([tenant, station], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if is_known {
        at.db
            .prepare_cached(
                "UPDATE setting SET read_ms = NULL,
                        asked = CASE WHEN answer IN ('Accepted', 'RebootRequired') THEN NULL ELSE asked END,
                        answer = CASE WHEN answer IN ('Accepted', 'RebootRequired') THEN NULL ELSE answer END
                 WHERE tenant = ?1 AND station = ?2",
            )?
            .execute([tenant, station])?;
    }
    if is_desired {
        owe(at, &NewDuty::new(tenant, station, super::configuring::KIND, ""))?;
    }
    Ok(())
}

/// What a station says of a setting.
pub(crate) struct Told<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Option<&'a str>,
    pub(crate) readonly: Option<bool>,
}

/// Writes down what a station reports. A name that is longer than any is passed over, and costs the others nothing.
pub(crate) fn reported(at: At<'_>, tenant: &str, station: &str, told: &Told<'_>) -> Found<()> {
    if told.name.len() > NAME_MAX {
        return Ok(());
    }
    at.db
        .prepare_cached(
            "INSERT INTO setting (tenant, station, name, value, readonly, read_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (tenant, station, name) DO UPDATE
             SET value = excluded.value, readonly = coalesce(excluded.readonly, setting.readonly), read_ms = excluded.read_ms",
        )?
        .execute((tenant, station, told.name, told.value, told.readonly, at.now_ms))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::means_the_same;

    #[test]
    fn booleans_are_one_however_they_are_written() {
        for (one, other, same) in [
            ("false", "0", true),
            ("1", "True", true),
            ("TRUE", "true", true),
            ("true", "0", false),
            ("true", "2", false),
            ("", "false", false),
            ("60", "60", true),
            ("60", "060", false),
            ("A", "a", false),
        ] {
            assert_eq!(
                (means_the_same(one, other), means_the_same(other, one)),
                (same, same),
                "{one} {other}"
            );
        }
    }
}
