//! Logs that a station uploads.

use super::firmware::{answered, checked_time, checked_url};
use super::request::{OperationError, Owed};
use super::{Answer, Operation};
use crate::books::{Ledger, NewJob};
use crate::central::Central;
use crate::duty::Settled;
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchboard_rpc::{StationId, Version};

/// Which log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogKind {
    /// What the station writes down about itself.
    #[default]
    Diagnostics,
    /// Its security events. Of 1.6, only with the security extension.
    Security,
}

impl LogKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Diagnostics => "diagnostics",
            Self::Security => "security",
        }
    }
}

/// A log to be uploaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct LogRequest {
    /// Where the station puts it.
    pub url: String,
    /// Which log.
    #[serde(default)]
    pub kind: LogKind,
    /// Only what was written then or later.
    pub from: Option<String>,
    /// Only what was written before.
    pub to: Option<String>,
    /// How often it may try; else as it likes.
    pub retries: Option<i64>,
    /// How long it waits between attempts, in seconds.
    pub retry_interval: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Context {
    id: i64,
    request: LogRequest,
}

pub(super) struct Upload;

impl Operation for Upload {
    const KIND: &'static str = "log";
    type Context = Context;

    fn call(context: &Context, version: Version, _: i64) -> Result<(&'static str, Value), String> {
        let LogRequest { url, kind, from, to, retries, retry_interval } = &context.request;
        if version == Version::V16 && *kind == LogKind::Diagnostics {
            let payload = json!({
                "location": url, "retries": retries, "retryInterval": retry_interval, "startTime": from, "stopTime": to,
            });
            return Ok(("GetDiagnostics", payload));
        }
        let payload = json!({
            "requestId": context.id,
            "logType": if *kind == LogKind::Security { "SecurityLog" } else { "DiagnosticsLog" },
            "retries": retries,
            "retryInterval": retry_interval,
            "log": {"remoteLocation": url, "oldestTimestamp": from, "latestTimestamp": to},
        });
        Ok(("GetLog", payload))
    }

    fn answered(ledger: &Ledger<'_>, context: &Context, answer: &Answer) -> Result<Settled, StoreError> {
        let settled = answered(ledger, context.id, answer)?;
        // C16 5.9: no name, no file. GetLog always has a status.
        let is_diagnostics = answer.text("status").is_none();
        if is_diagnostics && answer.text("fileName").is_none() {
            ledger.job_ended(context.id, "done", Some("the station has nothing to upload"))?;
        }
        Ok(settled)
    }

    fn failed(ledger: &Ledger<'_>, context: &Context, why: &str) -> Result<(), StoreError> {
        ledger.job_ended(context.id, "rejected", Some(why))
    }

    fn unknown(ledger: &Ledger<'_>, context: &Context, why: &str) -> Result<(), StoreError> {
        ledger.job_ended(context.id, "unknown", Some(why))
    }
}

impl Central {
    /// Has a station upload a log; gives out the number of the job. One that still waits to be sent gives way.
    ///
    /// # Errors
    /// When the station was never here, or cannot be asked this.
    pub async fn get_log(
        &self,
        tenant: &str,
        station: &StationId,
        mut request: LogRequest,
    ) -> Result<i64, OperationError> {
        checked_url(&request.url)?;
        request.from = checked_time("the beginning", request.from.as_ref())?;
        request.to = checked_time("the end", request.to.as_ref())?;
        self.request(tenant, station, move |desk| {
            if let Err(why) = desk.check::<Upload>(&Context { id: 1, request: request.clone() })? {
                return Ok(Err(why));
            }
            for id in desk.ledger.jobs_unsent("log")? {
                if desk.withdraw::<Upload>(&id.to_string())? {
                    desk.ledger.job_ended(id, "replaced", Some("a later request came before it was sent"))?;
                }
            }
            let id = desk.ledger.job_new(&NewJob {
                kind: "log",
                what: Some(request.kind.as_str()),
                url: request.url.clone(),
                retries: request.retries.unwrap_or(0),
            })?;
            desk.owe::<Upload>(&Owed {
                key: id.to_string(),
                context: Context { id, request: request.clone() },
                repeatable: false,
                expires_ms: None,
            })?;
            Ok(Ok(id))
        })
        .await
    }
}
