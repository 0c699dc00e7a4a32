//! What the station says: payloads in 1.6 and 2.0.1.

use super::{Charger, Entry, Kind, Purpose, Reason, Status};
use serde_json::{Value, json};
use switchboard_rpc::Version;

impl Charger {
    /// Action and payload of a message; none if there is nothing to say any more.
    pub(super) fn render(&self, purpose: &Purpose, now: super::Moment) -> Option<(&'static str, Value)> {
        let old = self.config.version == Version::V16;
        Some(match purpose {
            Purpose::Boot => ("BootNotification", self.boot_notification()),
            Purpose::Heartbeat => ("Heartbeat", json!({})),
            Purpose::Status { connector, status, unix_ms } => (
                "StatusNotification",
                if old {
                    status_v16(*connector, *status, *unix_ms)
                } else {
                    status_v201(*connector, *status, *unix_ms)
                },
            ),
            Purpose::Authorize { token, .. } => (
                "Authorize",
                if old {
                    json!({ "idTag": token })
                } else {
                    json!({ "idToken": id_token(token, "ISO14443") })
                },
            ),
            Purpose::Idle { connector } => {
                let meter_wh = self.connectors.iter().find(|one| one.id == *connector)?.meter_wh();
                let (name, value) = if old {
                    ("connectorId", meter_v16(meter_wh, None, now.unix_ms, "Trigger"))
                } else {
                    ("evseId", meter_v201(meter_wh, None, now.unix_ms, "Trigger"))
                };
                ("MeterValues", json!({ name: connector, "meterValue": [value] }))
            }
            Purpose::Billing => {
                let entry = self.billing.first(now.at)?;
                if old { self.bill_v16(entry) } else { self.bill_v201(entry) }
            }
        })
    }

    fn boot_notification(&self) -> Value {
        let serial = truncated(&self.config.id, 25);
        if self.config.version == Version::V16 {
            return json!({
                "chargePointVendor": "Switchboard",
                "chargePointModel": "Simulated 22",
                "chargePointSerialNumber": serial,
                "firmwareVersion": env!("CARGO_PKG_VERSION"),
            });
        }
        json!({
            "reason": self.boot.unwrap_or("Triggered"),
            "chargingStation": {
                "vendorName": "Switchboard",
                "model": "Simulated 22",
                "serialNumber": serial,
                "firmwareVersion": env!("CARGO_PKG_VERSION"),
            },
        })
    }

