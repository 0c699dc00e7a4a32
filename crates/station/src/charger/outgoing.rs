//! What the station says: payloads in 1.6 and 2.x.

use super::{
    Charger, Connector, Entry, Kind, Moment, Purpose, Reason, Status,
    billing::{Cause, Sample},
};
use crate::{Config, model::vehicle::VOLTS};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use switchboard_rpc::Version;

impl Charger {
    /// Action and payload of a message; none if there is nothing to say any more.
    pub(super) fn render(&self, purpose: &Purpose, now: Moment) -> Option<(&'static str, Value)> {
        let old = self.config.version == Version::V16;
        Some(match purpose {
            Purpose::Status { connector, status, unix_ms } => (
                "StatusNotification",
                if old {
                    let broken = |one: &&Connector| one.id == *connector;
                    let code = self.connectors.iter().find(broken).and_then(|one| one.broken);
                    status_v16(*connector, *status, code.map_or("NoError", |(code, _)| code), *unix_ms)
                } else {
                    status_v2(*connector, *status, *unix_ms)
                },
            ),
            Purpose::Authorize { token, connector } => (
                "Authorize",
                if old {
                    json!({ "idTag": token })
                } else {
                    let here = self.connectors.iter().find(|one| one.id == *connector);
                    json!({ "idToken": id_token(token, here.map_or("ISO14443", |one| one.token_type)) })
                },
            ),
            Purpose::Idle { connector, cause } => {
                let meter_wh = self.connectors.iter().find(|one| one.id == *connector)?.meter_wh();
                let name = if old { "connectorId" } else { "evseId" };
                let value = self.meter(meter_wh, None, now.unix_ms, context(*cause));
                ("MeterValues", json!({ name: connector, "meterValue": [value] }))
            }
            Purpose::Notice { action, payload } => (*action, (**payload).clone()),
        })
    }

    /// In 1.6 its client puts the `transactionId` in.
    pub(super) fn bill_v16(&self, entry: &Entry) -> (&'static str, Value) {
        let (connector, token) =
            self.book(entry.transaction, |book| (book.connector, book.token.clone())).unwrap_or_default();
        let timestamp = time(entry.unix_ms);
        match &entry.kind {
            Kind::Start { reservation, .. } => {
                let mut start = json!({
                    "connectorId": connector,
                    "idTag": token,
                    "meterStart": entry.meter_wh,
                    "timestamp": timestamp,
                });
                if let Some(reservation) = reservation {
                    start["reservationId"] = (*reservation).into();
                }
                ("StartTransaction", start)
            }
            Kind::Meter { sample, cause } => {
                let value =
                    self.meter(entry.meter_wh, Some((sample, *cause)), entry.unix_ms, context(*cause));
                ("MeterValues", json!({ "connectorId": connector, "meterValue": [value] }))
            }
            // 1.6 tells it in the status, which is no billing message.
            Kind::State { .. } | Kind::Limit { .. } => ("StatusNotification", json!({})),
            Kind::Stop { reason } => {
                let mut stop = json!({
                    "idTag": token,
                    "meterStop": entry.meter_wh,
                    "timestamp": timestamp,
                    "reason": match reason {
                        Reason::Local => "Local",
                        Reason::Remote => "Remote",
                        Reason::DeAuthorized => "DeAuthorized",
                        Reason::SoftReset => "SoftReset",
                        Reason::HardReset => "HardReset",
                        Reason::PowerLoss => "PowerLoss",
                        Reason::Fault { .. } => "Other",
                        Reason::Unlock => "UnlockCommand",
                        Reason::Reboot => "Reboot",
                    },
                });
                if !self.settings.text("StopTxnSampledData").is_empty() {
                    let value = self.meter(entry.meter_wh, None, entry.unix_ms, "Transaction.End");
                    stop["transactionData"] = json!([value]);
                }
                ("StopTransaction", stop)
            }
        }
    }

    pub(super) fn bill_v2(&self, entry: &Entry) -> (&'static str, Value) {
        let (connector, token, id) = self
            .book(entry.transaction, |book| (book.connector, book.token.clone(), book.id.clone()))
            .unwrap_or_default();
        let mut info = json!({ "transactionId": id });
        let mut event = json!({ "timestamp": time(entry.unix_ms), "seqNo": entry.seq_no });
        let (event_type, trigger, context, sample) = match &entry.kind {
            Kind::Start { remote, token_type, reservation, limit_wh } => {
                info["chargingState"] = "Charging".into();
                if self.config.version == Version::V21 {
                    info["operationMode"] = "ChargingOnly".into();
                }
                if let Some(limit_wh) = limit_wh {
                    info["transactionLimit"] = json!({ "maxEnergy": limit_wh });
                }
                if let Some(Some(remote_start_id)) = remote {
                    info["remoteStartId"] = (*remote_start_id).into();
                }
                event["idToken"] = id_token(&token, token_type);
                event["evse"] = json!({ "id": connector, "connectorId": 1 });
                if let Some(reservation) = reservation {
                    event["reservationId"] = (*reservation).into();
                }
                let trigger = if remote.is_some() { "RemoteStart" } else { "Authorized" };
                ("Started", trigger, "Transaction.Begin", None)
            }
            Kind::Meter { sample, cause } => {
                info["chargingState"] = if sample.power_w > 0 { "Charging" } else { "SuspendedEV" }.into();
                let trigger = match cause {
                    Cause::Periodic => "MeterValuePeriodic",
                    Cause::Clock => "MeterValueClock",
                    Cause::Trigger => "Trigger",
                };
                ("Updated", trigger, context(*cause), Some((sample, *cause)))
            }
            Kind::State { state, trigger } => {
                info["chargingState"] = (*state).into();
                ("Updated", *trigger, "Other", None)
            }
            Kind::Limit { most_wh } => {
                info["transactionLimit"] = json!({ "maxEnergy": most_wh });
                ("Updated", "LimitSet", "Other", None)
            }
            Kind::Stop { reason } => {
                let (trigger, stopped) = match reason {
                    Reason::Local => ("StopAuthorized", "Local"),
                    Reason::Remote => ("RemoteStop", "Remote"),
                    Reason::DeAuthorized => ("Deauthorized", "DeAuthorized"),
                    Reason::SoftReset | Reason::HardReset => ("ResetCommand", "ImmediateReset"),
                    Reason::PowerLoss => ("AbnormalCondition", "PowerLoss"),
                    Reason::Fault { ground: true } => ("AbnormalCondition", "GroundFault"),
                    Reason::Fault { ground: false } => ("AbnormalCondition", "Other"),
                    Reason::Unlock => ("UnlockCommand", "Remote"),
                    Reason::Reboot => ("AbnormalCondition", "Reboot"),
                };
                info["stoppedReason"] = stopped.into();
                ("Ended", trigger, "Transaction.End", None)
            }
        };
        event["eventType"] = event_type.into();
        event["triggerReason"] = trigger.into();
        event["transactionInfo"] = info;
        event["meterValue"] = json!([self.meter(entry.meter_wh, sample, entry.unix_ms, context)]);
        ("TransactionEvent", event)
    }

