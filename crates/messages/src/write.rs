//! Writing JSON.

use crate::decimal::Decimal;
use crate::json::{CustomData, Json};
use crate::timestamp::Timestamp;
use std::fmt;

/// What can be written as a JSON value.
pub(crate) trait Write {
    fn write(&self, writer: &mut Writer<'_>);
}

/// Appends JSON to a buffer.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// For eyes, not for the wire: secrets are left out.
    redacted: bool,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, redacted: false }
    }

    pub(crate) fn open(&mut self) {
        self.out.push(b'{');
    }

    pub(crate) fn close(&mut self) {
        self.out.push(b'}');
    }

    /// A member. The name comes with its quotes and colon.
    pub(crate) fn member(&mut self, name: &str, value: &impl Write) {
        self.name(name);
        value.write(self);
    }

    /// A member, if it is there.
    pub(crate) fn optional(&mut self, name: &str, value: &Option<impl Write>) {
        if let Some(value) = value {
            self.member(name, value);
        }
    }

    /// A member that no log should show.
    pub(crate) fn secret<'s>(&mut self, name: &str, value: impl Into<Option<&'s String>>) {
        if let Some(value) = value.into() {
            self.name(name);
            self.text(if self.redacted { "…" } else { value });
        }
    }

    pub(crate) fn text(&mut self, text: &str) {
        quoted(text, self.out);
    }

    fn name(&mut self, name: &str) {
        // No value ends with an opening brace, so that the last byte tells whether this is the first member.
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.extend_from_slice(name.as_bytes());
    }
}

/// Shows a message as its name and its JSON, without secrets.
pub(crate) fn debug(formatter: &mut fmt::Formatter<'_>, name: &str, value: &dyn Write) -> fmt::Result {
    let mut out = Vec::new();
    value.write(&mut Writer { out: &mut out, redacted: true });
    write!(formatter, "{name} {}", str::from_utf8(&out).unwrap_or_default())
}

/// Appends a text as a JSON string.
pub(crate) fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let rest = bytes.get(from..).unwrap_or_default();
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
        let at = from + plain.unwrap_or(rest.len());
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        let Some(byte) = bytes.get(at) else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let digits = [HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
        from = at + 1;
    }
    out.push(b'"');
}

const HEX: [u8; 16] = *b"0123456789abcdef";

impl Write for String {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.text(self);
    }
}

impl Write for bool {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Write for i64 {
    fn write(&self, writer: &mut Writer<'_>) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = self.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if *self < 0 {
            writer.out.push(b'-');
        }
        writer.out.extend_from_slice(&digits[at..]);
    }
}

impl Write for Decimal {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.extend_from_slice(self.as_str().as_bytes());
    }
}

impl Write for Timestamp {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.push(b'"');
        self.append(writer.out);
        writer.out.push(b'"');
    }
}

impl Write for Json {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.extend_from_slice(self.as_str().as_bytes());
    }
}

impl Write for CustomData {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.open();
        writer.member("\"vendorId\":", &self.vendor_id);
        if !self.raw_members().is_empty() {
            writer.name(self.raw_members());
        }
        writer.close();
    }
}

impl<T: Write> Write for Box<T> {
    fn write(&self, writer: &mut Writer<'_>) {
        (**self).write(writer);
    }
}

impl<T: Write> Write for Vec<T> {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.out.push(b'[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                writer.out.push(b',');
            }
            item.write(writer);
        }
        writer.out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &impl Write) -> String {
        let mut out = Vec::new();
        value.write(&mut Writer::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_written_as_json() {
        assert_eq!(
            written(&vec![0, -1, i64::MIN, i64::MAX]),
            "[0,-1,-9223372036854775808,9223372036854775807]"
        );
        assert_eq!(written(&"a\"\\\n\u{1}é/".to_owned()), "\"a\\\"\\\\\\n\\u0001é/\"");
        assert_eq!(written(&vec![true, false]), "[true,false]");
        let mut data = CustomData::new("x");
        assert_eq!(written(&data), "{\"vendorId\":\"x\"}");
        data.push("n", &Json::parse("1.0").unwrap());
        assert_eq!(written(&data), "{\"vendorId\":\"x\",\"n\":1.0}");
    }
}
