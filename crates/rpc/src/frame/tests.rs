//! What the rows F01–F16 promise, as far as a frame alone can show it.

use super::*;

#[test]
fn a_call_is_taken_apart_into_slices_of_its_text() {
    let text = ByteString::from_static(r#"[2,"17","Heartbeat",{}]"#);
    let frame = Frame::parse(&text, Version::V16).unwrap();
    let Frame::Call { id, action, payload } = frame else { panic!("{frame:?}") };
    assert_eq!((id.as_json(), &*action, &*payload), ("\"17\"", "Heartbeat", "{}"));
}
