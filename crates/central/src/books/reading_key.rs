//! By what readings are found, and repeats recognised, in a file.
//!
//! A table of keys that is ordered by station and transaction has another page for each station: written with every
//! message it would cost a commit as many pages as it has calls, more than all the rest together. So readings are only
//! appended, and their keys follow later and together: those of many calls lie on few pages then. Until then the last
//! few thousand readings are found by looking through them (`known_reading` does both). They are those above the
//! number in `counter`, so that no crash can part the one from the other.
//!
//! A reading that is later than all of its place is new, whatever the keys say: for that [`known`](crate::store) is
//! enough. Before anything else is said of one all keys are put into order.
//!
//! In PostgreSQL, which many processes write, the table has a unique index instead.

use super::Ledger;
use crate::store::{Connection, StoreError};

/// So many readings wait for their keys at most; to look through them takes a millisecond.
const WAITING_MAX: usize = 4096;

/// A commit with fewer calls is a small one.
const MANY_CALLS: usize = 8;

/// After so many small ones in a row there is nothing to be saved by waiting, and whoever reads finds all keys in order. A
/// single one says nothing: under load small commits and large ones take turns.
const SMALL_COMMITS: usize = 16;

/// Has the keys follow when it is time: at the end of a transaction with so many calls.
pub(crate) fn follow(db: &Connection, calls: usize) -> Result<(), StoreError> {
    if db.is_shared() {
        return Ok(());
    }
    let (waiting, small_commits) = db.learn().note_commit(calls < MANY_CALLS);
    let is_time = waiting >= WAITING_MAX || (waiting > 0 && small_commits >= SMALL_COMMITS);
    if is_time { put_in_order(db) } else { Ok(()) }
}

fn put_in_order(db: &Connection) -> Result<(), StoreError> {
    let added = db
        .prepare_cached(
            "INSERT INTO reading_key (station, charge, at_us, evse, reading)
             SELECT station, charge, at_us, evse, id FROM reading
             WHERE id > (SELECT value FROM counter WHERE name = 'readings_with_key')
             ORDER BY station, charge, at_us, evse ON CONFLICT DO NOTHING",
        )?
        .execute([])?;
    if added > 0 {
        db.prepare_cached(
            "UPDATE counter SET value = (SELECT max(id) FROM reading) WHERE name = 'readings_with_key'",
        )?
        .execute([])?;
    }
    db.learn().note_keys();
    Ok(())
}

impl Ledger<'_> {
    /// Whether there is no reading of this place and time.
    pub(super) fn is_new(&self, charge: i64, evse: i64, at_us: i64) -> Result<bool, StoreError> {
        let place = (self.station, charge, evse);
        if self.db.known().is_later(place, at_us) {
            return Ok(true);
        }
        put_in_order(self.db)?;
        let (newest_us, is_there): (Option<i64>, bool) = self
            .db
            .prepare_cached(
                "SELECT (SELECT max(at_us) FROM reading_key WHERE station = ?1 AND charge = ?2),
                        EXISTS (SELECT 1 FROM reading_key
                                WHERE station = ?1 AND charge = ?2 AND at_us = ?3 AND evse = ?4)",
            )?
            .query_row((self.station, charge, at_us, evse), |row| Ok((row.get(0)?, row.get(1)?)))?;
        if let Some(newest_us) = newest_us {
            self.db.learn().note_reading(place, newest_us);
        }
        Ok(!is_there)
    }
}
