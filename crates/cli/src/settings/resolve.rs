//! Merges default < file < environment < flag, and finds every fault on the way.

use super::{Fault, Faults, Raw, Setting, Settings, TABLE, fault::nearest};
use std::{collections::BTreeMap, fmt};

/// What was given, before it is understood.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// The file's name and text.
    pub(crate) file: Option<(String, String)>,
    /// Variables whose names begin with `SWITCHBOARD_`.
    pub(crate) environment: Vec<(String, String)>,
    /// Path of the setting and text of the flag.
    pub(crate) flags: Vec<(&'static str, String)>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// The file.
    File,
    /// The environment.
    Variable,
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Variable => "environment",
            Self::Flag => "flag",
        })
    }
}

/// The settings and where each came from.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The settings.
    pub(crate) settings: Settings,
    /// By path; what is not in it is the default.
    origins: BTreeMap<&'static str, Origin>,
}

impl Resolved {
    /// Where the value of a setting comes from.
    pub(crate) fn origin(&self, setting: &Setting) -> Origin {
        self.origins.get(setting.path).cloned().unwrap_or(Origin::Default)
    }
}

/// Variables that are read elsewhere and are no settings.
const OTHER_VARIABLES: [&str; 1] = ["SWITCHBOARD_CONFIG"];

/// Understands what was given.
///
/// # Errors
/// Everything that is wrong, in the order flags, variables, file, contradictions.
pub(crate) fn resolve(sources: &Sources) -> Result<Resolved, Faults> {
    let mut merge = Merge {
        resolved: Resolved { settings: Settings::default(), origins: BTreeMap::new() },
        faults: Vec::new(),
        bad: Vec::new(),
    };
    if let Some((name, text)) = &sources.file {
        merge.file(name, text);
    }
    for (name, value) in &sources.environment {
        merge.variable(name, value);
    }
    for (path, value) in &sources.flags {
        if let Some(setting) = Setting::find(path) {
            merge.value(setting, &format!("--{}", setting.flag()), Raw::Text(value), Origin::Flag);
        }
    }
    let contradictions = merge.resolved.settings.contradictions(&merge.bad);
    merge.faults.extend(contradictions);
    if merge.faults.is_empty() { Ok(merge.resolved) } else { Err(Faults(merge.faults)) }
}

struct Merge {
    resolved: Resolved,
    faults: Vec<Fault>,
    /// Paths of settings whose values could not be read.
    bad: Vec<&'static str>,
}

impl Merge {
    fn value(&mut self, setting: &'static Setting, place: &str, raw: Raw<'_>, origin: Origin) {
        if (setting.read)(&mut self.resolved.settings, raw).is_some() {
            self.resolved.origins.insert(setting.path, origin);
            return;
        }
        let expected = (setting.expected)();
        self.bad.push(setting.path);
        self.faults.push(Fault::new(
            place,
            if setting.secret {
                format!("expected {expected}")
            } else {
                let wrong = (setting.culprit)(raw).unwrap_or_else(|| raw.to_string());
                format!("{wrong} is not what was expected: {expected}")
            },
        ));
    }

    fn variable(&mut self, name: &str, value: &str) {
        if OTHER_VARIABLES.contains(&name) || set_by_kubernetes(name) {
            return;
        }
        if let Some(setting) = TABLE.iter().find(|setting| setting.variable() == name) {
            self.value(setting, name, Raw::Text(value), Origin::Variable);
            return;
        }
        let variables: Vec<String> = TABLE.iter().map(Setting::variable).collect();
        self.unknown(name, "variable", nearest(name, variables.iter().map(String::as_str)));
    }

    fn file(&mut self, name: &str, text: &str) {
        match text.parse::<toml::Table>() {
            Ok(table) => self.table(name, "", &table),
            Err(error) => {
                let line = error.span().map_or(1, |span| {
                    text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
                });
                self.faults.push(Fault::new(
                    format!("{name}:{line}"),
                    format!("not TOML: {}", error.message().replace('\n', "; ")),
                ));
            }
        }
    }

