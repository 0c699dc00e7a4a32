//! Takes personal data and secrets out of frames before they are shown or kept, and leaves everything else as it is.
//!
//! What is personal is replaced by a short digest with a key, so that equal tags can still be seen to be equal; secrets
//! by nothing but a sign that they were there. Both go by the names of members (`names.rs`), by what stands beside
//! them, and by where they stand. The text is read once, strictly as JSON: of what is no JSON nobody knows what is in
//! it, and it is not shown at all.

mod names;

use hmac::{Hmac, KeyInit, Mac};
use names::Kind;
use sha2::Sha256;
use std::{borrow::Cow, cmp::Reverse, fmt};

/// Takes personal data and secrets out of JSON.
#[derive(Clone)]
pub struct Redactor {
    key: Hmac<Sha256>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Redactor(…)")
    }
}

/// The text is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no JSON")]
pub struct NotJson;

impl Redactor {
    /// One whose digests are made with this key. Others with the same key make the same digests.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        // A key shorter than a block is one that ends in zeros.
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(&key);
        Self { key: KeyInit::new(&block.into()) }
    }

    /// One whose digests nobody else makes.
    #[must_use]
    pub fn random() -> Self {
        Self::new(random_key())
    }

    /// The JSON without secrets and, unless `personal`, without personal data. The action helps where a name alone says
    /// too little.
    ///
    /// # Errors
    /// When the text is no JSON, or nested deeper than any frame may be.
    pub fn redact<'a>(
        &self,
        text: &'a str,
        action: Option<&str>,
        personal: bool,
    ) -> Result<Cow<'a, str>, NotJson> {
        self.redact_within(text, action, personal, false)
    }

    fn redact_within<'a>(
        &self,
        text: &'a str,
        action: Option<&str>,
        personal: bool,
        is_line: bool,
    ) -> Result<Cow<'a, str>, NotJson> {
        let mut walk = Walk { text, at: 0, gone: Vec::new(), action, depth: 0, is_line };
        walk.space();
        walk.value(Kind::Plain, "")?;
        walk.space();
        if walk.at != text.len() {
            return Err(NotJson);
        }
        let mut gone = walk.gone;
        gone.retain(|gone| !personal || gone.what != What::Is(Kind::Personal));
        if gone.is_empty() {
            return Ok(Cow::Borrowed(text));
        }
        // What stood beside a key was found out only after what follows it; and of one within another the outer counts.
        gone.sort_by_key(|gone| (gone.start, Reverse(gone.end), Reverse(gone.what)));
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for Gone { start, end, what } in gone {
            if start < copied {
                continue;
            }
            out.push_str(&text[copied..start]);
            let value = &text[start..end];
            match what {
                What::Is(Kind::Secret) => out.push_str(GONE),
                What::Is(_) => {
                    out.push('"');
                    out.push_str(&self.digest(&unquoted(value)));
                    out.push('"');
                }
                What::Url => out.push_str(&without_credentials(value).unwrap_or_else(|| GONE.to_owned())),
            }
            copied = end;
        }
        out.push_str(&text[copied..]);
        Ok(Cow::Owned(out))
    }

    /// A text that came with the answer to this payload, without what is personal or secret there: errors like to repeat
    /// what they complain about.
    pub(crate) fn scrub(&self, text: &str, request: &str, action: Option<&str>, personal: bool) -> String {
        let mut text = text.to_owned();
        let mut walk = Walk { text: request, at: 0, gone: Vec::new(), action, depth: 0, is_line: false };
        if walk.value(Kind::Plain, "").is_err() {
            return text;
        }
        for Gone { start, end, what } in walk.gone {
            let value = unquoted(&request[start..end]);
            match what {
                // Shorter ones would tear words apart that only look like them.
                _ if value.chars().count() < SCRUBBED_MIN => {}
                What::Is(Kind::Personal) if personal => {}
                What::Is(Kind::Personal) => text = text.replace(&*value, &self.digest(&value)),
                What::Is(_) => text = text.replace(&*value, "…"),
                What::Url => {}
            }
        }
        text.split_inclusive(char::is_whitespace).map(url_without_credentials).collect()
    }

    /// A line that was recorded, without personal data. In one where that was taken out already nothing changes.
    pub(crate) fn line(&self, line: &str, action: Option<&str>) -> Result<String, NotJson> {
        let redacted = self.redact_within(line, action, false, true)?;
        // The texts of an error were looked through for what is in the call, which is only known there.
        let Some(at) = line.find(ERROR_MEMBER).filter(|_| matches!(redacted, Cow::Owned(_))) else {
            return Ok(redacted.into_owned());
        };
        let texts = self.scrub(&line[at..], line, action, false);
        self.redact_within(&format!("{}{texts}", &line[..at]), action, false, true).map(Cow::into_owned)
    }

    /// What is shown in the place of something personal: `…` and eight digits, the same for the same.
    #[must_use]
    pub fn digest(&self, value: &str) -> String {
        if is_digest(value) {
            return value.to_owned();
        }
        let mut mac = self.key.clone();
        mac.update(value.as_bytes());
        let digest = mac.finalize().into_bytes();
        format!("…{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
    }

    /// Text that is no JSON, for who may see personal data; none if a password might be in it.
    #[must_use]
    pub fn broken(text: &str) -> Option<&str> {
        let folded = text.to_ascii_lowercase();
        let suspicious = ["pass", "pwd", "key", "secret", "pin", "user", "token", "exi", "://", "\\"];
        (!suspicious.iter().any(|word| folded.contains(word))).then_some(text)
    }
}

