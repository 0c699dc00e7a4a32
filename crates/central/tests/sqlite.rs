//! What the books promise, over SQLite. One program, as linking each of these files by itself takes longer than they run.

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
