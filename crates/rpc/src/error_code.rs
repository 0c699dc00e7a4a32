//! The error codes of CALLERROR, spelled as each version spells them.

use crate::Version;
use std::fmt;

/// Why a CALL could not be served (OCPP-J 1.6 table 7; part 4 of 2.0.1 and 2.1, tables 8 and 9).
///
/// One name for what the versions spell differently. [`ErrorCode::as_str`] gives the spelling on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The receiver does not know the action.
    NotImplemented,
    /// The receiver knows the action and does not support it.
    NotSupported,
    /// The receiver failed while it processed the call.
    InternalError,
    /// The payload does not fit the message.
    ProtocolError,
    /// A question of security stopped the call; also: the station is not accepted yet.
    SecurityError,
    /// The payload is not in the form of the message: `FormationViolation` in 1.6, `FormatViolation` in 2.x.
    FormatViolation,
    /// A field has a value that is not allowed.
    PropertyConstraintViolation,
    /// A field occurs too rarely or too often: one `r` in 1.6, two in 2.x.
    OccurrenceConstraintViolation,
    /// A field has the wrong JSON type.
    TypeConstraintViolation,
    /// Anything else.
    GenericError,
    /// The message type number is not supported (2.x; 1.6 has no such code and says `GenericError`).
    MessageTypeNotSupported,
    /// The message is not a valid RPC message (2.x; 1.6 has no such code and says `FormationViolation`).
    RpcFrameworkError,
}

impl ErrorCode {
    /// All codes.
    pub const ALL: [Self; 12] = [
        Self::NotImplemented,
        Self::NotSupported,
        Self::InternalError,
        Self::ProtocolError,
        Self::SecurityError,
        Self::FormatViolation,
        Self::PropertyConstraintViolation,
        Self::OccurrenceConstraintViolation,
        Self::TypeConstraintViolation,
        Self::GenericError,
        Self::MessageTypeNotSupported,
        Self::RpcFrameworkError,
    ];

    /// The spelling on the wire. A code that 1.6 lacks becomes the nearest one it has.
    #[must_use]
    pub const fn as_str(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::NotImplemented, _) => "NotImplemented",
            (Self::NotSupported, _) => "NotSupported",
            (Self::InternalError, _) => "InternalError",
            (Self::ProtocolError, _) => "ProtocolError",
            (Self::SecurityError, _) => "SecurityError",
            (Self::FormatViolation | Self::RpcFrameworkError, Version::V16) => "FormationViolation",
            (Self::FormatViolation, _) => "FormatViolation",
            (Self::PropertyConstraintViolation, _) => "PropertyConstraintViolation",
            // OCPP-J 1.6 errata 5.1: the misspelling is the name and stays.
            (Self::OccurrenceConstraintViolation, Version::V16) => "OccurenceConstraintViolation",
            (Self::OccurrenceConstraintViolation, _) => "OccurrenceConstraintViolation",
            (Self::TypeConstraintViolation, _) => "TypeConstraintViolation",
            (Self::GenericError, _) | (Self::MessageTypeNotSupported, Version::V16) => "GenericError",
            (Self::MessageTypeNotSupported, _) => "MessageTypeNotSupported",
            (Self::RpcFrameworkError, _) => "RpcFrameworkError",
        }
    }

    /// The code with this name. Both spellings of both versions are understood, since stations mix them (V11).
    #[must_use]
    pub fn from_wire(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| {
            name == code.as_str(Version::V201)
                || (!matches!(code, Self::RpcFrameworkError | Self::MessageTypeNotSupported)
                    && name == code.as_str(Version::V16))
        })
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str(Version::V201))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of OCPP-J 1.6 (table 7, errata 5) and of part 4 of 2.0.1 and 2.1 (tables 8 and 9).
    #[test]
    fn each_version_has_its_own_spelling_and_its_own_set() {
        let spelled = |version| {
            let mut names: Vec<_> = ErrorCode::ALL.map(|code| code.as_str(version)).to_vec();
            names.sort_unstable();
            names.dedup();
            names
        };
        assert_eq!(
            spelled(Version::V16),
            [
                "FormationViolation",
                "GenericError",
                "InternalError",
                "NotImplemented",
                "NotSupported",
                "OccurenceConstraintViolation",
                "PropertyConstraintViolation",
                "ProtocolError",
                "SecurityError",
                "TypeConstraintViolation",
            ]
        );
        for version in [Version::V201, Version::V21] {
            assert_eq!(
                spelled(version),
                [
                    "FormatViolation",
                    "GenericError",
                    "InternalError",
                    "MessageTypeNotSupported",
                    "NotImplemented",
                    "NotSupported",
                    "OccurrenceConstraintViolation",
                    "PropertyConstraintViolation",
                    "ProtocolError",
                    "RpcFrameworkError",
                    "SecurityError",
                    "TypeConstraintViolation",
                ]
            );
        }
    }

    /// V11
    #[test]
    fn both_spellings_are_understood() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_wire(code.as_str(Version::V21)), Some(code));
        }
        assert_eq!(ErrorCode::from_wire("FormationViolation"), Some(ErrorCode::FormatViolation));
        let occurrence = Some(ErrorCode::OccurrenceConstraintViolation);
        assert_eq!(ErrorCode::from_wire("OccurenceConstraintViolation"), occurrence);
        for unknown in ["", "genericerror", "GenericError ", "Whatever"] {
            assert_eq!(ErrorCode::from_wire(unknown), None);
        }
    }
}
