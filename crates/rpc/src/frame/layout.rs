//! Which part of a text is what: the rules of each message type.

use super::{
    Fault, FrameError, FrameKind, ID_CHARACTERS_MAX, MessageId,
    message_id::inner,
    scan::{Elements, Span, scan, scan_head},
    text,
};
use crate::Version;
use bytestring::ByteString;

/// A longer id is not sent back: the error would be about nothing but its id.
const ECHOED_ID_BYTES_MAX: usize = 255 * 6;

/// Where the parts of a sound frame stand in its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) kind: FrameKind,
    id: Span,
    /// The action or the code.
    name: Span,
    /// May be empty.
    description: Span,
    /// The payload or the details; empty stands for `{}`.
    payload: Span,
}

impl Layout {
    pub(crate) fn of(text: &str, version: Version) -> Result<Self, FrameError> {
        let (elements, outcome) = scan(text);
        let kind = elements.get(0).and_then(|span| FrameKind::from_number(span.of(text), version));
        outcome.and_then(|()| Self::from_elements(text, &elements, kind)).map_err(|fault| FrameError {
            fault,
            kind,
            id: elements
                .get(1)
                .map(|span| span.of(text))
                .filter(|id| is_string_or_integer(id) && id.len() <= ECHOED_ID_BYTES_MAX)
                // Copied, since what is wrong with the text may be its size.
                .map(|id| MessageId::from_json(ByteString::from(id))),
        })
    }

    /// Of a CALL or SEND whose payload was not looked into; none where the whole must be looked at.
    pub(crate) fn of_head(text: &str, version: Version) -> Option<Self> {
        let elements = scan_head(text)?;
        let kind = FrameKind::from_number(elements.get(0)?.of(text), version)
            .filter(|kind| matches!(kind, FrameKind::Call | FrameKind::Send))?;
        Self::from_elements(text, &elements, Some(kind)).ok()
    }

    fn from_elements(text: &str, elements: &Elements, kind: Option<FrameKind>) -> Result<Self, Fault> {
        let number = elements.get(0).ok_or(Fault::NoType)?.of(text);
        let kind = match kind {
            Some(kind) => kind,
            // F02: neither 2.9 nor "2" is a type.
            None if is_integer(number) => return Err(Fault::UnknownType),
            None => return Err(Fault::NoType),
        };
        let id = elements.get(1).ok_or(Fault::IdNotText)?;
        check_id(id.of(text))?;
        let (fewest, most) = match kind {
            FrameKind::Call | FrameKind::Send => (4, 4),
            FrameKind::Result => (3, 3),
            // F13: description and details may be missing.
            FrameKind::Error | FrameKind::ResultError => (3, 5),
        };
        if !(fewest..=most).contains(&elements.count()) {
            return Err(Fault::ElementCount);
        }
        let named = !matches!(kind, FrameKind::Result);
        let name = if named { elements.get(2).unwrap_or_default() } else { Span::default() };
        if named && inner(name.of(text)).is_none() {
            return Err(Fault::NameNotText);
        }
        let mut layout = Self { kind, id, name, description: Span::default(), payload: Span::default() };
        match kind {
            FrameKind::Call | FrameKind::Send | FrameKind::Result => {
                let payload = elements.get(most - 1).unwrap_or_default();
                match payload.of(text) {
                    "null" => {}
                    object if object.starts_with('{') => layout.payload = payload,
                    _ => return Err(Fault::PayloadNotObject),
                }
            }
            FrameKind::Error | FrameKind::ResultError => {
                let part = |at, holds: fn(&str) -> bool| {
                    elements.get(at).filter(|span| holds(span.of(text))).unwrap_or_default()
                };
                layout.description = part(3, |json| inner(json).is_some());
                layout.payload = part(4, |json| json != "null");
            }
        }
        Ok(layout)
    }

    pub(crate) fn id_json<'text>(&self, text: &'text str) -> &'text str {
        self.id.of(text)
    }

    /// Whether there is a payload other than `null`.
    pub(crate) const fn has_payload(&self) -> bool {
        !self.payload.is_empty()
    }

    pub(crate) fn id(&self, text: &ByteString) -> MessageId {
        MessageId::from_json(text.slice_ref(self.id.of(text)))
    }

    pub(crate) fn name(&self, text: &ByteString) -> ByteString {
        unquoted(text, self.name)
    }

    pub(crate) fn description(&self, text: &ByteString) -> ByteString {
        unquoted(text, self.description)
    }

    pub(crate) fn payload(&self, text: &ByteString) -> ByteString {
        if self.has_payload() { text.slice_ref(self.payload.of(text)) } else { ByteString::from_static("{}") }
    }
}

/// What a string says: a slice of the text, or a copy where escapes must be undone.
fn unquoted(text: &ByteString, span: Span) -> ByteString {
    let inner = inner(span.of(text)).unwrap_or_default();
    match text::unescape(inner) {
        std::borrow::Cow::Borrowed(inner) => text.slice_ref(inner),
        std::borrow::Cow::Owned(plain) => plain.into(),
    }
}

fn check_id(json: &str) -> Result<(), Fault> {
    match inner(json) {
        Some("") => Err(Fault::IdEmpty),
        // F05: characters, and those that are meant, not those that are written.
        Some(inner) if text::longer_than(inner, ID_CHARACTERS_MAX) => Err(Fault::IdTooLong),
        Some(_) => Ok(()),
        // F04: some stations count their messages with numbers.
        None if !is_integer(json) => Err(Fault::IdNotText),
        None if json.len() > ID_CHARACTERS_MAX => Err(Fault::IdTooLong),
        None => Ok(()),
    }
}

fn is_integer(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_string_or_integer(json: &str) -> bool {
    inner(json).is_some() || is_integer(json)
}
