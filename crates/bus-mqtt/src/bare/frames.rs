//! Message ids taken out of frames and put into them.

use bytes::Bytes;
use bytestring::ByteString;
use switchboard_bus::{OutcomeKind, Registration};
use switchboard_rpc::{ErrorCode, Frame, MessageId, Version, frame::write_error};

/// What a frame is, as far as it matters here.
pub(super) enum Said {
    /// A CALL or a SEND.
    Call { id: MessageId, action: ByteString },
    /// A CALLRESULT or CALLERROR.
    Answer { id: MessageId },
}

/// Takes a frame apart. Its id is a part of `text`.
pub(super) fn said(text: &ByteString, version: Version) -> Option<Said> {
    Some(match Frame::parse(text, version).ok()? {
        Frame::Call { id, action, .. } | Frame::Send { id, action, .. } => Said::Call { id, action },
        Frame::Result { id, .. } | Frame::Error { id, .. } => Said::Answer { id },
        _ => return None,
    })
}

/// Which connection and which call of it, as a message id: JSON text with at most 36 characters between its quotes.
pub(super) fn token(generation: u64, seq: u64) -> String {
    format!("\"{generation:x}-{seq:x}\"")
}

/// The frame with another id, given as JSON text; all other bytes as they were. None if `id` is no part of the frame.
pub(super) fn with_id(frame: &ByteString, id: &MessageId, other: &str) -> Option<Bytes> {
    let own = id.as_json();
    let start = (own.as_ptr() as usize).checked_sub(frame.as_ptr() as usize)?;
    let before = frame.get(..start)?;
    let after = frame.get(start + own.len()..)?;
    if frame.get(start..start + own.len())? != own {
        return None;
    }
    let mut changed = Vec::with_capacity(before.len() + other.len() + after.len());
    for part in [before, other, after] {
        changed.extend_from_slice(part.as_bytes());
    }
    Some(changed.into())
}

/// What whoever commanded a station is told: the station's own frame, or else a CALLERROR that says how it ended, with
/// the outcome's word in its details. `id` is JSON text.
pub(super) fn outcome(kind: OutcomeKind, body: Bytes, version: Option<Version>, id: &str) -> Bytes {
    // Frames of answers look the same in all versions.
    let version = version.unwrap_or(Version::V16);
    let renamed = |body: Bytes| {
        let text = ByteString::try_from(body).ok()?;
        let Said::Answer { id: own } = said(&text, version)? else { return None };
        with_id(&text, &own, id)
    };
    if matches!(kind, OutcomeKind::Answered | OutcomeKind::Refused)
        && let Some(frame) = renamed(body)
    {
        return frame;
    }
    let word = kind.as_str();
    let details = format!(r#"{{"outcome":"{word}"}}"#);
    let description = format!("the command has no answer of the station: {word}");
    let placeholder = MessageId::new("-");
    let error = write_error(&placeholder, ErrorCode::GenericError, &description, details.as_bytes(), version);
    renamed(error.clone()).unwrap_or(error)
}

/// What an answer to a BootNotification says of the station. There is no header here that could.
pub(super) fn registration(
    action: Option<&str>,
    text: &ByteString,
    version: Version,
) -> Option<Registration> {
    #[derive(serde::Deserialize)]
    enum Status {
        Accepted,
        Pending,
        Rejected,
    }

    #[derive(serde::Deserialize)]
    struct Booted {
        status: Status,
    }

    if action != Some("BootNotification") {
        return None;
    }
    let Frame::Result { payload, .. } = Frame::parse(text, version).ok()? else { return None };
    let booted: Booted = serde_json::from_str(&payload).ok()?;
    Some(match booted.status {
        Status::Accepted => Registration::Accepted,
        Status::Pending => Registration::Pending,
        Status::Rejected => Registration::Rejected,
    })
}

/// The longest token as JSON text, and so the most that a frame may grow by.
pub(super) const TOKEN_BYTES_MAX: usize = 38;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: &'static str) -> ByteString {
        ByteString::from_static(frame)
    }

    #[test]
    fn a_token_has_at_most_36_characters_and_is_the_calls_own() {
        assert_eq!(token(0x1a2, 3), r#""1a2-3""#);
        assert!(token(u64::MAX, u64::MAX).len() <= TOKEN_BYTES_MAX);
        assert_ne!(token(1, 0x11), token(0x11, 1));
    }

    #[test]
    fn an_id_is_replaced_and_put_back_and_every_other_byte_stays() {
        let frame = text(r#" [2 , "a\u0062", "Heartbeat",{"x": 1.10 , "\"a\\u0062\"":"[2"}] "#);
        let Some(Said::Call { id, action }) = said(&frame, Version::V16) else { panic!() };
        assert_eq!(action, "Heartbeat");
        let sent = with_id(&frame, &id, &token(5, 6)).unwrap();
        assert_eq!(sent, r#" [2 , "5-6", "Heartbeat",{"x": 1.10 , "\"a\\u0062\"":"[2"}] "#);
        let answer = text(r#"[4,"5-6","NotSupported","",{"why":"5-6"}]"#);
        let Some(Said::Answer { id: token }) = said(&answer, Version::V16) else { panic!() };
        let answer = with_id(&answer, &token, id.as_json()).unwrap();
        assert_eq!(answer, r#"[4,"a\u0062","NotSupported","",{"why":"5-6"}]"#);
        assert_eq!(with_id(&frame, &MessageId::new("5-6"), "1"), None, "not a part of it");
    }

    #[test]
    fn an_outcome_is_the_stations_frame_or_says_why_there_is_none() {
        let answered = outcome(
            OutcomeKind::Answered,
            Bytes::from_static(br#"[3,"ours",{"status":"Accepted"}]"#),
            None,
            "7",
        );
        assert_eq!(answered, r#"[3,7,{"status":"Accepted"}]"#);
        let offline = outcome(OutcomeKind::Offline, Bytes::new(), Some(Version::V201), r#""x""#);
        let error = Frame::parse(&ByteString::try_from(offline).unwrap(), Version::V201).unwrap();
        let Frame::Error { id, code, details, .. } = error else { panic!() };
        assert_eq!((&*id.text(), &*code, &*details), ("x", "GenericError", r#"{"outcome":"offline"}"#));
    }

    #[test]
    fn only_the_answer_to_a_boot_says_how_a_station_is_registered() {
        let answer =
            text(r#"[3,"1",{"currentTime":"2024-01-01T00:00:00Z","interval":1,"status":"Pending"}]"#);
        assert_eq!(
            registration(Some("BootNotification"), &answer, Version::V16),
            Some(Registration::Pending)
        );
        assert_eq!(registration(Some("DataTransfer"), &answer, Version::V16), None);
        assert_eq!(registration(Some("BootNotification"), &text(r#"[3,"1",{}]"#), Version::V16), None);
    }
}
