//! Which handler gets what, and what it can ask for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{answer, assert_refused, block_on, context, frame, now, strict};
use futures_util::FutureExt as _;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};
use switchboard_messages::{Mode, v16, v21, v201};
use switchboard_router::{
    CallError, Context, Fault, FromCall, FromRef, Key, MessageId, Parts, Payload, Raw, Registration, Reply,
    Router, State, Station, Unhandled, Warnings,
};
use switchboard_rpc::{ErrorCode, Frame, Version};

const HEARTBEAT: &str = r#"[2,"1","Heartbeat",{}]"#;
const HEARTBEAT_ANSWER: &str = r#"[3,"1",{"currentTime":"2023-11-14T22:13:20Z"}]"#;

async fn heartbeat_16(_: v16::HeartbeatRequest) -> v16::HeartbeatResponse {
    v16::HeartbeatResponse { current_time: now() }
}

#[test]
fn a_request_goes_to_the_handler_of_its_version_and_action() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let seen = seen.clone();
        move || seen.lock().unwrap().push(name)
    };
    let (first, second, third) = (note("1.6"), note("2.0.1"), note("2.1"));
    let router = Router::new()
        .on(move |_: v16::HeartbeatRequest| {
            first();
            async { v16::HeartbeatResponse { current_time: now() } }
        })
        .on(move |_: v201::HeartbeatRequest| {
            second();
            async { v201::HeartbeatResponse { current_time: now(), custom_data: None } }
        })
        .on(move |_: v21::HeartbeatRequest| {
            third();
            async { Ok::<_, CallError>(v21::HeartbeatResponse { current_time: now(), custom_data: None }) }
        });
    for version in Version::ALL {
        assert_eq!(frame(&router, &context(version), HEARTBEAT), HEARTBEAT_ANSWER, "{version}");
    }
    assert_eq!(*seen.lock().unwrap(), ["1.6", "2.0.1", "2.1"]);
    router.check().unwrap();
}

#[derive(Clone)]
struct App {
    counter: Arc<AtomicU32>,
    name: Name,
}

#[derive(Clone)]
struct Name(&'static str);

impl FromRef<App> for Name {
    fn from_ref(app: &App) -> Self {
        app.name.clone()
    }
}

struct Never;

impl<S> FromCall<S> for Never {
    fn from_call(_: &Parts<'_>, _: &S) -> Result<Self, CallError> {
        Err(CallError::security("never"))
    }
}

#[test]
fn a_handler_is_given_what_it_asks_for() {
    #[expect(clippy::too_many_arguments, reason = "as many as a handler can have")]
    async fn boot(
        station: Station,
        State(app): State<App>,
        State(name): State<Name>,
        key: Key,
        id: MessageId,
        Warnings(warnings): Warnings,
        context: Context,
        never: Option<Never>,
        request: v16::BootNotificationRequest,
    ) -> Result<v16::BootNotificationResponse, CallError> {
        assert_eq!((station.id.as_str(), &*station.tenant, station.version), ("CP001", "acme", Version::V16));
        assert_eq!((station.generation, station.mode), (7, Mode::Lenient));
        app.counter.fetch_add(1, Ordering::Relaxed);
        assert_eq!(name.0, "central");
        assert_eq!((key.generation, key.seq, key.journal), (7, 3, Some(9)));
        assert_eq!(id.as_json(), "17");
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].pointer, "/iccid");
        assert_eq!(context.attempt, 2);
        assert!(never.is_none());
        assert_eq!(request.charge_point_model, "One");
        Ok(v16::BootNotificationResponse::new(v16::RegistrationStatus::Accepted, now(), 300))
    }
    let app = App { counter: Arc::default(), name: Name("central") };
    let router = Router::new().on(boot).with_state(app.clone());
    let mut about = context(Version::V16);
    about.tenant = "acme".into();
    about.generation = 7;
    about.seq = 3;
    about.attempt = 2;
    about.journal = Some(9);
    let answered = answer(
        &router,
        &about,
        r#"[2,17,"BootNotification",{"chargePointVendor":"E","chargePointModel":"One","iccid":null}]"#,
    );
    let text = String::from_utf8(answered.frame.unwrap().to_vec()).unwrap();
    assert!(text.starts_with("[3,17,{"), "{text}");
    assert_eq!(answered.registration, Some(Registration::Accepted));
    assert_eq!(app.counter.load(Ordering::Relaxed), 1);
}

