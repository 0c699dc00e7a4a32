//! What the schemas do not say, or say wrongly: corrections, names and directions. The files themselves stay as they
//! are.

use super::source::{Schema, Schemas};
use anyhow::{Context, Result};

/// Corrects the schemas of a version. Each correction also holds for copies that have it already.
pub(super) fn correct(version: &str, schemas: &mut Schemas) -> Result<()> {
    match version {
        "v16" => {
            // Errata sheet 3.84: frequency has no unit of its own; `Hertz` is what stations write. Both spellings of
            // Celsius are in use: the misspelt one is the specification's.
            let unit = member(schemas, "MeterValues", &["meterValue", "[]", "sampledValue", "[]", "unit"])?;
            add_values(unit, &["Celcius", "Celsius", "Hertz"]);
            let unit =
                member(schemas, "StopTransaction", &["transactionData", "[]", "sampledValue", "[]", "unit"])?;
            add_values(unit, &["Celcius", "Celsius"]);
        }
        "v201" => {
            // The edition 3 schema allows 5600 characters, which real certificate chains exceed.
            let response = member(schemas, "Get15118EVCertificateResponse", &["exiResponse"])?;
            response.max_length = response.max_length.max(Some(7500));
        }
        _ => {}
    }
    Ok(())
}

fn add_values(schema: &mut Schema, values: &[&str]) {
    let listed = schema.values.get_or_insert_default();
    for value in values {
        if !listed.iter().any(|known| known == value) {
            listed.push((*value).to_owned());
        }
    }
}

fn member<'a>(schemas: &'a mut Schemas, message: &str, path: &[&str]) -> Result<&'a mut Schema> {
    let missing = || format!("{message} has no {}", path.join("/"));
    let mut schema = schemas.get_mut(message).with_context(missing)?;
    for step in path {
        schema = match *step {
            "[]" => schema.items.as_deref_mut(),
            name => schema.properties.0.iter_mut().find(|(key, _)| key == name).map(|(_, found)| found),
        }
        .with_context(missing)?;
    }
    Ok(schema)
}

/// The name of a type that a 1.6 schema defines in place: the specification's, where `definitions` has none. `path` is
/// the message and the members down to it.
pub(super) fn inline_name(path: &[&str]) -> Option<&'static str> {
    let name = match path {
        [.., "idTagInfo"] => "IdTagInfo",
        [.., "idTagInfo", "status"] => "AuthorizationStatus",
        ["BootNotificationResponse", "status"] => "RegistrationStatus",
        ["CancelReservationResponse", "status"] => "CancelReservationStatus",
        ["ChangeAvailability", "type"] => "AvailabilityType",
        ["ChangeAvailabilityResponse", "status"] => "AvailabilityStatus",
        ["ChangeConfigurationResponse", "status"] => "ConfigurationStatus",
        ["ClearCacheResponse", "status"] => "ClearCacheStatus",
        ["ClearChargingProfileResponse", "status"] => "ClearChargingProfileStatus",
        ["DataTransferResponse", "status"] => "DataTransferStatus",
        ["DiagnosticsStatusNotification", "status"] => "DiagnosticsStatus",
        ["FirmwareStatusNotification", "status"] => "FirmwareStatus",
        ["GetCompositeScheduleResponse", "status"] => "GetCompositeScheduleStatus",
        ["GetConfigurationResponse", "configurationKey", "[]"] => "KeyValue",
        ["RemoteStartTransactionResponse" | "RemoteStopTransactionResponse", "status"] => {
            "RemoteStartStopStatus"
        }
        ["ReserveNowResponse", "status"] => "ReservationStatus",
        ["Reset", "type"] => "ResetType",
        ["ResetResponse", "status"] => "ResetStatus",
        ["SendLocalList", "localAuthorizationList", "[]"] => "AuthorizationData",
        ["SendLocalList", "updateType"] => "UpdateType",
        ["SendLocalListResponse", "status"] => "UpdateStatus",
        ["SetChargingProfileResponse", "status"] => "ChargingProfileStatus",
        ["StatusNotification", "errorCode"] => "ChargePointErrorCode",
        ["StatusNotification", "status"] => "ChargePointStatus",
        ["StopTransaction", "reason"] => "Reason",
        ["TriggerMessage", "requestedMessage"] => "MessageTrigger",
        ["TriggerMessageResponse", "status"] => "TriggerMessageStatus",
        ["UnlockConnectorResponse", "status"] => "UnlockStatus",
        [.., "csChargingProfiles" | "chargingProfile"] => "ChargingProfile",
        [.., "chargingSchedule"] => "ChargingSchedule",
        [.., "chargingSchedulePeriod", "[]"] => "ChargingSchedulePeriod",
        [.., "chargingProfilePurpose"] => "ChargingProfilePurpose",
        [.., "chargingProfileKind"] => "ChargingProfileKind",
        [.., "recurrencyKind"] => "RecurrencyKind",
        [.., "chargingRateUnit"] => "ChargingRateUnit",
        [.., "meterValue" | "transactionData", "[]"] => "MeterValue",
        [.., "sampledValue", "[]"] => "SampledValue",
        [.., "sampledValue", "[]", "context"] => "ReadingContext",
        [.., "sampledValue", "[]", "format"] => "ValueFormat",
        [.., "sampledValue", "[]", "measurand"] => "Measurand",
        [.., "sampledValue", "[]", "phase"] => "Phase",
        [.., "sampledValue", "[]", "location"] => "Location",
        [.., "sampledValue", "[]", "unit"] => "UnitOfMeasure",
        _ => return None,
    };
    Some(name)
}

