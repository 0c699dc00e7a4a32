//! What stations shall be set to, and what they report.

use crate::books::setting::{self, ALL};
use crate::books::variable::Name;
use crate::books::{Setting, configuring, query};
use crate::central::Central;
use crate::duty::At;
use crate::store::StoreError;
use switchboard_rpc::{StationId, Version};

/// Characters of a value: the most that 2.x can carry. 1.6 takes 500.
const VALUE_CHARACTERS_MAX: usize = 2500;

/// A name and the value that it shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    name: String,
    value: String,
}

impl Desired {
    /// A key of 1.6, or `Component[instance].evse.connector/Variable[instance]#Attribute` of 2.x, and its value.
    ///
    /// # Errors
    /// A sentence about what is wrong with them.
    pub fn new(name: &str, value: &str) -> Result<Self, String> {
        let name = setting_name(name)?;
        if value.chars().count() > VALUE_CHARACTERS_MAX {
            return Err(format!("the value of {name} has more than {VALUE_CHARACTERS_MAX} characters"));
        }
        Ok(Self { name, value: value.to_owned() })
    }
}

/// The name of a setting in the one form that it is kept in.
///
/// # Errors
/// A sentence about what a name is.
pub fn setting_name(name: &str) -> Result<String, String> {
    Name::parse(name).map(|name| name.to_string()).map_err(|expected| format!("{name:?}: {expected}"))
}

impl Central {
    /// The settings of a station, desired and reported, in order of their names.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn settings(&self, tenant: &str, station: &StationId) -> Result<Vec<Setting>, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.clone());
        let read = move |db: &crate::store::Connection| {
            let version = query::version(db, &tenant, station.as_str())?;
            let version = version.as_deref().and_then(Version::from_number);
            setting::list(db, &tenant, station.as_str(), version)
        };
        self.0.store.read(read).await
    }

    /// What every station shall be set to, unless something else is desired of it in particular.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn settings_for_all(&self, tenant: &str) -> Result<Vec<(String, String)>, StoreError> {
        let tenant = tenant.to_owned();
        self.0.store.read(move |db| setting::desired_of_all(db, &tenant)).await
    }

    /// Lays down what a station, or without one every station, shall be set to. They come to be owed it, and are asked
    /// again until they have it or reject it. `reboot`: a station that uses a value only after a reboot is reset, once.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn desire(
        &self,
        tenant: &str,
        station: Option<&StationId>,
        values: Vec<Desired>,
        reboot: bool,
    ) -> Result<(), StoreError> {
        let values: Vec<_> = values.into_iter().map(|desired| (desired.name, desired.value)).collect();
        self.configure(tenant, station, move |at, tenant, station| {
            setting::desire(at, tenant, station, &values, reboot)
        })
        .await
    }

    /// Takes back what a station, or without one every station, shall be set to; how many of the names were. The
    /// stations keep the values that they have, unless something else is desired of them by then.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn undesire(
        &self,
        tenant: &str,
        station: Option<&StationId>,
        names: Vec<String>,
    ) -> Result<usize, StoreError> {
        self.configure(tenant, station, move |at, tenant, station| {
            setting::undesire(at.db, tenant, station, &names)
        })
        .await
    }

    /// Has a station report what it is set to: everything in 1.6; in 2.x what is desired or was asked for before.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn refresh_settings(&self, tenant: &str, station: &StationId) -> Result<(), StoreError> {
        let (whose, which, now_ms) = (tenant.to_owned(), station.clone(), self.0.clock.now_ms());
        self.0
            .store
            .write(move |transaction| {
                transaction.lock_station(&whose, which.as_str())?;
                configuring::refresh(At { db: transaction, now_ms }, &whose, which.as_str())
            })
            .await?;
        self.nudge(&tenant.into(), station);
        Ok(())
    }

    async fn configure<R: Send + 'static>(
        &self,
        tenant: &str,
        station: Option<&StationId>,
        change: impl Fn(At<'_>, &str, &str) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (whose, now_ms) = (tenant.to_owned(), self.0.clock.now_ms());
        let which = station.map_or(ALL, StationId::as_str).to_owned();
        let (result, stations) = self
            .0
            .store
            .write(move |transaction| {
                let at = At { db: transaction, now_ms };
                if which != ALL {
                    transaction.lock_station(&whose, &which)?;
                }
                let result = change(at, &whose, &which)?;
                Ok((result, setting::concerned(at, &whose, &which)?))
            })
            .await?;
        for station in stations {
            if let Ok(station) = StationId::new(station, usize::MAX) {
                self.nudge(&tenant.into(), &station);
            }
        }
        Ok(result)
    }
}
