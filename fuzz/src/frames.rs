//! Any text as a frame.

use bytestring::ByteString;
use serde_json::value::RawValue;
use switchboard_rpc::{Frame, FrameError, FrameKind, Version, frame};

/// Takes any text as a frame of every version and compares what comes of it with an independent JSON parser.
pub fn check(text: &str) {
    let judge: Option<Vec<&RawValue>> =
        serde_json::from_str(text).ok().filter(|_| depth(text) <= frame::DEPTH_MAX);
    // Half a surrogate pair: the judge takes it for JSON, and not for text. It must not do harm, that is all.
    let is_doubtful = |element: &&RawValue| {
        element.get().starts_with('"') && serde_json::from_str::<String>(element.get()).is_err()
    };
    if judge.iter().flatten().any(is_doubtful) {
        for version in Version::ALL {
            drop(Frame::parse(&ByteString::from(text), version));
        }
        return;
    }
    for version in Version::ALL {
        let found = Frame::parse(&ByteString::from(text), version);
        match (&judge, found) {
            (Some(elements), Ok(found)) => {
                assert!(is_sound(elements, version), "{version} accepts {text:?}");
                check_parts(elements, &found, text);
            }
            (Some(elements), Err(error)) => {
                assert!(!is_sound(elements, version), "{version} refuses {text:?}: {error}");
                check_answer(&error, text, version);
            }
            // What is wrong may be inside an object, which is for its reader to find out.
            (None, Ok(found)) => {
                let object = match &found {
                    Frame::Call { payload, .. }
                    | Frame::Send { payload, .. }
                    | Frame::Result { payload, .. } => payload,
                    Frame::Error { details, .. } | Frame::ResultError { details, .. } => details,
                    _ => panic!("a new kind of frame"),
                };
                let brackets = text.bytes().any(|byte| byte == b'{' || byte == b'[');
                assert!(
                    brackets && depth(text) <= frame::DEPTH_MAX,
                    "{version} accepts {text:?} with {object:?}"
                );
            }
            (None, Err(error)) => check_answer(&error, text, version),
        }
    }
}

/// The rules of the specification once more, from the elements that the judge found.
fn is_sound(elements: &[&RawValue], version: Version) -> bool {
    let Some(kind) = elements.first().and_then(|number| match (number.get(), version) {
        ("2", _) => Some(FrameKind::Call),
        ("3", _) => Some(FrameKind::Result),
        ("4", _) => Some(FrameKind::Error),
        ("5", Version::V21) => Some(FrameKind::ResultError),
        ("6", Version::V21) => Some(FrameKind::Send),
        _ => None,
    }) else {
        return false;
    };
    let id_is_sound =
        elements.get(1).is_some_and(|id| match serde_json::from_str::<serde_json::Value>(id.get()) {
            Ok(serde_json::Value::String(id)) => (1..=36).contains(&id.chars().count()),
            Ok(serde_json::Value::Number(_)) => !id.get().contains(['.', 'e', 'E']) && id.get().len() <= 36,
            Ok(_) => false,
            // A number beyond that parser's range.
            Err(_) => !id.get().contains(['.', 'e', 'E']) && id.get().len() <= 36,
        });
    let is_text = |index: usize| elements.get(index).is_some_and(|element| element.get().starts_with('"'));
    let is_object = |index: usize| {
        elements.get(index).is_some_and(|element| element.get() == "null" || element.get().starts_with('{'))
    };
    id_is_sound
        && match kind {
            FrameKind::Call | FrameKind::Send => elements.len() == 4 && is_text(2) && is_object(3),
            FrameKind::Result => elements.len() == 3 && is_object(2),
            FrameKind::Error | FrameKind::ResultError => (3..=5).contains(&elements.len()) && is_text(2),
        }
}

fn check_parts(elements: &[&RawValue], found: &Frame, text: &str) {
    assert_eq!(found.id().as_json(), elements[1].get());
    let is_absent = |index: usize| elements.get(index).is_none_or(|element| element.get() == "null");
    let part = |index: usize| if is_absent(index) { "{}" } else { elements[index].get() };
    let (name, payload, at) = match found {
        Frame::Call { action, payload, .. } | Frame::Send { action, payload, .. } => {
            (Some(action), payload, 3)
        }
        Frame::Result { payload, .. } => (None, payload, 2),
        Frame::Error { code, details, .. } | Frame::ResultError { code, details, .. } => {
            (Some(code), details, 4)
        }
        _ => panic!("a new kind of frame"),
    };
    assert_eq!(&**payload, part(at), "{text:?}");
    if let (Some(name), Ok(said)) = (name, serde_json::from_str::<String>(elements[2].get())) {
        assert_eq!(&**name, said, "{text:?}");
    }
}

/// What we say about a bad frame is itself a good one, and about nothing but that frame.
fn check_answer(error: &FrameError, text: &str, version: Version) {
    let Some(answer) = error.answer(version) else { return };
    assert!(matches!(error.kind, Some(FrameKind::Call) | None), "an answer to {error:?}");
    let answer = ByteString::try_from(answer).expect("text");
    let parts: Vec<&RawValue> = serde_json::from_str(&answer).expect("JSON");
    let id = parts[1].get();
    assert!((id == "\"-1\"" && version != Version::V16) || text.contains(id), "{answer}");
    assert_eq!((parts.len(), parts[0].get(), parts[4].get()), (5, "4", "{}"));
}

/// How deep brackets outside of strings are nested.
fn depth(text: &str) -> u32 {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_u32, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
