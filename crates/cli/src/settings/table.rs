//! The one table of settings.

use super::{
    Settings,
    value::{Raw, Readable},
};

/// One setting: its name, how to read it and what it means.
pub(crate) struct Setting {
    /// Its path in the file: `api.listen`.
    pub(crate) path: &'static str,
    /// What it means: one or two sentences. Its unit, default and danger belong here.
    pub(crate) help: &'static str,
    /// What a value must be.
    pub(crate) expected: fn() -> String,
    /// Reads a value into the settings; nothing if it is not what was expected.
    pub(crate) read: fn(&mut Settings, Raw<'_>) -> Option<()>,
    /// The value as TOML writes it; nothing if it is not set.
    pub(crate) show: fn(&Settings) -> Option<String>,
    /// Whether faults and listings must not show the value.
    pub(crate) secret: bool,
    /// Whether the flag may stand without a value, for `true`.
    pub(crate) switch: bool,
}

impl Setting {
    /// The variable: `SWITCHBOARD_API_LISTEN`.
    pub(crate) fn variable(&self) -> String {
        format!("SWITCHBOARD_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// The flag without its dashes: `api-listen`.
    pub(crate) fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    /// The setting with this path.
    pub(crate) fn find(path: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.path == path)
    }
}

/// A row: path, field, `in range` or `where test, words` where there is a bound, and the help.
macro_rules! setting {
    ($path:literal, $($field:ident).+ : $type:ty, in $low:expr, $high:expr, $help:literal) => {
        Setting {
            path: $path,
            help: $help,
            expected: || {
                format!(
                    "{} from {} to {}",
                    <$type as Readable>::expected(),
                    <$type as Readable>::show(&$low).unwrap_or_default(),
                    <$type as Readable>::show(&$high).unwrap_or_default()
                )
            },
            read: |settings, raw| {
                let value = <$type as Readable>::read(raw)?;
                if !($low..=$high).contains(&value) {
                    return None;
                }
                settings.$($field).+ = value.into();
                Some(())
            },
            show: |settings| Readable::show(&settings.$($field).+),
            secret: <$type as Readable>::SECRET,
            switch: false,
        }
    };
    ($path:literal, $($field:ident).+ : $type:ty, switch, $help:literal) => {
        Setting { switch: true, ..setting!($path, $($field).+ : $type, $help) }
    };
    ($path:literal, $($field:ident).+ : $type:ty, $help:literal) => {
        Setting {
            path: $path,
            help: $help,
            expected: <$type as Readable>::expected,
            read: |settings, raw| {
                settings.$($field).+ = <$type as Readable>::read(raw)?.into();
                Some(())
            },
            show: |settings| Readable::show(&settings.$($field).+),
            secret: <$type as Readable>::SECRET,
            switch: false,
        }
    };
}

/// Every setting, in the order in which the reference shows them.
pub(crate) const TABLE: &[Setting] = &[
    setting!("listen", listen: SocketAddr,
        "Where stations connect: ws://ADDRESS/ocpp/STATION. On any but a loopback address stations must be registered, or accept_unknown set. Port 0 takes a free one."),
    setting!("accept_unknown", accept_unknown: bool, switch,
        "Whether stations that nobody registered may connect, without credentials. Not set: only if listen is a loopback address."),
    setting!("data_dir", data_dir: PathBuf,
        "The directory for everything durable. It belongs to one process at a time."),
    setting!("ports_file", ports_file: PathBuf,
        "A file to write once all ports are bound: a JSON object with the addresses of stations, api and admin. For scripts that use port 0."),
    setting!("demo", demo: u32, in 0, 1000,
        "How many simulated stations to start with the process, DEMO001 and so on."),
    setting!("demo_speed", demo_speed: f64, in 0.1, 10_000.0,
        "How much faster than life the simulated stations live: at 60 an hour of charging takes a minute."),
    setting!("log", log: String,
        "What to log: error, warn, info, debug or trace, or a list of directives such as info,switchboard_gateway=debug."),
    setting!("log_format", log_format: LogFormat,
        "How to write the log: text for people, json for machines, one object a line."),
    setting!("api.listen", api_listen: SocketAddr,
        "Where the API listens. On any but a loopback address api.token must be set. Port 0 takes a free one."),
    setting!("api.token", api_token: Secret,
        "The bearer token that every request to the API must carry. Not set: none is asked for, which is allowed on a loopback address only."),
    setting!("admin.listen", admin_listen: SocketAddr,
        "Where /healthz, /readyz and /metrics are. Port 0 takes a free one."),
];

use super::{LogFormat, Secret};
use std::{net::SocketAddr, path::PathBuf};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_settings_share_a_path_a_flag_or_a_variable() {
        let paths: HashSet<_> = TABLE.iter().map(|setting| setting.path).collect();
        let flags: HashSet<_> = TABLE.iter().map(Setting::flag).collect();
        let variables: HashSet<_> = TABLE.iter().map(Setting::variable).collect();
        assert_eq!((paths.len(), flags.len(), variables.len()), (TABLE.len(), TABLE.len(), TABLE.len()));
    }

    #[test]
    fn every_default_that_is_shown_can_be_read_again() {
        for setting in TABLE.iter().filter(|setting| !setting.secret) {
            let Some(shown) = (setting.show)(&Settings::default()) else { continue };
            let table: toml::Table = toml::from_str(&format!("value = {shown}")).unwrap();
            let mut read = Settings::default();
            assert!((setting.read)(&mut read, Raw::Toml(&table["value"])).is_some(), "{}", setting.path);
            assert_eq!((setting.show)(&read), Some(shown), "{}", setting.path);
        }
    }

    #[test]
    fn every_setting_says_what_it_means() {
        for setting in TABLE {
            assert!(setting.help.ends_with('.') && setting.help.len() > 20, "{}", setting.path);
            assert!(!(setting.expected)().is_empty(), "{}", setting.path);
        }
    }
}
