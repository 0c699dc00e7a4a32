//! Typed handlers for what charging stations send: a call in, an answer out.
//!
//! A [`Router`] brings each message to an async function by the type of the function's last argument, and the response
//! back as a frame. It reads payloads strictly or leniently, answers with the code and place of what is wrong, never lets
//! a failing or panicking handler show its inside, and needs neither runtime nor socket nor bus. It does not order or
//! repeat anything: that is the gateway's and the worker's part.
//!
//! ```
//! use switchboard_messages::{Timestamp, v16::{HeartbeatRequest, HeartbeatResponse}};
//! use switchboard_router::{CallError, Context, Router, State, Station};
//! use switchboard_rpc::{StationId, Version};
//!
//! #[derive(Clone)]
//! struct Clock(i64);
//!
//! async fn heartbeat(
//!     station: Station,
//!     State(clock): State<Clock>,
//!     _request: HeartbeatRequest,
//! ) -> Result<HeartbeatResponse, CallError> {
//!     assert_eq!(station.id.as_str(), "CP001");
//!     Ok(HeartbeatResponse { current_time: Timestamp::from_unix_millis(clock.0) })
//! }
//!
//! let router = Router::new().on(heartbeat).with_state(Clock(1_700_000_000_000));
//!
//! let context = Context::new(StationId::new("CP001", 48)?, Version::V16);
//! let answering = router.answer(&context, r#"[2,"1","Heartbeat",{}]"#.into());
//!
//! // Any executor will do; this handler is ready at once.
//! let answer = futures_util::FutureExt::now_or_never(answering).unwrap_or_default();
//! let frame = answer.frame.unwrap_or_default();
//! assert_eq!(frame, r#"[3,"1",{"currentTime":"2023-11-14T22:13:20Z"}]"#);
//! # Ok::<(), switchboard_rpc::IdentityError>(())
//! ```

mod answer;
mod command;
mod context;
mod endpoint;
mod error;
mod extract;
mod fault;
pub mod handler;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod once;
mod outcome;
mod raw;
mod router;
mod service;

pub use answer::{Answer, Answering, IntoAnswer, Reply, Stored};
pub use command::{Caller, Command, CommandError, Ended, Options, Outcome};
pub use context::{Context, Key, Registration};
pub use error::CallError;
pub use extract::{FromCall, FromRef, Parts, State, Station, Warnings};
pub use fault::{Fault, Faults};
pub use handler::Handler;
pub use outcome::Noted;
pub use raw::{IntoPayload, Payload, Raw, Unhandled, Unreadable};
pub use router::Router;
pub use service::{Call, Served};
pub use switchboard_rpc::MessageId;
