//! JSON, token by token: the one place that decides what is JSON and what is not (RFC 8259).
//!
//! The typed reader and the schema check both stand on it, so that they cannot disagree about syntax. Nothing is
//! copied: a token is a slice of the text. Strings with an unpaired surrogate escape are refused, since no Rust string
//! can hold them.

use std::borrow::Cow;
use switchboard_rpc::frame::end_of_container;
use wide::u8x16;

/// How deep arrays and objects may be nested, the payload itself included. Deeper text counts as no JSON: the limit is
/// the guard of the stack.
pub(crate) const DEPTH_MAX: u32 = 32;

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson;

/// A position in a JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    /// Nothing has been read since the last opening bracket, so that no comma may come.
    fresh: bool,
    /// Where strings may end in the block that was looked at last.
    special: Special,
}

/// A string token: what stands between its quotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Quoted<'a> {
    /// As it is written, without the quotes.
    pub(crate) const fn raw(self) -> &'a str {
        self.raw
    }

    /// The string that is meant.
    #[inline]
    pub(crate) fn text(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, fresh: true, special: Special::default() }
    }

    #[inline]
    fn byte(&self) -> u8 {
        // NUL is no JSON outside of strings, so that it can stand for the end.
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// The first byte of the next token, without taking it; 0 at the end.
    #[inline]
    pub(crate) fn peek(&mut self) -> u8 {
        loop {
            match self.byte() {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return byte,
            }
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.peek() == byte {
            self.at += 1;
            Ok(())
        } else {
            Err(NotJson)
        }
    }

    /// Takes an opening bracket.
    pub(crate) fn open(&mut self, bracket: u8) -> Result<(), NotJson> {
        self.expect(bracket)?;
        self.depth += 1;
        self.fresh = true;
        if self.depth > DEPTH_MAX { Err(NotJson) } else { Ok(()) }
    }

    /// Takes the closing bracket if it is next; else the comma that must precede another entry.
    fn closed(&mut self, bracket: u8) -> Result<bool, NotJson> {
        let next = self.peek();
        if next == bracket {
            self.at += 1;
            self.depth -= 1;
            self.fresh = false;
            return Ok(true);
        }
        if self.fresh {
            self.fresh = false;
            return Ok(false);
        }
        if next == b',' {
            self.at += 1;
            Ok(false)
        } else {
            Err(NotJson)
        }
    }

    /// The name of the next member, up to and with its colon; `None` when the object ends here.
    pub(crate) fn key(&mut self) -> Result<Option<Quoted<'a>>, NotJson> {
        if self.closed(b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some(key))
    }

    /// Whether the array has another item.
    pub(crate) fn item(&mut self) -> Result<bool, NotJson> {
        Ok(!self.closed(b']')?)
    }

    /// Takes a string.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Quoted<'a>, NotJson> {
        // The usual one: no white space before it, no escape in it, and it ends within the block that was looked at last.
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        if bytes.get(self.at) == Some(&b'"')
            && let Some(end) = self.special.within_block(start)
            && bytes.get(end) == Some(&b'"')
        {
            self.at = end + 1;
            self.fresh = false;
            return Ok(Quoted { raw: self.text.get(start..end).ok_or(NotJson)?, escaped: false });
        }
        self.any_string()
    }

    #[inline(never)]
    fn any_string(&mut self) -> Result<Quoted<'a>, NotJson> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut at = start;
        let mut escaped = false;
        loop {
            at = self.special.next(bytes, at);
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at = after_escape(bytes, at)?;
                }
                _ => return Err(NotJson),
            }
        }
        self.at = at + 1;
        self.fresh = false;
        Ok(Quoted { raw: self.text.get(start..at).ok_or(NotJson)?, escaped })
    }

    /// Takes a number and gives its text.
    pub(crate) fn number(&mut self) -> Result<&'a str, NotJson> {
        self.peek();
        let start = self.at;
        let end = number_end(&self.text.as_bytes()[start..]).ok_or(NotJson)?;
        self.at = start + end;
        self.fresh = false;
        Ok(&self.text[start..self.at])
    }

    /// Takes `true`, `false` or `null`.
    pub(crate) fn literal(&mut self) -> Result<&'static str, NotJson> {
        let word = match self.peek() {
            b't' => "true",
            b'f' => "false",
            b'n' => "null",
            _ => return Err(NotJson),
        };
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(NotJson);
        }
        self.at += word.len();
        self.fresh = false;
        Ok(word)
    }

    /// Takes any value and gives its text as it stands there.
    pub(crate) fn value(&mut self) -> Result<&'a str, NotJson> {
        let first = self.peek();
        let start = self.at;
        match first {
            b'"' => {
                self.string()?;
            }
            b'{' => {
                self.open(b'{')?;
                while self.key()?.is_some() {
                    self.value()?;
                }
            }
            b'[' => {
                self.open(b'[')?;
                while self.item()? {
                    self.value()?;
                }
            }
            b'-' | b'0'..=b'9' => {
                self.number()?;
            }
            _ => {
                self.literal()?;
            }
        }
        Ok(&self.text[start..self.at])
    }

    /// The next of members without braces around them: `"a":1,"b":2`.
    pub(crate) fn bare_member(&mut self, first: bool) -> Result<Option<(Quoted<'a>, &'a str)>, NotJson> {
        if self.at_end() {
            return Ok(None);
        }
        if !first {
            self.expect(b',')?;
        }
        let key = self.string()?;
        self.expect(b':')?;
        Ok(Some((key, self.value()?)))
    }

    /// Takes any value and gives its text, of an object or array by its brackets and strings alone.
    pub(crate) fn pass(&mut self) -> Result<&'a str, NotJson> {
        if !matches!(self.peek(), b'{' | b'[') {
            return self.value();
        }
        let start = self.at;
        self.at = end_of_container(self.text.as_bytes(), start).ok_or(NotJson)?;
        self.fresh = false;
        self.text.get(start..self.at).ok_or(NotJson)
    }

    /// The text from here to a later position in the same text.
    pub(crate) fn up_to(&self, later: &Self) -> &'a str {
        self.text.get(self.at..later.at).unwrap_or_default()
    }

    /// Whether nothing but white space follows.
    pub(crate) fn at_end(&mut self) -> bool {
        self.peek();
        self.at == self.text.len()
    }
}

