//! Charging profiles: those that a station shall have, and those that it says it has.

use super::Ledger;
use crate::store::StoreError;
use rusqlite::OptionalExtension;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a station holds only one profile of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProfileKey {
    pub(crate) evse: i64,
    pub(crate) purpose: &'static str,
    pub(crate) stack_level: i64,
    /// Of a profile of one transaction: its id, as the station knows it. Else empty.
    pub(crate) transaction: String,
}

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
    /// Lays down a profile; gives out its number. One for the same place takes the place of the last one, and its
    /// number: a station of 2.x may not be given two (K01.FR.06).
    pub(crate) fn profile_set(&self, key: &ProfileKey, content: &str) -> Result<i64, StoreError> {
        let known: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT id FROM profile WHERE station = ?1 AND evse = ?2 AND purpose = ?3 AND stack_level = ?4
                   AND txn = ?5",
            )?
            .query_row((self.station, key.evse, key.purpose, key.stack_level, &key.transaction), |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => self.next_request()?,
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
                key.purpose,
                key.stack_level,
                &key.transaction,
                content,
                self.now_ms,
            ))?;
        Ok(id)
    }

    /// What became of sending a profile: its state, and in words why.
    pub(crate) fn profile_becomes(
        &self,
        id: i64,
        state: &str,
        detail: Option<&str>,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE profile SET state = ?3, detail = ?4, updated_ms = ?5 WHERE station = ?1 AND id = ?2",
            )?
            .execute((self.station, id, state, detail, self.now_ms))?;
        Ok(())
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
                        "INSERT OR REPLACE INTO reported_profile (station, evse, id, source, content, reported_ms)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
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