    fn table(&mut self, name: &str, prefix: &str, table: &toml::Table) {
        for (key, value) in table {
            let path = format!("{prefix}{key}");
            let place = format!("{name}: {path}");
            if let Some(setting) = Setting::find(&path) {
                self.value(setting, &place, Raw::Toml(value), Origin::File);
                continue;
            }
            let section = format!("{path}.");
            match value {
                toml::Value::Table(inner)
                    if TABLE.iter().any(|setting| setting.path.starts_with(&section)) =>
                {
                    self.table(name, &section, inner);
                }
                _ if TABLE.iter().any(|setting| setting.path.starts_with(&section)) => {
                    self.faults.push(Fault::new(
                        place,
                        format!("is a section; write [{path}] and its settings below"),
                    ));
                }
                _ => {
                    let sections = TABLE.iter().filter_map(|setting| Some(setting.path.rsplit_once('.')?.0));
                    let known = TABLE.iter().map(|setting| setting.path);
                    let is_table = value.is_table();
                    let guess = if is_table { nearest(&path, sections) } else { nearest(&path, known) };
                    self.unknown(
                        &place,
                        if is_table { "section" } else { "setting" },
                        guess.or_else(|| moved(key)),
                    );
                }
            }
        }
    }

    fn unknown(&mut self, place: &str, what: &str, guess: Option<&str>) {
        let problem = match guess {
            Some(guess) => format!("no such {what}; did you mean {guess}?"),
            None => format!("no such {what}; `switchboard check-config --print-reference` lists all"),
        };
        self.faults.push(Fault::new(place, problem));
    }
}

/// A setting of this very name in another section, for those who forgot the section.
fn moved(key: &str) -> Option<&'static str> {
    TABLE.iter().map(|setting| setting.path).find(|path| path.rsplit('.').next() == Some(key))
}

