//! OCPP 1.6 and its security extension.

use super::call::{Answered, Call, Gate, notices};
use super::readings::{Written, stamp_of};
use crate::books::{Boot, Ledger, Start, Started, Status, Stop, TokenStatus, Verdict};
use crate::central::Central;
use crate::decimal::Decimal;
use switchboard_messages::{Message, Timestamp, v16};
use switchboard_router::{CallError, Router, State};

pub(super) fn router() -> Router<Central> {
    Router::new()
        .on(boot)
        .on(heartbeat)
        .on(authorize)
        .on(start)
        .on(stop)
        .on(meter_values)
        .on(status)
        .on(data_transfer)
        .on(diagnostics_status)
        .on(firmware_status)
        .on(signed_firmware_status)
        .on(log_status)
        .on(security_event)
        .on(sign_certificate)
}

async fn boot(
    State(central): State<Central>,
    call: Call,
    request: v16::BootNotificationRequest,
) -> Answered<v16::BootNotificationRequest> {
    let boot = Boot {
        version: "1.6",
        vendor: request.charge_point_vendor,
        model: request.charge_point_model,
        serial: request.charge_point_serial_number.or(request.charge_box_serial_number),
        firmware: request.firmware_version,
        payload: call.payload.to_string(),
    };
    let otherwise = central.otherwise();
    let current_time = Timestamp::from_unix_millis(central.0.clock.now_ms());
    central
        .keep_boot(call, v16::BootNotificationRequest::ACTION, move |ledger| {
            let (status, interval) = ledger.boot(&boot, otherwise)?;
            let status = v16::RegistrationStatus::from(status.as_str());
            Ok(v16::BootNotificationResponse { status, current_time, interval })
        })
        .await
}

async fn heartbeat(
    State(central): State<Central>,
    call: Call,
    _request: v16::HeartbeatRequest,
) -> Result<v16::HeartbeatResponse, CallError> {
    central.heartbeat(v16::HeartbeatRequest::ACTION, call).await.map(v16::HeartbeatResponse::new)
}

async fn authorize(
    State(central): State<Central>,
    call: Call,
    request: v16::AuthorizeRequest,
) -> Result<v16::AuthorizeResponse, CallError> {
    let look = move |ledger: &Ledger<'_>| ledger.verdict(&request.id_tag);
    let verdict = central.look_up(v16::AuthorizeRequest::ACTION, call, look).await?;
    Ok(v16::AuthorizeResponse::new(id_tag_info(&verdict)))
}

async fn start(
    State(central): State<Central>,
    call: Call,
    request: v16::StartTransactionRequest,
) -> Answered<v16::StartTransactionRequest> {
    let start = Start {
        connector: Some(request.connector_id),
        token: Some(request.id_tag),
        at: Some(Written::find(&call.payload).at_or(request.timestamp)),
        meter: Some(Decimal::from(request.meter_start)),
        reservation: request.reservation_id,
    };
    central
        .keep::<v16::StartTransactionRequest>(Gate::NeverBooted, call, move |ledger, _| {
            Ok(started(&ledger.start(&start)?))
        })
        .await
}

async fn stop(
    State(central): State<Central>,
    call: Call,
    request: v16::StopTransactionRequest,
) -> Answered<v16::StopTransactionRequest> {
    let mut written = Written::find(&call.payload);
    let stop = Stop {
        transaction: request.transaction_id,
        token: request.id_tag,
        at: Some(written.at_or(request.timestamp)),
        meter: Some(Decimal::from(request.meter_stop)),
        reason: request.reason.map(|reason| reason.as_str().to_owned()),
        readings: written.readings.unwrap_or_default(),
    };
    central
        .keep::<v16::StopTransactionRequest>(Gate::NeverBooted, call, move |ledger, _| {
            Ok(stopped(ledger.stop(&stop)?.as_ref()))
        })
        .await
}

