//! What the central system asks of the station, and what it gets for an answer.

use super::{
    Charger, Moment, Purpose, Reason,
    billing::Cause,
    connector::{Consent, Guest},
    judge::judge,
};
use crate::model::configuration::{Changed, Configuration, Looked};
use serde_json::{Value, json};
use switchboard_rpc::{ErrorCode, Version};

/// What a CALL of the central system is answered with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// A CALLRESULT with this payload.
    Result(Value),
    /// A CALLERROR.
    Error(ErrorCode, String),
}

/// Who is to charge, by a command.
struct RemoteStart<'a> {
    token: String,
    token_type: &'a str,
    /// The id that the command carries in 2.x.
    id: Option<i64>,
    profile: Option<Value>,
}

impl Charger {
    /// Does what is asked and gives the answer. What follows from it is sent after the answer.
    pub(crate) fn handle_called(&mut self, action: &str, payload: &[u8], now: Moment) -> Reply {
        self.config.statistics.commanded();
        if let Err(error) = judge(self.config.version, action, payload) {
            return error;
        }
        let request: Value = serde_json::from_slice(payload).unwrap_or_default();
        let answer = match self.config.version {
            Version::V16 => self.called_v16(action, &request, now),
            Version::V201 | Version::V21 => self.called_v2(action, &request, now),
        };
        match answer {
            Some(mut answer) => {
                for quirk in &self.config.quirks {
                    quirk.spoil_answer(self.config.version, action, &mut answer);
                }
                Reply::Result(answer)
            }
            None => Reply::Error(ErrorCode::NotSupported, format!("this station does not do {action}")),
        }
    }

    /// None: not supported.
    fn called_v16(&mut self, action: &str, request: &Value, now: Moment) -> Option<Value> {
        let connector = number(&request["connectorId"]);
        Some(match action {
            "RemoteStartTransaction" => {
                let start = RemoteStart {
                    token: text(&request["idTag"]),
                    token_type: "ISO14443",
                    id: None,
                    profile: request.get("chargingProfile").cloned(),
                };
                accepted_if(self.remote_start(connector, start, now).is_some())
            }
            "RemoteStopTransaction" => {
                let id = request["transactionId"].as_i64().map(|id| id.to_string()).unwrap_or_default();
                accepted_if(self.remote_stop(&id, now))
            }
            "Reset" => {
                let hard = request["type"] == "Hard";
                self.end_all(if hard { Reason::HardReset } else { Reason::SoftReset }, now);
                self.restart("RemoteReset", now);
                json!({ "status": "Accepted" })
            }
            "TriggerMessage" | "ExtendedTriggerMessage" => {
                let wanted = request["requestedMessage"].as_str().unwrap_or_default();
                json!({ "status": self.trigger(wanted, connector, now) })
            }
            "GetConfiguration" => self.get_configuration(request),
            "ChangeConfiguration" => {
                let (key, value) = (request["key"].as_str()?, request["value"].as_str()?);
                let changed = self.settings.set_v16(key, value);
                if changed == Changed::Accepted {
                    self.setting_changed(Configuration::key(key), now);
                }
                json!({ "status": match changed {
                    Changed::Accepted => "Accepted",
                    Changed::Rejected => "Rejected",
                    Changed::Unknown => "NotSupported",
                }})
            }
            "ChangeAvailability" => {
                let operative = request["type"] == "Operative";
                json!({ "status": self.change_availability(connector.filter(|id| *id > 0), operative, now)? })
            }
            "ReserveNow" => {
                let (id, token) = (request["reservationId"].as_i64()?, text(&request["idTag"]));
                let connector = connector.filter(|id| *id > 0);
                json!({ "status": self.reserve(id, token, connector, &request["expiryDate"], now) })
            }
            "CancelReservation" => {
                accepted_if(self.cancel_reservation(request["reservationId"].as_i64()?, now))
            }
            "UnlockConnector" => json!({ "status": self.unlock(connector, now) }),
            "GetLocalListVersion" => json!({ "listVersion": self.list_version() }),
            "SendLocalList" => json!({ "status": self.update_list(request) }),
            "SetChargingProfile" => {
                let profile = &request["csChargingProfiles"];
                accepted_if(self.set_profile(connector?, profile, now).is_ok())
            }
            "ClearChargingProfile" => json!({ "status": self.clear_profiles_v16(request, now) }),
            "GetCompositeSchedule" => self.composite_v16(request, now),
            "GetDiagnostics" => self.diagnostics(request, now),
            "GetLog" => self.log(request, now),
            "UpdateFirmware" => self.firmware_v16(request, now),
            "SignedUpdateFirmware" => self.firmware_signed("SignedFirmwareStatusNotification", request, now),
            "ClearCache" => {
                self.list.clear_cache();
                json!({ "status": "Accepted" })
            }
            "DataTransfer" => json!({ "status": "UnknownVendorId" }),
            _ => return None,
        })
    }

