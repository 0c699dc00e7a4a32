//! Alarms, for people to look at, and warnings: what was forgiven when messages were read.

use super::Ledger;
use crate::store::StoreError;
use serde::Serialize;
use std::fmt;

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum AlarmKind {
    /// A StopTransaction without a transaction; it waits in the books to be settled by hand.
    OrphanStop,
    /// A second, different StopTransaction for a transaction that had ended. The first one counts.
    StopVariant,
    /// Two TransactionEvents with different content under the same number.
    EventVariant,
    /// Meter values for a transaction that is not in the books.
    OrphanReading,
    /// A message about money that could not be read into its form; it is kept as it came.
    Unreadable,
    /// A transaction began on a connector whose last one has not ended.
    LeftOpen,
    /// A transaction ended with less on the meter, or earlier, than it began.
    Backwards,
    /// The readings of a register that should be a number are not.
    NotANumber,
    /// A security event that somebody should look at.
    SecurityEvent,
    /// A monitor of the station reports something grave (2.1).
    StationEvent,
    /// A report of the station is beyond what is kept of one.
    ReportTooLarge,
}

impl AlarmKind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::OrphanStop,
        Self::StopVariant,
        Self::EventVariant,
        Self::OrphanReading,
        Self::Unreadable,
        Self::LeftOpen,
        Self::Backwards,
        Self::NotANumber,
        Self::SecurityEvent,
        Self::StationEvent,
        Self::ReportTooLarge,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrphanStop => "OrphanStop",
            Self::StopVariant => "StopVariant",
            Self::EventVariant => "EventVariant",
            Self::OrphanReading => "OrphanReading",
            Self::Unreadable => "Unreadable",
            Self::LeftOpen => "LeftOpen",
            Self::Backwards => "Backwards",
            Self::NotANumber => "NotANumber",
            Self::SecurityEvent => "SecurityEvent",
            Self::StationEvent => "StationEvent",
            Self::ReportTooLarge => "ReportTooLarge",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Something that was forgiven when a message was read.
#[derive(Clone, Debug)]
pub(crate) struct Forgiven {
    /// A JSON pointer.
    pub(crate) pointer: String,
    pub(crate) kind: String,
    pub(crate) expected: String,
}

/// Characters of an alarm's subject.
const SUBJECT_MAX: usize = 400;
/// More than this many warnings of one message are not kept: they are of few kinds.
const WARNINGS_MAX: usize = 16;

impl Ledger<'_> {
    /// Raises an alarm, or counts it again if there is one about the same thing.
    pub(crate) fn alarm(&self, kind: AlarmKind, subject: &str, detail: &str) -> Result<(), StoreError> {
        // It may hold a station's words, and tells alarms apart.
        let subject = subject.char_indices().nth(SUBJECT_MAX).map_or(subject, |(end, _)| &subject[..end]);
        self.db
            .prepare_cached(
                "INSERT INTO alarm (station, kind, subject, detail, first_ms, last_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)
                 ON CONFLICT (station, kind, subject) DO UPDATE
                 SET last_ms = excluded.last_ms, detail = excluded.detail, count = alarm.count + 1",
            )?
            .execute((self.station, kind.as_str(), subject, detail, self.now_ms))?;
        Ok(())
    }

    /// Keeps what was forgiven, counted per place. Places in arrays count as one.
    pub(crate) fn forgiven(&self, action: &str, warnings: &[Forgiven]) -> Result<(), StoreError> {
        for warning in warnings.iter().take(WARNINGS_MAX) {
            self.db
                .prepare_cached(
                    "INSERT INTO warning (station, action, pointer, kind, expected, first_ms, last_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                     ON CONFLICT (station, action, pointer, kind) DO UPDATE
                     SET last_ms = excluded.last_ms, count = warning.count + 1",
                )?
                .execute((
                    self.station,
                    action,
                    without_positions(&warning.pointer),
                    &warning.kind,
                    &warning.expected,
                    self.now_ms,
                ))?;
        }
        Ok(())
    }
}

/// A pointer with `*` for positions in arrays, so that a long list is one row. Names of unknown members are the
/// station's: they are cut, since they could be long and many.
fn without_positions(pointer: &str) -> String {
    let mut text = String::with_capacity(pointer.len());
    for (depth, segment) in pointer.split('/').enumerate() {
        if depth > 0 {
            text.push('/');
        }
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push('*');
        } else {
            text.extend(segment.chars().take(50));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{AlarmKind, without_positions};

    #[test]
    fn positions_in_arrays_count_as_one_place() {
        assert_eq!(
            without_positions("/meterValue/0/sampledValue/11/unit"),
            "/meterValue/*/sampledValue/*/unit"
        );
        assert_eq!(without_positions(""), "");
        assert_eq!(without_positions("/L1"), "/L1");
    }

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in AlarmKind::ALL {
            assert_eq!(AlarmKind::from_name(kind.as_str()), Some(kind));
        }
    }
}
