//! Functions that are none of ours, and say odd things. No answer that a station gets is false.

use crate::support::{Odd, Place, Says, metric_at_least, start, station, status};
use anyhow::{Result, ensure};
use std::time::Duration;
use switchboard_testkit::{RawStation, Switchboard, wait};

const FAILS: &str = "500 Internal Server Error";

fn accepted() -> String {
    r#"[3,"ID",{"transactionId":7,"idTagInfo":{"status":"Accepted"}}]"#.to_owned()
}

/// A gateway in front of it whose deadline is short.
async fn gateway(place: &Place, idempotent: bool) -> Result<Switchboard> {
    place.gateway(&place.bus(idempotent), &["--gateway-answer-deadline", "1500ms"]).await
}

#[tokio::test]
async fn a_function_that_is_slow_and_right_is_believed_and_asked_once() -> Result<()> {
    let odd = Odd::new(|_| Says::Later(Duration::from_millis(800), accepted())).await?;
    let Some(place) = Place::with("http_bus::slow", vec![odd.address]).await? else { return Ok(()) };
    let gateway = gateway(&place, true).await?;
    let answer = station(&gateway, "CP1").await?.ask(&start("s", 1)).await?;
    ensure!(answer[0] == 3 && answer[2]["transactionId"] == 7, "{answer}");
    ensure!(odd.calls().len() == 1, "{:?}", odd.calls());
    Ok(())
}

/// With the same key each time, and a higher attempt.
#[tokio::test]
async fn a_call_that_failed_is_posted_again_to_an_idempotent_function() -> Result<()> {
    let odd = Odd::new(|count| match count {
        0 => Says::Nothing,
        1 => Says::This(FAILS, String::new()),
        2 => Says::This("200 OK", "<h1>Please wait</h1>".to_owned()),
        3 => Says::This("503 Service Unavailable", String::new()),
        _ => Says::This("200 OK", accepted()),
    })
    .await?;
    let Some(place) = Place::with("http_bus::again", vec![odd.address]).await? else { return Ok(()) };
    let gateway = place.gateway(&place.bus(true), &[]).await?;
    let answer = station(&gateway, "CP1").await?.ask(&start("s", 1)).await?;
    ensure!(answer[0] == 3 && answer[1] == "s" && answer[2]["transactionId"] == 7, "{answer}");
    let calls = odd.calls();
    let header = |call: &str, name: &str| {
        call.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default().to_owned()
    };
    ensure!(calls.len() == 5, "{calls:?}");
    for (call, attempt) in calls.iter().zip(1..) {
        ensure!(header(call, "ocpp-attempt") == attempt.to_string(), "{call}");
        for key in ["ocpp-generation", "ocpp-seq", "ocpp-station"] {
            ensure!(header(call, key) == header(&calls[0], key), "{call}");
        }
    }
    Ok(())
}

/// Nobody else is sent away because of it.
#[tokio::test]
async fn a_function_that_fails_at_a_call_is_not_taken_for_away() -> Result<()> {
    let odd = Odd::new(|_| Says::This(FAILS, String::new())).await?;
    let Some(place) = Place::with("http_bus::fails", vec![odd.address]).await? else { return Ok(()) };
    let gateway = place.gateway(&place.bus(true), &["--gateway-refuse-upgrades-after", "1s"]).await?;
    let mut stuck = station(&gateway, "CP1").await?;
    stuck.send(&start("s", 1)).await?;
    // Six attempts take longer than that second.
    wait::until("six attempts", async || (odd.calls().len() >= 6).then_some(())).await?;
    station(&gateway, "CP2").await?;
    ensure!(!gateway.log().contains("nobody takes calls"), "{}", gateway.log());
    Ok(())
}

