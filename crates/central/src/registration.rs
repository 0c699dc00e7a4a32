//! Whether stations may take part: what operators lay down, and what is known (L08).

use crate::books::query;
use crate::books::registration::{self, Otherwise, Policy};
use crate::central::Central;
use crate::store::StoreError;
use serde::Deserialize;
use std::borrow::Cow;
use std::time::Duration;
use switchboard_router::Registration;
use switchboard_rpc::StationId;

/// How a station's BootNotifications are answered, where that is not as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootPolicy {
    /// With this status.
    pub registration: Registration,
    /// And this interval, in whole seconds: of heartbeats for one that is accepted, else how long it waits before it boots
    /// again. None: as configured.
    pub interval: Option<Duration>,
}

impl BootPolicy {
    /// This status, and the interval as configured.
    #[must_use]
    pub const fn new(registration: Registration) -> Self {
        Self { registration, interval: None }
    }
}

impl Central {
    /// Lays down how a station's BootNotifications are answered from the next one on; none: as configured. The station
    /// need not have sent anything yet. One that is connected keeps the registration that it has until it boots again:
    /// OCPP has no other way to take it back.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn set_boot_policy(
        &self,
        tenant: &str,
        station: &StationId,
        policy: Option<BootPolicy>,
    ) -> Result<(), StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.clone());
        let policy = policy.map(|policy| Policy {
            registration: name(policy.registration).to_owned(),
            interval_s: policy.interval.map(seconds),
        });
        let write = move |db: &crate::store::Transaction<'_>| {
            registration::set_policy(db, &tenant, station.as_str(), policy.as_ref())
        };
        self.0.store.write(write).await
    }

    /// What is laid down for a station; none: its boots are answered as configured.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn boot_policy(
        &self,
        tenant: &str,
        station: &StationId,
    ) -> Result<Option<BootPolicy>, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.clone());
        let found = self.0.store.read(move |db| registration::policy(db, &tenant, station.as_str())).await?;
        Ok(found.and_then(|policy| {
            let interval = policy.interval_s.and_then(|seconds| u64::try_from(seconds).ok());
            Some(BootPolicy {
                registration: from_name(&policy.registration)?,
                interval: interval.map(Duration::from_secs),
            })
        }))
    }

    /// How a station's last BootNotification was answered; none if it never booted with us.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn registration(
        &self,
        tenant: &str,
        station: &StationId,
    ) -> Result<Option<Registration>, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.clone());
        let found = self.0.store.read(move |db| query::registration(db, &tenant, station.as_str())).await?;
        Ok(found.and_then(|(_, registration)| registration).and_then(|text| from_name(&text)))
    }

    /// To be told before a call goes to a station: what the call asks the station to send (TriggerMessage, GetLog) is
    /// then let through for two minutes although the station is not accepted yet.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn before_call(
        &self,
        tenant: &str,
        station: &StationId,
        action: &str,
        payload: &[u8],
    ) -> Result<(), StoreError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Trigger<'a> {
            #[serde(borrow, default)]
            requested_message: Cow<'a, str>,
        }
        let Ok(trigger) = serde_json::from_slice::<Trigger<'_>>(payload) else { return Ok(()) };
        let actions = registration::asked_for(action, &trigger.requested_message);
        if actions.is_empty() || self.registration(tenant, station).await? != Some(Registration::Pending) {
            return Ok(());
        }
        let (tenant, station, now_ms) = (tenant.to_owned(), station.clone(), self.0.clock.now_ms());
        let write = move |db: &crate::store::Transaction<'_>| {
            registration::ask_for(db, &tenant, station.as_str(), actions, now_ms)
        };
        self.0.store.write(write).await
    }

    /// How boots are answered where nothing was laid down.
    pub(crate) fn otherwise(&self) -> Otherwise {
        let config = &self.0.config;
        Otherwise {
            registration: name(config.registration),
            heartbeat_s: seconds(config.heartbeat_interval),
            retry_s: seconds(config.boot_interval),
        }
    }
}

/// An interval as BootNotification tells it.
fn seconds(interval: Duration) -> i64 {
    i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).min(i64::from(i32::MAX))
}

/// A registration as the wire and the books call it.
const fn name(registration: Registration) -> &'static str {
    match registration {
        Registration::Accepted => "Accepted",
        Registration::Pending => "Pending",
        Registration::Rejected => "Rejected",
    }
}

fn from_name(name: &str) -> Option<Registration> {
    match name {
        "Accepted" => Some(Registration::Accepted),
        "Pending" => Some(Registration::Pending),
        "Rejected" => Some(Registration::Rejected),
        _ => None,
    }
}
