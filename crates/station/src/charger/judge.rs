//! Judges what the central system sends by the schemas.

use super::Reply;
use switchboard_messages::{Sender, action, v16, v21, v201};
use switchboard_rpc::{ErrorCode, Version};

/// Whether a request is one that a station is sent, by the schema of its action.
pub(super) fn judge(version: Version, name: &str, payload: &[u8]) -> Result<(), Reply> {
    match action(version, name) {
        None => return Err(Reply::Error(ErrorCode::NotImplemented, "the action is not known".to_owned())),
        Some(found) if found.sender == Sender::Station => {
            return Err(Reply::Error(ErrorCode::NotSupported, format!("stations send {name}")));
        }
        Some(_) => {}
    }
    let violations = match version {
        Version::V16 => v16::validate(name, false, payload),
        Version::V201 => v201::validate(name, false, payload),
        Version::V21 => v21::validate(name, false, payload),
    };
    match violations.unwrap_or_default().first() {
        None => Ok(()),
        Some(first) => Err(Reply::Error(first.kind.code(), first.to_string())),
    }
}
