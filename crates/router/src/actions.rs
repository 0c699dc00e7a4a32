//! Which actions OCPP has, whoever sends them: what tells `NotSupported` from `NotImplemented` (V01).
//!
//! The list does not depend on which versions' types are compiled in, so that a refusal means the same in every build.

use switchboard_rpc::Version;

/// Whether this version has an action of this name, in either direction. Names are case-sensitive.
pub(crate) fn is_known(version: Version, action: &str) -> bool {
    let has = |names: &[&str]| names.binary_search(&action).is_ok();
    match version {
        Version::V16 => has(&V16),
        Version::V201 => has(&V201),
        Version::V21 => has(&V201) || has(&ADDED_BY_V21),
    }
}

/// 1.6 and its security extension.
#[rustfmt::skip]
const V16: [&str; 39] = [
    "Authorize", "BootNotification", "CancelReservation", "CertificateSigned", "ChangeAvailability",
    "ChangeConfiguration", "ClearCache", "ClearChargingProfile", "DataTransfer", "DeleteCertificate",
    "DiagnosticsStatusNotification", "ExtendedTriggerMessage", "FirmwareStatusNotification",
    "GetCompositeSchedule", "GetConfiguration", "GetDiagnostics", "GetInstalledCertificateIds",
    "GetLocalListVersion", "GetLog", "Heartbeat", "InstallCertificate", "LogStatusNotification",
    "MeterValues", "RemoteStartTransaction", "RemoteStopTransaction", "ReserveNow", "Reset",
    "SecurityEventNotification", "SendLocalList", "SetChargingProfile", "SignCertificate",
    "SignedFirmwareStatusNotification", "SignedUpdateFirmware", "StartTransaction", "StatusNotification",
    "StopTransaction", "TriggerMessage", "UnlockConnector", "UpdateFirmware",
];

/// 2.0.1; 2.1 has them all.
#[rustfmt::skip]
const V201: [&str; 64] = [
    "Authorize", "BootNotification", "CancelReservation", "CertificateSigned", "ChangeAvailability",
    "ClearCache", "ClearChargingProfile", "ClearDisplayMessage", "ClearVariableMonitoring",
    "ClearedChargingLimit", "CostUpdated", "CustomerInformation", "DataTransfer", "DeleteCertificate",
    "FirmwareStatusNotification", "Get15118EVCertificate", "GetBaseReport", "GetCertificateStatus",
    "GetChargingProfiles", "GetCompositeSchedule", "GetDisplayMessages", "GetInstalledCertificateIds",
    "GetLocalListVersion", "GetLog", "GetMonitoringReport", "GetReport", "GetTransactionStatus",
    "GetVariables", "Heartbeat", "InstallCertificate", "LogStatusNotification", "MeterValues",
    "NotifyChargingLimit", "NotifyCustomerInformation", "NotifyDisplayMessages", "NotifyEVChargingNeeds",
    "NotifyEVChargingSchedule", "NotifyEvent", "NotifyMonitoringReport", "NotifyReport", "PublishFirmware",
    "PublishFirmwareStatusNotification", "ReportChargingProfiles", "RequestStartTransaction",
    "RequestStopTransaction", "ReservationStatusUpdate", "ReserveNow", "Reset", "SecurityEventNotification",
    "SendLocalList", "SetChargingProfile", "SetDisplayMessage", "SetMonitoringBase", "SetMonitoringLevel",
    "SetNetworkProfile", "SetVariableMonitoring", "SetVariables", "SignCertificate", "StatusNotification",
    "TransactionEvent", "TriggerMessage", "UnlockConnector", "UnpublishFirmware", "UpdateFirmware",
];

/// What 2.1 has besides.
#[rustfmt::skip]
const ADDED_BY_V21: [&str; 27] = [
    "AFRRSignal", "AdjustPeriodicEventStream", "BatterySwap", "ChangeTransactionTariff", "ClearDERControl",
    "ClearTariffs", "ClosePeriodicEventStream", "GetCertificateChainStatus", "GetDERControl",
    "GetPeriodicEventStream", "GetTariffs", "NotifyAllowedEnergyTransfer", "NotifyDERAlarm",
    "NotifyDERStartStop", "NotifyPeriodicEventStream", "NotifyPriorityCharging", "NotifySettlement",
    "NotifyWebPaymentStarted", "OpenPeriodicEventStream", "PullDynamicScheduleUpdate", "ReportDERControl",
    "RequestBatterySwap", "SetDERControl", "SetDefaultTariff", "UpdateDynamicSchedule",
    "UsePriorityCharging", "VatNumberValidation",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_known_by_version_and_case() {
        for (version, action, known) in [
            (Version::V16, "BootNotification", true),
            (Version::V16, "bootNotification", false),
            (Version::V16, "Reset", true),
            (Version::V16, "SecurityEventNotification", true),
            (Version::V16, "TransactionEvent", false),
            (Version::V201, "TransactionEvent", true),
            (Version::V201, "StartTransaction", false),
            (Version::V201, "BatterySwap", false),
            (Version::V21, "BatterySwap", true),
            (Version::V21, "NotifyPeriodicEventStream", true),
            (Version::V21, "TransactionEvent", true),
            (Version::V21, "", false),
        ] {
            assert_eq!(is_known(version, action), known, "{version} {action}");
        }
    }

    #[test]
    fn the_lists_are_sorted_since_they_are_searched_by_halves() {
        for names in [&V16[..], &V201, &ADDED_BY_V21] {
            assert!(names.is_sorted(), "{names:?}");
        }
    }
}
