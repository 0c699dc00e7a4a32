//! The real server as a process of its own, on free ports and a folder of its own.

use crate::{
    http,
    servers::{free_address, wait_until_frozen},
    wait,
};
use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A running `switchboard run`, `gateway` or `worker`. Dropped, it is killed and its folder removed.
#[derive(Debug)]
pub struct Switchboard {
    program: Program,
    child: Child,
}

/// What does not change when the process is started again.
#[derive(Debug)]
struct Program {
    binary: PathBuf,
    role: &'static str,
    arguments: Vec<String>,
    folder: TempDir,
    /// Elsewhere than in the folder.
    data: Option<PathBuf>,
    stations: SocketAddr,
    api: SocketAddr,
    admin: SocketAddr,
    killpoint: Option<String>,
}

/// What a command of the binary printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    ///
    /// # Errors
    /// It is none; everything that was printed is in the error.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON on standard output: {self:?}"))
    }
}

const ATTEMPTS: usize = 5;

impl Switchboard {
    /// Starts `binary run` with further arguments and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or does not become ready; what it logged is in the error.
    pub async fn start(binary: impl AsRef<Path>, arguments: &[&str]) -> Result<Self> {
        Self::start_with(binary, "run", arguments, None).await
    }

    /// Starts `binary gateway` with further arguments and waits until it is ready.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn gateway(binary: impl AsRef<Path>, arguments: &[&str]) -> Result<Self> {
        Self::start_with(binary, "gateway", arguments, None).await
    }

    /// Starts `binary worker` with further arguments and waits until it is ready.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn worker(binary: impl AsRef<Path>, arguments: &[&str]) -> Result<Self> {
        Self::start_with(binary, "worker", arguments, None).await
    }

    /// Starts it in a role and does not wait for anything: what it needs may be away.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(binary: impl AsRef<Path>, role: &'static str, arguments: &[&str]) -> Result<Self> {
        let program = Program::prepare(binary.as_ref(), role, arguments, None)?;
        Ok(Self { child: program.spawn()?, program })
    }

    /// The same with its data in this folder, which stays when it is gone.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_in(binary: impl AsRef<Path>, arguments: &[&str], data: &Path) -> Result<Self> {
        Self::start_with(binary, "run", arguments, Some(data)).await
    }

    async fn start_with(
        binary: impl AsRef<Path>,
        role: &'static str,
        arguments: &[&str],
        data: Option<&Path>,
    ) -> Result<Self> {
        let mut last = anyhow!("not tried");
        for _ in 0..ATTEMPTS {
            let program = Program::prepare(binary.as_ref(), role, arguments, data)?;
            let mut server = Self { child: program.spawn()?, program };
            match server.wait_until_ready().await {
                Ok(()) => return Ok(server),
                // A port that was free a moment ago may be taken by now.
                Err(error) if server.log().contains("in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Where a station connects, by its id as it is to stand in the path.
    #[must_use]
    pub fn url(&self, station: &str) -> String {
        format!("ws://{}/ocpp/{station}", self.program.stations)
    }

    /// Where stations connect.
    #[must_use]
    pub fn stations(&self) -> SocketAddr {
        self.program.stations
    }

    /// Where the API is.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.program.api
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.program.admin
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.program.data_dir()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// All that it has logged so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.program.log_file()).unwrap_or_default()
    }

    /// Runs another command of the binary against this server and waits for its end.
    ///
    /// # Errors
    /// It cannot be run, or does not end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let mut command = self.program.command();
        let running = command.args(arguments).stdin(Stdio::null()).output();
        let output = timeout(2 * wait::DEADLINE, running)
            .await
            .with_context(|| format!("`switchboard {}` does not end", arguments.join(" ")))??;
        Ok(Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Waits until it has ended by itself; the exit code, none if a signal ended it.
    ///
    /// # Errors
    /// It does not end.
    pub async fn ended(&mut self) -> Result<Option<i32>> {
        let status = timeout(2 * wait::DEADLINE, self.child.wait()).await.context("it does not end")??;
        Ok(status.code())
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How much memory it holds, in kilobytes.
    ///
    /// # Errors
    /// It does not run, or the system does not say.
    pub fn memory_kb(&self) -> Result<u64> {
        let pid = self.child.id().context("it does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        line.trim().trim_end_matches("kB").trim().parse().context("no number")
    }

    /// Bounds the size of each file that it writes, as a full disk would; none takes the bound away.
    ///
    /// # Errors
    /// It does not run, or the system refuses.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(pid.context("it does not run")?), Resource::Fsize, limit)
            .context("cannot set the limit")?;
        Ok(())
    }

    /// Has it die at a point of its own when it is started the next time, as in `books.after-commit:3`. None: it lives.
    pub fn die_at(&mut self, point: Option<&str>) {
        self.program.killpoint = point.map(str::to_owned);
    }

    /// Ends it without a word, as a power cut would.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill the server")
    }

    /// Starts it again after its end, with the same ports and data.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.child.try_wait()?.is_some(), "it is still running");
        self.child = self.program.spawn()?;
        self.wait_until_ready().await
    }

    /// Stops it in the middle of whatever it does; its connections stay.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        wait_until_frozen(self.process()?);
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // Not by `kill`: a small system has no such program.
        kill_process(self.process()?, signal).context("cannot signal the server")
    }

    fn process(&self) -> Result<Pid> {
        let pid = self.child.id().context("it has ended already")?;
        i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process")
    }

    /// The value of a metric, by its whole name with labels; zero if it is not there.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let (status, text) = http::get(self.admin(), "/metrics").await?;
        ensure!(status == 200, "{status}: {text}");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(Ok(0.0), |value| value.trim().parse().context("no number"))
    }

    /// Asks it to end, as an operator would, and gives back its exit code.
    ///
    /// # Errors
    /// It does not end.
    pub async fn terminate(&mut self) -> Result<i32> {
        self.signal(Signal::TERM)?;
        let status = timeout(2 * wait::DEADLINE, self.child.wait()).await.context("it does not end")??;
        Ok(status.code().unwrap_or(-1))
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ends, or does not become ready; what it logged is in the error.
    pub async fn ready(&mut self) -> Result<()> {
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let admin = self.program.admin;
        let child = &mut self.child;
        let mut said = String::new();
        let ready = wait::until("the server is ready", async || {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(Err(anyhow!("the server ended with {status}")));
            }
            match http::get(admin, "/readyz").await {
                Ok((200, _)) => return Some(Ok(())),
                Ok((_, why)) => said = why,
                Err(_) => {}
            }
            None
        });
        let ready = ready.await.and_then(|ready| ready);
        ready.with_context(|| format!("/readyz says {said:?}; its log:\n{}", self.log()))
    }
}

