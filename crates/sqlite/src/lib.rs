//! What the databases of one node have in common, beside their tables.
//!
//! [`examine`] looks at a file before SQLite does, for SQLite takes an emptied file for a new one and a damaged log for
//! a short one, and either would be a silent loss. [`create`] makes a new database so that a crash leaves none or all of
//! it. [`salvage`] makes a new one of what can still be read of a damaged one. [`spare`] keeps SQLite from
//! changing one before it is known to be sound. [`keep_plans`] has statements compiled once. [`Health`] says whether a database can be written, once and not per call. [`killpoint`] lets tests end the process
//! at instants that a kill from outside hardly ever meets.

mod create;
mod examine;
mod health;
pub mod killpoint;
mod log;
mod plans;
mod salvage;
mod spare;

pub use create::create;
pub use examine::{Examined, examine};
pub use health::Health;
pub use plans::keep_plans;
pub use salvage::{Saved, SavedTable, salvage};
pub use spare::spare;
