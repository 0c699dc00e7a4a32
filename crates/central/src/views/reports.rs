//! What reports, the device model and events look like from outside.

use super::When;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An answer that comes in parts, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReportState {
    /// Which station.
    pub station: String,
    /// In which message its parts come.
    pub action: String,
    /// The requestId.
    pub request: i64,
    /// What was asked for: `full`, `configuration`, `summary`, `monitoring`, `profiles`; none if nobody here asked.
    pub base: Option<String>,
    /// How far it is: `requested`, `receiving`, `complete`, `refused`, `empty`, `tooLarge`.
    pub state: &'static str,
    /// The same in words: which parts are missing.
    pub detail: String,
    /// How many parts are there.
    pub parts: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// When it was asked for.
    pub requested_at: Option<When>,
    /// When the last news of it came.
    pub last_at: When,
    /// When it was complete.
    pub completed_at: Option<When>,
}

/// A report with what is in it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WholeReport {
    /// Which it is, and how far.
    #[serde(flatten)]
    pub report: ReportState,
    /// The parts that are there, in order, as the station sent them.
    pub payloads: Vec<Box<RawValue>>,
}

/// A variable of a station's device model (2.x).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceVariable {
    /// The component's name.
    pub component: String,
    /// Which of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component_instance: Option<String>,
    /// On which EVSE it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evse: Option<i64>,
    /// On which connector of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connector: Option<i64>,
    /// The variable's name.
    pub variable: String,
    /// Which of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable_instance: Option<String>,
    /// Its values.
    pub attributes: Vec<Attribute>,
    /// What kind of variable it is, as the station says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characteristics: Option<Box<RawValue>>,
    /// When it was last reported.
    pub updated_at: When,
}

/// A value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Attribute {
    /// Which value: `Actual` (also where it is left out), `Target`, `MinSet`, `MaxSet`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// The value; none of what can only be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Whether it can be read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutability: Option<String>,
    /// Whether it outlives a reboot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// Whether it never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constant: Option<bool>,
}

impl Attribute {
    /// Which value it is.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.r#type.as_deref().unwrap_or("Actual")
    }
}

/// Something that a station told by itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StationEvent {
    /// Its number.
    pub id: i64,
    /// Which station.
    pub station: String,
    /// What it is about: `security`, `monitoring`, `charging`, `firmware`, `log`, `reservation`, `data`, `other`.
    pub kind: &'static str,
    /// In which message it came.
    pub action: String,
    /// In a few words.
    pub summary: String,
    /// A security event that stations must report at once.
    pub critical: bool,
    /// When it happened, as the station says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// When it came.
    pub received_at: When,
    /// As it came.
    pub payload: Box<RawValue>,
}

/// Which events are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventFilter {
    /// Only of this station.
    pub station: Option<String>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only those that came then or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// When most so many, the latest first.
    pub limit: usize,
}

impl EventFilter {
    /// The kinds that there are.
    pub const KINDS: [&str; 8] =
        ["security", "monitoring", "charging", "firmware", "log", "reservation", "data", "other"];
}
