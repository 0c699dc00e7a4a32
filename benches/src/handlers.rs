//! Handlers that do nothing but answer: what is left is the cost of reading, validating, calling and writing.

use std::time::SystemTime;
use switchboard_messages::{Timestamp, v16};
use switchboard_router::{CallError, Router};

/// Typed handlers for the calls that the benchmark sends.
pub fn router() -> Router {
    Router::new().on(boot).on(start).on(meter_values).on(heartbeat).on(status_notification)
}

async fn boot(_: v16::BootNotificationRequest) -> Result<v16::BootNotificationResponse, CallError> {
    Ok(v16::BootNotificationResponse::new(v16::RegistrationStatus::Accepted, now(), 300))
}

async fn start(_: v16::StartTransactionRequest) -> Result<v16::StartTransactionResponse, CallError> {
    Ok(v16::StartTransactionResponse::new(v16::IdTagInfo::new(v16::AuthorizationStatus::Accepted), 170_042))
}

async fn meter_values(_: v16::MeterValuesRequest) -> Result<v16::MeterValuesResponse, CallError> {
    Ok(v16::MeterValuesResponse::default())
}

async fn heartbeat(_: v16::HeartbeatRequest) -> Result<v16::HeartbeatResponse, CallError> {
    Ok(v16::HeartbeatResponse::new(now()))
}

async fn status_notification(
    _: v16::StatusNotificationRequest,
) -> Result<v16::StatusNotificationResponse, CallError> {
    Ok(v16::StatusNotificationResponse::default())
}

#[expect(clippy::disallowed_methods, reason = "a handler that tells the time reads the clock")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
