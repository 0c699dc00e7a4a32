//! What can be read and changed about the station: keys in 1.6, variables in 2.0.1.

use crate::Config;
use std::time::Duration;

/// One setting, under its name in each version.
#[derive(Debug)]
struct Key {
    /// 1.6; empty where it has none.
    v16: &'static str,
    /// Component and variable in 2.0.1.
    v201: (&'static str, &'static str),
    value: String,
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Seconds,
    /// It can be written and never be read.
    Password,
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

/// All settings.
#[derive(Debug)]
pub(crate) struct Keys {
    keys: Vec<Key>,
    password: Option<Vec<u8>>,
}

impl Keys {
    /// The settings of a station that nobody has changed yet.
    pub(crate) fn new(config: &Config) -> Self {
        let key = |v16, v201, value: String, access| Key { v16, v201, value, access };
        Self {
            keys: vec![
                key(
                    "HeartbeatInterval",
                    ("OCPPCommCtrlr", "HeartbeatInterval"),
                    "300".to_owned(),
                    Access::Seconds,
                ),
                key(
                    "MeterValueSampleInterval",
                    ("SampledDataCtrlr", "TxUpdatedInterval"),
                    config.meter_interval.as_secs().to_string(),
                    Access::Seconds,
                ),
                key(
                    "WebSocketPingInterval",
                    ("OCPPCommCtrlr", "WebSocketPingInterval"),
                    config.ping_interval.as_secs().to_string(),
                    Access::Read,
                ),
                key(
                    "NumberOfConnectors",
                    ("ChargingStation", "Model"),
                    config.connectors.to_string(),
                    Access::Read,
                ),
                key(
                    "SupportedFeatureProfiles",
                    ("ChargingStation", "VendorName"),
                    "Core,RemoteTrigger".to_owned(),
                    Access::Read,
                ),
                key(
                    "AuthorizationKey",
                    ("SecurityCtrlr", "BasicAuthPassword"),
                    String::new(),
                    Access::Password,
                ),
            ],
            password: None,
        }
    }

    /// The password that the central system set, if it did.
    pub(crate) fn password(&self) -> Option<Vec<u8>> {
        self.password.clone()
    }

    /// How often the meter is read, as somebody set it.
    pub(crate) fn meter_interval(&self) -> Option<Duration> {
        self.seconds("MeterValueSampleInterval")
    }

    /// How often a Heartbeat is sent, as somebody set it.
    pub(crate) fn heartbeat(&self) -> Option<Duration> {
        self.seconds("HeartbeatInterval")
    }

    /// Takes over the interval of a BootNotification's answer.
    pub(crate) fn set_heartbeat(&mut self, interval: Duration) {
        if let Some(key) = self.keys.iter_mut().find(|key| key.v16 == "HeartbeatInterval") {
            key.value = interval.as_secs().to_string();
        }
    }

    /// All names of 1.6.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.v16)
    }

    /// Reads a key of 1.6. Names are case-insensitive there.
    pub(crate) fn get_v16(&self, name: &str) -> Looked {
        Self::look(self.keys.iter().find(|key| key.v16.eq_ignore_ascii_case(name)))
    }

    /// Reads a variable of 2.0.1.
    pub(crate) fn get_v201(&self, component: &str, variable: &str) -> Looked {
        Self::look(self.keys.iter().find(|key| is(key, component, variable)))
    }

    /// Changes a key of 1.6.
    pub(crate) fn set_v16(&mut self, name: &str, value: &str) -> Changed {
        // 1.6 writes the key of profile 1 as hexadecimal digits; what they stand for is the password.
        let password = |value: &str| hexadecimal(value).unwrap_or_else(|| value.as_bytes().to_vec());
        match self.keys.iter().position(|key| key.v16.eq_ignore_ascii_case(name)) {
            Some(index) => self.change(index, value, password),
            None => Changed::Unknown,
        }
    }

    /// Changes a variable of 2.0.1.
    pub(crate) fn set_v201(&mut self, component: &str, variable: &str, value: &str) -> Changed {
        match self.keys.iter().position(|key| is(key, component, variable)) {
            Some(index) => self.change(index, value, |value| value.as_bytes().to_vec()),
            None => Changed::Unknown,
        }
    }

    fn change(&mut self, index: usize, value: &str, password: impl FnOnce(&str) -> Vec<u8>) -> Changed {
        let Some(key) = self.keys.get_mut(index) else { return Changed::Unknown };
        match key.access {
            Access::Read => Changed::Rejected,
            Access::Seconds if value.parse::<u32>().is_ok() => {
                value.clone_into(&mut key.value);
                Changed::Accepted
            }
            Access::Seconds => Changed::Rejected,
            Access::Password => {
                let password = password(value);
                if password.len() < 16 {
                    return Changed::Rejected;
                }
                self.password = Some(password);
                Changed::Accepted
            }
        }
    }

    fn look(key: Option<&Key>) -> Looked {
        match key {
            None => Looked::Unknown,
            Some(key) if key.access == Access::Password => Looked::WriteOnly,
            Some(key) => Looked::Value { value: key.value.clone(), readonly: key.access == Access::Read },
        }
    }

    fn seconds(&self, name: &str) -> Option<Duration> {
        let key = self.keys.iter().find(|key| key.v16 == name)?;
        key.value.parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }
}

fn is(key: &Key, component: &str, variable: &str) -> bool {
    key.v201.0.eq_ignore_ascii_case(component) && key.v201.1.eq_ignore_ascii_case(variable)
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

    #[test]
    fn keys_are_read_and_changed_as_their_access_says() {
        let mut keys = Keys::new(&Config::new("ws://x", "A"));
        assert_eq!(keys.set_v16("heartbeatinterval", "7"), Changed::Accepted);
        assert_eq!(
            keys.get_v201("OCPPCommCtrlr", "HeartbeatInterval"),
            Looked::Value { value: "7".to_owned(), readonly: false }
        );
        assert_eq!(keys.set_v16("HeartbeatInterval", "-1"), Changed::Rejected);
        assert_eq!(keys.set_v16("NumberOfConnectors", "9"), Changed::Rejected);
        assert_eq!(keys.set_v16("Colour", "blue"), Changed::Unknown);
        assert_eq!(keys.get_v16("AuthorizationKey"), Looked::WriteOnly);
    }

    #[test]
    fn a_password_of_1_6_is_what_its_digits_stand_for() {
        let mut keys = Keys::new(&Config::new("ws://x", "A"));
        assert_eq!(keys.set_v16("AuthorizationKey", "4142434445464748494A4B4C4D4E4F50"), Changed::Accepted);
        assert_eq!(keys.password(), Some(b"ABCDEFGHIJKLMNOP".to_vec()));
        assert_eq!(keys.set_v16("AuthorizationKey", "short"), Changed::Rejected);
        assert_eq!(
            keys.set_v201("SecurityCtrlr", "BasicAuthPassword", "sixteen-letters!"),
            Changed::Accepted
        );
        assert_eq!(keys.password(), Some(b"sixteen-letters!".to_vec()));
    }
}
