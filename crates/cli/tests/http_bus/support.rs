//! A directory and books for all tests, and what a test has of processes for itself.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use switchboard_testkit::{
    RawStation, Switchboard,
    servers::{Postgres, free_address},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

pub(crate) use switchboard_testkit::scene::{
    booted, metric_at_least, obey, start, station, status, transactions,
};

/// The binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");

/// Nobody kills it. It ends with this process.
static POSTGRES: OnceCell<Option<Postgres>> = OnceCell::const_new();

/// What gateways and workers of one installation have in common.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: String,
    books: String,
    /// Where its functions are, or may be.
    pub(crate) functions: Vec<SocketAddr>,
}

impl Place {
    /// Databases of the test's own, and ports for two workers; none if it has to be skipped.
    pub(crate) async fn new(test: &str) -> Result<Option<Self>> {
        Self::with(test, vec![free_address()?, free_address()?]).await
    }

    /// The same with these functions.
    pub(crate) async fn with(test: &str, functions: Vec<SocketAddr>) -> Result<Option<Self>> {
        let Some(postgres) = POSTGRES.get_or_try_init(|| Postgres::start(test)).await? else {
            return Ok(None);
        };
        Ok(Some(Self { directory: postgres.database()?, books: postgres.database()?, functions }))
    }

    /// The bus of a gateway that may hand calls over again, or may not.
    pub(crate) fn bus(&self, idempotent: bool) -> String {
        let one = |function| format!("http://{function}/ocpp?idempotent={idempotent}");
        self.functions.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// A gateway that is ready, on this bus.
    pub(crate) async fn gateway(&self, bus: &str, more: &[&str]) -> Result<Switchboard> {
        let ours = ["--bus", bus, "--directory", &self.directory];
        let listens = if more.contains(&"--bus-listen") { &[][..] } else { &["--bus-listen", "127.0.0.1:0"] };
        Switchboard::gateway(BINARY, &[&ours[..], listens, more].concat()).await
    }

    /// A worker that is ready, which is this function.
    pub(crate) async fn worker(&self, number: usize) -> Result<Switchboard> {
        let bus = format!("http://{}/ocpp", self.functions[number]);
        let ours = ["--bus", &bus, "--directory", &self.directory, "--database", &self.books];
        Switchboard::worker(BINARY, &ours).await
    }
}

/// What the next frame of the server is.
pub(crate) async fn next(station: &mut RawStation) -> Result<Value> {
    let text = station.receive().await?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// A function that is none of ours. It says to each call what it was told to, by how many came before, and keeps them.
#[derive(Debug)]
pub(crate) struct Odd {
    pub(crate) address: SocketAddr,
    pub(crate) heads: Arc<std::sync::Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

/// How it answers one.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// With this status and this body; `ID` in it becomes the id of the call.
    This(&'static str, String),
    /// The same after a while.
    Later(Duration, String),
    /// The connection ends.
    Nothing,
}

impl Odd {
    pub(crate) async fn new(says: impl Fn(u32) -> Says + Send + Sync + 'static) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (kept, says, count) = (Arc::clone(&heads), Arc::new(says), Arc::new(AtomicU32::new(0)));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, says, count) = (Arc::clone(&kept), Arc::clone(&says), Arc::clone(&count));
                tokio::spawn(async move {
                    // Whoever goes in the middle of it wanted to.
                    drop(one(stream, &kept, || says(count.fetch_add(1, Ordering::Relaxed))).await);
                });
            }
        });
        Ok(Self { address, heads, serving })
    }

    /// The heads of the calls so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.heads.lock().map(|heads| heads.clone()).unwrap_or_default()
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn one(
    mut stream: TcpStream,
    kept: &std::sync::Mutex<Vec<String>>,
    says: impl Fn() -> Says,
) -> Result<()> {
    let mut read = Vec::new();
    let head = loop {
        ensure!(stream.read_buf(&mut read).await? > 0, "it went");
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break String::from_utf8_lossy(&read[..end + 4]).to_lowercase();
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("no length")?.trim().parse()?;
    while read.len() < head.len() + length {
        ensure!(stream.read_buf(&mut read).await? > 0, "it went");
    }
    let call: Value = serde_json::from_slice(&read[head.len()..])?;
    if let Ok(mut kept) = kept.lock() {
        kept.push(head);
    }
    let (status, body) = match says() {
        Says::This(status, body) => (status, body),
        Says::Later(wait, body) => {
            tokio::time::sleep(wait).await;
            ("200 OK", body)
        }
        Says::Nothing => return Ok(()),
    };
    let body = body.replace("ID", call[1].as_str().context("no id")?);
    let response =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all(response.as_bytes()).await?;
    Ok(())
}
