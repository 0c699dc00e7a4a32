//! Charging profiles: those that a station shall have, and those that it says it has.

use super::Ledger;
use crate::store::{OptionalExtension, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a profile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The most that the whole station may take.
    StationMax,
    /// What each transaction gets unless it has a profile of its own.
    TxDefault,
    /// What one transaction gets.
    Tx,
}

impl Purpose {
    /// Its name, as it is kept and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StationMax => "station-max",
            Self::TxDefault => "tx-default",
            Self::Tx => "tx",
        }
    }
}

/// What a station holds only one profile of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProfileKey {
    pub(crate) evse: i64,
    pub(crate) purpose: Purpose,
    pub(crate) stack_level: i64,
    /// Of a profile of one transaction: its id, as the station knows it. Else empty.
    pub(crate) transaction: String,
}

/// Which profiles are meant: those that all of what is given is true of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ProfileMatch {
    /// The chargingProfileId.
    pub id: Option<i64>,
    /// 1.6: the connector. 2.x: the EVSE.
    pub connector: Option<i64>,
    /// What it is for.
    pub purpose: Option<Purpose>,
    /// Its stack level.
    pub stack_level: Option<i64>,
}

/// Profiles of one station that are kept although they are past, or end with their transactions.
const PAST_MAX: i64 = 200;
/// More reported profiles of one station are not kept.
const REPORTED_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    evse_id: i64,
    charging_limit_source: String,
    #[serde(borrow)]
    charging_profile: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Numbered {
    id: i64,
}

impl Ledger<'_> {
    /// Lays down a profile; gives out its number, and when the one was asked for whose place it takes. That is one of the
    /// same key, and it keeps the number: a station of 2.x may not be given two (K01.FR.06).
    pub(crate) fn profile_set(
        &self,
        key: &ProfileKey,
        content: &str,
    ) -> Result<(i64, Option<i64>), StoreError> {
        let known: Option<(i64, i64)> = self
            .db
            .prepare_cached(
                "SELECT id, requested_ms FROM profile WHERE station = ?1 AND evse = ?2 AND purpose = ?3 AND stack_level = ?4
                   AND txn = ?5",
            )?
            .query_row((self.station, key.evse, key.purpose.as_str(), key.stack_level, &key.transaction), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let (id, before) = match known {
            Some((id, asked_ms)) => (id, Some(asked_ms)),
            None => (self.next_request()?, None),
        };
        self.db
            .prepare_cached(
                "INSERT INTO profile (station, id, evse, purpose, stack_level, txn, content, state, requested_ms,
                                      updated_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'requested', ?8, ?8)
                 ON CONFLICT (station, id) DO UPDATE
                 SET content = excluded.content, state = excluded.state, detail = NULL,
                     requested_ms = excluded.requested_ms, updated_ms = excluded.updated_ms",
            )?
            .execute((
                self.station,
                id,
                key.evse,
                key.purpose.as_str(),
                key.stack_level,
                &key.transaction,
                content,
                self.now_ms,
            ))?;
        self.db
            .prepare_cached(
                "DELETE FROM profile WHERE station = ?1 AND id IN
                   (SELECT id FROM profile WHERE station = ?1 AND (state IN ('cleared', 'rejected') OR purpose = 'tx')
                    ORDER BY requested_ms DESC, id DESC LIMIT 9223372036854775807 OFFSET ?2)",
            )?
            .execute((self.station, PAST_MAX))?;
        Ok((id, before))
    }

    /// What became of sending a profile: its state, and in words why. Nothing if it has been set anew since `asked_ms`.
    pub(crate) fn profile_becomes(
        &self,
        id: i64,
        asked_ms: i64,
        state: &str,
        detail: Option<&str>,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE profile SET state = ?4, detail = ?5, updated_ms = ?6
                 WHERE station = ?1 AND id = ?2 AND requested_ms = ?3",
            )?
            .execute((self.station, id, asked_ms, state, detail, self.now_ms))?;
        Ok(())
    }

    /// Profiles that are not cleared yet and that all of these are true of, become `state`; gives out which,
    /// and when they were asked for.
    pub(crate) fn profiles_matching(
        &self,
        which: &ProfileMatch,
        from: &str,
        state: &str,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let mut matching = self.db.prepare_cached(
            "UPDATE profile SET state = ?7, updated_ms = ?8
             WHERE station = ?1 AND (id = ?2 OR ?2 IS NULL) AND (evse = ?3 OR ?3 IS NULL)
               AND (purpose = ?4 OR ?4 IS NULL) AND (stack_level = ?5 OR ?5 IS NULL)
               AND (CASE ?6 WHEN 'any' THEN state <> 'cleared' ELSE state = ?6 END)
             RETURNING id, requested_ms",
        )?;
        let ids = matching.query_map(
            (
                self.station,
                which.id,
                which.connector,
                which.purpose.map(Purpose::as_str),
                which.stack_level,
                from,
                state,
                self.now_ms,
            ),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// The station said that it has no profiles.
    pub(crate) fn profiles_none(&self) -> Result<(), StoreError> {
        self.db.prepare_cached("DELETE FROM reported_profile WHERE station = ?1")?.execute([self.station])?;
        Ok(())
    }

    /// A complete report of profiles takes the place of what was reported before.
    pub(super) fn profiles_reported(&self, parts: &[String]) -> Result<(), StoreError> {
        self.profiles_none()?;
        let mut kept = 0;
        for part in parts {
            let Ok(report) = serde_json::from_str::<Report<'_>>(part) else { continue };
            for profile in report.charging_profile {
                let Ok(Numbered { id }) = serde_json::from_str(profile.get()) else { continue };
                kept += 1;
                if kept > REPORTED_MAX {
                    return Ok(());
                }
                self.db
                    .prepare_cached(
                        "INSERT INTO reported_profile (station, evse, id, source, content, reported_ms)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (station, evse, id, source) DO UPDATE
                         SET content = excluded.content, reported_ms = excluded.reported_ms",
                    )?
                    .execute((
                        self.station,
                        report.evse_id,
                        id,
                        &report.charging_limit_source,
                        profile.get(),
                        self.now_ms,
                    ))?;
            }
        }
        Ok(())
    }
}
