//! The versions of OCPP-J that this crate speaks, and what differs between them as data.

use std::fmt;

/// A version of OCPP-J.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// OCPP 1.6, subprotocol `ocpp1.6`, with or without its security extension.
    V16,
    /// OCPP 2.0.1, subprotocol `ocpp2.0.1`.
    V201,
    /// OCPP 2.1, subprotocol `ocpp2.1`.
    V21,
}

impl Version {
    /// All versions, oldest first.
    pub const ALL: [Self; 3] = [Self::V16, Self::V201, Self::V21];

    /// The number as it is written in documents and headers: `1.6`, `2.0.1`, `2.1`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V16 => "1.6",
            Self::V201 => "2.0.1",
            Self::V21 => "2.1",
        }
    }

    /// The WebSocket subprotocol of this version (OCPP-J 1.6, table 1). Names are case-sensitive.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::V16 => "ocpp1.6",
            Self::V201 => "ocpp2.0.1",
            Self::V21 => "ocpp2.1",
        }
    }

    /// The version with this number, `1.6`, `2.0.1` or `2.1`.
    #[must_use]
    pub fn from_number(number: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == number)
    }

    /// The version with this subprotocol name.
    #[must_use]
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.subprotocol() == name)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OCPP {}", self.as_str())
    }
}