    /// None: not supported.
    fn called_v2(&mut self, action: &str, request: &Value, now: Moment) -> Option<Value> {
        Some(match action {
            "RequestStartTransaction" => {
                let start = RemoteStart {
                    token: text(&request["idToken"]["idToken"]),
                    token_type: request["idToken"]["type"].as_str().unwrap_or("Central"),
                    id: request["remoteStartId"].as_i64(),
                    profile: request.get("chargingProfile").cloned(),
                };
                match self.remote_start(number(&request["evseId"]), start, now) {
                    Some(Some(id)) => json!({ "status": "Accepted", "transactionId": id }),
                    Some(None) => json!({ "status": "Accepted" }),
                    None => json!({ "status": "Rejected" }),
                }
            }
            "RequestStopTransaction" => {
                accepted_if(self.remote_stop(request["transactionId"].as_str().unwrap_or_default(), now))
            }
            "Reset" => {
                let busy = self.connectors.iter().any(|connector| connector.session.is_some());
                if request["type"] == "OnIdle" && busy {
                    self.reset_when_idle = true;
                    json!({ "status": "Scheduled" })
                } else {
                    self.end_all(Reason::HardReset, now);
                    self.restart("RemoteReset", now);
                    json!({ "status": "Accepted" })
                }
            }
            "TriggerMessage" => {
                let wanted = request["requestedMessage"].as_str().unwrap_or_default();
                json!({ "status": self.trigger(wanted, number(&request["evse"]["id"]), now) })
            }
            "GetVariables" => {
                let results: Vec<Value> =
                    request["getVariableData"].as_array()?.iter().map(|one| self.get_variable(one)).collect();
                json!({ "getVariableResult": results })
            }
            "SetVariables" => {
                let results: Vec<Value> = request["setVariableData"]
                    .as_array()?
                    .iter()
                    .map(|one| self.set_variable(one, now))
                    .collect();
                json!({ "setVariableResult": results })
            }
            "GetTransactionStatus" => self.transaction_status(request["transactionId"].as_str()),
            "ChangeAvailability" => {
                let operative = request["operationalStatus"] == "Operative";
                let evse = number(&request["evse"]["id"]);
                json!({ "status": self.change_availability(evse, operative, now)? })
            }
            "GetBaseReport" => self.base_report(request, now),
            "GetReport" => self.report(request, now),
            "ReserveNow" => {
                let (id, token) = (request["id"].as_i64()?, text(&request["idToken"]["idToken"]));
                let evse = number(&request["evseId"]);
                json!({ "status": self.reserve(id, token, evse, &request["expiryDateTime"], now) })
            }
            "CancelReservation" => {
                accepted_if(self.cancel_reservation(request["reservationId"].as_i64()?, now))
            }
            "UnlockConnector" => json!({ "status": match self.unlock(number(&request["evseId"]), now) {
                "NotSupported" => "UnknownConnector",
                other => other,
            }}),
            "GetLocalListVersion" => json!({ "versionNumber": self.list_version() }),
            "SendLocalList" => {
                let status = self.update_list(request);
                json!({ "status": if status == "NotSupported" { "Failed" } else { status } })
            }
            "SetChargingProfile" => {
                match self.set_profile(number(&request["evseId"])?, &request["chargingProfile"], now) {
                    Ok(()) => json!({ "status": "Accepted" }),
                    Err(reason) => json!({ "status": "Rejected", "statusInfo": {
                        "reasonCode": "InvalidProfile", "additionalInfo": reason } }),
                }
            }
            "ClearChargingProfile" => json!({ "status": self.clear_profiles_v2(request, now) }),
            "GetChargingProfiles" => self.report_profiles(request),
            "GetCompositeSchedule" => self.composite_v2(request, now),
            "GetLog" => self.log(request, now),
            "UpdateFirmware" => self.firmware_signed("FirmwareStatusNotification", request, now),
            "GetMonitoringReport" => json!({ "status": "NotSupported" }),
            "SetMonitoringBase" => json!({ "status": "NotSupported" }),
            "CostUpdated" => json!({}),
            "GetPeriodicEventStream" => self.streams(),
            "AdjustPeriodicEventStream" => self.adjust_stream(request),
            "UsePriorityCharging" => self.use_priority(request, now),
            "ClearCache" => {
                self.list.clear_cache();
                json!({ "status": "Accepted" })
            }
            "DataTransfer" => json!({ "status": "UnknownVendorId" }),
            _ => return None,
        })
    }

