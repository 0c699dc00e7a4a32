//! Points in time as stations write them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A point in time, to the nanosecond, between the years 1 and 9999.
///
/// Reading is tolerant (any number of fraction digits, an hour of one digit, `Z`, `+hh:mm`, `+hhmm`, `+hh`, a space for
/// the `T`, no zone at all); writing gives the recommended form: UTC with `Z`, milliseconds or no fraction. Compared by
/// the instant alone.
#[derive(Clone, Copy)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
    form: Form,
}

/// How a timestamp was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// As RFC 3339 has it.
    Rfc3339,
    /// Otherwise, but readable.
    Loose,
    /// Without a zone: UTC was assumed.
    ZoneAssumed,
}

/// The text is no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no date and time")]
pub struct NotATimestamp;

/// 0001-01-01T00:00:00Z.
const FIRST: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const LAST: i64 = 253_402_300_799;
const DAY: i64 = 86_400;

impl Timestamp {
    /// Reads a timestamp, tolerantly; [`Timestamp::form`] tells how well it was written.
    ///
    /// # Errors
    /// When the text is no date with a time, or lies outside of the years 1 to 9999 in UTC.
    pub fn parse(text: &str) -> Result<Self, NotATimestamp> {
        Cursor { rest: text.as_bytes() }.timestamp().ok_or(NotATimestamp)
    }

    /// The time so many milliseconds after 1970-01-01T00:00:00Z. Beyond the years 1 to 9999 it is held at their bounds.
    #[must_use]
    pub fn from_unix_millis(millis: i64) -> Self {
        let seconds = millis.div_euclid(1000);
        let nanoseconds = (millis.rem_euclid(1000) * 1_000_000) as u32;
        if seconds < FIRST {
            Self { seconds: FIRST, nanoseconds: 0, form: Form::Rfc3339 }
        } else if seconds > LAST {
            Self { seconds: LAST, nanoseconds: 999_000_000, form: Form::Rfc3339 }
        } else {
            Self { seconds, nanoseconds, form: Form::Rfc3339 }
        }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, rounded down.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.seconds * 1000 + i64::from(self.nanoseconds / 1_000_000)
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// The nanoseconds of the second.
    #[must_use]
    pub const fn subsec_nanos(self) -> u32 {
        self.nanoseconds
    }

    /// How it was written.
    #[must_use]
    pub const fn form(self) -> Form {
        self.form
    }

    /// The recommended form, as ASCII.
    fn text(self) -> ([u8; 24], usize) {
        let (year, month, day) = civil(self.seconds.div_euclid(DAY));
        let time = self.seconds.rem_euclid(DAY);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |at: usize, mut number: i64, digits: usize| {
            for place in text[at..at + digits].iter_mut().rev() {
                *place = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        put(0, year, 4);
        put(5, month, 2);
        put(8, day, 2);
        put(11, time / 3600, 2);
        put(14, time / 60 % 60, 2);
        put(17, time % 60, 2);
        let millis = i64::from(self.nanoseconds / 1_000_000);
        if millis == 0 {
            text[19] = b'Z';
            (text, 20)
        } else {
            put(20, millis, 3);
            (text, 24)
        }
    }

    /// Appends the recommended form.
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        let (text, length) = self.text();
        out.extend_from_slice(&text[..length]);
    }
}

impl std::str::FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        Self::parse(text)
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.seconds, self.nanoseconds).cmp(&(other.seconds, other.nanoseconds))
    }
}

impl Hash for Timestamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.seconds, self.nanoseconds).hash(state);
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, length) = self.text();
        formatter.write_str(str::from_utf8(&text[..length]).unwrap_or_default())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What is still to be read.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn timestamp(mut self) -> Option<Timestamp> {
        let year = self.number(4)?;
        self.one(b"-")?;
        let month = self.number(2)?;
        self.one(b"-")?;
        let day = self.number(2)?;
        let separator = self.one(b"Tt ")?;
        let (hour, is_short) = match self.number(2) {
            Some(hour) => (hour, false),
            None => (self.number(1)?, true),
        };
        self.one(b":")?;
        let minute = self.number(2)?;
        self.one(b":")?;
        let second = self.number(2)?;
        let valid = (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            // A leap second is the first second of the next minute, as in Unix time.
            && second <= 60;
        if !valid {
            return None;
        }
        let mut form = if separator == b' ' || is_short { Form::Loose } else { Form::Rfc3339 };
        let mut nanoseconds = 0;
        if let Some(mark) = self.one(b".,") {
            if mark == b',' {
                form = Form::Loose;
            }
            nanoseconds = self.fraction()?;
        }
        let offset = match self.zone()? {
            Zone::Exact(offset) => offset,
            Zone::Loose(offset) => {
                form = Form::Loose;
                offset
            }
            Zone::None => {
                form = Form::ZoneAssumed;
                0
            }
        };
        let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset * 60;
        let in_range = self.rest.is_empty() && (FIRST..=LAST).contains(&seconds);
        in_range.then_some(Timestamp { seconds, nanoseconds, form })
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.rest.split_at_checked(digits)?;
        let mut number = 0;
        for digit in head {
            if !digit.is_ascii_digit() {
                return None;
            }
            number = number * 10 + i64::from(digit - b'0');
        }
        self.rest = rest;
        Some(number)
    }

    fn one(&mut self, allowed: &[u8]) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        if !allowed.contains(first) {
            return None;
        }
        self.rest = rest;
        Some(*first)
    }

    /// The digits after the point, to the nanosecond; what is finer is dropped.
    fn fraction(&mut self) -> Option<u32> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (head, rest) = self.rest.split_at_checked(digits)?;
        self.rest = rest;
        let places = head.iter().copied().chain(std::iter::repeat(b'0')).take(9);
        (digits > 0).then(|| places.fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    }

    fn zone(&mut self) -> Option<Zone> {
        let Some(sign) = self.one(b"Zz+-") else { return self.rest.is_empty().then_some(Zone::None) };
        if matches!(sign, b'Z' | b'z') {
            return Some(Zone::Exact(0));
        }
        let hours = self.number(2)?;
        let colon = self.one(b":").is_some();
        let minutes = if colon || !self.rest.is_empty() { self.number(2)? } else { 0 };
        if hours > 23 || minutes > 59 {
            return None;
        }
        let offset = if sign == b'-' { -(hours * 60 + minutes) } else { hours * 60 + minutes };
        Some(if colon { Zone::Exact(offset) } else { Zone::Loose(offset) })
    }
}

