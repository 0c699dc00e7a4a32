//! Judges what the central system sends by the schemas.

use super::Reply;
use switchboard_rpc::Version;

/// Whether a request is one, by the schema of its action.
pub(super) fn judge(_version: Version, _action: &str, _payload: &[u8]) -> Result<(), Reply> {
    Ok(())
}