    /// Begins to charge, or lets the driver who comes; none if it cannot, else the id of the transaction if the station
    /// has made one.
    fn remote_start(
        &mut self,
        connector: Option<u32>,
        start: RemoteStart<'_>,
        now: Moment,
    ) -> Option<Option<String>> {
        if self.client.is_ending() {
            return None;
        }
        let asks = self.settings.is_on("AuthorizeRemoteTxRequests");
        // A driver comes a while after the command; where nobody plays drivers the car is there.
        let comes = self.config.scenario.as_ref().map(|scenario| scenario.session.hesitate_seconds);
        let wait = comes.map(|seconds| {
            let seconds = crate::scenario::between(seconds, &mut self.random);
            self.pace.real(std::time::Duration::from_secs_f64(seconds))
        });
        let free = self
            .connectors
            .iter_mut()
            .filter(|one| connector.is_none_or(|id| id == one.id) && one.is_free_for(&start.token))
            // Where a car waits already, before where none does.
            .min_by_key(|one| one.guest.is_none())?;
        let id = free.id;
        free.token = start.token;
        free.token_type = known_type(start.token_type);
        let guest = free.guest.get_or_insert_with(|| Box::new(Guest::new(wait.is_none())));
        guest.remote = Some(start.id);
        guest.shows_at = None;
        guest.profile = start.profile.map(Box::new);
        if !guest.plugged {
            guest.plugs_at = wait.map(|wait| now.at + wait);
        }
        if asks {
            guest.consent = Consent::Asked;
            let token = free.token.clone();
            self.push(Purpose::Authorize { connector: id, token });
            return Some(None);
        }
        let before = self.next_transaction;
        self.consented(id, now);
        let begun = self.next_transaction > before;
        Some(begun.then(|| self.book(self.next_transaction, |book| book.id.clone()).flatten()).flatten())
    }

    fn remote_stop(&mut self, id: &str, now: Moment) -> bool {
        let here = self.connectors.iter().find_map(|connector| {
            let number = connector.transaction()?;
            self.book(number, |book| book.id.as_deref() == Some(id))?.then_some(connector.id)
        });
        if let Some(connector) = here {
            self.end(connector, Reason::Remote, now);
        }
        here.is_some()
    }