/// Minutes east of Greenwich, and how they were written.
enum Zone {
    Exact(i64),
    Loose(i64),
    None,
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date. Counted in years that begin with March, so that the leap day is the last of a year.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date so many days after 1970-01-01: the inverse of [`days`].
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timestamps_are_read_as_the_field_writes_them() {
        let rows = [
            ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z", Form::Rfc3339),
            ("2024-02-29t12:00:00z", "2024-02-29T12:00:00Z", Form::Rfc3339),
            ("2024-04-26T14:35:02+02:00", "2024-04-26T12:35:02Z", Form::Rfc3339),
            ("2024-04-26T14:35:02.5-00:30", "2024-04-26T15:05:02.500Z", Form::Rfc3339),
            ("2024-04-26T14:35:02.123456789123Z", "2024-04-26T14:35:02.123Z", Form::Rfc3339),
            ("2024-04-26T14:35:02.0004Z", "2024-04-26T14:35:02Z", Form::Rfc3339),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z", Form::Rfc3339),
            ("2024-04-26T14:35:02+0200", "2024-04-26T12:35:02Z", Form::Loose),
            ("2024-04-26T14:35:02+02", "2024-04-26T12:35:02Z", Form::Loose),
            ("2024-04-26 14:35:02Z", "2024-04-26T14:35:02Z", Form::Loose),
            ("2022-07-10T3:11:55Z", "2022-07-10T03:11:55Z", Form::Loose),
            ("2022-07-10T3:11:55", "2022-07-10T03:11:55Z", Form::ZoneAssumed),
            ("2023-10-19T15:28:07", "2023-10-19T15:28:07Z", Form::ZoneAssumed),
            ("2026-08-04 13:35:45.377", "2026-08-04T13:35:45.377Z", Form::ZoneAssumed),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z", Form::Rfc3339),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", Form::Rfc3339),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z", Form::Rfc3339),
        ];
        for (text, written, form) in rows {
            let timestamp = Timestamp::parse(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!((timestamp.to_string().as_str(), timestamp.form()), (written, form), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_and_time_is_refused() {
        for text in [
            "",
            "0",
            "2024-04-26",
            "2024-04-26T",
            "14:35:02Z",
            "2022-07-10T:11:55Z",
            "2022-07-10T003:11:55Z",
            "2022-07-10T3:1:55Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-32T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00ZZ",
            "2024-01-01T00:00:00 Z",
            "2024-01-01T00:00:00+2",
            "2024-01-01T00:00:00+02:",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+00:60",
            "2024-01-01T00:00Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-00:01",
            "20240101T000000Z",
            "2024-01-01T00:00:00Z\n",
            "+024-01-01T00:00:00Z",
            "２024-01-01T00:00:00Z",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nanoseconds_are_kept_and_milliseconds_rounded_down() {
        let timestamp = Timestamp::parse("1969-12-31T23:59:58.000000001Z").unwrap();
        assert_eq!((timestamp.unix_seconds(), timestamp.subsec_nanos()), (-2, 1));
        assert_eq!(timestamp.unix_millis(), -2000);
        assert_eq!(Timestamp::from_unix_millis(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn extreme_milliseconds_are_held_at_the_bounds() {
        assert_eq!(Timestamp::from_unix_millis(i64::MIN).to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_unix_millis(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn an_optional_timestamp_is_small() {
        assert_eq!(size_of::<Option<Timestamp>>(), 16);
    }

    proptest! {
        #[test]
        fn milliseconds_survive_text(millis in FIRST * 1000..=LAST * 1000) {
            let text = Timestamp::from_unix_millis(millis).to_string();
            let back = Timestamp::parse(&text).unwrap();
            prop_assert_eq!(back.unix_millis(), millis);
            prop_assert_eq!(back.form(), Form::Rfc3339);
        }

        #[test]
        fn dates_and_days_are_inverse(day in FIRST / DAY..=LAST / DAY) {
            let (year, month, date) = civil(day);
            prop_assert_eq!(days(year, month, date), day);
            prop_assert!((1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&date));
        }

        #[test]
        fn an_offset_does_not_move_the_instant(millis in 0_i64..4_000_000_000_000, minutes in -1439_i64..1440) {
            let local = Timestamp::from_unix_millis(millis + minutes * 60_000).to_string();
            let sign = if minutes < 0 { '-' } else { '+' };
            let text = format!("{}{sign}{:02}:{:02}", local.trim_end_matches('Z'), minutes.abs() / 60, minutes.abs() % 60);
            prop_assert_eq!(Timestamp::parse(&text).unwrap().unix_millis(), millis);
        }
    }
}
