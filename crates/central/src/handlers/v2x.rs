//! OCPP 2.0.1 and 2.1: the messages that both have.
//!
//! This file is compiled twice, once as a part of each version, whose messages it calls `ocpp`. The types of the two
//! differ in what these handlers do not name, so that one text serves both; what differs in what they do is a function of
//! the version, in the file that this is a part of.

use super::super::call::{Answered, Call, Gate, notices, parts};
use super::super::readings::{Written, stamp_of};
use super::ocpp;
use crate::books::{Boot, Content, Event, EventKind, Ledger, Part, Status, TokenStatus, Verdict};
use crate::central::Central;
use switchboard_messages::{Message, Timestamp};
use switchboard_router::{CallError, Router, State};

/// As the books call it.
const VERSION: &str = ocpp::BootNotificationRequest::VERSION.as_str();

pub(crate) fn router() -> Router<Central> {
    Router::new()
        .on(boot)
        .on(heartbeat)
        .on(authorize)
        .on(transaction_event)
        .on(meter_values)
        .on(status)
        .on(data_transfer)
        .on(security_event)
        .on(firmware_status)
        .on(publish_firmware_status)
        .on(log_status)
        .on(reservation_status)
        .on(notify_event)
        .on(notify_report)
        .on(notify_monitoring_report)
        .on(notify_customer_information)
        .on(notify_display_messages)
        .on(report_charging_profiles)
        .on(notify_charging_limit)
        .on(cleared_charging_limit)
        .on(notify_ev_charging_needs)
        .on(notify_ev_charging_schedule)
        .on(sign_certificate)
        .on(get_15118_ev_certificate)
        .on(get_certificate_status)
}

async fn boot(
    State(central): State<Central>,
    call: Call,
    request: ocpp::BootNotificationRequest,
) -> Answered<ocpp::BootNotificationRequest> {
    let station = request.charging_station;
    let boot = Boot {
        version: VERSION,
        vendor: station.vendor_name,
        model: station.model,
        serial: station.serial_number,
        firmware: station.firmware_version,
        payload: call.payload.to_string(),
    };
    let otherwise = central.otherwise();
    let current_time = Timestamp::from_unix_millis(central.0.clock.now_ms());
    central
        .keep_boot(call, ocpp::BootNotificationRequest::ACTION, move |ledger| {
            let (status, interval) = ledger.boot(&boot, otherwise)?;
            let status = ocpp::RegistrationStatus::from(status.as_str());
            Ok(ocpp::BootNotificationResponse {
                current_time,
                interval,
                status,
                status_info: None,
                custom_data: None,
            })
        })
        .await
}

async fn heartbeat(
    State(central): State<Central>,
    call: Call,
    _request: ocpp::HeartbeatRequest,
) -> Result<ocpp::HeartbeatResponse, CallError> {
    central.heartbeat(ocpp::HeartbeatRequest::ACTION, call).await.map(ocpp::HeartbeatResponse::new)
}

