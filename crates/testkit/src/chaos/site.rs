//! The processes of one cell, and the lines between them.

use super::cell::{Bus, Pair};
use crate::servers::{Mosquitto, Nats, Postgres, RabbitMq, Server, free_address};
use crate::{Proxy, http, tools, wait};
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::path::Path;

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
    lines: Option<Lines>,
    books: String,
}

/// Every pair has a line of its own.
#[derive(Debug)]
struct Lines {
    gateway_broker: Proxy,
    worker_broker: Proxy,
    gateway_directory: Proxy,
    worker_directory: Proxy,
    worker_database: Proxy,
}

/// Workers of a cell.
const WORKERS: usize = 3;

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
        let broker = match bus {
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
        if site.bus == Bus::Embedded {
            return rows_of_file(Path::new(&site.books));
        }
        let books = self.books.as_ref().context("there are no books")?;
        let mut rows = String::new();
        for query in [super::books::CHARGES, super::books::READINGS_SQL] {
            rows.push_str(&books.psql(&site.books, &query.replace("{schema}", "switchboard_central."))?);
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
        if bus == Bus::Embedded {
            return Self::start_embedded(binary).await;
        }
        let (directory, books) = (servers.directory()?.database()?, {
            let books = servers.books.as_ref().context("there are no books")?;
            books.database()?
        });
        let databases =
            (servers.directory()?.address(), servers.books.as_ref().context("there are no books")?.address());
        let broker = servers.broker(bus)?.address();
        let lines = Lines {
            gateway_broker: Proxy::to(broker).await?,
            worker_broker: Proxy::to(broker).await?,
            gateway_directory: Proxy::to(databases.0).await?,
            worker_directory: Proxy::to(databases.0).await?,
            worker_database: Proxy::to(databases.1).await?,
        };
        let through = |url: &str, server: SocketAddr, line: &Proxy| {
            url.replace(&server.to_string(), &line.address().to_string())
        };
        let bus_url = |line: &Proxy| match bus {
            Bus::Nats => format!("nats://{}", line.address()),
            Bus::Amqp => format!("amqp://guest:guest@{}/%2f", line.address()),
            Bus::Bare => format!("mqtt://{}?mode=bare", line.address()),
            _ => format!("mqtt://{}", line.address()),
        };
        let namespace = format!("cell{}x{}", std::process::id(), servers.sites);
        let name = books.rsplit('/').next().unwrap_or_default().to_owned();
        let mut site = Self {
            bus,
            gateways: Vec::new(),
            workers: Vec::new(),
            stations: Vec::new(),
            apis: Vec::new(),
            lines: None,
            books: name,
        };
        for number in 0..WORKERS {
            let api = free_address()?;
            let mut worker = role(binary, "worker", &namespace)?;
            worker.arguments.extend(words(&[
                ("--bus", &bus_url(&lines.worker_broker)),
                ("--directory", &through(&directory, databases.0, &lines.worker_directory)),
                ("--database", &through(&books, databases.1, &lines.worker_database)),
                ("--api-listen", &api.to_string()),
            ]));
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
        for number in 0..gateways {
            let stations = free_address()?;
            let mut gateway = role(binary, "gateway", &namespace)?;
            gateway.arguments.extend(words(&[
                ("--bus", &bus_url(&lines.gateway_broker)),
                ("--directory", &through(&directory, databases.0, &lines.gateway_directory)),
                ("--gateway-id", &format!("g{number}")),
                ("--listen", &stations.to_string()),
            ]));
            site.gateways.push(gateway);
            site.stations.push(stations);
        }
        for process in site.workers.iter_mut().chain(&mut site.gateways) {
            process.start().await?;
        }
        site.lines = Some(lines);
        site.wait_until_ready().await?;
        Ok(site)
    }

    async fn start_embedded(binary: &Path) -> Result<Self> {
        let (stations, api) = (free_address()?, free_address()?);
        let mut whole = role(binary, "run", "")?;
        whole
            .arguments
            .extend(words(&[("--listen", &stations.to_string()), ("--api-listen", &api.to_string())]));
        let books = whole.folder().join("data").display().to_string();
        whole.start().await?;
        let site = Self {
            bus: Bus::Embedded,
            gateways: vec![whole],
            workers: Vec::new(),
            stations: vec![stations],
            apis: vec![api],
            lines: None,
            books,
        };
        site.wait_until_ready().await?;
        Ok(site)
    }

    /// Waits until every process says that it is ready.
    pub(super) async fn wait_until_ready(&self) -> Result<()> {
        for process in self.workers.iter().chain(&self.gateways) {
            let ready = wait::until("a process is ready", async || {
                matches!(http::get(process.address(), "/readyz").await, Ok((200, _))).then_some(())
            });
            ready.await.with_context(|| format!("its log:\n{}", process.log()))?;
        }
        Ok(())
    }

    /// The line between two.
    pub(super) fn line(&self, pair: Pair) -> Result<&Proxy> {
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
        for (number, process) in self.workers.iter().enumerate() {
            std::fs::write(folder.join(format!("worker{number}.log")), process.log())?;
        }
        Ok(())
    }
}

fn role(binary: &Path, word: &str, namespace: &str) -> Result<Server> {
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

fn words(flags: &[(&str, &str)]) -> Vec<String> {
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
fn rows_of_file(data: &Path) -> Result<String> {
    let copy = tempfile::tempdir()?;
    for file in ["central.db", "central.db-wal"] {
        if data.join(file).is_file() {
            std::fs::copy(data.join(file), copy.path().join(file))?;
        }
    }
    let books = rusqlite::Connection::open(copy.path().join("central.db"))?;
    let mut rows = String::new();
    for query in [super::books::CHARGES, super::books::READINGS_SQL] {
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