    /// What is told of a reading beside the energy: measurand, value, unit.
    fn measured(&self, sample: &Sample, cause: Cause) -> Vec<(&'static str, f64, &'static str)> {
        let key = if cause == Cause::Clock { "MeterValuesAlignedData" } else { "MeterValuesSampledData" };
        let wanted = self.settings.text(key);
        let is_wanted = |name: &str| wanted.split(',').any(|one| one.trim() == name);
        #[expect(clippy::cast_precision_loss, reason = "powers are far below 2^53")]
        let all = [
            Some(("Power.Active.Import", sample.power_w as f64, "W")),
            Some(("Current.Import", sample.current_a, "A")),
            Some(("Voltage", VOLTS, "V")),
            sample.soc.map(|soc| ("SoC", f64::from(soc), "Percent")),
            Some(("Power.Offered", sample.offered_w as f64, "W")),
        ];
        all.into_iter().flatten().filter(|(name, ..)| is_wanted(name)).collect()
    }

    /// In 1.6 every value is a text, in 2.x a number.
    fn meter(&self, meter_wh: u64, sample: Option<(&Sample, Cause)>, unix_ms: i64, context: &str) -> Value {
        let old = self.config.version == Version::V16;
        let value = |text: String, number: Value, measurand: &str, unit: &str| {
            let mut value = json!({ "context": context, "measurand": measurand });
            if old {
                value["value"] = text.into();
                value["unit"] = unit.into();
            } else {
                value["value"] = number;
                value["unitOfMeasure"] = json!({ "unit": unit });
            }
            value
        };
        let energy = value(meter_wh.to_string(), meter_wh.into(), "Energy.Active.Import.Register", "Wh");
        let measured = sample.map_or_else(Vec::new, |(sample, cause)| self.measured(sample, cause));
        let others = measured
            .into_iter()
            .map(|(name, number, unit)| value(number.to_string(), number.into(), name, unit));
        let values: Vec<Value> = std::iter::once(energy).chain(others).collect();
        json!({ "timestamp": time(unix_ms), "sampledValue": values })
    }
}

/// The BootNotification for this reason.
pub(super) fn boot_notification(config: &Config, reason: &str) -> String {
    let serial = truncated(&config.id, 25);
    let payload = if config.version == Version::V16 {
        json!({
            "chargePointVendor": "Switchboard",
            "chargePointModel": "Simulated 22",
            "chargePointSerialNumber": serial,
            "firmwareVersion": env!("CARGO_PKG_VERSION"),
        })
    } else {
        json!({
            "reason": reason,
            "chargingStation": {
                "vendorName": "Switchboard",
                "model": "Simulated 22",
                "serialNumber": serial,
                "firmwareVersion": env!("CARGO_PKG_VERSION"),
            },
        })
    };
    payload.to_string()
}

const fn context(cause: Cause) -> &'static str {
    match cause {
        Cause::Periodic => "Sample.Periodic",
        Cause::Clock => "Sample.Clock",
        Cause::Trigger => "Trigger",
    }
}

fn status_v16(connector: u32, status: Status, code: &str, unix_ms: i64) -> Value {
    json!({ "connectorId": connector, "errorCode": code, "status": status.v16(), "timestamp": time(unix_ms) })
}

fn status_v2(evse: u32, status: Status, unix_ms: i64) -> Value {
    json!({ "evseId": evse, "connectorId": 1, "connectorStatus": status.v2(), "timestamp": time(unix_ms) })
}

fn id_token(token: &str, token_type: &str) -> Value {
    json!({ "idToken": token, "type": token_type })
}

/// RFC 3339 in UTC with at most three digits of fraction.
pub(crate) fn time(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// The instant of a time that a message names.
pub(super) fn instant(value: &Value, now: Moment) -> Option<Instant> {
    let wait = crate::model::profile::time(value)? - now.unix_ms;
    Some(now.at + Duration::from_millis(u64::try_from(wait).unwrap_or_default().min(86_400_000 * 366)))
}

fn truncated(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
