//! What can be read and changed about the station: keys in 1.6, variables in 2.x, one table for both.
//!
//! Only what differs from the table is kept per station.

use super::{
    local_list::{ENTRIES_IN_MESSAGE_MAX, ENTRIES_MAX},
    profile::{PERIODS_MAX, PROFILES_MAX, STACK_LEVEL_MAX},
};
use crate::Config;
use std::{borrow::Cow, sync::LazyLock, time::Duration};

/// One setting, under its name in each version.
#[derive(Debug)]
pub(crate) struct Row {
    /// In 1.6; empty where it has none.
    pub(crate) v16: &'static str,
    /// Component in 2.x; empty where it has none.
    pub(crate) component: &'static str,
    /// Variable in 2.x.
    pub(crate) variable: &'static str,
    /// The variable's instance in 2.x.
    pub(crate) instance: &'static str,
    /// What it is as long as nobody changes it.
    default: Cow<'static, str>,
    /// What it holds, and who may change it.
    pub(crate) kind: Kind,
}

/// What a setting holds, and who may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody may change it.
    Fixed(Holds),
    /// It may be changed to anything of this kind.
    Free(Holds),
    /// It can be written and never be read.
    Password,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Text,
    Seconds,
    Number,
    Bool,
    /// Measurands, separated by commas.
    Measurands,
}

/// What a station of this kind can measure.
pub(crate) const MEASURANDS: [&str; 6] = [
    "Energy.Active.Import.Register",
    "Power.Active.Import",
    "Current.Import",
    "Voltage",
    "SoC",
    "Power.Offered",
];

/// The table, one setting a line.
static TABLE: LazyLock<Vec<Row>> =
    LazyLock::new(|| include_str!("settings.txt").lines().filter_map(row).collect());

/// One line of the table; none for what is none, which a test counts.
fn row(line: &'static str) -> Option<Row> {
    let columns: Vec<&str> = line.split_whitespace().map(|one| if one == "-" { "" } else { one }).collect();
    let [v16, component, variable, instance, change, holds, default, ..] = *columns else { return None };
    let holds = match holds {
        "text" => Holds::Text,
        "seconds" => Holds::Seconds,
        "number" => Holds::Number,
        "bool" => Holds::Bool,
        "measurands" => Holds::Measurands,
        _ => return None,
    };
    let kind = match change {
        "fixed" => Kind::Fixed(holds),
        "free" => Kind::Free(holds),
        "password" => Kind::Password,
        _ => return None,
    };
    let default = match default {
        "$version" => env!("CARGO_PKG_VERSION").into(),
        "$entries_max" => ENTRIES_MAX.to_string().into(),
        "$entries_in_message_max" => ENTRIES_IN_MESSAGE_MAX.to_string().into(),
        "$stack_level_max" => STACK_LEVEL_MAX.to_string().into(),
        "$periods_max" => PERIODS_MAX.to_string().into(),
        "$profiles_max" => PROFILES_MAX.to_string().into(),
        // The rest of the line, for a text of several words.
        _ if columns.len() > 7 => line.find(default).and_then(|at| line.get(at..)).unwrap_or_default().into(),
        other => Cow::Borrowed(other),
    };
    Some(Row { v16, component, variable, instance, default, kind })
}

/// What became of the attempt to change a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Accepted,
    Rejected,
    Unknown,
}

/// What became of the attempt to read a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    Value { value: String, readonly: bool },
    WriteOnly,
    Unknown,
}

/// All settings of a station.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// By the number of the row.
    changed: Vec<(usize, Box<str>)>,
    password: Option<Vec<u8>>,
}

impl Configuration {
    /// The settings of a station that nobody has changed yet.
    pub(crate) fn new(config: &Config) -> Self {
        let mut made = Self { changed: Vec::new(), password: None };
        made.put("NumberOfConnectors", &config.connectors.to_string());
        made.put("MeterValueSampleInterval", &config.meter_interval.as_secs().to_string());
        made.put("WebSocketPingInterval", &config.ping_interval.as_secs().to_string());
        made.put("TransactionMessageAttempts", &config.billing_attempts.to_string());
        made.put("TransactionMessageRetryInterval", &config.billing_interval.as_secs().to_string());
        made.changed.shrink_to_fit();
        made
    }

    /// The password that the central system has just set.
    pub(crate) const fn take_password(&mut self) -> Option<Vec<u8>> {
        self.password.take()
    }

