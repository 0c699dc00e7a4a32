//! Commands whose sender, gateway and station are of different processes, some of which die: S06 to S09.

use crate::engine::{Engine, over_each_broker};
use crate::support::{Installation, booted, connected, obey, send, station};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use switchboard_bus::{
    Address, Commander, Consumer, Done, Envelope, Kind, Lane, Metadata, OutcomeKind, Subscription, Topic,
    command::{Keeping, Locator, Stored},
};
use switchboard_directory::{Directory, Locations};
use switchboard_directory_postgres::{Config, Postgres as Shared};
use switchboard_messages::v16;
use switchboard_router::{CallError, CommandError, Router, Station};
use switchboard_rpc::{StationId, Version};
use switchboard_testkit::{RawStation, Switchboard, wait};
use tokio::sync::mpsc;

over_each_broker! {
    s07_a_command_is_taken_back_by_another_process_than_its_senders,
    s07_the_context_comes_back_with_the_outcome_to_whoever_has_the_inbox,
    s08_a_key_whose_sender_died_has_one_effect_and_one_outcome,
    s08_a_key_whose_gateway_died_after_the_write_is_unknown_and_never_sent_again,
    s09_a_command_goes_out_at_another_gateway_though_its_sender_died,
    s06_the_sdk_calls_a_station_at_whichever_gateway_it_is,
}

const CACHE_CLEARED: &str = r#"{"status":"Accepted"}"#;

/// Says a heartbeat and hears its answer: nothing else came before it.
async fn hears_nothing_else(station: &mut RawStation, id: &str) -> Result<()> {
    let answer = station.ask(&format!(r#"[2,"{id}","Heartbeat",{{}}]"#)).await?;
    ensure!(answer[0] == 3 && answer[1] == id, "{answer} was sent instead");
    Ok(())
}

/// Takes a command back as soon as somebody knows it.
async fn taken_back(worker: &Switchboard, id: &str, key: &str) -> Result<()> {
    wait::until(format!("{key} is taken back"), async || {
        let ran = worker.run(&["cancel", id, key]).await.ok()?;
        (ran.code == 0).then_some(())
    })
    .await
}

/// One that waits for its station, and one that waits for its turn there.
async fn s07_a_command_is_taken_back_by_another_process_than_its_senders(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::cancel").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let (sender, other) = (place.one_of_many().await?, place.one_of_many().await?);
    let mut here = booted(&gateway, "HERE").await?;
    let (away, first, second, done) = tokio::join!(
        send(&sender, &["AWAY", "ClearCache", "--ttl", "1h", "--key", "k1"]),
        send(&sender, &["HERE", "ClearCache", "--key", "k2"]),
        async {
            // After the first, which occupies the station.
            tokio::time::sleep(Duration::from_millis(200)).await;
            send(&sender, &["HERE", "GetLocalListVersion", "--key", "k3"]).await
        },
        async {
            taken_back(&other, "AWAY", "k1").await?;
            let call: Value = serde_json::from_str(&here.receive().await?)?;
            let key = if call[2] == "ClearCache" { "k3" } else { "k2" };
            taken_back(&other, "HERE", key).await?;
            here.send(&format!("[3,{},{{\"status\":\"Accepted\",\"listVersion\":0}}]", call[1])).await?;
            let late = other.run(&["cancel", "HERE", if key == "k3" { "k2" } else { "k3" }]).await?;
            ensure!(late.code == 65, "what was written cannot be taken back: {late:?}");
            Ok(key)
        },
    );
    let taken = done?;
    let (away, first, second) = (away?, first?, second?);
    ensure!(away.code == 6, "{away:?}");
    let (written, taken) = if taken == "k3" { (first, second) } else { (second, first) };
    ensure!(written.code == 0 && taken.code == 6, "{written:?} {taken:?}");
    hears_nothing_else(&mut here, "h").await?;
    let mut away = booted(&gateway, "AWAY").await?;
    hears_nothing_else(&mut away, "h").await?;
    // Its key stays spent.
    let again = send(&other, &["AWAY", "ClearCache", "--key", "k1"]).await?;
    ensure!(again.code == 6, "{again:?}");
    Ok(())
}

/// An inbox, and what comes to it.
struct Inbox(mpsc::Sender<Envelope>);

impl std::fmt::Debug for Inbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Inbox")
    }
}

impl Consumer for Inbox {
    fn deliver(&self, envelope: Envelope, done: Done) {
        self.0.try_send(envelope).ok();
        drop(done);
    }
}

