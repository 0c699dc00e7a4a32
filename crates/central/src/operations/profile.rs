//! Charging profiles that a station shall have.

use super::request::{OperationError, Owed};
use super::schedule::{Cycle, Period, Unit, faults};
use super::{Answer, Operation, time};
use crate::books::{Ledger, ProfileKey, ProfileMatch, Purpose};
use crate::central::Central;
use crate::duty::Settled;
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchboard_rpc::{StationId, Version};

/// A charging profile that a station shall have. Its schedule has the names that it has on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct ProfileRequest {
    /// 1.6: the connector. 2.x: the EVSE. 0: the station, or all of them.
    pub connector: i64,
    /// What it is for.
    pub purpose: Purpose,
    /// The highest one rules.
    #[serde(default)]
    pub stack_level: i64,
    /// Of purpose `tx`: the id of the transaction, as the station knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// From when it counts; else from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    /// Until when; else for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<String>,
    /// Whether the schedule begins with each transaction instead of at a time.
    #[serde(default)]
    pub relative: bool,
    /// Whether it begins again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurring: Option<Cycle>,
    /// When the schedule begins; else when it is asked for, unless it is relative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_schedule: Option<String>,
    /// How long it lasts, in seconds; else for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<i64>,
    /// What its limits are counted in.
    pub charging_rate_unit: Unit,
    /// Its periods.
    pub charging_schedule_period: Vec<Period>,
    /// Below this, charging makes no sense for the car.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_charging_rate: Option<f64>,
}

/// What the duty remembers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Context {
    id: i64,
    asked_ms: i64,
    request: ProfileRequest,
}

/// A schedule begins this long before it is asked for: a station whose clock is behind would charge without limit until
/// then.
const HEAD_START_MS: i64 = 60_000;

pub(super) struct Set;

impl Operation for Set {
    const KIND: &'static str = "profile";
    type Context = Context;

    fn call(context: &Context, version: Version, _: i64) -> Result<(&'static str, Value), String> {
        let Context { id, asked_ms, request } = context;
        let kind = match (request.recurring, request.relative) {
            (Some(_), _) => "Recurring",
            (None, true) => "Relative",
            (None, false) => "Absolute",
        };
        let start = (!request.relative)
            .then(|| request.start_schedule.clone().unwrap_or_else(|| time(asked_ms - HEAD_START_MS)));
        let mut schedule = json!({
            "startSchedule": start,
            "duration": request.duration,
            "chargingRateUnit": request.charging_rate_unit.as_str(),
            "chargingSchedulePeriod": request.charging_schedule_period,
            "minChargingRate": request.min_charging_rate,
        });
        let mut profile = json!({
            "stackLevel": request.stack_level,
            "chargingProfileKind": kind,
            "recurrencyKind": request.recurring.map(Cycle::as_str),
            "validFrom": request.valid_from,
            "validTo": request.valid_to,
        });
        if version == Version::V16 {
            let transaction = request.transaction.as_deref().map(|transaction| {
                transaction.parse::<i64>().map_err(|_| {
                    format!(
                        "a transaction of OCPP 1.6 has a whole number for an id, and {transaction:?} is none"
                    )
                })
            });
            profile["chargingProfileId"] = (*id).into();
            profile["transactionId"] = transaction.transpose()?.into();
            profile["chargingProfilePurpose"] = purpose(request.purpose, version).into();
            profile["chargingSchedule"] = schedule;
            let payload = json!({"connectorId": request.connector, "csChargingProfiles": profile});
            return Ok(("SetChargingProfile", payload));
        }
        schedule["id"] = (*id).into();
        profile["id"] = (*id).into();
        profile["transactionId"] = request.transaction.clone().into();
        profile["chargingProfilePurpose"] = purpose(request.purpose, version).into();
        profile["chargingSchedule"] = json!([schedule]);
        Ok(("SetChargingProfile", json!({"evseId": request.connector, "chargingProfile": profile})))
    }

    fn answered(ledger: &Ledger<'_>, context: &Context, answer: &Answer) -> Result<Settled, StoreError> {
        let words = answer.words();
        let detail = (words != answer.status()).then_some(words.as_str());
        if answer.status() == "Accepted" {
            ledger.profile_becomes(context.id, context.asked_ms, "accepted", detail)?;
            return Ok(Settled::Done(None));
        }
        ledger.profile_becomes(context.id, context.asked_ms, "rejected", Some(&words))?;
        Ok(Settled::Refused(words))
    }

    fn failed(ledger: &Ledger<'_>, context: &Context, why: &str) -> Result<(), StoreError> {
        ledger.profile_becomes(context.id, context.asked_ms, "rejected", Some(why))
    }

    fn unknown(ledger: &Ledger<'_>, context: &Context, why: &str) -> Result<(), StoreError> {
        ledger.profile_becomes(
            context.id,
            context.asked_ms,
            "requested",
            Some(&format!("{why}; it is sent again")),
        )
    }
}

/// The key of the duty to set a profile. Each has a row of its own, so that setting and clearing go out in the order in
/// which they were asked for.
fn key_of(id: i64, asked_ms: i64) -> String {
    format!("{id}-{asked_ms}")
}

