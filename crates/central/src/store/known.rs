//! What a connection that writes knows of the books without asking them again.
//!
//! Three of the five statements that a message with readings would cost only find out what was known before: the number of
//! its station, the call of it that was the last, that its transaction is there. Nothing here is needed: what is not
//! known is asked for. Everything is forgotten when a transaction fails, as it may have been true in that one only; what
//! others may change is not known at all where others write.

use foldhash::HashMap;
use switchboard_router::once::sqlite::Memory;

/// Where readings come from: station, transaction and EVSE, by their numbers.
pub(crate) type Place = (i64, i64, i64);

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By tenant and identity.
    stations: HashMap<Box<str>, HashMap<Box<str>, i64>>,
    station_count: usize,
    places: HashMap<Place, Readings>,
    /// Readings that came since their keys were brought into order last.
    readings_without_key: usize,
    /// Small commits in a row, since then.
    small_commits: usize,
    /// The last calls of stations, where nobody else writes the books.
    pub(crate) calls: Memory,
}

/// What is known of the readings of a place.
#[derive(Clone, Copy, Debug, Default)]
struct Readings {
    /// None is later than this.
    newest_us: Option<i64>,
    /// They are of a transaction of 1.6 that is in the books.
    is_booked: bool,
}

/// Stations, and places, of which something is known. Beyond that all is forgotten: who sends most is soon known again.
const KNOWN_MAX: usize = 65_536;

impl Known {
    /// The number of a station.
    pub(crate) fn station(&self, tenant: &str, identity: &str) -> Option<i64> {
        self.stations.get(tenant)?.get(identity).copied()
    }

    pub(crate) fn note_station(&mut self, tenant: &str, identity: &str, number: i64) {
        if self.station_count >= KNOWN_MAX {
            self.forget();
        }
        let of_tenant = self.stations.entry(tenant.into()).or_default();
        if of_tenant.insert(identity.into(), number).is_none() {
            self.station_count += 1;
        }
    }

    /// Whether no reading of this place is of this time or a later one.
    pub(crate) fn is_later(&self, place: Place, at_us: i64) -> bool {
        self.places.get(&place).and_then(|known| known.newest_us).is_some_and(|newest_us| at_us > newest_us)
    }

    /// No reading of this place is later, unless another one was noted.
    pub(crate) fn note_reading(&mut self, place: Place, at_us: i64) {
        let known = self.place(place);
        known.newest_us = Some(known.newest_us.map_or(at_us, |newest_us| newest_us.max(at_us)));
    }

    /// A reading that was not there has been written.
    pub(crate) fn note_new_reading(&mut self, place: Place, at_us: i64) {
        self.note_reading(place, at_us);
        self.readings_without_key += 1;
    }

    /// Something is committed. About how many readings have been written since their keys were last brought into order,
    /// and how many small commits there were in a row.
    pub(crate) fn note_commit(&mut self, is_small: bool) -> (usize, usize) {
        self.small_commits = if is_small { self.small_commits + 1 } else { 0 };
        (self.readings_without_key, self.small_commits)
    }

    /// The keys of readings are in order now.
    pub(crate) fn note_keys(&mut self) {
        self.readings_without_key = 0;
        self.small_commits = 0;
    }

    /// Whether the transaction of a place is in the books as one of 1.6.
    pub(crate) fn is_booked(&self, place: Place) -> bool {
        self.places.get(&place).is_some_and(|known| known.is_booked)
    }

    pub(crate) fn note_booked(&mut self, place: Place) {
        self.place(place).is_booked = true;
    }

    fn place(&mut self, place: Place) -> &mut Readings {
        if self.places.len() >= KNOWN_MAX && !self.places.contains_key(&place) {
            self.places.clear();
        }
        self.places.entry(place).or_default()
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        self.stations.clear();
        self.station_count = 0;
        self.places.clear();
        self.calls.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::{KNOWN_MAX, Known};

    #[test]
    fn what_is_known_is_bounded() {
        let mut known = Known::default();
        for number in 0..=KNOWN_MAX as i64 {
            known.note_station("default", &number.to_string(), number);
            known.note_reading((number, 0, 1), 5);
        }
        assert_eq!(known.station("default", "0"), None);
        assert_eq!(known.station("default", &KNOWN_MAX.to_string()), Some(KNOWN_MAX as i64));
        assert!(known.places.len() <= KNOWN_MAX && known.station_count <= KNOWN_MAX);
    }

    #[test]
    fn a_reading_is_later_only_than_what_is_known() {
        let mut known = Known::default();
        assert!(!known.is_later((1, 2, 3), 10), "of an unknown place nothing is said");
        known.note_reading((1, 2, 3), 10);
        known.note_reading((1, 2, 3), 7);
        assert!(!known.is_later((1, 2, 3), 10) && known.is_later((1, 2, 3), 11));
        known.forget();
        assert!(!known.is_later((1, 2, 3), 11));
    }
}
