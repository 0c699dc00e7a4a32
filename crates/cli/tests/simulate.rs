//! Populations of simulated stations against the real server: what they sold is what its books say.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{process::Stdio, time::Duration};
use switchboard_testkit::{Switchboard, TlsFront, http, wait};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
/// A day takes half a minute; this is for a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(300);

const SERVER: &[&str] = &["--log", "error"];

/// A day with everything that can come between: lines, power, faults.
const DAY: &str = r#"
about = "a day of few visits, with every trouble"
hours = 24
begins_at = 4
switch_on_seconds = 3

[arrivals]
per_connector = 1.2
by_hour = [1, 1, 1, 1, 1, 2, 4, 6, 6, 5, 4, 4, 5, 5, 4, 4, 6, 7, 7, 5, 4, 3, 2, 1]

[session]
no_show = 0.05

[stations]
meter_minutes = 45
station_share = 0.8

[offline]
a_day = 0.3
minutes = [20, 60, 180]

[[offline.together]]
at_hour = 8
minutes = 90
share = 0.3

[faults]
share = 0.05
power_losses_a_day = 0.1
"#;

/// A running `switchboard simulate`.
struct Simulation {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _folder: tempfile::TempDir,
}

impl Simulation {
    fn start(server: &Switchboard, scenario: &str, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("scenario.toml");
        std::fs::write(&file, scenario)?;
        let mut command = Command::new(BINARY);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SWITCHBOARD_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(folder.path())
            .args(["simulate", server.url("").trim_end_matches('/'), "--scenario"])
            .arg(&file)
            .args(["--progress", "json", "--json", "--finish", "120s", "--check"])
            .arg(format!("http://{}", server.api()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Self { child, lines, _folder: folder })
    }

    async fn line(&mut self) -> Result<Value> {
        let line = self.lines.next_line().await?.context("it ended without a summary")?;
        serde_json::from_str(&line).with_context(|| line.clone())
    }

    /// Waits until its own time is at this hour.
    async fn hour(&mut self, hour: f64) -> Result<()> {
        while self.line().await?["hours"].as_f64().context("no hours")? < hour {}
        Ok(())
    }

    /// Its exit code and its summary.
    async fn ended(mut self) -> Result<(Option<i32>, Value)> {
        loop {
            let line = self.line().await?;
            if line.get("perStation").is_some() {
                return Ok((self.child.wait().await?.code(), line));
            }
        }
    }
}

/// Both books hold the same, and nothing is open.
fn agree(code: Option<i32>, summary: &Value) -> Result<()> {
    let check = &summary["check"];
    ensure!(check["differences"].as_array().is_some_and(Vec::is_empty), "{check}");
    ensure!(code == Some(0) && summary["consistent"] == true, "{code:?} {summary}");
    ensure!(check["transactions"] == summary["transactions"], "{check}");
    ensure!(check["stationsWh"] == summary["energyWh"], "{check}");
    ensure!(check["serverWh"].as_f64() == summary["energyWh"].as_f64(), "{check}");
    ensure!(summary["givenUp"] == 0 && summary["unanswered"] == 0, "{summary}");
    Ok(())
}

#[tokio::test]
async fn a_day_of_500_stations_adds_up_although_the_server_is_killed_at_noon() -> Result<()> {
    tokio::time::timeout(LIMIT, async {
        let mut server = Switchboard::start(BINARY, SERVER).await?;
        let arguments =
            ["--stations", "500", "--speed", "2400", "--versions", "1.6=50,2.0.1=30,2.1=20", "--seed", "7"];
        let mut simulation = Simulation::start(&server, DAY, &arguments)?;
        simulation.hour(12.0).await?;
        server.kill().await?;
        server.start_again().await?;
        let (code, summary) = simulation.ended().await?;
        agree(code, &summary)?;
        ensure!(summary["transactions"].as_u64() > Some(500), "too few to say anything: {summary}");
        ensure!(summary["connections"].as_u64() > Some(1000), "the lines were to fail: {summary}");
        let stations = summary["perStation"].as_array().context("no stations")?;
        let of = |version: &str| stations.iter().filter(|one| one["version"] == version).count();
        ensure!(of("1.6") > 200 && of("2.0.1") > 100 && of("2.1") > 80, "all versions are mixed");
        Ok(())
    })
    .await?
}

#[tokio::test]
async fn whatever_stations_do_wrong_the_server_lives_and_bills_rightly() -> Result<()> {
    tokio::time::timeout(LIMIT, async {
        let server = Switchboard::start(BINARY, SERVER).await?;
        let short = DAY.replace("hours = 24", "hours = 10").replace("begins_at = 4", "begins_at = 7");
        let busy = short.replace("per_connector = 1.2", "per_connector = 8");
        let listed = server.run(&["simulate", "--quirks", "list", "--json"]).await?.json()?;
        let names: Vec<&str> =
            listed.as_array().context("no list")?.iter().filter_map(|one| one["name"].as_str()).collect();
        // Each quirk in each version: the books of a station of 1.6 say nothing of one of 2.1.
        let number = names.len().to_string();
        let start = |version, prefix| {
            let arguments = [
                "--stations",
                &number,
                "--speed",
                "3600",
                "--versions",
                version,
                "--prefix",
                prefix,
                "--quirks",
                "all",
                "--compress",
            ];
            Simulation::start(&server, &busy, &arguments)
        };
        let (old, new, newer) = (start("1.6", "A")?, start("2.0.1", "B")?, start("2.1", "C")?);
        let (old, new, newer) = tokio::join!(old.ended(), new.ended(), newer.ended());
        for ended in [old, new, newer] {
            let (code, summary) = ended?;
            let stations = summary["perStation"].as_array().context("no stations")?;
            ensure!(stations.len() == names.len(), "{summary}");
            for name in &names {
                let of = |one: &&Value| one["quirks"][0] == *name;
                let station = stations.iter().find(of).with_context(|| format!("nobody with {name}"))?;
                ensure!(
                    station["transactions"].as_u64() > Some(0),
                    "nobody with {name} has charged: {station}"
                );
                // A status without a status can only be refused; all else is borne.
                ensure!(station["refused"] == 0 || *name == "statusless-status", "{name}: {station}");
            }
            agree(code, &summary)?;
        }
        let (_, metrics) = http::get(server.admin(), "/metrics").await?;
        let counted = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(name))?;
            line.rsplit(' ').next()?.parse::<u64>().ok()
        };
        // The server's answers are too short to be worth it.
        let compressed = counted("switchboard_gateway_received_compressed_bytes");
        ensure!(compressed > Some(10_000), "{compressed:?}");
        ensure!(
            matches!(http::get(server.admin(), "/readyz").await, Ok((200, _))),
            "it is not ready any more"
        );
        Ok(())
    })
    .await?
}

