//! What is owed to stations, from outside: tags and lists of them, settings desired and reported. The stations are PyPI's
//! `ocpp` in 1.6, 2.0.1 and 2.1, which check all that we send against the official schemas.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_testkit::{Charger, Switchboard, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");
/// A scenario takes seconds; this is for a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(180);

macro_rules! scenarios {
    ($($version:literal, $module:ident;)* => $scenarios:tt) => {
        $(scenarios!(@ $version, $module, $scenarios);)*
    };
    (@ $version:literal, $module:ident, [$($scenario:ident)*]) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $scenario() -> anyhow::Result<()> {
                    let test = concat!(stringify!($module), "::", stringify!($scenario));
                    let Some(station) = switchboard_testkit::Charger::start_script(test, "keeper.py", $version)? else {
                        return Ok(());
                    };
                    tokio::time::timeout(super::LIMIT, super::$scenario(station, $version)).await?
                }
            )*
        }
    };
}

scenarios! {
    "1.6", ocpp_1_6;
    "2.0.1", ocpp_2_0_1;
    "2.1", ocpp_2_1;
    => [
        gets_the_settings_that_were_desired_while_it_was_away
        gets_a_setting_although_line_and_server_went_in_the_middle
        charges_with_registered_tags_and_groups_only
        keeps_a_list_of_tags_that_follows_the_register
    ]
}

/// The names of the settings that the station knows, in its version.
struct Names {
    interval: &'static str,
    stubborn: &'static str,
    slow: &'static str,
    missing: &'static str,
    action: &'static str,
}

fn names(version: &str) -> Names {
    if version == "1.6" {
        Names {
            interval: "HeartbeatInterval",
            stubborn: "Stubborn",
            slow: "Slow",
            missing: "Missing",
            action: "ChangeConfiguration",
        }
    } else {
        Names {
            interval: "OCPPCommCtrlr/HeartbeatInterval",
            stubborn: "Test/Stubborn",
            slow: "Test/Slow",
            missing: "Test/Missing",
            action: "SetVariables",
        }
    }
}

/// Runs a command that must succeed, and gives back what it prints.
async fn done(server: &Switchboard, arguments: &[&str]) -> Result<Value> {
    let ran = server.run(&[arguments, &["--json"][..]].concat()).await?;
    ensure!(ran.code == 0, "{arguments:?}: {ran:?}");
    ran.json()
}

async fn boots(server: &Switchboard, station: &mut Charger) -> Result<()> {
    station.does("connect", json!({ "url": server.url("CP1") })).await?;
    assert_eq!(station.does("boot", json!({})).await?["status"], "Accepted");
    Ok(())
}

/// The state of a setting of CP1.
async fn state(server: &Switchboard, name: &str) -> Result<Value> {
    let shown = done(server, &["config", "CP1"]).await?;
    let settings = shown["settings"].as_array().context("no settings")?;
    Ok(settings.iter().find(|one| one["name"] == name).context("no such setting")?.clone())
}

async fn comes_to(server: &Switchboard, name: &str, expected: &str) -> Result<Value> {
    let mut last = Value::Null;
    let reached = wait::until(format!("{name} is {expected}"), async || {
        last = state(server, name).await.ok()?;
        (last["state"] == expected).then_some(())
    });
    reached.await.with_context(|| "the last state")?;
    Ok(last)
}

/// Waits for the next call of this action.
async fn called(station: &mut Charger, action: &str) -> Result<Value> {
    loop {
        let event = station.event("called").await?;
        if event["action"] == action {
            return Ok(event);
        }
    }
}

async fn gets_the_settings_that_were_desired_while_it_was_away(
    mut station: Charger,
    version: &str,
) -> Result<()> {
    let server = Switchboard::start(BINARY, &[]).await?;
    let Names { interval, stubborn, slow, missing, action } = names(version);
    let pairs = [(interval, "123"), (stubborn, "1"), (slow, "9"), (missing, "1")];
    let pairs = pairs.map(|(name, value)| format!("{name}={value}"));
    let mut words = vec!["config", "set", "CP1", "--reboot"];
    words.extend(pairs.iter().map(String::as_str));
    let shown = done(&server, &words).await?;
    assert_eq!(shown["connected"], false);
    for one in shown["settings"].as_array().context("no settings")? {
        assert_eq!(one["state"], "owed", "{one}");
    }

    boots(&server, &mut station).await?;
    let applied = comes_to(&server, interval, "applied").await?;
    assert_eq!((&applied["desired"], &applied["reported"]), (&json!("123"), &json!("123")));
    comes_to(&server, stubborn, "rejected").await?;
    comes_to(&server, missing, "unsupported").await?;
    // It was asked for the reset that one of them needs, and tells after its boot that it took effect.
    called(&mut station, "Reset").await?;
    station.does("drop", json!({})).await?;
    boots(&server, &mut station).await?;
    comes_to(&server, slow, "applied").await?;
    let memory = station.does("recall", json!({})).await?;
    assert_eq!((&memory["values"][interval], &memory["values"][slow]), (&json!("123"), &json!("9")));
    assert_eq!(memory["values"][stubborn], "0");

    // What it has rejected it is not asked again after the boot, until somebody desires it anew.
    assert_eq!(state(&server, stubborn).await?["state"], "rejected");
    let again = format!("{stubborn}=1");
    done(&server, &["config", "set", "CP1", &again, "--wait", "0s"]).await?;
    loop {
        let call = called(&mut station, action).await?;
        let asked = call["names"].as_array().context("no names")?;
        if asked.contains(&json!(stubborn)) && asked.len() == 1 {
            break;
        }
    }
    comes_to(&server, stubborn, "rejected").await?;

    // Changed at the station: the next boot finds it, and it is put right.
    let mut values = memory["values"].clone();
    values[interval] = json!("77");
    station.does("drop", json!({})).await?;
    station.does("remember", json!({ "values": values })).await?;
    boots(&server, &mut station).await?;
    wait::until("the setting is put right", async || {
        let memory = station.does("recall", json!({})).await.ok()?;
        (memory["values"][interval] == "123").then_some(())
    })
    .await
}