/// Kubernetes puts variables of this form into every container beside a service named `switchboard`.
fn set_by_kubernetes(name: &str) -> bool {
    name.starts_with("SWITCHBOARD_SERVICE_")
        || name == "SWITCHBOARD_PORT"
        || name.starts_with("SWITCHBOARD_PORT_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Sources {
        Sources {
            file: (!file.is_empty()).then(|| ("switchboard.toml".to_owned(), file.to_owned())),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            flags: flags.iter().map(|(path, value)| (*path, (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
        let file = "listen = \"127.0.0.1:1\"\ndemo = 1\nlog = \"warn\"";
        let environment = [("SWITCHBOARD_LISTEN", "127.0.0.1:2"), ("SWITCHBOARD_DEMO", "2")];
        let resolved = resolve(&sources(file, &environment, &[("listen", "127.0.0.1:3")])).unwrap();
        assert_eq!(resolved.settings.listen.port(), 3);
        assert_eq!(resolved.settings.demo, 2);
        assert_eq!(resolved.settings.log.0, "warn");
        assert_eq!(resolved.settings.admin_listen.port(), 8182);
        let origins: Vec<_> = ["listen", "demo", "log", "admin.listen"]
            .map(|path| resolved.origin(Setting::find(path).unwrap()).to_string())
            .into();
        assert_eq!(origins, ["flag", "environment", "file", "default"]);
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let long_token = "token = \"0123456789abcdef\"";
        for (name, file, environment, flags, expected) in [
            (
                "unknown key",
                "lisen = \"x\"",
                vec![],
                vec![],
                vec!["switchboard.toml: lisen: no such setting; did you mean listen?"],
            ),
            (
                "unknown key in a section",
                "[api]\ntokne = \"x\"",
                vec![],
                vec![],
                vec!["switchboard.toml: api.tokne: no such setting; did you mean api.token?"],
            ),
            (
                "unknown section",
                "[apy]\nlisten = \"127.0.0.1:1\"",
                vec![],
                vec![],
                vec!["switchboard.toml: apy: no such section; did you mean api?"],
            ),
            (
                "the section was forgotten",
                "token = \"x\"",
                vec![],
                vec![],
                vec!["switchboard.toml: token: no such setting; did you mean api.token?"],
            ),
            (
                "nothing near",
                "colour = 1",
                vec![],
                vec![],
                vec![
                    "switchboard.toml: colour: no such setting; `switchboard check-config --print-reference` lists all",
                ],
            ),
            (
                "a section as a value",
                "api = 1",
                vec![],
                vec![],
                vec!["switchboard.toml: api: is a section; write [api] and its settings below"],
            ),
            (
                "wrong type",
                "demo = \"five\"",
                vec![],
                vec![],
                vec![
                    "switchboard.toml: demo: \"five\" is not what was expected: a whole number from 0 to 1000",
                ],
            ),
            (
                "a table for a value",
                "[demo]\nx = 1",
                vec![],
                vec![],
                vec![
                    "switchboard.toml: demo: a table is not what was expected: a whole number from 0 to 1000",
                ],
            ),
            (
                "out of range",
                "demo = 1001",
                vec![],
                vec![],
                vec!["switchboard.toml: demo: 1001 is not what was expected: a whole number from 0 to 1000"],
            ),
            (
                "no choice",
                "log_format = \"xml\"",
                vec![],
                vec![],
                vec!["switchboard.toml: log_format: \"xml\" is not what was expected: \"text\" or \"json\""],
            ),
            ("no TOML", "listen =\n", vec![], vec![], vec!["switchboard.toml:1: not TOML: "]),
            (
                "unknown variable",
                "",
                vec![("SWITCHBOARD_LISTN", "x")],
                vec![],
                vec!["SWITCHBOARD_LISTN: no such variable; did you mean SWITCHBOARD_LISTEN?"],
            ),
            (
                "wrong variable",
                "",
                vec![("SWITCHBOARD_LISTEN", "example.org")],
                vec![],
                vec![
                    "SWITCHBOARD_LISTEN: \"example.org\" is not what was expected: an address and port, for example \"127.0.0.1:8180\"",
                ],
            ),
            (
                "wrong flag",
                "",
                vec![],
                vec![("accept_unknown", "perhaps")],
                vec!["--accept-unknown: \"perhaps\" is not what was expected: true or false"],
            ),
            (
                "one wrong version of several",
                "[gateway]\nversions = [\"1.6\", \"1.7\"]",
                vec![],
                vec![],
                vec![
                    "switchboard.toml: gateway.versions: \"1.7\" is not what was expected: a list, not empty, of \"1.6\", \"2.0.1\" and \"2.1\"",
                ],
            ),
            (
                "no version",
                "[gateway]\nversions = []",
                vec![],
                vec![("log", "info,switchboard_gateway=loud")],
                vec![
                    "switchboard.toml: gateway.versions: an empty list",
                    "--log: \"switchboard_gateway=loud\" is not what was expected",
                ],
            ),
            (
                "a secret is not shown",
                "[api]\ntoken = \"hunter2\"",
                vec![],
                vec![],
                vec!["switchboard.toml: api.token: expected a text of at least 16 characters"],
            ),
            (
                "an open API without a token",
                "[api]\nlisten = \"0.0.0.0:8181\"",
                vec![],
                vec![],
                vec![
                    "api.token: must be set, since the API listens on 0.0.0.0:8181, which others can reach; set it, or use a loopback address",
                ],
            ),
            (
                "an open API with a token",
                &format!("[api]\nlisten = \"0.0.0.0:8181\"\n{long_token}"),
                vec![],
                vec![],
                vec![],
            ),
            (
                "silent before it was asked",
                "",
                vec![],
                vec![("gateway.ping_interval", "1m"), ("gateway.silence_max", "10s")],
                vec!["gateway.silence_max: must be longer than gateway.ping_interval (60s)"],
            ),
            (
                "a version that is off is assumed",
                "[gateway]\nversions = [\"1.6\"]\nassume_version = \"2.0.1\"",
                vec![],
                vec![],
                vec!["gateway.assume_version: OCPP 2.0.1 is not among gateway.versions"],
            ),
            (
                "two listeners on one port",
                "",
                vec![],
                vec![("admin.listen", "127.0.0.1:8180")],
                vec!["admin.listen: 127.0.0.1:8180 is the address of listen already"],
            ),
            (
                "a contradiction beside another fault",
                "demo = -1",
                vec![],
                vec![("admin.listen", "127.0.0.1:8180")],
                vec!["switchboard.toml: demo: -1", "admin.listen: 127.0.0.1:8180 is the address of listen"],
            ),
            (
                "nothing is said of what could not be read",
                "",
                vec![],
                vec![("api.listen", "0.0.0.0:1"), ("api.token", "short")],
                vec!["--api-token: expected a text"],
            ),
            (
                "many at once",
                "lisen = 1\ndemo = -1",
                vec![("SWITCHBOARD_X", "")],
                vec![("listen", "y")],
                vec!["switchboard.toml: demo: -1", "switchboard.toml: lisen", "SWITCHBOARD_X", "--listen"],
            ),
        ] {
            let faults = resolve(&sources(file, &environment, &flags))
                .err()
                .map(|faults| faults.0)
                .unwrap_or_default();
            let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
            assert_eq!(shown.len(), expected.len(), "{name}: {shown:#?}");
            for (shown, expected) in shown.iter().zip(expected) {
                assert!(shown.starts_with(expected), "{name}: {shown}");
            }
        }
    }

    #[test]
    fn variables_of_kubernetes_are_no_faults() {
        let environment = [
            ("SWITCHBOARD_SERVICE_HOST", "10.0.0.1"),
            ("SWITCHBOARD_PORT", "tcp://10.0.0.1:8180"),
            ("SWITCHBOARD_PORT_8180_TCP", "tcp://10.0.0.1:8180"),
            ("SWITCHBOARD_CONFIG", "x"),
        ];
        assert!(resolve(&sources("", &environment, &[])).is_ok());
    }
}
