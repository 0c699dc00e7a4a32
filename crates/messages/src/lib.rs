//! Types of OCPP 1.6 (with its security extension), 2.0.1 and 2.1, generated from the official schemas.
//!
//! A payload is read with [`Message::decode`] and written with [`Message::encode`]; by the name of its action with
//! `v16::decode` and its like. Reading is [strict](Mode::Strict) or [lenient](Mode::Lenient), writing always strict.
//! All reading and writing code is compiled here, once, and not in the crates that use it. This crate knows payloads
//! only: frames, message ids and error frames are `switchboard-rpc`'s.
//!
//! ```
//! # #[cfg(feature = "v16")] {
//! use switchboard_messages::{Message, Mode, Timestamp, ViolationKind, v16};
//!
//! let payload = br#"{"chargePointVendor":"Example","chargePointModel":"One","iccid":null}"#;
//! let boot = v16::BootNotificationRequest::decode(payload, Mode::Lenient)?;
//! assert_eq!(boot.value.charge_point_vendor, "Example");
//! assert_eq!(boot.warnings[0].pointer, "/iccid");
//!
//! let refused = v16::BootNotificationRequest::decode(payload, Mode::Strict).unwrap_err();
//! assert_eq!(refused.0[0].kind, ViolationKind::WrongType);
//!
//! let now = Timestamp::from_unix_millis(1_700_000_000_000);
//! let answer = v16::BootNotificationResponse::new(v16::RegistrationStatus::Accepted, now, 300);
//! let mut out = Vec::new();
//! answer.encode(&mut out)?;
//! assert_eq!(out, br#"{"status":"Accepted","currentTime":"2023-11-14T22:13:20Z","interval":300}"#);
//! # }
//! # Ok::<(), switchboard_messages::Violations>(())
//! ```
#![cfg_attr(
    not(all(feature = "v16", feature = "v201", feature = "v21")),
    allow(dead_code, unused_macros, unused_imports, reason = "no version needs all of the machinery")
)]

mod actions;
mod check;
mod codec;
mod contract;
mod cursor;
mod decimal;
mod enumeration;
mod generated;
mod json;
mod message;
mod read;
mod response;
mod scan;
mod schema;
mod timestamp;
mod uri;
mod write;

pub use actions::{ActionInfo, action, actions};
pub use contract::{
    DecodeError, Decoded, Message, Mode, NoResponse, Request, Sender, Violation, ViolationKind, Violations,
};
pub use cursor::Cursor;
pub use decimal::{Decimal, NotANumber};
pub use enumeration::Unlisted;
#[cfg(feature = "v16")]
pub use generated::v16;
#[cfg(feature = "v21")]
pub use generated::v21;
#[cfg(feature = "v201")]
pub use generated::v201;
pub use json::{CustomData, Json, NotJson};
pub use response::response_faults;
pub use switchboard_rpc::Version;
pub use timestamp::{Form, NotATimestamp, Timestamp};
