//! Our own workers: S01, S02, S03, S06, and commands.

use crate::support::{
    BINARY, Place, booted, metric_at_least, next, obey, start, station, status, transactions,
};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use switchboard_testkit::{
    Certificates, Charger, RawStation, Software, Switchboard, http, servers::free_address, wait,
};

const AGAIN: &str = "switchboard_gateway_calls_handed_over_again_total";

/// A charger that others wrote charges and is commanded, from the worker and by hand at the gateway.
#[tokio::test]
async fn a_charger_charges_and_is_commanded_over_http() -> Result<()> {
    let test = "http_bus::charger";
    let Some(place) = Place::new(test).await? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python16)? else { return Ok(()) };
    let door = free_address()?.to_string();
    let gateway = place.gateway(&place.bus(true), &["--bus-listen", &door, "--gateway-id", "gw"]).await?;
    let worker = place.worker(0).await?;
    charger.does("connect", json!({ "url": gateway.url("CP1"), "protocols": ["ocpp1.6"] })).await?;
    charger.does("boot", json!({})).await?;
    let time = "2026-11-23T09:00:00Z";
    let started = charger.does("start", json!({ "tag": "A1", "meter": 0, "timestamp": time })).await?;
    let stop = json!({ "transactionId": started["transaction"] }).to_string();
    let sent = worker.run(&["send", "CP1", "RemoteStopTransaction", &stop]).await?;
    ensure!(sent.code == 0 && sent.stdout.contains("Accepted"), "{sent:?}");
    // With a key it goes through the outbox, and its outcome is posted to the worker.
    let sent = worker.run(&["send", "CP1", "RemoteStopTransaction", &stop, "--key", "once"]).await?;
    ensure!(sent.code == 0 && sent.stdout.contains("Accepted"), "{sent:?}");
    charger.does("stop", json!({ "meter": 5, "timestamp": time })).await?;
    ensure!(transactions(&worker).await?.len() == 1, "one");
    let list = worker.run(&["stations", "--json"]).await?.json()?;
    ensure!(list["stations"][0]["id"] == "CP1", "{list}");

    // By hand, as whoever has no inbox on the bus does.
    let post = |body: &str| {
        format!(
            "POST /gateway/v1/commands HTTP/1.1\r\nhost: gw\r\nconnection: close\r\nocpp-station: CP1\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let door = door.parse()?;
    let said =
        http::exchange(door, post(r#"[2,"7","DataTransfer",{"vendorId":"nobody"}]"#).as_bytes()).await?;
    ensure!(said.contains("ocpp-outcome: refused\r\n") && said.contains("NotImplemented"), "{said}");
    charger.does("drop", json!({})).await?;
    wait::until("the station gone", async || {
        let said = http::exchange(door, post(r#"[2,"8","ClearCache",{}]"#).as_bytes()).await.ok()?;
        said.contains("ocpp-outcome: offline\r\n").then_some(())
    })
    .await?;
    let sent = worker.run(&["send", "CP1", "ClearCache"]).await?;
    ensure!(sent.code == 3 && sent.stderr.contains("not connected"), "{sent:?}");
    Ok(())
}

/// The call is in the hands of the one that dies; the other has it at once.
#[tokio::test]
async fn s02_a_worker_that_is_killed_with_calls_in_hand_costs_none_of_them() -> Result<()> {
    let Some(place) = Place::new("http_bus::killed").await? else { return Ok(()) };
    let bus = place.bus(true);
    let gateway = place.gateway(&bus, &[]).await?;
    let (mut first, second) = (place.worker(0).await?, place.worker(1).await?);
    let mut stations = Vec::new();
    for number in 0..8 {
        stations.push(booted(&gateway, &format!("CP{number}")).await?);
    }
    // It takes calls and does not move. Nobody asks for its health here, so that only its death tells.
    first.freeze()?;
    for station in &mut stations {
        station.send(&start("s", 1)).await?;
    }
    wait::until("the other one's transactions", async || {
        let count = transactions(&second).await.ok()?.len();
        (count >= stations.len() / 2).then_some(())
    })
    .await?;
    first.kill().await?;
    for station in &mut stations {
        let answer = next(station).await?;
        ensure!(answer[0] == 3 && answer[1] == "s", "{answer}");
    }
    ensure!(transactions(&second).await?.len() == stations.len(), "each once");
    metric_at_least(&gateway, AGAIN, 1.0).await?;

    // And all of them gone: the calls wait for one that comes.
    drop(second);
    for station in &mut stations {
        station.send(&start("t", 2)).await?;
    }
    let third = place.worker(0).await?;
    for station in &mut stations {
        let answer = next(station).await?;
        ensure!(answer[0] == 3 && answer[1] == "t", "{answer}");
    }
    ensure!(transactions(&third).await?.len() == 2 * stations.len(), "each once");
    ensure!(gateway.metric("switchboard_gateway_connections").await? >= 8.0, "no socket was closed");
    Ok(())
}

/// It dies after the commit and before its answer. Its successor finds the answer in the books.
#[tokio::test]
async fn s02_a_worker_that_dies_between_effect_and_answer_leaves_one_effect() -> Result<()> {
    let Some(place) = Place::new("http_bus::killpoint").await? else { return Ok(()) };
    let gateway = place.gateway(&place.bus(true), &[]).await?;
    let bus = format!("http://{}/ocpp", place.functions[0]);
    let arguments = ["--bus", &bus, "--directory", &place.directory];
    let mut worker = Switchboard::worker(BINARY, &arguments).await?;
    let mut station = booted(&gateway, "CP1").await?;
    worker.kill().await?;
    worker.die_at(Some("books.after-commit:1"));
    // It may die as soon as it has written anything.
    drop(worker.start_again().await);
    station.send(&start("s", 1)).await?;
    worker.ended().await?;
    worker.die_at(None);
    worker.start_again().await?;
    let answer = next(&mut station).await?;
    ensure!(answer[0] == 3 && answer[1] == "s", "{answer}");
    ensure!(transactions(&worker).await?.len() == 1, "one");
    Ok(())
}

/// No connection breaks when a worker is frozen. Its health tells.
#[tokio::test]
async fn s01_the_calls_of_a_frozen_worker_are_handed_to_another() -> Result<()> {
    let Some(place) = Place::new("http_bus::frozen").await? else { return Ok(()) };
    let bus = place.bus(true).replace("idempotent=true", "idempotent=true&health=/ocpp");
    let gateway = place.gateway(&bus, &[]).await?;
    let (first, second) = (place.worker(0).await?, place.worker(1).await?);
    let mut stations = Vec::new();
    for number in 0..6 {
        stations.push(booted(&gateway, &format!("CP{number}")).await?);
    }
    first.freeze()?;
    for station in &mut stations {
        station.send(&start("s", 1)).await?;
    }
    for station in &mut stations {
        let answer = next(station).await?;
        ensure!(answer[0] == 3, "{answer}");
    }
    // It goes on with what it had in hand, which has had its effect.
    first.thaw()?;
    for station in &mut stations {
        ensure!(station.ask(&status("n", 0)).await?[0] == 3, "an answer");
    }
    ensure!(transactions(&second).await?.len() == stations.len(), "each once");
    Ok(())
}

/// What needs nothing of processing is journalled, what money hangs on closes the socket, and nobody new is let in.
#[tokio::test]
async fn s03_while_nobody_listens_the_class_of_a_call_decides() -> Result<()> {
    let Some(place) = Place::new("http_bus::nobody").await? else { return Ok(()) };
    let more = [
        "--gateway-answer-deadline",
        "1s",
        "--gateway-refuse-upgrades-after",
        "1s",
        "--gateway-retry-after",
        "60s",
    ];
    let gateway = place.gateway(&place.bus(false), &more).await?;
    let mut keeping = station(&gateway, "CP1").await?;
    let mut paying = station(&gateway, "CP2").await?;
    paying.send(&start("s", 1)).await?;
    let answer = keeping.ask(&status("n", 0)).await?;
    ensure!(answer[0] == 3 && answer[1] == "n", "{answer}");
    ensure!(paying.closed().await? == Some(1013), "the station keeps it");
    wait::until("upgrades refused", async || {
        let refused = RawStation::connect(&gateway.url("CP3"), &["ocpp1.6"]).await.ok()?;
        (refused.err() == Some(503)).then_some(())
    })
    .await?;
    let worker = place.worker(0).await?;
    metric_at_least(&gateway, "switchboard_gateway_journal_worked_off_total", 1.0).await?;
    let mut paying = booted(&gateway, "CP2").await?;
    ensure!(paying.ask(&start("s", 1)).await?[0] == 3, "it is sent again");
    ensure!(transactions(&worker).await?.len() == 1, "one");
    Ok(())
}

/// The one thing that is usually wrong is said, where it shows.
#[tokio::test]
async fn a_gateway_that_advertises_where_it_is_not_is_told_of() -> Result<()> {
    let Some(place) = Place::new("http_bus::advertise").await? else { return Ok(()) };
    let wrong = format!("http://{}", free_address()?);
    let gateway = place.gateway(&place.bus(true), &["--bus-advertise", &wrong]).await?;
    let worker = place.worker(0).await?;
    let mut station = booted(&gateway, "CP1").await?;
    let sent = worker.run(&["send", "CP1", "ClearCache"]).await?;
    ensure!(sent.code != 0, "{sent:?}");
    let log = worker.log();
    ensure!(log.contains("bus_advertise must be a URL that leads there"), "{log}");
    ensure!(log.contains(&wrong), "{log}");
    let answer = station.ask(r#"[2,"a","Heartbeat",{}]"#).await?;
    ensure!(answer[0] == 3, "calls take the other way: {answer}");
    Ok(())
}

/// Both directions with TLS, and with credentials.
#[tokio::test]
async fn https_with_an_authority_of_ones_own() -> Result<()> {
    let Some(place) = Place::new("http_bus::tls").await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let files = Certificates::make(folder.path(), "a gateway")?;
    let (certificate, key) = files.server();
    let [ca, certificate, key] = [files.authority(), certificate, key].map(|path| path.display().to_string());
    let bus = format!("https://localhost:{}/ocpp?idempotent=true&health=/ocpp", place.functions[0].port());
    let all = [
        "--bus",
        &bus,
        "--directory",
        &place.directory,
        "--bus-ca-file",
        &ca,
        "--bus-certificate-file",
        &certificate,
        "--bus-key-file",
        &key,
        "--bus-user",
        "switchboard",
        "--bus-password",
        "of the bus",
    ];
    let address = free_address()?;
    let (listen, advertise) = (address.to_string(), format!("https://localhost:{}", address.port()));
    let door = ["--bus-listen", listen.as_str(), "--bus-advertise", advertise.as_str()];
    let gateway = Switchboard::gateway(BINARY, &[&all[..], &door].concat()).await?;
    let worker = Switchboard::worker(BINARY, &all).await?;
    let mut station = booted(&gateway, "CP1").await?;
    let (sent, obeyed) = tokio::join!(
        worker.run(&["send", "CP1", "ClearCache"]),
        obey(&mut station, "ClearCache", r#"{"status":"Accepted"}"#)
    );
    obeyed?;
    let sent = sent?;
    ensure!(sent.code == 0 && sent.stdout.contains("Accepted"), "{sent:?}");
    // Without a certificate that it believes, a gateway says nothing to the worker.
    drop(gateway);
    let elsewhere = files.stranger().display().to_string();
    let stranger = [
        "--bus",
        &bus,
        "--bus-ca-file",
        &elsewhere,
        "--directory",
        &place.directory,
        "--gateway-answer-deadline",
        "500ms",
        "--bus-listen",
        "127.0.0.1:0",
    ];
    let stranger = Switchboard::gateway(BINARY, &stranger).await?;
    let mut station = self::station(&stranger, "CP9").await?;
    let answer = station.ask(r#"[2,"a","Authorize",{"idTag":"A1"}]"#).await?;
    ensure!(answer[0] == 4 && answer[2] == "InternalError", "{answer}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_work_over_http_ends_with_what_to_do() -> Result<()> {
    let directory = "postgres://127.0.0.1/switchboard";
    for (role, arguments, advice) in [
        ("gateway", vec!["--bus-listen", "0.0.0.0:0"], "bus_advertise"),
        ("gateway", vec!["--bus-listen", "0.0.0.0:0"], "bus_password"),
        ("worker", vec!["--bus", "http://functions.example/ocpp"], "bus_listen"),
        ("worker", vec!["--bus", "http://127.0.0.1:1/,127.0.0.1:2"], "bus_listen"),
    ] {
        let mut all = vec!["check-config", "--role", role, "--directory", directory];
        if !arguments.contains(&"--bus") {
            all.extend(["--bus", "http://127.0.0.1:8090/ocpp"]);
        }
        all.extend(&arguments);
        let folder = tempfile::tempdir()?;
        let output =
            tokio::process::Command::new(BINARY).current_dir(folder.path()).args(&all).output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(advice), "{all:?}: {said}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").context("a port")?;
    let bus = format!("http://{}/ocpp", taken.local_addr()?);
    let mut worker = Switchboard::begin(BINARY, "worker", &["--bus", &bus, "--directory", directory])?;
    ensure!(worker.ended().await? != Some(0), "its port is taken");
    ensure!(worker.log().contains("--bus-listen"), "{}", worker.log());
    Ok(())
}
