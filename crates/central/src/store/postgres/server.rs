//! Where the server is and how it stands, for all sessions of this process.

use super::super::writer::chain;
use super::Error;
use crate::clock::Clock;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use switchboard_postgres::{Address, Target};

/// A server, and what is known of it.
pub(crate) struct Server {
    /// Tried one after the other, until one can be written.
    pub(super) targets: Vec<Target>,
    /// Its host and database: what may be said in a log.
    pub(super) name: String,
    clock: Clock,
    /// Set where our own clock is measured against the server's.
    corrects: bool,
    offset_ms: AtomicI64,
    is_away: AtomicBool,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Server {
    /// What an operator says of it.
    pub(crate) fn new(addresses: &[Address], clock: Clock, corrects: bool) -> Result<Self, String> {
        let targets: Vec<_> = addresses
            .iter()
            .map(Address::resolve)
            .collect::<Result<_, _>>()
            .map_err(|error| chain(&error))?;
        if targets.is_empty() {
            return Err("no address is given: postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned());
        }
        let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
        Ok(Self {
            name: names.join(","),
            targets,
            clock,
            corrects,
            offset_ms: AtomicI64::new(0),
            is_away: AtomicBool::new(false),
        })
    }

    /// Its host and database: what may be said of it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The time as the server has it, as far as is known: all processes go by one clock, whatever theirs say.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms() + self.offset_ms.load(Ordering::Relaxed)
    }

    /// The server's clock said this while ours went on from `asked_ms`.
    pub(super) fn clock_said(&self, said_ms: i64, asked_ms: i64) {
        if self.corrects {
            let ours = asked_ms.midpoint(self.clock.now_ms());
            self.offset_ms.store(said_ms - ours, Ordering::Relaxed);
        }
    }

    pub(super) fn own_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(super) fn is_there(&self) {
        if self.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!(server = self.name, "the books in PostgreSQL are there again");
        }
    }

    pub(super) fn is_away(&self, error: &Error) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                server = self.name,
                error = error as &dyn std::error::Error,
                "waiting for the books in PostgreSQL; what needs them is not answered, and comes again"
            );
        }
    }
}
