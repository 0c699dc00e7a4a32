//! Who a station is: its identity as the URL of its connection says it.

use bytestring::ByteString;
use std::fmt;

/// The identity of a charging station: 1 to 255 characters, no control characters, no `/`.
///
/// Cloning is cheap. Identities are compared byte by byte; the spelling that the operator registered is the one used
/// everywhere.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StationId(ByteString);

/// Why a text is no station identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Nothing there.
    #[error("the identity is empty")]
    Empty,
    /// More characters than the limit.
    #[error("the identity is longer than {limit} characters")]
    TooLong {
        /// How many characters are allowed.
        limit: usize,
    },
    /// A control character or a `/`.
    #[error("the identity holds a character that is not allowed")]
    Character,
    /// The percent-decoded bytes are not UTF-8.
    #[error("the identity is not UTF-8")]
    NotUtf8,
}

impl StationId {
    /// Takes a text as an identity, at most `limit` characters long (48 in OCPP 2.x; 1.6 states no limit).
    ///
    /// # Errors
    /// When the text is empty, too long or holds a control character or `/`.
    pub fn new(text: impl Into<ByteString>, limit: usize) -> Result<Self, IdentityError> {
        let text = text.into();
        if text.is_empty() {
            return Err(IdentityError::Empty);
        }
        if text.chars().count() > limit {
            return Err(IdentityError::TooLong { limit });
        }
        if text.chars().any(|character| character.is_control() || character == '/') {
            return Err(IdentityError::Character);
        }
        Ok(Self(text))
    }

    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity as a shared string.
    #[must_use]
    pub fn text(&self) -> &ByteString {
        &self.0
    }
}

impl fmt::Display for StationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for StationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}
