//! Compression with the WebSocket libraries of others: PyPI's `websockets` and npm's `ws`, in all the ways in which they
//! can offer it, up to the largest message (H14, F10).

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{process::Stdio, time::Duration};
use switchboard_testkit::{Switchboard, http, tools};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
/// A way takes less than a second; this is for a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(180);

/// Starts a script and reads until it says that it did the last of its ways.
async fn ways(mut command: Command, server: &Switchboard, last: &str) -> Result<(Child, usize)> {
    command.arg(server.url("")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
    let mut count = 0;
    while let Some(line) =
        tokio::time::timeout(LIMIT, lines.next_line()).await.context("nothing more is said")??
    {
        let way = line.strip_prefix("ok ").with_context(|| format!("an odd line: {line}"))?;
        count += 1;
        if way == last {
            return Ok((child, count));
        }
    }
    let mut said = String::new();
    child.stderr.take().context("no standard error")?.read_to_string(&mut said).await?;
    anyhow::bail!("it ended after {count} ways: {said}")
}

async fn metric(server: &Switchboard, name: &str) -> Result<f64> {
    let (_, text) = http::get(server.admin(), "/metrics").await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.with_context(|| format!("no metric {name}"))?.parse().context("the metric is no number")
}

#[tokio::test]
async fn websockets_of_pypi_compresses_in_all_its_ways() -> Result<()> {
    let Some(python) = tools::python("compression::python")? else { return Ok(()) };
    let server = Switchboard::start(BINARY, &["--gateway-compression-refused", "NO-*"]).await?;
    let mut command = Command::new(python);
    command.arg(tools::root().join("tests/peers/compressed.py"));
    let (_script, count) = ways(command, &server, "stays").await?;
    assert_eq!(count, 10);

    let stations = server.run(&["stations", "--json"]).await?.json()?;
    let station = |id: &str| {
        let stations = stations["stations"].as_array().into_iter().flatten();
        stations.clone().find(|station| station["id"] == id).cloned().unwrap_or_default()
    };
    assert_eq!(station("PY-stays")["compressed"], true, "{stations}");
    // What goes to a station is compressed, too, if it is large.
    let keys: Vec<String> = (0..40).map(|number| format!("Connector{number}Configuration")).collect();
    let payload = json!({ "key": keys }).to_string();
    let ran = server.run(&["send", "PY-stays", "GetConfiguration", &payload, "--json"]).await?;
    assert_eq!(ran.json()?["payload"]["unknownKey"], json!(keys));
    let plain = metric(&server, "switchboard_gateway_sent_uncompressed_bytes_total").await?;
    let compressed = metric(&server, "switchboard_gateway_sent_compressed_bytes_total").await?;
    ensure!(plain > 1000.0 && compressed * 3.0 < plain, "{compressed} of {plain}");
    let inflated = metric(&server, "switchboard_gateway_received_inflated_bytes_total").await?;
    ensure!(inflated > 7.0 * 4.0 * 1_000_000.0, "{inflated}");
    Ok(())
}

#[tokio::test]
async fn ws_of_npm_compresses_in_all_its_ways() -> Result<()> {
    let Some(packages) = tools::node_packages("compression::node")? else { return Ok(()) };
    let server = Switchboard::start(BINARY, &[]).await?;
    let mut command = Command::new("node");
    command.env("NODE_PATH", packages.join("node_modules"));
    command.arg(tools::root().join("tests/peers/compressed.js"));
    let (_script, count) = ways(command, &server, "no window kept by the client").await?;
    assert_eq!(count, 6);
    Ok(())
}
