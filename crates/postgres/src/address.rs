//! Where a database is, as libpq reads it.

use crate::tls::Connector;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Where a database is, and as whom it is reached. Its `Debug` shows no credentials.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// As libpq has it: `postgres://user:password@host:port/database?sslmode=verify-full`. Several hosts, separated by
    /// commas, are tried in turn until one can be written. `sslmode` is `disable`, `prefer` (the default, as everywhere:
    /// TLS if the server has it, and no look at its certificate), `require`, `verify-ca` or `verify-full`;
    /// `sslrootcert`, `sslcert` and `sslkey` name files.
    pub url: String,
    /// The user, where the URL has none.
    pub user: Option<String>,
    /// The password, where the URL has none.
    pub password: Option<String>,
    /// Certificates in PEM of the authorities to be trusted, where the URL names none; none: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate in PEM, likewise.
    pub certificate_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// An address to which no connection can ever be made. No text of it holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The URL cannot be read.
    #[error(
        "the URL of the database cannot be used: {reason}; one looks like postgres://user:password@host:5432/database"
    )]
    Url {
        /// What is wrong with it.
        reason: String,
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

/// What connections are made from.
#[derive(Clone)]
#[non_exhaustive]
pub struct Target {
    /// For `connect`, with limits for a server that is silent.
    pub server: tokio_postgres::Config,
    /// And this.
    pub connector: Connector,
    /// Which server and database, for people; without credentials.
    pub name: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.read().map_or_else(|_| "…".to_owned(), |read| read.name);
        formatter.debug_struct("Address").field("target", &name).finish_non_exhaustive()
    }
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

/// What was read from an [`Address`].
pub(crate) struct Read {
    server: tokio_postgres::Config,
    pub(crate) trust: Trust,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) certificate_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    name: String,
}

impl Address {
    /// This URL, and nothing besides.
    #[must_use]
    pub fn to(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Reads it, and the files that it names.
    ///
    /// # Errors
    /// When no connection can ever be made to it.
    pub fn resolve(&self) -> Result<Target, AddressError> {
        let read = self.read()?;
        Ok(Target { connector: Connector::new(&read)?, server: read.server, name: read.name })
    }

    fn read(&self) -> Result<Read, AddressError> {
        let (url, parameters) = apart(&self.url)?;
        let mut server: tokio_postgres::Config = url.parse().map_err(|error| url_error(&error))?;
        if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
            return Err(AddressError::Url { reason: "it names no host".to_owned() });
        }
        if server.get_user().is_none() {
            match &self.user {
                Some(user) => server.user(user),
                None => return Err(AddressError::Url { reason: "it names no user".to_owned() }),
            };
        }
        if server.get_password().is_none()
            && let Some(password) = &self.password
        {
            server.password(password);
        }
        let (mode, trust) = match parameters.mode.as_deref().unwrap_or("prefer") {
            "disable" => (SslMode::Disable, Trust::Blind),
            "prefer" => (SslMode::Prefer, Trust::Blind),
            // As with libpq, where a file with authorities makes it as careful as the next one.
            "require" if parameters.ca_file.is_none() && self.ca_file.is_none() => {
                (SslMode::Require, Trust::Blind)
            }
            "require" | "verify-ca" => (SslMode::Require, Trust::Authority),
            "verify-full" => (SslMode::Require, Trust::Full),
            other => {
                let reason = format!(
                    "sslmode is {other:?}, not one of disable, prefer, require, verify-ca and verify-full"
                );
                return Err(AddressError::Url { reason });
            }
        };
        server
            .ssl_mode(mode)
            .connect_timeout(CONNECT_LIMIT)
            .tcp_user_timeout(SILENCE_MAX)
            .keepalives_idle(SILENCE_MAX)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if server.get_application_name().is_none() {
            server.application_name("switchboard");
        }
        let name = target(&server);
        Ok(Read {
            server,
            trust,
            ca_file: parameters.ca_file.or_else(|| self.ca_file.clone()),
            certificate_file: parameters.certificate_file.or_else(|| self.certificate_file.clone()),
            key_file: parameters.key_file.or_else(|| self.key_file.clone()),
            name,
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
fn apart(url: &str) -> Result<(String, Parameters), AddressError> {
    let mut parameters = Parameters::default();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(AddressError::Url { reason: "it does not begin with postgres://".to_owned() });
    }
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), parameters)) };
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || {
            let decoded = percent_encoding::percent_decode_str(value).decode_utf8();
            decoded
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| AddressError::Url { reason: format!("the value of {name} is no text") })
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

fn url_error(error: &tokio_postgres::Error) -> AddressError {
    // Its cause names the option and nothing of the value.
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    AddressError::Url { reason: cause }
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

/// How long one attempt to connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long the network may take none of our bytes.
const SILENCE_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            let error = Address::to(url).resolve().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        /// Whatever an operator writes, it is read or refused, and its password is told nobody.
        #[test]
        fn no_text_shows_a_password(
            user in "[a-z]{0,4}",
            rest in "[a-z0-9.,:/?=&%@\\[\\]-]{0,40}",
            sslmode in prop::option::of("[a-z-]{0,11}"),
        ) {
            let mut url = format!("postgres://{user}:QxZ9jK@{rest}");
            if let Some(mode) = sslmode {
                url = format!("{url}?sslmode={mode}");
            }
            let address = Address::to(url);
            let shown = match address.resolve() {
                Ok(target) => format!("{target:?} {}", target.name),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!format!("{shown} {address:?}").contains("QxZ9jK"), "{}", shown);
        }

        #[test]
        fn whatever_is_given_is_read_or_refused(url in "(postgres://)?\\PC{0,60}") {
            drop(Address::to(url).read());
        }
    }

    #[test]
    fn a_url_is_read_as_libpq_reads_it() {
        let url = "postgres://u:p%40@h1:5433,h2:5434/db?sslmode=verify-full&sslrootcert=%2Fca.pem&application_name=x";
        let read = Address::to(url).read().unwrap();
        assert_eq!(read.name, "h1:5433,h2:5434/db");
        assert_eq!(read.trust, Trust::Full);
        assert_eq!(read.ca_file, Some("/ca.pem".into()));
        assert_eq!(read.server.get_password(), Some(&b"p@"[..]));
        assert_eq!(read.server.get_application_name(), Some("x"));
        let mut address = Address::to("postgres://h");
        address.user = Some("u".to_owned());
        address.password = Some("secret".to_owned());
        assert_eq!(address.read().unwrap().server.get_password(), Some(&b"secret"[..]));
        assert!(!format!("{address:?}").contains("secret"));
    }
}
