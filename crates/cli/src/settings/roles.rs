//! What a process is there for, and which settings cannot work for it.

use super::{BusPlace, DatabasePlace, DirectoryPlace, Fault, Settings};
use std::{path::PathBuf, time::Duration};

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Everything: `switchboard run`.
    Run,
    /// The sockets: `switchboard gateway`.
    Gateway,
    /// The processing: `switchboard worker`.
    Worker,
}

/// How long nobody may take calls before a gateway of its own sends new stations away, where nobody says.
const REFUSE_UPGRADES_AFTER: Duration = Duration::from_secs(10);

impl Role {
    /// Whether stations connect to it.
    pub(crate) fn has_stations(self) -> bool {
        self != Self::Worker
    }

    /// Whether calls are processed in it.
    pub(crate) fn has_processing(self) -> bool {
        self != Self::Gateway
    }

    /// The word on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Gateway => "gateway",
            Self::Worker => "worker",
        }
    }
}

impl Settings {
    /// The roles that these settings can be meant for.
    pub(crate) fn roles(&self) -> &'static [Role] {
        match &self.bus {
            BusPlace::Embedded => &[Role::Run],
            bare if bare.is_bare() => &[Role::Gateway],
            _ => &[Role::Gateway, Role::Worker],
        }
    }

    /// Where the directory is.
    pub(crate) fn directory_place(&self) -> DirectoryPlace {
        self.directory.clone().unwrap_or_else(|| DirectoryPlace::Sqlite(self.data_dir.join(DIRECTORY_FILE)))
    }

    /// Where the books are.
    pub(crate) fn database_place(&self) -> DatabasePlace {
        self.database.clone().unwrap_or_else(|| DatabasePlace::Sqlite(self.data_dir.join(BOOKS_FILE)))
    }

    /// How long processing may be away before stations that come are sent away.
    pub(crate) fn refuse_upgrades_after(&self, role: Role) -> Option<Duration> {
        self.refuse_upgrades_after.or_else(|| (role == Role::Gateway).then_some(REFUSE_UPGRADES_AFTER))
    }

    /// What cannot work in this role.
    pub(crate) fn faults_of(&self, role: Role) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |place: &str, problem: String| faults.push(Fault::new(place, problem));
        let word = role.word();
        if role != Role::Run {
            if self.bus == BusPlace::Embedded {
                fault(
                    "bus",
                    format!(
                        "must name a broker for switchboard {word}, for example nats://127.0.0.1:4222: a gateway and its \
                         workers are processes of their own, and embedded: is the bus within one. One process for \
                         everything is switchboard run"
                    ),
                );
            }
            if self.directory.is_none() {
                fault(
                    "directory",
                    format!(
                        "must be set for switchboard {word}, to the same for all gateways and workers, for example \
                         postgres://USER:PASSWORD@127.0.0.1/switchboard; what is in the data directory belongs to one \
                         process{}",
                        // A default would let a second gateway begin that knows nothing of the first.
                        match role {
                            Role::Gateway =>
                                ". For the only gateway, with workers that are not ours: sqlite:PATH",
                            _ => "",
                        }
                    ),
                );
            }
        }
        if role.has_processing() && self.bus.is_bare() {
            fault(
                "bus",
                format!(
                    "{} carries frames without envelopes, for a gateway and functions of others: no worker of ours can \
                     listen there. Leave mode=bare away, or start switchboard gateway only",
                    self.bus
                ),
            );
        }
        if role == Role::Worker
            && let Some(place @ DirectoryPlace::Sqlite(_)) = &self.directory
        {
            fault(
                "directory",
                format!(
                    "{place} belongs to one process, and a worker asks it where the gateways' stations are; use \
                     postgres://…, the same for all gateways and workers"
                ),
            );
        }
        if let Some(place @ DirectoryPlace::NatsKv(_)) = &self.directory {
            if role.has_stations() && self.gateway.journal {
                fault(
                    "directory",
                    format!(
                        "{place} cannot hold the journal, which must be on a synced disk: use postgres://…, or set \
                         gateway.journal = false, and what cannot be processed in time is refused"
                    ),
                );
            }
            if role.has_processing() {
                fault(
                    "directory",
                    format!(
                        "{place} cannot keep commands, which must be on a synced disk, and the central system keeps what \
                         it owes to stations there: use postgres://…"
                    ),
                );
            }
        }
        faults.extend(self.http_faults(role));
        faults
    }
}

