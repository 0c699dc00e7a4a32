//! Commands: whoever sends one finds the gateway by the name of its inbox.

use crate::support::{call, free, in_time, listening, port, post, station, to_call};
use anyhow::{Result, ensure};
use bytes::Bytes;
use bytestring::ByteString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use switchboard_bus::command::{CommandError, Commander, Locator, Options};
use switchboard_bus::conformance::{Recorder, Whereabouts};
use switchboard_bus::{
    Address, Bus, Connect, Consumer, Done, Envelope, Kind, Metadata, Outcome, OutcomeKind, PublishError,
    Subscription, Topic,
};
use switchboard_bus_http::{Http, name_at};
use switchboard_rpc::StationId;
use switchboard_testkit::Proxy;

/// What a gateway knows: one station, which is at `holder`.
fn here(holder: &ByteString) -> Arc<dyn Locator> {
    let holder = holder.clone();
    Arc::new(Whereabouts(move |station: &StationId| (*station == self::station()).then(|| holder.clone())))
}

/// The inbox of a gateway whose stations accept everything.
struct Obedient(Arc<dyn Bus>);

impl Consumer for Obedient {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let bus = Arc::clone(&self.0);
        tokio::spawn(async move {
            let command = *envelope.metadata;
            let to = Address::Inbox(command.reply_to.clone().unwrap());
            let metadata = Metadata {
                kind: Kind::Outcome,
                outcome: Some(OutcomeKind::Answered),
                reply_to: None,
                ..command
            };
            let frame = Bytes::from_static(br#"[3,"x",{"status":"Accepted"}]"#);
            bus.publish(to, Envelope::new(metadata, frame)).await.unwrap();
            drop(done);
        });
    }
}

/// A process with a gateway that has this name in the directory, in which the station is at `holder`.
async fn process(holder: &ByteString, listener: std::net::TcpListener) -> Result<Arc<Http>> {
    let bus = listening("http://key@127.0.0.1:9/", listener);
    let shared: Arc<dyn Bus> = Arc::clone(&bus) as _;
    let commands = format!("commands-of-{}", bus.address().unwrap());
    bus.obey(Commander::new(shared, commands, here(holder)).await?);
    Ok(bus)
}

async fn obedient(bus: &Arc<Http>, name: &ByteString) -> Result<switchboard_bus::Subscribed> {
    let subscription = Subscription { topic: Topic::Inbox(name.clone()), in_hand_max: NonZeroU32::MAX };
    let shared: Arc<dyn Bus> = Arc::clone(bus) as _;
    Ok(bus.subscribe(subscription, Arc::new(Obedient(shared))).await?)
}

fn at(address: SocketAddr) -> ByteString {
    name_at("holder", &format!("http://{address}"))
}

/// A worker that others need not reach: what it waits for comes as the response.
async fn commander(holder: ByteString) -> Result<Commander> {
    let bus: Arc<dyn Bus> = Arc::new(Http::connect(Connect::to(format!("http://key@{}/", free())))?);
    Ok(Commander::new(bus, "worker-commands", here(&holder)).await?)
}

async fn clear_cache(commander: &Commander, options: Options) -> Result<Outcome, CommandError> {
    let tenant = ByteString::from_static("default");
    in_time(commander.command(&tenant, &station(), "ClearCache", Bytes::new(), options)).await
}

