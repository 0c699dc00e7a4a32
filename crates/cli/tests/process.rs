//! The real binary from outside: what it prints, how it ends, what it survives.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};
use switchboard_testkit::{RawStation, Switchboard, http, servers::free_address, wait};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
const LIMIT: Duration = Duration::from_secs(180);

/// The binary in a folder of its own, without the settings of whoever runs the tests.
fn switchboard(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWITCHBOARD_"))
    {
        command.env_remove(name);
    }
    command.current_dir(folder).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it to its end: exit code, standard output, standard error.
async fn ran(folder: &Path, arguments: &[&str]) -> Result<(i32, String, String)> {
    let output = tokio::time::timeout(LIMIT, switchboard(folder, arguments).output()).await??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr)))
}

/// Starts `run` on free ports in this folder and waits for its addresses.
async fn started(folder: &Path, arguments: &[&str]) -> Result<(Child, Value)> {
    let ports = folder.join("ports.json");
    drop(std::fs::remove_file(&ports));
    let free = ["--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut command = switchboard(folder, &["run", "--ports-file", "ports.json"]);
    command.args(free).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn()?;
    let addresses = wait::until("the ports file", async || {
        serde_json::from_str(&std::fs::read_to_string(&ports).ok()?).ok()
    })
    .await?;
    Ok((child, addresses))
}

#[tokio::test]
async fn a_demonstration_charges_and_does_what_it_is_told() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--demo", "2", "--demo-speed", "2000"]).await?;
    let sessions = wait::until("ended transactions of both stations", async || {
        let list = server.run(&["transactions", "--json"]).await.ok()?.json().ok()?;
        let ended: Vec<Value> =
            list["transactions"].as_array()?.iter().filter(|one| one["state"] == "ended").cloned().collect();
        let of = |station: &str| ended.iter().any(|one| one["station"] == station);
        (of("DEMO001") && of("DEMO002")).then_some(ended)
    })
    .await?;
    for session in &sessions {
        ensure!(session["energyWh"].as_f64().is_some_and(|energy| energy > 0.0), "{session}");
        ensure!(session["token"] == "…", "a token is personal: {session}");
    }
    let shown = server.run(&["transactions", "--json", "--show-personal"]).await?.json()?;
    assert!(shown["transactions"][0]["token"].as_str().is_some_and(|token| token.len() > 4), "{shown}");

    let answer = server
        .run(&["send", "DEMO001", "RemoteStartTransaction", r#"{"idTag":"A1","connectorId":2}"#])
        .await?;
    assert_eq!((answer.code, answer.stdout.trim()), (0, r#"{"status":"Accepted"}"#), "{answer:?}");
    let answer = server
        .run(&[
            "send",
            "DEMO002",
            "GetBaseReport",
            r#"{"requestId":1,"reportBase":"FullInventory"}"#,
            "--json",
        ])
        .await?;
    assert_eq!(answer.json()?["payload"]["status"], "Accepted");
    let certificate = r#"{"certificateType":"CentralSystemRootCertificate","certificate":"x"}"#;
    let refused = server.run(&["send", "DEMO001", "InstallCertificate", certificate, "--json"]).await?;
    assert_eq!((refused.code, &refused.json()?["code"]), (1, &json!("NotSupported")), "{refused:?}");
    assert!(server.log().contains("DEMO001 to DEMO002"), "the banner says who is there: {}", server.log());
    Ok(())
}

#[tokio::test]
async fn a_wrong_command_is_told_with_its_place_and_exit_code() -> Result<()> {
    let server = Switchboard::start(BINARY, &[]).await?;
    let mut station = RawStation::connect(&server.url("CP1"), &["ocpp1.6"]).await?.map_err(refused)?;
    station.ask(r#"[2,"1","Heartbeat",{}]"#).await?;
    for (name, arguments, code, text) in [
        ("bad payload", &["CP1", "RemoteStartTransaction", "{}"][..], 65, "/idTag"),
        ("unknown action", &["CP1", "RemoteStart", "{}"], 65, "did you mean RemoteStartTransaction?"),
        ("wrong direction", &["CP1", "Heartbeat", "{}"], 65, "stations send"),
        ("no JSON", &["CP1", "Reset", "{"], 65, "not JSON"),
        ("no object, raw", &["CP1", "Reset", "[]", "--raw"], 65, "JSON object"),
        ("nobody there", &["CP9", "ClearCache"], 3, "not connected"),
        ("no id", &["a/b", "ClearCache"], 65, "identity"),
        ("no answer", &["CP1", "ClearCache", "--timeout", "200ms"], 8, "may or may not"),
        ("expired", &["CP9", "ClearCache", "--ttl", "100ms"], 5, "never sent"),
    ] {
        let mut words = vec!["send"];
        words.extend(arguments);
        let ran = server.run(&words).await?;
        assert_eq!(ran.code, code, "{name}: {ran:?}");
        assert!(ran.stderr.contains(text), "{name}: {ran:?}");
        assert_eq!(ran.stdout, "", "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn the_payload_can_come_from_standard_input() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, addresses) = started(folder.path(), &["--demo", "1"]).await?;
    let api = addresses["api"].as_str().context("no address")?;
    wait::until("the station", async || {
        let (_, list, _) = ran(folder.path(), &["stations", "--json", "--api", api]).await.ok()?;
        list.contains("accepted").then_some(())
    })
    .await?;
    let mut command = switchboard(folder.path(), &["send", "DEMO001", "GetConfiguration", "-", "--api", api]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(br#"{"key":["NumberOfConnectors"]}"#).await?;
    drop(input);
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await??;
    assert!(output.status.success());
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(answer["configurationKey"][0]["value"], "2");
    Ok(())
}

#[tokio::test]
async fn accounts_are_kept_with_and_without_a_running_process() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let password = "sixteen or more letters";
    // Nobody runs: on the data directory.
    let api = free_address()?.to_string();
    let data = ["--api", api.as_str(), "--data-dir", "data"];
    let with =
        |words: &[&'static str]| words.iter().copied().chain(data).map(str::to_owned).collect::<Vec<_>>();
    let run = async |words: &[&'static str]| {
        let words = with(words);
        ran(folder.path(), &words.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let (code, _, said) = run(&["stations", "add", "CP1", "--password", "sixteen or more letters"]).await?;
    assert_eq!(code, 0, "{said}");
    let (code, made, said) = run(&["stations", "add", "CP2"]).await?;
    assert_eq!((code, made.trim().len()), (0, 20), "{said}");
    assert_eq!(run(&["stations", "remove", "CP2"]).await?.0, 0);
    assert_eq!(run(&["stations", "remove", "CP2"]).await?.0, 65);

    // Restarted without a word in between, twice: what was registered is there.
    for _ in 0..2 {
        let data = folder.path().join("data");
        let (mut server, addresses) =
            started(folder.path(), &["--data-dir", "data", "--accept-unknown=false"]).await?;
        let url = format!("ws://{}/ocpp/CP1", addresses["stations"].as_str().context("no address")?);
        let good = RawStation::connect_as(&url, &["ocpp1.6"], Some(("CP1", password.as_bytes()))).await?;
        assert!(good.is_ok(), "the password is right");
        let bad =
            RawStation::connect_as(&url, &["ocpp1.6"], Some(("CP1", "another password".as_bytes()))).await?;
        assert_eq!(bad.err(), Some(401));
        let api = addresses["api"].as_str().context("no address")?;
        let (code, said, _) =
            ran(folder.path(), &["stations", "add", "CP3", "--no-password", "--json", "--api", api]).await?;
        assert_eq!((code, said.trim()), (0, r#"{"hasPassword":false,"id":"CP3"}"#));
        // Another process may not have the data now.
        let (code, _, said) = ran(
            folder.path(),
            &[
                "run",
                "--data-dir",
                "data",
                "--listen",
                "127.0.0.1:0",
                "--api-listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ],
        )
        .await?;
        assert_eq!(code, 69, "{said}");
        assert!(said.contains("belongs to another process"), "{said}");
        let log = std::fs::read_dir(&data)?.count();
        assert!(log > 0);
        server.kill().await?;
    }
    let (code, list, said) = run(&["stations", "--json"]).await?;
    let list: Value = serde_json::from_str(&list).with_context(|| format!("{code} {said}"))?;
    let ids: Vec<_> =
        list["stations"].as_array().context("no list")?.iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, ["CP1", "CP3"]);
    Ok(())
}

#[tokio::test]
async fn what_cannot_start_says_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    std::fs::write(folder.path().join("bad.toml"), "lisen = 1\n[gateway]\nping_interval = 30\n")?;
    let free = "127.0.0.1:0";
    for (name, arguments, code, texts) in [
        (
            "a port in use",
            &["--listen", &taken, "--api-listen", free, "--admin-listen", free][..],
            69,
            &["in use", "--listen"][..],
        ),
        (
            "the API's port in use",
            &["--listen", free, "--api-listen", &taken, "--admin-listen", free],
            69,
            &["in use", "--api-listen"],
        ),
        (
            "open to others",
            &["--listen", "0.0.0.0:0", "--api-listen", free, "--admin-listen", free],
            64,
            &["stations add", "--accept-unknown"],
        ),
        ("an open API", &["--api-listen", "0.0.0.0:0"], 64, &["api.token"]),
        (
            "a wrong file",
            &["--config", "bad.toml"],
            64,
            &["did you mean listen?", "gateway.ping_interval: 30", "2 faults"],
        ),
        ("no file", &["--config", "none.toml"], 64, &["none.toml"]),
        ("wrong directives", &["--log", "loud"], 64, &["log"]),
    ] {
        let mut words = vec!["run"];
        words.extend(arguments);
        let (found, _, said) = ran(folder.path(), &words).await?;
        assert_eq!(found, code, "{name}: {said}");
        for text in texts {
            assert!(said.contains(text), "{name}: {said}");
        }
    }
    let (code, _, said) = ran(folder.path(), &["stations", "--api", "somewhere"]).await?;
    assert_eq!(code, 64, "{said}");
    Ok(())
}

#[tokio::test]
async fn who_cannot_be_reached_and_who_asks_for_a_token_are_told_apart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nobody = free_address()?.to_string();
    assert_eq!(ran(folder.path(), &["send", "CP1", "Reset", "--api", &nobody]).await?.0, 69);
    assert_eq!(ran(folder.path(), &["trace", "CP1", "--api", &nobody]).await?.0, 69);
    let token = "0123456789abcdef";
    let (_server, addresses) = started(folder.path(), &["--api-token", token]).await?;
    let api = addresses["api"].as_str().context("no address")?;
    assert_eq!(ran(folder.path(), &["transactions", "--api", api]).await?.0, 77);
    assert_eq!(ran(folder.path(), &["trace", "--all", "--api", api]).await?.0, 77);
    let (code, said, _) =
        ran(folder.path(), &["stations", "--json", "--api", api, "--api-token", token]).await?;
    assert_eq!((code, serde_json::from_str::<Value>(&said)?), (0, json!({ "stations": [] })));
    Ok(())
}

#[tokio::test]
async fn the_trace_shows_traffic_without_personal_data() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, addresses) = started(folder.path(), &[]).await?;
    let api = addresses["api"].as_str().context("no address")?;
    let url = format!("ws://{}/ocpp/CP1", addresses["stations"].as_str().context("no address")?);
    let mut watching = switchboard(folder.path(), &["trace", "CP1", "--json", "--api", api]);
    let mut watching = watching.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut lines = BufReader::new(watching.stdout.take().context("no output")?).lines();
    // The watcher may begin to watch after the first calls; one of them will be the first that it sees.
    let mut station = RawStation::connect(&url, &["ocpp1.6"]).await?.map_err(refused)?;
    let seen = async {
        loop {
            station.ask(r#"[2,"a1","Authorize",{"idTag":"SECRETTAG"}]"#).await?;
            let next = tokio::time::timeout(Duration::from_millis(300), lines.next_line()).await;
            if let Ok(line) = next {
                let line = line?.context("the trace has ended")?;
                ensure!(!line.contains("SECRETTAG"), "{line}");
                let event: Value = serde_json::from_str(&line)?;
                if event["event"] == "call" {
                    return Ok(event);
                }
            }
        }
    };
    let event = tokio::time::timeout(LIMIT, seen).await??;
    assert_eq!(
        (&event["station"], &event["direction"], &event["action"], &event["outcome"], &event["id"]),
        (&json!("CP1"), &json!("in"), &json!("Authorize"), &json!("ok"), &json!("a1"))
    );
    let tag = event["request"]["idTag"].as_str().context("no tag")?;
    ensure!(tag.starts_with('…') && tag.chars().count() == 9, "{event}");
    assert_eq!(event["response"]["idTagInfo"]["status"], "Accepted");
    Ok(())
}

#[tokio::test]
async fn no_log_holds_a_tag_or_a_password() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--log", "trace"]).await?;
    let added = server.run(&["stations", "add", "CP1", "--password", "SECRETPASSWORD-1"]).await?;
    assert_eq!(added.code, 0, "{added:?}");
    let station = RawStation::connect_as(
        &server.url("CP1"),
        &["ocpp1.6"],
        Some(("CP1", "SECRETPASSWORD-1".as_bytes())),
    )
    .await?;
    let mut station = station.map_err(refused)?;
    station.ask(r#"[2,"1","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#).await?;
    station.ask(r#"[2,"2","Authorize",{"idTag":"SECRETTAG"}]"#).await?;
    station.ask(r#"[2,"3","Authorize",{"idTag":["SECRETTAG"]}]"#).await?;
    station.ask(r#"[2,"4","StartTransaction",{"connectorId":1,"idTag":"SECRETTAG","meterStart":0,"timestamp":"2026-01-01T00:00:00Z"}]"#).await?;
    let wrong = RawStation::connect_as(
        &server.url("CP1"),
        &["ocpp1.6"],
        Some(("CP1", "SECRETPASSWORD-2".as_bytes())),
    )
    .await?;
    assert_eq!(wrong.err(), Some(401));
    drop(
        server
            .run(&["send", "CP1", "RemoteStartTransaction", r#"{"idTag":"SECRETTAG"}"#, "--timeout", "100ms"])
            .await?,
    );
    let log = server.log();
    assert!(log.contains("CP1"), "it logs something: {log}");
    for secret in ["SECRETTAG", "SECRETPASSWORD"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
    Ok(())
}

#[tokio::test]
async fn asked_to_end_it_closes_its_stations_and_ends_well() -> Result<()> {
    let mut server = Switchboard::start(BINARY, &[]).await?;
    let mut station = RawStation::connect(&server.url("CP1"), &["ocpp1.6"]).await?.map_err(refused)?;
    station.ask(r#"[2,"1","Heartbeat",{}]"#).await?;
    let ended = tokio::try_join!(server.terminate(), station.closed())?;
    assert_eq!(ended, (0, Some(1001)));
    Ok(())
}

#[tokio::test]
async fn a_station_of_2_1_is_offered_what_is_answered_unless_the_operator_says_otherwise() -> Result<()> {
    let offered = ["ocpp2.1", "ocpp2.0.1"];
    let server = Switchboard::start(BINARY, &[]).await?;
    let station = RawStation::connect(&server.url("CP1"), &offered).await?.map_err(refused)?;
    assert_eq!(station.subprotocol(), Some("ocpp2.1"));
    let server = Switchboard::start(BINARY, &["--gateway-versions", "1.6,2.0.1"]).await?;
    let station = RawStation::connect(&server.url("CP1"), &offered).await?.map_err(refused)?;
    assert_eq!(station.subprotocol(), Some("ocpp2.0.1"));
    Ok(())
}

/// Whoever rolls a file out asks `check-config`, and not the process that then does not start.
#[tokio::test]
async fn check_config_names_what_drivers_would_refuse() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let postgres = "postgres://user@127.0.0.1:1/switchboard";
    for (bus, directory, more, expected) in [
        ("nats://127.0.0.1:1?mode=bare", postgres, &[][..], &["bus"][..]),
        ("mqtt://127.0.0.1:1?mode=raw", postgres, &[], &["bus"]),
        ("amqp://127.0.0.1:1?frames=1", postgres, &[], &["bus"]),
        ("http://127.0.0.1:1?health=x", postgres, &[], &["bus"]),
        ("tls://127.0.0.1:1", postgres, &["--bus-certificate-file", "none.pem"], &["bus"]),
        ("tls://127.0.0.1:1", postgres, &["--bus-ca-file", "none.pem"], &["bus"]),
        ("nats://127.0.0.1:1", "postgres://127.0.0.1:1/nobody", &[], &["directory"]),
        ("nats://127.0.0.1:1", postgres, &["--database", "postgres://127.0.0.1:1/nobody"], &["database"]),
        ("nats://127.0.0.1:1", postgres, &["--database", postgres], &[]),
    ] {
        let mut arguments = vec!["check-config", "--json", "--bus", bus, "--directory", directory];
        arguments.extend(more);
        let (code, text, _) = ran(folder.path(), &arguments).await?;
        let said: Value = serde_json::from_str(&text)?;
        let places: Vec<&str> =
            said["faults"].as_array().into_iter().flatten().filter_map(|one| one["place"].as_str()).collect();
        let exit = if expected.is_empty() { 0 } else { 64 };
        assert_eq!((places.as_slice(), code), (expected, exit), "{bus} {directory} {more:?}: {text}");
    }
    let (code, text, _) = ran(folder.path(), &["check-config", "--json", "--listen", "nowhere"]).await?;
    let said: Value = serde_json::from_str(&text)?;
    assert_eq!((code, &said["faults"][0]["place"]), (64, &json!("--listen")));
    Ok(())
}

#[tokio::test]
async fn the_exit_codes_are_where_the_documents_say() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (code, text, _) = ran(folder.path(), &["--help"]).await?;
    assert!(
        code == 0 && text.contains("Exit codes:") && text.contains("130  run: stopped at once"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn a_password_of_bytes_is_refused_with_what_to_do_and_a_short_one_is_told_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut adding = switchboard(folder.path(), &["stations", "add", "CP1", "--password-stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    adding.stdin.take().context("no standard input")?.write_all(b"sixteen or more \xff\n").await?;
    let ended = adding.wait_with_output().await?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(65) && said.contains("hexadecimal"), "{said}");
    let (code, _, said) = ran(folder.path(), &["stations", "add", "CP1", "--password", "short"]).await?;
    assert!(code == 0 && said.contains("can be guessed"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_admin_port_tells_health_and_metrics() -> Result<()> {
    let server = Switchboard::start(BINARY, &["--demo", "1"]).await?;
    assert_eq!(http::get(server.admin(), "/healthz").await?.0, 200);
    let metrics = wait::until("calls that were taken", async || {
        let (status, text) = http::get(server.admin(), "/metrics").await.ok()?;
        let taken =
            text.lines().find_map(|line| line.strip_prefix("switchboard_worker_calls_taken_total "))?;
        (status == 200 && taken.trim() != "0").then_some(text)
    })
    .await?;
    assert!(metrics.contains("switchboard_gateway_") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(!metrics.contains("DEMO001"), "a station's id is never a label");
    assert!(metrics.contains("process_resident_memory_bytes "), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn the_reference_and_the_version_are_printed_without_any_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (code, text, _) = ran(folder.path(), &["check-config", "--print-reference"]).await?;
    assert_eq!(code, 0);
    assert!(text.contains("SWITCHBOARD_GATEWAY_PING_INTERVAL") && text.contains("### `listen`"), "{text}");
    let (code, text, _) = ran(folder.path(), &["--version"]).await?;
    assert_eq!((code, text.trim()), (0, concat!("switchboard ", env!("CARGO_PKG_VERSION"))));
    let (code, text, _) = ran(folder.path(), &["check-config", "--json", "--listen", "127.0.0.1:1"]).await?;
    let shown: Value = serde_json::from_str(&text)?;
    assert_eq!((code, &shown["listen"]), (0, &json!({ "value": "127.0.0.1:1", "source": "flag" })));
    Ok(())
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut child =
        switchboard(folder.path(), &["check-config", "--print-reference"]).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("no output")?;
    let mut start = [0; 1];
    output.read_exact(&mut start).await?;
    drop(output);
    let status = tokio::time::timeout(LIMIT, child.wait()).await??;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

/// The status of an upgrade that was refused, as an error.
fn refused(status: u16) -> anyhow::Error {
    anyhow::anyhow!("the upgrade was refused with {status}")
}

#[tokio::test]
async fn a_process_that_logs_little_runs_and_stops_like_any_other() -> Result<()> {
    // One of these was over at once when it did not log: what it waited for stood in the line of the log.
    for level in ["error", "off"] {
        let mut server = Switchboard::start(BINARY, &["--log", level]).await?;
        let mut station = RawStation::connect(&server.url("CP1"), &["ocpp1.6"]).await?.map_err(refused)?;
        for number in 0..20 {
            let answer = station.ask(&format!(r#"[2,"{number}","Heartbeat",{{}}]"#)).await?;
            assert_eq!(answer[0], 3, "{level}: {answer}");
        }
        let (code, closed) = tokio::join!(server.terminate(), station.closed());
        assert_eq!((code?, closed?), (0, Some(1001)), "{level}");
    }
    Ok(())
}