/// Whether a text is what [`Redactor::digest`] makes. Who has such a tag has it shown.
fn is_digest(value: &str) -> bool {
    value.strip_prefix('…').is_some_and(|digits| {
        digits.len() == 8 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A key that nobody else has.
pub(crate) fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key
}

/// How the last member of a line of a call begins that was refused.
const ERROR_MEMBER: &str = ",\"error\":{";
/// Characters of a value that is looked for in other texts.
const SCRUBBED_MIN: usize = 3;
/// What stands in the place of a secret.
const GONE: &str = "\"…\"";
/// No frame of a station is nested deeper, since the core refuses it; and this code calls itself for each level.
const DEPTH_MAX: u32 = 2 * switchboard_rpc::frame::DEPTH_MAX;

/// A part of the text that is replaced.
#[derive(Debug)]
struct Gone {
    start: usize,
    end: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A URL with something secret in it.
    Url,
    Is(Kind),
}

/// Reads JSON and notes what has to go.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    gone: Vec<Gone>,
    action: Option<&'a str>,
    depth: u32,
    /// The text is one of our lines, in which what was no JSON stands as a text.
    is_line: bool,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.peek() != Some(byte) {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// A value that is of this kind as a whole, as the member of this name.
    fn value(&mut self, kind: Kind, name: &str) -> Result<(), NotJson> {
        let start = self.at;
        match self.peek().ok_or(NotJson)? {
            b'{' => self.object(kind, name),
            b'[' => self.array(kind, name),
            b'"' => {
                let string = self.string()?;
                let is_empty = self.at - start == 2;
                if kind != Kind::Plain && !is_empty {
                    self.gone.push(Gone { start, end: self.at, what: What::Is(kind) });
                } else if string.may_be_url && without_credentials(&self.text[start..self.at]).is_some() {
                    self.gone.push(Gone { start, end: self.at, what: What::Url });
                }
                Ok(())
            }
            b'n' => self.literal("null"),
            first => {
                match first {
                    b't' => self.literal("true")?,
                    b'f' => self.literal("false")?,
                    _ => self.number()?,
                }
                if kind != Kind::Plain {
                    self.gone.push(Gone { start, end: self.at, what: What::Is(kind) });
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, kind: Kind, around: &str) -> Result<(), NotJson> {
        self.enter(b'{')?;
        // What is beside a key or a variable, and what that makes of it.
        let mut beside = Kind::Plain;
        let mut values: Vec<(usize, usize)> = Vec::new();
        if self.peek() != Some(b'}') {
            loop {
                let start = self.at;
                let string = self.string()?;
                let name = &self.text[start + 1..self.at - 1];
                let name: Cow<'a, str> =
                    if string.has_escape { Cow::Owned(unescaped(name)) } else { Cow::Borrowed(name) };
                self.space();
                self.expect(b':')?;
                self.space();
                let own = names::kind(&name, around, self.action);
                let inherited =
                    if names::is_plain_within(&name) && kind == Kind::Personal { Kind::Plain } else { kind };
                let own = if self.is_line && self.is_broken_text(&name) { Kind::Personal } else { own };
                let start = self.at;
                self.value(own.max(inherited), &name)?;
                let value = &self.text[start..self.at];
                if names::is_value_beside(&name) {
                    values.push((start, self.at));
                } else if name.eq_ignore_ascii_case("key") {
                    beside = beside.max(names::kind_beside(&unquoted(value)));
                } else if name.eq_ignore_ascii_case("variable") {
                    beside = beside.max(names::kind_beside(&name_within(value)));
                } else if name.eq_ignore_ascii_case("format")
                    && unquoted(value).eq_ignore_ascii_case("SignedData")
                {
                    beside = beside.max(Kind::Personal);
                }
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.space();
            }
        }
        if beside != Kind::Plain {
            let empty = |(start, end): &(usize, usize)| matches!(&self.text[*start..*end], "\"\"" | "null");
            values.retain(|value| !empty(value));
            self.gone.extend(values.into_iter().map(|(start, end)| Gone {
                start,
                end,
                what: What::Is(beside),
            }));
        }
        self.depth -= 1;
        self.expect(b'}')
    }

    /// Whether what comes is a text of a peer in the place of JSON, kept as it came.
    fn is_broken_text(&self, name: &str) -> bool {
        self.depth == 1
            && matches!(name, "frame" | "request" | "response")
            && self.peek() == Some(b'"')
            && !self.text[self.at..].starts_with("\"(no JSON, ")
    }

    fn array(&mut self, kind: Kind, name: &str) -> Result<(), NotJson> {
        self.enter(b'[')?;
        if self.peek() != Some(b']') {
            loop {
                // An element belongs to the array's name: one of a list is as personal as a single one.
                self.value(kind, name)?;
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.space();
            }
        }
        self.depth -= 1;
        self.expect(b']')
    }

    fn enter(&mut self, bracket: u8) -> Result<(), NotJson> {
        self.expect(bracket)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(NotJson);
        }
        self.space();
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Result<(), NotJson> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(NotJson) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<Found, NotJson> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let mut found = Found { has_escape: false, may_be_url: false };
        loop {
            match *bytes.get(self.at).ok_or(NotJson)? {
                b'"' => break,
                b'\\' => {
                    found.has_escape = true;
                    // It may hide a colon or a slash.
                    found.may_be_url = true;
                    self.at += 1;
                    match *bytes.get(self.at).ok_or(NotJson)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = bytes.get(self.at + 1..self.at + 5).ok_or(NotJson)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(NotJson);
                            }
                            self.at += 4;
                        }
                        _ => return Err(NotJson),
                    }
                }
                b'/' | b'@' => found.may_be_url = true,
                0..0x20 => return Err(NotJson),
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(found)
    }
}

/// What was noticed about a string.
struct Found {
    has_escape: bool,
    may_be_url: bool,
}

/// The text of a JSON string; other JSON as it is.
fn unquoted(value: &str) -> Cow<'_, str> {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if inner.contains('\\') => Cow::Owned(unescaped(inner)),
        Some(inner) => Cow::Borrowed(inner),
        None => Cow::Borrowed(value),
    }
}

/// The inside of a JSON string without escapes. Halves of surrogate pairs alone become a replacement character.
fn unescaped(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest[at + 1..].bytes().next();
        let mut length = 2;
        match escape {
            Some(b'b') => out.push('\u{8}'),
            Some(b'f') => out.push('\u{c}'),
            Some(b'n') => out.push('\n'),
            Some(b'r') => out.push('\r'),
            Some(b't') => out.push('\t'),
            Some(b'u') => {
                let unit = |at: usize| {
                    let digits = rest.get(at..at + 6)?.strip_prefix("\\u")?;
                    u32::from_str_radix(digits, 16).ok()
                };
                length = 6;
                let high = unit(at).unwrap_or(0xfffd);
                let character = match (high, unit(at + 6)) {
                    (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                        length = 12;
                        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                    }
                    _ => char::from_u32(high),
                };
                out.push(character.unwrap_or('\u{fffd}'));
            }
            Some(other) => out.push(char::from(other)),
            None => length = 1,
        }
        rest = rest.get(at + length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The `name` of a variable, or all its texts if it is not as it should be.
fn name_within(variable: &str) -> Cow<'_, str> {
    // Any escape might spell a name, and whatever else is in it is short.
    if variable.contains('\\') { Cow::Owned(unescaped(variable)) } else { Cow::Borrowed(variable) }
}

/// A JSON string in which URLs have no user, password and query any more, as JSON; none if there were none.
fn without_credentials(value: &str) -> Option<String> {
    let text = unquoted(value);
    let words: Vec<Cow<'_, str>> =
        text.split_inclusive(char::is_whitespace).map(url_without_credentials).collect();
    words
        .iter()
        .any(|word| matches!(word, Cow::Owned(_)))
        .then(|| serde_json::to_string(&words.concat()).ok())?
}

/// A word without what in a URL is secret. Where that ends is judged generously, since people put passwords into URLs
/// without encoding them: at the last `@`, wherever it stands.
fn url_without_credentials(word: &str) -> Cow<'_, str> {
    let (scheme, rest) = match word.split_once("://") {
        Some((scheme, rest)) => (&word[..scheme.len() + 3], rest),
        // `user:password@host` without a scheme.
        None if word.find(':').is_some_and(|colon| word[colon..].contains('@')) => ("", word),
        None => return Cow::Borrowed(word),
    };
    let user = rest.rfind('@');
    let rest = user.map_or(rest, |at| &rest[at..]);
    // Signed URLs of object stores carry their permission there.
    let query = rest.find('?').filter(|at| !rest[at + 1..].trim_end().is_empty());
    if user.is_none() && query.is_none() {
        return Cow::Borrowed(word);
    }
    let rest = query.map_or_else(|| Cow::Borrowed(rest), |at| Cow::Owned(format!("{}?…", &rest[..at])));
    Cow::Owned(format!("{scheme}{}{rest}", if user.is_some() { "…" } else { "" }))
}

#[cfg(test)]
mod tests;
