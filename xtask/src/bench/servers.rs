//! The servers that are compared.

use super::{SERVER_CORE, pinned};
use crate::{root, tools};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// The first one is the floor.
pub(super) const SERVERS: &[Server] = &[
    Server { name: "floor", program: Program::Ours("floor"), arguments: &["--fixed"], ..SERVER },
    Server {
        name: "switchboard, in one process",
        calls_goal: 1.8,
        memory_goal: 6_000.0,
        boots_goal: 1.0,
        ..SERVER
    },
    // What compressing a call costs is the station's choice; what a connection keeps for it is ours.
    Server {
        name: "the same, compressed",
        arguments: &["--compress"],
        memory_goal: 8_000.0,
        boots: false,
        ..SERVER
    },
    Server {
        name: "switchboard, stored durably",
        program: Program::Ours("durable"),
        calls_goal: 6.0,
        p99_goal: Some((300, 60.0)),
        memory: false,
        ..SERVER
    },
    Server { name: "PyPI ocpp", program: Program::Python("pypi.py"), memory: false, boots: false, ..SERVER },
    Server { name: "npm ocpp-rpc", program: Program::Node("npm.js"), memory: false, boots: false, ..SERVER },
];

/// What most of them are.
const SERVER: Server = Server {
    name: "",
    program: Program::Ours("inprocess"),
    arguments: &[],
    memory: true,
    boots: true,
    calls_goal: 0.0,
    p99_goal: None,
    memory_goal: 0.0,
    boots_goal: 0.0,
};

pub(super) struct Server {
    pub(super) name: &'static str,
    program: Program,
    /// What the load generator must know of it.
    pub(super) arguments: &'static [&'static str],
    /// Whether ten thousand idle connections are opened to it.
    pub(super) memory: bool,
    /// Whether stations boot all at once.
    pub(super) boots: bool,
    /// Times the floor's CPU per call at most; 0: no goal.
    pub(super) calls_goal: f64,
    /// With so many stations, 99 of 100 answers within so many milliseconds.
    pub(super) p99_goal: Option<(usize, f64)>,
    /// Bytes of an idle connection at most; 0: no goal.
    pub(super) memory_goal: f64,
    /// Times the floor's boots per second at least; 0: no goal.
    pub(super) boots_goal: f64,
}

enum Program {
    /// One of the benchmark's own.
    Ours(&'static str),
    /// A script of `benches/others`, with what PyPI's packages need.
    Python(&'static str),
    /// The same for npm's.
    Node(&'static str),
}

impl Server {
    /// Whether it is a program of the benchmark's own.
    pub(super) const fn is_ours(&self) -> bool {
        matches!(self.program, Program::Ours(_))
    }

    /// Whether it can be started here: the servers of others need their packages.
    pub(super) fn is_here(&self) -> bool {
        match self.program {
            Program::Ours(_) => true,
            Program::Python(_) => tools::python().exists(),
            Program::Node(_) => tools::node_modules().join("ocpp-rpc").exists(),
        }
    }

    pub(super) fn start(&self) -> Result<Running> {
        let others = root().join("benches/others");
        let command = match self.program {
            Program::Ours(program) => pinned(SERVER_CORE, &root().join("target/release").join(program), &[]),
            Program::Python(script) => {
                pinned(SERVER_CORE, &tools::python(), &[others.join(script).to_string_lossy().as_ref()])
            }
            Program::Node(script) => {
                let script = others.join(script);
                let mut command = pinned(SERVER_CORE, "node".as_ref(), &[script.to_string_lossy().as_ref()]);
                command.env("NODE_PATH", tools::node_modules());
                command
            }
        };
        Running::start(self.name, command)
    }
}

/// Stops the server when the measurement is over, however it ended.
pub(super) struct Running {
    child: Child,
    pub(super) address: String,
}

impl Running {
    /// Starts a program, and waits until it says where it listens.
    pub(super) fn start(name: &str, mut command: Command) -> Result<Self> {
        let mut running = Self::new(command.stdout(Stdio::piped()).spawn()?);
        let stdout = running.child.stdout.take().context("no standard output")?;
        for line in BufReader::new(stdout).lines() {
            if let Some(address) = line?.strip_prefix("listening ") {
                address.clone_into(&mut running.address);
                return Ok(running);
            }
        }
        bail!("{name} ended before it listened")
    }

    /// One that says elsewhere where it listens.
    pub(super) fn new(child: Child) -> Self {
        Self { child, address: String::new() }
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(super) fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // First politely, so that it takes its files away. It may have ended by itself; then there is nothing to stop.
        drop(Command::new("kill").arg(self.pid()).status());
        for _ in 0..60 {
            if !self.is_running() {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