async fn gets_a_setting_although_line_and_server_went_in_the_middle(
    mut station: Charger,
    version: &str,
) -> Result<()> {
    let mut server = Switchboard::start(BINARY, &[]).await?;
    let Names { interval, action, .. } = names(version);
    boots(&server, &mut station).await?;

    // It does what it is told, and its answer never comes: the line goes.
    station.does("remember", json!({ "silent": [action] })).await?;
    let set = format!("{interval}=50");
    let shown = done(&server, &["config", "set", "CP1", &set, "--wait", "0s"]).await?;
    assert_eq!(shown["settings"][0]["state"], "owed");
    called(&mut station, action).await?;
    assert_eq!(state(&server, interval).await?["state"], "owed");
    station.does("drop", json!({})).await?;
    station.does("remember", json!({ "silent": [] })).await?;
    boots(&server, &mut station).await?;
    comes_to(&server, interval, "applied").await?;

    // The same, and the server is killed before the answer.
    station.does("remember", json!({ "silent": [action] })).await?;
    let set = format!("{interval}=60");
    done(&server, &["config", "set", "CP1", &set, "--wait", "0s"]).await?;
    called(&mut station, action).await?;
    server.kill().await?;
    station.does("remember", json!({ "silent": [] })).await?;
    server.start_again().await?;
    assert_eq!(state(&server, interval).await?["state"], "owed");
    // Without a boot: its first call is enough.
    station.does("connect", json!({ "url": server.url("CP1") })).await?;
    station.does("heartbeat", json!({})).await?;
    let applied = comes_to(&server, interval, "applied").await?;
    assert_eq!(applied["reported"], "60");
    Ok(())
}