/// The name of a type that `definitions` names otherwise in a version where the name is taken.
pub(super) fn defined_name(version: &str, definition: &str) -> Option<&'static str> {
    match (version, definition) {
        // The security extension defines these beside the core's, with other values.
        ("v16", "FirmwareStatusEnumType") => Some("SignedFirmwareStatus"),
        ("v16", "MessageTriggerEnumType") => Some("ExtendedMessageTrigger"),
        _ => None,
    }
}

/// Types whose messages differ in small things: 1.6 `MeterValues` asks for at least one sample and knows `Hertz`,
/// `StopTransaction` does not. They are one type all the same, read as the first message has it; the message that
/// differs is left to the check.
pub(super) const SHARED: [&str; 3] = ["MeterValue", "SampledValue", "UnitOfMeasure"];

/// The message whose shape a shared type has.
pub(super) const SHARED_FROM: &str = "MeterValues";

/// Members that no log should show: identities of people and secrets.
pub(super) fn is_secret(owner: &str, member: &str) -> bool {
    matches!(member, "idTag" | "parentIdTag" | "idToken" | "additionalIdToken" | "password" | "apnPassword")
        || matches!(
            (owner, member),
            ("ChangeConfigurationRequest", "value")
                | ("VPN", "key")
                | ("NetworkConnectionProfile", "basicAuthPassword")
                | ("SetVariableData" | "GetVariableResult", "attributeValue")
        )
}

/// Who sends an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Station,
    Csms,
    Either,
}

/// Who sends an action: the schemas do not say it.
pub(super) fn sender(version: &str, action: &str) -> Sender {
    let stations = match version {
        "v16" => STATION_16,
        "v201" => &STATION_201[..],
        _ => &STATION_21[..],
    };
    if action == "DataTransfer" {
        Sender::Either
    } else if stations.contains(&action) || (version == "v21" && STATION_201.contains(&action)) {
        Sender::Station
    } else {
        Sender::Csms
    }
}

/// Sent by the charge point: OCPP 1.6 section 4, security extension.
const STATION_16: &[&str] = &[
    "Authorize",
    "BootNotification",
    "DiagnosticsStatusNotification",
    "FirmwareStatusNotification",
    "Heartbeat",
    "LogStatusNotification",
    "MeterValues",
    "SecurityEventNotification",
    "SignCertificate",
    "SignedFirmwareStatusNotification",
    "StartTransaction",
    "StatusNotification",
    "StopTransaction",
];

/// Sent by the charging station: OCPP 2.0.1 part 2.
const STATION_201: [&str; 24] = [
    "Authorize",
    "BootNotification",
    "ClearedChargingLimit",
    "FirmwareStatusNotification",
    "Get15118EVCertificate",
    "GetCertificateStatus",
    "Heartbeat",
    "LogStatusNotification",
    "MeterValues",
    "NotifyChargingLimit",
    "NotifyCustomerInformation",
    "NotifyDisplayMessages",
    "NotifyEVChargingNeeds",
    "NotifyEVChargingSchedule",
    "NotifyEvent",
    "NotifyMonitoringReport",
    "NotifyReport",
    "PublishFirmwareStatusNotification",
    "ReportChargingProfiles",
    "ReservationStatusUpdate",
    "SecurityEventNotification",
    "SignCertificate",
    "StatusNotification",
    "TransactionEvent",
];

/// What 2.1 adds to those.
const STATION_21: [&str; 12] = [
    "BatterySwap",
    "ClosePeriodicEventStream",
    "GetCertificateChainStatus",
    "NotifyDERAlarm",
    "NotifyDERStartStop",
    "NotifyPeriodicEventStream",
    "NotifyPriorityCharging",
    "NotifySettlement",
    "OpenPeriodicEventStream",
    "PullDynamicScheduleUpdate",
    "ReportDERControl",
    "VatNumberValidation",
];
