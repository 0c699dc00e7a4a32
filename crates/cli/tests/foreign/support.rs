//! Brokers for all tests, a gateway with a directory, and the examples as processes.

use anyhow::{Context, Result, bail, ensure};
use rusqlite::Connection;
use serde_json::Value;
use std::{
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};
use switchboard_testkit::{
    Switchboard,
    servers::{Mosquitto, Nats, Postgres, RabbitMq},
    tools, wait,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::OnceCell,
    time::timeout,
};

/// The binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");

/// Nobody kills these. They end with this process.
static NATS: OnceCell<Option<Nats>> = OnceCell::const_new();
static RABBITMQ: OnceCell<Option<RabbitMq>> = OnceCell::const_new();
static MOSQUITTO: OnceCell<Option<Mosquitto>> = OnceCell::const_new();
static POSTGRES: OnceCell<Option<Postgres>> = OnceCell::const_new();

/// One of the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Example {
    PythonNats,
    PythonRabbitMq,
    PythonMqtt,
    NodeNats,
}

impl Example {
    const fn script(self) -> &'static str {
        match self {
            Self::PythonNats => "worker_nats.py",
            Self::PythonRabbitMq => "worker_rabbitmq.py",
            Self::PythonMqtt => "worker_mqtt.py",
            Self::NodeNats => "worker_nats.js",
        }
    }

    /// The URL of its broker, and where that is; none if `test` has to be skipped.
    async fn broker(self, test: &str) -> Result<Option<(String, SocketAddr)>> {
        Ok(match self {
            Self::PythonNats | Self::NodeNats => {
                let server = NATS.get_or_try_init(|| Nats::start(test)).await?.as_ref();
                server.map(|server| (server.url(), server.address()))
            }
            Self::PythonRabbitMq => {
                let server = RABBITMQ.get_or_try_init(|| RabbitMq::start(test)).await?.as_ref();
                server.map(|server| (server.url(), server.address()))
            }
            Self::PythonMqtt => {
                let server = MOSQUITTO.get_or_try_init(|| Mosquitto::start(test)).await?.as_ref();
                server.map(|server| (server.url(), server.address()))
            }
        })
    }

    /// How it is run; none if `test` has to be skipped.
    fn command(self, test: &str) -> Result<Option<Command>> {
        let script = tools::root().join("examples/foreign").join(self.script());
        Ok(if self == Self::NodeNats {
            tools::node_packages(test)?.map(|packages| {
                let mut command = Command::new("node");
                command.env("NODE_PATH", packages.join("node_modules")).arg(script);
                command
            })
        } else {
            tools::python(test)?.map(|python| {
                let mut command = Command::new(python);
                // No folder of compiled files beside the examples.
                command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script);
                command
            })
        })
    }
}

/// A gateway, and a namespace and books of the test's own for workers that are one of the examples.
#[derive(Debug)]
pub(crate) struct Place {
    test: &'static str,
    example: Example,
    pub(crate) bus: String,
    pub(crate) broker: SocketAddr,
    pub(crate) namespace: String,
    directory: String,
    pub(crate) gateway: Switchboard,
    folder: tempfile::TempDir,
}

impl Place {
    /// None if the test has to be skipped.
    pub(crate) async fn new(test: &'static str, example: Example) -> Result<Option<Self>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if example.command(test)?.is_none() {
            return Ok(None);
        }
        let Some((bus, broker)) = example.broker(test).await? else { return Ok(None) };
        let Some(postgres) = POSTGRES.get_or_try_init(|| Postgres::start(test)).await? else {
            return Ok(None);
        };
        let namespace = format!("n{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = postgres.database()?;
        let arguments = ["--bus", &bus, "--directory", &directory, "--namespace", &namespace];
        let gateway = Switchboard::gateway(BINARY, &arguments).await?;
        let folder = tempfile::tempdir()?;
        Ok(Some(Self { test, example, bus, broker, namespace, directory, gateway, folder }))
    }

