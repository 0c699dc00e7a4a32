//! JSON strings: how many characters they hold, what they say, and how a text is written as one.

use std::borrow::Cow;

/// The characters of a JSON string, escapes undone. `inner` is the text between the quotes, which the scanner checked.
/// Half a surrogate pair becomes U+FFFD.
fn characters(inner: &str) -> impl Iterator<Item = char> + '_ {
    let mut rest = inner;
    std::iter::from_fn(move || {
        let mut characters = rest.chars();
        let first = characters.next()?;
        rest = characters.as_str();
        if first != '\\' {
            return Some(first);
        }
        let escaped = characters.next()?;
        rest = characters.as_str();
        Some(match escaped {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (high, after) = hex(rest);
                rest = after;
                if let (0xD800..0xDC00, Some(after_mark)) = (high, rest.strip_prefix("\\u"))
                    && let (low @ 0xDC00..0xE000, after) = hex(after_mark)
                {
                    rest = after;
                    char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
                } else {
                    char::from_u32(high)
                }
                .unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => other,
        })
    })
}

fn hex(text: &str) -> (u32, &str) {
    let (digits, rest) = text.split_at_checked(4).unwrap_or((text, ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0xFFFD), rest)
}

/// What a JSON string says.
pub(crate) fn unescape(inner: &str) -> Cow<'_, str> {
    if inner.contains('\\') { Cow::Owned(characters(inner).collect()) } else { Cow::Borrowed(inner) }
}

/// Whether a JSON string has more than `limit` characters.
pub(crate) fn longer_than(inner: &str, limit: usize) -> bool {
    // No character is shorter than a byte, so that most strings need no count.
    inner.len() > limit && characters(inner).nth(limit).is_some()
}

/// Writes a text as a JSON string, at most `characters_max` characters of it.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str, characters_max: usize) {
    out.push(b'"');
    let cut = text.char_indices().nth(characters_max).map_or(text.len(), |(at, _)| at);
    for &byte in text.as_bytes().get(..cut).unwrap_or_default() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_as_an_independent_parser_undoes_them() {
        for json in [
            r#""plain""#,
            r#""""#,
            r#""a\"b\\c\/d\b\f\n\r\te""#,
            r#""\u0041\u00e9\u20ac\ud83d\ude00""#,
            "\"é€😀\"",
            r#""\u000041""#,
        ] {
            let expected: String = serde_json::from_str(json).unwrap();
            let inner = &json[1..json.len() - 1];
            assert_eq!(unescape(inner), expected, "{json}");
            let count = expected.chars().count();
            assert!(!longer_than(inner, count), "{json}");
            if count > 0 {
                assert!(longer_than(inner, count - 1), "{json}");
            }
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_one_unknown_character() {
        for (inner, expected) in [
            (r"\ud83d", "\u{fffd}"),
            (r"\ude00", "\u{fffd}"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\ud83dx", "\u{fffd}x"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}😀"),
        ] {
            assert_eq!(unescape(inner), expected, "{inner}");
        }
    }

    #[test]
    fn written_strings_are_read_back_the_same() {
        for text in ["", "plain", "a\"b\\c/d", "\u{0}\u{1}\u{8}\t\n\r\u{1f}\u{7f}", "é€😀"] {
            let mut out = Vec::new();
            write_string(&mut out, text, 255);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
