//! The processes of one cell, and the lines between them.

use super::cell::{Bus, Pair};
use super::roads::Roads;
use crate::servers::{Mosquitto, Nats, Postgres, RabbitMq, Server, free_address};
use crate::{CloudLimits, Proxy, http, tools, wait};
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The servers of others, which outlast a cell.
#[derive(Debug)]
pub struct Servers {
    /// Which test or tool asks for them, for who is told what is missing.
    test: String,
    directory: Option<Postgres>,
    books: Option<Postgres>,
    nats: Option<Nats>,
    amqp: Option<RabbitMq>,
    mqtt: Option<Mosquitto>,
    sites: u32,
}

/// What runs in one cell.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) bus: Bus,
    pub(super) gateways: Vec<Server>,
    pub(super) workers: Vec<Server>,
    pub(super) stations: Vec<SocketAddr>,
    pub(super) apis: Vec<SocketAddr>,
    pub(super) lines: Option<Lines>,
    pub(super) books: Books,
    /// What runs beside them and is not killed: in bare mode, the cloud that invokes functions.
    pub(super) beside: Vec<Server>,
    /// Where a broker is that allows no more than AWS IoT Core does.
    pub(super) limits: Option<CloudLimits>,
}

/// Where the effects are.
#[derive(Debug)]
pub(super) enum Books {
    /// In this database of the server of the books.
    Database(String),
    /// In this file of SQLite.
    File(PathBuf),
}

/// Every pair has a line of its own, or several.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) gateway_broker: Vec<Proxy>,
    pub(super) worker_broker: Vec<Proxy>,
    pub(super) gateway_directory: Vec<Proxy>,
    pub(super) worker_directory: Vec<Proxy>,
    pub(super) worker_database: Vec<Proxy>,
}

/// Workers of a cell, or functions.
pub(super) const WORKERS: usize = 3;

impl Servers {
    /// None is started yet.
    #[must_use]
    pub fn new(test: &str) -> Self {
        Self {
            test: test.to_owned(),
            directory: None,
            books: None,
            nats: None,
            amqp: None,
            mqtt: None,
            sites: 0,
        }
    }

    /// Starts what a bus needs and is not there yet; false if something is not installed.
    ///
    /// # Errors
    /// One does not start, or is missing though the tests were told that it is there.
    pub async fn prepare(&mut self, bus: Bus) -> Result<bool> {
        let test = self.test.as_str();
        if bus == Bus::Embedded {
            return Ok(true);
        }
        if self.directory.is_none() {
            self.directory = Postgres::start(test).await?;
        }
        if self.books.is_none() {
            self.books = Postgres::start(test).await?;
        }
        for database in [&self.directory, &self.books].into_iter().flatten() {
            // Processes die here, and nobody pulls the plug.
            database.spare_the_disk()?;
        }
        let broker = match bus {
            // Its functions are Python.
            Bus::Bare if tools::python(test)?.is_none() => false,
            Bus::Nats => {
                if self.nats.is_none() {
                    self.nats = Nats::start(test).await?;
                }
                self.nats.is_some()
            }
            Bus::Amqp => {
                if self.amqp.is_none() {
                    self.amqp = RabbitMq::start(test).await?;
                }
                self.amqp.is_some()
            }
            Bus::Mqtt | Bus::Bare => {
                if self.mqtt.is_none() {
                    self.mqtt = Mosquitto::start(test).await?;
                }
                self.mqtt.is_some()
            }
            Bus::Embedded | Bus::Http => true,
        };
        Ok(broker && self.directory.is_some() && self.books.is_some())
    }

    /// The namespace of the present cell.
    pub(super) fn namespace(&self) -> String {
        format!("cell{}x{}", std::process::id(), self.sites)
    }

    /// The broker of a bus.
    pub(super) fn broker(&mut self, bus: Bus) -> Result<&mut Server> {
        match bus {
            Bus::Nats => self.nats.as_deref_mut(),
            Bus::Amqp => self.amqp.as_deref_mut(),
            Bus::Mqtt | Bus::Bare => self.mqtt.as_deref_mut(),
            Bus::Embedded | Bus::Http => None,
        }
        .with_context(|| format!("{} has no broker", bus.name()))
    }

    /// The directory's database.
    pub(super) fn directory(&mut self) -> Result<&mut Postgres> {
        self.directory.as_mut().context("there is no directory")
    }