    fn trigger(&mut self, wanted: &str, connector: Option<u32>, now: Moment) -> &'static str {
        let ids: Vec<u32> = match connector.filter(|id| *id > 0) {
            Some(id) if self.connectors.iter().all(|one| one.id != id) => return "Rejected",
            Some(id) => vec![id],
            None => self.connectors.iter().map(|one| one.id).collect(),
        };
        let old = self.config.version == Version::V16;
        match wanted {
            "StatusNotification" => {
                for id in ids {
                    if let Some(status) = self.connector(id).map(|one| one.status) {
                        self.push(Purpose::Status { connector: id, status, unix_ms: now.unix_ms });
                    }
                }
            }
            "MeterValues" => {
                for id in ids {
                    let busy = self.connectors.iter().any(|one| one.id == id && one.session.is_some());
                    // 2.x tells the meters of transactions in TransactionEvents.
                    if busy && old {
                        self.read_meter(id, Cause::Trigger, now);
                    } else {
                        self.push_idle(id);
                    }
                }
            }
            "TransactionEvent" if !old => {
                for id in ids {
                    self.read_meter(id, Cause::Trigger, now);
                }
            }
            "DiagnosticsStatusNotification" => {
                self.notice("DiagnosticsStatusNotification", json!({ "status": "Idle" }));
            }
            "FirmwareStatusNotification" => {
                self.notice("FirmwareStatusNotification", json!({ "status": "Idle" }));
            }
            "LogStatusNotification" => self.notice("LogStatusNotification", json!({ "status": "Idle" })),
            _ => return "NotImplemented",
        }
        "Accepted"
    }

    /// None: a connector that does not exist, which only an error can say.
    fn change_availability(
        &mut self,
        connector: Option<u32>,
        operative: bool,
        now: Moment,
    ) -> Option<&'static str> {
        let ids: Vec<u32> = match connector {
            Some(id) => vec![self.connector(id)?.id],
            None => self.connectors.iter().map(|one| one.id).collect(),
        };
        let mut later = false;
        for id in ids {
            let one = self.connector(id)?;
            let busy = one.session.is_some() || one.guest.is_some();
            one.closes = !operative && busy;
            if operative || !busy {
                one.operative = operative;
            }
            later |= one.closes;
            self.refresh(id, now);
        }
        Some(if later { "Scheduled" } else { "Accepted" })
    }

    fn unlock(&mut self, connector: Option<u32>, now: Moment) -> &'static str {
        let Some(id) = connector.filter(|id| self.connectors.iter().any(|one| one.id == *id)) else {
            return "NotSupported";
        };
        let charging = self.connectors.iter().any(|one| one.id == id && one.session.is_some());
        if charging && self.config.version != Version::V16 {
            // 2.0.1 F05.FR.02: not while an authorized transaction goes on. 1.6 ends it first.
            return "OngoingAuthorizedTransaction";
        }
        self.end(id, Reason::Unlock, now);
        "Unlocked"
    }

    fn get_configuration(&self, request: &Value) -> Value {
        let asked: Vec<&str> =
            request["key"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let names: Vec<&str> = if asked.is_empty() { self.settings.names().collect() } else { asked };
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for name in names {
            match self.settings.get_v16(name) {
                Looked::Value { value, readonly } => {
                    known.push(json!({ "key": name, "readonly": readonly, "value": value }));
                }
                Looked::WriteOnly => known.push(json!({ "key": name, "readonly": false })),
                Looked::Unknown => unknown.push(json!(name)),
            }
        }
        let mut answer = json!({ "configurationKey": known });
        if !unknown.is_empty() {
            answer["unknownKey"] = unknown.into();
        }
        answer
    }

    fn get_variable(&self, one: &Value) -> Value {
        let (component, variable) = (&one["component"], &one["variable"]);
        let mut answer = json!({ "component": component, "variable": variable });
        let actual = one["attributeType"].as_str().is_none_or(|kind| kind == "Actual");
        let (name, instance) = (text(&variable["name"]), text(&variable["instance"]));
        let looked = match self.evse_variable(component, &name) {
            Some(value) => Looked::Value { value, readonly: true },
            None => self.settings.get_v2(&text(&component["name"]), &name, &instance),
        };
        answer["attributeStatus"] = match looked {
            Looked::Value { value, .. } if actual => {
                answer["attributeValue"] = value.into();
                "Accepted"
            }
            Looked::Value { .. } => "NotSupportedAttributeType",
            Looked::WriteOnly => "Rejected",
            Looked::Unknown => unknown(component),
        }
        .into();
        answer
    }

    fn set_variable(&mut self, one: &Value, now: Moment) -> Value {
        let (component, variable) = (&one["component"], &one["variable"]);
        let value = one["attributeValue"].as_str().unwrap_or_default();
        let (name, instance) = (text(&variable["name"]), text(&variable["instance"]));
        let actual = one["attributeType"].as_str().is_none_or(|kind| kind == "Actual");
        let status = if self.evse_variable(component, &name).is_some() {
            "Rejected"
        } else if !actual {
            "NotSupportedAttributeType"
        } else {
            match self.settings.set_v2(&text(&component["name"]), &name, &instance, value) {
                Changed::Accepted => {
                    let key = Configuration::key_of(&text(&component["name"]), &name, &instance);
                    self.setting_changed(key, now);
                    "Accepted"
                }
                Changed::Rejected => "Rejected",
                Changed::Unknown => unknown(component),
            }
        };
        json!({ "component": component, "variable": variable, "attributeStatus": status })
    }

    fn transaction_status(&self, id: Option<&str>) -> Value {
        let Some(id) = id else { return json!({ "messagesInQueue": self.client.unbilled() > 0 }) };
        let number = self.untold.iter().find(|one| one.name == id).map(|one| one.number);
        let ongoing =
            number.is_some_and(|number| self.connectors.iter().any(|one| one.transaction() == Some(number)));
        json!({ "ongoingIndicator": ongoing, "messagesInQueue": self.client.holds(id) })
    }

    /// A setting was changed, by its name in 1.6, and takes effect.
    fn setting_changed(&mut self, key: &str, now: Moment) {
        match key {
            "HeartbeatInterval" => {
                if let Some(interval) = self.settings.seconds(key) {
                    self.client.set_heartbeat_interval(interval, now.at);
                }
            }
            "MeterValueSampleInterval" => {
                self.reads_as_told = true;
                let every = self.reads_every();
                for session in self.connectors.iter_mut().filter_map(|one| one.session.as_mut()) {
                    session.read_every = every.unwrap_or(session.read_every);
                    session.next_reading = now.at + session.read_every;
                }
            }
            "ClockAlignedDataInterval" => self.set_clock(now),
            "TransactionMessageAttempts" | "TransactionMessageRetryInterval" => {
                let attempts = self.settings.text("TransactionMessageAttempts").parse().unwrap_or(1).max(1);
                let interval = self.settings.seconds("TransactionMessageRetryInterval").unwrap_or_default();
                self.client.set_message_retries(attempts, interval);
            }
            "WebSocketPingInterval" => {
                self.client.set_ping_interval(self.settings.seconds(key).unwrap_or_default(), now.at);
            }
            "AuthorizationKey" => {
                // From the next connection on, as the specification wants it.
                self.client.set_password(self.settings.take_password());
            }
            _ => {}
        }
    }
}

fn unknown(component: &Value) -> &'static str {
    let name = component["name"].as_str().unwrap_or_default();
    if Configuration::has_component(name) { "UnknownVariable" } else { "UnknownComponent" }
}

fn accepted_if(accepted: bool) -> Value {
    json!({ "status": if accepted { "Accepted" } else { "Rejected" } })
}

/// The kinds of tokens that this station knows, so that none has to be kept as a text of its own.
fn known_type(name: &str) -> &'static str {
    ["Central", "eMAID", "ISO14443", "ISO15693", "KeyCode", "Local", "MacAddress", "NoAuthorization"]
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("Central")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}
