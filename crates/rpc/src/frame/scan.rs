//! Finds where the elements of a frame begin and end, without reading what is in the payload.
//!
//! The outer array and the strings, numbers and words directly in it are checked as JSON. Inside a payload only strings
//! and brackets are followed, so that its end is certain; whether the rest of it is JSON is for whoever reads it. That
//! is what makes an envelope cheap: about half a nanosecond per byte, no copy and no allocation.

mod blocks;

use super::Fault;

/// How deep brackets may be nested, the frame's own included (F10).
pub const DEPTH_MAX: u32 = 32;

/// More elements than any frame has; those after them are counted only.
const ELEMENTS_KEPT: usize = 5;

/// Where something stands in the text of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Nothing: no element of a frame is shorter than a byte.
    pub(crate) const fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn of(self, text: &str) -> &str {
        // The scanner puts spans at ASCII characters only, so that the range is one of characters.
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The elements of a frame, as far as they could be found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Elements {
    spans: [Span; ELEMENTS_KEPT],
    count: usize,
}

impl Elements {
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// The element at this place, if the frame has it.
    pub(crate) fn get(&self, index: usize) -> Option<Span> {
        if index < self.count { self.spans.get(index).copied() } else { None }
    }

    fn push(&mut self, start: usize, end: usize) {
        if let Some(span) = self.spans.get_mut(self.count) {
            // `scan` refuses longer texts first.
            *span = Span { start: start as u32, end: end as u32 };
        }
        self.count += 1;
    }
}

/// Takes a text apart. With a fault, the elements before the fault are still given: an answer that breaks off in its
/// payload says by them which call it was for.
pub(crate) fn scan(text: &str) -> (Elements, Result<(), Fault>) {
    let mut elements = Elements::default();
    let outcome = fill(text.as_bytes(), &mut elements);
    (elements, outcome)
}

/// Takes apart what stands before the payload of a frame of four elements, and takes all that follows for the payload.
/// Whoever reads that to its end finds out whether it is one. None where it cannot be one at first sight.
pub(crate) fn scan_head(text: &str) -> Option<Elements> {
    let bytes = text.as_bytes();
    u32::try_from(bytes.len()).ok()?;
    let mut elements = Elements::default();
    let mut at = skip_space(bytes, 0);
    let mut before = b'[';
    for _ in 0..3 {
        at = (bytes.get(at) == Some(&before)).then(|| skip_space(bytes, at + 1))?;
        let end = value_end(bytes, at).ok()?;
        elements.push(at, end);
        at = skip_space(bytes, end);
        before = b',';
    }
    at = (bytes.get(at) == Some(&before)).then(|| skip_space(bytes, at + 1))?;
    let end = text.trim_end_matches(SPACE).strip_suffix(']')?.trim_end_matches(SPACE).len();
    (bytes.get(at) == Some(&b'{') && at < end).then(|| elements.push(at, end))?;
    Some(elements)
}

const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Whether this is UTF-8 and, as far as its brackets and strings show it, one JSON object.
pub(crate) fn is_object(json: &[u8]) -> bool {
    let start = skip_space(json, 0);
    json.get(start) == Some(&b'{')
        && std::str::from_utf8(json).is_ok()
        && container_end(json, start).is_ok_and(|end| skip_space(json, end) == json.len())
}

/// Where the object or array ends that begins at `at`, by its strings and brackets: whether the rest of it is JSON is for
/// whoever reads it, or has read it before. None if it has no end, or no bracket is there.
#[must_use]
pub fn end_of_container(json: &[u8], at: usize) -> Option<usize> {
    matches!(json.get(at), Some(b'{' | b'[')).then(|| container_end(json, at).ok())?
}

fn fill(bytes: &[u8], elements: &mut Elements) -> Result<(), Fault> {
    let mut at = skip_space(bytes, 0);
    match bytes.get(at) {
        None => return Err(Fault::Empty),
        Some(b'[') if u32::try_from(bytes.len()).is_ok() => at = skip_space(bytes, at + 1),
        Some(_) => return Err(Fault::NotAnArray),
    }
    if bytes.get(at) == Some(&b']') {
        at += 1;
    } else {
        loop {
            let end = value_end(bytes, at)?;
            elements.push(at, end);
            at = skip_space(bytes, end);
            match bytes.get(at) {
                Some(b',') => at = skip_space(bytes, at + 1),
                Some(b']') => {
                    at += 1;
                    break;
                }
                _ => return Err(Fault::NotJson),
            }
        }
    }
    // F08: white space may follow, nothing else.
    if skip_space(bytes, at) == bytes.len() { Ok(()) } else { Err(Fault::TrailingBytes) }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

fn value_end(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match bytes.get(at) {
        Some(b'"') => string_end(bytes, at + 1),
        Some(b'{' | b'[') => container_end(bytes, at),
        Some(b'-' | b'0'..=b'9') => number_end(bytes, at),
        Some(b't') => word_end(bytes, at, b"true"),
        Some(b'f') => word_end(bytes, at, b"false"),
        Some(b'n') => word_end(bytes, at, b"null"),
        _ => Err(Fault::NotJson),
    }
}

fn word_end(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Fault> {
    if bytes.get(at..at + word.len()) == Some(word) { Ok(at + word.len()) } else { Err(Fault::NotJson) }
}

fn number_end(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    let digits_end = |mut at: usize| {
        let start = at;
        while let Some(b'0'..=b'9') = bytes.get(at) {
            at += 1;
        }
        if at == start { Err(Fault::NotJson) } else { Ok(at) }
    };
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    // JSON has no leading zeros: what follows a zero is caught as no `,` or `]`.
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { digits_end(at)? };
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits_end(at)?;
    }
    Ok(at)
}

/// The end of a string whose opening quote is before `at`, with its escapes and control characters checked.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        at = skip_plain(bytes, at, |word| {
            zero_bytes(word ^ QUOTES) | zero_bytes(word ^ BACKSLASHES) | controls(word)
        });
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u')
                    if bytes.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) =>
                {
                    at += 6;
                }
                _ => return Err(Fault::NotJson),
            },
            Some(0..0x20) | None => return Err(Fault::NotJson),
            Some(_) => at += 1,
        }
    }
}