    /// A value by its name in 1.6.
    pub(crate) fn text(&self, v16: &str) -> String {
        TABLE.iter().position(|row| row.v16 == v16).map(|index| self.value(index)).unwrap_or_default()
    }

    /// Whether a setting is on.
    pub(crate) fn is_on(&self, v16: &str) -> bool {
        self.text(v16).eq_ignore_ascii_case("true")
    }

    /// A duration; none if it is zero.
    pub(crate) fn seconds(&self, v16: &str) -> Option<Duration> {
        self.text(v16).parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// Takes over what the central system said elsewhere.
    pub(crate) fn put(&mut self, v16: &str, value: &str) {
        if let Some(index) = TABLE.iter().position(|row| row.v16 == v16) {
            self.write(index, value);
        }
    }

    /// All names of 1.6.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|row| row.v16).filter(|name| !name.is_empty())
    }

    /// All variables of 2.x with their values; none for those that cannot be read.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static Row, Option<String>)> {
        TABLE
            .iter()
            .enumerate()
            .filter(|(_, row)| !row.component.is_empty())
            .map(|(index, row)| (row, (row.kind != Kind::Password).then(|| self.value(index))))
    }

    /// Reads a key of 1.6. Names are case-insensitive there.
    pub(crate) fn get_v16(&self, name: &str) -> Looked {
        self.look(TABLE.iter().position(|row| !name.is_empty() && row.v16.eq_ignore_ascii_case(name)))
    }

    /// Reads a variable of 2.x.
    pub(crate) fn get_v2(&self, component: &str, variable: &str, instance: &str) -> Looked {
        self.look(position(component, variable, instance))
    }

    /// Whether 2.x has this component.
    pub(crate) fn has_component(component: &str) -> bool {
        TABLE.iter().any(|row| !component.is_empty() && row.component.eq_ignore_ascii_case(component))
    }

    /// A key of 1.6 as the table writes it; empty if there is none.
    pub(crate) fn key(name: &str) -> &'static str {
        TABLE.iter().map(|row| row.v16).find(|key| key.eq_ignore_ascii_case(name)).unwrap_or_default()
    }

    /// The key of 1.6 that is the same setting as this variable; empty if there is none.
    pub(crate) fn key_of(component: &str, variable: &str, instance: &str) -> &'static str {
        position(component, variable, instance).and_then(|index| TABLE.get(index)).map_or("", |row| row.v16)
    }

    /// Changes a key of 1.6.
    pub(crate) fn set_v16(&mut self, name: &str, value: &str) -> Changed {
        // 1.6 writes the key of profile 1 as hexadecimal digits; what they stand for is the password.
        let password = |value: &str| hexadecimal(value).unwrap_or_else(|| value.as_bytes().to_vec());
        match TABLE.iter().position(|row| !name.is_empty() && row.v16.eq_ignore_ascii_case(name)) {
            Some(index) => self.change(index, value, password),
            None => Changed::Unknown,
        }
    }

    /// Changes a variable of 2.x.
    pub(crate) fn set_v2(&mut self, component: &str, variable: &str, instance: &str, value: &str) -> Changed {
        match position(component, variable, instance) {
            Some(index) => self.change(index, value, |value| value.as_bytes().to_vec()),
            None => Changed::Unknown,
        }
    }

    fn change(&mut self, index: usize, value: &str, password: impl FnOnce(&str) -> Vec<u8>) -> Changed {
        let Some(row) = TABLE.get(index) else { return Changed::Unknown };
        let fits = match row.kind {
            Kind::Fixed(_) => false,
            Kind::Free(holds) => holds.allows(value),
            Kind::Password => {
                let password = password(value);
                if !(16..=40).contains(&password.len()) {
                    return Changed::Rejected;
                }
                self.password = Some(password);
                return Changed::Accepted;
            }
        };
        if !fits {
            return Changed::Rejected;
        }
        self.write(index, value);
        Changed::Accepted
    }

    fn write(&mut self, index: usize, value: &str) {
        match self.changed.iter_mut().find(|(one, _)| *one == index) {
            Some((_, kept)) => *kept = value.into(),
            None => self.changed.push((index, value.into())),
        }
    }

    fn value(&self, index: usize) -> String {
        if let Some((_, value)) = self.changed.iter().find(|(one, _)| *one == index) {
            return value.to_string();
        }
        TABLE.get(index).map(|row| row.default.to_string()).unwrap_or_default()
    }

    fn look(&self, index: Option<usize>) -> Looked {
        match index.and_then(|index| TABLE.get(index).map(|row| (index, row.kind))) {
            None => Looked::Unknown,
            Some((_, Kind::Password)) => Looked::WriteOnly,
            Some((index, kind)) => {
                Looked::Value { value: self.value(index), readonly: matches!(kind, Kind::Fixed(_)) }
            }
        }
    }
}