async fn meter_values(
    State(central): State<Central>,
    call: Call,
    request: v16::MeterValuesRequest,
) -> Answered<v16::MeterValuesRequest> {
    let readings = Written::find(&call.payload).readings.unwrap_or_default();
    let (connector, transaction) = (request.connector_id, request.transaction_id);
    central
        .keep::<v16::MeterValuesRequest>(Gate::NeverBooted, call, move |ledger, _| {
            ledger.meter_values(connector, transaction, &readings)?;
            Ok(v16::MeterValuesResponse {})
        })
        .await
}

async fn status(
    State(central): State<Central>,
    call: Call,
    request: v16::StatusNotificationRequest,
) -> Answered<v16::StatusNotificationRequest> {
    let status = Status {
        evse: request.connector_id,
        connector: 0,
        status: request.status.as_str().to_owned(),
        error_code: Some(request.error_code.as_str().to_owned()),
        info: request.info,
        vendor_id: request.vendor_id,
        vendor_error: request.vendor_error_code,
        at: request.timestamp.map(stamp_of),
    };
    central
        .keep::<v16::StatusNotificationRequest>(Gate::Accepted, call, move |ledger, _| {
            ledger.status(&status)?;
            Ok(v16::StatusNotificationResponse {})
        })
        .await
}

notices! {
    // No vendor's messages are known here. They are kept, so that one that should be can be looked at.
    data_transfer(_message: v16::DataTransferRequest) {
        natural: None,
        answer: v16::DataTransferResponse::new(v16::DataTransferStatus::UnknownVendorId),
    }
    diagnostics_status(_message: v16::DiagnosticsStatusNotificationRequest) {
        natural: None,
        answer: v16::DiagnosticsStatusNotificationResponse {},
    }
    firmware_status(_message: v16::FirmwareStatusNotificationRequest) {
        natural: None,
        answer: v16::FirmwareStatusNotificationResponse {},
    }
    signed_firmware_status(_message: v16::SignedFirmwareStatusNotificationRequest) {
        natural: None,
        answer: v16::SignedFirmwareStatusNotificationResponse {},
    }
    log_status(_message: v16::LogStatusNotificationRequest) {
        natural: None,
        answer: v16::LogStatusNotificationResponse {},
    }
    security_event(message: v16::SecurityEventNotificationRequest) {
        natural: Some(format!(
            "{} {} {}",
            stamp_of(message.timestamp).us, message.r#type, message.tech_info.unwrap_or_default()
        )),
        answer: v16::SecurityEventNotificationResponse {},
    }
    // There is no certificate authority behind us: an Accepted would promise a certificate that never comes.
    sign_certificate(_message: v16::SignCertificateRequest) {
        natural: None,
        answer: v16::SignCertificateResponse::new(v16::GenericStatus::Rejected),
    }
}

/// The answer to a StartTransaction.
pub(super) fn started(started: &Started) -> v16::StartTransactionResponse {
    v16::StartTransactionResponse {
        id_tag_info: id_tag_info(&started.verdict),
        transaction_id: i64::from(started.transaction),
    }
}

/// The answer to a StopTransaction.
pub(super) fn stopped(verdict: Option<&Verdict>) -> v16::StopTransactionResponse {
    v16::StopTransactionResponse { id_tag_info: verdict.map(id_tag_info) }
}

/// A CiString20.
const TOKEN_CHARACTERS_MAX: usize = 20;

fn id_tag_info(verdict: &Verdict) -> v16::IdTagInfo {
    let status = match verdict.status {
        TokenStatus::Accepted => v16::AuthorizationStatus::Accepted,
        TokenStatus::Blocked => v16::AuthorizationStatus::Blocked,
        TokenStatus::Expired => v16::AuthorizationStatus::Expired,
        TokenStatus::ConcurrentTx => v16::AuthorizationStatus::ConcurrentTx,
        TokenStatus::Invalid | TokenStatus::Unknown => v16::AuthorizationStatus::Invalid,
    };
    // A parent that 1.6 cannot say is left out: the answer matters more.
    let parent = verdict.parent.clone().filter(|parent| parent.chars().count() <= TOKEN_CHARACTERS_MAX);
    v16::IdTagInfo {
        status,
        expiry_date: verdict.expiry_ms.map(Timestamp::from_unix_millis),
        parent_id_tag: parent,
    }
}
