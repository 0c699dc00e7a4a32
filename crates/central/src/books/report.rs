//! Answers that come in parts: kept as they come, in whatever order and however often, until nothing is missing.

use super::{AlarmKind, Ledger, Stamp};
use crate::store::{OptionalExtension, Row, StoreError};
use serde_json::Value;

/// One part of an answer that comes in several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) request: i64,
    /// Its number; none where the message has none (ReportChargingProfiles): then its content tells parts apart.
    pub(crate) number: Option<i64>,
    pub(crate) last: bool,
}

/// A report of more parts is not kept whole: no station has as much to say.
pub(crate) const PARTS_MAX: i64 = 2_000;
/// Nor one of more bytes. It is read in one go when it is complete.
pub(crate) const BYTES_MAX: i64 = 8 << 20;
/// How many reports of one action are kept per station; the oldest go first.
const REPORTS_MAX: i64 = 8;

/// What is known of a report before a part of it is looked at.
struct Known {
    parts: i64,
    bytes: i64,
    completed: bool,
}

impl Ledger<'_> {
    /// Keeps a part of a report, and reads the report when that was what was missing.
    pub(crate) fn report_part(&self, action: &str, part: &Part, payload: &str) -> Result<(), StoreError> {
        let numbered = part.number.filter(|number| *number >= 0);
        // The stand-in of a time serves as well: it depends on nothing but the text, and is no number of a part.
        let number = numbered.unwrap_or_else(|| Stamp::new(payload, None).us);
        let key = (self.station, action, part.request, number);
        let known = self.report_begun(action, part.request)?;
        let before: Option<(String, bool)> = self
            .db
            .prepare_cached(
                "SELECT payload, last FROM report_part WHERE station = ?1 AND action = ?2 AND request = ?3 AND part = ?4",
            )?
            .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if before.as_ref().is_some_and(|(kept, last)| *last == part.last && same(kept, payload)) {
            return Ok(());
        }
        let known = if known.completed && numbered.is_some() {
            // Not a repeat, and nothing was missing: the station answers another request of the same number.
            self.report_forgotten(action, part.request)?;
            Known { parts: 0, bytes: 0, completed: false }
        } else {
            known
        };
        let bytes = i64::try_from(payload.len()).unwrap_or(i64::MAX);
        let is_new = before.is_none() || known.parts == 0;
        if number >= PARTS_MAX
            || known.bytes.saturating_add(bytes) > BYTES_MAX
            || (is_new && known.parts >= PARTS_MAX)
        {
            return self.report_too_large(action, part.request);
        }
        self.db
            .prepare_cached(
                "INSERT INTO report_part (station, action, request, part, last, payload, received_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (station, action, request, part) DO UPDATE
                 SET last = excluded.last, payload = excluded.payload, received_ms = excluded.received_ms",
            )?
            .execute((self.station, action, part.request, number, part.last, payload, self.now_ms))?;
        let complete = self.report_is_complete(action, part.request)?;
        self.db
            .prepare_cached(
                "UPDATE report SET parts = parts + ?4, bytes = bytes + ?5, last_ms = ?6,
                        completed_ms = CASE WHEN ?7 THEN ?6 ELSE completed_ms END
                 WHERE station = ?1 AND action = ?2 AND request = ?3",
            )?
            .execute((self.station, action, part.request, i64::from(is_new), bytes, self.now_ms, complete))?;
        if complete { self.report_read(action, part.request) } else { Ok(()) }
    }

    /// Lays down that we ask for a report; gives out its number.
    pub(crate) fn report_asked(&self, action: &str, base: &str) -> Result<i64, StoreError> {
        let request = self.next_request()?;
        self.report_begun(action, request)?;
        self.db
            .prepare_cached(
                "UPDATE report SET base = ?4, requested_ms = ?5 WHERE station = ?1 AND action = ?2 AND request = ?3",
            )?
            .execute((self.station, action, request, base, self.now_ms))?;
        Ok(request)
    }

    /// How the station answered our asking.
    pub(crate) fn report_answered(&self, action: &str, request: i64, answer: &str) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE report SET answer = ?4 WHERE station = ?1 AND action = ?2 AND request = ?3",
            )?
            .execute((self.station, action, request, answer))?;
        Ok(())
    }

    /// The next number for a request of ours.
    pub(crate) fn next_request(&self) -> Result<i64, StoreError> {
        let next = self.db.next_number("request")?;
        if next > i64::from(i32::MAX) {
            return Err(StoreError::Invalid("all 32-bit numbers of requests have been given out".to_owned()));
        }
        Ok(next)
    }

    /// The report's row; a new one makes room by forgetting the oldest.
    fn report_begun(&self, action: &str, request: i64) -> Result<Known, StoreError> {
        let known = self
            .db
            .prepare_cached(
                "SELECT parts, bytes, completed_ms IS NOT NULL FROM report
                 WHERE station = ?1 AND action = ?2 AND request = ?3",
            )?
            .query_row((self.station, action, request), |row: &Row<'_>| {
                Ok(Known { parts: row.get(0)?, bytes: row.get(1)?, completed: row.get(2)? })
            })
            .optional()?;
        if let Some(known) = known {
            return Ok(known);
        }
        let old: Vec<i64> = self
            .db
            .prepare_cached(
                "SELECT request FROM report WHERE station = ?1 AND action = ?2 ORDER BY last_ms DESC, request DESC
                 LIMIT 9223372036854775807 OFFSET ?3",
            )?
            .query_map((self.station, action, REPORTS_MAX - 1), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for request in old {
            self.report_forgotten(action, request)?;
            self.db
                .prepare_cached("DELETE FROM report WHERE station = ?1 AND action = ?2 AND request = ?3")?
                .execute((self.station, action, request))?;
        }
        self.db
            .prepare_cached("INSERT INTO report (station, action, request, last_ms) VALUES (?1, ?2, ?3, ?4)")?
            .execute((self.station, action, request, self.now_ms))?;
        Ok(Known { parts: 0, bytes: 0, completed: false })
    }

    fn report_forgotten(&self, action: &str, request: i64) -> Result<(), StoreError> {
        let key = (self.station, action, request);
        self.db
            .prepare_cached("DELETE FROM report_part WHERE station = ?1 AND action = ?2 AND request = ?3")?
            .execute(key)?;
        self.db
            .prepare_cached(
                "UPDATE report SET parts = 0, bytes = 0, completed_ms = NULL
                 WHERE station = ?1 AND action = ?2 AND request = ?3",
            )?
            .execute(key)?;
        Ok(())
    }

    fn report_too_large(&self, action: &str, request: i64) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE report SET refused = refused + 1, last_ms = ?4
                 WHERE station = ?1 AND action = ?2 AND request = ?3",
            )?
            .execute((self.station, action, request, self.now_ms))?;
        self.alarm(
            AlarmKind::ReportTooLarge,
            &format!("{action} {request}"),
            &format!(
                "more than {PARTS_MAX} parts or {} MiB; the rest is not kept, and the report stays incomplete",
                BYTES_MAX >> 20
            ),
        )
    }

    fn report_is_complete(&self, action: &str, request: i64) -> Result<bool, StoreError> {
        let key = (self.station, action, request);
        let last: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT min(part) FROM report_part WHERE station = ?1 AND action = ?2 AND request = ?3 AND last = 1",
            )?
            .query_row(key, |row| row.get(0))?;
        let Some(last) = last else { return Ok(false) };
        if last < 0 {
            return Ok(true);
        }
        let there: i64 = self
            .db
            .prepare_cached(
                "SELECT count(*) FROM report_part
                 WHERE station = ?1 AND action = ?2 AND request = ?3 AND part BETWEEN 0 AND ?4",
            )?
            .query_row((self.station, action, request, last), |row| row.get(0))?;
        Ok(there == last + 1)
    }

    /// What a complete report changes elsewhere in the books.
    fn report_read(&self, action: &str, request: i64) -> Result<(), StoreError> {
        match action {
            "NotifyReport" => {
                let base: Option<String> = self
                    .db
                    .prepare_cached(
                        "SELECT base FROM report WHERE station = ?1 AND action = ?2 AND request = ?3",
                    )?
                    .query_row((self.station, action, request), |row| row.get(0))?;
                let report = super::query::report(self.db, self.station, action, request)?;
                self.device_model(request, base.as_deref(), &report.parts)
            }
            "ReportChargingProfiles" => {
                let report = super::query::report(self.db, self.station, action, request)?;
                self.profiles_reported(&report.parts)
            }
            _ => Ok(()),
        }
    }
}