/// Runs a command until what it prints is right, whatever its exit code.
async fn comes_to(server: &Switchboard, words: &[&str], right: impl Fn(&Value) -> bool) -> Result<Value> {
    let last = std::cell::RefCell::new(Value::Null);
    let found = wait::until(format!("{words:?}"), async || {
        let shown = server.run(&[words, &["--json"][..]].concat()).await.ok()?.json().ok()?;
        let found = right(&shown).then(|| shown.clone());
        last.replace(shown);
        found
    });
    found.await.with_context(|| last.borrow().to_string())
}

#[tokio::test]
async fn what_stations_tell_oddly_of_themselves_is_understood() -> Result<()> {
    tokio::time::timeout(LIMIT, async {
        let server = Switchboard::start(BINARY, SERVER).await?;
        let idle =
            DAY.replace("per_connector = 1.2", "per_connector = 0").replace("share = 0.3", "share = 0");
        let idle = idle.replace("a_day = 0.3", "a_day = 0").replace("losses_a_day = 0.1", "losses_a_day = 0");
        for (version, prefix, key) in
            [("1.6", "A", "LocalPreAuthorize"), ("2.0.1", "B", "AuthCtrlr/LocalPreAuthorize")]
        {
            let quirks = "setting-types,setting-digits,hollow-schedules";
            let arguments =
                ["--stations", "3", "--versions", version, "--prefix", prefix, "--quirks", quirks];
            let simulation = Simulation::start(&server, &idle, &arguments)?;
            let name = |number: u32| format!("{prefix}00{number}");
            // Numbers and booleans, or figures for booleans: what it has is what is desired.
            for (station, told) in [(name(1), "true"), (name(2), "1")] {
                comes_to(&server, &["config", &station], |shown| shown["connected"] == true).await?;
                let pair = format!("{key}=true");
                let set = server.run(&["config", "set", &station, &pair]).await?;
                ensure!(set.code == 0, "{set:?}");
                let is = |shown: &Value| {
                    let settings = shown["settings"].as_array();
                    settings
                        .into_iter()
                        .flatten()
                        .any(|one| one["name"] == key && one["state"] == "applied" && one["reported"] == told)
                };
                comes_to(&server, &["config", &station], is).await?;
            }
            // A schedule that there is not.
            let refused =
                |shown: &Value| shown["payload"]["status"] == "Rejected" && shown["schedule"].is_null();
            let asked = ["profiles", "schedule", &name(3), "--connector", "1", "--duration", "60"];
            comes_to(&server, &asked, refused).await?;
            // A name of the other version would never be sent: what to set instead is said.
            let (wrong, right) = if version == "1.6" {
                ("OCPPCommCtrlr/HeartbeatInterval", "HeartbeatInterval")
            } else {
                ("HeartbeatInterval", "OCPPCommCtrlr/HeartbeatInterval")
            };
            let set = server.run(&["config", "set", &name(3), &format!("{wrong}=300"), "--json"]).await?;
            ensure!(set.code == 0 && set.stderr.contains(&format!("set {right} instead")), "{set:?}");
            let settings = set.json()?;
            let one = settings["settings"].as_array().into_iter().flatten().find(|one| one["name"] == wrong);
            let one = one.context("it is not there")?;
            ensure!(
                one["state"] == "otherVersion"
                    && one["reason"].as_str().is_some_and(|why| why.contains(right)),
                "{one}"
            );
            drop(simulation);
        }
        Ok(())
    })
    .await?
}

