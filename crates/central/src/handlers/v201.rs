//! OCPP 2.0.1.

use super::call::{Answered, Call, Gate};
use super::notices;
use super::readings::{Written, stamp_of};
use crate::books::{Boot, Content, Event, EventKind, Ledger, Part, Status, TokenStatus, Verdict};
use crate::central::{Central, registration_name};
use switchboard_messages::{Message, Timestamp, v201};
use switchboard_router::{CallError, Router, State};

pub(super) fn router() -> Router<Central> {
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
    request: v201::BootNotificationRequest,
) -> Answered<v201::BootNotificationRequest> {
    let station = request.charging_station;
    let boot = Boot {
        version: "2.0.1",
        vendor: station.vendor_name,
        model: station.model,
        serial: station.serial_number,
        firmware: station.firmware_version,
        payload: call.payload.to_string(),
    };
    let otherwise = registration_name(central.0.config.registration);
    let interval = central.0.config.interval_seconds();
    let current_time = Timestamp::from_unix_millis(central.0.clock.now_ms());
    central
        .keep_boot(call, v201::BootNotificationRequest::ACTION, move |ledger| {
            let status = v201::RegistrationStatus::from(ledger.boot(&boot, otherwise)?.as_str());
            Ok(v201::BootNotificationResponse {
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
    _request: v201::HeartbeatRequest,
) -> Result<v201::HeartbeatResponse, CallError> {
    central.heartbeat(v201::HeartbeatRequest::ACTION, call).await.map(v201::HeartbeatResponse::new)
}

async fn authorize(
    State(central): State<Central>,
    call: Call,
    request: v201::AuthorizeRequest,
) -> Result<v201::AuthorizeResponse, CallError> {
    let with_contract = request.certificate.is_some() || request.iso15118_certificate_hash_data.is_some();
    let token = request.id_token;
    let look = move |ledger: &Ledger<'_>| {
        if with_contract {
            // A contract is as good as its certificate, and nobody here can check one (C07).
            return Ok(Verdict::of(TokenStatus::Invalid));
        }
        ledger.verdict_of_type(&token.id_token, Some(token.r#type.as_str()))
    };
    let verdict = central.look_up(v201::AuthorizeRequest::ACTION, call, look).await?;
    let mut response = v201::AuthorizeResponse::new(id_token_info(&verdict));
    response.certificate_status =
        with_contract.then_some(v201::AuthorizeCertificateStatus::NoCertificateAvailable);
    Ok(response)
}

async fn transaction_event(
    State(central): State<Central>,
    call: Call,
    request: v201::TransactionEventRequest,
) -> Answered<v201::TransactionEventRequest> {
    let mut written = Written::find(&call.payload);
    let kind = match request.event_type {
        v201::TransactionEvent::Started => Some(EventKind::Started),
        v201::TransactionEvent::Updated => Some(EventKind::Updated),
        v201::TransactionEvent::Ended => Some(EventKind::Ended),
        v201::TransactionEvent::Unlisted(_) => None,
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
        },
    });
    central
        .keep::<v201::TransactionEventRequest>(Gate::NeverBooted, call, move |ledger, call| {
            let Some(event) = &event else {
                let action = v201::TransactionEventRequest::ACTION;
                ledger.unreadable(action, &call.payload, "/eventType: a known value", "{}")?;
                return Ok(v201::TransactionEventResponse::default());
            };
            Ok(event_answer(ledger.event(event)?.as_ref()))
        })
        .await
}

async fn meter_values(
    State(central): State<Central>,
    call: Call,
    request: v201::MeterValuesRequest,
) -> Answered<v201::MeterValuesRequest> {
    let readings = Written::find(&call.payload).readings.unwrap_or_default();
    let evse = request.evse_id;
    central
        .keep::<v201::MeterValuesRequest>(Gate::NeverBooted, call, move |ledger, _| {
            ledger.readings(0, evse, &readings)?;
            Ok(v201::MeterValuesResponse::default())
        })
        .await
}

async fn status(
    State(central): State<Central>,
    call: Call,
    request: v201::StatusNotificationRequest,
) -> Answered<v201::StatusNotificationRequest> {
    let status = Status {
        evse: request.evse_id,
        connector: request.connector_id,
        status: request.connector_status.as_str().to_owned(),
        at: Some(stamp_of(request.timestamp)),
        ..Status::default()
    };
    central
        .keep::<v201::StatusNotificationRequest>(Gate::Accepted, call, move |ledger, _| {
            ledger.status(&status)?;
            Ok(v201::StatusNotificationResponse::default())
        })
        .await
}

notices! {
    // No vendor's messages are known here. They are kept, so that one that should be can be looked at.
    data_transfer(_message: v201::DataTransferRequest) {
        natural: None,
        answer: v201::DataTransferResponse::new(v201::DataTransferStatus::UnknownVendorId),
    }
    security_event(message: v201::SecurityEventNotificationRequest) {
        natural: Some(format!(
            "{} {} {}",
            stamp_of(message.timestamp).us, message.r#type, message.tech_info.unwrap_or_default()
        )),
        answer: v201::SecurityEventNotificationResponse::default(),
    }
    firmware_status(_message: v201::FirmwareStatusNotificationRequest) {
        natural: None,
        answer: v201::FirmwareStatusNotificationResponse::default(),
    }
    publish_firmware_status(_message: v201::PublishFirmwareStatusNotificationRequest) {
        natural: None,
        answer: v201::PublishFirmwareStatusNotificationResponse::default(),
    }
    log_status(_message: v201::LogStatusNotificationRequest) {
        natural: None,
        answer: v201::LogStatusNotificationResponse::default(),
    }
    reservation_status(_message: v201::ReservationStatusUpdateRequest) {
        natural: None,
        answer: v201::ReservationStatusUpdateResponse::default(),
    }
    // The eventId inside is not unique for ever; the message as a whole is.
    notify_event(message: v201::NotifyEventRequest) {
        natural: Some(format!("{} {}", stamp_of(message.generated_at).us, message.seq_no)),
        answer: v201::NotifyEventResponse::default(),
    }
    notify_charging_limit(_message: v201::NotifyChargingLimitRequest) {
        natural: None,
        answer: v201::NotifyChargingLimitResponse::default(),
    }
    cleared_charging_limit(_message: v201::ClearedChargingLimitRequest) {
        natural: None,
        answer: v201::ClearedChargingLimitResponse::default(),
    }
    // Accepted or Processing would promise a schedule, and nobody here makes one.
    notify_ev_charging_needs(_message: v201::NotifyEVChargingNeedsRequest) {
        natural: None,
        answer: v201::NotifyEVChargingNeedsResponse::new(v201::NotifyEVChargingNeedsStatus::Rejected),
    }
    // The status says that the message was processed, which it was: it is kept. It approves of nothing.
    notify_ev_charging_schedule(message: v201::NotifyEVChargingScheduleRequest) {
        natural: Some(format!("{} {}", stamp_of(message.time_base).us, message.evse_id)),
        answer: v201::NotifyEVChargingScheduleResponse::new(v201::GenericStatus::Accepted),
    }
    // There is no certificate authority behind us: an Accepted would promise a certificate that never comes.
    sign_certificate(_message: v201::SignCertificateRequest) {
        natural: None,
        answer: v201::SignCertificateResponse::new(v201::GenericStatus::Rejected),
    }
    get_15118_ev_certificate(_message: v201::Get15118EVCertificateRequest) {
        natural: None,
        answer: v201::Get15118EVCertificateResponse::new(v201::Iso15118EVCertificateStatus::Failed, ""),
    }
    get_certificate_status(_message: v201::GetCertificateStatusRequest) {
        natural: None,
        answer: v201::GetCertificateStatusResponse::new(v201::GetCertificateStatus::Failed),
    }
}

/// A handler of a part of an answer to something that we asked.
macro_rules! parts {
    ($($name:ident($message:ident: $request:ty) $gate:expr, $number:expr;)*) => {
        $(async fn $name(
            State(central): State<Central>,
            call: Call,
            $message: $request,
        ) -> Answered<$request> {
            let part = Part {
                request: $message.request_id,
                number: $number,
                last: !$message.tbc.unwrap_or(false),
            };
            let keep = move |ledger: &Ledger<'_>, call: &Call| {
                ledger.report_part(<$request>::ACTION, &part, &call.payload)?;
                Ok(<<$request as switchboard_messages::Request>::Response>::default())
            };
            central.keep::<$request>($gate, call, keep).await
        })*
    };
}

parts! {
    // B02.FR.02: also while the registration is pending.
    notify_report(message: v201::NotifyReportRequest) Gate::Pending, Some(message.seq_no);
    notify_monitoring_report(message: v201::NotifyMonitoringReportRequest) Gate::Accepted, Some(message.seq_no);
    notify_customer_information(message: v201::NotifyCustomerInformationRequest) Gate::Accepted, Some(message.seq_no);
    notify_display_messages(message: v201::NotifyDisplayMessagesRequest) Gate::Accepted, None;
    report_charging_profiles(message: v201::ReportChargingProfilesRequest) Gate::Accepted, None;
}

/// The answer to a TransactionEvent.
pub(super) fn event_answer(verdict: Option<&Verdict>) -> v201::TransactionEventResponse {
    v201::TransactionEventResponse {
        id_token_info: verdict.map(|verdict| Box::new(id_token_info(verdict))),
        ..v201::TransactionEventResponse::default()
    }
}

fn id_token_info(verdict: &Verdict) -> v201::IdTokenInfo {
    let status = match verdict.status {
        TokenStatus::Accepted => v201::AuthorizationStatus::Accepted,
        TokenStatus::Blocked => v201::AuthorizationStatus::Blocked,
        TokenStatus::Expired => v201::AuthorizationStatus::Expired,
        TokenStatus::Invalid => v201::AuthorizationStatus::Invalid,
        TokenStatus::ConcurrentTx => v201::AuthorizationStatus::ConcurrentTx,
        TokenStatus::Unknown => v201::AuthorizationStatus::Unknown,
    };
    let mut info = v201::IdTokenInfo::new(status);
    info.cache_expiry_date_time = verdict.expiry_ms.map(Timestamp::from_unix_millis);
    info
}
