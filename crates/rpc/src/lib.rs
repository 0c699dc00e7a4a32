//! OCPP-J without I/O: frames, error tables and the connection state machine.

pub mod close;
pub mod connection;
pub mod credentials;
mod error_code;
pub mod frame;
pub mod identity;
pub mod subprotocol;
mod version;

pub use connection::{Connection, Registration};
pub use error_code::ErrorCode;
pub use frame::{Fault, Frame, FrameError, FrameKind, MessageId};
pub use identity::{IdentityError, StationId};
pub use version::Version;
