//! Any bytes as compressed messages, with an independent inflater as the judge.
#![no_main]

libfuzzer_sys::fuzz_target!(|payload: &[u8]| switchboard_fuzz::inflate::check(payload));