/// The directory's file in the data directory.
const DIRECTORY_FILE: &str = "directory.sqlite3";
/// The books' file in the data directory.
const BOOKS_FILE: &str = "central.db";

/// Folder and name of a file.
pub(crate) fn split(file: &std::path::Path) -> (PathBuf, PathBuf) {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = file.file_name().map(PathBuf::from).unwrap_or_default();
    (folder.map_or_else(|| PathBuf::from("."), PathBuf::from), name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Sources, resolve};

    fn places(flags: &[(&'static str, &str)], role: Role) -> Vec<String> {
        let flags = flags.iter().map(|(path, value)| (*path, (*value).to_owned())).collect();
        let settings = resolve(&Sources { flags, ..Sources::default() }).unwrap().settings;
        settings.faults_of(role).into_iter().map(|fault| fault.place).collect()
    }

    #[test]
    fn what_cannot_work_together_is_named() {
        let (nats, postgres) = (("bus", "nats://a"), ("directory", "postgres://a/b"));
        let none: &[&str] = &[];
        for (name, role, flags, expected) in [
            ("everything as usual", Role::Run, &[][..], none),
            ("a gateway as usual", Role::Gateway, &[], &["bus", "directory"]),
            ("a worker as usual", Role::Worker, &[], &["bus", "directory"]),
            ("a gateway", Role::Gateway, &[nats, postgres], none),
            ("a worker", Role::Worker, &[nats, postgres], none),
            ("everything with a broker", Role::Run, &[nats], none),
            ("the only process", Role::Gateway, &[nats, ("directory", "sqlite:a.db")], none),
            ("a second process", Role::Worker, &[nats, ("directory", "sqlite:a.db")], &["directory"]),
            ("no disk", Role::Gateway, &[nats, ("directory", "nats://a/B")], &["directory"]),
            (
                "no disk and no journal",
                Role::Gateway,
                &[nats, ("directory", "nats://a/B"), ("gateway.journal", "false")],
                none,
            ),
            ("no disk for commands", Role::Worker, &[nats, ("directory", "nats://a/B")], &["directory"]),
            ("functions of others", Role::Gateway, &[("bus", "mqtt://a?mode=bare"), postgres], none),
            (
                "ours among functions of others",
                Role::Worker,
                &[("bus", "mqtt://a?mode=bare"), postgres],
                &["bus"],
            ),
            ("a function", Role::Worker, &[("bus", "http://127.0.0.1:8090/ocpp"), postgres], none),
            (
                "a function that anybody reaches",
                Role::Worker,
                &[("bus", "http://10.0.0.9:8090/ocpp"), postgres],
                &["bus_password"],
            ),
            ("no disk at all", Role::Run, &[("directory", "nats://a/B")], &["directory", "directory"]),
        ] {
            assert_eq!(places(flags, role), expected, "{name}");
        }
    }

    #[test]
    fn a_gateway_of_its_own_sends_stations_away_while_nobody_processes() {
        let mut settings = Settings::default();
        assert_eq!(settings.refuse_upgrades_after(Role::Run), None);
        assert!(settings.refuse_upgrades_after(Role::Gateway).is_some());
        settings.refuse_upgrades_after = Some(Duration::from_secs(3));
        assert_eq!(settings.refuse_upgrades_after(Role::Gateway), Some(Duration::from_secs(3)));
    }
}