/// The quotes, backslashes and control characters of one block of a text. Most strings are shorter than a block, so that
/// one look with wide registers serves several of them.
#[derive(Clone, Debug)]
struct Special {
    /// Where the block begins.
    block: usize,
    /// One bit per byte.
    bits: u64,
}

impl Default for Special {
    fn default() -> Self {
        Self { block: usize::MAX, bits: 0 }
    }
}

impl Special {
    const BLOCK_BYTES: usize = 64;

    /// The first position from `at` with a quote, a backslash or a control character, or one behind the text.
    #[inline]
    fn next(&mut self, bytes: &[u8], mut at: usize) -> usize {
        loop {
            let within = at % Self::BLOCK_BYTES;
            if at - within != self.block {
                if at >= bytes.len() {
                    return at;
                }
                self.look(bytes, at - within);
            }
            let ahead = self.bits >> within;
            if ahead != 0 {
                return at + ahead.trailing_zeros() as usize;
            }
            at += Self::BLOCK_BYTES - within;
        }
    }

    /// The first such position from `at` within the block that was looked at last, if `at` is in it.
    #[inline]
    fn within_block(&self, at: usize) -> Option<usize> {
        let within = at % Self::BLOCK_BYTES;
        let ahead = self.bits >> within;
        (at - within == self.block && ahead != 0).then(|| at + ahead.trailing_zeros() as usize)
    }

    fn look(&mut self, bytes: &[u8], block: usize) {
        let rest = bytes.get(block..).unwrap_or_default();
        self.block = block;
        self.bits = match rest.first_chunk() {
            Some(whole) => Self::bits(whole),
            None => {
                // Behind the text all are control characters.
                let mut last = [0; Self::BLOCK_BYTES];
                for (to, from) in last.iter_mut().zip(rest) {
                    *to = *from;
                }
                Self::bits(&last)
            }
        };
    }

    #[inline]
    fn bits(block: &[u8; Self::BLOCK_BYTES]) -> u64 {
        let all = u8x16::splat;
        let (parts, _) = block.as_chunks::<16>();
        parts.iter().enumerate().fold(0, |bits, (index, part)| {
            let part = u8x16::from(*part);
            let special =
                part.simd_eq(all(b'"')) | part.simd_eq(all(b'\\')) | part.max(all(0x1f)).simd_eq(all(0x1f));
            bits | u64::from(special.to_bitmask()) << (16 * index)
        })
    }
}