async fn charges_with_registered_tags_and_groups_only(mut station: Charger, version: &str) -> Result<()> {
    let server = Switchboard::start(BINARY, &[]).await?;
    boots(&server, &mut station).await?;
    let told = async |station: &mut Charger, tag: &str| -> Result<Value> {
        Ok(station.does("authorize", json!({ "tag": tag })).await?["status"].clone())
    };
    assert_eq!(told(&mut station, "ANYBODY").await?, "Accepted", "nobody has registered tags yet");

    done(&server, &["tags", "add", "A1", "--group", "fleet", "--expires", "2099-01-01"]).await?;
    done(&server, &["tags", "add", "A2", "--group", "fleet"]).await?;
    done(&server, &["tags", "add", "OLD", "--expires", "2020-01-01"]).await?;
    done(&server, &["tags", "block", "LOST"]).await?;
    let unknown = if version == "1.6" { "Invalid" } else { "Unknown" };
    for (tag, status) in [("a1", "Accepted"), ("OLD", "Expired"), ("LOST", "Blocked"), ("WHO", unknown)] {
        assert_eq!(told(&mut station, tag).await?, status, "{tag}");
    }

    let begun = station.does("begin", json!({ "tag": "A1" })).await?;
    assert_eq!((&begun["status"], &begun["group"]), (&json!("Accepted"), &json!("fleet")));
    let ended = station.does("end", json!({ "tag": "A2" })).await?;
    assert_eq!((&ended["status"], &ended["group"]), (&json!("Accepted"), &json!("fleet")));

    let listed = done(&server, &["tags", "--status", "expired"]).await?;
    assert_eq!(listed["tags"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed["tags"][0]["tag"], "OLD");
    done(&server, &["tags", "unblock", "LOST"]).await?;
    assert_eq!(told(&mut station, "LOST").await?, "Accepted");
    done(&server, &["tags", "remove", "LOST"]).await?;
    assert_eq!(told(&mut station, "LOST").await?, unknown);
    let unknown = server.run(&["tags", "unblock", "LOST"]).await?;
    assert_eq!(unknown.code, 65, "{unknown:?}");
    Ok(())
}

async fn keeps_a_list_of_tags_that_follows_the_register(mut station: Charger, _version: &str) -> Result<()> {
    let server = Switchboard::start(BINARY, &[]).await?;
    let file = server.data_dir().join("tags.csv");
    let mut text = String::from("tag,group,status\n");
    for number in 1..=120 {
        text.push_str(&format!("TAG{number:03},fleet,{}\n", if number == 120 { "blocked" } else { "" }));
    }
    std::fs::write(&file, &text)?;
    let file = file.display().to_string();
    let imported = done(&server, &["tags", "import", &file]).await?;
    assert_eq!(imported["imported"], 120);
    let wanted = done(&server, &["tags", "lists", "CP1", "on"]).await?;
    assert_eq!((&wanted["wanted"], &wanted["state"]), (&json!(true), &json!("owed")));

    boots(&server, &mut station).await?;
    let applied = async || {
        wait::until("the list is applied", async || {
            let list = done(&server, &["tags", "lists", "CP1"]).await.ok()?;
            (list["state"] == "applied").then_some(list)
        })
        .await
    };
    let list = applied().await?;
    assert_eq!((&list["tagsPerMessage"], &list["reportedVersion"]), (&json!(50), &list["desiredVersion"]));
    let memory = station.does("recall", json!({})).await?;
    assert_eq!(memory["tags"].as_object().map(serde_json::Map::len), Some(120));
    assert_eq!(
        (&memory["tags"]["TAG001"], &memory["tags"]["TAG120"]),
        (&json!("Accepted"), &json!("Blocked"))
    );
    // As many as the station takes at once.
    let mut parts = Vec::new();
    while parts.len() < 3 {
        let part = called(&mut station, "SendLocalList").await?;
        parts.push((part["kind"].clone(), part["count"].clone()));
    }
    let part = |kind: &str, count: u64| (json!(kind), json!(count));
    assert_eq!(parts, [part("Full", 50), part("Differential", 50), part("Differential", 20)]);

    done(&server, &["tags", "block", "TAG001"]).await?;
    done(&server, &["tags", "remove", "TAG002"]).await?;
    done(&server, &["tags", "add", "NEW"]).await?;
    wait::until("the station has the changes", async || {
        let tags = station.does("recall", json!({})).await.ok()?["tags"].clone();
        (tags["TAG001"] == "Blocked" && tags["TAG002"].is_null() && tags["NEW"] == "Accepted").then_some(())
    })
    .await?;
    applied().await?;

    // The station has lost its list, and says so when it is asked after its boot.
    station.does("drop", json!({})).await?;
    station.does("remember", json!({ "version": 0, "tags": {} })).await?;
    boots(&server, &mut station).await?;
    wait::until("the station has its list again", async || {
        let tags = station.does("recall", json!({})).await.ok()?["tags"].clone();
        (tags.as_object().map(serde_json::Map::len) == Some(120)).then_some(())
    })
    .await?;

    done(&server, &["tags", "lists", "CP1", "off"]).await?;
    wait::until("the list is emptied", async || {
        let tags = station.does("recall", json!({})).await.ok()?["tags"].clone();
        tags.as_object().is_some_and(serde_json::Map::is_empty).then_some(())
    })
    .await?;
    wait::until("the list is off", async || {
        let list = done(&server, &["tags", "lists", "CP1"]).await.ok()?;
        (list["state"] == "off").then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_file_with_a_fault_is_told_by_its_lines_and_registers_nothing() -> Result<()> {
    let server = Switchboard::start(BINARY, &[]).await?;
    let file = server.data_dir().join("tags.csv");
    std::fs::write(&file, "tag,expires\nA1,2027-01-01\nB2,tomorrow\n,2027-01-01\n")?;
    let ran = server.run(&["tags", "import", &file.display().to_string()]).await?;
    assert_eq!(ran.code, 65, "{ran:?}");
    for line in [
        "nothing was imported",
        "line 3: expires: a day such as 2027-01-01",
        "line 4: tag: a tag has 1 to 36",
    ] {
        assert!(ran.stderr.contains(line), "{ran:?}");
    }
    assert_eq!(done(&server, &["tags"]).await?["tags"], json!([]));

    // More than a usual request may hold, and out again as it came in.
    let mut text = String::from("tag,group,expires,status,type\n");
    for number in 0..40_000 {
        text.push_str(&format!(
            "TAG{number:05},\"a, \"\"b\"\"\",2027-01-01T00:00:00.000Z,Accepted,ISO14443\n"
        ));
    }
    std::fs::write(&file, &text)?;
    let ran = server.run(&["tags", "import", &file.display().to_string()]).await?;
    assert_eq!((ran.code, ran.stdout.trim()), (0, "40000 tags imported, 40000 are registered"), "{ran:?}");
    let ran = server.run(&["tags", "export"]).await?;
    assert!(ran.code == 0 && ran.stdout == text, "{}", ran.stderr);
    Ok(())
}