    /// The rows that `books::audit` reads.
    pub(super) fn rows(&self, site: &Site) -> Result<String> {
        let name = match &site.books {
            Books::File(file) => {
                let mut queries = vec![super::books::CHARGES, super::books::READINGS_SQL];
                if site.bus == Bus::Bare {
                    queries.push(super::books::HEARD);
                }
                return rows_of_file(file, &queries);
            }
            Books::Database(name) => name,
        };
        let books = self.books.as_ref().context("there are no books")?;
        let mut rows = String::new();
        for query in [super::books::CHARGES, super::books::READINGS_SQL] {
            rows.push_str(&books.psql(name, &query.replace("{schema}", "switchboard_central."))?);
            rows.push('\n');
        }
        Ok(rows)
    }
}

impl Site {
    /// Starts the processes of a cell, each pair over a line of its own.
    pub(super) async fn start(
        servers: &mut Servers,
        bus: Bus,
        binary: &Path,
        gateways: usize,
        odd_clock: Option<i8>,
    ) -> Result<Self> {
        servers.sites += 1;
        match bus {
            Bus::Embedded => return Self::start_embedded(binary).await,
            Bus::Bare => return super::functions::start(servers, binary, gateways).await,
            _ => {}
        }
        let (directory, books) = (servers.directory()?.database()?, {
            let books = servers.books.as_ref().context("there are no books")?;
            books.database()?
        });
        let databases =
            (servers.directory()?.address(), servers.books.as_ref().context("there are no books")?.address());
        let roads = match bus {
            Bus::Http => Roads::over_http(gateways).await?,
            _ => Roads::over_broker(bus, servers.broker(bus)?.address(), gateways).await?,
        };
        let gateway_directory = Proxy::to(databases.0).await?;
        let worker_directory = Proxy::to(databases.0).await?;
        let worker_database = Proxy::to(databases.1).await?;
        let through = |url: &str, server: SocketAddr, line: &Proxy| {
            url.replace(&server.to_string(), &line.address().to_string())
        };
        let namespace = servers.namespace();
        let name = books.rsplit('/').next().unwrap_or_default().to_owned();
        let mut site = Self {
            bus,
            gateways: Vec::new(),
            workers: Vec::new(),
            stations: Vec::new(),
            apis: Vec::new(),
            lines: None,
            books: Books::Database(name),
            beside: Vec::new(),
            limits: None,
        };
        for (number, flags) in roads.worker_flags.iter().enumerate() {
            let api = free_address()?;
            let mut worker = role(binary, "worker", &namespace)?;
            worker.arguments.extend(words(&[
                ("--directory", &through(&directory, databases.0, &worker_directory)),
                ("--database", &through(&books, databases.1, &worker_database)),
                ("--api-listen", &api.to_string()),
            ]));
            worker
                .arguments
                .extend(flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]));
            if let (0, Some(hours)) = (number, odd_clock) {
                worker.variables.push(("LD_PRELOAD", fake_time()?));
                worker.variables.push(("FAKETIME", format!("{}{hours}h", if hours > 0 { "+" } else { "" })));
                // Only the wall clock is wrong; nobody sets the other one.
                worker.variables.push(("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()));
                worker.variables.push(("DONT_FAKE_MONOTONIC", "1".to_owned()));
            }
            site.workers.push(worker);
            site.apis.push(api);
        }
        for (number, flags) in roads.gateway_flags.iter().enumerate() {
            let stations = free_address()?;
            let mut gateway = role(binary, "gateway", &namespace)?;
            gateway.arguments.extend(words(&[
                ("--directory", &through(&directory, databases.0, &gateway_directory)),
                ("--gateway-id", &format!("g{number}")),
                ("--listen", &stations.to_string()),
            ]));
            gateway
                .arguments
                .extend(flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]));
            site.gateways.push(gateway);
            site.stations.push(stations);
        }
        for process in site.workers.iter_mut().chain(&mut site.gateways) {
            process.start().await?;
        }
        site.lines = Some(Lines {
            gateway_broker: roads.gateways,
            worker_broker: roads.workers,
            gateway_directory: vec![gateway_directory],
            worker_directory: vec![worker_directory],
            worker_database: vec![worker_database],
        });
        site.wait_until_ready().await?;
        Ok(site)
    }

    async fn start_embedded(binary: &Path) -> Result<Self> {
        let (stations, api) = (free_address()?, free_address()?);
        let mut whole = role(binary, "run", "")?;
        whole
            .arguments
            .extend(words(&[("--listen", &stations.to_string()), ("--api-listen", &api.to_string())]));
        let books = Books::File(whole.folder().join("data/central.db"));
        whole.start().await?;
        let site = Self {
            bus: Bus::Embedded,
            gateways: vec![whole],
            workers: Vec::new(),
            stations: vec![stations],
            apis: vec![api],
            lines: None,
            books,
            beside: Vec::new(),
            limits: None,
        };
        site.wait_until_ready().await?;
        Ok(site)
    }

    /// Waits until every process says that it is ready.
    pub(super) async fn wait_until_ready(&self) -> Result<()> {
        for process in self.beside.iter().chain(&self.workers).chain(&self.gateways) {
            let ready = wait::until("a process is ready", async || {
                matches!(http::get(process.address(), "/readyz").await, Ok((200, _))).then_some(())
            });
            ready.await.with_context(|| format!("its log:\n{}", process.log()))?;
        }
        Ok(())
    }

    /// The lines between two.
    pub(super) fn lines(&self, pair: Pair) -> Result<&[Proxy]> {
        let lines = self.lines.as_ref().context("there are no lines within one process")?;
        Ok(match pair {
            Pair::GatewayBroker => &lines.gateway_broker,
            Pair::WorkerBroker => &lines.worker_broker,
            Pair::GatewayDirectory => &lines.gateway_directory,
            Pair::WorkerDirectory => &lines.worker_directory,
            Pair::WorkerDatabase => &lines.worker_database,
        })
    }

    /// What its processes have logged, where something is worth a look.
    pub(super) fn logs(&self) -> String {
        let mut text = String::new();
        for (number, process) in self.gateways.iter().chain(&self.workers).enumerate() {
            let log = process.log();
            let lines: Vec<&str> = log
                .lines()
                .filter(|line| line.contains("WARN") || line.contains("ERROR") || line.contains("panicked"))
                .collect();
            let from = lines.len().saturating_sub(12);
            text.push_str(&format!("process {number}:\n{}\n", lines[from..].join("\n")));
        }
        text
    }

    /// Keeps the whole logs in a folder.
    pub(super) fn keep_logs(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        for (number, process) in self.gateways.iter().enumerate() {
            std::fs::write(folder.join(format!("gateway{number}.log")), process.log())?;
            // What took long, with how often it was handed over.
            let api = if self.lines.is_none() { self.apis[0] } else { process.address() };
            let slow = std::process::Command::new(process.program())
                .args([
                    "trace",
                    "--all",
                    "--since",
                    "1h",
                    "--slow",
                    "1s",
                    "--json",
                    "--api",
                    &api.to_string(),
                ])
                .output()?;
            std::fs::write(folder.join(format!("slow{number}.jsonl")), slow.stdout)?;
        }
        for (name, processes) in [("worker", &self.workers), ("beside", &self.beside)] {
            for (number, process) in processes.iter().enumerate() {
                std::fs::write(folder.join(format!("{name}{number}.log")), process.log())?;
            }
        }
        Ok(())
    }
}

