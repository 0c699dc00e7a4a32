//! `docs/asyncapi.yaml`: judged by the schema of AsyncAPI, compared with the code, and held against what really travels.

use crate::support::{Example, Place};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use switchboard_testkit::{Charger, Software, tools};

fn document() -> String {
    tools::root().join("docs/asyncapi.yaml").display().to_string()
}

/// What the judge says of a document; none if `test` has to be skipped.
async fn judged(test: &str, file: &str) -> Result<Option<Value>> {
    let Some(packages) = tools::node_packages(test)? else { return Ok(None) };
    let mut judge = tokio::process::Command::new("node");
    judge.env("NODE_PATH", packages.join("node_modules"));
    judge.arg(tools::root().join("tests/peers/asyncapi.js")).arg(file).kill_on_drop(true);
    let told = judge.output().await?;
    ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).map(Some).context("no JSON")
}

#[tokio::test]
async fn the_document_is_asyncapi_and_has_the_headers_of_the_code() -> Result<()> {
    let test = "the AsyncAPI document";
    let Some(told) = judged(test, &document()).await? else { return Ok(()) };
    ensure!(told["faults"] == json!([]), "{}", told["faults"]);
    let documented: BTreeSet<String> = serde_json::from_value(told["headers"].clone())?;
    let ours = switchboard_bus::HEADER_NAMES.iter().map(|name| (*name).to_owned());
    ensure!(documented == ours.collect(), "{documented:?}");
    // The contract in words has a row for each as well.
    let contract = std::fs::read_to_string(tools::root().join("docs/contract.md"))?;
    for name in switchboard_bus::HEADER_NAMES {
        ensure!(contract.contains(&format!("`{name}`")), "docs/contract.md does not know {name}");
    }

    // The judge judges.
    let text = std::fs::read_to_string(document())?;
    let folder = tempfile::tempdir()?;
    for (right, wrong) in [("action: receive", "action: grab"), ("#/components/messages/call'", "#/nowhere'")]
    {
        let file = folder.path().join("wrong.yaml");
        std::fs::write(&file, text.replacen(right, wrong, 1))?;
        let told = judged(test, &file.display().to_string()).await?.context("it was there before")?;
        ensure!(told["faults"].as_array().is_some_and(|faults| !faults.is_empty()), "{wrong} is no fault");
    }
    Ok(())
}

/// A gateway, a worker of ours and one of the examples, a charger and commands: each message is looked at on the bus.
#[tokio::test]
async fn what_travels_is_what_the_document_says() -> Result<()> {
    let test = "what travels";
    let Some(place) = Place::new(test, Example::PythonNats).await? else { return Ok(()) };
    let Some(packages) = tools::node_packages(test)? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python16)? else { return Ok(()) };
    let modules = packages.join("node_modules");
    let script = tools::root().join("tests/peers/asyncapi.js");
    let document = document();
    let mut judge = Charger::start_node(&script, &modules, &[&document, &place.bus, &place.namespace])?;
    judge.event("ready").await?;
    let books = tempfile::tempdir()?;
    let database = format!("sqlite:{}", books.path().join("central.db").display());
    let (ours, mut theirs) = (place.our_worker(&database).await?, place.worker(place.broker)?);
    charger.does("connect", json!({ "url": place.gateway.url("CP1"), "protocols": ["ocpp1.6"] })).await?;
    charger.does("boot", json!({})).await?;
    for _ in 0..20 {
        charger.does("heartbeat", json!({})).await?;
    }
    let command = json!({ "vendorId": "nobody" });
    let told = theirs.command("CP1", "DataTransfer", &command).await?;
    ensure!(told["outcome"] == "refused", "{told}");
    let told = ours.run(&["send", "CP1", "ClearCache", "--json"]).await?.json()?;
    ensure!(told["code"] == "NotImplemented", "{told}");
    theirs.stop().await?;
    charger.does("drop", json!({})).await?;
    let seen = switchboard_testkit::wait::until("every kind", async || {
        let seen = judge.does("seen", json!({})).await.ok()?;
        let kinds = ["call", "answer", "command", "outcome", "event", "presence"];
        (seen["faults"] != json!([]) || kinds.iter().all(|kind| seen["kinds"][kind].is_u64())).then_some(seen)
    })
    .await?;
    ensure!(seen["faults"] == json!([]), "{:#}", seen["faults"]);
    ensure!(seen["kinds"]["unknown"].is_null() && seen["kinds"]["error"].is_null(), "{seen}");
    Ok(())
}
