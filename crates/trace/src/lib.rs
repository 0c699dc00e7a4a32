//! Traffic as operators read it: calls joined with their answers, redacted, filtered, and kept in a ring on disk.
//!
//! [`Trace::start`] follows the [`Tap`](switchboard_gateway::Tap) of a gateway in a thread of its own, so that a socket's
//! task never waits for a disk or a reader; [`Trace::read`] gives lines of JSON, of what was recorded and of what happens.
//! [`read_folder`] reads the ring of a process that is not running. It decides nothing about the traffic and changes
//! nothing in it. What the lines say stands in `docs/trace.md`.
//!
//! ```
//! use switchboard_trace::{Query, Redactor};
//!
//! let redactor = Redactor::random();
//! let shown = redactor.redact(r#"{"idTag":"A1","connectorId":1}"#, Some("StartTransaction"), false)?;
//! assert!(!shown.contains("A1") && shown.contains(r#""connectorId":1"#));
//! let query = Query::parse_url("station=CP*&errors=true&since=10m", 1_000_000)?;
//! assert!(query.looks_back() && !query.looks_on());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod entry;
mod filter;
mod frames;
mod join;
mod line;
mod metrics;
mod query;
mod redact;
mod ring;
mod scribe;
mod trace;
mod watcher;

pub use config::{Config, Personal};
pub use entry::Direction;
pub use filter::Filter;
pub use query::{Query, QueryError};
pub use redact::{NotJson, Redactor};
pub use trace::{Lines, ReadError, Trace, now_ms, read_folder, redactor_in};
