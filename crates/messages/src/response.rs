//! Whether a response is one, where the version is known only at run time.

use crate::{DecodeError, Mode, Violations};
use switchboard_rpc::Version;

/// What is wrong with the response to an action, read in this mode. None if it can be read; also if the version has no
/// such action with a response, or was left out of this build, as nobody then knows what is right.
#[must_use]
pub fn response_faults(version: Version, action: &str, payload: &[u8], mode: Mode) -> Option<Violations> {
    let refused = match version {
        #[cfg(feature = "v16")]
        Version::V16 => crate::v16::decode_response(action, payload, mode).map(drop).err(),
        #[cfg(feature = "v201")]
        Version::V201 => crate::v201::decode_response(action, payload, mode).map(drop).err(),
        #[cfg(feature = "v21")]
        Version::V21 => crate::v21::decode_response(action, payload, mode).map(drop).err(),
        #[allow(unreachable_patterns, reason = "versions that were left out")]
        _ => None,
    };
    match refused {
        Some(DecodeError::Violations(violations)) => Some(violations),
        _ => None,
    }
}

#[cfg(all(test, feature = "v21"))]
mod tests {
    use super::response_faults;
    use crate::Mode::{Lenient, Strict};
    use switchboard_rpc::{ErrorCode, Version};

    #[test]
    fn what_can_be_read_has_no_faults_and_what_cannot_says_which() {
        for (action, payload, mode, code) in [
            ("Reset", r#"{"status":"Accepted"}"#, Strict, None),
            ("Reset", r#"{"status":"Accepted","more":1}"#, Lenient, None),
            ("Reset", r#"{"status":"Accepted","more":1}"#, Strict, Some(ErrorCode::FormatViolation)),
            ("Reset", "{}", Lenient, Some(ErrorCode::OccurrenceConstraintViolation)),
            ("Reset", r#"{"status":7}"#, Lenient, Some(ErrorCode::TypeConstraintViolation)),
            ("Frobnicate", "{}", Strict, None),
        ] {
            let found = response_faults(Version::V21, action, payload.as_bytes(), mode);
            assert_eq!(found.as_ref().map(|faults| faults.code()), code, "{action} {payload}: {found:?}");
        }
    }
}
