//! What may be sent to a station before it is accepted.

use crate::Version;
use std::fmt;

/// A station's registration, as far as it limits what we send (L06; OCPP 1.6 section 4.2; 2.x use cases B01–B03).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Registration {
    /// Everything may be sent. Also where nothing is known: a station that reconnects keeps its registration (L07).
    #[default]
    Accepted,
    /// Only configuration and information commands go out.
    Pending,
    /// Nothing goes out.
    Rejected,
}

impl Registration {
    /// Whether a CALL with this action may go to a station with this registration.
    #[must_use]
    pub fn allows(self, version: Version, action: &str) -> bool {
        match self {
            Self::Accepted => true,
            Self::Pending => while_pending(version).iter().any(|allowed| allowed.contains(&action)),
            Self::Rejected => false,
        }
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Accepted => "accepted",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
        })
    }
}

const fn while_pending(version: Version) -> &'static [&'static [&'static str]] {
    match version {
        Version::V16 => &[PENDING_ALL, PENDING_16],
        Version::V201 => &[PENDING_ALL, PENDING_2X],
        Version::V21 => &[PENDING_ALL, PENDING_2X, PENDING_21],
    }
}

/// In every version. Reset is among them because that is how a new configuration takes effect.
const PENDING_ALL: &[&str] = &[
    "CertificateSigned",
    "DeleteCertificate",
    "GetCompositeSchedule",
    "GetInstalledCertificateIds",
    "GetLocalListVersion",
    "GetLog",
    "InstallCertificate",
    "Reset",
    "TriggerMessage",
];

const PENDING_16: &[&str] =
    &["ChangeConfiguration", "ExtendedTriggerMessage", "GetConfiguration", "GetDiagnostics"];

const PENDING_2X: &[&str] = &[
    "ClearVariableMonitoring",
    "CustomerInformation",
    "GetBaseReport",
    "GetChargingProfiles",
    "GetDisplayMessages",
    "GetMonitoringReport",
    "GetReport",
    "GetTransactionStatus",
    "GetVariables",
    "SetMonitoringBase",
    "SetMonitoringLevel",
    "SetNetworkProfile",
    "SetVariableMonitoring",
    "SetVariables",
];

const PENDING_21: &[&str] = &["GetDERControl", "GetPeriodicEventStream", "GetTariffs"];

#[cfg(test)]
mod tests {
    use super::*;

    /// L06
    #[test]
    fn pending_lets_configuration_and_information_through_and_rejected_nothing() {
        use Version::{V16, V21, V201};
        for (version, action, allowed) in [
            (V16, "GetConfiguration", true),
            (V16, "ChangeConfiguration", true),
            (V16, "TriggerMessage", true),
            (V16, "GetVariables", false),
            (V16, "RemoteStartTransaction", false),
            (V16, "RemoteStopTransaction", false),
            (V16, "UnlockConnector", false),
            (V16, "getconfiguration", false),
            (V201, "GetVariables", true),
            (V201, "SetVariables", true),
            (V201, "GetBaseReport", true),
            (V201, "GetConfiguration", false),
            (V201, "RequestStartTransaction", false),
            (V201, "GetTariffs", false),
            (V21, "GetTariffs", true),
            (V21, "SetVariables", true),
            (V21, "RequestStopTransaction", false),
            (V21, "", false),
        ] {
            assert_eq!(Registration::Pending.allows(version, action), allowed, "{version} {action}");
            assert!(Registration::Accepted.allows(version, action), "{version} {action}");
            assert!(!Registration::Rejected.allows(version, action), "{version} {action}");
        }
    }
}
