//! Where the database is, and how it is reached.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use switchboard_bus::{Secret, Tls};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

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
    /// The URL cannot be read.
    #[error(
        "the URL of the database cannot be used: {reason}; one looks like postgres://user:password@host:5432/database"
    )]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// A schema that would have to be quoted.
    #[error(
        "the schema {schema:?} cannot be used: give 1 to 63 lower-case letters, digits and '_', not beginning with a digit"
    )]
    Schema {
        /// It.
        schema: String,
    },
    /// A file that cannot be used.
    #[error("the file {} for TLS cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS cannot be had with these files.
    #[error("no TLS connection can be made with this configuration")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How carefully the server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Any will do.
    Blind,
    /// One that an authority has signed which we trust, for whatever name.
    Authority,
    /// And for the name of the host.
    Full,
}

/// What was read from a [`Config`].
pub(crate) struct Settings {
    pub(crate) server: tokio_postgres::Config,
    pub(crate) trust: Trust,
    pub(crate) tls: Tls,
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
        let (url, parameters) = apart(&self.url)?;
        let mut server: tokio_postgres::Config = url.parse().map_err(|error| url_error(&error))?;
        if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
            return Err(ConnectError::Url { reason: "it names no host".to_owned() });
        }
        if server.get_user().is_none() {
            return Err(ConnectError::Url { reason: "it names no user".to_owned() });
        }
        if server.get_password().is_none()
            && let Some(password) = &self.password
        {
            server.password(password.reveal());
        }
        let (mode, trust) = match parameters.mode.as_deref().unwrap_or("prefer") {
            "disable" => (SslMode::Disable, Trust::Blind),
            "prefer" => (SslMode::Prefer, Trust::Blind),
            // As with libpq, where a file with authorities makes it as careful as the next one.
            "require" if parameters.ca_file.is_none() && self.tls.ca_file.is_none() => {
                (SslMode::Require, Trust::Blind)
            }
            "require" | "verify-ca" => (SslMode::Require, Trust::Authority),
            "verify-full" => (SslMode::Require, Trust::Full),
            other => {
                let reason = format!(
                    "sslmode is {other:?}, not one of disable, prefer, require, verify-ca and verify-full"
                );
                return Err(ConnectError::Url { reason });
            }
        };
        server
            .ssl_mode(mode)
            .connect_timeout(CONNECT_LIMIT)
            .tcp_user_timeout(SILENCE_MAX)
            .keepalives_idle(SILENCE_MAX)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if server.get_application_name().is_none() {
            server.application_name("switchboard-directory");
        }
        let tls = Tls {
            ca_file: parameters.ca_file.or_else(|| self.tls.ca_file.clone()),
            certificate_file: parameters.certificate_file.or_else(|| self.tls.certificate_file.clone()),
            key_file: parameters.key_file.or_else(|| self.tls.key_file.clone()),
        };
        let target = target(&server);
        Ok(Settings {
            server,
            trust,
            tls,
            schema: self.schema.clone(),
            target,
            clock: Arc::clone(&self.clock),
        })
    }
}

/// What the library does not read itself.
#[derive(Default)]
struct Parameters {
    mode: Option<String>,
    ca_file: Option<PathBuf>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

/// Takes the parameters for TLS out of a URL.
fn apart(url: &str) -> Result<(String, Parameters), ConnectError> {
    let mut parameters = Parameters::default();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(ConnectError::Url { reason: "it does not begin with postgres://".to_owned() });
    }
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), parameters)) };
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || {
            let decoded = percent_encoding::percent_decode_str(value).decode_utf8();
            decoded
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| ConnectError::Url { reason: format!("the value of {name} is no text") })
        };
        match name {
            "sslmode" => parameters.mode = Some(value()?),
            "sslrootcert" => parameters.ca_file = Some(value()?.into()),
            "sslcert" => parameters.certificate_file = Some(value()?.into()),
            "sslkey" => parameters.key_file = Some(value()?.into()),
            _ => rest.push(pair),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((url, parameters))
}

fn url_error(error: &tokio_postgres::Error) -> ConnectError {
    // Its cause names the option and nothing of the value.
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    ConnectError::Url { reason: cause }
}

fn target(server: &tokio_postgres::Config) -> String {
    let ports = server.get_ports();
    let port = |place: usize| ports.get(place).or_else(|| ports.first()).copied().unwrap_or(5432);
    let hosts: Vec<String> = server
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(place, host)| match host {
            Host::Tcp(host) => format!("{host}:{}", port(place)),
            #[cfg(unix)]
            Host::Unix(path) => format!("{}:{}", path.display(), port(place)),
        })
        .collect();
    let database = server.get_dbname().or_else(|| server.get_user()).unwrap_or_default();
    format!("{}/{database}", hosts.join(","))
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
/// How long the network may take none of our bytes.
const SILENCE_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_work_is_told_without_the_password() {
        for (url, part) in [
            ("mysql://a@b/c", "does not begin with postgres://"),
            ("postgres://user:secret@host/db?sslmode=maybe", "sslmode is \"maybe\""),
            ("postgres://user:secret@host/db?colour=red", "colour"),
            ("postgres://host/db", "no user"),
            ("postgres://user:secret@host:seventy/db", "port"),
            ("postgres:///db?user=a", "no host"),
        ] {
            let error = Config::to(url).settings().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for schema in ["", "9a", "A", "a-b", "a\"b", &"a".repeat(64)] {
            let config = Config { schema: schema.to_owned(), ..Config::to("postgres://a@b/c") };
            assert!(matches!(config.settings(), Err(ConnectError::Schema { .. })), "{schema}");
        }
    }

    #[test]
    fn a_url_is_read_as_libpq_reads_it() {
        let settings = Config::to("postgres://u:p%40@h1:5433,h2:5434/db?sslmode=verify-full&sslrootcert=%2Fca.pem&application_name=x")
            .settings()
            .unwrap();
        assert_eq!(settings.target, "h1:5433,h2:5434/db");
        assert_eq!(settings.trust, Trust::Full);
        assert_eq!(settings.tls.ca_file, Some("/ca.pem".into()));
        assert_eq!(settings.server.get_password(), Some(&b"p@"[..]));
        assert_eq!(settings.server.get_application_name(), Some("x"));
        let mut config = Config::to("postgres://u@h");
        config.password = Some(Secret::new("secret"));
        assert_eq!(config.settings().unwrap().server.get_password(), Some(&b"secret"[..]));
        assert!(!format!("{config:?}").contains("secret"));
    }
}
