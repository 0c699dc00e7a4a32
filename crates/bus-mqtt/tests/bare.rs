//! Bare mode, with a function that knows nothing of us behind an emulated rule, and AWS IoT Core's limits before the broker.

#![expect(clippy::unwrap_used, reason = "what tests are made of fails like them")]

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use switchboard_bus::{
    Address, Attendance, Bus, Connect, ConnectionKey, Envelope, Kind, Metadata, PublishError, State,
    SubscribeError, Subscription, Topic, conformance::Recorder,
};
use switchboard_bus_mqtt::bare::Bare;
use switchboard_directory::Embedded;
use switchboard_gateway::{Config, Gateway, UnknownStations};
use switchboard_rpc::{StationId, Version};
use switchboard_testkit::{Charger, CloudLimits, RawStation, Software, servers::Mosquitto, wait};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A broker behind limits, and a function behind a rule on it.
struct Cloud {
    limits: CloudLimits,
    rule: Charger,
    /// Ends last.
    _broker: Mosquitto,
}

impl Cloud {
    async fn start(test: &str) -> Result<Option<Self>> {
        let Some(broker) = Mosquitto::start(test).await? else { return Ok(None) };
        let limits = CloudLimits::before(broker.address()).await?;
        let at = broker.address().to_string();
        let Some(mut rule) = Charger::start_script(test, "rule.py", &at)? else { return Ok(None) };
        rule.event("ready").await?;
        Ok(Some(Self { limits, rule, _broker: broker }))
    }

    fn url(&self, parameters: &str) -> String {
        format!("mqtt://{}?mode=bare{parameters}", self.limits.address())
    }

    fn kept_to_the_limits(&self) -> Result<()> {
        let traffic = self.limits.traffic();
        ensure!(traffic.violations.is_empty(), "{traffic:?}");
        Ok(())
    }
}

