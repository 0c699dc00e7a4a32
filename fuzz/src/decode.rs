//! Any text as the payload of any message.

use switchboard_messages::{Mode, Sender, v16, v21, v201};
use switchboard_rpc::Version;

/// Reads a text as the payload of the request and the response of an action in one version, strictly and leniently.
///
/// Whatever strict reading takes is a JSON object to an independent parser, lenient reading takes it too, and what is
/// written of it is read as the same again.
pub fn check(which: usize, text: &str) {
    macro_rules! check_in {
        ($version:ident, $number:expr) => {
            let actions = switchboard_messages::actions($number);
            let Some(action) = actions.get(which % actions.len()) else { return };
            for sender in [Sender::Station, Sender::Csms] {
                let read = |text: &[u8], mode| $version::decode(action.name, sender, text, mode);
                judge(text, &read, &|message, out| message.encode(out).is_ok());
            }
            let read = |text: &[u8], mode| $version::decode_response(action.name, text, mode);
            judge(text, &read, &|message, out| message.encode(out).is_ok());
        };
    }
    check_in!(v16, Version::V16);
    check_in!(v201, Version::V201);
    check_in!(v21, Version::V21);
}

type Read<'a, T> =
    &'a dyn Fn(&[u8], Mode) -> Result<switchboard_messages::Decoded<T>, switchboard_messages::DecodeError>;

fn judge<T>(text: &str, read: Read<'_, T>, write: &dyn Fn(&T, &mut Vec<u8>) -> bool) {
    let strict = read(text.as_bytes(), Mode::Strict);
    let lenient = read(text.as_bytes(), Mode::Lenient);
    if let Ok(strict) = &strict {
        assert!(lenient.is_ok(), "only strict reading takes {text:?}");
        let mut first = Vec::new();
        assert!(write(&strict.value, &mut first), "what was read strictly cannot be written: {text:?}");
        // Only the grammar: 1e310 is JSON, though no binary float.
        let judged: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(&first);
        assert!(judged.is_ok_and(|value| value.get().starts_with('{')), "{text:?} is written as no object");
        let Ok(again) = read(&first, Mode::Strict) else {
            panic!("what is written of {text:?} is not read again: {}", String::from_utf8_lossy(&first));
        };
        let mut second = Vec::new();
        assert!(write(&again.value, &mut second));
        assert_eq!(first, second, "{text:?} changes each time");
    }
    if let Ok(lenient) = &lenient {
        let mut out = Vec::new();
        if write(&lenient.value, &mut out) {
            assert!(
                read(&out, Mode::Strict).is_ok(),
                "what is written of {text:?} is not strictly valid: {}",
                String::from_utf8_lossy(&out)
            );
        }
    }
}
