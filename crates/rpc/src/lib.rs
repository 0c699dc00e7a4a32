//! OCPP-J without I/O: frames, error tables and the connection state machine.

mod error_code;
mod identity;
mod version;

pub use error_code::ErrorCode;
pub use identity::{IdentityError, StationId};
pub use version::Version;
