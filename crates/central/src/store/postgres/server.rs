//! Where the server is and how it stands, for all sessions of this process.

use super::{CONNECT, Error};
use crate::clock::Clock;
use crate::config::Server as Named;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio_postgres::config::{Host, TargetSessionAttrs};

/// A server, and what is known of it.
pub(crate) struct Server {
    /// Tried one after the other, until one can be written.
    pub(super) configs: Vec<tokio_postgres::Config>,
    /// Its host and database: what may be said in a log.
    pub(super) name: String,
    clock: Clock,
    /// Set where our own clock is measured against the server's.
    corrects: bool,
    offset_ms: AtomicI64,
    is_away: AtomicBool,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Server {
    /// What an operator says of it.
    pub(crate) fn new(named: &Named, clock: Clock, corrects: bool) -> Result<Self, String> {
        let configs: Vec<_> =
            named.urls.iter().map(|url| config(url, named)).collect::<Result<_, String>>()?;
        let names: Vec<_> = configs.iter().map(name).collect();
        if configs.is_empty() {
            return Err("no address is given: postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned());
        }
        Ok(Self {
            configs,
            name: names.join(","),
            clock,
            corrects,
            offset_ms: AtomicI64::new(0),
            is_away: AtomicBool::new(false),
        })
    }

    /// Its host and database: what may be said of it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The time as the server has it, as far as is known: all processes go by one clock, whatever theirs say.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms() + self.offset_ms.load(Ordering::Relaxed)
    }

    /// The server's clock said this while ours went on from `asked_ms`.
    pub(super) fn clock_said(&self, said_ms: i64, asked_ms: i64) {
        if self.corrects {
            let ours = asked_ms.midpoint(self.clock.now_ms());
            self.offset_ms.store(said_ms - ours, Ordering::Relaxed);
        }
    }

    pub(super) fn own_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(super) fn is_there(&self) {
        if self.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!(server = self.name, "the books in PostgreSQL are there again");
        }
    }

    pub(super) fn is_away(&self, error: &Error) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                server = self.name,
                error = error as &dyn std::error::Error,
                "waiting for the books in PostgreSQL; what needs them is not answered, and comes again"
            );
        }
    }
}

/// What a URL says.
fn config(url: &str, named: &Named) -> Result<tokio_postgres::Config, String> {
    const FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";
    let mut config: tokio_postgres::Config = url.parse().map_err(|error: tokio_postgres::Error| {
        // The cause names an option, and nothing of its value.
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        format!("{cause}; an address is {FORM}")
    })?;
    if config.get_hosts().is_empty() {
        return Err(format!("it names no host: {FORM}"));
    }
    if config.get_user().is_none() {
        match &named.user {
            Some(user) => config.user(user),
            None => return Err(format!("it names no user: {FORM}")),
        };
    }
    if config.get_password().is_none()
        && let Some(password) = &named.password
    {
        config.password(password);
    }
    config
        .application_name("switchboard")
        .connect_timeout(CONNECT)
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(3))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(10));
    Ok(config)
}

/// Its host and database: what may be said in a log.
fn name(config: &tokio_postgres::Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(host) => host.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    format!("{}/{}", hosts.collect::<Vec<_>>().join(","), config.get_dbname().unwrap_or_default())
}
