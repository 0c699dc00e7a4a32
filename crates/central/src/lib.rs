//! A small central system written with the SDK and kept in SQLite or PostgreSQL.
//!
//! It answers what stations of 1.6 (with the security extension), 2.0.1 and 2.1 send, keeps transactions, meter readings,
//! statuses, notifications and alarms, and reads them out again. What a station was answered is on the disk, exactly
//! once, however often the station or a gateway repeats itself. What is owed to a station is sent, and sent again, once it
//! is there and over the [`Line`] that it is given ([`Central::attend`]). It signs no certificates and makes no charging
//! schedules, and says so rather than promise them. [`Central`] is where to begin; use it as it is, put
//! handlers of your own in front of its [router](Central::router), or read it as an example.
//!
//! ```
//! use switchboard_central::{Central, Config, TransactionFilter};
//! use switchboard_router::Context;
//! use switchboard_rpc::{StationId, Version};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let central = Central::open(Config::at(folder.path().join("central.db")))?;
//! let router = central.router();
//!
//! let context = Context::new(StationId::new("CP001", 48)?, Version::V16);
//! let start = r#"[2,"1","StartTransaction",{"connectorId":1,"idTag":"A1","meterStart":0,"timestamp":"2026-11-23T10:00:00Z"}]"#;
//! let answer = router.answer(&context, start.into()).await;
//! assert!(answer.frame.is_some_and(|frame| frame.starts_with(br#"[3,"1",{"#)));
//!
//! let booked = central.transactions(TransactionFilter::of_station("CP001")).await?;
//! assert!(!booked[0].ended);
//! central.close().await;
//! # Ok(())
//! # }
//! ```

mod books;
mod central;
mod clock;
mod config;
mod configuration;
mod decimal;
mod details;
mod duty;
mod handlers;
mod metrics;
mod operations;
mod registration;
mod store;
mod tags;
mod views;

pub use books::{AlarmKind, ProfileMatch, Purpose, Setting, SettingState, TokenStatus};
pub use central::Central;
pub use clock::Clock;
pub use config::{Config, Database, UnknownTokens};
pub use configuration::{Desired, setting_name};
pub use decimal::Decimal;
pub use details::Details;
pub use duty::{Attendance, Duty, DutyState, Line, Order};
pub use operations::{
    Cycle, FirmwareRequest, LogKind, LogRequest, OperationError, Period, ProfileRequest, ReportBase,
    ReservationRequest, Trigger, Unit, Watch, composite_schedule,
};
pub use registration::BootPolicy;
pub use store::{OpenError, StoreError, StoreStats};
/// Where books in PostgreSQL are.
pub use switchboard_postgres::Address;
pub use switchboard_router::Registration;
pub use tags::{Tag, TagError, TagFilter, TagList};
pub use views::{
    Alarm, Attribute, Connector, DesiredProfile, DeviceVariable, EventFilter, Events, Job, Jobs,
    MeterReading, Moment, Notice, OddStop, Profiles, Report, ReportState, ReportedProfile, Reservation,
    Station, StationEvent, Step, Token, Transaction, TransactionDetail, TransactionEvent, TransactionFilter,
    UnreadableMessage, Warning, When, WholeReport,
};
