//! Types of OCPP 1.6, 2.0.1 and 2.1, generated from the official schemas.

mod contract;

pub use contract::{Decoded, Message, Mode, Request, Sender, Violation, ViolationKind, Violations};
