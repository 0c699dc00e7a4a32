//! Who a station is: its identity as the URL of its connection says it.

use bytestring::ByteString;
use percent_encoding::percent_decode_str;
use std::fmt;

/// How many characters an identity has at most in OCPP 2.x. 1.6 states no limit; 255 is the most that we ever take.
pub const IDENTITY_CHARACTERS_MAX: usize = 48;

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
    /// The path does not lead to where stations connect.
    #[error("the path is not one for stations")]
    OutsidePrefix,
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

/// The identity in the target of a request, such as `/ocpp/CP%20001?key=1`: the last segment of the raw path,
/// percent-decoded once (H10).
///
/// `target` is still encoded: after decoding, nobody could tell a `/` that separates from one that was part of a name.
/// `prefix` is where stations connect, such as `/ocpp`; segments between it and the last one are ignored, since some
/// stations put the version there (H05). The query takes no part and one trailing slash is borne (H12).
///
/// # Errors
/// When the path is not below the prefix, or its last segment is no identity of at most `limit` characters (H11).
pub fn from_path(target: &str, prefix: &str, limit: usize) -> Result<StationId, IdentityError> {
    let path = target.split_once(['?', '#']).map_or(target, |(path, _)| path);
    let below = path
        .strip_prefix(prefix.trim_end_matches('/'))
        .filter(|below| below.is_empty() || below.starts_with('/'))
        .ok_or(IdentityError::OutsidePrefix)?;
    let below = below.strip_suffix('/').unwrap_or(below);
    let segment = below.rsplit_once('/').map_or(below, |(_, last)| last);
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| IdentityError::NotUtf8)?;
    StationId::new(&*decoded, limit)
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
        // What nearly all are made of, seen at one look: each call's headers have an identity.
        let usual = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'/';
        if text.len() <= limit && text.as_bytes().iter().all(usual) {
            return Ok(Self(text));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, expected: Result<&str, IdentityError>) {
        let found = from_path(target, "/ocpp", IDENTITY_CHARACTERS_MAX);
        assert_eq!(found.as_ref().map(StationId::as_str).map_err(|error| *error), expected, "{target}");
    }

    /// H10
    #[test]
    fn the_identity_is_the_last_segment_decoded_once() {
        check("/ocpp/CP001", Ok("CP001"));
        check("/ocpp/RDAM%7C123", Ok("RDAM|123"));
        check("/ocpp/RDAM%20123", Ok("RDAM 123"));
        check("/ocpp/100%25%2541", Ok("100%%41"));
        check("/ocpp/a+b", Ok("a+b"));
        check("/ocpp/caf%C3%A9", Ok("café"));
        check("/ocpp/1.6/CP001", Ok("CP001"));
        check("/ocpp/CP001/CP002", Ok("CP002"));
        check("/ocpp/a:b", Ok("a:b"));
        check("/ocpp/100%", Ok("100%"));
    }

    /// H10: an encoded slash does not split, and H11: it is no part of an identity either.
    #[test]
    fn an_encoded_slash_does_not_split() {
        check("/ocpp/evil%2FCP001", Err(IdentityError::Character));
        check("/ocpp/evil%2fCP001", Err(IdentityError::Character));
    }

    /// H11
    #[test]
    fn what_is_no_identity_is_refused() {
        check("/ocpp/", Err(IdentityError::Empty));
        check("/ocpp", Err(IdentityError::Empty));
        check("/ocpp//", Err(IdentityError::Empty));
        check("/ocpp/CP001//", Err(IdentityError::Empty));
        check(&format!("/ocpp/{}", "x".repeat(48)), Ok(&"x".repeat(48)));
        check(&format!("/ocpp/{}", "%C3%A9".repeat(48)), Ok(&"é".repeat(48)));
        check(&format!("/ocpp/{}", "x".repeat(49)), Err(IdentityError::TooLong { limit: 48 }));
        check("/ocpp/CP%00", Err(IdentityError::Character));
        check("/ocpp/CP%0A1", Err(IdentityError::Character));
        check("/ocpp/CP%7F", Err(IdentityError::Character));
        check("/ocpp/CP%C2%85", Err(IdentityError::Character));
        check("/ocpp/CP%FF", Err(IdentityError::NotUtf8));
        check("/ocpp/%ED%A0%80", Err(IdentityError::NotUtf8));
    }

    /// H12
    #[test]
    fn the_query_takes_no_part_and_a_trailing_slash_is_borne() {
        check("/ocpp/CP001?id=CP002", Ok("CP001"));
        check("/ocpp/CP001/?id=a/b", Ok("CP001"));
        check("/ocpp/CP001/", Ok("CP001"));
        check("/ocpp/?CP001", Err(IdentityError::Empty));
        check("/ocpp/CP001%3Fx", Ok("CP001?x"));
    }

    #[test]
    fn a_path_elsewhere_is_no_path_for_stations() {
        check("/metrics", Err(IdentityError::OutsidePrefix));
        check("/ocppx/CP001", Err(IdentityError::OutsidePrefix));
        check("/", Err(IdentityError::OutsidePrefix));
        check("", Err(IdentityError::OutsidePrefix));
        for prefix in ["", "/"] {
            assert_eq!(from_path("/CP001", prefix, 48).unwrap().as_str(), "CP001");
        }
        assert_eq!(from_path("/a/b/CP001", "/a/b/", 48).unwrap().as_str(), "CP001");
    }
}
