//! Numbers that keep their digits, and integers that may be written with a fraction of zero.

use crate::scan::number_end;
use std::cmp::Ordering;
use std::fmt;

/// A JSON number as it was written: `1.10` stays `1.10`, and 21.4 is a multiple of 0.1 (V07).
///
/// Compared by value: `1.10 == 1.1`. Up to 22 characters are held without an allocation.
#[derive(Clone)]
pub struct Decimal(Digits);

#[derive(Clone)]
enum Digits {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<str>),
}

const SHORT_MAX: usize = 22;

/// The text is no JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no JSON number")]
pub struct NotANumber;

impl Decimal {
    /// Zero.
    pub const ZERO: Self = {
        let mut bytes = [0; SHORT_MAX];
        bytes[0] = b'0';
        Self(Digits::Short { length: 1, bytes })
    };

    /// Takes a number as JSON writes it.
    ///
    /// # Errors
    /// When the text is no JSON number.
    pub fn parse(text: &str) -> Result<Self, NotANumber> {
        if number_end(text.as_bytes()) == Some(text.len()) {
            Ok(Self::from_lexeme(text))
        } else {
            Err(NotANumber)
        }
    }

    /// The shortest number that reads back as this `f64`; `None` for infinities and NaN.
    #[must_use]
    pub fn from_f64(number: f64) -> Option<Self> {
        if !number.is_finite() {
            return None;
        }
        let plain = number == 0.0 || (1e-7..1e21).contains(&number.abs());
        let text = if plain { number.to_string() } else { format!("{number:e}") };
        Self::parse(&text).ok()
    }

    /// Takes text that the scanner has already found to be a number.
    pub(crate) fn from_lexeme(text: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..text.len()) {
            Some(head) => {
                head.copy_from_slice(text.as_bytes());
                // `text` is at most 22 bytes long here.
                Self(Digits::Short { length: text.len() as u8, bytes })
            }
            None => Self(Digits::Long(text.into())),
        }
    }

    /// The number as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Digits::Short { length, bytes } => {
                // Only ASCII is ever put in, so that the fallback is never taken.
                bytes.get(..usize::from(*length)).and_then(|text| str::from_utf8(text).ok()).unwrap_or("0")
            }
            Digits::Long(text) => text,
        }
    }

    /// The nearest `f64`; infinite when the number is beyond its range.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        // Every JSON number is a number to Rust as well.
        self.as_str().parse().unwrap_or(f64::NAN)
    }

    /// The number as an integer, if it is one and fits: `5`, `5.0` and `0.5e1` are 5.
    #[must_use]
    pub fn to_i64(&self) -> Option<i64> {
        integer(self.as_str()).ok()
    }

    /// Whether the number has at most this many decimal places, trailing zeros not counted.
    #[must_use]
    pub fn has_decimals_at_most(&self, places: u8) -> bool {
        Normal::of(self.as_str()).exponent >= -i64::from(places)
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Self::from_lexeme(&number.to_string())
    }
}

impl From<i32> for Decimal {
    fn from(number: i32) -> Self {
        Self::from(i64::from(number))
    }
}

impl std::str::FromStr for Decimal {
    type Err = NotANumber;

    fn from_str(text: &str) -> Result<Self, NotANumber> {
        Self::parse(text)
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.as_str(), other.as_str())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a number is not read as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnInteger {
    /// It has a fraction.
    Fraction,
    /// It is beyond 64 bits.
    TooBig,
}

/// Reads a number that has to be whole. JSON Schema (draft 06 and later) counts `5.0` as an integer, and stations
/// write it.
pub(crate) fn integer(lexeme: &str) -> Result<i64, NotAnInteger> {
    if let Ok(number) = lexeme.parse() {
        return Ok(number);
    }
    let normal = Normal::of(lexeme);
    if normal.is_zero() {
        return Ok(0);
    }
    if normal.exponent < 0 {
        return Err(NotAnInteger::Fraction);
    }
    let zeros =
        usize::try_from(normal.exponent).ok().filter(|zeros| *zeros < 20).ok_or(NotAnInteger::TooBig)?;
    let mut text = String::with_capacity(40);
    if normal.negative {
        text.push('-');
    }
    text.extend(normal.digits().map(char::from));
    text.extend(std::iter::repeat_n('0', zeros));
    text.parse().map_err(|_| NotAnInteger::TooBig)
}

/// Whether a number lies within inclusive bounds.
pub(crate) fn within(lexeme: &str, min: Option<i64>, max: Option<i64>) -> bool {
    min.is_none_or(|min| compare(lexeme, &min.to_string()).is_ge())
        && max.is_none_or(|max| compare(lexeme, &max.to_string()).is_le())
}

/// Whether a number has at most so many decimal places: `multipleOf` a negative power of ten, without binary floats.
pub(crate) fn fits_step(lexeme: &str, decimals: u8) -> bool {
    Normal::of(lexeme).exponent >= -i64::from(decimals)
}

fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (Normal::of(left), Normal::of(right));
    match (left.is_zero(), right.is_zero()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return if right.negative { Ordering::Greater } else { Ordering::Less },
        (false, true) => return if left.negative { Ordering::Less } else { Ordering::Greater },
        (false, false) => {}
    }
    if left.negative != right.negative {
        return if left.negative { Ordering::Less } else { Ordering::Greater };
    }
    let magnitude = left.magnitude().cmp(&right.magnitude()).then_with(|| left.digits().cmp(right.digits()));
    if left.negative { magnitude.reverse() } else { magnitude }
}

/// A number without leading and trailing zeros: 0.`digits` × 10^`magnitude`.
struct Normal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// The power of ten of the last digit.
    exponent: i64,
}

