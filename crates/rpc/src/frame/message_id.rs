//! The id of a message, kept as it was written.

use super::text;
use bytestring::ByteString;
use std::{borrow::Cow, fmt};

/// How many characters a message id may have (OCPP-J 1.6, table 3; part 4 of 2.0.1 and 2.1, table 4).
pub const ID_CHARACTERS_MAX: usize = 36;

/// The id of a message as JSON text: a string with its quotes and escapes, or an integer.
///
/// It is kept exactly as the peer wrote it, so that an answer carries the same id in the same type (F04). Two ids are
/// equal when they say the same: `"1"` and `"\u0031"` are, `"1"` and `1` are not.
#[derive(Clone)]
pub struct MessageId(ByteString);

impl MessageId {
    /// The id that stands for "the id could not be read" in answers of 2.0.1 and 2.1 (part 4, 4.2.3).
    pub const UNREADABLE: Self = Self(ByteString::from_static("\"-1\""));

    /// A string id with this text. What we send should be a UUID, never used before (C08).
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut json = Vec::with_capacity(text.len() + 2);
        text::write_string(&mut json, text, usize::MAX);
        // `write_string` writes whole characters of a `str`.
        Self(ByteString::try_from(json).unwrap_or_default())
    }

    /// Takes JSON text that the scanner found to be a string or an integer.
    pub(crate) const fn from_json(json: ByteString) -> Self {
        Self(json)
    }

    /// The JSON text, to be written into an answer.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// What the id says: the string without quotes and escapes, or the digits of the integer.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        text_of(&self.0)
    }
}

/// What a JSON string or integer says.
pub(crate) fn text_of(json: &str) -> Cow<'_, str> {
    match inner(json) {
        Some(inner) => text::unescape(inner),
        None => Cow::Borrowed(json),
    }
}

/// What stands between the quotes, if this is a string.
pub(crate) fn inner(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

/// Whether two ids say the same in the same type.
pub(crate) fn same(left: &str, right: &str) -> bool {
    left == right
        || (left.starts_with('"')
            && right.starts_with('"')
            && (left.contains('\\') || right.contains('\\'))
            && text_of(left) == text_of(right))
}

impl PartialEq for MessageId {
    fn eq(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl Eq for MessageId {}

impl fmt::Debug for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}
