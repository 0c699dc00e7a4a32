//! How the value of a setting is read from TOML or text, and shown again.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// A value as its source gives it: typed by a TOML file, or plain text from a flag or the environment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Raw<'a> {
    /// From a file.
    Toml(&'a toml::Value),
    /// From a flag or a variable.
    Text(&'a str),
}

impl<'a> Raw<'a> {
    /// The text of a string, whichever the source.
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Toml(value) => value.as_str(),
            Self::Text(text) => Some(text),
        }
    }
}

impl fmt::Display for Raw<'_> {
    /// The value as a fault names it, cut if it is long.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self {
            Self::Toml(value) => match value {
                toml::Value::Array(_) => "an array".to_owned(),
                toml::Value::Table(_) => "a table".to_owned(),
                other => other.to_string(),
            },
            Self::Text(text) => format!("{text:?}"),
        };
        let mut characters = shown.chars();
        let start: String = characters.by_ref().take(60).collect();
        formatter.write_str(&start)?;
        if characters.next().is_some() {
            formatter.write_str("…")?;
        }
        Ok(())
    }
}

/// A type that a setting can have.
pub(crate) trait Readable: Sized {
    /// What is expected, as a clause: `a duration, for example "30s"`.
    fn expected() -> String;
    /// The value, or nothing if it is not what was expected.
    fn read(raw: Raw<'_>) -> Option<Self>;
    /// The part of a value that is wrong, as a fault names it, where that is not all of it.
    fn culprit(_: Raw<'_>) -> Option<String> {
        None
    }
    /// The value as it would stand in a TOML file; nothing where a file would leave it out.
    fn show(&self) -> Option<String>;
    /// Whether faults and listings must not show it.
    const SECRET: bool = false;
}

/// A text that prints redacted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

impl Size {
    /// For what is worth nothing if it is very small.
    pub(crate) fn is_zero_or_a_mebibyte(&self) -> bool {
        self.0 == 0 || self.0 >= 1 << 20
    }
}

/// The units of sizes, the largest first.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Readable for Size {
    fn expected() -> String {
        "a size such as \"64MiB\"".to_owned()
    }
    fn read(raw: Raw<'_>) -> Option<Self> {
        let text = match raw {
            Raw::Toml(toml::Value::Integer(0)) => "0",
            raw => raw.text()?.trim(),
        };
        if text == "0" {
            return Some(Self(0));
        }
        let (unit, bytes) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
        let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        number.checked_mul(*bytes).map(Self)
    }
    fn show(&self) -> Option<String> {
        if self.0 == 0 {
            return Some("0".to_owned());
        }
        let fits = |(_, bytes): &&(&str, u64)| self.0.is_multiple_of(*bytes);
        UNITS.iter().find(fits).map(|(unit, bytes)| quoted(&format!("{}{unit}", self.0 / bytes)))
    }
}