/// The position after the escape that begins with the backslash at `at`.
fn after_escape(bytes: &[u8], at: usize) -> Result<usize, NotJson> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match code_unit(bytes, at)? {
            0xd800..=0xdbff => match code_unit(bytes, at + 6)? {
                0xdc00..=0xdfff => Ok(at + 12),
                _ => Err(NotJson),
            },
            0xdc00..=0xdfff => Err(NotJson),
            _ => Ok(at + 6),
        },
        _ => Err(NotJson),
    }
}

/// The code unit of the `\uXXXX` at `at`.
fn code_unit(bytes: &[u8], at: usize) -> Result<u32, NotJson> {
    let escape = bytes.get(at..at + 6).ok_or(NotJson)?;
    let digits = escape.strip_prefix(b"\\u").ok_or(NotJson)?;
    digits.iter().try_fold(0, |unit, digit| {
        char::from(*digit).to_digit(16).map(|value| unit * 16 + value).ok_or(NotJson)
    })
}

/// What a string with escapes means. The escapes have been checked by [`after_escape`].
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let bytes = raw.as_bytes();
    let mut at = 0;
    while let Some(length) = memchr(bytes, at) {
        out.push_str(&raw[at..at + length]);
        at += length;
        let character = match bytes.get(at + 1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = code_unit(bytes, at).unwrap_or_default();
                at += 4;
                if (0xd800..0xdc00).contains(&first) {
                    let second = code_unit(bytes, at + 2).unwrap_or_default();
                    at += 6;
                    let code = 0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
                    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                } else {
                    char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
            }
            Some(other) => char::from(*other),
            None => break,
        };
        out.push(character);
        at += 2;
    }
    out.push_str(raw.get(at..).unwrap_or_default());
    out
}

/// How far the next backslash is.
fn memchr(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.iter().position(|byte| *byte == b'\\')
}

/// Where the number ends that the text begins with.
pub(crate) fn number_end(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| -> usize {
        bytes.get(from..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    match bytes.get(at) {
        Some(b'0') => at += 1,
        Some(b'1'..=b'9') => at += digits(at),
        _ => return None,
    }
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().is_ok() && scanner.at_end()
    }

    #[test]
    fn what_is_json_and_what_is_not() {
        for text in [
            "{}",
            " [ ] ",
            "0",
            "-0",
            "1.5e+10",
            "\"\\u00e9\\ud83d\\ude00\"",
            "[1,2,[3]]",
            "{\"a\":{\"b\":null}}",
            "true",
            "\"\u{7f}é\"",
            "{\"a\":1,\"a\":2}",
            "\t\r\n[false]",
        ] {
            assert!(whole(text), "{text}");
        }
        for text in [
            "",
            "{",
            "[1,]",
            "[,1]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "nul",
            "truE",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"a\nb\"",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "1 2",
            "\u{feff}{}",
            "[]]",
            "'a'",
            "NaN",
            "-",
            "--1",
        ] {
            assert!(!whole(text), "{text}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(whole(&nested(DEPTH_MAX as usize)));
        assert!(!whole(&nested(DEPTH_MAX as usize + 1)));
        assert!(!whole(&"[".repeat(1_000_000)));
    }

    #[test]
    fn strings_end_at_their_quote_wherever_it_stands() {
        for length in 0..40 {
            for other in ["", ",\"\\n\"", ",\"\t\""] {
                let text = format!("\"{}\"{other}", "é".repeat(length / 2) + &"a".repeat(length % 2));
                let mut scanner = Scanner::new(&text);
                assert_eq!(scanner.string().unwrap().raw().len(), length, "{text}");
                assert!(Scanner::new(&text[..=length]).string().is_err(), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn strings_mean_what_serde_json_says(text in ".{0,40}", ascii in proptest::bool::ANY) {
            let mut written = serde_json::to_string(&text).unwrap();
            if ascii {
                written = written.chars().map(|c| if c.is_ascii() { c.to_string() } else {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
                }).collect();
            }
            let mut scanner = Scanner::new(&written);
            prop_assert_eq!(scanner.string().unwrap().text(), text);
            prop_assert!(scanner.at_end());
        }

        #[test]
        fn verdicts_agree_with_serde_json(text in "[\\[\\]{}:,\"\\\\a0-2.eE+\\-nulltrue ]{0,24}") {
            prop_assert_eq!(whole(&text), serde_json::from_str::<serde_json::Value>(&text).is_ok()
                // Numbers too large for f64 are JSON all the same.
                || serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok());
        }
    }
}
