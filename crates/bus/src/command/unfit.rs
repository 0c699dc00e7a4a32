//! Answers of stations that are none: they get a CALLRESULTERROR (C12).

use crate::{Address, Bus, Envelope, Kind, Metadata, OutcomeKind, PublishError};
use bytestring::ByteString;
use std::future::Future as _;
use std::sync::Arc;
use std::task::{Context, Waker};
use switchboard_rpc::{ErrorCode, Frame, Version, frame::write_result_error};

/// Judges a station's answer: version, action and payload. Gives the code and the words of the objection, if there is one.
pub type Judge = fn(Version, &str, &[u8]) -> Option<(ErrorCode, String)>;

/// Objects to an outcome whose answer is not fit, towards the gateway whose connection it came from. For whoever reads
/// outcomes from an inbox; a [`Commander`](super::Commander) does it by itself.
///
/// Others may have the answer by then, and a station that hears of it late, or never, has lost nothing: so what cannot be
/// told is only logged.
pub fn object(bus: &Arc<dyn Bus>, judge: Judge, told: &Envelope) {
    let metadata = &told.metadata;
    // Only 2.1 has a way to say it.
    let (Some(OutcomeKind::Answered), Some(Version::V21)) = (metadata.outcome, metadata.version) else {
        return;
    };
    let (Some(connection), Some(action)) = (&metadata.connection, &metadata.action) else { return };
    let frame = ByteString::try_from(told.body.clone()).ok();
    let frame = frame.and_then(|text| Frame::parse(&text, Version::V21).ok());
    let Some(Frame::Result { id, payload }) = frame else { return };
    let Some((code, description)) = judge(Version::V21, action, payload.as_bytes()) else { return };
    tracing::warn!(station = ?metadata.station, %action, description, "the station's answer cannot be read");
    let mut report = Metadata::new(Kind::ResultError);
    report.tenant = metadata.tenant.clone();
    report.station.clone_from(&metadata.station);
    report.version = metadata.version;
    report.connection = Some(connection.clone());
    let envelope = Envelope::new(report, write_result_error(&id, code, &description, b""));
    let (bus, inbox) = (Arc::clone(bus), Address::Inbox(connection.gateway.clone()));
    let mut telling = Box::pin(async move {
        match bus.publish(inbox, envelope).await {
            // The gateway is gone, and the connection with it.
            Ok(()) | Err(PublishError::NobodyListens) => {}
            Err(error) => tracing::warn!(%error, "a CALLRESULTERROR could not be handed over"),
        }
    });
    if telling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        // A task polls it again at once, so that no wake-up is lost.
        drop(tokio::spawn(telling));
    }
}
