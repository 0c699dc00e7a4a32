//! What stands around handlers: layers, outcomes, and calls to stations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use bytestring::ByteString;
use common::{answer, assert_refused, block_on, context, frame, now};
use futures_util::future::BoxFuture;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context as Task, Poll},
};
use switchboard_messages::{v16, v201};
use switchboard_router::{
    Answer, Call, CallError, Caller, Command, CommandError, Ended, Key, Options, Outcome, Raw, Router, State,
    Station, Unhandled,
};
use switchboard_rpc::Version;
use tower::{Service, ServiceExt as _};
use tower_layer::{Layer, layer_fn};

async fn heartbeat(_: v16::HeartbeatRequest) -> v16::HeartbeatResponse {
    v16::HeartbeatResponse { current_time: now() }
}

fn call(action: &str) -> String {
    format!("[2,\"1\",\"{action}\",{{}}]")
}

/// Notes what passes, under a name.
#[derive(Clone)]
struct Noted<T> {
    name: &'static str,
    seen: Arc<Mutex<Vec<String>>>,
    inner: T,
}

impl<T: Service<Call>> Service<Call> for Noted<T> {
    type Response = T::Response;
    type Error = T::Error;
    type Future = T::Future;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), T::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, call: Call) -> T::Future {
        self.seen.lock().unwrap().push(format!("{} {}", self.name, call.action()));
        self.inner.call(call)
    }
}

fn noting(name: &'static str, seen: &Arc<Mutex<Vec<String>>>) -> impl Layer<Router, Service = Noted<Router>> {
    let seen = seen.clone();
    layer_fn(move |inner| Noted { name, seen: seen.clone(), inner })
}

#[test]
fn a_router_is_a_tower_service() {
    let router = Router::new().on(heartbeat);
    let call = Call::new(context(Version::V16), call("Heartbeat").into());
    assert_eq!(call.action(), "Heartbeat");
    let answered = block_on(router.oneshot(call)).unwrap();
    assert!(answered.frame.unwrap().starts_with(b"[3,"));
}

#[test]
fn a_layer_wraps_what_was_added_before_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let router = Router::new()
        .on(heartbeat)
        .fallback(async |_: Unhandled| {})
        .layer(noting("inner", &seen))
        .layer(noting("outer", &seen))
        .on_raw("Later", async |_: Raw| {});
    router.check().unwrap();
    for (action, passed) in [
        ("Heartbeat", &["outer Heartbeat", "inner Heartbeat"][..]),
        ("Unknown", &["outer Unknown", "inner Unknown"]),
        ("Later", &[]),
    ] {
        let answered = frame(&router, &context(Version::V16), &call(action));
        assert!(answered.starts_with("[3,"), "{action}: {answered}");
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), passed, "{action}");
    }
}

#[test]
fn a_router_with_layers_keeps_them_when_it_is_merged() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let layered = Router::new().on(heartbeat).layer(noting("layer", &seen));
    let router = Router::new().on_raw("Mine", async |_: Raw| {}).merge(layered);
    for action in ["Mine", "Heartbeat"] {
        assert!(frame(&router, &context(Version::V16), &call(action)).starts_with("[3,"), "{action}");
    }
    assert_eq!(*seen.lock().unwrap(), ["layer Heartbeat"]);
}

/// Fails or panics in the place of the router.
#[derive(Clone)]
struct Broken {
    panics: bool,
}

impl Service<Call> for Broken {
    type Response = Answer;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        assert!(!self.panics, "secret");
        Box::pin(async { Err(std::io::Error::other("secret")) })
    }
}

#[test]
fn a_layer_that_fails_or_panics_is_an_internal_error() {
    for panics in [false, true] {
        let router = Router::new().on(heartbeat).layer(layer_fn(|_| Broken { panics }));
        let answered = frame(&router, &context(Version::V16), &call("Heartbeat"));
        assert_refused(&answered, "InternalError", &format!("panics: {panics}"));
        assert!(!answered.contains("secret"), "{answered}");
    }
}

#[test]
fn an_outcome_reaches_its_handler_with_what_was_sent_along() {
    type Seen = Arc<Mutex<Vec<Ended>>>;
    async fn note(
        station: Station,
        key: Option<Key>,
        State(seen): State<Seen>,
        ended: Ended,
    ) -> Result<(), CallError> {
        assert_eq!(station.id.as_str(), "CP001");
        assert!(key.is_none(), "an outcome is known by its command id");
        seen.lock().unwrap().push(ended);
        Err(CallError::internal("logged"))
    }
    let seen = Seen::default();
    let router = Router::new().on_outcome(note).with_state(seen.clone());
    assert!(router.takes_outcomes());
    let ended = Ended::new("c1".into(), "Reset".into(), "my context".into(), Outcome::Unknown);
    block_on(router.outcome(&context(Version::V16), ended.clone()));
    assert_eq!(*seen.lock().unwrap(), std::slice::from_ref(&ended));

    let panicking = Router::new().on_outcome(async |_: Ended| -> () { panic!("it is caught") });
    block_on(panicking.outcome(&context(Version::V16), ended.clone()));
    let none = Router::new().on(heartbeat);
    assert!(!none.takes_outcomes());
    block_on(none.outcome(&context(Version::V16), ended));
}