/// A purpose as a version calls it.
const fn purpose(purpose: Purpose, version: Version) -> &'static str {
    match (purpose, version) {
        (Purpose::StationMax, Version::V16) => "ChargePointMaxProfile",
        (Purpose::StationMax, Version::V201 | Version::V21) => "ChargingStationMaxProfile",
        (Purpose::TxDefault, _) => "TxDefaultProfile",
        (Purpose::Tx, _) => "TxProfile",
    }
}

pub(super) struct Clear;

impl Operation for Clear {
    const KIND: &'static str = "clear-profiles";
    type Context = ProfileMatch;

    fn call(which: &ProfileMatch, version: Version, _: i64) -> Result<(&'static str, Value), String> {
        let ProfileMatch { id, connector, purpose: of, stack_level } = which;
        let of = of.map(|of| purpose(of, version));
        if version == Version::V16 {
            let payload = json!({
                "id": id, "connectorId": connector, "chargingProfilePurpose": of, "stackLevel": stack_level,
            });
            return Ok(("ClearChargingProfile", payload));
        }
        if *which == ProfileMatch::default() {
            return Err(format!(
                "OCPP {version} wants an id, or at least one of connector, purpose and stack level"
            ));
        }
        // An id decides alone (K10.FR.02).
        let criteria = json!({"evseId": connector, "chargingProfilePurpose": of, "stackLevel": stack_level});
        let payload = match id {
            Some(id) => json!({"chargingProfileId": id}),
            None => json!({"chargingProfileCriteria": criteria}),
        };
        Ok(("ClearChargingProfile", payload))
    }

    fn answered(ledger: &Ledger<'_>, which: &ProfileMatch, answer: &Answer) -> Result<Settled, StoreError> {
        match answer.status() {
            // Unknown: it has none of these, which is what was wanted.
            "Accepted" | "Unknown" => {
                ledger.profiles_matching(which, "clearing", "cleared")?;
                Ok(Settled::Done(
                    (answer.status() != "Accepted").then(|| "the station had none of these".to_owned()),
                ))
            }
            _ => {
                ledger.profiles_matching(which, "clearing", "accepted")?;
                Ok(Settled::Refused(answer.words()))
            }
        }
    }

    fn failed(ledger: &Ledger<'_>, which: &ProfileMatch, _: &str) -> Result<(), StoreError> {
        ledger.profiles_matching(which, "clearing", "accepted").map(|_| ())
    }

    fn unknown(_: &Ledger<'_>, _: &ProfileMatch, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Central {
    /// Lays down a charging profile that a station shall have; gives out its number. It is sent until the station accepts
    /// or rejects it. One of the same connector, purpose, stack level and transaction takes the place of the last.
    ///
    /// # Errors
    /// When the station was never here, or the profile is one that stations would misunderstand.
    pub async fn set_profile(
        &self,
        tenant: &str,
        station: &StationId,
        request: ProfileRequest,
    ) -> Result<i64, OperationError> {
        let faults = faults(&request);
        if !faults.is_empty() {
            return Err(OperationError::Invalid(faults.join("; ")));
        }
        self.request(tenant, station, move |desk| {
            let asked_ms = desk.at.now_ms;
            let context = |id| Context { id, asked_ms, request: request.clone() };
            if let Err(why) = desk.check::<Set>(&context(1))? {
                return Ok(Err(why));
            }
            let key = ProfileKey {
                evse: request.connector,
                purpose: request.purpose,
                stack_level: request.stack_level,
                transaction: request.transaction.clone().unwrap_or_default(),
            };
            let content =
                serde_json::to_string(&request).map_err(|error| StoreError::Invalid(error.to_string()))?;
            let (id, before) = desk.ledger.profile_set(&key, &content)?;
            if let Some(before) = before {
                desk.withdraw::<Set>(&key_of(id, before))?;
            }
            desk.owe::<Set>(&Owed {
                key: key_of(id, asked_ms),
                context: context(id),
                repeatable: true,
                // A profile whose time is over need not be sent any more.
                expires_ms: request
                    .valid_to
                    .as_deref()
                    .and_then(|to| switchboard_messages::Timestamp::parse(to).ok())
                    .map(switchboard_messages::Timestamp::unix_millis),
            })?;
            Ok(Ok(id))
        })
        .await
    }

    /// Has a station clear its charging profiles of which all that is given is true; gives out the numbers of those of
    /// them that are in the books.
    ///
    /// # Errors
    /// When the station was never here, or its version wants more to be given.
    pub async fn clear_profiles(
        &self,
        tenant: &str,
        station: &StationId,
        which: ProfileMatch,
    ) -> Result<Vec<i64>, OperationError> {
        self.request(tenant, station, move |desk| {
            if let Err(why) = desk.check::<Clear>(&which)? {
                return Ok(Err(why));
            }
            let mut ids = Vec::new();
            for (id, asked_ms) in desk.ledger.profiles_matching(&which, "any", "clearing")? {
                desk.withdraw::<Set>(&key_of(id, asked_ms))?;
                ids.push(id);
            }
            desk.owe::<Clear>(&Owed {
                key: desk.ledger.next_request()?.to_string(),
                context: which.clone(),
                repeatable: true,
                expires_ms: None,
            })?;
            Ok(Ok(ids))
        })
        .await
    }
}