/// Whether two parts say the same. A station may write a part anew when it repeats it: then only the time when it was
/// written differs.
fn same(kept: &str, payload: &str) -> bool {
    let content = |text: &str| {
        let mut value: Value = serde_json::from_str(text).ok()?;
        value.as_object_mut()?.remove("generatedAt");
        Some(value)
    };
    kept == payload || content(kept).is_some_and(|kept| content(payload) == Some(kept))
}

/// Which parts of a numbered report are missing, as people say it; none if nothing is.
pub(crate) fn missing(parts: &[(i64, bool)]) -> Option<String> {
    let last = parts.iter().filter(|(_, last)| *last).map(|(number, _)| *number).min();
    if last.is_some_and(|last| last < 0) {
        return None;
    }
    let mut gaps = Vec::new();
    let mut next = 0;
    for number in parts.iter().map(|(number, _)| *number).filter(|number| *number >= 0) {
        if last.is_some_and(|last| number > last) {
            break;
        }
        if number > next {
            gaps.push(if number == next + 1 { next.to_string() } else { format!("{next}–{}", number - 1) });
        }
        next = number + 1;
    }
    match (gaps.is_empty(), last) {
        (true, Some(_)) => None,
        (true, None) => Some(format!("{next} and on")),
        (false, Some(_)) => Some(gaps.join(", ")),
        (false, None) => Some(format!("{}, {next} and on", gaps.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::{missing, same};

    #[test]
    fn what_is_missing_is_said_in_ranges() {
        for (parts, expected) in [
            (vec![], Some("0 and on")),
            (vec![(0, true)], None),
            (vec![(0, false), (1, false)], Some("2 and on")),
            (vec![(0, false), (3, false), (8, true)], Some("1–2, 4–7")),
            (vec![(1, true)], Some("0")),
            (vec![(2, false)], Some("0–1, 3 and on")),
            (vec![(0, false), (1, true), (5, false)], None),
            (vec![(i64::MIN + 5, true)], None),
        ] {
            assert_eq!(missing(&parts).as_deref(), expected, "{parts:?}");
        }
    }

    #[test]
    fn a_part_that_was_written_anew_is_the_same() {
        assert!(same(r#"{"a":1,"generatedAt":"x"}"#, r#"{"generatedAt":"y","a":1}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(!same("no JSON", r#"{"a":2}"#));
    }
}
