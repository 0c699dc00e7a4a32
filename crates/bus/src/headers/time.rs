//! RFC 3339 in UTC with milliseconds, written and read by hand: it is in every call's headers, twice.

use std::ops::RangeInclusive;

/// The years that four digits can write, in milliseconds since 1970.
pub(super) const RANGE_MS: RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;

/// `2026-11-22T10:00:00.000Z`
pub(super) struct Text([u8; 24]);

impl Text {
    /// The nearest time that can be written.
    pub(super) fn new(unix_ms: i64) -> Self {
        let unix_ms = unix_ms.clamp(*RANGE_MS.start(), *RANGE_MS.end());
        let (year, month, day) = civil(unix_ms.div_euclid(DAY_MS));
        let of_day = unix_ms.rem_euclid(DAY_MS);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put(&mut text[0..4], year);
        put(&mut text[5..7], month);
        put(&mut text[8..10], day);
        put(&mut text[11..13], of_day / 3_600_000);
        put(&mut text[14..16], of_day / 60_000 % 60);
        put(&mut text[17..19], of_day / 1000 % 60);
        put(&mut text[20..23], of_day % 1000);
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        // Digits and punctuation only, so that the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Milliseconds since 1970. What others write, with an offset or other fractions, is read too.
pub(super) fn parse(text: &str) -> Option<i64> {
    own_form(text.as_bytes()).or_else(|| {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(time.as_millisecond()).filter(|unix_ms| RANGE_MS.contains(unix_ms))
    })
}

fn own_form(text: &[u8]) -> Option<i64> {
    let text: &[u8; 24] = text.try_into().ok()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
    if marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (take(&text[0..4])?, take(&text[5..7])?, take(&text[8..10])?);
    let (hour, minute, second) = (take(&text[11..13])?, take(&text[14..16])?, take(&text[17..19])?);
    let milli = take(&text[20..23])?;
    // A leap second is rare enough to be left to the library.
    if hour > 23 || minute > 59 || second > 59 || !(1..=12).contains(&month) {
        return None;
    }
    let days = days(year, month, day);
    if civil(days) != (year, month, day) {
        return None;
    }
    Some(days * DAY_MS + hour * 3_600_000 + minute * 60_000 + second * 1000 + milli)
}

fn put(text: &mut [u8], mut number: i64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

fn take(text: &[u8]) -> Option<i64> {
    text.iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

// Both count in years that begin in March, so that the leap day is the last day of its year, and in eras of 400 years,
// which all have the same length.

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_written_as_the_library_writes_it() {
        let mut random = 7_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let span = RANGE_MS.end() - RANGE_MS.start();
            let unix_ms = RANGE_MS.start() + i64::try_from(random >> 1).unwrap() % span;
            let library = jiff::Timestamp::from_millisecond(unix_ms).unwrap();
            assert_eq!(Text::new(unix_ms).as_str(), format!("{library:.3}"), "{unix_ms}");
            assert_eq!(own_form(Text::new(unix_ms).as_str().as_bytes()), Some(unix_ms));
        }
    }

    #[test]
    fn forms_of_others_are_read() {
        for (text, expected) in [
            ("2026-11-22T10:00:00Z", Some(1_795_341_600_000)),
            ("2026-11-22T12:00:00.000000+02:00", Some(1_795_341_600_000)),
            ("2026-11-22t10:00:00.5z", Some(1_795_341_600_500)),
            ("2024-02-29T00:00:00.000Z", Some(1_709_164_800_000)),
            ("2023-02-29T00:00:00.000Z", None),
            ("2026-13-01T00:00:00.000Z", None),
            ("2026-11-22T24:00:00.000Z", None),
            ("2026-11-22", None),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_four_digits_cannot_write_is_brought_to_the_nearest_that_they_can() {
        assert_eq!(Text::new(i64::MAX).as_str(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Text::new(i64::MIN).as_str(), "0000-01-01T00:00:00.000Z");
    }
}
