//! Where the database is, and how it is reached.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use switchboard_bus::{Secret, Tls};
use switchboard_postgres::Connector;

/// Where the database is, and how it is reached. Its `Debug` shows no password.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// As libpq has it: `postgres://user:password@host:port/database?sslmode=verify-full`. Several hosts, separated by
    /// commas, are tried in turn until one can be written. `sslmode` is `disable`, `prefer` (the default, as everywhere:
    /// TLS if the server has it, and no look at its certificate), `require`, `verify-ca` or `verify-full`;
    /// `sslrootcert`, `sslcert` and `sslkey` name files, as [`tls`](Self::tls) does.
    pub url: String,
    /// The password, where the URL has none.
    pub password: Option<Secret>,
    /// In which schema everything is kept. Default `switchboard_directory`. Installations that share a database have
    /// schemas of their own.
    pub schema: String,
    /// How many connections to the server, at least 2. Default 4: one for leases and what concerns all stations, the
    /// others for the stations.
    pub connections: usize,
    /// Files for TLS, where the URL does not name them.
    pub tls: Tls,
    clock: Clock,
}

/// Tells the wall time in milliseconds since 1970.
type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A configuration with which no connection can ever be made. No text of it holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A schema that would have to be quoted.
    #[error(
        "the schema {schema:?} cannot be used: give 1 to 63 lower-case letters, digits and '_', not beginning with a digit"
    )]
    Schema {
        /// It.
        schema: String,
    },
    /// The address.
    #[error(transparent)]
    Address(#[from] switchboard_postgres::AddressError),
}

/// What was read from a [`Config`].
pub(crate) struct Settings {
    pub(crate) server: tokio_postgres::Config,
    pub(crate) connector: Connector,
    pub(crate) schema: String,
    /// Which server and database, for people; without credentials.
    pub(crate) target: String,
    pub(crate) clock: Clock,
}

impl Config {
    /// This database, and otherwise the defaults.
    #[must_use]
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            schema: "switchboard_directory".to_owned(),
            connections: 4,
            tls: Tls::default(),
            clock: Arc::new(wall_ms),
        }
    }

    /// The same with a wall clock of the caller's instead of the computer's. It is compared with the server's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    pub(crate) fn settings(&self) -> Result<Settings, ConnectError> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = self.schema.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !begins || self.schema.len() > 63 || !self.schema.bytes().all(is_plain) {
            return Err(ConnectError::Schema { schema: self.schema.clone() });
        }
        let mut address = switchboard_postgres::Address::to(self.url.clone());
        address.password = self.password.as_ref().map(|password| password.reveal().to_owned());
        address.ca_file = self.tls.ca_file.clone();
        address.certificate_file = self.tls.certificate_file.clone();
        address.key_file = self.tls.key_file.clone();
        let found = address.resolve()?;
        Ok(Settings {
            server: found.server,
            connector: found.connector,
            schema: self.schema.clone(),
            target: found.name,
            clock: Arc::clone(&self.clock),
        })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.settings().map_or_else(|_| "…".to_owned(), |settings| settings.target);
        formatter
            .debug_struct("Config")
            .field("target", &target)
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "to be compared with the server's clock")]
fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// How long one attempt to connect may take.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_work_is_told_without_the_password() {
        let error = Config::to("postgres://user:secret@host/db?colour=red").settings().err();
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("colour") && !error.contains("secret"), "{error}");
        for schema in ["", "9a", "A", "a-b", "a\"b", &"a".repeat(64)] {
            let config = Config { schema: schema.to_owned(), ..Config::to("postgres://a@b/c") };
            assert!(matches!(config.settings(), Err(ConnectError::Schema { .. })), "{schema}");
        }
        let mut config = Config::to("postgres://u@h");
        config.password = Some(Secret::new("secret"));
        assert_eq!(config.settings().unwrap().server.get_password(), Some(&b"secret"[..]));
        assert!(!format!("{config:?}").contains("secret"));
    }
}
