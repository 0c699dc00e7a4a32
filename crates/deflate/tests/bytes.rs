//! Bytes that mean harm, and bytes that mean nothing. The check is that of the fuzz target; here a generator feeds it.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and the fuzz target's body lives elsewhere, too"
)]

#[path = "../../../fuzz/src/inflate.rs"]
mod inflate;

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

/// What a compressor makes of a text, with a few bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let text = ("[a-f\"\\[\\]{},:]{0,40}", 0..300_usize).prop_map(|(part, times)| part.repeat(times));
    let flush = prop::sample::select(vec![FlushCompress::Sync, FlushCompress::Full, FlushCompress::Finish]);
    let damages = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (text, 0..=9_u32, flush, damages, any::<prop::sample::Index>()).prop_map(
        |(text, level, flush, damages, cut)| {
            let mut payload = Vec::with_capacity(text.len() + 1000);
            let mut state = Compress::new(Compression::new(level), false);
            state.compress_vec(text.as_bytes(), &mut payload, flush).unwrap();
            for (place, byte) in damages {
                let place = place.index(payload.len());
                payload[place] = byte;
            }
            // Cut anywhere, so that the tail is sometimes there and sometimes not.
            payload.truncate(cut.index(payload.len() * 2));
            payload
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_none(payload in prop::collection::vec(any::<u8>(), 0..600)) {
        inflate::check(&payload);
    }

    #[test]
    fn damaged_messages_are_a_message_or_none(payload in damaged()) {
        inflate::check(&payload);
    }
}
