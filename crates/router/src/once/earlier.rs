//! The keys of the calls before the last one of a station, in few bytes.
//!
//! They are written with every call, and the more rows fit on a page of the database, the fewer pages a commit has to
//! write: each key is the difference to the one after it, most often a single byte.

/// A call's generation and number, as they are stored.
pub(super) type Pair = (i64, i64);

/// How many calls before the last one of a station are remembered, by their keys only. One of them may have had its effect
/// so late that its gateway journalled it; then it comes again after the few calls that do not wait for the journal.
pub(super) const EARLIER_MAX: usize = 16;

/// The keys before `next`: `last`, and `earlier`, those before that. Keys rise.
pub(super) fn before(next: Pair, last: Pair, earlier: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(earlier.len() + 4);
    if next.0 == last.0 {
        put(&mut bytes, next.1.wrapping_sub(last.1));
    } else {
        put(&mut bytes, 0);
        put(&mut bytes, next.0.wrapping_sub(last.0));
        put(&mut bytes, last.1);
    }
    let mut keys = Keys { after: last, rest: earlier };
    // One less than there may be, as one has been added.
    keys.by_ref().take(EARLIER_MAX - 1).for_each(drop);
    let kept = earlier.len() - keys.rest.len();
    bytes.extend_from_slice(earlier.get(..kept).unwrap_or_default());
    bytes
}

/// The keys before `last`, the newest first.
pub(super) fn keys(last: Pair, earlier: &[u8]) -> impl Iterator<Item = Pair> {
    Keys { after: last, rest: earlier }.take(EARLIER_MAX)
}

struct Keys<'a> {
    after: Pair,
    rest: &'a [u8],
}

impl Iterator for Keys<'_> {
    type Item = Pair;

    fn next(&mut self) -> Option<Pair> {
        let difference = take(&mut self.rest)?;
        self.after = if difference == 0 {
            let generations = take(&mut self.rest)?;
            (self.after.0.wrapping_sub(generations), take(&mut self.rest)?)
        } else {
            (self.after.0, self.after.1.wrapping_sub(difference))
        };
        Some(self.after)
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put(bytes: &mut Vec<u8>, number: i64) {
    let mut number = number.cast_unsigned();
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number.cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_last_sixteen_keys_are_remembered(
            steps in prop::collection::vec((0_i64..3, prop_oneof![4 => 0_i64..4, 1 => 0_i64..i64::MAX]), 1..60),
        ) {
            let mut known: Vec<Pair> = vec![(0, 0)];
            let mut earlier = Vec::new();
            for (generations, number) in steps {
                let last = *known.last().unwrap();
                let next = match generations {
                    0 => (last.0, last.1.saturating_add(number + 1)),
                    _ => (last.0 + generations * 1_000_000_007, number),
                };
                if next == last {
                    continue;
                }
                earlier = before(next, last, &earlier);
                known.push(next);
            }
            let (last, rest) = known.split_last().unwrap();
            let expected: Vec<_> = rest.iter().rev().take(EARLIER_MAX).copied().collect();
            prop_assert_eq!(keys(*last, &earlier).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), last in any::<(i64, i64)>()) {
            prop_assert!(keys(last, &bytes).count() <= EARLIER_MAX);
            drop(before((7, 7), last, &bytes));
        }
    }

    #[test]
    fn calls_one_after_the_other_take_a_byte_each() {
        let mut earlier = Vec::new();
        for seq in 1..100 {
            earlier = before((1_700_000_000_000, seq), (1_700_000_000_000, seq - 1), &earlier);
        }
        assert_eq!(earlier.len(), EARLIER_MAX);
    }
}
