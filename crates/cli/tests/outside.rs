//! What people do by the command line that no other test does: taking commands back, Ctrl-C once and twice, the journal;
//! and what a failing handler and the ends of connections look like from outside.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use switchboard_testkit::{RawStation, Switchboard, http, wait};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
const BOOT: &str = r#"[2,"b","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#;
const HEARTBEAT: &str = r#"[2,"h","Heartbeat",{}]"#;

async fn station(server: &Switchboard, id: &str) -> Result<RawStation> {
    let connected = RawStation::connect(&server.url(id), &["ocpp1.6"]).await?;
    connected.map_err(|status| anyhow::anyhow!("the upgrade was refused with {status}"))
}

/// The next call to the station: its id and its action.
async fn called(station: &mut RawStation) -> Result<(String, String)> {
    let call: Value = serde_json::from_str(&station.receive().await?)?;
    let text = |index: usize| call[index].as_str().map(str::to_owned).context("an odd call");
    Ok((text(1)?, text(2)?))
}

/// A command of the binary that goes on while the test does something.
fn begun(server: &Switchboard, words: &[&str]) -> Result<Child> {
    let mut command = Command::new(BINARY);
    command.args(words).args(["--api", &server.api().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command.spawn()?)
}

/// How it ended, and what it said on standard error.
async fn ended(child: Child) -> Result<(Option<i32>, String)> {
    let output = tokio::time::timeout(wait::DEADLINE, child.wait_with_output()).await??;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn interrupt(pid: Option<u32>) -> Result<()> {
    let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).context("no process")?;
    Ok(kill_process(pid, Signal::INT)?)
}

#[tokio::test]
async fn s07_a_command_that_is_taken_back_is_cancelled_and_never_sent() -> Result<()> {
    let server = Switchboard::start(BINARY, &[]).await?;
    // One that waits for its station.
    let waiting = begun(&server, &["send", "AWAY", "ClearCache", "--ttl", "1h", "--key", "k1"])?;
    wait::until("the command is kept", async || {
        let ran = server.run(&["cancel", "AWAY", "k1"]).await.ok()?;
        (ran.code == 0).then_some(())
    })
    .await?;
    let (code, said) = ended(waiting).await?;
    assert!(code == Some(6) && said.contains("taken back"), "{code:?} {said}");
    let mut away = station(&server, "AWAY").await?;
    assert_eq!(away.ask(BOOT).await?[1], "b");

    // One that waits for its turn behind another, and the other one, which was written.
    let mut here = station(&server, "HERE").await?;
    here.ask(BOOT).await?;
    let written = begun(&server, &["send", "HERE", "ClearCache", "--key", "written"])?;
    let (id, action) = called(&mut here).await?;
    assert_eq!(action, "ClearCache");
    let queued = begun(&server, &["send", "HERE", "GetLocalListVersion", "--key", "a/b c", "--json"])?;
    wait::until("the second is taken back", async || {
        let ran = server.run(&["cancel", "HERE", "a/b c"]).await.ok()?;
        (ran.code == 0).then_some(())
    })
    .await?;
    let output = tokio::time::timeout(wait::DEADLINE, queued.wait_with_output()).await??;
    let outcome: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!((output.status.code(), &outcome["outcome"]), (Some(6), &json!("cancelled")), "{outcome}");
    let late = server.run(&["cancel", "HERE", "written"]).await?;
    assert!(late.code == 65 && late.stderr.contains("was written"), "{late:?}");
    here.send(&format!(r#"[3,"{id}",{{"status":"Accepted"}}]"#)).await?;
    assert_eq!(ended(written).await?.0, Some(0));
    let late = server.run(&["cancel", "HERE", "written"]).await?;
    assert!(late.code == 65 && late.stderr.contains("ended already: answered"), "{late:?}");
    let none = server.run(&["cancel", "HERE", "never"]).await?;
    assert!(none.code == 65 && none.stderr.contains("never"), "{none:?}");
    // Neither station was sent what was taken back: what comes next is what they ask for themselves.
    assert_eq!(here.ask(HEARTBEAT).await?[1], "h");
    assert_eq!(away.ask(HEARTBEAT).await?[1], "h");
    // Its key stays spent: whoever sends it again is told the same.
    let again = server.run(&["send", "AWAY", "ClearCache", "--ttl", "1h", "--key", "k1"]).await?;
    assert_eq!(again.code, 6, "{again:?}");
    Ok(())
}

#[tokio::test]
async fn who_waits_no_longer_is_told_what_may_still_become_of_the_command() -> Result<()> {
    let server = Switchboard::start(BINARY, &[]).await?;
    let mut here = station(&server, "HERE").await?;
    here.ask(BOOT).await?;
    let sent = begun(&server, &["send", "HERE", "ClearCache"])?;
    let (id, _) = called(&mut here).await?;
    interrupt(sent.id())?;
    let (code, said) = ended(sent).await?;
    assert!(code == Some(130) && said.contains("may or may not have acted"), "{code:?} {said}");
    // Its answer is nobody's now, and disturbs nobody.
    here.send(&format!(r#"[3,"{id}",{{"status":"Accepted"}}]"#)).await?;
    assert_eq!(here.ask(HEARTBEAT).await?[1], "h");

    let kept = ["send", "AWAY", "ClearCache", "--ttl", "1h", "--key", "k"];
    let mut sent = begun(&server, &kept)?;
    let kept = rusqlite::Connection::open(server.data_dir().join("directory.sqlite3"))?;
    wait::until("the command is kept", async || {
        kept.query_row("SELECT 1 FROM outbox WHERE id = 'k'", [], |_| Ok(())).ok()
    })
    .await?;
    ensure!(sent.try_wait()?.is_none(), "it waits");
    interrupt(sent.id())?;
    let (code, said) = ended(sent).await?;
    assert!(code == Some(130) && said.contains("if it comes within 1h"), "{code:?} {said}");
    let mut away = station(&server, "AWAY").await?;
    away.ask(BOOT).await?;
    assert_eq!(called(&mut away).await?.1, "ClearCache");
    Ok(())
}

#[tokio::test]
async fn told_to_stop_twice_it_stops_at_once_and_loses_nothing_that_was_answered() -> Result<()> {
    let mut server = Switchboard::start(BINARY, &["--gateway-drain-time", "10m"]).await?;
    let mut line = station(&server, "CP1").await?;
    // Others, so that the wave of closes has a length.
    let mut others = Vec::new();
    for number in 0..5 {
        others.push(station(&server, &format!("O{number}")).await?);
    }
    let start = r#"[2,"s","StartTransaction",{"connectorId":1,"idTag":"A","meterStart":0,"timestamp":"2026-01-01T00:00:00Z"}]"#;
    let first = line.ask(start).await?;
    interrupt(server.pid())?;
    wait::until("it drains", async || server.log().contains("once more stops at once").then_some(())).await?;
    ensure!(server.is_running(), "it waits for the drain");
    interrupt(server.pid())?;
    assert_eq!(server.ended().await?, Some(130));
    ensure!(server.log().contains("stopped at once"), "{}", server.log());
    // The books are whole: the same message again is the same transaction.
    server.start_again().await?;
    let mut line = station(&server, "CP1").await?;
    let again = line.ask(start).await?;
    assert_eq!(again[2]["transactionId"], first[2]["transactionId"]);
    Ok(())
}

/// Nobody else may write the books as long as this lives.
fn books_held(server: &Switchboard) -> Result<rusqlite::Connection> {
    let books = rusqlite::Connection::open(server.data_dir().join("central.db"))?;
    books.busy_timeout(Duration::from_secs(10))?;
    books.execute_batch("BEGIN IMMEDIATE")?;
    Ok(books)
}

#[tokio::test]
async fn s03_what_was_answered_unprocessed_and_then_refused_is_listed_until_it_is_settled() -> Result<()> {
    let server = Switchboard::start(
        BINARY,
        &["--gateway-answer-deadline", "1s", "--worker-strict", "--accept-unknown"],
    )
    .await?;
    let mut line = station(&server, "CP1").await?;
    line.ask(BOOT).await?;
    let none = server.run(&["journal"]).await?;
    assert!(none.code == 0 && none.stderr.contains("none was refused"), "{none:?}");

    let held = books_held(&server)?;
    let meter = |id: &str, value: &str| {
        format!(
            r#"[2,"{id}","MeterValues",{{"connectorId":1,"meterValue":[{{"timestamp":"2026-01-01T00:05:00Z","sampledValue":[{{"value":"{value}"}}]}}]}}]"#
        )
    };
    assert_eq!(line.ask(&meter("1", "5")).await?, json!([3, "1", {}]));
    // It follows the one before it into the journal, though nobody could ever process it.
    let wrong = r#"[2,"2","StatusNotification",{"connectorId":1,"errorCode":"NoError","status":"Dancing","info":"PRIVATE"}]"#;
    assert_eq!(line.ask(wrong).await?, json!([3, "2", {}]));
    let listed = server.run(&["journal", "--json"]).await?.json()?;
    assert_eq!((&listed["waiting"], &listed["refused"]), (&json!(2), &json!([])));
    drop(held);

    let listed = wait::until("one was processed, the other refused", async || {
        let listed = server.run(&["journal", "--json"]).await.ok()?.json().ok()?;
        (listed["waiting"] == 0).then_some(listed)
    })
    .await?;
    let refused = listed["refused"].as_array().context("no list")?;
    assert_eq!(refused.len(), 1, "{listed}");
    let one = &refused[0];
    assert_eq!((&one["station"], &one["action"]), (&json!("CP1"), &json!("StatusNotification")), "{one}");
    ensure!(one["why"].as_str().is_some_and(|why| why.contains("PropertyConstraintViolation")), "{one}");
    ensure!(!listed.to_string().contains("PRIVATE"), "{listed}");
    let shown = server.run(&["journal", "--show-personal"]).await?;
    assert!(shown.stdout.contains("PRIVATE") && shown.stdout.contains("StatusNotification"), "{shown:?}");
    let number = one["id"].to_string();
    assert_eq!(server.run(&["journal", "settle", &number]).await?.code, 0);
    let again = server.run(&["journal", "settle", &number]).await?;
    assert!(again.code == 65 && again.stderr.contains(&number), "{again:?}");
    assert_eq!(server.run(&["journal", "--json"]).await?.json()?["refused"], json!([]));
    Ok(())
}

#[tokio::test]
async fn v06_a_handler_that_fails_shows_nothing_of_its_inside() -> Result<()> {
    let mut server = Switchboard::start(BINARY, &["--gateway-answer-deadline", "1s"]).await?;
    let mut line = station(&server, "CP1").await?;
    line.ask(BOOT).await?;
    // Somebody has been at the books.
    let books = rusqlite::Connection::open(server.data_dir().join("central.db"))?;
    books.busy_timeout(Duration::from_secs(10))?;
    books.execute_batch("ALTER TABLE token RENAME TO gone")?;
    drop(books);
    let answer = line.ask(r#"[2,"1","Authorize",{"idTag":"V"}]"#).await?;
    assert_eq!((&answer[0], &answer[1], &answer[2]), (&json!(4), &json!("1"), &json!("InternalError")));
    let text = answer.to_string().to_lowercase();
    for inside in ["sql", "table", "token", "gone", "panick", ".rs", "database", "V\""] {
        ensure!(!text.contains(inside), "{answer}");
    }
    assert_eq!(answer[4], json!({}));
    assert_eq!(line.ask(HEARTBEAT).await?[0], 3);
    ensure!(server.is_running() && http::get(server.admin(), "/healthz").await?.0 == 200);
    // Whoever operates it is told.
    ensure!(server.log().contains("gone") || server.log().contains("no such table"), "{}", server.log());
    Ok(())
}

#[tokio::test]
async fn l03_the_ends_of_a_connection_frame_its_messages_and_are_told_once_each() -> Result<()> {
    let server =
        Switchboard::start(BINARY, &["--gateway-silence-max", "3s", "--gateway-ping-interval", "1s"]).await?;
    // As it happens, and as it was recorded. Whoever looks on is there when the first line comes.
    let mut watching = begun(&server, &["trace", "--all", "--json"])?;
    let mut live = BufReader::new(watching.stdout.take().context("no lines")?).lines();
    let mut probe = station(&server, "PROBE").await?;
    let mut told = Vec::new();
    while told.is_empty() {
        probe.ask(HEARTBEAT).await?;
        if let Ok(line) = tokio::time::timeout(Duration::from_millis(100), live.next_line()).await {
            told.push(serde_json::from_str::<Value>(&line?.context("no line")?)?);
        }
    }
    drop(probe);
    told.clear();

    let mut first = station(&server, "CP1").await?;
    first.ask(BOOT).await?;
    first.ask(HEARTBEAT).await?;
    let mut second = station(&server, "CP1").await?;
    assert_eq!(first.closed().await?, Some(1008));
    second.ask(HEARTBEAT).await?;
    drop(second);
    // A third that is faster than the second's end replaces it.
    told_until(&mut live, &mut told, 2).await?;
    let mut third = station(&server, "CP1").await?;
    third.ask(HEARTBEAT).await?;
    third.send("[").await?;
    // It falls silent: its socket stays, and nobody reads it.
    told_until(&mut live, &mut told, 3).await?;
    let ran = server.run(&["trace", "CP1", "--since", "1h", "--json"]).await?;
    let recorded: Vec<Value> =
        ran.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("odd lines")?;
    for lines in [&told, &recorded] {
        let mut generations: Vec<u64> = lines.iter().filter_map(|line| line["connection"].as_u64()).collect();
        generations.sort_unstable();
        generations.dedup();
        assert_eq!(generations.len(), 3, "{lines:#?}");
        for (generation, end) in generations.into_iter().zip(["replaced", "disconnected", "disconnected"]) {
            let of: Vec<&Value> = lines.iter().filter(|line| line["connection"] == generation).collect();
            let is = |line: &&Value, event: &str| line["event"] == event;
            assert!(of.first().is_some_and(|line| is(line, "connected")), "{of:#?}");
            assert!(of.last().is_some_and(|line| is(line, end)), "{end}: {of:#?}");
            assert!(of.len() >= 3, "{of:#?}");
            assert_eq!(of.iter().filter(|line| is(line, "connected")).count(), 1);
            assert_eq!(of.iter().filter(|line| is_end(line)).count(), 1);
            let last = of.last().context("nothing")?;
            ensure!(last["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{last}");
        }
    }
    let codes: Vec<&Value> = told.iter().filter(|line| is_end(line)).map(|line| &line["closeCode"]).collect();
    assert_eq!(codes[0], 1008, "{told:#?}");
    drop(third);
    Ok(())
}

/// Reads on until as many connections of CP1 are told to have ended.
async fn told_until(
    live: &mut Lines<BufReader<ChildStdout>>,
    told: &mut Vec<Value>,
    ends: usize,
) -> Result<()> {
    while told.iter().filter(|line| is_end(line)).count() < ends {
        let line = tokio::time::timeout(wait::DEADLINE, live.next_line()).await??.context("no line")?;
        let line: Value = serde_json::from_str(&line)?;
        if line["station"] == "CP1" {
            told.push(line);
        }
    }
    Ok(())
}

fn is_end(line: &Value) -> bool {
    line["event"] == "disconnected" || line["event"] == "replaced"
}
