//! What an operator can set about the central system.

use std::path::PathBuf;
use std::time::Duration;
use switchboard_postgres::Address;
use switchboard_router::Registration;

/// Whether tokens that are not in the books may charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownTokens {
    /// As long as no accepted token is registered: whoever has none yet tries things out or does not care who charges,
    /// and whoever has registered the first means the others not to charge.
    #[default]
    WhileNone,
    /// They may. Danger: everybody charges.
    Accept,
    /// They may not.
    Refuse,
}

/// Where the books are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Database {
    /// In a file, which belongs to one process; its folder is made if it is not there. A log and a lock file lie beside it.
    /// It must be on a local disk: network file systems do not keep SQLite's promises.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// In PostgreSQL, 12 or newer with ICU, in the schema `switchboard_central` of a database; any number of processes
    /// may share them. A server that is not there is waited for; of several addresses each is tried.
    Postgres(Vec<Address>),
}

impl Database {
    /// From what an operator writes: `sqlite:PATH` or `postgres://…`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite { path: PathBuf::from(path) });
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(vec![Address::to(text)]));
        }
        Err("it is neither sqlite:PATH nor postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned())
    }
}

/// The settings of the central system. `Config::default()` is meant for trying things out: it accepts every station
/// that the gateway lets in, and every token until the first is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where the books are.
    pub database: Database,
    /// How BootNotifications are answered where nothing else was laid down for the station.
    pub registration: Registration,
    /// What an accepted station is told about heartbeats. Whole seconds are told; zero leaves it to the station.
    pub heartbeat_interval: Duration,
    /// How long any other station is told to wait before it boots again, likewise.
    pub boot_interval: Duration,
    /// Whether tokens that are not in the books may charge.
    pub unknown_tokens: UnknownTokens,
    /// Whether a token may have only one transaction at a time. Repeats of a StartTransaction are never refused by it.
    pub refuse_concurrent: bool,
    /// Whether calls of a 1.6 station that is not accepted are refused with SecurityError (L08). Off: they are
    /// processed, since after a loss of data chargers go on without a new boot.
    pub refuse_unregistered_16: bool,
    /// The same for 2.x, where the specification wants it (B01.FR.10). TransactionEvents of a station that never booted
    /// with us are kept nevertheless: refused ones are thrown away after some attempts, and money with them.
    pub refuse_unregistered_2x: bool,
    /// How many calls may wait for the disk; further ones wait for room there, and their stations with them.
    pub queue_calls_max: usize,
    /// How many calls one commit may hold.
    pub batch_calls_max: usize,
    /// After this time a commit takes no more calls, so that the first does not wait for the thousandth.
    pub batch_time_max: Duration,
    /// How many threads read from the database.
    pub readers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: Database::Sqlite { path: PathBuf::from("switchboard-data/central.db") },
            registration: Registration::Accepted,
            heartbeat_interval: Duration::from_secs(300),
            boot_interval: Duration::from_secs(60),
            unknown_tokens: UnknownTokens::WhileNone,
            refuse_concurrent: false,
            refuse_unregistered_16: false,
            refuse_unregistered_2x: true,
            queue_calls_max: 1024,
            batch_calls_max: 512,
            batch_time_max: Duration::from_millis(20),
            readers: 2,
        }
    }
}

impl Config {
    /// The defaults, with the books in SQLite at `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::with(Database::Sqlite { path: path.into() })
    }

    /// The defaults, with the books there.
    #[must_use]
    pub fn with(database: Database) -> Self {
        Self { database, ..Self::default() }
    }
}