/// A sender that remembers nothing: one process writes the command, another reads what became of it.
async fn s07_the_context_comes_back_with_the_outcome_to_whoever_has_the_inbox(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::context").await? else { return Ok(()) };
    let gateway = place.gateway(&["--gateway-id", "the-gateway"]).await?;
    let _worker = place.worker(&[]).await?;
    let mut station = booted(&gateway, "CP1").await?;
    let (sender, reader) = (place.join().await?, place.join().await?);
    let (told, mut outcomes) = mpsc::channel(64);
    let subscription = Subscription { topic: Topic::Inbox("answers".into()), in_hand_max: NonZeroU32::MIN };
    let _listening = reader.subscribe(subscription, Arc::new(Inbox(told))).await?;
    let context = "order 7; für Ä\t%20 \"x\"";
    let command = |station: &str, id: &str| -> Result<Envelope> {
        let mut metadata = Metadata::new(Kind::Command);
        metadata.station = Some(StationId::new(station, 48)?);
        metadata.action = Some("ClearCache".into());
        metadata.command_id = Some(id.into());
        metadata.reply_to = Some("answers".into());
        metadata.remaining = Some(Duration::from_secs(30));
        metadata.context = Some(context.into());
        Ok(Envelope::new(metadata, r#"[2,"any","ClearCache",{}]"#))
    };
    let mut outcome = async || tokio::time::timeout(wait::DEADLINE, outcomes.recv()).await?.context("none");
    sender.publish(Address::Inbox("the-gateway".into()), command("CP1", "c1")?).await?;
    obey(&mut station, "ClearCache", CACHE_CLEARED).await?;
    let answered = outcome().await?;
    sender.publish(Address::Inbox("the-gateway".into()), command("ELSEWHERE", "c2")?).await?;
    let offline = outcome().await?;
    for (envelope, id, expected) in
        [(&answered, "c1", OutcomeKind::Answered), (&offline, "c2", OutcomeKind::Offline)]
    {
        let Metadata { kind, command_id, context: returned, outcome, .. } = &*envelope.metadata;
        ensure!(*kind == Kind::Outcome && *outcome == Some(expected), "{envelope:?}");
        ensure!(command_id.as_deref() == Some(id) && returned.as_deref() == Some(context), "{envelope:?}");
    }
    let frame: Value = serde_json::from_slice(&answered.body)?;
    ensure!(frame[0] == 3 && frame[2]["status"] == "Accepted", "{frame}");
    Ok(())
}

/// Before the command was handed over, and after the station had it: whoever sends it again gets the one outcome.
async fn s08_a_key_whose_sender_died_has_one_effect_and_one_outcome(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::sender-died").await? else { return Ok(()) };
    let gateway = place.gateway(&[]).await?;
    let (mut first, second) = (place.one_of_many().await?, place.one_of_many().await?);
    let mut station = booted(&gateway, "CP1").await?;

    // What a sender has done when it dies between writing the command down and handing it over.
    let locations = Locations::new(directory(&place).await?);
    let written = Stored {
        id: "written".into(),
        tenant: "default".into(),
        station: StationId::new("CP1", 48)?,
        action: "ClearCache".into(),
        payload: "{}".into(),
        lane: Lane::Normal,
        timeout: Duration::from_secs(30),
        time_to_live: Duration::from_secs(60),
        reply_to: "a-sender-that-died".into(),
        context: None,
    };
    ensure!(locations.keep(written).await? == Keeping::Fresh);
    let words = ["CP1", "ClearCache", "--key", "written"];
    let (sent, obeyed) = tokio::join!(send(&second, &words), obey(&mut station, "ClearCache", CACHE_CLEARED));
    obeyed?;
    for sent in [sent?, send(&second, &words).await?] {
        ensure!(sent.code == 0 && sent.stdout.trim() == CACHE_CLEARED, "{sent:?}");
    }

    // The station has it when its sender dies.
    let words = ["CP1", "ClearCache", "--key", "sent"];
    let doomed = first.run(&["send", "CP1", "ClearCache", "--key", "sent"]);
    let call = tokio::select! {
        sent = doomed => anyhow::bail!("{sent:?} before the station answered"),
        call = station.receive() => call?,
    };
    first.kill().await?;
    let call: Value = serde_json::from_str(&call)?;
    let (sent, answered) = tokio::join!(send(&second, &words), async {
        // The second sender asks while the first one's command is still open.
        tokio::time::sleep(Duration::from_millis(300)).await;
        station.send(&format!(r#"[3,{},{{"status":"Rejected"}}]"#, call[1])).await
    });
    answered?;
    for sent in [sent?, send(&second, &words).await?] {
        ensure!(sent.code == 0 && sent.stdout.contains("Rejected"), "{sent:?}");
    }
    hears_nothing_else(&mut station, "h").await
}

/// It may have been obeyed: nobody can know, and nobody says otherwise, and the station is not asked twice.
async fn s08_a_key_whose_gateway_died_after_the_write_is_unknown_and_never_sent_again(
    engine: Engine,
) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::sending").await? else { return Ok(()) };
    let (mut first, second) = (place.gateway(&[]).await?, place.gateway(&[]).await?);
    let worker = place.worker(&[]).await?;
    let mut station = booted(&first, "CP1").await?;
    let words = ["CP1", "ClearCache", "--key", "k", "--ttl", "10m"];
    let (sent, came) = tokio::join!(send(&worker, &words), async {
        let call = station.receive().await?;
        ensure!(call.contains("ClearCache"), "{call}");
        first.kill().await?;
        let mut station = booted(&second, "CP1").await?;
        for id in ["1", "2"] {
            hears_nothing_else(&mut station, id).await?;
        }
        Ok(station)
    });
    let (sent, mut station) = (sent?, came?);
    ensure!(sent.code == 8, "{sent:?}");
    let again = send(&worker, &words).await?;
    ensure!(again.code == 8, "{again:?}");
    hears_nothing_else(&mut station, "3").await
}

/// Nobody waits for it any more, and it goes out all the same; whoever asks later is told what became of it.
async fn s09_a_command_goes_out_at_another_gateway_though_its_sender_died(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::queue-elsewhere").await? else { return Ok(()) };
    let (first, second) = (place.gateway(&[]).await?, place.gateway(&[]).await?);
    let (mut sender, other) = (place.one_of_many().await?, place.one_of_many().await?);
    drop(booted(&first, "CP1").await?);
    connected(&other, "CP1", false).await?;
    let directory = directory(&place).await?;
    let key =
        switchboard_directory::StationKey { tenant: "default".into(), station: StationId::new("CP1", 48)? };
    let id = "later".into();
    {
        let doomed = sender.run(&["send", "CP1", "ClearCache", "--key", "later", "--ttl", "10m"]);
        tokio::select! {
            sent = doomed => anyhow::bail!("{sent:?} before the station was there"),
            kept = wait::until("the command is kept", async || directory.outbox_get(&key, &id).await.ok()?) => kept?,
        };
    }
    sender.kill().await?;
    let mut station = station(&second, "CP1").await?;
    hears_nothing_else(&mut station, "h").await?;
    obey(&mut station, "ClearCache", CACHE_CLEARED).await?;
    let told = send(&other, &["CP1", "ClearCache", "--key", "later"]).await?;
    ensure!(told.code == 0 && told.stdout.trim() == CACHE_CLEARED, "{told:?}");
    hears_nothing_else(&mut station, "i").await
}

/// A worker made with the SDK, as this process: the station that called it, where it is now, and one that never did.
async fn s06_the_sdk_calls_a_station_at_whichever_gateway_it_is(engine: Engine) -> Result<()> {
    let Some(place) = Installation::over(engine, "split::sdk").await? else { return Ok(()) };
    let (first, second) = (place.gateway(&[]).await?, place.gateway(&[]).await?);
    let (told, mut callers) = mpsc::channel(64);
    let heartbeat = move |station: Station, _: v16::HeartbeatRequest| {
        told.try_send(station).ok();
        let now = switchboard_messages::Timestamp::from_unix_millis(1_700_000_000_000);
        std::future::ready(Ok::<_, CallError>(v16::HeartbeatResponse::new(now)))
    };
    let bus = place.join().await?;
    let mut config = switchboard_worker::Config::default();
    let locations = Arc::new(Locations::new(directory(&place).await?));
    config.commander = Some(Commander::new(Arc::clone(&bus), "sdk", locations).await?);
    let router = Router::new().on(heartbeat).with_state(());
    let worker = switchboard_worker::serve(router, bus, config).await?;

    let mut one = station(&first, "ONE").await?;
    hears_nothing_else(&mut one, "1").await?;
    let caller = tokio::time::timeout(wait::DEADLINE, callers.recv()).await?.context("nobody called")?;
    let mut two = station(&second, "TWO").await?;
    hears_nothing_else(&mut two, "1").await?;
    let never = worker.stations().station("default", StationId::new("TWO", 48)?, Version::V16);
    // The caller has moved since then.
    let mut one = station(&second, "ONE").await?;
    hears_nothing_else(&mut one, "2").await?;
    for (handle, socket) in [(&caller, &mut one), (&never, &mut two)] {
        let (answer, obeyed) = tokio::join!(
            handle.call(v16::ClearCacheRequest::default()),
            obey(socket, "ClearCache", CACHE_CLEARED)
        );
        obeyed?;
        ensure!(answer?.status == v16::ClearCacheStatus::Accepted, "{handle:?}");
    }
    let nobody = worker.stations().station("default", StationId::new("NOBODY", 48)?, Version::V16);
    let offline = nobody.call(v16::ClearCacheRequest::default()).await;
    ensure!(matches!(offline, Err(CommandError::Offline)), "{offline:?}");
    worker.stop().await;
    Ok(())
}

/// The directory of an installation, for this process.
async fn directory(place: &Installation) -> Result<Arc<dyn Directory>> {
    let shared = Shared::connect(Config::to(&place.directory))?;
    shared.ready().await?;
    Ok(Arc::new(shared))
}