impl Holds {
    fn allows(self, value: &str) -> bool {
        match self {
            Self::Text => value.chars().count() <= 500,
            Self::Seconds | Self::Number => value.parse::<u32>().is_ok(),
            Self::Bool => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            Self::Measurands => {
                value.is_empty() || value.split(',').all(|one| MEASURANDS.contains(&one.trim()))
            }
        }
    }
}

fn position(component: &str, variable: &str, instance: &str) -> Option<usize> {
    TABLE.iter().position(|row| {
        !row.component.is_empty()
            && row.component.eq_ignore_ascii_case(component)
            && row.variable.eq_ignore_ascii_case(variable)
            && row.instance.eq_ignore_ascii_case(instance)
    })
}

/// The bytes that an even number of hexadecimal digits stands for.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|one| one.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() >= 32 && digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Configuration {
        Configuration::new(&Config::new("ws://x", "A"))
    }

    #[test]
    fn settings_are_read_and_changed_as_their_kind_says() {
        let mut settings = new();
        assert_eq!(settings.set_v16("heartbeatinterval", "7"), Changed::Accepted);
        assert_eq!(
            settings.get_v2("OCPPCommCtrlr", "HeartbeatInterval", ""),
            Looked::Value { value: "7".to_owned(), readonly: false }
        );
        for (name, value, changed) in [
            ("HeartbeatInterval", "-1", Changed::Rejected),
            ("NumberOfConnectors", "9", Changed::Rejected),
            ("LocalPreAuthorize", "maybe", Changed::Rejected),
            ("LocalPreAuthorize", "TRUE", Changed::Accepted),
            ("MeterValuesSampledData", "Colour", Changed::Rejected),
            ("MeterValuesSampledData", "SoC,Voltage", Changed::Accepted),
            ("Colour", "blue", Changed::Unknown),
            ("", "", Changed::Unknown),
        ] {
            assert_eq!(settings.set_v16(name, value), changed, "{name}");
        }
        assert!(settings.is_on("LocalPreAuthorize"));
        assert_eq!(settings.get_v16("AuthorizationKey"), Looked::WriteOnly);
        assert_eq!(settings.get_v2("OCPPCommCtrlr", "MessageAttempts", ""), Looked::Unknown);
        let attempts = settings.get_v2("OCPPCommCtrlr", "MessageAttempts", "TransactionEvent");
        assert_eq!(attempts, Looked::Value { value: "5".to_owned(), readonly: false });
    }

    #[test]
    fn names_are_unique_and_defaults_are_of_their_kind() {
        let lines = include_str!("settings.txt").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), TABLE.len(), "every line is a setting");
        for (index, row) in TABLE.iter().enumerate() {
            for other in &TABLE[..index] {
                assert!(row.v16.is_empty() || row.v16 != other.v16, "{}", row.v16);
                let name = |row: &Row| (row.component, row.variable, row.instance);
                assert!(row.component.is_empty() || name(row) != name(other), "{:?}", name(row));
            }
            let value = new().value(index);
            if let Kind::Fixed(holds) | Kind::Free(holds) = row.kind {
                assert!(holds.allows(&value), "{row:?}");
            }
        }
    }

    #[test]
    fn a_password_of_1_6_is_what_its_digits_stand_for() {
        let mut settings = new();
        assert_eq!(
            settings.set_v16("AuthorizationKey", "4142434445464748494A4B4C4D4E4F50"),
            Changed::Accepted
        );
        assert_eq!(settings.take_password(), Some(b"ABCDEFGHIJKLMNOP".to_vec()));
        assert_eq!(settings.set_v16("AuthorizationKey", "short"), Changed::Rejected);
        let changed = settings.set_v2("SecurityCtrlr", "BasicAuthPassword", "", "sixteen-letters!");
        assert_eq!(changed, Changed::Accepted);
        assert_eq!(settings.take_password(), Some(b"sixteen-letters!".to_vec()));
    }
}
