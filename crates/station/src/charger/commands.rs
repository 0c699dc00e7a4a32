//! What the central system asks of the station, and what it gets for an answer.

use super::{
    Charger, Moment, Purpose, Reason, Registration, Status,
    judge::judge,
    keys::{Changed, Looked},
};
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

impl Charger {
    /// Does what is asked and gives the answer. What follows from it is sent after the answer.
    pub(crate) fn handle_called(&mut self, action: &str, payload: &[u8], now: Moment) -> Reply {
        if let Err(error) = judge(self.config.version, action, payload) {
            return error;
        }
        if self.registration == Registration::Rejected {
            // 2.0.1 B03.FR.08. A 1.6 station would not answer at all, which helps nobody.
            return Reply::Error(ErrorCode::SecurityError, "the station is not accepted".to_owned());
        }
        let request: Value = serde_json::from_slice(payload).unwrap_or_default();
        match self.config.version {
            Version::V16 => self.called_v16(action, &request, now),
            Version::V201 | Version::V21 => self.called_v201(action, &request, now),
        }
        .map_or_else(
            || Reply::Error(ErrorCode::NotSupported, format!("this station does not do {action}")),
            Reply::Result,
        )
    }

    /// None: not supported.
    fn called_v16(&mut self, action: &str, request: &Value, now: Moment) -> Option<Value> {
        let connector = request["connectorId"].as_u64().and_then(|id| u32::try_from(id).ok());
        Some(match action {
            "RemoteStartTransaction" => {
                let token = request["idTag"].as_str().unwrap_or_default().to_owned();
                accepted_if(self.remote_start(connector, token, "ISO14443", None, now).is_some())
            }
            "RemoteStopTransaction" => {
                let id = request["transactionId"].as_i64().map(|id| id.to_string()).unwrap_or_default();
                accepted_if(self.remote_stop(&id, now))
            }
            "Reset" => {
                let (reason, why) = match request["type"].as_str() {
                    Some("Hard") => (Reason::HardReset, "RemoteReset"),
                    _ => (Reason::SoftReset, "RemoteReset"),
                };
                self.end_all(reason, now);
                self.restart(why, now);
                json!({ "status": "Accepted" })
            }
            "TriggerMessage" => {
                let wanted = request["requestedMessage"].as_str().unwrap_or_default();
                json!({ "status": self.trigger(wanted, connector, now) })
            }
            "GetConfiguration" => self.get_configuration(request),
            "ChangeConfiguration" => {
                let (key, value) = (request["key"].as_str()?, request["value"].as_str()?);
                let changed = self.keys.set_v16(key, value);
                self.settings_changed(now);
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
            "ClearCache" => json!({ "status": "Accepted" }),
            "UnlockConnector" => {
                if let Some(id) = connector {
                    self.end(id, Reason::Local, now);
                }
                json!({ "status": "Unlocked" })
            }
            "DataTransfer" => json!({ "status": "UnknownVendorId" }),
            _ => return None,
        })
    }

    /// None: not supported.
    fn called_v201(&mut self, action: &str, request: &Value, now: Moment) -> Option<Value> {
        let evse = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        Some(match action {
            "RequestStartTransaction" => {
                let token = request["idToken"]["idToken"].as_str().unwrap_or_default().to_owned();
                let token_type = request["idToken"]["type"].as_str().unwrap_or("Central");
                let remote_start_id = request["remoteStartId"].as_i64();
                match self.remote_start(evse(&request["evseId"]), token, token_type, remote_start_id, now) {
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
                json!({ "status": self.trigger(wanted, evse(&request["evse"]["id"]), now) })
            }
            "GetVariables" => {
                let results: Vec<Value> =
                    request["getVariableData"].as_array()?.iter().map(|one| self.get_variable(one)).collect();
                json!({ "getVariableResult": results })
            }
            "SetVariables" => {
                let results: Vec<Value> =
                    request["setVariableData"].as_array()?.iter().map(|one| self.set_variable(one)).collect();
                self.settings_changed(now);
                json!({ "setVariableResult": results })
            }
            "GetTransactionStatus" => self.transaction_status(request["transactionId"].as_str()),
            "ChangeAvailability" => {
                let operative = request["operationalStatus"] == "Operative";
                json!({ "status": self.change_availability(evse(&request["evse"]["id"]), operative, now)? })
            }
            "GetBaseReport" => json!({ "status": "NotSupported" }),
            "ClearCache" => json!({ "status": "Accepted" }),
            "UnlockConnector" => {
                if let Some(id) = evse(&request["evseId"]) {
                    self.end(id, Reason::Local, now);
                }
                json!({ "status": "Unlocked" })
            }
            "DataTransfer" => json!({ "status": "UnknownVendorId" }),
            _ => return None,
        })
    }

    /// Begins to charge; none if it cannot, else the id of the transaction if the station makes it.
    fn remote_start(
        &mut self,
        connector: Option<u32>,
        token: String,
        token_type: &str,
        remote_start_id: Option<i64>,
        now: Moment,
    ) -> Option<Option<String>> {
        if self.registration != Registration::Accepted || self.finish.is_some() {
            // 1.6 section 4.2, 2.0.1 B02.FR.05: not before the station is accepted.
            return None;
        }
        let free = self.connectors.iter_mut().find(|one| {
            connector.is_none_or(|id| id == one.id)
                && one.session.is_none()
                && !one.authorizing
                && one.status == Status::Available
        })?;
        let id = free.id;
        free.token = token;
        token_type.clone_into(&mut free.token_type);
        self.begin(id, Some(remote_start_id), now);
        Some(self.book(self.next_transaction, |book| book.id.clone()).flatten())
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
        match wanted {
            // 2.0.1 F06.FR.17: not once it is accepted. 1.6 lets it.
            "BootNotification" if self.config.version != Version::V16 && self.boot.is_none() => {
                return "Rejected";
            }
            "BootNotification" => self.boot_at = Some(now.at),
            "Heartbeat" => self.push(Purpose::Heartbeat),
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
                    // 2.0.1 tells the meters of transactions in TransactionEvents.
                    if busy && self.config.version == Version::V16 {
                        self.read_meter(id, true, now);
                    } else {
                        self.push(Purpose::Idle { connector: id });
                    }
                }
            }
            "TransactionEvent" if self.config.version != Version::V16 => {
                for id in ids {
                    self.read_meter(id, true, now);
                }
            }
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
        let mut busy = false;
        for id in ids {
            let status = self.connector(id)?.status;
            match (operative, status) {
                (true, Status::Unavailable) => self.set_status(id, Status::Available, now),
                (false, Status::Available) => self.set_status(id, Status::Unavailable, now),
                (false, Status::Preparing | Status::Charging | Status::Finishing) => busy = true,
                (true, _) | (false, Status::Unavailable) => {}
            }
        }
        // Where a car is, nothing is changed: this station cannot remember what was scheduled.
        Some(if busy { "Rejected" } else { "Accepted" })
    }

    fn get_configuration(&self, request: &Value) -> Value {
        let asked: Vec<&str> =
            request["key"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let names: Vec<&str> = if asked.is_empty() { self.keys.names().collect() } else { asked };
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for name in names {
            match self.keys.get_v16(name) {
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
        let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
        let actual = one["attributeType"].as_str().is_none_or(|kind| kind == "Actual");
        let looked = self.keys.get_v201(&name(component), &name(variable));
        answer["attributeStatus"] = match looked {
            Looked::Value { value, .. } if actual => {
                answer["attributeValue"] = value.into();
                "Accepted"
            }
            Looked::Value { .. } => "NotSupportedAttributeType",
            Looked::WriteOnly => "Rejected",
            Looked::Unknown => "UnknownVariable",
        }
        .into();
        answer
    }

    fn set_variable(&mut self, one: &Value) -> Value {
        let (component, variable) = (&one["component"], &one["variable"]);
        let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
        let value = one["attributeValue"].as_str().unwrap_or_default();
        let status = match self.keys.set_v201(&name(component), &name(variable), value) {
            Changed::Accepted => "Accepted",
            Changed::Rejected => "Rejected",
            Changed::Unknown => "UnknownVariable",
        };
        json!({ "component": component, "variable": variable, "attributeStatus": status })
    }

    fn transaction_status(&self, id: Option<&str>) -> Value {
        let Some(id) = id else { return json!({ "messagesInQueue": self.billing.len() > 0 }) };
        let books = self.books.lock();
        let number = books
            .transactions
            .iter()
            .find(|(_, book)| book.id.as_deref() == Some(id))
            .map(|(number, _)| *number);
        let ongoing =
            number.is_some_and(|number| self.connectors.iter().any(|one| one.transaction() == Some(number)));
        json!({ "ongoingIndicator": ongoing, "messagesInQueue": number.is_some_and(|number| self.billing.holds(number)) })
    }

    /// Takes over intervals that may have been changed.
    fn settings_changed(&mut self, now: Moment) {
        if let Some(interval) = self.keys.heartbeat()
            && interval != self.heartbeat_every
        {
            self.heartbeat_every = interval;
            self.heartbeat_at = Some(now.at + interval);
        }
        if let Some(interval) = self.keys.meter_interval() {
            self.config.meter_interval = interval;
        }
    }
}

fn accepted_if(accepted: bool) -> Value {
    json!({ "status": if accepted { "Accepted" } else { "Rejected" } })
}
