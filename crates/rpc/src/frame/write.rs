//! Writing frames.

use super::{FrameKind, Layout, MessageId, text};
use crate::{ErrorCode, Version};
use bytes::Bytes;
use bytestring::ByteString;

/// How many characters of an error description are sent (F14; part 4 of 2.0.1 and 2.1, 4.2.3; 1.6 states no limit).
pub const DESCRIPTION_CHARACTERS_MAX: usize = 255;

/// A CALL: `[2,id,action,payload]`. The payload is a JSON object; none at all counts as `{}`.
#[must_use]
pub fn write_call(id: &MessageId, action: &str, payload: &[u8]) -> Bytes {
    write_request(b"[2,", id, action, payload)
}

/// A SEND, 2.1 only: `[6,id,action,payload]`. Nobody answers it.
#[must_use]
pub fn write_send(id: &MessageId, action: &str, payload: &[u8]) -> Bytes {
    write_request(b"[6,", id, action, payload)
}

fn write_request(start: &[u8], id: &MessageId, action: &str, payload: &[u8]) -> Bytes {
    let payload = or_empty_object(payload);
    let mut frame = Vec::with_capacity(start.len() + id.as_json().len() + action.len() + payload.len() + 8);
    frame.extend_from_slice(start);
    frame.extend_from_slice(id.as_json().as_bytes());
    frame.push(b',');
    text::write_string(&mut frame, action, usize::MAX);
    frame.push(b',');
    frame.extend_from_slice(payload);
    frame.push(b']');
    frame.into()
}

/// A CALLRESULT: `[3,id,payload]`. The payload is a JSON object; none at all counts as `{}`.
#[must_use]
pub fn write_result(id: &MessageId, payload: &[u8]) -> Bytes {
    let payload = or_empty_object(payload);
    let mut frame = Vec::with_capacity(id.as_json().len() + payload.len() + 5);
    frame.extend_from_slice(b"[3,");
    frame.extend_from_slice(id.as_json().as_bytes());
    frame.push(b',');
    frame.extend_from_slice(payload);
    frame.push(b']');
    frame.into()
}

/// A CALLERROR: `[4,id,code,description,details]`, the code spelled as this version spells it.
///
/// The description is cut to [`DESCRIPTION_CHARACTERS_MAX`] characters. `details` is a JSON object; none at all counts
/// as `{}`. Neither may repeat what the peer sent: payloads hold tokens and passwords (F14).
#[must_use]
pub fn write_error(
    id: &MessageId,
    code: ErrorCode,
    description: &str,
    details: &[u8],
    version: Version,
) -> Bytes {
    write_refusal(b"[4,", id, code, description, details, version)
}

/// A CALLRESULTERROR, 2.1 only: `[5,id,code,description,details]`, otherwise as [`write_error`].
#[must_use]
pub fn write_result_error(id: &MessageId, code: ErrorCode, description: &str, details: &[u8]) -> Bytes {
    write_refusal(b"[5,", id, code, description, details, Version::V21)
}

/// A text as a JSON string, cut to [`DESCRIPTION_CHARACTERS_MAX`] characters.
#[must_use]
pub fn json_string(text: &str) -> ByteString {
    let mut json = Vec::with_capacity(text.len() + 2);
    text::write_string(&mut json, text, DESCRIPTION_CHARACTERS_MAX);
    ByteString::try_from(json).unwrap_or_default()
}

fn write_refusal(
    start: &[u8],
    id: &MessageId,
    code: ErrorCode,
    description: &str,
    details: &[u8],
    version: Version,
) -> Bytes {
    let (code, details) = (code.as_str(version), or_empty_object(details));
    let mut frame =
        Vec::with_capacity(id.as_json().len() + code.len() + description.len() + details.len() + 12);
    frame.extend_from_slice(start);
    frame.extend_from_slice(id.as_json().as_bytes());
    frame.extend_from_slice(b",\"");
    frame.extend_from_slice(code.as_bytes());
    frame.extend_from_slice(b"\",");
    text::write_string(&mut frame, description, DESCRIPTION_CHARACTERS_MAX);
    frame.push(b',');
    frame.extend_from_slice(details);
    frame.push(b']');
    frame.into()
}

const fn or_empty_object(json: &[u8]) -> &[u8] {
    if json.is_empty() { b"{}" } else { json }
}

/// Brings an answer of ours into the form in which it is sent: the peer's own spelling of the id, `{}` for nothing,
/// and in errors this version's name of the code and a description that is short enough (F04, F14). An answer that is
/// in this form already is passed on as it is.
pub(crate) fn write_answered(text: ByteString, layout: &Layout, id: &str, version: Version) -> ByteString {
    if layout.kind == FrameKind::Result && layout.has_payload() && layout.id_json(&text) == id {
        return text;
    }
    let payload = layout.payload(&text);
    let mut frame = Vec::with_capacity(text.len() + id.len());
    if layout.kind == FrameKind::Result {
        frame.extend_from_slice(b"[3,");
        frame.extend_from_slice(id.as_bytes());
    } else {
        let code = layout.name(&text);
        frame.extend_from_slice(b"[4,");
        frame.extend_from_slice(id.as_bytes());
        frame.push(b',');
        let spelled = ErrorCode::from_wire(&code).map_or(&*code, |known| known.as_str(version));
        text::write_string(&mut frame, spelled, DESCRIPTION_CHARACTERS_MAX);
        frame.push(b',');
        text::write_string(&mut frame, &layout.description(&text), DESCRIPTION_CHARACTERS_MAX);
    }
    frame.push(b',');
    frame.extend_from_slice(if payload.starts_with('{') { payload.as_bytes() } else { b"{}" });
    frame.push(b']');
    // Put together from pieces of text only.
    ByteString::try_from(frame).unwrap_or_default()
}
