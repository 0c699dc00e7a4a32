//! Firmware updates.

use super::request::{OperationError, Owed};
use super::{Answer, Operation, time};
use crate::books::{Ledger, NewJob};
use crate::central::Central;
use crate::duty::Settled;
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchboard_messages::Timestamp;
use switchboard_rpc::{StationId, Version};

/// A firmware update to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct FirmwareRequest {
    /// Where the station fetches it.
    pub url: String,
    /// When it may fetch it; else at once.
    pub retrieve_at: Option<String>,
    /// When it may install it; else as soon as it has it. Not in 1.6 without a signature.
    pub install_at: Option<String>,
    /// How often it may try to fetch it; else as it likes.
    pub retries: Option<i64>,
    /// How long it waits between attempts, in seconds.
    pub retry_interval: Option<i64>,
    /// The certificate that the signature is checked with, as PEM.
    pub certificate: Option<String>,
    /// The signature, in base64. With it and the certificate a station of 1.6 gets SignedUpdateFirmware.
    pub signature: Option<String>,
}

/// What the duty remembers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Context {
    pub(super) id: i64,
    request: FirmwareRequest,
}

pub(super) struct Update;

impl Operation for Update {
    const KIND: &'static str = "firmware";
    type Context = Context;

    fn call(context: &Context, version: Version, now_ms: i64) -> Result<(&'static str, Value), String> {
        let FirmwareRequest { url, install_at, retries, retry_interval, certificate, signature, .. } =
            &context.request;
        let at = context.request.retrieve_at.clone().unwrap_or_else(|| time(now_ms));
        let signed = certificate.is_some() || signature.is_some();
        if version == Version::V16 && !signed {
            if install_at.is_some() {
                return Err(
                    "a station of OCPP 1.6 takes no time of installation, unless the firmware is signed"
                        .to_owned(),
                );
            }
            let payload = json!({"location": url, "retrieveDate": at, "retries": retries, "retryInterval": retry_interval});
            return Ok(("UpdateFirmware", payload));
        }
        let action = if version == Version::V16 { "SignedUpdateFirmware" } else { "UpdateFirmware" };
        let payload = json!({
            "requestId": context.id,
            "retries": retries,
            "retryInterval": retry_interval,
            "firmware": {
                "location": url,
                "retrieveDateTime": at,
                "installDateTime": install_at,
                "signingCertificate": certificate,
                "signature": signature,
            },
        });
        Ok((action, payload))
    }

    fn answered(ledger: &Ledger<'_>, context: &Context, answer: &Answer) -> Result<Settled, StoreError> {
        answered(ledger, context.id, answer)
    }

    fn failed(ledger: &Ledger<'_>, context: &Context, why: &str) -> Result<(), StoreError> {
        ledger.job_ended(context.id, "rejected", Some(why))
    }

    fn unknown(ledger: &Ledger<'_>, context: &Context, why: &str) -> Result<(), StoreError> {
        ledger.job_ended(context.id, "unknown", Some(why))
    }
}

/// Takes the answer to the request of a job into the job.
pub(super) fn answered(ledger: &Ledger<'_>, id: i64, answer: &Answer) -> Result<Settled, StoreError> {
    let status = answer.status();
    let words = answer.words();
    let detail = (words != status).then_some(words.as_str());
    // 2.x and GetLog: filename. GetDiagnostics: fileName.
    let file = answer.text("filename").or_else(|| answer.text("fileName"));
    ledger.job_answered(id, status, file, detail)?;
    Ok(match status {
        "Accepted" | "AcceptedCanceled" => Settled::Done(None),
        _ => Settled::Refused(words),
    })
}

/// A time that somebody gave, in the form that stations get.
pub(super) fn checked_time(name: &str, text: Option<&String>) -> Result<Option<String>, OperationError> {
    let wrong = |_| OperationError::Invalid(format!("{name} is no time like 2026-11-23T10:00:00Z"));
    text.map(|text| Timestamp::parse(text).map(|time| time.to_string()).map_err(wrong)).transpose()
}

/// A place that files come from or go to.
pub(super) fn checked_url(url: &str) -> Result<(), OperationError> {
    let is_url = url.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !rest.is_empty()
    });
    if is_url && !url.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Ok(());
    }
    Err(OperationError::Invalid(format!(
        "{url:?} is no URL like https://host/file or ftp://user:password@host/file"
    )))
}

impl Central {
    /// Has a station update its firmware; gives out the number of the job. One that still waits to be sent gives way.
    ///
    /// # Errors
    /// When the station was never here, or cannot be asked this.
    pub async fn update_firmware(
        &self,
        tenant: &str,
        station: &StationId,
        mut request: FirmwareRequest,
    ) -> Result<i64, OperationError> {
        checked_url(&request.url)?;
        request.retrieve_at = checked_time("the time of retrieval", request.retrieve_at.as_ref())?;
        request.install_at = checked_time("the time of installation", request.install_at.as_ref())?;
        self.request(tenant, station, move |desk| {
            if let Err(why) = desk.check::<Update>(&Context { id: 1, request: request.clone() })? {
                return Ok(Err(why));
            }
            for id in desk.ledger.jobs_unsent("firmware")? {
                if desk.withdraw::<Update>(&id.to_string())? {
                    desk.ledger.job_ended(id, "replaced", Some("a later request came before it was sent"))?;
                }
            }
            let id = desk.ledger.job_new(&NewJob {
                kind: "firmware",
                what: None,
                url: request.url.clone(),
                retries: request.retries.unwrap_or(0),
            })?;
            desk.owe::<Update>(&Owed {
                key: id.to_string(),
                context: Context { id, request: request.clone() },
                // A second one would begin anew, or cancel the first.
                repeatable: false,
                expires_ms: None,
            })?;
            Ok(Ok(id))
        })
        .await
    }

    /// Takes the firmware updates and log uploads (`kind` is `firmware` or `log`) back that were not sent to a station
    /// yet; gives out which.
    ///
    /// # Errors
    /// When the station was never here, or nothing can be taken back any more.
    pub async fn cancel_jobs(
        &self,
        tenant: &str,
        station: &StationId,
        kind: &'static str,
    ) -> Result<Vec<i64>, OperationError> {
        self.request(tenant, station, move |desk| {
            let mut cancelled = Vec::new();
            for id in desk.ledger.jobs_unsent(kind)? {
                let withdrawn = match kind {
                    "firmware" => desk.withdraw::<Update>(&id.to_string())?,
                    _ => desk.withdraw::<super::log::Upload>(&id.to_string())?,
                };
                if withdrawn {
                    desk.ledger.job_ended(id, "cancelled", Some("taken back before it was sent"))?;
                    cancelled.push(id);
                }
            }
            if cancelled.is_empty() {
                return Ok(Err("nothing waits to be sent; what the station works on can only be replaced by a new request, \
                               which a station of 2.x answers with AcceptedCanceled"
                    .to_owned()));
            }
            Ok(Ok(cancelled))
        })
        .await
    }
}