/// A gateway in bare mode.
struct World {
    address: String,
    bare: Bare,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl World {
    async fn start(url: String, change: impl FnOnce(&mut Config)) -> Result<Self> {
        let bare = connected(url).await?;
        let mut config = Config::default();
        config.listen = "127.0.0.1:0".parse()?;
        config.unknown_stations = UnknownStations::Accept;
        config.drain_time = Duration::from_millis(100);
        change(&mut config);
        let mut metrics = prometheus_client::registry::Registry::default();
        let directory = Arc::new(Embedded::in_memory()?);
        let gateway = Gateway::new(config, Arc::new(bare.clone()), directory, &mut metrics)?;
        let listener = gateway.bind()?;
        let address = format!("ws://{}/ocpp", listener.local_addr()?);
        let stop = CancellationToken::new();
        let until = stop.clone();
        let serving = tokio::spawn(async move { gateway.serve(listener, until).await.unwrap() });
        Ok(Self { address, bare, stop, serving })
    }

    async fn station(&self, name: &str) -> Result<RawStation> {
        let url = format!("{}/{name}", self.address);
        RawStation::connect(&url, &["ocpp1.6"]).await?.map_err(|status| anyhow::anyhow!("refused: {status}"))
    }

    async fn end(self) -> Result<()> {
        self.stop.cancel();
        tokio::time::timeout(wait::DEADLINE, self.serving).await??;
        self.bare.close().await;
        Ok(())
    }
}

async fn connected(url: String) -> Result<Bare> {
    let bare = Bare::connect(Connect::to(url))?;
    let mut state = bare.state();
    let connected = state.wait_for(|state| *state == State::Connected);
    drop(tokio::time::timeout(wait::DEADLINE, connected).await.context("it connects")??);
    Ok(bare)
}

/// One station is not to take the connection of 49 others along.
#[tokio::test]
async fn a_station_whose_topic_would_be_too_long_is_not_listened_for() -> Result<()> {
    // Nobody has to be there.
    let bare = Bare::connect(Connect::to("mqtt://127.0.0.1:9?mode=bare"))?;
    let attend = |name: String| -> Result<bool> {
        let connection = ConnectionKey { gateway: "gateway-1".into(), generation: 1 };
        let (tenant, station) = ("default".into(), StationId::new(name, 255)?);
        Ok(bare.attend(Attendance { tenant, station, version: Version::V16, connection }).is_some())
    };
    ensure!(attend("x".repeat(252))? && !attend("x".repeat(253))? && !attend("%".repeat(85))?);
    Ok(())
}

#[tokio::test]
async fn a_charger_of_others_boots_charges_and_is_commanded_by_a_function_of_others() -> Result<()> {
    let test = "bare mode with a charger and a function of others";
    let Some(mut cloud) = Cloud::start(test).await? else { return Ok(()) };
    let Some(mut charger) = Charger::start(test, Software::Python16)? else { return Ok(()) };
    let world = World::start(cloud.url(""), |_| {}).await?;
    let url = format!("{}/RDAM-1", world.address);
    charger.does("connect", json!({ "url": url, "protocols": ["ocpp1.6"] })).await?;
    let booted = charger.does("boot", json!({})).await?;
    ensure!(booted["status"] == "Accepted", "{booted}");
    charger.does("report", json!({ "status": "Available" })).await?;
    let time = "2026-11-23T09:00:00Z";
    let started = charger.does("start", json!({ "tag": "TAG1", "meter": 100, "timestamp": time })).await?;
    ensure!(started["status"] == "Accepted", "{started}");
    charger.does("meter", json!({ "value": 150, "timestamp": time })).await?;

    let transaction = &started["transaction"];
    let command = json!({ "station": "RDAM-1", "action": "RemoteStopTransaction", "payload": { "transactionId": transaction } });
    let outcome = cloud.rule.does("command", command).await?;
    ensure!(outcome["answer"][0] == 3 && outcome["answer"][2]["status"] == "Accepted", "{outcome}");
    let called = charger.event("called").await?;
    ensure!(called["transaction"] == *transaction, "{called}");

    charger.does("stop", json!({ "meter": 200, "timestamp": time })).await?;
    let stored = cloud.rule.does("counts", json!({})).await?;
    ensure!(stored["counts"] == json!({ "boots": 1, "calls": 5 }), "each call went over once: {stored}");
    ensure!(
        stored["transactions"] == json!([{ "station": "RDAM-1", "started": 100, "stopped": 200 }]),
        "{stored}"
    );
    let ids = cloud.rule.does("ids", json!({})).await?;
    let short = |id: &Value| id.as_str().is_some_and(|id| id.len() <= 36);
    ensure!(ids["ids"].as_array().context("ids")?.iter().all(short), "{ids}");
    cloud.kept_to_the_limits()?;
    world.end().await
}

#[tokio::test]
async fn a_command_has_a_true_outcome_and_goes_to_the_station_once() -> Result<()> {
    let test = "commands in bare mode";
    let Some(mut cloud) = Cloud::start(test).await? else { return Ok(()) };
    let world =
        World::start(cloud.url(""), |config| config.command_timeout = Duration::from_millis(400)).await?;
    let mut station = world.station("CP1").await?;
    // Commands wait for the first call.
    station.ask(r#"[2,"1","BootNotification",{"chargePointModel":"a","chargePointVendor":"b"}]"#).await?;
    let reset = json!({ "station": "CP1", "action": "Reset", "payload": { "type": "Soft" } });

    cloud.rule.begins("command_twice", reset.clone()).await?;
    let called: Value = serde_json::from_str(&station.receive().await?)?;
    ensure!(called[2] == "Reset" && called[3] == json!({ "type": "Soft" }), "{called}");
    station.send(&format!(r#"[4,{},"NotSupported","no",{{}}]"#, called[1])).await?;
    let outcome = cloud.rule.ended("command_twice").await?;
    ensure!(outcome["answer"] == json!([4, "twice", "NotSupported", "no", {}]), "{outcome}");

    // The one that comes next is another, so the repeat was dropped. It is not answered: nobody knows then.
    cloud.rule.begins("command", reset.clone()).await?;
    let called: Value = serde_json::from_str(&station.receive().await?)?;
    ensure!(called[2] == "Reset", "{called}");
    let outcome = cloud.rule.ended("command").await?;
    ensure!(
        outcome["answer"][0] == 4 && outcome["answer"][4] == json!({ "outcome": "unknown" }),
        "{outcome}"
    );
    cloud.kept_to_the_limits()?;
    world.end().await
}

#[tokio::test]
async fn a_late_answer_reaches_no_later_call_and_no_later_connection() -> Result<()> {
    let test = "late answers in bare mode";
    let Some(mut cloud) = Cloud::start(test).await? else { return Ok(()) };
    let world = World::start(cloud.url(""), |_| {}).await?;
    let call = r#"[2,"same","DataTransfer",{"vendorId":"x"}]"#;
    cloud.rule.does("hold", json!({})).await?;
    let mut first = world.station("CP1").await?;
    first.send(call).await?;
    cloud.rule.event("held").await?;
    // The same id again, on the connection that takes the place of the first.
    let mut second = world.station("CP1").await?;
    second.send(call).await?;
    cloud.rule.event("held").await?;
    cloud.rule.does("release", json!({ "number": 0 })).await?;
    let late = || async { (world.bare.late() == 1).then_some(()) };
    wait::until("the late answer is dropped", async || late().await).await?;
    cloud.rule.does("release", json!({ "number": 1 })).await?;
    let answer: Value = serde_json::from_str(&second.receive().await?)?;
    ensure!(answer == json!([3, "same", { "status": "Accepted", "data": "2" }]), "{answer}");
    // A second answer to what has been answered, as QoS 1 allows.
    cloud.rule.does("release", json!({ "number": 1 })).await?;
    let late = || async { (world.bare.late() == 2).then_some(()) };
    wait::until("the second answer is dropped", async || late().await).await?;
    world.end().await
}

#[tokio::test]
async fn a_call_is_handed_over_once_unless_the_function_knows_repeats() -> Result<()> {
    let test = "repeats in bare mode";
    let Some(mut cloud) = Cloud::start(test).await? else { return Ok(()) };
    for (parameters, name, is_repeated) in [("", "ONCE", false), ("&idempotent=true", "AGAIN", true)] {
        let world = World::start(cloud.url(parameters), |config| {
            config.patience_min = Duration::from_millis(100);
            config.answer_deadline = Duration::from_millis(1_500);
        })
        .await?;
        cloud.rule.does("hold", json!({})).await?;
        let before = cloud.rule.does("counts", json!({})).await?["counts"]["calls"].as_u64().unwrap();
        let mut station = world.station(name).await?;
        let answer = station.ask(r#"[2,"1","DataTransfer",{"vendorId":"x"}]"#).await?;
        ensure!(answer[0] == 4 && answer[2] == "InternalError", "{answer}");
        let invoked =
            cloud.rule.does("counts", json!({})).await?["counts"]["calls"].as_u64().unwrap() - before;
        ensure!((invoked > 1) == is_repeated && invoked > 0, "{name}: {invoked}");
        world.end().await?;
    }
    Ok(())
}

fn station(name: &str) -> StationId {
    StationId::new(name.to_owned(), 48).unwrap()
}

fn who(name: &str, generation: u64) -> Attendance {
    let connection = ConnectionKey { gateway: "gateway-1".into(), generation };
    Attendance { tenant: "default".into(), station: station(name), version: Version::V16, connection }
}

fn call(name: &str, seq: u64) -> (Address, Envelope) {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(station(name));
    metadata.version = Some(Version::V16);
    metadata.action = Some("Heartbeat".into());
    metadata.connection = Some(who(name, 7).connection);
    metadata.seq = Some(seq);
    metadata.reply_to = Some("gateway-1".into());
    let to = Address::Call { tenant: "default".into(), station: station(name) };
    (to, Envelope::new(metadata, format!(r#"[2,"{name}-{seq}","Heartbeat",{{}}]"#)))
}

#[tokio::test]
async fn a_hundred_and_twenty_stations_share_three_connections_and_no_limit_is_passed() -> Result<()> {
    let Some(cloud) = Cloud::start("many stations in bare mode").await? else { return Ok(()) };
    let bare = connected(cloud.url("")).await?;
    let bus: Arc<dyn Bus> = Arc::new(bare.clone());
    let answers = Recorder::new();
    let _inbox = answers.listen(&bus, Topic::Inbox("gateway-1".into()), 1000).await;
    let names: Vec<_> = (0..120).map(|name| format!("CP{name:03}")).collect();
    let attending: Vec<_> = names.iter().map(|name| bus.attend(who(name, 7)).unwrap()).collect();
    for seq in 0..3 {
        // All at once, three times: more than may go within a second.
        let calls = names.iter().map(|name| async {
            loop {
                let (to, envelope) = call(name, seq);
                match bus.publish(to, envelope).await {
                    Ok(()) => return Ok(()),
                    Err(PublishError::Away | PublishError::Busy) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        });
        for outcome in join_all(calls).await {
            outcome?;
        }
        answers.wait_for(120 * usize::try_from(seq + 1)?).await;
    }
    for envelope in answers.all() {
        let (name, seq) = (envelope.metadata.station.clone().unwrap(), envelope.metadata.seq.unwrap());
        let answer: Value = serde_json::from_slice(&envelope.body)?;
        ensure!(answer[1] == format!("{}-{seq}", name.as_str()), "each call has its own answer: {answer}");
        ensure!(envelope.metadata.connection == Some(who(name.as_str(), 7).connection));
    }
    let traffic = cloud.limits.traffic();
    ensure!(
        traffic.violations.is_empty() && traffic.open == 3 && traffic.subscriptions_max == 50,
        "{traffic:?}"
    );
    ensure!(traffic.per_second_max <= 100, "{traffic:?}");

    // Stations go, and their connections with them; the first stays.
    drop(attending);
    wait::until("one connection is left", async || (cloud.limits.traffic().open == 1).then_some(())).await?;
    let (to, envelope) = call("CP000", 9);
    let outcome = bus.publish(to, envelope).await;
    ensure!(matches!(outcome, Err(PublishError::NobodyListens)), "{outcome:?}");
    bare.close().await;
    Ok(())
}

#[tokio::test]
async fn after_a_cut_everything_is_listened_for_again_and_the_limits_still_hold() -> Result<()> {
    let Some(cloud) = Cloud::start("a cut in bare mode").await? else { return Ok(()) };
    let bus: Arc<dyn Bus> = Arc::new(connected(cloud.url("")).await?);
    let answers = Recorder::new();
    let _inbox = answers.listen(&bus, Topic::Inbox("gateway-1".into()), 1000).await;
    let names: Vec<_> = (0..60).map(|name| format!("CP{name:03}")).collect();
    let attending: Vec<_> = names.iter().map(|name| bus.attend(who(name, 7)).unwrap()).collect();
    for seq in 0..2 {
        for name in &names {
            let (to, envelope) = call(name, seq);
            let publishing = async {
                while bus.publish(to.clone(), envelope.clone()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(wait::DEADLINE, publishing).await?;
        }
        answers.wait_for(60 * usize::try_from(seq + 1)?).await;
        if seq == 0 {
            cloud.limits.cut();
        }
    }
    cloud.kept_to_the_limits()?;
    drop(attending);
    Ok(())
}

#[tokio::test]
async fn what_bare_mode_does_not_carry_is_refused() -> Result<()> {
    let Some(broker) = Mosquitto::start("what bare mode does not carry").await? else { return Ok(()) };
    let limits = CloudLimits::before(broker.address()).await?;
    let bus: Arc<dyn Bus> = Arc::new(connected(format!("mqtt://{}?mode=bare", limits.address())).await?);
    let subscription = Subscription { topic: Topic::Calls, in_hand_max: 8.try_into()? };
    let outcome = bus.subscribe(subscription, Recorder::new()).await;
    ensure!(matches!(outcome, Err(SubscribeError::Refused(_))), "workers cannot take calls from it");

    let _attending = bus.attend(who("CP1", 7)).unwrap();
    let limit = bus.capabilities().body_bytes_max;
    let (to, mut envelope) = call("CP1", 1);
    envelope.body = format!(r#"[2,"1","A",{{"a":"{}"}}]"#, "x".repeat(limit - 20)).into();
    ensure!(envelope.body.len() == limit, "{}", envelope.body.len());
    let whole = envelope.clone();
    envelope.body = [&envelope.body[..], b" "].concat().into();
    let outcome = bus.publish(to.clone(), envelope).await;
    ensure!(matches!(outcome, Err(PublishError::TooLarge { .. })), "{outcome:?}");
    bus.publish(to, whole).await?;

    // An older connection of a station that has a newer one is not here any more.
    let newer = bus.attend(who("CP1", 8)).unwrap();
    ensure!(bus.attend(who("CP1", 7)).is_none());
    let (to, envelope) = call("CP1", 2);
    ensure!(matches!(bus.publish(to, envelope).await, Err(PublishError::NobodyListens)));
    drop(newer);
    let traffic = limits.traffic();
    ensure!(traffic.violations.is_empty(), "{traffic:?}");
    drop(broker);
    Ok(())
}

#[tokio::test]
async fn a_url_with_a_parameter_that_is_not_known_is_refused() -> Result<()> {
    for url in
        ["mqtt://b?mode=bar", "mqtt://b?idempotent=true", "mqtt://b?mode=bare&idempotent=yes", "mqtt://b?x=1"]
    {
        ensure!(switchboard_bus_mqtt::connect(Connect::to(url)).is_err(), "{url}");
    }
    let bare = switchboard_bus_mqtt::connect(Connect::to("mqtts://b?mode=bare&idempotent=true"))?;
    ensure!(bare.capabilities().repeatable);
    ensure!(!switchboard_bus_mqtt::connect(Connect::to("mqtt://b?mode=bare"))?.capabilities().repeatable);
    Ok(())
}
