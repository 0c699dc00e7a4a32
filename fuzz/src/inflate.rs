//! Any bytes as compressed messages, with an independent inflater as the judge.

use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use switchboard_deflate::{Heads, InflateError, Pool};

/// The largest message that is taken.
const LIMIT: usize = 5_000;

/// Inflates any bytes, and deflates them and inflates that.
///
/// Whatever comes of them is no larger than it may be, and as far as an independent inflater reads the same bytes it reads
/// the same; nothing is left in the pool that changes what comes next; and what is deflated is inflated to what it was.
pub fn check(payload: &[u8]) {
    let pool = Pool::new(1);
    let inflated = pool.inflate(payload, LIMIT);
    if let Ok(message) = &inflated {
        assert!(message.len() <= LIMIT);
        assert_eq!(pool.inflate(payload, message.len()).as_ref(), Ok(message), "exactly as much");
        if let Some(less) = message.len().checked_sub(1) {
            assert_eq!(pool.inflate(payload, less), Err(InflateError::TooBig), "one byte less");
        }
    }
    // The judge stops at the first last block, at the end, and at a fault in a symbol that is not whole: what it has until
    // then must be the beginning of ours.
    let mut judged = [0; LIMIT + 1];
    let flags =
        inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
    let (_, _, length) = decompress(&mut DecompressorOxide::new(), payload, &mut judged, 0, flags);
    match &inflated {
        Ok(message) => assert!(message.starts_with(&judged[..length]), "{message:?} is not {judged:?}"),
        Err(InflateError::TooBig | InflateError::Invalid) => {}
    }
    for window_bits in 8..=15 {
        if let Some(deflated) = pool.deflate(payload, window_bits) {
            assert!(deflated.len() < payload.len());
            let again = pool.inflate(&deflated, payload.len());
            assert_eq!(again.as_deref(), Ok(payload), "with a window of {window_bits} bits");
        }
    }
    assert_eq!(pool.inflate(payload, LIMIT), inflated, "the same a second time");
    // The heads of frames may be anything, in pieces of any size.
    for agreed in [false, true] {
        let (mut whole, mut in_pieces) = (payload.to_vec(), payload.to_vec());
        let (mut one, mut other) = (Heads::new(agreed), Heads::new(agreed));
        one.feed(&mut whole);
        for piece in in_pieces.chunks_mut(3) {
            other.feed(piece);
        }
        assert_eq!(whole, in_pieces);
        assert_eq!(one.is_between_messages(), other.is_between_messages());
        assert!(agreed || whole == payload);
    }
}
