//! Any text as the payload of any message, in every version and mode.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u16, &str)| switchboard_fuzz::decode::check(usize::from(input.0), input.1));
