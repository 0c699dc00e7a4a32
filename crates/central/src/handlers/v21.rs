//! OCPP 2.1: what it shares with 2.0.1, and what is new in it.

use super::call::{Answered, Call, Gate, notices, parts};
use super::readings::stamp_of;
use crate::books::{Ledger, Part, Stamp};
use crate::central::Central;
use switchboard_messages::{Message, NoResponse, Timestamp, v21 as ocpp};
use switchboard_router::{Router, State};

#[path = "v2x.rs"]
#[allow(clippy::duplicate_mod, reason = "one text for both versions; see there")]
mod shared;

pub(super) use shared::event_answer;

/// The type of a token by its name, which is all that there is of it in 2.1.
const fn token_type(name: &str) -> &str {
    name
}

pub(super) fn router() -> Router<Central> {
    shared::router()
        .on(battery_swap)
        .on(close_periodic_event_stream)
        .on(get_certificate_chain_status)
        .on(notify_der_alarm)
        .on(notify_der_start_stop)
        .on(notify_periodic_event_stream)
        .on(notify_priority_charging)
        .on(notify_settlement)
        .on(open_periodic_event_stream)
        .on(pull_dynamic_schedule_update)
        .on(report_der_control)
        .on(vat_number_validation)
}

notices! {
    battery_swap(message: ocpp::BatterySwapRequest) {
        // One swap is told twice, as the batteries go in and as they come out.
        natural: Some(format!("{} {}", message.request_id, message.event_type)),
        answer: ocpp::BatterySwapResponse::default(),
    }
    notify_der_alarm(message: ocpp::NotifyDERAlarmRequest) {
        natural: Some(format!(
            "{} {} {} {}",
            stamp_of(message.timestamp).us,
            message.control_type,
            message.grid_event_fault.map(|fault| fault.to_string()).unwrap_or_default(),
            message.alarm_ended.unwrap_or(false),
        )),
        answer: ocpp::NotifyDERAlarmResponse::default(),
    }
    notify_der_start_stop(message: ocpp::NotifyDERStartStopRequest) {
        natural: Some(format!("{} {} {}", stamp_of(message.timestamp).us, message.control_id, message.started)),
        answer: ocpp::NotifyDERStartStopResponse::default(),
    }
    notify_priority_charging(_message: ocpp::NotifyPriorityChargingRequest) {
        natural: None,
        answer: ocpp::NotifyPriorityChargingResponse::default(),
    }
    notify_settlement(message: ocpp::NotifySettlementRequest) {
        natural: Some(format!(
            "{} {} {}",
            stamp_of(message.settlement_time).us, message.status, message.psp_ref
        )),
        answer: ocpp::NotifySettlementResponse::default(),
    }
    // Nobody here makes use of a stream, but nothing is lost by taking it: what comes is kept.
    open_periodic_event_stream(_message: ocpp::OpenPeriodicEventStreamRequest) {
        natural: None,
        answer: ocpp::OpenPeriodicEventStreamResponse::new(ocpp::GenericStatus::Accepted),
    }
    close_periodic_event_stream(_message: ocpp::ClosePeriodicEventStreamRequest) {
        natural: None,
        answer: ocpp::ClosePeriodicEventStreamResponse::default(),
    }
    // Nobody here makes dynamic schedules.
    pull_dynamic_schedule_update(_message: ocpp::PullDynamicScheduleUpdateRequest) {
        natural: None,
        answer: ocpp::PullDynamicScheduleUpdateResponse::new(ocpp::ChargingProfileStatus::Rejected),
    }
    // No register of VAT numbers is asked: an Accepted would put an unchecked number on a receipt.
    vat_number_validation(message: ocpp::VatNumberValidationRequest) {
        natural: None,
        answer: ocpp::VatNumberValidationResponse {
            evse_id: message.evse_id,
            ..ocpp::VatNumberValidationResponse::new(message.vat_number.clone(), ocpp::GenericStatus::Rejected)
        },
    }
}

/// A SEND, which has no key: one that is handed over again says the same of the same time.
async fn notify_periodic_event_stream(
    State(central): State<Central>,
    call: Call,
    message: ocpp::NotifyPeriodicEventStreamRequest,
) -> Answered<ocpp::NotifyPeriodicEventStreamRequest> {
    // The stand-in of a time is a digest of its text.
    let digest = Stamp::new(&*call.payload, None).us;
    let natural = format!("{} {} {digest:x}", stamp_of(message.basetime).us, message.id);
    central
        .keep::<ocpp::NotifyPeriodicEventStreamRequest>(Gate::Accepted, call, move |ledger, call| {
            let action = ocpp::NotifyPeriodicEventStreamRequest::ACTION;
            ledger.notice(action, Some(&natural), &call.payload)?;
            Ok(NoResponse)
        })
        .await
}

/// No certificate is checked here: each is answered with that, and may be asked for again at once.
async fn get_certificate_chain_status(
    State(central): State<Central>,
    call: Call,
    request: ocpp::GetCertificateChainStatusRequest,
) -> Answered<ocpp::GetCertificateChainStatusRequest> {
    let next_update = Timestamp::from_unix_millis(central.0.clock.now_ms());
    central
        .keep::<ocpp::GetCertificateChainStatusRequest>(Gate::Accepted, call, move |ledger, call| {
            ledger.notice(ocpp::GetCertificateChainStatusRequest::ACTION, None, &call.payload)?;
            let failed = |asked: &ocpp::CertificateStatusRequestInfo| {
                ocpp::CertificateStatus::new(
                    asked.certificate_hash_data.clone(),
                    asked.source.clone(),
                    ocpp::CertificateStatusEnum::Failed,
                    next_update,
                )
            };
            let statuses = request.certificate_status_requests.iter().map(failed).collect();
            Ok(ocpp::GetCertificateChainStatusResponse::new(statuses))
        })
        .await
}

parts! {
    report_der_control(message: ocpp::ReportDERControlRequest) Gate::Pending, None;
}
