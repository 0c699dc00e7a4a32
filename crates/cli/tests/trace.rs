//! `switchboard trace` from outside: pairs, filters, the record on disk, what is never shown, slow readers, restarts.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};
use switchboard_testkit::{Charger, RawStation, Software, Switchboard, http, wait};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
const BOOT: &str = r#"[2,"b1","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#;

/// What was recorded, as far as these flags ask for it.
async fn recorded(server: &Switchboard, flags: &[&str]) -> Result<Vec<Value>> {
    let ran = server.run(&[&["trace", "--json"], flags].concat()).await?;
    ensure!(ran.code == 0, "{ran:?}");
    ran.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

async fn station(server: &Switchboard, id: &str, subprotocol: &str) -> Result<RawStation> {
    let connected = RawStation::connect(&server.url(id), &[subprotocol]).await?;
    connected.map_err(|status| anyhow::anyhow!("refused with {status}"))
}

/// A running `switchboard trace`.
struct Reader {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    notes: Lines<BufReader<ChildStderr>>,
}

impl Reader {
    fn start(server: &Switchboard, flags: &[&str]) -> Result<Self> {
        let mut child = Command::new(BINARY)
            .arg("trace")
            .args(flags)
            .args(["--api", &server.api().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let notes = BufReader::new(child.stderr.take().context("no errors")?).lines();
        Ok(Self { child, lines, notes })
    }

    async fn line(&mut self) -> Result<String> {
        timeout(wait::DEADLINE, self.lines.next_line()).await??.context("the trace has ended")
    }

    async fn note(&mut self, word: &str) -> Result<String> {
        loop {
            let note = timeout(wait::DEADLINE, self.notes.next_line()).await??.context("no such note")?;
            if note.contains(word) {
                return Ok(note);
            }
        }
    }

    /// Ctrl-C.
    async fn interrupt(mut self) -> Result<i32> {
        let pid =
            self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).context("no process")?;
        kill_process(pid, Signal::INT)?;
        Ok(timeout(wait::DEADLINE, self.child.wait()).await??.code().unwrap_or(-1))
    }
}

fn segments(server: &Switchboard) -> Vec<PathBuf> {
    let entries = fs::read_dir(server.data_dir().join("trace")).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "trace"));
    paths.sort();
    paths
}

