//! `postgres`, which root may not run: then it runs as the user of Debian's package.

use super::{Server, is_root};
use crate::{Certificates, tools};
use anyhow::{Context, Result, ensure};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// A PostgreSQL server that writes to its disk what it has committed.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    programs: PathBuf,
    databases: AtomicU64,
}

const USER: &str = "postgres";

impl Postgres {
    /// Starts one; none if `test` has to be skipped.
    ///
    /// # Errors
    /// It does not start, or is missing though the tests were told that it is there.
    pub async fn start(test: &str) -> Result<Option<Self>> {
        let Some(programs) = newest() else {
            tools::missing(test, "PostgreSQL")?;
            return Ok(None);
        };
        let mut server = Server::prepare("postgres", programs.join("postgres"))?;
        let data = server.folder().join("data");
        let mut initdb = Command::new("setpriv");
        if is_root() {
            server.user = Some(USER);
            let owned = Command::new("chown").arg(USER).arg(server.folder()).status()?;
            ensure!(owned.success(), "the folder cannot be given to {USER}");
            initdb.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
        }
        initdb.arg("--").arg(programs.join("initdb"));
        initdb
            .args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions", "-D"])
            .arg(&data);
        let made = initdb.stdin(Stdio::null()).current_dir("/").output().context("cannot run initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = server.address().port().to_string();
        let folder = server.folder().display().to_string();
        server.arguments = vec!["-D".to_owned(), data.display().to_string()];
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
            &format!("unix_socket_directories={folder}"),
        ] {
            server.arguments.extend(["-c".to_owned(), setting.to_owned()]);
        }
        server.start().await?;
        Ok(Some(Self { server, programs, databases: AtomicU64::new(0) }))
    }

    /// One for all tests of this process, for those that neither stop nor freeze it; none if `test` has to be skipped. Its
    /// disk is not waited for: it loses what a power cut takes.
    ///
    /// # Errors
    /// It does not start, or is missing though the tests were told that it is there.
    pub fn shared(test: &str) -> Result<Option<&'static Self>> {
        static SHARED: std::sync::Mutex<Option<Option<&'static Postgres>>> = std::sync::Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = *shared {
            return Ok(known);
        }
        // Also from within a runtime, in which no other may be waited for.
        let started = std::thread::scope(|scope| {
            let start = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(Self::start(test))
            };
            scope.spawn(start).join().map_err(|_| anyhow::anyhow!("the thread that starts it panicked"))
        })??;
        let known = match started {
            Some(server) => {
                server.spare_the_disk()?;
                Some(&*Box::leak(Box::new(server)))
            }
            None => None,
        };
        *shared = Some(known);
        Ok(known)
    }

    /// Has it no longer wait for its disk, so that it loses what a power cut takes, though nothing at a kill.
    ///
    /// # Errors
    /// The server refuses it.
    pub fn spare_the_disk(&self) -> Result<()> {
        self.psql("postgres", "ALTER SYSTEM SET fsync = off")?;
        self.psql("postgres", "SELECT pg_reload_conf()").map(|_| ())
    }

    /// Starts it again with TLS, as `localhost`.
    ///
    /// # Errors
    /// The files cannot be given to it, or it does not start.
    pub async fn speak_tls(&mut self, certificates: &Certificates) -> Result<()> {
        let (certificate, key) = certificates.server();
        let data = self.server.folder().join("data");
        for (from, to) in [(certificate, data.join("server.pem")), (key, data.join("server.key"))] {
            std::fs::copy(from, &to)?;
            std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            if is_root() {
                let owned = Command::new("chown").arg(USER).arg(&to).status()?;
                ensure!(owned.success(), "{} cannot be given to {USER}", to.display());
            }
        }
        for setting in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"] {
            self.psql("postgres", &format!("ALTER SYSTEM SET {setting}"))?;
        }
        self.server.stop()?;
        self.server.start().await
    }

    /// Makes a user who has to say a password, with or without TLS, and may make databases.
    ///
    /// # Errors
    /// The server refuses it.
    pub fn user(&self, name: &str, password: &str) -> Result<()> {
        self.psql("postgres", &format!("CREATE ROLE {name} LOGIN CREATEDB PASSWORD '{password}'"))?;
        let rules = self.server.folder().join("data").join("pg_hba.conf");
        let others = std::fs::read_to_string(&rules)?;
        // The first that applies counts.
        std::fs::write(&rules, format!("host all {name} 127.0.0.1/32 scram-sha-256\n{others}"))?;
        self.psql("postgres", "SELECT pg_reload_conf()").map(|_| ())
    }

    /// Makes an empty database: how clients reach it.
    ///
    /// # Errors
    /// The server does not make it.
    pub fn database(&self) -> Result<String> {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(format!("postgres://{USER}@{}/{name}", self.address()))
    }

    /// What `psql` prints for a statement, without any decoration. The server may still be starting: then again.
    ///
    /// # Errors
    /// The server refuses it.
    pub fn psql(&self, database: &str, statement: &str) -> Result<String> {
        let address = self.address();
        loop {
            let ran = Command::new(self.programs.join("psql"))
                .args([
                    "-h",
                    &address.ip().to_string(),
                    "-p",
                    &address.port().to_string(),
                    "-U",
                    USER,
                    "-d",
                    database,
                ])
                .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement])
                .stdin(Stdio::null())
                .output()
                .context("cannot run psql")?;
            if ran.status.success() {
                return Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned());
            }
            let told = String::from_utf8_lossy(&ran.stderr);
            ensure!(
                told.contains("starting up") || told.contains("not yet accepting"),
                "{statement}: {told}"
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// The folder with the programs of the newest version that is installed.
fn newest() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let versions = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let folder = PathBuf::from("/usr/lib/postgresql").join(versions.max()?.to_string()).join("bin");
    folder.join("postgres").is_file().then_some(folder)
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}
