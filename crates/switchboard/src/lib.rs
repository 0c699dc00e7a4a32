//! What you need to answer charging stations: messages, handlers, workers.
//!
//! This crate holds nothing of its own. It is the one to depend on, and brings together [`router`] (typed handlers, a call
//! in and an answer out), [`messages`] (the types of OCPP 1.6, 2.0.1 and 2.1) and, with feature `worker`, [`worker`] and
//! [`bus`]. Feature `station` adds the other side, `station`: a client for charging
//! stations and load generators. The whole server is the program `switchboard`; its gateway is not part of this crate.
//!
//! A handler is written once. As a plain function it needs nothing around it:
//!
//! ```
//! use switchboard::{CallError, Context, Router, State, StationId, Version};
//! use switchboard::messages::v16::{AuthorizationStatus, AuthorizeRequest, AuthorizeResponse, IdTagInfo};
//!
//! #[derive(Clone)]
//! struct Cards(&'static [&'static str]);
//!
//! async fn authorize(
//!     State(cards): State<Cards>,
//!     request: AuthorizeRequest,
//! ) -> Result<AuthorizeResponse, CallError> {
//!     let known = cards.0.contains(&request.id_tag.as_str());
//!     let status = if known { AuthorizationStatus::Accepted } else { AuthorizationStatus::Invalid };
//!     Ok(AuthorizeResponse { id_tag_info: IdTagInfo::new(status) })
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let router = Router::new().on(authorize).with_state(Cards(&["A1"]));
//!
//! let context = Context::new(StationId::new("CP001", 48)?, Version::V16);
//! let answer = router.answer(&context, r#"[2,"1","Authorize",{"idTag":"A1"}]"#.into()).await;
//! assert_eq!(answer.frame.unwrap_or_default(), r#"[3,"1",{"idTagInfo":{"status":"Accepted"}}]"#);
//! # #[cfg(feature = "worker")] {
//!
//! // The same router as a worker that takes its calls from a bus.
//! let bus = std::sync::Arc::new(switchboard::bus::InProcess::new());
//! let worker = switchboard::worker::serve(router, bus, switchboard::worker::Config::default()).await?;
//! worker.stop().await;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use switchboard_messages as messages;
pub use switchboard_router as router;
pub use switchboard_rpc as rpc;

#[cfg(feature = "worker")]
pub use switchboard_bus as bus;
#[cfg(feature = "station")]
pub use switchboard_station as station;
#[cfg(feature = "worker")]
pub use switchboard_worker as worker;

#[cfg(feature = "sqlite")]
pub use switchboard_router::once;
pub use switchboard_router::{
    Answer, CallError, CommandError, Context, FromCall, FromRef, Key, Payload, Raw, Reply, Router, State,
    Station, Unhandled, Unreadable, Warnings,
};
pub use switchboard_rpc::{ErrorCode, MessageId, StationId, Version};