/// Everything in the folder of the record.
fn on_disk(folder: &Path) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder.join("trace"))? {
        all.extend(fs::read(entry?.path())?);
    }
    Ok(all)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn calls_of_chargers_of_others_are_shown_with_their_answers() -> Result<()> {
    for (software, start, action) in [
        (Software::Python16, "RemoteStartTransaction", "StartTransaction"),
        (Software::Python201, "RequestStartTransaction", "TransactionEvent"),
    ] {
        let test = "calls_of_chargers_of_others_are_shown_with_their_answers";
        let Some(mut charger) = Charger::start(test, software)? else { return Ok(()) };
        let server = Switchboard::start(BINARY, &[]).await?;
        let url = json!({ "url": server.url("CP1"), "protocols": [software.subprotocol()] });
        charger.does("connect", url).await?;
        charger.does("boot", json!({})).await?;
        charger.does("authorize", json!({ "tag": "SECRETTAG" })).await?;
        charger
            .does("start", json!({ "tag": "SECRETTAG", "meter": 0, "timestamp": "2026-01-01T00:00:00Z" }))
            .await?;
        let payload = if software == Software::Python16 {
            json!({ "idTag": "SECRETTAG", "connectorId": 1 })
        } else {
            json!({ "idToken": { "idToken": "SECRETTAG", "type": "ISO14443" }, "remoteStartId": 7, "evseId": 1 })
        };
        let sent = server.run(&["send", "CP1", start, &payload.to_string()]).await?;
        ensure!(sent.code == 0, "{sent:?}");

        let lines = recorded(&server, &["CP1", "--since", "1h"]).await?;
        ensure!(lines[0]["event"] == "connected", "{lines:#?}");
        let of = |action: &str| lines.iter().find(|line| line["action"] == action).context("no such call");
        for (action, direction) in
            [("BootNotification", "in"), ("Authorize", "in"), (action, "in"), (start, "out")]
        {
            let line = of(action)?;
            assert_eq!((&line["outcome"], &line["direction"]), (&json!("ok"), &json!(direction)), "{line}");
            assert!(line["latencyMs"].as_f64().is_some_and(|latency| latency > 0.0), "{line}");
        }
        assert_eq!(of("BootNotification")?["response"]["status"], "Accepted");
        // The same tag is the same digest everywhere.
        let shown = lines.iter().map(ToString::to_string).collect::<String>();
        ensure!(!shown.contains("SECRETTAG"), "{shown}");
        let digest = of("Authorize")?["request"].to_string();
        let digest = digest.split('…').nth(1).and_then(|rest| rest.get(..8)).context("no digest")?;
        assert!(shown.matches(digest).count() >= 3, "{digest} in {shown}");
        ensure!(!holds(&on_disk(&server.data_dir())?, "SECRETTAG"), "the tag is on disk");
        // Who asks does not get what was not kept; live it is there.
        let personal = recorded(&server, &["CP1", "--since", "1h", "--show-personal"]).await?;
        ensure!(!personal.iter().any(|line| line.to_string().contains("SECRETTAG")));
        let mut reader = Reader::start(&server, &["CP1", "--show-personal"])?;
        reader.note("as it happens").await?;
        charger.does("authorize", json!({ "tag": "SECRETTAG" })).await?;
        let line = reader.line().await?;
        ensure!(line.contains("→ Authorize") && line.contains("SECRETTAG"), "{line}");
        assert_eq!(reader.interrupt().await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn what_goes_wrong_is_found_by_asking_for_errors() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--gateway-command-timeout", "300ms"]).await?;
    assert_eq!(RawStation::connect(&server.url("CP1"), &["ocpp9"]).await?.err(), Some(400));
    let mut station = station(&server, "CP1", "ocpp1.6").await?;
    station.ask(BOOT).await?;
    station.ask(r#"[2,"u1","Frobnicate",{"password":"SECRET77"}]"#).await?;
    station.send(r#"{"idTag":"SECRETTAG""#).await?;
    let timeouts = server.run(&["send", "CP1", "Reset", r#"{"type":"Soft"}"#, "--timeout", "300ms"]).await?;
    assert_eq!(timeouts.code, 8, "{timeouts:?}");
    let reset: Value = serde_json::from_str(&station.receive().await?)?;
    station.send(&json!([3, reset[1], { "status": "Accepted" }]).to_string()).await?;
    station.ask(r#"[2,"h1","Heartbeat",{}]"#).await?;

    let errors = recorded(&server, &["--all", "--errors", "--since", "1h"]).await?;
    let seen: Vec<_> = errors.iter().map(|line| (&line["event"], &line["outcome"])).collect();
    let none = Value::Null;
    let expected = ["refused", "call", "bad", "call", "unmatched"].map(Value::from);
    let outcomes = [&none, &"error".into(), &none, &"timeout".into(), &none];
    assert_eq!(seen, expected.iter().zip(outcomes).collect::<Vec<_>>(), "{errors:#?}");
    assert_eq!((&errors[0]["status"], &errors[0]["station"]), (&json!(400), &json!("CP1")));
    assert_eq!(errors[1]["error"]["code"], "NotImplemented");
    assert_eq!(
        (&errors[3]["action"], &errors[4]["reason"]),
        (&json!("Reset"), &json!("the answer came too late"))
    );
    let shown = format!("{errors:?}");
    ensure!(!shown.contains("SECRET"), "{shown}");

    for (flags, expected) in [
        (vec!["--action", "boot*"], vec!["BootNotification"]),
        (vec!["--action", "Boot*", "--action", "Heartbeat"], vec!["BootNotification", "Heartbeat"]),
        // The deadline runs from when the command came, latency from when its frame went: a little less.
        (vec!["--direction", "out", "--slow", "150ms"], vec!["Reset"]),
        (vec!["--version", "2.0.1"], vec![]),
        (vec!["--action", "*", "--version", "1.6", "--last", "1"], vec!["Heartbeat"]),
        (vec!["--action", "Boot*", "--until", "1h"], vec![]),
    ] {
        let found = recorded(&server, &[&["C?1", "--since", "1h"], flags.as_slice()].concat()).await?;
        let actions: Vec<_> = found.iter().filter_map(|line| line["action"].as_str()).collect();
        assert_eq!(actions, expected, "{flags:?}");
    }
    let frames = recorded(&server, &["CP1", "--action", "Heartbeat", "--last", "1", "--frames"]).await?;
    assert_eq!(
        (&frames[0]["frame"], &frames[1]["frame"][0]),
        (&json!([2, "h1", "Heartbeat", {}]), &json!(3))
    );

    // For eyes, and not for a terminal: whole lines, no colours.
    let shown = server.run(&["trace", "--all", "--since", "1h"]).await?;
    ensure!(!shown.stdout.contains('\u{1b}') && shown.stdout.contains("✗ refused 400"), "{shown:?}");
    ensure!(
        shown.stdout.lines().any(|line| line.contains("← Reset") && line.contains("no answer")),
        "{shown:?}"
    );
    let (_, metrics) = http::get(server.admin(), "/metrics").await?;
    for metric in [
        "switchboard_trace_records_total",
        "switchboard_trace_entries_recorded_total",
        "switchboard_trace_ring_bytes",
    ] {
        ensure!(
            metrics.lines().any(|line| line.starts_with(metric) && !line.ends_with(" 0")),
            "{metric}:\n{metrics}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_record_survives_a_kill_and_is_read_with_and_without_a_process() -> Result<()> {
    let mut server = Switchboard::start(BINARY, &[]).await?;
    for round in 1..=3 {
        let mut station = station(&server, "CP1", "ocpp1.6").await?;
        station.ask(BOOT).await?;
        station.ask(&format!(r#"[2,"round{round}","Heartbeat",{{}}]"#)).await?;
        // It is on disk soon after, without having to end.
        wait::until("the call on disk", async || {
            holds(&on_disk(&server.data_dir()).ok()?, &format!("\"round{round}\"")).then_some(())
        })
        .await?;
        server.kill().await?;
        if round < 3 {
            server.start_again().await?;
        }
    }
    let heartbeats = ["CP1", "--action", "Heartbeat", "--since", "1h"];
    let ids = |lines: &[Value]| lines.iter().map(|line| line["id"].clone()).collect::<Vec<_>>();
    let all = [json!("round1"), json!("round2"), json!("round3")];
    // No process runs: the data directory is read.
    assert_eq!(ids(&recorded(&server, &heartbeats).await?), all);
    let live = server.run(&["trace", "CP1"]).await?;
    assert_eq!(live.code, 69, "what happens now needs a process: {live:?}");

    let segments = segments(&server);
    assert_eq!(segments.len(), 3, "{segments:?}");
    let mut torn = fs::read(&segments[0])?;
    torn.extend([200, 0, 0, 0, 1, 2, 3]);
    fs::write(&segments[0], torn)?;
    let mut damaged = fs::read(&segments[1])?;
    damaged[40] ^= 0xff;
    fs::write(&segments[1], damaged)?;
    server.start_again().await?;
    let lines = recorded(&server, &heartbeats).await?;
    assert_eq!(ids(&lines), [json!("round1"), Value::Null, json!("round3")], "{lines:#?}");
    assert_eq!(lines[1]["event"], "damaged");
    ensure!(
        lines[1]["reason"].as_str().is_some_and(|reason| reason.contains("is damaged at byte")),
        "{}",
        lines[1]
    );
    Ok(())
}

#[tokio::test]
async fn a_reader_waits_for_a_process_that_is_started_again() -> Result<()> {
    let mut server = Switchboard::start(BINARY, &[]).await?;
    let mut reader = Reader::start(&server, &["--all", "--json"])?;
    reader.note("").await.ok();
    let mut first = station(&server, "CP1", "ocpp1.6").await?;
    let seen = async {
        loop {
            first.ask(BOOT).await?;
            if let Ok(line) = timeout(std::time::Duration::from_millis(300), reader.lines.next_line()).await {
                return line?.context("it has ended");
            }
        }
    };
    timeout(wait::DEADLINE, seen).await??;
    assert_eq!(server.terminate().await?, 0);
    reader.note("the process has gone").await?;
    server.start_again().await?;
    reader.note("connected again").await?;
    let mut second = station(&server, "AGAIN", "ocpp1.6").await?;
    second.ask(BOOT).await?;
    while !reader.line().await?.contains("AGAIN") {}
    assert_eq!(reader.interrupt().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed_and_holds_up_nobody() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--trace-lines-behind-max", "16", "--trace-ring", "0"]).await?;
    let mut slow = TcpStream::connect(server.api()).await?;
    let request = format!("GET /v1/trace HTTP/1.1\r\nHost: {}\r\n\r\n", server.api());
    slow.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    slow.read_exact(&mut head).await?;
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut station = station(&server, "CP1", "ocpp1.6").await?;
    let large = format!(r#"[2,"x","Frobnicate",{{"x":"{}"}}]"#, "y".repeat(200_000));
    // Until more has passed than sockets and queues hold: all of it is answered meanwhile.
    let missed = async {
        loop {
            for _ in 0..20 {
                station.ask(&large).await?;
            }
            let (_, metrics) = http::get(server.admin(), "/metrics").await?;
            let is_missed = |line: &&str| {
                line.starts_with("switchboard_trace_lines_missed_total ") && !line.ends_with(" 0")
            };
            if metrics.lines().any(|line| is_missed(&line)) {
                return anyhow::Ok(());
            }
        }
    };
    timeout(2 * wait::DEADLINE, missed).await??;
    let told = async {
        let mut text = Vec::new();
        let mut piece = vec![0; 1 << 20];
        loop {
            let length = slow.read(&mut piece).await?;
            ensure!(length > 0, "the stream has ended");
            text.extend_from_slice(&piece[..length]);
            if holds(&text[text.len().saturating_sub(length + 100)..], "\"event\":\"lagged\"") {
                return Ok(());
            }
        }
    };
    timeout(2 * wait::DEADLINE, told).await??;
    Ok(())
}

#[tokio::test]
async fn tags_are_kept_only_where_the_operator_says_so_and_passwords_never() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--trace-personal", "keep"]).await?;
    let mut station = station(&server, "CP1", "ocpp1.6").await?;
    station.ask(BOOT).await?;
    station.ask(r#"[2,"a1","Authorize",{"idTag":"SECRETTAG"}]"#).await?;
    let change = r#"{"key":"AuthorizationKey","value":"SECRETPASSWORD"}"#;
    let send = async { server.run(&["send", "CP1", "ChangeConfiguration", change]).await };
    let answer = async {
        let call: Value = serde_json::from_str(&station.receive().await?)?;
        station.send(&json!([4, call[1], "InternalError", "cannot set SECRETPASSWORD", {}]).to_string()).await
    };
    let (sent, answered) = tokio::join!(send, answer);
    answered?;
    assert_eq!(sent?.code, 1);
    let personal = recorded(&server, &["CP1", "--since", "1h", "--show-personal"]).await?;
    let others = recorded(&server, &["CP1", "--since", "1h"]).await?;
    let (personal, others) = (format!("{personal:?}"), format!("{others:?}"));
    ensure!(personal.contains("SECRETTAG") && !others.contains("SECRETTAG"), "{personal}\n{others}");
    ensure!(others.contains("cannot set …"), "{others}");
    let disk = on_disk(&server.data_dir())?;
    for (place, found) in [
        ("shown", personal.contains("SECRETPASSWORD") || others.contains("SECRETPASSWORD")),
        ("kept", holds(&disk, "SECRETPASSWORD")),
        ("logged", server.log().contains("SECRETPASSWORD")),
    ] {
        ensure!(!found, "the password is {place}");
    }
    ensure!(holds(&disk, "SECRETTAG"));
    Ok(())
}

#[tokio::test]
async fn who_asks_for_what_is_not_there_is_told_so() -> Result<()> {
    let mut server = Switchboard::start(BINARY, &["--trace-ring", "0"]).await?;
    for (flags, code, said) in [
        (vec!["CP1", "--since", "10m"], 65, "set trace.ring"),
        (vec!["CP1", "--since", "yesterday"], 65, "an age such as 10m"),
        (vec!["CP1", "--until", "2026-13-01"], 65, "until"),
        (vec!["CP1", "--last", "many"], 2, "--last"),
        (vec!["CP1", "--direction", "up"], 2, "in, out"),
    ] {
        let ran = server.run(&[&["trace"], flags.as_slice()].concat()).await?;
        ensure!(ran.code == code && ran.stderr.contains(said), "{flags:?}: {ran:?}");
    }
    let (status, body) = http::get(server.api(), "/v1/trace?stations=CP1").await?;
    ensure!(status == 400 && body.contains("there is no stations; there are station"), "{body}");
    server.kill().await?;
    let nothing = server.run(&["trace", "CP1", "--since", "10m"]).await?;
    ensure!(nothing.code == 65 && nothing.stderr.contains("nothing was recorded"), "{nothing:?}");
    Ok(())
}