impl Program {
    fn prepare(binary: &Path, role: &'static str, arguments: &[&str], data: Option<&Path>) -> Result<Self> {
        Ok(Self {
            binary: binary.to_path_buf(),
            role,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            folder: tempfile::tempdir()?,
            data: data.map(Path::to_path_buf),
            stations: free_address()?,
            api: free_address()?,
            admin: free_address()?,
            killpoint: None,
        })
    }

    fn spawn(&self) -> Result<Child> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let [stations, api, admin] = [self.stations, self.api, self.admin].map(|address| address.to_string());
        let mut command = self.command();
        command
            .args([
                self.role,
                "--listen",
                &stations,
                "--api-listen",
                &api,
                "--admin-listen",
                &admin,
                "--data-dir",
            ])
            .arg(self.data_dir())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        if let Some(point) = &self.killpoint {
            command.env("KILLPOINT", point);
        }
        command.spawn().with_context(|| format!("cannot run {}", self.binary.display()))
    }

    /// The binary with nothing of the surrounding environment's settings, in its own folder.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.folder.path());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SWITCHBOARD_")) {
            command.env_remove(name);
        }
        command.env("SWITCHBOARD_API_LISTEN", self.api.to_string());
        command.env("SWITCHBOARD_DATA_DIR", self.data_dir());
        command
    }

    fn data_dir(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}
