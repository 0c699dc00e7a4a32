//! OCPP-J without I/O: frames, error tables and the connection state machine.

mod error_code;
pub mod frame;
mod identity;
mod version;

pub use error_code::ErrorCode;
pub use frame::{Fault, Frame, FrameError, FrameKind, MessageId};
pub use identity::{IdentityError, StationId};
pub use version::Version;
