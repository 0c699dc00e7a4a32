//! permessage-deflate (RFC 7692) around a WebSocket codec that knows nothing of it.
//!
//! Messages are compressed one by one: both sides agree not to keep a window from message to message, so that
//! connections hold nothing between messages, and the state for the work comes from a [`Pool`] that all share. That
//! agreement is [`offer`]; [`Heads`] stands below the codec and takes the mark of a compressed message off its first
//! frame; what the codec then hands out goes through [`Pool::inflate`], and what it is to send through
//! [`Pool::deflate`]. No I/O, no clock, and no frames: those are the codec's.
//!
//! ```
//! use switchboard_deflate::{Pool, offer};
//!
//! let agreed = offer::choose(["permessage-deflate; client_max_window_bits"]).unwrap();
//! let pool = Pool::new(4);
//! let text = br#"[3,"1",{"values":["0.000","0.000","0.000","0.000","0.000"]}]"#;
//! let payload = pool.deflate(text, agreed.window_bits()).unwrap();
//! assert!(payload.len() < text.len());
//! assert_eq!(&pool.inflate(&payload, 1024).unwrap()[..], text);
//! ```

mod heads;
pub mod offer;
mod pool;
mod work;

pub use heads::{Heads, Kind};
pub use offer::Agreed;
pub use pool::Pool;
pub use work::InflateError;
