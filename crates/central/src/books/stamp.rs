//! A time as a station gave it.

use serde::Serialize;

/// Stand-ins for times that cannot be read lie below this: some 146,000 years before 1970.
const NO_INSTANT_BELOW: i64 = i64::MIN / 2;

/// A time as a station gave it: its text, and the instant that it stands for.
///
/// Instants are compared, not texts: a repeat may be written in another zone. A text that is no time gets a stand-in
/// that depends only on the text, so that repeats are still recognised, and that no query over a span of time meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Stamp {
    #[serde(skip)]
    pub(crate) text: String,
    pub(crate) us: i64,
}

impl Stamp {
    /// A text and its instant in microseconds since 1970, if it has one.
    pub(crate) fn new(text: impl Into<String>, us: Option<i64>) -> Self {
        let text = text.into();
        let us = us.unwrap_or_else(|| stand_in(&text));
        Self { text, us }
    }

    /// The instant in milliseconds, if `us` is one.
    pub(crate) fn instant_ms(us: i64) -> Option<i64> {
        (us > NO_INSTANT_BELOW).then(|| us.div_euclid(1000))
    }
}

/// FNV-1a over the text, moved to where no time is.
fn stand_in(text: &str) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    i64::MIN + i64::try_from(hash >> 2).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Stamp;

    #[test]
    fn what_is_no_time_is_recognised_again_and_lies_outside_of_time() {
        let (first, second) = (Stamp::new("yesterday", None), Stamp::new("yesterday", None));
        assert_eq!(first, second);
        assert_ne!(first.us, Stamp::new("tomorrow", None).us);
        assert_eq!(Stamp::instant_ms(first.us), None);
        assert_eq!(Stamp::instant_ms(-1), Some(-1));
    }
}
