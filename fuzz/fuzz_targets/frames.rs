//! Any text as a frame, in every version, with an independent JSON parser as the judge.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| switchboard_fuzz::frames::check(text));
