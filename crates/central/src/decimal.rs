//! Decimal numbers as meters write them: exact, with all their digits. Money hangs on them, so no binary floats.

use std::cmp::Ordering;
use std::fmt;

/// More digits than this after the point are no measurement.
const SCALE_MAX: u32 = 34;

/// A decimal number, exact up to 38 digits.
///
/// It keeps the digits it was read with: `95.0` stays `95.0`, and still equals `95`.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: i128,
    scale: u32,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { digits: 0, scale: 0 };

    /// Reads a decimal number: an optional sign, digits with an optional point, an optional exponent. White space around
    /// it is forgiven. None for anything else, and for numbers that cannot be kept exactly.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.as_bytes().first()? {
            b'-' => (true, &mantissa[1..]),
            b'+' => (false, &mantissa[1..]),
            _ => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut digits: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            if !digit.is_ascii_digit() {
                return None;
            }
            digits = digits.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        }
        let scale = u32::try_from(fraction.len()).ok().filter(|scale| *scale <= SCALE_MAX)?;
        Self { digits: if negative { -digits } else { digits }, scale }.shifted(exponent)
    }

    /// This times ten to the power of `exponent`; none if that cannot be kept exactly.
    #[must_use]
    pub fn shifted(self, exponent: i32) -> Option<Self> {
        let scale = i64::from(self.scale) - i64::from(exponent);
        if scale >= 0 {
            let scale = u32::try_from(scale).ok().filter(|scale| *scale <= SCALE_MAX)?;
            return Some(Self { digits: self.digits, scale });
        }
        let factor = 10_i128.checked_pow(u32::try_from(-scale).ok()?)?;
        Some(Self { digits: self.digits.checked_mul(factor)?, scale: 0 })
    }

    /// The sum; none if it cannot be kept exactly.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (left, right, scale) = self.aligned(other)?;
        Some(Self { digits: left.checked_add(right)?, scale })
    }

    /// The difference; none if it cannot be kept exactly.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let (left, right, scale) = self.aligned(other)?;
        Some(Self { digits: left.checked_sub(right)?, scale })
    }

    /// Whether it is below zero.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.digits < 0
    }

    fn aligned(self, other: Self) -> Option<(i128, i128, u32)> {
        let scale = self.scale.max(other.scale);
        let lift = |number: Self| {
            10_i128.checked_pow(scale - number.scale).and_then(|factor| number.digits.checked_mul(factor))
        };
        Some((lift(self)?, lift(other)?, scale))
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Self {
        Self { digits: i128::from(number), scale: 0 }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
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
        if let Some((left, right, _)) = self.aligned(*other) {
            return left.cmp(&right);
        }
        // They are too far apart in size to be brought to one scale: compare the whole parts, then what is left.
        let split = |number: &Self| {
            let unit = 10_i128.checked_pow(number.scale).unwrap_or(i128::MAX);
            (number.digits.div_euclid(unit), number.digits.rem_euclid(unit), number.scale)
        };
        let (left, left_rest, left_scale) = split(self);
        let (right, right_rest, right_scale) = split(other);
        left.cmp(&right).then_with(|| {
            // Rests are below one; the one with the larger scale loses digits that cannot matter any more.
            let scale = left_scale.min(right_scale);
            let cut = |rest: i128, from: u32| rest / 10_i128.checked_pow(from - scale).unwrap_or(i128::MAX);
            cut(left_rest, left_scale).cmp(&cut(right_rest, right_scale))
        })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scale == 0 {
            return write!(formatter, "{}", self.digits);
        }
        let width = self.scale as usize;
        let digits = format!("{:0>width$}", self.digits.unsigned_abs(), width = width + 1);
        let (whole, fraction) = digits.split_at(digits.len() - width);
        let sign = if self.digits < 0 { "-" } else { "" };
        write!(formatter, "{sign}{whole}.{fraction}")
    }
}

impl serde::Serialize for Decimal {
    /// As a string, since readers of JSON make binary floats of numbers.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a decimal number"))
    }

    #[test]
    fn digits_are_kept_as_they_were_written() {
        for text in
            ["0", "95.0", "3058620.000", "0.1", "-12.50", "1.6250000000000002", "12345678901234567890.5"]
        {
            assert_eq!(decimal(text).to_string(), text);
        }
        for (text, kept) in [("+5", "5"), (" 7.5 ", "7.5"), (".5", "0.5"), ("5.", "5"), ("-0.05", "-0.05")] {
            assert_eq!(decimal(text).to_string(), kept);
        }
    }

    #[test]
    fn exponents_are_exact() {
        for (text, kept) in [("1e3", "1000"), ("1.5E2", "150"), ("25e-3", "0.025"), ("1.5e+1", "15")] {
            assert_eq!(decimal(text).to_string(), kept);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", " ", ".", "-", "1,5", "NaN", "0x10", "1e", "1 2", "--1", "1e99", "١"] {
            assert!(Decimal::parse(text).is_none(), "{text:?}");
        }
        assert!(Decimal::parse(&"9".repeat(60)).is_none());
    }

    #[test]
    fn kilowatt_hours_become_watt_hours_without_loss() {
        assert_eq!(decimal("1.6250000000000002").shifted(3).unwrap().to_string(), "1625.0000000000002");
        assert_eq!(decimal("21.4").shifted(3).unwrap().to_string(), "21400");
    }

    #[test]
    fn equal_amounts_are_equal_however_they_are_written() {
        assert_eq!(decimal("95.0"), decimal("95"));
        assert!(decimal("0.30000000000000004") > decimal("0.3"));
        let (large, small) = (decimal(&"9".repeat(38)), decimal("0.0000000000000000000000000000000001"));
        assert!(large > small);
        assert!(small < large);
        assert!(decimal(&format!("-{}", "9".repeat(38))) < small);
    }

    proptest! {
        #[test]
        fn differences_and_sums_undo_each_other(a in -1_000_000_000_000_i64..1_000_000_000_000, b in 0_i64..1_000_000_000, scale in 0_i32..6) {
            let left = Decimal::from(a).shifted(-scale).unwrap();
            let right = Decimal::from(b);
            prop_assert_eq!(left.checked_add(right).unwrap().checked_sub(right).unwrap(), left);
            prop_assert_eq!(decimal(&left.to_string()), left);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.eE ]{0,60}") {
            if let Some(number) = Decimal::parse(&text) {
                let _shown = number.to_string();
                prop_assert_eq!(number.cmp(&number), std::cmp::Ordering::Equal);
            }
        }
    }
}