#[tokio::test]
async fn a_server_behind_tls_is_reached_with_its_authority_and_not_without() -> Result<()> {
    tokio::time::timeout(LIMIT, async {
        let server = Switchboard::start(BINARY, SERVER).await?;
        let front = TlsFront::to(server.stations()).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("authority.pem");
        std::fs::write(&file, front.authority())?;
        let file = file.to_str().context("a path")?;
        let url = format!("wss://localhost:{}/ocpp", front.port());
        let idle = ["simulate", &url, "--scenario", "idle", "--stations", "5", "--switch-on", "0", "--json"];
        let ran =
            server.run(&[&idle[..], &["--for", "2s", "--ca-file", file, "--compress"]].concat()).await?;
        let summary = ran.json()?;
        ensure!(ran.code == 0 && summary["boots"] == 5 && summary["failedConnections"] == 0, "{ran:?}");
        // Whom the system trusts has not signed this.
        let ran = server.run(&[&idle[..], &["--for", "1s"]].concat()).await?;
        ensure!(ran.code != 0 && ran.stderr.contains("certificate"), "{ran:?}");
        Ok(())
    })
    .await?
}

#[tokio::test]
async fn at_full_speed_a_scenario_ends_by_its_own_time_and_all_that_is_printed_is_json() -> Result<()> {
    tokio::time::timeout(LIMIT, async {
        let server = Switchboard::start(BINARY, SERVER).await?;
        let short = DAY.replace("hours = 24", "hours = 6").replace("begins_at = 4", "begins_at = 7");
        let arguments = ["--stations", "40", "--speed", "max", "--versions", "2.1"];
        let mut simulation = Simulation::start(&server, &short, &arguments)?;
        let mut last = 0.0;
        let summary = loop {
            let line = simulation.line().await?;
            if line.get("perStation").is_some() {
                break line;
            }
            // What a script would follow.
            let number = |name: &str| line[name].as_f64().with_context(|| format!("{name} in {line}"));
            for name in
                ["seconds", "speed", "connected", "charging", "callsPerSecond", "energyWh", "transactions"]
            {
                ensure!(number(name)? >= 0.0, "{name} in {line}");
            }
            ensure!(line["stopping"].is_boolean() && number("hours")? >= last, "{line}");
            last = number("hours")?;
        };
        agree(simulation.child.wait().await?.code(), &summary)?;
        let hours = summary["hours"].as_f64().context("no hours")?;
        ensure!(hours >= 6.0 && summary["speed"].as_f64() > Some(60.0), "{summary}");
        // Six hours, what else goes on while bills are sent, and the seconds in which they are switched on.
        ensure!(summary["transactions"].as_u64() > Some(10), "{summary}");
        Ok(())
    })
    .await?
}

#[tokio::test]
async fn what_cannot_be_simulated_is_said_before_anything_begins() -> Result<()> {
    let server = Switchboard::start(BINARY, SERVER).await?;
    for (arguments, code, says) in [
        (&["simulate", "--scenario", "nonsense"][..], 65, "no scenario"),
        (&["simulate", "http://127.0.0.1:1/ocpp"], 65, "wss://"),
        (&["simulate", "wss://127.0.0.1:1/ocpp", "--ca-file", "nowhere"], 65, "cannot be read"),
        (&["simulate", "--ca-file", "nowhere"], 65, "of use with a wss:// URL only"),
        (&["simulate", "--quirks", "flying"], 65, "no quirk \"flying\""),
        (&["simulate", "--faults", "2"], 65, "--faults"),
        (&["simulate", "--versions", "1.5"], 2, "2.0.1"),
        (&["simulate", "--speed", "0"], 2, "max"),
        (&["simulate", "--check", "nowhere"], 65, "--check"),
    ] {
        let ran = server.run(arguments).await?;
        ensure!(ran.code == code && ran.stderr.contains(says), "{arguments:?}: {ran:?}");
    }
    let listed = server.run(&["simulate", "--scenarios"]).await?;
    ensure!(
        listed.code == 0 && listed.stdout.contains("day") && listed.stdout.contains("storm"),
        "{listed:?}"
    );
    let text = server.run(&["simulate", "--print-scenario", "day"]).await?;
    ensure!(text.code == 0 && text.stdout.contains("[arrivals]"), "{text:?}");
    Ok(())
}