#[test]
fn an_extractor_that_refuses_answers_in_the_handlers_place() {
    async fn heartbeat(_: Never, _: v16::HeartbeatRequest) -> v16::HeartbeatResponse {
        panic!("it was refused");
    }
    let router = Router::new().on(heartbeat);
    assert_eq!(frame(&router, &context(Version::V16), HEARTBEAT), r#"[4,"1","SecurityError","never",{}]"#);
}

#[test]
fn an_id_comes_back_as_the_station_wrote_it() {
    let router = Router::new().on(heartbeat_16);
    for id in [r#""1""#, "42", r#""\u0041\"b""#, r#""ü""#] {
        let answered = frame(&router, &context(Version::V16), &format!("[2,{id},\"Heartbeat\",{{}}]"));
        assert_eq!(answered, format!("[3,{id},{{\"currentTime\":\"2023-11-14T22:13:20Z\"}}]"));
    }
}

#[test]
fn what_is_no_call_is_answered_as_the_protocol_says() {
    let router = Router::new().on(heartbeat_16);
    for (version, text, answered) in [
        (Version::V16, r#"[3,"1",{}]"#, ""),
        (Version::V16, r#"[4,"1","InternalError","",{}]"#, ""),
        (Version::V16, "nonsense", ""),
        (Version::V16, r#"[2,"1","Heartbeat"]"#, "[4,\"1\",\"FormationViolation\""),
        (Version::V201, "nonsense", "[4,\"-1\",\"RpcFrameworkError\""),
    ] {
        let got = frame(&router, &context(version), text);
        assert!(
            got.starts_with(answered) && got.is_empty() == answered.is_empty(),
            "{version} {text}: {got}"
        );
    }
}

#[test]
fn a_fault_of_the_frame_goes_before_one_of_the_payload() {
    let router = Router::new().on(heartbeat_16);
    for mode in [Mode::Lenient, Mode::Strict] {
        let mut context = context(Version::V16);
        context.mode = mode;
        for text in [r#"[2,"1","Heartbeat",{},{}]"#, r#"[2,"1","Heartbeat",{"a":[}]]"#] {
            let answered = frame(&router, &context, text);
            let alone = Frame::parse(&text.into(), Version::V16).unwrap_err().answer(Version::V16);
            assert_eq!(answered.as_bytes(), alone.unwrap_or_default(), "{text}");
        }
    }
}

#[test]
fn a_null_payload_counts_as_an_empty_one() {
    let router = Router::new().on(heartbeat_16);
    assert_eq!(frame(&router, &strict(Version::V16), r#"[2,"1","Heartbeat",null]"#), HEARTBEAT_ANSWER);
}

#[test]
fn a_send_is_handled_and_not_answered() {
    let count = Arc::new(AtomicU32::new(0));
    let counter = count.clone();
    let router = Router::new().on(move |request: v21::NotifyPeriodicEventStreamRequest| {
        counter.fetch_add(request.data.len() as u32, Ordering::Relaxed);
        async { Ok::<_, CallError>(switchboard_messages::NoResponse) }
    });
    let payload = r#"{"data":[{"t":0,"v":"1"}],"id":1,"pending":0,"basetime":"2023-11-14T22:13:20Z"}"#;
    for (payload, row) in [(payload, "sound"), ("{}", "broken")] {
        let text = format!("[6,\"1\",\"NotifyPeriodicEventStream\",{payload}]");
        assert_eq!(
            answer(&router, &context(Version::V21), &text),
            switchboard_router::Answer::silence(),
            "{row}"
        );
    }
    assert_eq!(answer(&router, &context(Version::V21), r#"[6,"1","Unknown",{}]"#).frame, None);
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[test]
fn the_registration_is_read_from_the_answer_to_a_boot_notification() {
    let boot = |status| {
        Router::new().on(move |_: v201::BootNotificationRequest| {
            let status: v201::RegistrationStatus = Clone::clone(&status);
            async move { v201::BootNotificationResponse::new(now(), 300, status) }
        })
    };
    let text =
        r#"[2,"1","BootNotification",{"reason":"PowerUp","chargingStation":{"model":"M","vendorName":"V"}}]"#;
    for (status, registration) in [
        (v201::RegistrationStatus::Accepted, Registration::Accepted),
        (v201::RegistrationStatus::Pending, Registration::Pending),
        (v201::RegistrationStatus::Rejected, Registration::Rejected),
    ] {
        let answered = answer(&boot(status), &context(Version::V201), text);
        assert_eq!(answered.registration, Some(registration));
    }
    let router = boot(v201::RegistrationStatus::Accepted);
    assert_eq!(
        answer(&router, &context(Version::V201), r#"[2,"1","BootNotification",{}]"#).registration,
        None
    );
    // A raw handler's answer is read as well; other actions may have a status of their own.
    let raw =
        Router::new().on_raw("BootNotification", async |_: Raw| Payload::json(r#"{"status":"Pending"}"#));
    assert_eq!(answer(&raw, &context(Version::V16), text).registration, Some(Registration::Pending));
    let raw = Router::new().on_raw("Authorize", async |_: Raw| Payload::json(r#"{"status":"Accepted"}"#));
    assert_eq!(answer(&raw, &context(Version::V16), r#"[2,"1","Authorize",{}]"#).registration, None);
}

#[test]
fn a_raw_handler_sees_the_stations_bytes() {
    let router = Router::new().on_raw("VendorAction", async |raw: Raw| {
        assert_eq!(&*raw.action, "VendorAction");
        Payload::json(raw.payload)
    });
    let payload = r#"{ "a":1.10, "a":123456789012345678901234567890 }"#;
    for version in Version::ALL {
        let answered = frame(&router, &context(version), &format!("[2,\"1\",\"VendorAction\",{payload}]"));
        assert_eq!(answered, format!("[3,\"1\",{payload}]"), "{version}");
    }
    assert_refused(
        &frame(&router, &context(Version::V16), r#"[2,"1","vendoraction",{}]"#),
        "NotImplemented",
        "another case",
    );
}

#[test]
fn a_raw_answer_is_an_object_or_an_internal_error() {
    for (payload, sound) in [
        ("{}", true),
        (r#"{"a":[1,2]}"#, true),
        ("", false),
        ("[]", false),
        ("null", false),
        (r#"{"a":}"#, false),
        (r#"{}],["#, false),
    ] {
        let router = Router::new().on_raw("X", move |_: Raw| async move { Payload::json(payload) });
        let answered = frame(&router, &context(Version::V16), r#"[2,"1","X",{}]"#);
        if sound {
            assert_eq!(answered, format!("[3,\"1\",{payload}]"));
        } else {
            assert_refused(&answered, "InternalError", payload);
        }
    }
    let router = Router::new()
        .on_raw("Nothing", async |_: Raw| {})
        .on_raw("Value", async |_: Raw| Ok::<_, CallError>(serde_json::json!({"a": 1})));
    assert_eq!(frame(&router, &context(Version::V16), r#"[2,"1","Nothing",{}]"#), r#"[3,"1",{}]"#);
    assert_eq!(frame(&router, &context(Version::V16), r#"[2,"1","Value",{}]"#), r#"[3,"1",{"a":1}]"#);
}

#[test]
fn the_nearest_handler_takes_a_message() {
    let router = Router::new()
        .on(heartbeat_16)
        .on_raw_of(Version::V201, "Heartbeat", async |_: Raw| Payload::json(r#"{"by":"raw"}"#))
        .on_any(async |raw: Raw| serde_json::json!({ "any": &*raw.action }))
        .fallback(async |_: Unhandled| Payload::json(r#"{"by":"fallback"}"#));
    for (version, action, payload) in [
        (Version::V16, "Heartbeat", r#"{"currentTime":"2023-11-14T22:13:20Z"}"#),
        (Version::V201, "Heartbeat", r#"{"by":"raw"}"#),
        (Version::V21, "Heartbeat", r#"{"any":"Heartbeat"}"#),
        (Version::V16, "Vendor", r#"{"any":"Vendor"}"#),
    ] {
        let answered = frame(&router, &context(version), &format!("[2,\"1\",\"{action}\",{{}}]"));
        assert_eq!(answered, format!("[3,\"1\",{payload}]"), "{version} {action}");
    }
}

#[test]
fn a_fallback_decides_about_what_nothing_handles() {
    let router = Router::new().on(heartbeat_16).fallback(async |unhandled: Unhandled| {
        if &*unhandled.action == "Mine" { Ok(Payload::empty()) } else { Err(unhandled.refusal()) }
    });
    for (action, answered) in [
        ("Mine", r#"[3,"1",{}]"#),
        ("Other", r#"[4,"1","NotImplemented","the action is not known here",{}]"#),
        ("Reset", r#"[4,"1","NotSupported","the action is not supported here",{}]"#),
    ] {
        assert_eq!(frame(&router, &context(Version::V16), &format!("[2,\"1\",\"{action}\",{{}}]")), answered);
    }
}

#[test]
fn two_handlers_for_one_action_are_told_and_the_first_one_stays() {
    let router = Router::<()>::new()
        .on(heartbeat_16)
        .on(async |_: v16::HeartbeatRequest| -> v16::HeartbeatResponse { panic!("the second one") })
        .fallback(async |_: Unhandled| {})
        .fallback(async |_: Unhandled| {});
    let faults = router.check().unwrap_err();
    assert_eq!(
        faults.0,
        [Fault::Duplicate { version: Version::V16, action: "Heartbeat".into() }, Fault::Second("fallback")]
    );
    assert_eq!(faults.to_string(), "two handlers for Heartbeat of OCPP 1.6; two handlers given to fallback");
    assert_eq!(frame(&router, &context(Version::V16), HEARTBEAT), HEARTBEAT_ANSWER);
}

#[test]
fn routers_are_merged_and_what_both_handle_is_told() {
    let first = Router::<()>::new().on(heartbeat_16);
    let second = Router::new().on_raw("X", async |_: Raw| {}).fallback(async |_: Unhandled| {});
    let merged = first.clone().merge(second);
    merged.check().unwrap();
    for action in ["X", "Anything", "Heartbeat"] {
        let answered = frame(&merged, &context(Version::V16), &format!("[2,\"1\",\"{action}\",{{}}]"));
        assert!(answered.starts_with("[3,"), "{action}: {answered}");
    }
    assert_eq!(first.clone().merge(first).check().unwrap_err().0.len(), 1);
}

#[test]
fn ones_own_handlers_go_before_ready_made_ones() {
    let mine = Router::<()>::new().on_raw("Heartbeat", async |_: Raw| Payload::json(r#"{"by":"me"}"#));
    let ready_made = Router::new()
        .on(heartbeat_16)
        .on(async |State(name): State<Name>, _: v16::MeterValuesRequest| {
            assert_eq!(name.0, "theirs");
            v16::MeterValuesResponse {}
        })
        .with_state(Name("theirs"));
    let router = mine.otherwise(ready_made);
    router.check().unwrap();
    assert_eq!(frame(&router, &context(Version::V16), HEARTBEAT), r#"[3,"1",{"by":"me"}]"#);
    let values = r#"[2,"1","MeterValues",{"connectorId":1,"meterValue":[{"timestamp":"2023-11-14T22:13:20Z","sampledValue":[{"value":"1"}]}]}]"#;
    assert_eq!(frame(&router, &context(Version::V16), values), r#"[3,"1",{}]"#);
    assert!(router.handles(Version::V16, "MeterValues") && !router.handles(Version::V201, "MeterValues"));
}

#[test]
fn a_handler_that_cannot_now_says_later_and_tells_the_station_nothing() {
    let router = Router::new()
        .on(async |_: v16::HeartbeatRequest| Err::<v16::HeartbeatResponse, _>(CallError::later()))
        .on_raw("Raw", async |_: Raw| Err::<(), _>(CallError::later()));
    for text in [HEARTBEAT, r#"[2,"1","Raw",{}]"#] {
        let later = answer(&router, &context(Version::V16), text);
        assert_eq!(later, switchboard_router::Answer::later());
        assert_eq!((later.frame, later.later), (None, true));
    }
    assert!(!answer(&router, &context(Version::V16), r#"[2,"1","Unknown",{}]"#).later);
}

#[test]
fn a_stored_answer_is_sent_again_and_a_stale_call_is_met_with_silence() {
    let reply = |reply: Result<Reply<v16::HeartbeatResponse>, CallError>| {
        let reply = Mutex::new(Some(reply));
        let reply = Arc::new(reply);
        Router::new().on(move |_: v16::HeartbeatRequest| {
            let reply = reply.lock().unwrap().take().unwrap();
            async { reply }
        })
    };
    let about = context(Version::V16);
    let stored: Reply<v16::HeartbeatResponse> =
        Reply::stored(r#"{"currentTime":"2000-01-01T00:00:00Z"}"#.into());
    let Reply::Stored(of) = &stored else { panic!("{stored:?}") };
    assert_eq!(of.read().unwrap().value.current_time.unix_seconds(), 946_684_800);
    assert_eq!(
        frame(&reply(Ok(stored)), &about, HEARTBEAT),
        r#"[3,"1",{"currentTime":"2000-01-01T00:00:00Z"}]"#
    );
    let new = v16::HeartbeatResponse { current_time: now() };
    assert_eq!(frame(&reply(Ok(new.into())), &about, HEARTBEAT), HEARTBEAT_ANSWER);
    assert_eq!(answer(&reply(Ok(Reply::Silence)), &about, HEARTBEAT).frame, None);
    assert_eq!(answer(&reply(Err(CallError::stale())), &about, HEARTBEAT).frame, None);
}

#[test]
fn errors_are_written_as_the_handler_says_them() {
    let refuse = |error: fn() -> CallError| {
        Router::new()
            .on(move |_: v201::HeartbeatRequest| async move { Err::<v201::HeartbeatResponse, _>(error()) })
    };
    let with_details: fn() -> CallError = || {
        CallError::new(ErrorCode::GenericError, "later")
            .with_details(serde_json::value::to_raw_value(&serde_json::json!({"retry": 5})).unwrap())
    };
    for (error, answered) in [
        (with_details, r#"[4,"1","GenericError","later",{"retry":5}]"#),
        (
            || CallError::security("no").with_details(serde_json::value::to_raw_value(&[1]).unwrap()),
            r#"[4,"1","SecurityError","no",{}]"#,
        ),
        (
            || CallError::property("quote \" and \n"),
            r#"[4,"1","PropertyConstraintViolation","quote \" and \n",{}]"#,
        ),
    ] {
        assert_eq!(frame(&refuse(error), &context(Version::V201), HEARTBEAT), answered);
    }
    let long = frame(&refuse(|| CallError::security("ü".repeat(300))), &context(Version::V201), HEARTBEAT);
    assert_refused(&long, "SecurityError", "a long description is cut");
}

#[test]
fn a_handler_waits_without_a_runtime_and_runs_only_when_polled() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = Arc::new(Mutex::new(receiver));
    let polls = Arc::new(AtomicU32::new(0));
    let counted = polls.clone();
    let router = Router::new().on(move |_: v16::HeartbeatRequest| {
        let (receiver, polls) = (receiver.clone(), counted.clone());
        std::future::poll_fn(move |task| {
            polls.fetch_add(1, Ordering::Relaxed);
            match receiver.lock().unwrap().try_recv() {
                Ok(()) => std::task::Poll::Ready(()),
                Err(_) => {
                    task.waker().wake_by_ref();
                    std::task::Poll::Pending
                }
            }
        })
        .map(|()| v16::HeartbeatResponse { current_time: now() })
    });
    let answering = router.answer(&context(Version::V16), HEARTBEAT.into());
    drop(router);
    assert_eq!(polls.load(Ordering::Relaxed), 0, "nothing runs before it is polled");
    let waiting = std::thread::spawn(move || block_on(answering));
    while polls.load(Ordering::Relaxed) < 3 {
        std::thread::yield_now();
    }
    sender.send(()).unwrap();
    assert_eq!(waiting.join().unwrap().frame.unwrap(), HEARTBEAT_ANSWER);
}
