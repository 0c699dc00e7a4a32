//! JSON that the schemas leave open, kept as it came.

use crate::scan::{NotJson as BadSyntax, Scanner};
use std::borrow::Cow;
use std::fmt;

/// Any JSON value, byte for byte as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Box<str>);

/// The text is no JSON value, or is nested too deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON")]
pub struct NotJson;

impl Json {
    /// Takes one JSON value as text; white space around it is left out.
    ///
    /// # Errors
    /// When the text is not one JSON value, or nested more than 32 deep.
    pub fn parse(text: &str) -> Result<Self, NotJson> {
        let mut scanner = Scanner::new(text);
        match scanner.value() {
            Ok(value) if scanner.at_end() => Ok(Self::from_token(value)),
            _ => Err(NotJson),
        }
    }

    /// A JSON string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        let mut out = Vec::with_capacity(text.len() + 2);
        crate::write::quoted(text, &mut out);
        // What was written is UTF-8, since `text` is.
        Self(String::from_utf8(out).unwrap_or_default().into())
    }

    /// Takes text that the scanner has already found to be one value.
    pub(crate) fn from_token(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the string says, if the value is a string.
    #[must_use]
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        let mut scanner = Scanner::new(&self.0);
        Some(scanner.string().ok()?.text())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The one open object of 2.x: what a vendor adds to a message. Members that the vendor invented are kept byte for
/// byte and in their order.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomData {
    /// Whose data this is, `com.example`; at most 255 characters.
    pub vendor_id: String,
    /// `"a":1,"b":[]`: the other members, without the braces.
    members: String,
}

impl CustomData {
    /// Data of a vendor, still without members.
    #[must_use]
    pub fn new(vendor_id: impl Into<String>) -> Self {
        Self { vendor_id: vendor_id.into(), members: String::new() }
    }

    /// The value of a member, the last one if there are several.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Json> {
        self.members().filter(|(key, _)| key == name).last().map(|(_, value)| Json::from_token(value))
    }

    /// Adds a member at the end.
    pub fn push(&mut self, name: &str, value: &Json) {
        let key = Json::string(name);
        self.push_quoted(key.0.get(1..key.0.len() - 1).unwrap_or_default(), value.as_str());
    }

    /// The members but `vendorId`, in their order: names and the JSON text of the values.
    pub fn members(&self) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
        let mut at = Scanner::new(&self.members);
        let mut first = true;
        std::iter::from_fn(move || {
            let pair = at.bare_member(first).ok().flatten();
            first = false;
            pair.map(|(key, value)| (key.text(), value))
        })
    }

    /// Adds a member whose name is already escaped and whose value is JSON.
    pub(crate) fn push_quoted(&mut self, name: &str, value: &str) {
        for part in [if self.members.is_empty() { "\"" } else { ",\"" }, name, "\":", value] {
            self.members.push_str(part);
        }
    }

    pub(crate) fn raw_members(&self) -> &str {
        &self.members
    }
}

impl fmt::Debug for CustomData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CustomData {{{:?}, {}}}", self.vendor_id, self.members)
    }
}

impl From<BadSyntax> for NotJson {
    fn from(BadSyntax: BadSyntax) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_kept_as_it_is() {
        for text in ["null", "1.10", "{\"b\":1, \"a\":[ ]}", "\"\\u00e9\""] {
            assert_eq!(Json::parse(&format!(" {text}\n")).unwrap().as_str(), text);
        }
        assert!(Json::parse("{}{}").is_err());
        assert_eq!(Json::string("a\"\n").to_text().unwrap(), "a\"\n");
    }

    #[test]
    fn custom_members_are_found_by_their_name() {
        let mut data = CustomData::new("com.example");
        assert_eq!(data.members().count(), 0);
        data.push("a\"b", &Json::parse("[1, 2]").unwrap());
        data.push("c", &Json::parse("{\"x\":null}").unwrap());
        data.push("c", &Json::string("last"));
        assert_eq!(data.get("a\"b").unwrap().as_str(), "[1, 2]");
        assert_eq!(data.get("c").unwrap().to_text().unwrap(), "last");
        assert_eq!(data.members().count(), 3);
        assert!(data.get("d").is_none());
    }
}
