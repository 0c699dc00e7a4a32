//! What stands under the keys, as JSON.

use serde::{Deserialize, Serialize};
use switchboard_bus::{ConnectionKey, Registration};
use switchboard_directory::{Location, Terms};
use switchboard_rpc::Version;

/// What is known of a station. One record, so that a claim is one look and one write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Station {
    /// The latest generation, connected or not.
    pub(crate) generation: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) connection: Option<Connected>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) registration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) seen_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connected {
    pub(crate) gateway: String,
    pub(crate) version: String,
    pub(crate) compressed: bool,
    pub(crate) since_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) password: Option<String>,
    pub(crate) created_ms: i64,
}

impl Station {
    /// A new connection; gives out the one before, if that is not known to have ended.
    pub(crate) fn claim(&mut self, gateway: &str, terms: Terms, now_ms: i64) -> Option<ConnectionKey> {
        let clock = u64::try_from(now_ms).unwrap_or(0);
        let before = self.generation;
        self.generation = before.saturating_add(1).max(clock);
        self.seen_ms = Some(now_ms);
        let connected = Connected {
            gateway: gateway.to_owned(),
            version: terms.version.as_str().to_owned(),
            compressed: terms.compressed,
            since_ms: now_ms,
        };
        let previous = self.connection.replace(connected)?;
        Some(ConnectionKey { gateway: previous.gateway.into(), generation: before })
    }

    /// A connection that was forgotten; false if it was not, or a later one is known.
    pub(crate) fn restore(&mut self, connection: &ConnectionKey, terms: Terms, now_ms: i64) -> bool {
        if self.generation >= connection.generation {
            return false;
        }
        self.claim(&connection.gateway, terms, now_ms);
        self.generation = connection.generation;
        true
    }

    /// Where it is, if its gateway is alive.
    pub(crate) fn location(&self) -> Option<Location> {
        let connected = self.connection.as_ref()?;
        Some(Location {
            connection: ConnectionKey {
                gateway: connected.gateway.as_str().into(),
                generation: self.generation,
            },
            version: Version::from_number(&connected.version)?,
            compressed: connected.compressed,
            since_ms: connected.since_ms,
        })
    }

    pub(crate) fn registration(&self) -> Option<Registration> {
        let word = self.registration.as_deref()?;
        REGISTRATIONS.into_iter().find(|registration| name(*registration) == word)
    }

    pub(crate) fn register(&mut self, registration: Registration) {
        self.registration = Some(name(registration).to_owned());
    }
}

const REGISTRATIONS: [Registration; 3] =
    [Registration::Accepted, Registration::Pending, Registration::Rejected];

const fn name(registration: Registration) -> &'static str {
    match registration {
        Registration::Accepted => "accepted",
        Registration::Pending => "pending",
        Registration::Rejected => "rejected",
    }
}