impl Readable for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }
    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw {
            Raw::Toml(value) => value.as_bool(),
            Raw::Text("true" | "1" | "yes" | "on") => Some(true),
            Raw::Text("false" | "0" | "no" | "off") => Some(false),
            Raw::Text(_) => None,
        }
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! readable_integer {
    ($($type:ty),*) => {$(
        impl Readable for $type {
            fn expected() -> String {
                "a whole number".to_owned()
            }
            fn read(raw: Raw<'_>) -> Option<Self> {
                match raw {
                    Raw::Toml(value) => value.as_integer().and_then(|number| number.try_into().ok()),
                    Raw::Text(text) => text.replace('_', "").parse().ok(),
                }
            }
            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
readable_integer!(u16, u32, u64, usize);

impl Readable for f64 {
    fn expected() -> String {
        "a number".to_owned()
    }
    #[expect(clippy::cast_precision_loss, reason = "settings are small numbers")]
    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw {
            Raw::Toml(value) => value.as_float().or_else(|| value.as_integer().map(|whole| whole as Self)),
            Raw::Text(text) => text.parse().ok(),
        }
        .filter(|number| number.is_finite())
    }
    fn show(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl Readable for String {
    fn expected() -> String {
        "a text".to_owned()
    }
    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.text().map(str::to_owned)
    }
    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Readable for PathBuf {
    fn expected() -> String {
        "a path".to_owned()
    }
    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.text().filter(|text| !text.is_empty()).map(Self::from)
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&Path::display(self).to_string()))
    }
}

impl Readable for Secret {
    const SECRET: bool = true;
    fn expected() -> String {
        "a text of at least 16 characters".to_owned()
    }
    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.text().filter(|text| text.chars().count() >= 16).map(|text| Self(text.to_owned()))
    }
    fn show(&self) -> Option<String> {
        Some("\"…\"".to_owned())
    }
}

impl Readable for SocketAddr {
    fn expected() -> String {
        "an address and port, for example \"127.0.0.1:8180\"".to_owned()
    }
    fn read(raw: Raw<'_>) -> Option<Self> {
        let text = raw.text()?;
        match text.strip_prefix("localhost:") {
            Some(port) => Some(Self::from(([127, 0, 0, 1], port.parse().ok()?))),
            None => Self::from_str(text).ok(),
        }
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Readable for Duration {
    fn expected() -> String {
        "a duration such as \"30s\" or \"1m30s\"".to_owned()
    }
    fn read(raw: Raw<'_>) -> Option<Self> {
        duration(raw.text()?)
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&duration_text(*self)))
    }
}

impl<T: Readable> Readable for Option<T> {
    const SECRET: bool = T::SECRET;
    fn expected() -> String {
        T::expected()
    }
    fn read(raw: Raw<'_>) -> Option<Self> {
        T::read(raw).map(Some)
    }
    fn culprit(raw: Raw<'_>) -> Option<String> {
        T::culprit(raw)
    }
    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Reads `500ms`, `30s`, `1m30s`, `2h`, `1d`; a bare number has no unit and is none.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|character: char| character.is_ascii_digit()).len();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters =
            rest.len() - rest.trim_start_matches(|character: char| character.is_ascii_alphabetic()).len();
        let milliseconds: u64 = match rest.get(..letters)? {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
    }
    Some(total)
}

/// Writes a duration so that [`duration`] reads it.
pub(crate) fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, milliseconds) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= milliseconds {
            text.push_str(&format!("{}{unit}", rest / milliseconds));
            rest %= milliseconds;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(duration_text(Duration::from_millis(milliseconds)), text);
        }
        for text in
            ["", "30", "s", "30 s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("64MiB", 64 << 20, "\"64MiB\""),
            ("1536 KiB", 1536 << 10, "\"1536KiB\""),
            ("1024MiB", 1 << 30, "\"1GiB\""),
            ("7B", 7, "\"7B\""),
        ] {
            assert_eq!(Size::read(Raw::Text(text)), Some(Size(bytes)), "{text}");
            assert_eq!(Size(bytes).show().as_deref(), Some(shown), "{text}");
        }
        assert_eq!(Size::read(Raw::Toml(&toml::Value::Integer(0))), Some(Size(0)));
        for text in ["", "64", "64MB", "MiB", "-1MiB", "1.5MiB", "99999999999GiB"] {
            assert_eq!(Size::read(Raw::Text(text)), None, "{text}");
        }
    }

    #[test]
    fn values_of_the_wrong_kind_are_none() {
        assert_eq!(bool::read(Raw::Toml(&toml::Value::String("true".into()))), None);
        assert_eq!(u32::read(Raw::Toml(&toml::Value::Integer(-1))), None);
        assert_eq!(u32::read(Raw::Text("4294967296")), None);
        assert_eq!(u32::read(Raw::Text("10_000")), Some(10_000));
        assert_eq!(SocketAddr::read(Raw::Text("localhost:1")), Some(SocketAddr::from(([127, 0, 0, 1], 1))));
        assert_eq!(SocketAddr::read(Raw::Text("example.org:1")), None);
        assert_eq!(Secret::read(Raw::Text("short")), None);
        assert_eq!(f64::read(Raw::Text("inf")), None);
    }

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret("correct horse battery".to_owned());
        assert!(!format!("{secret:?} {:?}", secret.show()).contains("horse"));
    }
}
