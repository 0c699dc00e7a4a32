//! Reports that we ask for.

use super::request::{OperationError, Owed};
use super::{Answer, Operation};
use crate::books::Ledger;
use crate::central::Central;
use crate::duty::Settled;
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchboard_rpc::{StationId, Version};

/// What a station shall report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum ReportBase {
    /// Its whole device model.
    Full,
    /// What can be set.
    Configuration,
    /// What is not as it should be.
    Summary,
    /// Its monitors.
    Monitoring,
    /// Its charging profiles.
    Profiles,
}

impl ReportBase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Configuration => "configuration",
            Self::Summary => "summary",
            Self::Monitoring => "monitoring",
            Self::Profiles => "profiles",
        }
    }

    /// In which message the parts come.
    const fn parts(self) -> &'static str {
        match self {
            Self::Full | Self::Configuration | Self::Summary => "NotifyReport",
            Self::Monitoring => "NotifyMonitoringReport",
            Self::Profiles => "ReportChargingProfiles",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Context {
    request: i64,
    base: ReportBase,
}

/// A station that is away for longer than this is asked again by whoever still wants to know.
const EXPIRES_MS: i64 = 24 * 3_600_000;

pub(super) struct Ask;

impl Operation for Ask {
    const KIND: &'static str = "report";
    type Context = Context;

    fn call(context: &Context, version: Version, _: i64) -> Result<(&'static str, Value), String> {
        if version == Version::V16 {
            return Err(
                "stations of OCPP 1.6 make no reports; ask for their configuration instead".to_owned()
            );
        }
        let request = context.request;
        Ok(match context.base {
            ReportBase::Full => {
                ("GetBaseReport", json!({"requestId": request, "reportBase": "FullInventory"}))
            }
            ReportBase::Configuration => {
                ("GetBaseReport", json!({"requestId": request, "reportBase": "ConfigurationInventory"}))
            }
            ReportBase::Summary => {
                ("GetBaseReport", json!({"requestId": request, "reportBase": "SummaryInventory"}))
            }
            ReportBase::Monitoring => ("GetMonitoringReport", json!({"requestId": request})),
            ReportBase::Profiles => {
                // Some criterion must be given: these are all the sources that the specification knows.
                let sources = json!({"chargingLimitSource": ["EMS", "Other", "SO", "CSO"]});
                ("GetChargingProfiles", json!({"requestId": request, "chargingProfile": sources}))
            }
        })
    }

    fn answered(ledger: &Ledger<'_>, context: &Context, answer: &Answer) -> Result<Settled, StoreError> {
        ledger.report_answered(context.base.parts(), context.request, answer.status())?;
        Ok(match answer.status() {
            "Accepted" => Settled::Done(None),
            "NoProfiles" => {
                ledger.profiles_none()?;
                Settled::Done(Some("there are none".to_owned()))
            }
            "EmptyResultSet" => Settled::Done(Some("there is nothing to report".to_owned())),
            _ => Settled::Refused(answer.words()),
        })
    }

    fn failed(ledger: &Ledger<'_>, context: &Context, why: &str) -> Result<(), StoreError> {
        ledger.report_answered(context.base.parts(), context.request, why)
    }

    // It is asked again under the same number, so that parts that come twice are the same.
    fn unknown(_: &Ledger<'_>, _: &Context, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Central {
    /// Asks a station of 2.x for a report; gives out its number.
    ///
    /// # Errors
    /// When the station was never here, or speaks 1.6.
    pub async fn request_report(
        &self,
        tenant: &str,
        station: &StationId,
        base: ReportBase,
    ) -> Result<i64, OperationError> {
        self.request(tenant, station, move |desk| {
            if let Err(why) = desk.check::<Ask>(&Context { request: 1, base })? {
                return Ok(Err(why));
            }
            let request = desk.ledger.report_asked(base.parts(), base.as_str())?;
            desk.owe::<Ask>(&Owed {
                key: request.to_string(),
                context: Context { request, base },
                repeatable: true,
                expires_ms: Some(desk.at.now_ms + EXPIRES_MS),
            })?;
            Ok(Ok(request))
        })
        .await
    }
}