impl<'a> Normal<'a> {
    fn of(lexeme: &'a str) -> Self {
        let bytes = lexeme.as_bytes();
        let (negative, bytes) = bytes.strip_prefix(b"-").map_or((false, bytes), |rest| (true, rest));
        let mut parts = bytes.splitn(2, |byte| matches!(byte, b'e' | b'E'));
        let mantissa = parts.next().unwrap_or_default();
        let power = parts.next().map_or(0, exponent_of);
        let mut parts = mantissa.splitn(2, |byte| *byte == b'.');
        let whole = trim_start(parts.next().unwrap_or_default());
        let fraction = trim_end(parts.next().unwrap_or_default());
        let exponent = power.saturating_sub(fraction.len() as i64);
        let normal = if fraction.is_empty() {
            let digits = trim_end(whole);
            let exponent = exponent.saturating_add((whole.len() - digits.len()) as i64);
            Self { negative, whole: digits, fraction: &[], exponent }
        } else if whole.is_empty() {
            Self { negative, whole: &[], fraction: trim_start(fraction), exponent }
        } else {
            Self { negative, whole, fraction, exponent }
        };
        if normal.is_zero() { Self { exponent: 0, ..normal } } else { normal }
    }

    const fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.iter().chain(self.fraction).copied()
    }

    /// The power of ten just above the first digit.
    fn magnitude(&self) -> i64 {
        self.exponent.saturating_add((self.whole.len() + self.fraction.len()) as i64)
    }
}

/// The value of an exponent, held at bounds that no comparison can tell from the truth.
fn exponent_of(text: &[u8]) -> i64 {
    const BOUND: i64 = i64::MAX / 4;
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let value = digits.iter().fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit.saturating_sub(b'0'))).min(BOUND)
    });
    if negative { -value } else { value }
}

fn trim_start(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.get(zeros..).unwrap_or_default()
}

fn trim_end(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
    digits.get(..digits.len() - zeros).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_are_kept_as_written() {
        for text in
            ["1.10", "21.4", "12345678.9", "1e3", "-0", "0.000", "123456789012345678901234567890.5", "5E-7"]
        {
            assert_eq!(Decimal::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "1.", ".5", "+1", "01", "1e", "NaN", " 1", "1 ", "0x1", "--1"] {
            assert!(Decimal::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_compare_by_value() {
        let rows = [
            ("1.10", "1.1", Ordering::Equal),
            ("1e3", "1000", Ordering::Equal),
            ("-0", "0.00e9", Ordering::Equal),
            ("0.1", "0.09", Ordering::Greater),
            ("-2", "-1", Ordering::Less),
            ("9", "10", Ordering::Less),
            ("1e999999999999999999999", "1e999", Ordering::Greater),
            ("-1e-999999999999999999999", "0", Ordering::Less),
            ("100", "99.999", Ordering::Greater),
            ("0.00120", "1.2e-3", Ordering::Equal),
        ];
        for (left, right, expected) in rows {
            let (left, right) = (Decimal::parse(left).unwrap(), Decimal::parse(right).unwrap());
            assert_eq!(left.cmp(&right), expected, "{left} {right}");
            assert_eq!(right.cmp(&left), expected.reverse(), "{right} {left}");
        }
    }

    #[test]
    fn a_multiple_of_a_tenth_is_told_by_its_digits() {
        for text in ["21.4", "0.3", "-7", "1e3", "2.10", "123456789.1", "0", "0.0", "10.00e-1", "0.07e1"] {
            assert!(fits_step(text, 1), "{text}");
        }
        for text in ["21.45", "0.01", "1e-2", "0.30000000000000004", "-0.05"] {
            assert!(!fits_step(text, 1), "{text}");
        }
    }

    #[test]
    fn integers_may_be_written_with_a_fraction_of_zero() {
        let rows = [
            ("5", Ok(5)),
            ("5.0", Ok(5)),
            ("-5.000", Ok(-5)),
            ("1e3", Ok(1000)),
            ("0.5e1", Ok(5)),
            ("-0", Ok(0)),
            ("-0.0", Ok(0)),
            ("0e99999999999", Ok(0)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775807.0", Ok(i64::MAX)),
            ("9223372036854775808", Err(NotAnInteger::TooBig)),
            ("1e400", Err(NotAnInteger::TooBig)),
            ("5.5", Err(NotAnInteger::Fraction)),
            ("1e-1", Err(NotAnInteger::Fraction)),
        ];
        for (text, expected) in rows {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        assert!(
            within("0", Some(0), None)
                && within("-0.0", Some(0), Some(0))
                && within("100.0", None, Some(100))
        );
        assert!(!within("-0.001", Some(0), None) && !within("100.0001", None, Some(100)));
    }

    #[test]
    fn a_decimal_is_small() {
        assert_eq!(size_of::<Option<Decimal>>(), 24);
    }

    proptest! {
        #[test]
        fn floats_survive(number in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO) {
            prop_assert_eq!(Decimal::from_f64(number).unwrap().to_f64(), number);
        }

        #[test]
        fn the_order_is_that_of_exact_arithmetic(a in -99_999_i64..99_999, b in -99_999_i64..99_999, x in 0_u32..4, y in 0_u32..4) {
            let write = |number: i64, places: u32| Decimal::parse(&format!("{number}e-{places}")).unwrap();
            let scaled = |number: i64, places: u32| number * 10_i64.pow(4 - places);
            prop_assert_eq!(write(a, x).cmp(&write(b, y)), scaled(a, x).cmp(&scaled(b, y)));
        }
    }
}