/// A way to stations that answers as it is told, and keeps what it was given.
struct Scripted {
    outcome: Outcome,
    given: Mutex<Vec<(Command, Option<ByteString>)>>,
}

impl Caller for Scripted {
    fn call(&self, command: Command) -> BoxFuture<'static, Outcome> {
        self.given.lock().unwrap().push((command, None));
        Box::pin(std::future::ready(self.outcome.clone()))
    }

    fn send(&self, command: Command, context: ByteString) -> BoxFuture<'static, Result<(), Outcome>> {
        self.given.lock().unwrap().push((command, Some(context)));
        Box::pin(std::future::ready(match &self.outcome {
            Outcome::Busy => Err(Outcome::Busy),
            _ => Ok(()),
        }))
    }
}

/// Runs `ask` in a handler whose station is reached by a script, and gives back what it got and what was sent.
fn ask<T, F>(
    outcome: Outcome,
    ask: impl Fn(Station) -> F + Clone + Send + Sync + 'static,
) -> (T, Vec<(Command, Option<ByteString>)>)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let got = Arc::new(Mutex::new(None));
    let kept = got.clone();
    let router = Router::new().on(move |station: Station, _: v16::HeartbeatRequest| {
        let (asked, kept) = (ask(station), kept.clone());
        async move {
            *kept.lock().unwrap() = Some(asked.await);
            v16::HeartbeatResponse { current_time: now() }
        }
    });
    let caller = Arc::new(Scripted { outcome, given: Mutex::default() });
    let mut about = context(Version::V16);
    about.caller = Some(caller.clone());
    answer(&router, &about, &call("Heartbeat"));
    let given = std::mem::take(&mut *caller.given.lock().unwrap());
    (got.lock().unwrap().take().unwrap(), given)
}

#[test]
fn a_handler_calls_its_station_and_gets_a_typed_response() {
    let start =
        |station: Station| async move { station.call(v16::RemoteStartTransactionRequest::new("A1")).await };
    let (got, given) = ask(Outcome::Answered(r#"{"status":"Accepted","extra":1}"#.into()), start);
    assert_eq!(got.unwrap().status, v16::RemoteStartStopStatus::Accepted);
    let (command, context) = &given[0];
    assert_eq!((&*command.action, &*command.payload), ("RemoteStartTransaction", &br#"{"idTag":"A1"}"#[..]));
    assert_eq!((command.station.as_str(), command.version, context), ("CP001", Version::V16, &None));

    for (outcome, error) in [
        (Outcome::Offline, CommandError::Offline),
        (Outcome::Busy, CommandError::Busy),
        (Outcome::Expired, CommandError::Expired),
        (Outcome::Cancelled, CommandError::Cancelled),
        (Outcome::NotSent, CommandError::NotSent),
        (Outcome::Unknown, CommandError::Unknown),
        (
            Outcome::Refused { code: "X".into(), description: "d".into(), details: "{}".into() },
            CommandError::Refused { code: "X".into(), description: "d".into(), details: "{}".into() },
        ),
    ] {
        assert_eq!(ask(outcome, start).0, Err(error));
    }
    let (unreadable, _) = ask(Outcome::Answered("{}".into()), start);
    assert!(matches!(unreadable, Err(CommandError::Unreadable { payload, .. }) if &*payload == "{}"));
}

#[test]
fn what_cannot_be_right_is_not_sent() {
    let (got, given) = ask(Outcome::Unknown, |station: Station| async move {
        station.call(v201::ResetRequest::new(v201::Reset::Immediate)).await
    });
    assert_eq!(got, Err(CommandError::WrongVersion { station: Version::V16, request: Version::V201 }));
    assert!(given.is_empty());
    let (got, given) = ask(Outcome::Unknown, |station: Station| async move {
        station.call(v16::RemoteStartTransactionRequest::new("x".repeat(21))).await
    });
    assert!(matches!(got, Err(CommandError::Invalid(_))), "{got:?}");
    assert!(given.is_empty());
}

#[test]
fn a_command_is_sent_without_waiting_and_with_a_context() {
    let send = |station: Station| async move {
        let options = Options { urgent: true, key: Some("k".into()), ..Options::default() };
        station.send(v16::RemoteStopTransactionRequest::new(7), options, "about 7").await
    };
    let (got, given) = ask(Outcome::Unknown, send);
    assert_eq!(got, Ok(()));
    let (command, context) = &given[0];
    assert_eq!(context.as_deref(), Some("about 7"));
    assert!(command.options.urgent);
    assert_eq!(ask(Outcome::Busy, send).0, Err(CommandError::Busy));
}

#[test]
fn a_plain_function_has_no_way_to_stations() {
    let router = Router::new().on(async |station: Station, _: v16::HeartbeatRequest| {
        let got = station.call(v16::ClearCacheRequest {}).await;
        assert_eq!(got, Err(CommandError::NoWay));
        v16::HeartbeatResponse { current_time: now() }
    });
    assert!(frame(&router, &context(Version::V16), &call("Heartbeat")).starts_with("[3,"));
}
