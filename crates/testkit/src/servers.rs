//! Brokers and databases of the tests' own: real ones, each on a free port with a folder of its own, so that they can be
//! frozen, killed and started again.
//!
//! They end with the process that started them, also when that is killed: `setpriv` has the kernel see to it. Their folders
//! go with them.

mod leftovers;
mod mosquitto;
mod nats;
mod postgres;
mod rabbitmq;

pub use mosquitto::Mosquitto;
pub use nats::Nats;
pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;

use crate::{tools, wait};
use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A server's process, its port and its folder. Dropped, it is killed and its folder removed.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(&'static str, String)>,
    user: Option<&'static str>,
    address: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
}

impl Server {
    /// Prepares one that will listen on a free port. The caller adds what it needs.
    pub(crate) fn prepare(name: &'static str, program: PathBuf) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("switchboard-{name}-")).tempdir()?;
        leftovers::remove_at_the_end(folder.path())?;
        let address = free_address()?;
        Ok(Self {
            name,
            program,
            arguments: Vec::new(),
            variables: Vec::new(),
            user: None,
            address,
            folder,
            child: None,
        })
    }

    /// Where it listens; the same after each start.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// All that it has logged so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Ends it without a word, as a power cut would, and with it all processes that it has started.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        // So that it starts no others meanwhile.
        self.signal(Signal::STOP)?;
        let others = self.descendants();
        for pid in &others {
            // Those that have ended by themselves meanwhile are gone all the same.
            kill_process(*pid, Signal::KILL).unwrap_or_default();
        }
        self.end(Signal::KILL)?;
        // What they held, a lock or shared memory, is free when they are gone, not when they are told to go.
        let begun = std::time::Instant::now();
        while others.iter().any(|pid| is_running(*pid)) && begun.elapsed() < wait::DEADLINE {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Asks it to end, as an operator would, and waits until it has.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// Stops it in the middle of whatever it does, and all processes that it has started; its connections stay.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        for pid in self.descendants() {
            kill_process(pid, Signal::STOP).unwrap_or_default();
            wait_until_frozen(pid);
        }
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            wait_until_frozen(pid);
        }
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Result<()> {
        for pid in self.descendants() {
            kill_process(pid, Signal::CONT).unwrap_or_default();
        }
        self.signal(Signal::CONT)
    }

    /// Starts it, or starts it again, with the same port and folder, and waits until it listens.
    ///
    /// # Errors
    /// It runs already, ends, or does not listen in time; what it logged is in the error.
    pub async fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} is running", self.name);
        }
        self.child = Some(self.spawn()?);
        let deadline = tokio::time::Instant::now() + 2 * wait::DEADLINE;
        while TcpStream::connect(self.address).await.is_err() {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if let Some(status) = ended {
                self.child = None;
                bail!("{} ended with {status}:\n{}", self.name, self.log());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("{} does not listen:\n{}", self.name, self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn spawn(&self) -> Result<Child> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(user) = self.user {
            command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        // Of the settings of whoever runs the tests a server of the tests' own knows nothing.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SWITCHBOARD_")) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(self.folder.path());
        spawn_for_life(command).with_context(|| format!("cannot start {}", self.name))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log.txt")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        Ok(kill_process(pid.with_context(|| format!("{} does not run", self.name))?, signal)?)
    }

    /// The processes that it has started, and those that these have.
    fn descendants(&self) -> Vec<Pid> {
        let all: Vec<(i32, i32)> = std::fs::read_dir("/proc").map_or_else(
            |_| Vec::new(),
            |entries| {
                entries
                    .flatten()
                    .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                    .filter_map(|pid: i32| Some((pid, parent(pid)?.1)))
                    .collect()
            },
        );
        let mut found: Vec<i32> = self.pid().and_then(|pid| i32::try_from(pid).ok()).into_iter().collect();
        let mut looked = 0;
        while let Some(parent) = found.get(looked).copied() {
            found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
            looked += 1;
        }
        found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
    }

    pub(crate) fn end(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            // If it has ended by itself there is nothing to end.
            drop(self.end(Signal::KILL));
        }
    }
}

/// Waits until each thread of a process that was told to stop has done so: one that is on a core when the signal is sent
/// goes on for a moment.
pub(crate) fn wait_until_frozen(pid: Pid) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < wait::DEADLINE {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else { return };
        let moves = |thread: &std::fs::DirEntry| {
            state(&thread.path().join("stat"))
                .is_some_and(|(state, _)| !matches!(state, 'T' | 't' | 'Z' | 'X'))
        };
        if !threads.flatten().any(|thread| moves(&thread)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The state of a process and its parent.
fn parent(pid: i32) -> Option<(char, i32)> {
    state(Path::new(&format!("/proc/{pid}/stat")))
}

/// The state and the parent that a file of the kernel tells of a process or thread.
fn state(file: &Path) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(file).ok()?;
    // The name comes in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a process has not ended yet. One that has, and which nobody has asked about, still has its number.
fn is_running(pid: Pid) -> bool {
    parent(pid.as_raw_nonzero().get()).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Starts a process from a thread that lives as long as we do: the kernel's signal at a parent's death means the thread,
/// and a test's thread ends with the test.
fn spawn_for_life(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);
    static SPAWNER: std::sync::LazyLock<std::sync::Mutex<mpsc::Sender<Order>>> =
        std::sync::LazyLock::new(|| {
            let (orders, taken) = mpsc::channel::<Order>();
            std::thread::spawn(move || {
                for (mut command, answer) in taken {
                    drop(answer.send(command.spawn()));
                }
            });
            std::sync::Mutex::new(orders)
        });
    let (answer, answered) = mpsc::sync_channel(1);
    let orders = SPAWNER.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    orders.send((command, answer)).map_err(|_| anyhow!("the thread that starts processes is gone"))?;
    Ok(answered.recv()??)
}

/// An address that was free a moment ago, and stays so as far as we can see to it: its port is below those that systems
/// give to connections, one of which might have it when a server that was killed starts again. It may even be that of a
/// client which asks just there again and again, and one day reaches itself.
///
/// # Errors
/// There is none.
pub fn free_address() -> Result<SocketAddr> {
    for _ in 0..100 {
        let number = RandomState::new().hash_one(std::process::id());
        let port = PORTS.start + u16::try_from(number % u64::try_from(PORTS.len())?)?;
        // Who was given one may not listen yet.
        if !GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(port) {
            continue;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The ports that this process has given out, each once.
static GIVEN: std::sync::Mutex<BTreeSet<u16>> = std::sync::Mutex::new(BTreeSet::new());

/// Above those of services, below Linux's `ip_local_port_range`.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// The program if it is installed; none if `test` has to be skipped.
fn installed(test: &str, what: &str, places: &[&str]) -> Result<Option<PathBuf>> {
    match places.iter().map(PathBuf::from).find(|place| place.is_file()) {
        Some(program) => Ok(Some(program)),
        None => tools::missing(test, what),
    }
}

/// Whether we may start processes as others.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::free_address;
    use std::collections::BTreeSet;

    #[test]
    fn no_address_is_given_out_twice() {
        let addresses: BTreeSet<_> = (0..500).map(|_| free_address().unwrap()).collect();
        assert_eq!(addresses.len(), 500);
    }
}
