//! What is wrong with a router before it handles anything.

use bytestring::ByteString;
use std::fmt;
use switchboard_rpc::Version;

/// A contradiction in how a router was put together. The handler that came first stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Two handlers for one action of one version.
    Duplicate {
        /// The version.
        version: Version,
        /// The action.
        action: ByteString,
    },
    /// Two handlers where a router has room for one, such as two fallbacks.
    Second(
        /// The method that was called twice.
        &'static str,
    ),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { version, action } => {
                write!(formatter, "two handlers for {action} of OCPP {version}")
            }
            Self::Second(method) => write!(formatter, "two handlers given to {method}"),
        }
    }
}

/// Everything that is wrong with a router; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Faults(pub Vec<Fault>);