async fn authorize(
    State(central): State<Central>,
    call: Call,
    request: ocpp::AuthorizeRequest,
) -> Result<ocpp::AuthorizeResponse, CallError> {
    let with_contract = request.certificate.is_some() || request.iso15118_certificate_hash_data.is_some();
    let token = request.id_token;
    let look = move |ledger: &Ledger<'_>| {
        if with_contract {
            // A contract is as good as its certificate, and nobody here can check one (C07).
            return Ok(Verdict::of(TokenStatus::Invalid));
        }
        ledger.verdict_of_type(&token.id_token, Some(token.r#type.as_str()))
    };
    let verdict = central.look_up(ocpp::AuthorizeRequest::ACTION, call, look).await?;
    let mut response = ocpp::AuthorizeResponse::new(id_token_info(&verdict));
    response.certificate_status =
        with_contract.then_some(ocpp::AuthorizeCertificateStatus::NoCertificateAvailable);
    Ok(response)
}

async fn transaction_event(
    State(central): State<Central>,
    call: Call,
    request: ocpp::TransactionEventRequest,
) -> Answered<ocpp::TransactionEventRequest> {
    let mut written = Written::find(&call.payload);
    let kind = match request.event_type {
        ocpp::TransactionEvent::Started => Some(EventKind::Started),
        ocpp::TransactionEvent::Updated => Some(EventKind::Updated),
        ocpp::TransactionEvent::Ended => Some(EventKind::Ended),
        ocpp::TransactionEvent::Unlisted(_) => None,
    };
    let (token, token_type) = match request.id_token {
        Some(token) => (Some(token.id_token), Some(token.r#type.as_str().to_owned())),
        None => (None, None),
    };
    let info = request.transaction_info;
    let at = written.at_or(request.timestamp);
    let event = kind.map(|kind| Event {
        offline: request.offline.unwrap_or(false),
        readings: written.readings.unwrap_or_default(),
        content: Content {
            transaction: info.transaction_id,
            seq: request.seq_no,
            kind,
            at,
            trigger: Some(request.trigger_reason.as_str().to_owned()),
            token,
            token_type,
            evse: request.evse.as_ref().map(|evse| evse.id),
            connector: request.evse.as_ref().and_then(|evse| evse.connector_id),
            charging_state: info.charging_state.map(|state| state.as_str().to_owned()),
            stopped_reason: info.stopped_reason.map(|reason| reason.as_str().to_owned()),
            remote_start: info.remote_start_id,
            reservation: request.reservation_id,
            details: written.details,
        },
    });
    central
        .keep::<ocpp::TransactionEventRequest>(Gate::NeverBooted, call, move |ledger, call| {
            let Some(event) = &event else {
                let action = ocpp::TransactionEventRequest::ACTION;
                ledger.unreadable(action, &call.payload, "/eventType: a known value", "{}")?;
                return Ok(ocpp::TransactionEventResponse::default());
            };
            Ok(event_answer(ledger.event(event)?.as_ref()))
        })
        .await
}

async fn meter_values(
    State(central): State<Central>,
    call: Call,
    request: ocpp::MeterValuesRequest,
) -> Answered<ocpp::MeterValuesRequest> {
    let readings = Written::find(&call.payload).readings.unwrap_or_default();
    let evse = request.evse_id;
    central
        .keep::<ocpp::MeterValuesRequest>(Gate::NeverBooted, call, move |ledger, _| {
            ledger.readings(0, evse, &readings)?;
            Ok(ocpp::MeterValuesResponse::default())
        })
        .await
}

async fn status(
    State(central): State<Central>,
    call: Call,
    request: ocpp::StatusNotificationRequest,
) -> Answered<ocpp::StatusNotificationRequest> {
    let status = Status {
        evse: request.evse_id,
        connector: request.connector_id,
        status: request.connector_status.as_str().to_owned(),
        at: Some(stamp_of(request.timestamp)),
        ..Status::default()
    };
    central
        .keep::<ocpp::StatusNotificationRequest>(Gate::Accepted, call, move |ledger, _| {
            ledger.status(&status)?;
            Ok(ocpp::StatusNotificationResponse::default())
        })
        .await
}

notices! {
    // No vendor's messages are known here. They are kept, so that one that should be can be looked at.
    data_transfer(_message: ocpp::DataTransferRequest) {
        natural: None,
        answer: ocpp::DataTransferResponse::new(ocpp::DataTransferStatus::UnknownVendorId),
    }
    security_event(message: ocpp::SecurityEventNotificationRequest) {
        natural: Some(format!(
            "{} {} {}",
            stamp_of(message.timestamp).us, message.r#type, message.tech_info.unwrap_or_default()
        )),
        answer: ocpp::SecurityEventNotificationResponse::default(),
    }
    firmware_status(_message: ocpp::FirmwareStatusNotificationRequest) {
        natural: None,
        answer: ocpp::FirmwareStatusNotificationResponse::default(),
    }
    publish_firmware_status(_message: ocpp::PublishFirmwareStatusNotificationRequest) {
        natural: None,
        answer: ocpp::PublishFirmwareStatusNotificationResponse::default(),
    }
    log_status(_message: ocpp::LogStatusNotificationRequest) {
        natural: None,
        answer: ocpp::LogStatusNotificationResponse::default(),
    }
    reservation_status(_message: ocpp::ReservationStatusUpdateRequest) {
        natural: None,
        answer: ocpp::ReservationStatusUpdateResponse::default(),
    }
    // The eventId inside is not unique for ever; the message as a whole is.
    notify_event(message: ocpp::NotifyEventRequest) {
        natural: Some(format!("{} {}", stamp_of(message.generated_at).us, message.seq_no)),
        answer: ocpp::NotifyEventResponse::default(),
    }
    notify_charging_limit(_message: ocpp::NotifyChargingLimitRequest) {
        natural: None,
        answer: ocpp::NotifyChargingLimitResponse::default(),
    }
    cleared_charging_limit(_message: ocpp::ClearedChargingLimitRequest) {
        natural: None,
        answer: ocpp::ClearedChargingLimitResponse::default(),
    }
    // Accepted or Processing would promise a schedule, and nobody here makes one.
    notify_ev_charging_needs(_message: ocpp::NotifyEVChargingNeedsRequest) {
        natural: None,
        answer: ocpp::NotifyEVChargingNeedsResponse::new(ocpp::NotifyEVChargingNeedsStatus::Rejected),
    }
    // The status says that the message was processed, which it was: it is kept. It approves of nothing.
    notify_ev_charging_schedule(message: ocpp::NotifyEVChargingScheduleRequest) {
        natural: Some(format!("{} {}", stamp_of(message.time_base).us, message.evse_id)),
        answer: ocpp::NotifyEVChargingScheduleResponse::new(ocpp::GenericStatus::Accepted),
    }
    // There is no certificate authority behind us: an Accepted would promise a certificate that never comes.
    sign_certificate(_message: ocpp::SignCertificateRequest) {
        natural: None,
        answer: ocpp::SignCertificateResponse::new(ocpp::GenericStatus::Rejected),
    }
    get_15118_ev_certificate(_message: ocpp::Get15118EVCertificateRequest) {
        natural: None,
        answer: ocpp::Get15118EVCertificateResponse::new(ocpp::Iso15118EVCertificateStatus::Failed, ""),
    }
    get_certificate_status(_message: ocpp::GetCertificateStatusRequest) {
        natural: None,
        answer: ocpp::GetCertificateStatusResponse::new(ocpp::GetCertificateStatus::Failed),
    }
}

parts! {
    // B02.FR.02: also while the registration is pending. The text names the first of these; what may be asked for while
    // it is pending (L06) must be possible to answer.
    notify_report(message: ocpp::NotifyReportRequest) Gate::Pending, Some(message.seq_no);
    notify_monitoring_report(message: ocpp::NotifyMonitoringReportRequest) Gate::Pending, Some(message.seq_no);
    notify_customer_information(message: ocpp::NotifyCustomerInformationRequest) Gate::Pending, Some(message.seq_no);
    notify_display_messages(message: ocpp::NotifyDisplayMessagesRequest) Gate::Pending, None;
    report_charging_profiles(message: ocpp::ReportChargingProfilesRequest) Gate::Pending, None;
}

/// The answer to a TransactionEvent.
pub(crate) fn event_answer(verdict: Option<&Verdict>) -> ocpp::TransactionEventResponse {
    ocpp::TransactionEventResponse {
        id_token_info: verdict.map(|verdict| Box::new(id_token_info(verdict))),
        ..ocpp::TransactionEventResponse::default()
    }
}

/// The type of a group: it is ours, and on no card.
const GROUP_TYPE: &str = "Central";

fn id_token_info(verdict: &Verdict) -> ocpp::IdTokenInfo {
    let status = match verdict.status {
        TokenStatus::Accepted => ocpp::AuthorizationStatus::Accepted,
        TokenStatus::Blocked => ocpp::AuthorizationStatus::Blocked,
        TokenStatus::Expired => ocpp::AuthorizationStatus::Expired,
        TokenStatus::Invalid => ocpp::AuthorizationStatus::Invalid,
        TokenStatus::ConcurrentTx => ocpp::AuthorizationStatus::ConcurrentTx,
        TokenStatus::Unknown => ocpp::AuthorizationStatus::Unknown,
    };
    let mut info = ocpp::IdTokenInfo::new(status);
    info.cache_expiry_date_time = verdict.expiry_ms.map(Timestamp::from_unix_millis);
    info.group_id_token = verdict
        .parent
        .as_ref()
        .map(|group| ocpp::IdToken::new(group.as_str(), super::token_type(GROUP_TYPE)));
    info
}
