//! Brackets found 64 bytes at a step, with wide registers.
//!
//! Where strings begin and end follows from the quotes alone as long as there is no backslash; a text that has one is
//! left to the walk byte by byte from there on. Most payloads have none.

use super::{Fault, Nesting};
use wide::u8x16;

/// How far it came.
pub(super) enum Passed {
    /// To the end of the container.
    End(usize),
    /// To the last bytes of the text, or to a backslash.
    Rest {
        /// From where to go on.
        at: usize,
        /// Whether that is within a string.
        in_string: bool,
    },
}

/// Looks for the end of the container that opens at `at`.
pub(super) fn pass(bytes: &[u8], mut at: usize, nesting: &mut Nesting) -> Result<Passed, Fault> {
    // All ones while a string goes on from the block before.
    let mut carried = 0_u64;
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let Found { quotes, brackets, backslash } = look(block);
        if backslash {
            break;
        }
        let in_strings = parity(quotes) ^ carried;
        let mut outside = brackets & !in_strings;
        while outside != 0 {
            let place = outside.trailing_zeros() as usize;
            if let Some(bracket) = block.get(place)
                && nesting.ends_with(*bracket)?
            {
                return Ok(Passed::End(at + place + 1));
            }
            outside &= outside - 1;
        }
        carried = (in_strings >> 63).wrapping_neg();
        at += BLOCK_BYTES;
    }
    Ok(Passed::Rest { at, in_string: carried != 0 })
}

const BLOCK_BYTES: usize = 64;

/// What is in a block; one bit per byte.
struct Found {
    quotes: u64,
    brackets: u64,
    backslash: bool,
}

#[inline]
fn look(block: &[u8; BLOCK_BYTES]) -> Found {
    let all = u8x16::splat;
    let mut found = Found { quotes: 0, brackets: 0, backslash: false };
    let (parts, _) = block.as_chunks::<16>();
    for (index, part) in parts.iter().enumerate() {
        let part = u8x16::from(*part);
        // One bit is all that `[` differs in from `{`, and `]` from `}`.
        let folded = part | all(0x20);
        let brackets = folded.simd_eq(all(b'{')) | folded.simd_eq(all(b'}'));
        found.quotes |= u64::from(part.simd_eq(all(b'"')).to_bitmask()) << (16 * index);
        found.brackets |= u64::from(brackets.to_bitmask()) << (16 * index);
        found.backslash |= part.simd_eq(all(b'\\')).to_bitmask() != 0;
    }
    found
}

/// Sets each bit that has an odd number of set bits at or below it: from a quote up to before the next.
const fn parity(mut bits: u64) -> u64 {
    let mut shift = 1;
    while shift < 64 {
        bits ^= bits << shift;
        shift <<= 1;
    }
    bits
}
