//! Calls: what each response means, and what becomes of a call whose function goes away.

use crate::support::{
    answer_to, call, each, free, function, gateway, heartbeat, in_time, post, response, server, station,
    to_call,
};
use anyhow::{Result, ensure};
use bytes::Bytes;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use switchboard_bus::conformance::Recorder;
use switchboard_bus::{
    Address, Bus, Consumer, Kind, OutcomeKind, PublishError, Registration, State, SubscribeError,
    Subscription, Topic,
};
use switchboard_router::Router;
use switchboard_testkit::Proxy;

fn calls() -> Subscription {
    Subscription { topic: Topic::Calls, in_hand_max: NonZeroU32::new(64).unwrap() }
}

#[tokio::test]
async fn a_router_is_an_http_function() -> Result<()> {
    let (function, address) = function();
    let bus = gateway(format!("http://{address}/ocpp?health=/ocpp"));
    let (answers, presence) = (Recorder::new(), Recorder::new());
    let _inbox = answers.listen(&bus, Topic::Inbox("gateway".into()), u32::MAX).await;
    let _presence = presence.listen(&bus, Topic::Presence, u32::MAX).await;
    // Nobody is there yet who would take it.
    let nobody = bus.publish(to_call(), call(1)).await;
    assert!(matches!(nobody, Err(PublishError::NobodyListens)), "{nobody:?}");
    let router = Router::new().on(heartbeat);
    let served: Arc<dyn Bus> = Arc::clone(&function) as _;
    let worker = switchboard_worker::serve(router, served, switchboard_worker::Config::default()).await?;
    in_time(bus.publish(to_call(), call(1))).await?;
    let answer = &answers.wait_for(1).await[0];
    assert_eq!(answer.body, r#"[3,"1",{"currentTime":"2026-11-23T00:00:00Z"}]"#);
    let got = &answer.metadata;
    assert_eq!((got.kind, got.seq, &got.station), (Kind::Answer, Some(1), &Some(station())));
    assert_eq!(got.connection, call(1).metadata.connection);
    assert_eq!(got.worker.as_ref(), Some(worker.id()));
    assert_eq!(presence.wait_for(1).await[0].metadata.worker.as_deref(), Some("function-1"));
    worker.stop().await;
    // Until its health says so it is only busy.
    comes_to(&bus, |told| matches!(told, PublishError::NobodyListens)).await;
    Ok(())
}

#[tokio::test]
async fn full_hands_are_told_and_a_silent_worker_is_given_up() -> Result<()> {
    let (function, address) = function();
    let function: Arc<dyn Bus> = function;
    let bus = gateway(format!("http://{address}/ocpp?idempotent=true"));
    let taken = Recorder::holding();
    let _calls = taken.listen(&function, Topic::Calls, 1).await;
    let mut short = call(1);
    short.metadata.remaining = Some(Duration::from_millis(300));
    let (silent, busy) = tokio::join!(bus.publish(to_call(), short), async {
        taken.wait_for(1).await;
        bus.publish(to_call(), call(2)).await
    });
    assert!(matches!(busy, Err(PublishError::Busy)), "{busy:?}");
    assert!(matches!(silent, Err(PublishError::Refused(_))), "{silent:?}");
    Ok(())
}

/// Books that cannot be written are silent: nobody is to wait for them until the deadline.
#[tokio::test]
async fn a_worker_that_ends_without_an_answer_is_told_at_once() -> Result<()> {
    let (function, address) = function();
    let bus = gateway(format!("http://{address}/ocpp?idempotent=true"));
    let _silent = function.subscribe(calls(), each(|_| None)).await?;
    let before = tokio::time::Instant::now();
    let outcome = in_time(bus.publish(to_call(), call(1))).await;
    assert!(matches!(outcome, Err(PublishError::Refused(_))), "{outcome:?}");
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    Ok(())
}

/// A worker that wants no more gives a call back.
#[tokio::test]
async fn what_a_worker_returns_is_told_as_such() -> Result<()> {
    for (outcome, is_busy) in [(OutcomeKind::Busy, true), (OutcomeKind::Offline, false)] {
        let (function, address) = function();
        let bus = gateway(format!("http://{address}/ocpp"));
        let to: Arc<dyn Bus> = Arc::clone(&function) as _;
        let returning: Arc<dyn Consumer> = each(move |call| {
            let (to, mut returned) = (Arc::clone(&to), answer_to(&call, ""));
            returned.1.metadata.kind = Kind::Returned;
            returned.1.metadata.outcome = Some(outcome);
            Some(Box::pin(async move { to.publish(returned.0, returned.1).await.unwrap() }))
        });
        let _returning = function.subscribe(calls(), returning).await?;
        let told = in_time(bus.publish(to_call(), call(1))).await;
        match told {
            Err(PublishError::Busy) if is_busy => {}
            Err(PublishError::NobodyListens) if !is_busy => {}
            other => panic!("{outcome:?}: {other:?}"),
        }
    }
    Ok(())
}

/// Calls are refused until they are refused so. Its health is asked now and then only.
async fn comes_to(bus: &Arc<dyn Bus>, so: impl Fn(&PublishError) -> bool) {
    in_time(async {
        while !so(&bus.publish(to_call(), call(9)).await.unwrap_err()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Its health says that it is there, or that it is not.
#[tokio::test]
async fn a_function_that_says_503_although_it_is_well_is_busy_and_not_away() -> Result<()> {
    let (function, address) = function();
    let bus = gateway(format!("http://{address}/ocpp?health=/ocpp"));
    let to: Arc<dyn Bus> = Arc::clone(&function) as _;
    let returning: Arc<dyn Consumer> = each(move |call| {
        let (to, mut returned) = (Arc::clone(&to), answer_to(&call, ""));
        returned.1.metadata.kind = Kind::Returned;
        returned.1.metadata.outcome = Some(OutcomeKind::Offline);
        Some(Box::pin(async move { to.publish(returned.0, returned.1).await.unwrap() }))
    });
    let returning = function.subscribe(calls(), returning).await?;
    comes_to(&bus, |told| matches!(told, PublishError::Busy)).await;
    drop(returning);
    comes_to(&bus, |told| matches!(told, PublishError::NobodyListens)).await;
    Ok(())
}

/// Without `idempotent` nobody posts it again, and the gateway is told that somebody may have it.
#[tokio::test]
async fn a_call_that_may_have_been_processed_is_posted_again_only_if_that_is_harmless() -> Result<()> {
    for idempotent in [false, true] {
        // It closes the connection without a word.
        let (address, count) = server("").await?;
        let (other, others) = server(response("200 OK", "", r#"[3,"1",{}]"#)).await?;
        let bus = gateway(format!("http://{address}/?idempotent={idempotent},http://{other}/"));
        assert_eq!(bus.capabilities().repeatable, idempotent);
        let outcome = in_time(bus.publish(to_call(), call(1))).await;
        assert!(matches!(outcome, Err(PublishError::Refused(_))), "{outcome:?}");
        assert_eq!((count.load(Ordering::Relaxed), others.load(Ordering::Relaxed)), (1, 0));
    }
    Ok(())
}

#[tokio::test]
async fn each_status_means_what_it_says() -> Result<()> {
    let failed = r#"[4,"1","InternalError","the function failed",{}]"#;
    let cases = [
        ("502 Bad Gateway", "", "nobody", "nobody"),
        ("503 Service Unavailable", "", "nobody", "nobody"),
        ("429 Too Many Requests", "", "busy", "busy"),
        // Its URL or our credentials are wrong: no function has seen the call.
        ("401 Unauthorized", "", "nobody", "nobody"),
        ("404 Not Found", "<h1>no</h1>", "nobody", "nobody"),
        ("405 Method Not Allowed", "", "nobody", "nobody"),
        ("500 Internal Server Error", "", failed, "perhaps"),
        ("504 Gateway Timeout", "", "perhaps", "perhaps"),
        ("422 Unprocessable Content", "", failed, failed),
        ("302 Found", "", failed, failed),
        ("200 OK", r#"[3,"1",{"a":1}]"#, r#"[3,"1",{"a":1}]"#, r#"[3,"1",{"a":1}]"#),
        (
            "201 Created",
            r#"[4,"1","NotSupported","",{}]"#,
            r#"[4,"1","NotSupported","",{}]"#,
            r#"[4,"1","NotSupported","",{}]"#,
        ),
        // Something in between answered in the function's place.
        ("200 OK", "<h1>Sign in</h1>", "perhaps", "perhaps"),
        ("200 OK", "", "perhaps", "perhaps"),
    ];
    for (status, body, once, repeatable) in cases {
        for (idempotent, meaning) in [(false, once), (true, repeatable)] {
            let (address, _) = server(response(status, "ocpp-registration: pending\r\n", body)).await?;
            let bus = gateway(format!("http://{address}/?idempotent={idempotent}"));
            let answers = Recorder::new();
            let _inbox = answers.listen(&bus, Topic::Inbox("gateway".into()), 8).await;
            let outcome = in_time(bus.publish(to_call(), call(1))).await;
            let is_meant = match (meaning, &outcome) {
                ("nobody", Err(PublishError::NobodyListens))
                | ("busy", Err(PublishError::Busy))
                | ("perhaps", Err(PublishError::Refused(_))) => true,
                (frame, Ok(())) if frame.starts_with('[') => {
                    let answer = &answers.wait_for(1).await[0];
                    assert_eq!(answer.body, frame, "{status}");
                    answer.metadata.registration == Some(Registration::Pending)
                }
                _ => false,
            };
            assert!(is_meant, "{status}, idempotent={idempotent}: {outcome:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_response_that_is_too_large_is_no_answer() -> Result<()> {
    let body = format!("[3,\"1\",{{\"a\":\"{}\"}}]", "x".repeat(switchboard_bus_http::BODY_BYTES_MAX));
    let (address, _) = server(response("200 OK", "", &body)).await?;
    let bus = gateway(format!("http://{address}/"));
    let outcome = in_time(bus.publish(to_call(), call(1))).await;
    assert!(matches!(outcome, Err(PublishError::Refused(_))), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn nobody_at_the_port_is_told_and_a_second_function_is_tried() -> Result<()> {
    let nobody = gateway(format!("http://{}/", free()));
    let outcome = in_time(nobody.publish(to_call(), call(1))).await;
    assert!(matches!(outcome, Err(PublishError::NobodyListens)), "{outcome:?}");
    let (address, _) = server(response("200 OK", "", r#"[3,"1",{}]"#)).await?;
    let (full, _) = server(response("429 Too Many Requests", "", "")).await?;
    let all = gateway(format!("http://{},http://{full}/,http://{address}/", free()));
    for seq in 0..6 {
        in_time(all.publish(to_call(), call(seq))).await?;
    }
    let some = gateway(format!("http://{},http://{full}/", free()));
    let outcome = in_time(some.publish(to_call(), call(1))).await;
    assert!(matches!(outcome, Err(PublishError::Busy)), "somebody is there: {outcome:?}");
    Ok(())
}

/// No connection breaks when a process is frozen, or a line goes dead. Its health says it.
#[tokio::test]
async fn a_function_that_falls_silent_gives_its_calls_to_another() -> Result<()> {
    let (first, first_at) = function();
    let (second, second_at) = function();
    let line = Proxy::to(first_at).await?;
    let url = format!("http://{}/ocpp?idempotent=true&health=/ocpp,http://{second_at}/ocpp", line.address());
    let bus = gateway(url);
    let answers = Recorder::new();
    let _inbox = answers.listen(&bus, Topic::Inbox("gateway".into()), 64).await;
    let held = Recorder::holding();
    let first: Arc<dyn Bus> = first;
    let _first = held.listen(&first, Topic::Calls, 64).await;
    let to: Arc<dyn Bus> = Arc::clone(&second) as _;
    let answering: Arc<dyn Consumer> = each(move |call| {
        let (to, answer) = (Arc::clone(&to), answer_to(&call, r#"[3,"1",{}]"#));
        Some(Box::pin(async move { to.publish(answer.0, answer.1).await.unwrap() }))
    });
    let _second = second.subscribe(calls(), answering).await?;
    // Two in a row: one of them is the first function's, which has it and says nothing.
    let mut posted: Vec<_> = (0..2)
        .map(|seq| {
            let bus = Arc::clone(&bus);
            tokio::spawn(async move { bus.publish(to_call(), call(seq)).await })
        })
        .collect();
    held.wait_for(1).await;
    answers.wait_for(1).await;
    // As long as it is well it is waited for.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(posted.iter().filter(|posted| posted.is_finished()).count(), 1);
    line.hold(true);
    let mut given_up = 0;
    for posted in posted.drain(..) {
        match in_time(posted).await? {
            Ok(()) => {}
            Err(PublishError::Refused(_)) => given_up += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(given_up, 1, "and may be handed over again");
    // While it is silent it is asked last.
    for seq in 2..6 {
        in_time(bus.publish(to_call(), call(seq))).await?;
    }
    assert_eq!(held.count(), 1);
    Ok(())
}

#[tokio::test]
async fn events_are_posted_where_the_url_says() -> Result<()> {
    let (address, count) = server(response("204 No Content", "", "")).await?;
    let bus = gateway(format!("http://{}/?events=http://{address}/events", free()));
    let mut event = call(1);
    event.metadata.kind = Kind::Event;
    bus.publish(Address::Event { tenant: "default".into(), station: station() }, event).await?;
    in_time(async {
        while count.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_function_asks_for_its_credentials() -> Result<()> {
    let (listener, address) = crate::support::port();
    let function = crate::support::listening(format!("http://gw:secret@{address}/ocpp"), listener);
    let silent: Arc<dyn Consumer> = each(|_| None);
    let _calls = function.subscribe(calls(), silent).await?;
    let wrong = gateway(format!("http://gw:guess@{address}/ocpp"));
    let outcome = in_time(wrong.publish(to_call(), call(1))).await;
    assert!(matches!(outcome, Err(PublishError::NobodyListens)), "{outcome:?}");
    let right = gateway(format!("http://gw:secret@{address}/ocpp"));
    let outcome = in_time(right.publish(to_call(), call(1))).await;
    assert!(matches!(outcome, Err(PublishError::Refused(_))), "it was given to the silent one: {outcome:?}");
    for path in ["/ocpp", "/gateway/v1/commands", "/gateway/v1/inbox/x"] {
        let answer = post(address, path, "ocpp-station: CP1\r\n", "[]").await?;
        ensure!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_had_over_http_is_said() -> Result<()> {
    let bus = gateway(format!("http://{}/", free()));
    let refused = bus.subscribe(calls(), Recorder::new()).await;
    assert!(matches!(refused, Err(SubscribeError::Refused(_))), "it does not listen");
    assert_eq!(*bus.state().borrow(), State::Connected);
    let mut large = call(1);
    large.body = Bytes::from(vec![b' '; bus.capabilities().body_bytes_max + 1]);
    let refused = bus.publish(to_call(), large).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })));
    bus.close().await;
    let closed = bus.publish(to_call(), call(1)).await;
    assert!(matches!(closed, Err(PublishError::Closed)), "{closed:?}");
    Ok(())
}
