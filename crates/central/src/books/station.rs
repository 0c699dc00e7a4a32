//! Stations: who they are, and how their registration was answered.

use super::registration::Otherwise;
use super::{Ledger, Rules};
use crate::duty::At;
use crate::store::{Connection, StoreError};
use switchboard_rpc::Version;

/// What a BootNotification says of the station.
#[derive(Clone, Debug, Default)]
pub(crate) struct Boot {
    pub(crate) version: &'static str,
    pub(crate) vendor: String,
    pub(crate) model: String,
    pub(crate) serial: Option<String>,
    pub(crate) firmware: Option<String>,
    /// The message as it came.
    pub(crate) payload: String,
}

impl<'t> Ledger<'t> {
    /// Opens the books of a station; begins them at its first message.
    pub(crate) fn open(
        db: &'t Connection,
        tenant: &'t str,
        identity: &str,
        version: &str,
        now_ms: i64,
        rules: Rules,
    ) -> Result<Self, StoreError> {
        let known = db.known().station(tenant, identity);
        let station = match known {
            Some(station) => station,
            None => {
                let station = match super::query::station_number(db, tenant, identity)? {
                    Some(station) => station,
                    None => {
                        let sql = "INSERT INTO station (tenant, identity, version, first_seen_ms) VALUES (?1, ?2, ?3, ?4)";
                        db.insert(sql, (tenant, identity, version, now_ms))?
                    }
                };
                db.learn().note_station(tenant, identity, station);
                station
            }
        };
        Ok(Self { db, tenant, station, now_ms, rules })
    }

    /// The books as a whole, at the moment of this message.
    pub(crate) const fn at(&self) -> At<'t> {
        At { db: self.db, now_ms: self.now_ms }
    }

    /// Opens the books of a station that is in them, for what answers no message of it.
    pub(crate) fn of_known(
        db: &'t Connection,
        tenant: &'t str,
        identity: &str,
        now_ms: i64,
    ) -> Result<Option<Self>, StoreError> {
        let rules = Rules { unknown_tokens: crate::config::UnknownTokens::Refuse, refuse_concurrent: false };
        let station = super::query::station_number(db, tenant, identity)?;
        Ok(station.map(|station| Self { db, tenant, station, now_ms, rules }))
    }

    /// The version that the station spoke when it booted last.
    pub(crate) fn version(&self) -> Result<Option<Version>, StoreError> {
        let version: String = self
            .db
            .prepare_cached("SELECT version FROM station WHERE id = ?1")?
            .query_row([self.station], |row| row.get(0))?;
        Ok(Version::from_number(&version))
    }

    /// Looks into the books of a tenant without a station in particular.
    pub(crate) const fn of_tenant(db: &'t Connection, tenant: &'t str, now_ms: i64, rules: Rules) -> Self {
        Self { db, tenant, station: 0, now_ms, rules }
    }

    /// How the station's last BootNotification was answered; none if it never booted with us.
    pub(crate) fn registration(&self) -> Result<Option<String>, StoreError> {
        Ok(self
            .db
            .prepare_cached("SELECT registration FROM station WHERE id = ?1")?
            .query_row([self.station], |row| row.get(0))?)
    }

    /// Records a boot; gives out the answer's status and interval: what was laid down for this station, else `otherwise`.
    pub(crate) fn boot(&self, boot: &Boot, otherwise: Otherwise) -> Result<(String, i64), StoreError> {
        self.job_booted(boot.firmware.as_deref())?;
        let (registration, interval) = self.admission(otherwise)?;
        self.db
            .prepare_cached(
                "UPDATE station SET version = ?2, vendor = ?3, model = ?4, serial = ?5, firmware = ?6, boot = ?7,
                        booted_ms = ?8, registration = ?9
                 WHERE id = ?1",
            )?
            .execute((
                self.station,
                boot.version,
                &boot.vendor,
                &boot.model,
                &boot.serial,
                &boot.firmware,
                &boot.payload,
                self.now_ms,
                &registration,
            ))?;
        Ok((registration, interval))
    }
}