pub(super) fn role(binary: &Path, word: &str, namespace: &str) -> Result<Server> {
    let mut server = Server::prepare("switchboard", binary.to_path_buf())?;
    let data = server.folder().join("data").display().to_string();
    let admin = server.address().to_string();
    server.arguments = vec![word.to_owned()];
    server.arguments.extend(words(&[("--admin-listen", &admin), ("--data-dir", &data), ("--log", "info")]));
    if !namespace.is_empty() {
        server.arguments.extend(words(&[("--namespace", namespace)]));
    }
    Ok(server)
}

pub(super) fn words(flags: &[(&str, &str)]) -> Vec<String> {
    flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), (*value).to_owned()]).collect()
}

/// The library that tells a process another time.
fn fake_time() -> Result<String> {
    let places =
        ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let found =
        places.iter().map(|place| Path::new(place).join("libfaketime.so.1")).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path.display().to_string()),
        None => bail!("libfaketime is missing: cargo xtask tools --install"),
    }
}

/// Whether a clock can be made wrong here; noted as skipped if not.
///
/// # Errors
/// It is missing, and the tests were told that it is there.
pub(super) fn clocks_can_be_wrong(test: &str) -> Result<bool> {
    Ok(fake_time().is_ok() || tools::missing(test, "libfaketime")?.is_some())
}

/// The rows of books in SQLite, from a copy of the file as it is.
fn rows_of_file(file: &Path, queries: &[&str]) -> Result<String> {
    let copy = tempfile::tempdir()?;
    let copied = copy.path().join("books");
    std::fs::copy(file, &copied)?;
    let log = |file: &Path| PathBuf::from(format!("{}-wal", file.display()));
    if log(file).is_file() {
        std::fs::copy(log(file), log(&copied))?;
    }
    let books = rusqlite::Connection::open(copied)?;
    let mut rows = String::new();
    for query in queries {
        let mut statement = books.prepare(&query.replace("{schema}", ""))?;
        let columns = statement.column_count();
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            for column in 0..columns {
                let value = match row.get_ref(column)? {
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => bail!("an odd column: {other:?}"),
                };
                rows.push_str(if column > 0 { "|" } else { "" });
                rows.push_str(&value);
            }
            rows.push('\n');
        }
    }
    Ok(rows)
}
