//! Handlers written with the SDK behind the real gateway, seen from a station's socket.

use anyhow::{Context, Result, ensure};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc};
use switchboard_bus::{Bus, Commander, InProcess};
use switchboard_directory::{Directory, Embedded, Locations};
use switchboard_gateway::{Gateway, UnknownStations};
use switchboard_messages::{v16, v21};
use switchboard_router::{CallError, CommandError, Router, Station};
use switchboard_testkit::{RawStation, wait};
use switchboard_worker::Worker;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A gateway and one worker with these handlers, in this process.
struct Scene {
    address: SocketAddr,
    stop: CancellationToken,
    worker: Worker,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn start(router: Router) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
        let directory: Arc<dyn Directory> =
            Arc::new(Embedded::open(&switchboard_directory::embedded::Config::in_dir(folder.path()))?);
        let mut config = switchboard_gateway::Config::default();
        config.listen = "127.0.0.1:0".parse()?;
        config.unknown_stations = UnknownStations::Accept;
        let gateway =
            Gateway::new(config, Arc::clone(&bus), Arc::clone(&directory), &mut Registry::default())?;
        let locations = Arc::new(Locations::new(directory));
        let mut config = switchboard_worker::Config::default();
        config.commander = Some(Commander::new(Arc::clone(&bus), "sdk", locations).await?);
        let worker = switchboard_worker::serve(router, bus, config).await?;
        let listener = gateway.bind()?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move { gateway.serve(listener, stopped).await });
        Ok(Self { address, stop, worker, _directory: folder })
    }

    async fn station(&self, protocol: &str) -> Result<RawStation> {
        let url = format!("ws://{}/ocpp/CP1", self.address);
        let connected = RawStation::connect(&url, &[protocol]).await?;
        connected.map_err(|status| anyhow::anyhow!("refused with {status}"))
    }

    async fn end(self) {
        self.stop.cancel();
        self.worker.stop().await;
    }
}

#[tokio::test]
async fn c12_a_typed_call_to_a_station_objects_to_an_answer_that_is_not_one() -> Result<()> {
    let (told, mut outcomes) = mpsc::channel(4);
    let heartbeat = move |station: Station, _: v21::HeartbeatRequest| {
        let told = told.clone();
        async move {
            tokio::spawn(async move {
                let outcome = station.call(v21::ClearCacheRequest::default()).await;
                told.send(outcome).await.ok();
            });
            let now = switchboard_messages::Timestamp::from_unix_millis(1_700_000_000_000);
            Ok::<_, CallError>(v21::HeartbeatResponse::new(now))
        }
    };
    let scene = Scene::start(Router::new().on(heartbeat).with_state(())).await?;
    let mut station = scene.station("ocpp2.1").await?;
    for (answer, fit) in [
        (json!({}), false),
        (json!({ "status": "Accepted" }), true),
        (json!({ "status": 7 }), false),
        (json!({ "status": "Accepted", "statusInfo": { "reasonCode": 1 } }), false),
    ] {
        station.send(r#"[2,"h","Heartbeat",{}]"#).await?;
        // The call and the answer to the heartbeat come in either order.
        let mut id = None;
        for _ in 0..2 {
            let frame: Value = serde_json::from_str(&station.receive().await?)?;
            if frame[0] == 2 {
                assert_eq!(frame[2], "ClearCache");
                id = frame[1].as_str().map(str::to_owned);
            }
        }
        let id = id.context("no call")?;
        station.send(&json!([3, id, answer]).to_string()).await?;
        let outcome = tokio::time::timeout(wait::DEADLINE, outcomes.recv()).await?.context("no outcome")?;
        if fit {
            let response = outcome?;
            assert_eq!(response.status, v21::ClearCacheStatus::Accepted);
        } else {
            ensure!(matches!(&outcome, Err(CommandError::Unreadable { .. })), "{outcome:?} for {answer}");
            let objection: Value = serde_json::from_str(&station.receive().await?)?;
            assert_eq!((&objection[0], &objection[1]), (&json!(5), &json!(id)), "{objection}");
            let code = objection[2].as_str().unwrap_or_default();
            ensure!(code.ends_with("ConstraintViolation"), "{objection}");
        }
    }
    // The line has had nothing else to say.
    assert_eq!(station.ask(r#"[2,"x","Nonsense",{}]"#).await?[1], "x");
    scene.end().await;
    Ok(())
}

#[tokio::test]
async fn v06_handlers_that_fail_or_panic_are_one_internal_error_without_their_reasons() -> Result<()> {
    async fn failing(_: v16::HeartbeatRequest) -> Result<v16::HeartbeatResponse, CallError> {
        Err(CallError::internal(std::io::Error::other("password=hunter2 at db.internal:5432")))
    }
    async fn panicking(_: v16::AuthorizeRequest) -> Result<v16::AuthorizeResponse, CallError> {
        panic!("index 7 out of hunter2")
    }
    let scene = Scene::start(Router::new().on(failing).on(panicking).with_state(())).await?;
    let mut station = scene.station("ocpp1.6").await?;
    for call in [r#"[2,"1","Heartbeat",{}]"#, r#"[2,"2","Authorize",{"idTag":"A"}]"#] {
        let answer = station.ask(call).await?;
        assert_eq!((&answer[0], &answer[2], &answer[4]), (&json!(4), &json!("InternalError"), &json!({})));
        let text = answer.to_string();
        for inside in ["hunter2", "5432", "index", ".rs", "panic"] {
            ensure!(!text.contains(inside), "{text}");
        }
    }
    scene.end().await;
    Ok(())
}
