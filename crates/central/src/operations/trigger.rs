//! Triggers: a station is asked to send a message now, and whether it then came.

use super::checked;
use crate::central::Central;
use bytestring::ByteString;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_rpc::{StationId, Version};
use tokio::sync::oneshot;

/// A call that asks a station for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trigger {
    /// TriggerMessage or ExtendedTriggerMessage.
    pub action: &'static str,
    /// Its payload.
    pub payload: String,
    /// The action that then should come.
    pub expected: String,
}

/// What only the extension of 1.6 can ask for.
const EXTENDED_ONLY: [&str; 2] = ["LogStatusNotification", "SignChargePointCertificate"];

impl Trigger {
    /// The call for a message in a version. `connector` is an EVSE in 2.x. `extended` is for 1.6: the extension's trigger
    /// also where the plain one would do.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn new(
        version: Version,
        message: &str,
        connector: Option<i64>,
        extended: bool,
    ) -> Result<Self, String> {
        let extended = version == Version::V16 && (extended || EXTENDED_ONLY.contains(&message));
        let (action, payload) = match version {
            Version::V16 => (
                if extended { "ExtendedTriggerMessage" } else { "TriggerMessage" },
                json!({"requestedMessage": message, "connectorId": connector}),
            ),
            // A status is that of a connector, so one of the EVSE's must be named.
            Version::V201 | Version::V21 => (
                "TriggerMessage",
                json!({
                    "requestedMessage": message,
                    "evse": connector.map(|evse| json!({
                        "id": evse,
                        "connectorId": (message == "StatusNotification").then_some(1),
                    })),
                }),
            ),
        };
        let expected = match message {
            "SignChargePointCertificate"
            | "SignChargingStationCertificate"
            | "SignV2GCertificate"
            | "SignV2G20Certificate"
            | "SignCombinedCertificate" => "SignCertificate",
            "FirmwareStatusNotification" if extended => "SignedFirmwareStatusNotification",
            other => other,
        };
        let payload = checked(action, payload, version)?;
        Ok(Self { action, payload, expected: expected.to_owned() })
    }
}

/// Who waits for a message of a station. Each entry lives as long as its [`Watch`].
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// So that a call costs one look at a number while nobody waits.
    count: AtomicUsize,
    waiting: Mutex<Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    number: usize,
    tenant: ByteString,
    station: StationId,
    action: String,
    came: Option<oneshot::Sender<()>>,
}

/// More may not wait at once; further ones are told that nothing came.
const WAITING_MAX: usize = 1_024;

impl Watches {
    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A station sent a message.
    pub(crate) fn heard(&self, tenant: &ByteString, station: &StationId, action: &str) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        for waiting in self.lock().iter_mut() {
            let is_meant =
                waiting.action == action && waiting.station == *station && waiting.tenant == *tenant;
            if is_meant && let Some(came) = waiting.came.take() {
                // Whoever waited may be gone.
                came.send(()).unwrap_or_default();
            }
        }
    }
}

/// Waits for one message of one station, from the moment when it was made. It may have come before it was sent for.
#[derive(Debug)]
pub struct Watch {
    watches: Arc<Watches>,
    number: usize,
    came: oneshot::Receiver<()>,
}

impl Watch {
    /// Returns when the message has come; never if it does not.
    pub async fn came(&mut self) {
        if (&mut self.came).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.watches.lock();
        waiting.retain(|waiting| waiting.number != self.number);
        self.watches.count.store(waiting.len(), Ordering::Relaxed);
    }
}

impl Central {
    /// Looks out for the next message of this action from a station.
    #[must_use]
    pub fn watch(&self, tenant: &str, station: &StationId, action: &str) -> Watch {
        let (sender, came) = oneshot::channel();
        let watches = Arc::clone(&self.0.watches);
        let mut waiting = watches.lock();
        let number = waiting.last().map_or(0, |last| last.number + 1);
        if waiting.len() < WAITING_MAX {
            waiting.push(Waiting {
                number,
                tenant: tenant.into(),
                station: station.clone(),
                action: action.to_owned(),
                came: Some(sender),
            });
        }
        watches.count.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        Watch { watches, number, came }
    }
}

#[cfg(test)]
mod tests {
    use super::Trigger;
    use switchboard_rpc::Version;

    #[test]
    fn the_call_and_what_should_come_depend_on_the_version() {
        for (version, message, connector, extended, action, payload, expected) in [
            (
                Version::V16,
                "StatusNotification",
                Some(1),
                false,
                "TriggerMessage",
                r#"{"connectorId":1,"requestedMessage":"StatusNotification"}"#,
                "StatusNotification",
            ),
            (
                Version::V16,
                "SignChargePointCertificate",
                None,
                false,
                "ExtendedTriggerMessage",
                r#"{"requestedMessage":"SignChargePointCertificate"}"#,
                "SignCertificate",
            ),
            (
                Version::V16,
                "FirmwareStatusNotification",
                None,
                true,
                "ExtendedTriggerMessage",
                r#"{"requestedMessage":"FirmwareStatusNotification"}"#,
                "SignedFirmwareStatusNotification",
            ),
            (
                Version::V201,
                "StatusNotification",
                Some(2),
                false,
                "TriggerMessage",
                r#"{"evse":{"connectorId":1,"id":2},"requestedMessage":"StatusNotification"}"#,
                "StatusNotification",
            ),
            (
                Version::V21,
                "MeterValues",
                Some(2),
                false,
                "TriggerMessage",
                r#"{"evse":{"id":2},"requestedMessage":"MeterValues"}"#,
                "MeterValues",
            ),
        ] {
            let trigger = Trigger::new(version, message, connector, extended).unwrap();
            assert_eq!((trigger.action, trigger.payload.as_str()), (action, payload), "{version} {message}");
            assert_eq!(trigger.expected, expected);
        }
        let error = Trigger::new(Version::V16, "TransactionEvent", None, false).unwrap_err();
        assert!(error.contains("requestedMessage"), "{error}");
    }
}
