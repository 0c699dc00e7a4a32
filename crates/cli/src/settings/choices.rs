//! Settings that are one of a few words.

use super::{
    Directives, LogFormat,
    value::{Raw, Readable},
};
use switchboard_central::UnknownTokens;
use switchboard_gateway::{BillingDeadline, NoCommonVersion};
use switchboard_router::Registration;
use switchboard_rpc::Version;
use switchboard_trace::Personal;

/// A type whose values are words.
macro_rules! words {
    ($type:ty { $($word:literal => $value:path),+ $(,)? }) => {
        impl Readable for $type {
            fn expected() -> String {
                one_of(&[$($word),+])
            }
            fn read(raw: Raw<'_>) -> Option<Self> {
                match String::read(raw)?.as_str() {
                    $($word => Some($value),)+
                    _ => None,
                }
            }
            fn show(&self) -> Option<String> {
                $(if *self == $value {
                    return Some(format!("{:?}", $word));
                })+
                None
            }
        }
    };
}

words!(LogFormat { "text" => Self::Text, "json" => Self::Json });
words!(NoCommonVersion { "reject" => Self::Reject, "accept_then_close" => Self::AcceptThenClose });
words!(BillingDeadline { "close" => Self::Close, "silence" => Self::Silence });
words!(Registration { "accepted" => Self::Accepted, "pending" => Self::Pending, "rejected" => Self::Rejected });
words!(UnknownTokens { "while_none" => Self::WhileNone, "accept" => Self::Accept, "refuse" => Self::Refuse });
words!(Personal { "redact" => Self::Redact, "keep" => Self::Keep });
words!(Version { "1.6" => Self::V16, "2.0.1" => Self::V201, "2.1" => Self::V21 });

impl Readable for Vec<Version> {
    fn expected() -> String {
        "a list, not empty, of \"1.6\", \"2.0.1\" and \"2.1\"; from flag and environment with commas"
            .to_owned()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let list: Option<Self> = match raw {
            Raw::Toml(value) => value.as_array()?.iter().map(|one| Version::read(Raw::Toml(one))).collect(),
            Raw::Text(text) => text.split(',').map(|one| Version::read(Raw::Text(one.trim()))).collect(),
        };
        list.filter(|list| !list.is_empty())
    }

    fn culprit(raw: Raw<'_>) -> Option<String> {
        match raw {
            Raw::Toml(value) => {
                let list = value.as_array()?;
                if list.is_empty() {
                    return Some("an empty list".to_owned());
                }
                let wrong = list.iter().find(|one| Version::read(Raw::Toml(one)).is_none())?;
                Some(Raw::Toml(wrong).to_string())
            }
            Raw::Text(text) => {
                let wrong =
                    text.split(',').map(str::trim).find(|one| Version::read(Raw::Text(one)).is_none())?;
                Some(Raw::Text(wrong).to_string())
            }
        }
    }

    fn show(&self) -> Option<String> {
        let words: Vec<String> = self.iter().filter_map(Readable::show).collect();
        Some(format!("[{}]", words.join(", ")))
    }
}

impl Readable for Vec<String> {
    fn expected() -> String {
        "a list of texts; from flag and environment with commas".to_owned()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        match raw {
            Raw::Toml(value) => value.as_array()?.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
            Raw::Text(text) => {
                Some(text.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect())
            }
        }
    }

    fn show(&self) -> Option<String> {
        let texts: Self = self.iter().filter_map(Readable::show).collect();
        Some(format!("[{}]", texts.join(", ")))
    }
}

impl Readable for Directives {
    fn expected() -> String {
        "error, warn, info, debug, trace or off, or a list such as \"info,switchboard_gateway=debug\""
            .to_owned()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let text = String::read(raw)?;
        text.split(',').all(is_directive).then_some(Self(text))
    }

    fn culprit(raw: Raw<'_>) -> Option<String> {
        let text = String::read(raw)?;
        let wrong = text.split(',').find(|part| !is_directive(part))?;
        Some(Raw::Text(wrong.trim()).to_string())
    }

    fn show(&self) -> Option<String> {
        self.0.show()
    }
}

/// The library takes a word that it does not know for the name of a module, and then logs nothing at all.
fn is_directive(part: &str) -> bool {
    let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
    ["error", "warn", "info", "debug", "trace", "off"].iter().any(|one| one.eq_ignore_ascii_case(level))
}

/// `"a", "b" or "c"`
fn one_of(words: &[&str]) -> String {
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        text.push_str(match index {
            0 => "",
            _ if index + 1 == words.len() => " or ",
            _ => ", ",
        });
        text.push_str(&format!("{word:?}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_that_would_log_nothing_are_refused() {
        for right in ["info", "WARN", "info,switchboard_gateway=debug", "off,a::b=trace"] {
            assert!(Directives::read(Raw::Text(right)).is_some(), "{right}");
        }
        for wrong in ["", "inof", "info,", "switchboard_gateway", "a=loud"] {
            assert!(Directives::read(Raw::Text(wrong)).is_none(), "{wrong}");
        }
    }

    #[test]
    fn versions_are_read_as_a_list() {
        assert_eq!(Vec::<Version>::read(Raw::Text("2.0.1, 1.6")), Some(vec![Version::V201, Version::V16]));
        for wrong in ["", "1.5", "1.6,"] {
            assert_eq!(Vec::<Version>::read(Raw::Text(wrong)), None, "{wrong}");
        }
        assert_eq!(Vec::<String>::read(Raw::Text("a, b*,")), Some(vec!["a".to_owned(), "b*".to_owned()]));
        assert_eq!(Registration::expected(), "\"accepted\", \"pending\" or \"rejected\"");
    }
}