    /// Another gateway of the same installation.
    pub(crate) async fn another_gateway(&self) -> Result<Switchboard> {
        let arguments = ["--bus", &self.bus, "--directory", &self.directory, "--namespace", &self.namespace];
        Switchboard::gateway(BINARY, &arguments).await
    }

    /// A worker of ours.
    pub(crate) async fn our_worker(&self, database: &str) -> Result<Switchboard> {
        let arguments = [
            "--bus",
            &self.bus,
            "--directory",
            &self.directory,
            "--namespace",
            &self.namespace,
            "--database",
            database,
        ];
        Switchboard::worker(BINARY, &arguments).await
    }

    /// The worker's books.
    pub(crate) fn books(&self) -> PathBuf {
        self.folder.path().join("books")
    }

    /// Starts a worker, whose way to the broker leads over this address.
    pub(crate) fn worker(&self, over: SocketAddr) -> Result<Foreign> {
        let mut command = self.example.command(self.test)?.context("it was there a moment ago")?;
        command.arg(self.bus.replace(&self.broker.to_string(), &over.to_string()));
        command.args(["--namespace", &self.namespace, "--database"]).arg(self.books());
        let complaints = self.folder.path().join(format!("complaints-{over}"));
        let written = File::create(&complaints)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(written).kill_on_drop(true);
        let mut child = command.spawn()?;
        let commands = child.stdin.take().context("no standard input")?;
        let outcomes = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        Ok(Foreign { child, commands, outcomes, complaints })
    }

    /// The transactions in the worker's books: their meters at the beginning and at the end.
    pub(crate) fn transactions(&self) -> Result<Vec<(i64, Option<i64>)>> {
        if self.example == Example::NodeNats {
            return transactions_of_lines(&std::fs::read_to_string(self.books())?);
        }
        let books = Connection::open(self.books())?;
        books.busy_timeout(wait::DEADLINE)?;
        let mut rows = books.prepare("SELECT meter_start, meter_stop FROM transactions ORDER BY id")?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn transactions_of_lines(text: &str) -> Result<Vec<(i64, Option<i64>)>> {
    let mut found = Vec::new();
    // A line that is being written is none yet.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let effect = serde_json::from_str::<Value>(line)?["effect"].take();
        if let Some(meter) = effect["started"]["meterStart"].as_i64() {
            found.push((meter, None));
        } else if let Some(meter) = effect["stopped"]["meterStop"].as_i64() {
            let number = effect["stopped"]["id"].as_u64().context("no id")?;
            let place = usize::try_from(number)?.checked_sub(1).and_then(|place| found.get_mut(place));
            place.context("a transaction that never began")?.1 = Some(meter);
        }
    }
    Ok(found)
}

/// A running example. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Foreign {
    child: Child,
    commands: ChildStdin,
    outcomes: Lines<BufReader<ChildStdout>>,
    /// What it writes to standard error.
    complaints: PathBuf,
}

impl Foreign {
    /// Has it send a command, and gives back what it tells of it.
    pub(crate) async fn command(&mut self, station: &str, action: &str, payload: &Value) -> Result<Value> {
        self.commands.write_all(format!("{station} {action} {payload}\n").as_bytes()).await?;
        let line = timeout(2 * wait::DEADLINE, self.outcomes.next_line()).await.context("no outcome")??;
        let Some(line) = line else { bail!("the worker ended") };
        let told: Value = serde_json::from_str(&line).with_context(|| format!("an odd line: {line}"))?;
        ensure!(told["station"] == station && told["action"] == action, "{told}");
        Ok(told)
    }

    /// Without a word.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// As an operator would: it ends well and shows nothing of its inside.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).context("it is gone")?;
        let pid = rustix::process::Pid::from_raw(pid).context("no process has this id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = timeout(wait::DEADLINE, self.child.wait()).await.context("it does not end")??;
        let complaints = std::fs::read_to_string(&self.complaints)?;
        ensure!(status.success(), "{status}: {complaints}");
        ensure!(!complaints.contains("Traceback") && !complaints.contains("    at "), "{complaints}");
        Ok(())
    }
}
