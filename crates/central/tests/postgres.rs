//! What the books promise, over PostgreSQL: the same tests as over SQLite, each in a database of its own.

#![allow(clippy::duplicate_mod, reason = "each of them has the helpers")]

#[path = "duplicates.rs"]
mod duplicates;
#[path = "messages_16.rs"]
mod messages_16;
#[path = "messages_2x.rs"]
mod messages_2x;
#[path = "oddities.rs"]
mod oddities;
#[path = "operations.rs"]
mod operations;
#[path = "reports.rs"]
mod reports;
