//! Two connections that talk to each other over a line that loses, repeats and adds.
#![no_main]

use switchboard_fuzz::operations::{Operation, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((version, rest)) = bytes.split_first() else { return };
    let operations: Vec<_> =
        rest.chunks_exact(3).map(|three| Operation::decode([three[0], three[1], three[2]])).collect();
    run(*version, &operations);
});
