//! Percent-encoding of ids and values for transports that reserve characters.

use bytestring::ByteString;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

/// An id as one token of a subject, topic, routing key or path: only letters, digits, `-`, `_` and `~` stay.
#[must_use]
pub fn encode_token(id: &str) -> Cow<'_, str> {
    utf8_percent_encode(id, TOKEN).into()
}

/// The id that [`encode_token`] wrote; none if it is not UTF-8 after decoding.
#[must_use]
pub fn decode_token(token: &str) -> Option<ByteString> {
    match percent_decode_str(token).decode_utf8().ok()? {
        Cow::Borrowed(text) => Some(text.into()),
        Cow::Owned(text) => Some(text.into()),
    }
}

/// A header's value for transports that carry visible ASCII only: control characters, `%` and what is not ASCII are
/// encoded, and so is a space, since some trim it.
#[must_use]
pub fn encode_value(value: &str) -> Cow<'_, str> {
    utf8_percent_encode(value, VALUE).into()
}

/// The value that [`encode_value`] wrote; none if it is not UTF-8 after decoding.
#[must_use]
pub fn decode_value(value: &str) -> Option<ByteString> {
    decode_token(value)
}

const TOKEN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');
const VALUE: &AsciiSet = &CONTROLS.add(b'%').add(b' ');

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_brokers_reserve_is_encoded() {
        assert_eq!(encode_token("RDAM|123.*>/+#$ %"), "RDAM%7C123%2E%2A%3E%2F%2B%23%24%20%25");
        assert_eq!(encode_token("CP-001_a~"), "CP-001_a~");
        assert_eq!(encode_value("a b\n\u{e9}:/"), "a%20b%0A%C3%A9:/");
    }

    #[test]
    fn what_is_not_utf_8_after_decoding_is_none() {
        assert_eq!(decode_token("%FF"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_as_it_was(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            prop_assert_eq!(&decode_token(&encode_token(&text)).unwrap(), &text);
            prop_assert_eq!(&decode_value(&encode_value(&text)).unwrap(), &text);
        }
    }
}