    fn bill_v16(&self, entry: &Entry) -> (&'static str, Value) {
        let (connector, token, id) = self
            .book(entry.transaction, |book| (book.connector, book.token.clone(), book.id.clone()))
            .unwrap_or_default();
        // Errata 3.18: whoever never learnt the id says -1.
        let id = id.and_then(|id| id.parse::<i64>().ok()).unwrap_or(-1);
        let timestamp = time(entry.unix_ms);
        match &entry.kind {
            Kind::Start { .. } => (
                "StartTransaction",
                json!({
                    "connectorId": connector,
                    "idTag": token,
                    "meterStart": entry.meter_wh,
                    "timestamp": timestamp,
                }),
            ),
            Kind::Meter { power_w, triggered } => {
                let context = if *triggered { "Trigger" } else { "Sample.Periodic" };
                (
                    "MeterValues",
                    json!({
                        "connectorId": connector,
                        "transactionId": id,
                        "meterValue": [meter_v16(entry.meter_wh, Some(*power_w), entry.unix_ms, context)],
                    }),
                )
            }
            Kind::Stop { reason } => (
                "StopTransaction",
                json!({
                    "transactionId": id,
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
                    },
                }),
            ),
        }
    }

    fn bill_v201(&self, entry: &Entry) -> (&'static str, Value) {
        let (connector, token, id) = self
            .book(entry.transaction, |book| (book.connector, book.token.clone(), book.id.clone()))
            .unwrap_or_default();
        let mut info = json!({ "transactionId": id });
        let mut event = json!({ "timestamp": time(entry.unix_ms), "seqNo": entry.seq_no });
        let (event_type, trigger, context, power) = match &entry.kind {
            Kind::Start { remote, token_type } => {
                info["chargingState"] = "Charging".into();
                if let Some(Some(remote_start_id)) = remote {
                    info["remoteStartId"] = (*remote_start_id).into();
                }
                event["idToken"] = id_token(&token, token_type);
                event["evse"] = json!({ "id": connector, "connectorId": 1 });
                let trigger = if remote.is_some() { "RemoteStart" } else { "Authorized" };
                ("Started", trigger, "Transaction.Begin", None)
            }
            Kind::Meter { power_w, triggered } => {
                info["chargingState"] = "Charging".into();
                let (trigger, context) = if *triggered {
                    ("Trigger", "Trigger")
                } else {
                    ("MeterValuePeriodic", "Sample.Periodic")
                };
                ("Updated", trigger, context, Some(*power_w))
            }
            Kind::Stop { reason } => {
                let (trigger, stopped) = match reason {
                    Reason::Local => ("StopAuthorized", "Local"),
                    Reason::Remote => ("RemoteStop", "Remote"),
                    Reason::DeAuthorized => ("Deauthorized", "DeAuthorized"),
                    Reason::SoftReset | Reason::HardReset => ("ResetCommand", "ImmediateReset"),
                    Reason::PowerLoss => ("AbnormalCondition", "PowerLoss"),
                };
                info["stoppedReason"] = stopped.into();
                ("Ended", trigger, "Transaction.End", None)
            }
        };
        event["eventType"] = event_type.into();
        event["triggerReason"] = trigger.into();
        event["transactionInfo"] = info;
        event["meterValue"] = json!([meter_v201(entry.meter_wh, power, entry.unix_ms, context)]);
        if entry.offline {
            event["offline"] = true.into();
        }
        ("TransactionEvent", event)
    }
}

fn status_v16(connector: u32, status: Status, unix_ms: i64) -> Value {
    json!({ "connectorId": connector, "errorCode": "NoError", "status": status.v16(), "timestamp": time(unix_ms) })
}

fn status_v201(evse: u32, status: Status, unix_ms: i64) -> Value {
    json!({ "evseId": evse, "connectorId": 1, "connectorStatus": status.v201(), "timestamp": time(unix_ms) })
}

/// In 1.6 every value is a text.
fn meter_v16(meter_wh: u64, power_w: Option<u64>, unix_ms: i64, context: &str) -> Value {
    let mut values = vec![json!({
        "value": meter_wh.to_string(),
        "context": context,
        "measurand": "Energy.Active.Import.Register",
        "unit": "Wh",
    })];
    if let Some(power_w) = power_w {
        values.push(json!({
            "value": power_w.to_string(),
            "context": context,
            "measurand": "Power.Active.Import",
            "unit": "W",
        }));
    }
    json!({ "timestamp": time(unix_ms), "sampledValue": values })
}

/// In 2.0.1 every value is a number.
fn meter_v201(meter_wh: u64, power_w: Option<u64>, unix_ms: i64, context: &str) -> Value {
    let mut values = vec![json!({
        "value": meter_wh,
        "context": context,
        "measurand": "Energy.Active.Import.Register",
        "unitOfMeasure": { "unit": "Wh" },
    })];
    if let Some(power_w) = power_w {
        values.push(json!({
            "value": power_w,
            "context": context,
            "measurand": "Power.Active.Import",
            "unitOfMeasure": { "unit": "W" },
        }));
    }
    json!({ "timestamp": time(unix_ms), "sampledValue": values })
}

fn id_token(token: &str, token_type: &str) -> Value {
    json!({ "idToken": token, "type": token_type })
}

/// RFC 3339 in UTC with at most three digits of fraction.
fn time(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

fn truncated(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