/// The end of the object or array that opens at `at`. Strings are skipped, brackets must fit, nothing else is looked at.
fn container_end(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    let mut nesting = Nesting { open: 0, depth: 1 };
    match blocks::pass(bytes, at, &mut nesting)? {
        blocks::Passed::End(end) => Ok(end),
        blocks::Passed::Rest { at, in_string } => container_rest(bytes, at, in_string, nesting),
    }
}

/// As [`container_end`], from somewhere within.
fn container_rest(
    bytes: &[u8],
    mut at: usize,
    in_string: bool,
    mut nesting: Nesting,
) -> Result<usize, Fault> {
    if in_string {
        at = skip_string(bytes, at)?;
    }
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = skip_string(bytes, at)?,
            b'{' | b'[' | b'}' | b']' if nesting.ends_with(byte)? => return Ok(at),
            _ => {}
        }
    }
    Err(Fault::NotJson)
}

/// Brackets that are open.
struct Nesting {
    /// One bit per bracket, set for an object; the depth limit is the width of the word.
    open: u32,
    /// One more than there are, for the array around it all.
    depth: u32,
}

impl Nesting {
    /// Takes a bracket. Whether it closes the last one.
    fn ends_with(&mut self, bracket: u8) -> Result<bool, Fault> {
        if matches!(bracket, b'{' | b'[') {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(Fault::TooDeep);
            }
            self.open = self.open << 1 | u32::from(bracket == b'{');
            return Ok(false);
        }
        if (self.open & 1 == 1) != (bracket == b'}') {
            return Err(Fault::NotJson);
        }
        self.open >>= 1;
        self.depth -= 1;
        Ok(self.depth == 1)
    }
}

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);

/// Marks the bytes of `word` that are zero. Bytes after such a one may be marked wrongly; the lowest mark is right.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Marks the bytes of `word` that are control characters, as far as [`zero_bytes`] is right.
const fn controls(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGHS
}

/// Goes on to the next byte that is marked, eight at a step: strings are most of a frame, and too short for a search
/// that must be set up. Near the end of the text it may stop early.
fn skip_plain(bytes: &[u8], mut at: usize, marks: impl Fn(u64) -> u64) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let marked = marks(u64::from_le_bytes(*chunk));
        if marked != 0 {
            return at + (marked.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at
}

/// The end of a string in a payload whose opening quote is before `at`. Its reader will look at what it says.
fn skip_string(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        at = skip_plain(bytes, at, |word| zero_bytes(word ^ QUOTES) | zero_bytes(word ^ BACKSLASHES));
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return Err(Fault::NotJson),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_end_of_a_container_is_found_alike_by_blocks_and_by_bytes(
            pieces in prop::collection::vec(
                prop_oneof![
                    8 => "[a-z0-9:, ]{0,30}",
                    3 => r#""[a-z{}\[\], ]{0,90}""#,
                    2 => "[{}\\[\\]]{1,3}",
                    1 => r#"["\\]{1,3}"#,
                ],
                0..40,
            ),
            object in any::<bool>(),
        ) {
            let (open, close) = if object { ('{', '}') } else { ('[', ']') };
            let text = format!("{open}{}{close}", pieces.concat());
            let by_bytes = container_rest(text.as_bytes(), 0, false, Nesting { open: 0, depth: 1 });
            prop_assert_eq!(container_end(text.as_bytes(), 0), by_bytes, "{}", text);
        }
    }
}