#[tokio::test]
async fn commands_are_posted_to_any_gateway_and_the_caller_waits_for_the_outcome() -> Result<()> {
    let ((first_port, first_at), (second_port, second_at)) = (port(), port());
    // The station is at the second one.
    let holder = at(second_at);
    let _first = process(&holder, first_port).await?;
    let second = process(&holder, second_port).await?;
    let _inbox = obedient(&second, &holder).await?;

    let frame = r#"[2,"77","ClearCache",{}]"#;
    let authorized = "authorization: Bearer key\r\n";
    let here = format!("{authorized}ocpp-station: CP%201|%C3%A9\r\n");
    for door in [first_at, second_at] {
        let response = post(door, "/gateway/v1/commands", &here, frame).await?;
        ensure!(response.starts_with("HTTP/1.1 200"), "{response}");
        ensure!(response.contains("ocpp-outcome: answered\r\n"), "{response}");
        ensure!(response.ends_with(r#"[3,"77",{"status":"Accepted"}]"#), "{response}");
    }
    let elsewhere = format!("{authorized}ocpp-station: CP2\r\n");
    let response = post(first_at, "/gateway/v1/commands", &elsewhere, frame).await?;
    ensure!(response.contains("ocpp-outcome: offline\r\n"), "{response}");
    for (headers, body, status) in
        [("ocpp-station: CP2\r\n", frame, "401"), (&*elsewhere, "{}", "400"), (authorized, frame, "400")]
    {
        let response = post(first_at, "/gateway/v1/commands", headers, body).await?;
        ensure!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
    }
    let response = post(first_at, "/gateway/v1/inbox/nobody", &here, frame).await?;
    ensure!(response.starts_with("HTTP/1.1 400"), "it is no envelope: {response}");

    let outcome = clear_cache(&commander(holder).await?, Options::default()).await?;
    assert_eq!(outcome, Outcome::Answered(r#"{"status":"Accepted"}"#.into()));
    Ok(())
}

/// A gateway that has just died, one that never was there, and one that has no such inbox any more.
/// S06, where the way to it is a request.
#[tokio::test]
async fn a_command_to_a_gateway_that_is_gone_is_offline_at_once() -> Result<()> {
    let (listener, address) = port();
    let _other = listening("http://key@127.0.0.1:9/", listener);
    for holder in [at(free()), at(address), "without-a-place".into()] {
        let outcome = clear_cache(&commander(holder.clone()).await?, Options::default()).await?;
        assert_eq!(outcome, Outcome::Offline, "{holder}");
    }
    Ok(())
}

/// An outcome is never invented: the line to the gateway was lost after the command had gone.
#[tokio::test]
async fn a_command_whose_gateway_says_no_more_has_an_unknown_outcome() -> Result<()> {
    // It reads the request and closes the connection.
    let (address, _) = crate::support::server("").await?;
    let outcome = clear_cache(&commander(at(address)).await?, Options::default()).await?;
    assert_eq!(outcome, Outcome::Unknown);

    // It has it, and its station never answers.
    let (listener, address) = port();
    let bus: Arc<dyn Bus> = listening("http://key@127.0.0.1:9/", listener);
    let holder = at(address);
    let silent = Recorder::new();
    let _inbox = silent.listen(&bus, Topic::Inbox(holder.clone()), 8).await;
    let options = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let outcome = clear_cache(&commander(holder).await?, options).await?;
    assert_eq!(outcome, Outcome::Unknown);
    assert_eq!(silent.count(), 1, "and it was sent once");
    Ok(())
}

/// The line is cut while the station thinks.
#[tokio::test]
async fn an_outcome_whose_request_was_cut_off_comes_to_the_inbox_of_its_sender() -> Result<()> {
    let ((gateway_port, gateway_at), (caller_port, caller_at)) = (port(), port());
    let line = Proxy::to(gateway_at).await?;
    let gateway: Arc<dyn Bus> = listening("http://key@127.0.0.1:9/", gateway_port);
    let holder = at(line.address());
    let taken = Recorder::new();
    let _inbox = taken.listen(&gateway, Topic::Inbox(holder.clone()), 8).await;
    let caller: Arc<dyn Bus> = listening("http://key@127.0.0.1:9/", caller_port);
    let inbox = name_at("commands", &format!("http://{caller_at}"));
    let commander = Commander::new(caller, inbox, here(&holder)).await?;
    let asking = tokio::spawn(async move { clear_cache(&commander, Options::default()).await });
    let command = *taken.wait_for(1).await.remove(0).metadata;
    line.cut();
    let to = Address::Inbox(command.reply_to.clone().unwrap());
    let metadata =
        Metadata { kind: Kind::Outcome, outcome: Some(OutcomeKind::Answered), reply_to: None, ..command };
    let outcome = Envelope::new(metadata, Bytes::from_static(br#"[3,"x",{"status":"Accepted"}]"#));
    in_time(async {
        // The gateway may not have noticed yet that nobody waits for the response.
        while !asking.is_finished() {
            drop(gateway.publish(to.clone(), outcome.clone()).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(asking.await??, Outcome::Answered(r#"{"status":"Accepted"}"#.into()));
    Ok(())
}

#[tokio::test]
async fn other_credentials_are_a_clear_error() -> Result<()> {
    let (listener, address) = port();
    let _other = listening("http://other@127.0.0.1:9/", listener);
    let outcome = clear_cache(&commander(at(address)).await?, Options::default()).await;
    assert!(matches!(outcome, Err(CommandError::Bus(PublishError::Away))), "{outcome:?}");
    Ok(())
}

/// The request was given up, and the answer finds its way all the same.
#[tokio::test]
async fn a_late_answer_is_posted_to_the_inbox_of_its_gateway() -> Result<()> {
    let ((gateway_port, gateway_at), (function_port, function_at)) = (port(), port());
    let gateway: Arc<dyn Bus> = listening(format!("http://{function_at}/?idempotent=true"), gateway_port);
    let function: Arc<dyn Bus> = listening(format!("http://{function_at}/"), function_port);
    let inbox = name_at("gateway", &format!("http://{gateway_at}"));
    let answers = Recorder::new();
    let _inbox = answers.listen(&gateway, Topic::Inbox(inbox.clone()), 8).await;
    let taken = Recorder::holding();
    let _calls = taken.listen(&function, Topic::Calls, 8).await;
    let mut short = call(1);
    short.metadata.reply_to = Some(inbox.clone());
    short.metadata.remaining = Some(Duration::from_millis(200));
    let outcome = in_time(gateway.publish(to_call(), short)).await;
    assert!(matches!(outcome, Err(PublishError::Refused(_))), "{outcome:?}");
    let (to, answer) = crate::support::answer_to(&taken.all()[0], r#"[3,"1",{}]"#);
    let told = async {
        // The function may not have noticed yet that nobody waits for the response.
        while answers.count() == 0 {
            drop(function.publish(to.clone(), answer.clone()).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(told).await;
    assert_eq!(answers.all()[0].metadata.seq, Some(1));
    Ok(())
}
