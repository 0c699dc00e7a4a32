//! What may be said before the central system has accepted the station, and what the client answers by itself.

use bytestring::ByteString;
use serde_json::Value;
use std::collections::BTreeSet;
use switchboard_rpc::{ErrorCode, Version, connection::Called, frame};

/// How far the station is with the central system's consent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Registration {
    /// No BootNotification was answered since the start.
    #[default]
    Unknown,
    /// Everything may be sent. It stays so when the connection is lost and made again (L07).
    Accepted,
    /// Only the BootNotification may be sent, and what the central system has asked for.
    Pending,
    /// Nothing may be sent before the next BootNotification.
    Rejected,
}

/// What becomes of a call of the central system.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The application answers it.
    Pass,
    /// The client answers it, and then does this.
    Answer(bytes::Bytes, Option<Deed>),
    /// Nobody answers it.
    Silence,
}

/// What the client does for the central system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Boot,
    Heartbeat,
}

/// The gate in front of everything that is sent.
#[derive(Debug)]
pub(super) struct Gate {
    version: Version,
    registration: Registration,
    /// Actions that the central system has asked for while the station is pending.
    asked: BTreeSet<&'static str>,
    /// The call in the application's hand whose acceptance lets an action through.
    asking: Option<(u64, &'static str)>,
}

impl Gate {
    pub(super) const fn new(version: Version) -> Self {
        Self { version, registration: Registration::Unknown, asked: BTreeSet::new(), asking: None }
    }

    pub(super) const fn registration(&self) -> Registration {
        self.registration
    }

    pub(super) fn set(&mut self, registration: Registration) {
        self.registration = registration;
        self.asked.clear();
        self.asking = None;
    }

    /// Whether a call with this action may be sent now.
    pub(super) fn allows(&self, action: &str) -> bool {
        match self.registration {
            Registration::Accepted => true,
            Registration::Pending => self.asked.contains(action),
            Registration::Unknown | Registration::Rejected => false,
        }
    }

    /// What becomes of a call of the central system.
    pub(super) fn judge(&mut self, called: &Called) -> Verdict {
        let accepted = self.registration == Registration::Accepted;
        if self.registration == Registration::Rejected {
            return match self.version {
                // 1.6 section 4.2: it does not answer.
                Version::V16 => Verdict::Silence,
                // 2.0.1 B03.FR.08.
                Version::V201 | Version::V21 => Verdict::Answer(
                    frame::write_error(
                        &called.id,
                        ErrorCode::SecurityError,
                        "the station is not accepted",
                        b"{}",
                        self.version,
                    ),
                    None,
                ),
            };
        }
        match &*called.action {
            "TriggerMessage" | "ExtendedTriggerMessage" => self.triggered(called),
            // 1.6 section 4.2, 2.0.1 B02.FR.05: not before the station is accepted.
            "RemoteStartTransaction"
            | "RemoteStopTransaction"
            | "RequestStartTransaction"
            | "RequestStopTransaction"
                if !accepted =>
            {
                Verdict::Answer(status(called, "Rejected"), None)
            }
            // 2.0.1 B02.FR.02
            "GetBaseReport" | "GetReport" if !accepted => {
                self.asking = Some((called.seq, "NotifyReport"));
                Verdict::Pass
            }
            _ => Verdict::Pass,
        }
    }

    fn triggered(&mut self, called: &Called) -> Verdict {
        let request: Value = serde_json::from_str(&called.payload).unwrap_or_default();
        match request["requestedMessage"].as_str().unwrap_or_default() {
            // 2.0.1 F06.FR.17: not once it is accepted. 1.6 lets it.
            "BootNotification"
                if self.registration == Registration::Accepted && self.version != Version::V16 =>
            {
                Verdict::Answer(status(called, "Rejected"), None)
            }
            "BootNotification" => Verdict::Answer(status(called, "Accepted"), Some(Deed::Boot)),
            "Heartbeat" => Verdict::Answer(status(called, "Accepted"), Some(Deed::Heartbeat)),
            wanted => {
                if self.registration != Registration::Accepted
                    && let Some(action) = action_of(wanted)
                {
                    self.asking = Some((called.seq, action));
                }
                Verdict::Pass
            }
        }
    }

    /// The application answers a call.
    pub(super) fn answered(&mut self, seq: u64, answer: &ByteString) {
        if let Some((_, action)) = self.asking.take_if(|(asking, _)| *asking == seq)
            && let Ok(frame::Frame::Result { payload, .. }) = frame::Frame::parse(answer, self.version)
            && serde_json::from_str::<Value>(&payload).is_ok_and(|payload| payload["status"] == "Accepted")
        {
            self.asked.insert(action);
        }
    }
}

/// The action that a trigger asks for, where it may be sent by a pending station.
fn action_of(wanted: &str) -> Option<&'static str> {
    Some(match wanted {
        "DiagnosticsStatusNotification" => "DiagnosticsStatusNotification",
        "FirmwareStatusNotification" => "FirmwareStatusNotification",
        "LogStatusNotification" => "LogStatusNotification",
        "MeterValues" => "MeterValues",
        "PublishFirmwareStatusNotification" => "PublishFirmwareStatusNotification",
        "StatusNotification" => "StatusNotification",
        "TransactionEvent" => "TransactionEvent",
        "SignChargePointCertificate"
        | "SignChargingStationCertificate"
        | "SignV2GCertificate"
        | "SignV2G20Certificate"
        | "SignCombinedCertificate" => "SignCertificate",
        _ => return None,
    })
}

fn status(called: &Called, status: &str) -> bytes::Bytes {
    frame::write_result(&called.id, format!("{{\"status\":\"{status}\"}}").as_bytes())
}