/// One that does not know a repeat is asked once, and what it may have done is not denied: the station keeps what is about
/// money.
#[tokio::test]
async fn a_call_that_may_have_been_processed_is_not_posted_again_otherwise() -> Result<()> {
    for says in [Says::Nothing, Says::This("200 OK", "<h1>Sign in</h1>".to_owned())] {
        let said = says.clone();
        let odd = Odd::new(move |_| said.clone()).await?;
        let Some(place) = Place::with("http_bus::once", vec![odd.address]).await? else { return Ok(()) };
        let gateway = gateway(&place, false).await?;
        let mut paying = station(&gateway, "CP1").await?;
        paying.send(&start("s", 1)).await?;
        ensure!(paying.closed().await? == Some(1013), "{says:?}: the station keeps it");
        ensure!(odd.calls().len() == 1, "{says:?}: {:?}", odd.calls());
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_answer_to_a_call_does_not_reach_its_station() -> Result<()> {
    let huge = format!(r#"[3,"ID",{{"x":"{}"}}]"#, "x".repeat(9 << 20));
    for (says, idempotent) in [
        (Says::This("200 OK", r#"[3,"another",{}]"#.to_owned()), true),
        (Says::This("200 OK", "[3,".to_owned()), true),
        (Says::This("200 OK", r#"[2,"ID","Reset",{}]"#.to_owned()), true),
        (Says::This("200 OK", huge), true),
        (Says::This(FAILS, "Traceback".to_owned()), false),
        (Says::This("422 Unprocessable Content", String::new()), true),
    ] {
        let said = says.clone();
        let odd = Odd::new(move |_| said.clone()).await?;
        let Some(place) = Place::with("http_bus::garbage", vec![odd.address]).await? else { return Ok(()) };
        let gateway = gateway(&place, idempotent).await?;
        let mut station = station(&gateway, "CP1").await?;
        let answer = station.ask(r#"[2,"a","Authorize",{"idTag":"A1"}]"#).await?;
        ensure!(answer[0] == 4 && answer[1] == "a" && answer[2] == "InternalError", "{answer}");
    }
    Ok(())
}

/// A SEND of 2.1 is never answered: a response without a body says that it was dealt with, and nothing else does.
#[tokio::test]
async fn f16_a_send_is_posted_until_the_response_is_empty() -> Result<()> {
    let odd = Odd::new(|count| match count {
        0 => Says::This("503 Service Unavailable", String::new()),
        1 => Says::This("200 OK", String::new()),
        _ => Says::This("200 OK", r#"[3,"ID",{}]"#.to_owned()),
    })
    .await?;
    let Some(place) = Place::with("http_bus::send", vec![odd.address]).await? else { return Ok(()) };
    let gateway = gateway(&place, true).await?;
    let connected = RawStation::connect(&gateway.url("CP1"), &["ocpp2.1"]).await?;
    let mut station = connected.map_err(|status| anyhow::anyhow!("refused with {status}"))?;
    station.send(r#"[6,"first","NotifyPeriodicEventStream",{"id":1}]"#).await?;
    wait::until("the second attempt", async || (odd.calls().len() == 2).then_some(())).await?;
    let calls = odd.calls();
    ensure!(calls.iter().all(|call| call.contains("ocpp-kind: send\r\n")), "{calls:?}");
    ensure!(calls[1].contains("ocpp-attempt: 2\r\n"), "{calls:?}");
    // This one is answered, which is no acknowledgement. The deadline of the first one is over before its own.
    station.send(r#"[6,"second","NotifyPeriodicEventStream",{"id":1}]"#).await?;
    const LOST: &str = "switchboard_gateway_sends_lost_total";
    metric_at_least(&gateway, LOST, 1.0).await?;
    ensure!(gateway.metric(LOST).await? == 1.0, "only the second one");
    let answer = station.ask(r#"[2,"a","Heartbeat",{}]"#).await?;
    ensure!(answer[0] == 3 && answer[1] == "a", "nothing else came to the station: {answer}");
    Ok(())
}

/// A URL that leads nowhere and credentials that are wrong are no reason to lose anything.
#[tokio::test]
async fn what_no_function_has_seen_is_kept() -> Result<()> {
    for wrong in ["404 Not Found", "401 Unauthorized"] {
        let odd = Odd::new(move |_| Says::This(wrong, String::new())).await?;
        let Some(place) = Place::with("http_bus::wrong", vec![odd.address]).await? else { return Ok(()) };
        let gateway = gateway(&place, false).await?;
        let answer = station(&gateway, "CP1").await?.ask(&status("n", 0)).await?;
        ensure!(answer[0] == 3, "journalled: {answer}");
        ensure!(gateway.log().contains("look at its URL and credentials"), "{}", gateway.log());
    }
    Ok(())
}
