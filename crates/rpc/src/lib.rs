//! OCPP-J for 1.6, 2.0.1 and 2.1, for central systems and for stations, without I/O and without a clock: frames, the
//! error codes of each version, the rules of the handshake, and [`Connection`], the state machine that keeps order on
//! one socket. It opens nothing, awaits nothing, spawns nothing and reads no time: whoever has a socket feeds it.
//!
//! It does not know what messages mean: a payload is text whose end is known. The one exception is a short table of
//! the commands that may go to a station that is not accepted yet ([`Registration::allows`]).
//!
//! What peers send can be anything; nothing here panics over it, and nothing grows beyond the bounds of
//! [`connection::Config`].
//!
//! ```
//! use switchboard_rpc::{Frame, Version, frame};
//!
//! let text = r#"[2,"19223201","Heartbeat",{}]"#.into();
//! let Ok(Frame::Call { id, action, .. }) = Frame::parse(&text, Version::V16) else { panic!() };
//! assert_eq!(action, "Heartbeat");
//! assert_eq!(frame::write_result(&id, b"{}"), r#"[3,"19223201",{}]"#);
//!
//! // What is no frame is answered as each version wants it: 1.6 says nothing.
//! let error = Frame::parse(&"hello".into(), Version::V201).unwrap_err();
//! assert_eq!(
//!     error.answer(Version::V201).unwrap(),
//!     r#"[4,"-1","RpcFrameworkError","the message is not a JSON array",{}]"#
//! );
//! assert_eq!(error.answer(Version::V16), None);
//! ```

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
