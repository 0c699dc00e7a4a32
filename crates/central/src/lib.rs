//! A small central system written with the SDK and kept in SQLite.

mod books;
mod central;
mod clock;
mod config;
mod decimal;
mod handlers;
mod store;
mod views;

pub use books::{AlarmKind, TokenStatus};
pub use central::Central;
pub use clock::{Clock, rfc3339};
pub use config::Config;
pub use decimal::Decimal;
pub use store::{OpenError, StoreError, StoreStats};
pub use views::{
    Alarm, Connector, Events, MeterReading, Moment, Notice, OddStop, Report, Station, Token, Transaction,
    TransactionFilter, UnreadableMessage, Warning,
};
