//! Events that somebody should look at soon: security events, and what monitors of 2.1 call grave.

use super::follow::Said;
use super::{AlarmKind, Ledger};
use crate::store::StoreError;

/// The security events that stations must report at once, by the lists of the 1.6 security extension and of 2.x.
const CRITICAL: [&str; 9] = [
    "FirmwareUpdated",
    "SettingSystemTime",
    "StartupOfTheDevice",
    "ResetOrReboot",
    "SecurityLogWasCleared",
    "MemoryExhaustion",
    "TamperDetectionActivated",
    "MaintenanceLoginAccepted",
    "MaintenanceLoginFailed",
];

/// Those of them that are everyday life, and so no reason for an alarm: each boot would raise one.
const ROUTINE: [&str; 4] = ["FirmwareUpdated", "SettingSystemTime", "StartupOfTheDevice", "ResetOrReboot"];

/// Not critical by those lists, but nothing that happens to a station that is left in peace.
const SUSPICIOUS: [&str; 4] = [
    "AttemptedReplayAttacks",
    "InvalidFirmwareSignature",
    "InvalidFirmwareSigningCertificate",
    "ReconfigurationOfSecurityParameters",
];

/// 2.1: 0 danger, 1 hardware failure, 2 system failure, 3 critical.
const SEVERITY_GRAVE_MAX: i64 = 3;

/// Whether a station must report this security event at once.
pub(crate) fn is_critical(event: &str) -> bool {
    CRITICAL.contains(&event)
}

impl Ledger<'_> {
    pub(super) fn security_event(&self, said: &Said) -> Result<(), StoreError> {
        let event = said.text("type");
        let grave = is_critical(event) && !ROUTINE.contains(&event);
        if !grave && !SUSPICIOUS.contains(&event) {
            return Ok(());
        }
        let detail = match said.text("techInfo") {
            "" => format!("the station reported {event}"),
            info => format!("the station reported {event}: {info}"),
        };
        self.alarm(AlarmKind::SecurityEvent, event, &detail)
    }

    pub(super) fn station_events(&self, said: &Said) -> Result<(), StoreError> {
        for event in said.list("eventData") {
            let grave = event["severity"].as_i64().is_some_and(|severity| severity <= SEVERITY_GRAVE_MAX);
            if !grave || event["cleared"].as_bool() == Some(true) {
                continue;
            }
            let name = |of: &str| event[of]["name"].as_str().unwrap_or_default().to_owned();
            let subject = format!("{}.{}", name("component"), name("variable"));
            let value = event["actualValue"].as_str().unwrap_or_default();
            self.alarm(AlarmKind::StationEvent, &subject, &format!("{subject} is {value}"))?;
        }
        Ok(())
    }
}
