//! The plain HTTP function in Python, `examples/foreign/function_http.py`.

use crate::support::BINARY;
use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use switchboard_testkit::{Charger, Proxy, Software, Switchboard, http, servers::free_address, tools, wait};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const TIME: &str = "2026-11-23T09:00:00Z";

/// A running function. Dropped, it is killed.
#[derive(Debug)]
struct Function {
    child: Child,
    commands: ChildStdin,
    outcomes: Lines<BufReader<ChildStdout>>,
}

impl Function {
    async fn start(python: &Path, address: SocketAddr, books: &Path) -> Result<Self> {
        let mut command = Command::new(python);
        // No folder of compiled files beside the examples.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.arg(tools::root().join("examples/foreign/function_http.py")).arg(address.to_string());
        command.args(["--token", "key", "--database"]).arg(books);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let commands = child.stdin.take().context("no standard input")?;
        let outcomes = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        wait::until("the function", async || {
            matches!(http::get(address, "/").await, Ok((200, _))).then_some(())
        })
        .await?;
        Ok(Self { child, commands, outcomes })
    }

    async fn command(&mut self, station: &str, action: &str, payload: &Value) -> Result<Value> {
        self.commands.write_all(format!("{station} {action} {payload}\n").as_bytes()).await?;
        let line = tokio::time::timeout(2 * wait::DEADLINE, self.outcomes.next_line()).await??;
        Ok(serde_json::from_str(&line.context("it ended")?)?)
    }
}

/// Its books: the meters of each transaction.
fn transactions(books: &Path) -> Result<Vec<(i64, Option<i64>)>> {
    let books = Connection::open(books)?;
    books.busy_timeout(wait::DEADLINE)?;
    let mut rows = books.prepare("SELECT meter_start, meter_stop FROM transactions ORDER BY id")?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A gateway with a directory of its own, whose function is to be there.
async fn gateway(folder: &Path, function: SocketAddr) -> Result<Switchboard> {
    let bus = format!("http://key@{function}/?idempotent=true&health=/");
    let directory = format!("sqlite:{}", folder.join("directory.db").display());
    let door = free_address()?.to_string();
    Switchboard::gateway(BINARY, &["--bus", &bus, "--directory", &directory, "--bus-listen", &door]).await
}

fn prepared(test: &str) -> Result<Option<(PathBuf, Charger, tempfile::TempDir)>> {
    let (Some(python), Some(charger)) = (tools::python(test)?, Charger::start(test, Software::Python16)?)
    else {
        return Ok(None);
    };
    Ok(Some((python, charger, tempfile::tempdir()?)))
}

#[tokio::test]
async fn a_plain_http_function_in_python_serves_and_commands_a_charger() -> Result<()> {
    let Some((python, mut charger, folder)) = prepared("Python over HTTP")? else { return Ok(()) };
    let (address, books) = (free_address()?, folder.path().join("books.db"));
    let gateway = gateway(folder.path(), address).await?;
    let mut function = Function::start(&python, address, &books).await?;
    let (url, name) = (gateway.url("CP%C3%A9.1%2B"), "CP\u{e9}.1+");
    charger.does("connect", json!({ "url": url, "protocols": ["ocpp1.6"] })).await?;
    let booted = charger.does("boot", json!({})).await?;
    ensure!(booted["status"] == "Accepted", "{booted}");
    let started = charger.does("start", json!({ "tag": "A1", "meter": 100, "timestamp": TIME })).await?;
    let stop = json!({ "transactionId": started["transaction"] });
    let told = function.command(name, "RemoteStopTransaction", &stop).await?;
    ensure!(told["outcome"] == "answered" && told["payload"]["status"] == "Accepted", "{told}");
    let told = function.command(name, "DataTransfer", &json!({ "vendorId": "nobody" })).await?;
    ensure!(told["outcome"] == "refused" && told["code"] == "NotImplemented", "{told}");
    let told = function.command("NOBODY", "ClearCache", &json!({})).await?;
    ensure!(told["outcome"] == "offline", "{told}");
    charger.does("stop", json!({ "meter": 200, "timestamp": TIME })).await?;
    ensure!(transactions(&books)? == [(100, Some(200))], "{:?}", transactions(&books));
    let pid = function.child.id().and_then(|pid| i32::try_from(pid).ok()).context("it is gone")?;
    let pid = rustix::process::Pid::from_raw(pid).context("no process has this id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let ended = tokio::time::timeout(wait::DEADLINE, function.child.wait()).await??;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

/// The effect is there, and what it says does not arrive.
#[tokio::test]
async fn s02_a_python_function_that_is_killed_before_its_answer_leaves_one_effect() -> Result<()> {
    let Some((python, mut charger, folder)) = prepared("Python over HTTP, killed")? else { return Ok(()) };
    let (address, books) = (free_address()?, folder.path().join("books.db"));
    let line = Proxy::to(address).await?;
    let gateway = gateway(folder.path(), line.address()).await?;
    let mut first = Function::start(&python, address, &books).await?;
    charger.does("connect", json!({ "url": gateway.url("CP1"), "protocols": ["ocpp1.6"] })).await?;
    charger.does("boot", json!({})).await?;
    line.hold_what_servers_say(true);
    charger.begins("start", json!({ "tag": "A1", "meter": 100, "timestamp": TIME })).await?;
    wait::until("the effect", async || transactions(&books).ok().filter(|all| !all.is_empty())).await?;
    first.child.kill().await?;
    line.cut();
    line.hold_what_servers_say(false);
    let _second = Function::start(&python, address, &books).await?;
    let started: Value = charger.ended("start").await?;
    ensure!(started.get("done").is_some(), "{started}");
    charger.does("stop", json!({ "meter": 200, "timestamp": TIME })).await?;
    ensure!(transactions(&books)? == [(100, Some(200))], "{:?}", transactions(&books));
    Ok(())
}
