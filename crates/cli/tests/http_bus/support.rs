//! A directory and books for all tests, and what a test has of processes for itself.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use switchboard_testkit::{RawStation, Switchboard, servers::Postgres, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

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
        Self::with(test, vec![free()?, free()?]).await
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

/// An address at which nobody listens.
pub(crate) fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Connects as a station of 1.6.
pub(crate) async fn station(gateway: &Switchboard, id: &str) -> Result<RawStation> {
    RawStation::connect(&gateway.url(id), &["ocpp1.6"])
        .await?
        .map_err(|status| anyhow::anyhow!("{id} was refused with {status}"))
}

/// The same, and boots.
pub(crate) async fn booted(gateway: &Switchboard, id: &str) -> Result<RawStation> {
    let mut station = station(gateway, id).await?;
    let answer = station
        .ask(r#"[2,"boot","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#)
        .await?;
    ensure!(answer[0] == 3 && answer[2]["status"] == "Accepted", "{answer}");
    Ok(station)
}

/// A StartTransaction with this id, at this minute.
pub(crate) fn start(id: &str, minute: u32) -> String {
    format!(
        r#"[2,"{id}","StartTransaction",{{"connectorId":1,"idTag":"A1","meterStart":{minute},"timestamp":"2026-11-20T10:{minute:02}:00Z"}}]"#
    )
}

/// A StatusNotification with this id: it needs nothing of processing.
pub(crate) fn status(id: &str) -> String {
    format!(
        r#"[2,"{id}","StatusNotification",{{"connectorId":1,"errorCode":"NoError","status":"Available","timestamp":"2026-11-20T10:00:00Z"}}]"#
    )
}

/// What the next frame of the server is.
pub(crate) async fn next(station: &mut RawStation) -> Result<Value> {
    let text = station.receive().await?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Answers the next command of this action with this payload.
pub(crate) async fn obey(station: &mut RawStation, action: &str, payload: &str) -> Result<()> {
    let call = next(station).await?;
    ensure!(call[0] == 2 && call[2] == action, "{call}");
    station.send(&format!("[3,{},{payload}]", call[1])).await
}

/// The transactions in a worker's books.
pub(crate) async fn transactions(worker: &Switchboard) -> Result<usize> {
    let list = worker.run(&["transactions", "--json", "--limit", "1000"]).await?.json()?;
    Ok(list["transactions"].as_array().context("no list")?.len())
}

/// Waits until a metric is at least this.
pub(crate) async fn metric_at_least(server: &Switchboard, name: &str, value: f64) -> Result<()> {
    wait::until(format!("{name} of {value}"), async || {
        server.metric(name).await.ok().filter(|now| *now >= value)
    })
    .await
    .map(|_| ())
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
