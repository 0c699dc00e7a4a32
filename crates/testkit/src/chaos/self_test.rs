//! Whether the judge can find fault: each number of a cell is made wrong once, and the cell must be broken by it.

use super::books::{Audit, audit};
use super::fleet::{Billed, Fleet, READINGS, STOP, Tally, identity, meter, minute, time};
use super::orders::{Judged, Told, judge};
use super::{Bus, Cell, Findings, Plan};
use crate::wait;
use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, frame::coding::CloseCode};

fn plan(cell: &str, bus: Bus) -> Plan {
    Plan {
        cell: Cell::named(cell).expect("a cell"),
        bus,
        stations: 1,
        seed: 1,
        pause: Duration::from_millis(1),
        measured: true,
        binary: PathBuf::new(),
        build: String::new(),
        commit: String::new(),
        logs: None,
    }
}

/// What lasted no time, at one answer a second.
const SHORT: (Duration, f64) = (Duration::ZERO, 1.0);

fn broken(cell: &str, bus: Bus, tally: &Tally, judged: &Judged, audit: &Audit) -> String {
    Findings::new(&plan(cell, bus), tally, judged, audit, 0, SHORT).broken().join(", ")
}

/// A station that has charged once.
fn charged() -> Tally {
    let billed = Billed {
        sent: true,
        id: 7,
        readings_sent: READINGS,
        readings: READINGS,
        stop_sent: true,
        stopped: true,
    };
    Tally { answers: 6, transactions: [((0, 0), billed)].into(), ..Tally::default() }
}

/// What the books say of it.
fn rows() -> Vec<String> {
    let (name, start) = (identity(0), time(0, 0));
    let mut rows = vec![format!("charge|{name}|7|{start}|{}|{}|1", meter(0, 0), meter(0, STOP))];
    rows.extend((1..=READINGS).map(|reading| {
        let at = minute(reading);
        format!("reading|{name}|7|{}|{}", time(0, at), meter(0, at))
    }));
    rows
}

/// Lost, doubled and wrong, as the books with this change show it.
fn found(change: impl FnOnce(&mut Vec<String>)) -> Result<[usize; 3]> {
    let mut rows = rows();
    change(&mut rows);
    let audit = audit(&rows.join("\n"), &charged())?;
    Ok([audit.lost.len(), audit.doubled.len(), audit.wrong.len()])
}

#[test]
fn what_is_missing_doubled_or_different_in_the_books_is_found() -> Result<()> {
    assert_eq!(found(|_| {})?, [0, 0, 0]);
    assert_eq!(found(|rows| drop(rows.remove(0)))?, [1, 0, 0], "a transaction is missing");
    assert_eq!(found(|rows| drop(rows.remove(2)))?, [1, 0, 0], "a reading is missing");
    assert_eq!(found(|rows| rows[0] = rows[0].replace("|500|1", "||0"))?, [1, 0, 0], "its end is missing");
    assert_eq!(found(|rows| rows.push(rows[0].replace("|7|", "|8|")))?, [0, 1, 0], "it began twice");
    assert_eq!(found(|rows| rows.push(rows[1].clone()))?, [0, 1, 0], "a reading is there twice");
    assert_eq!(found(|rows| rows[0] = rows[0].replace("|500|", "|501|"))?, [0, 0, 1], "it ends differently");
    assert_eq!(found(|rows| rows[2] = format!("{}9", rows[2]))?, [0, 0, 1], "a reading is different");
    assert_eq!(found(|rows| rows.push(rows[0].replace("-01T", "-02T")))?, [0, 0, 1], "nobody began it");
    let other = |rows: &mut Vec<String>| rows.iter_mut().for_each(|row| *row = row.replace("|7|", "|8|"));
    assert_eq!(found(other)?, [0, 0, 1], "it has another number than the station was told");
    let twice = |action: &str| found(|rows| rows.push(format!("heard|{}|1-1|{action}|2", identity(0))));
    assert_eq!(twice("StartTransaction")?, [0, 1, 0], "a function had it twice");
    assert_eq!(twice("MeterValues")?, [0, 0, 0], "the journal may do that");
    assert!(audit("odd|row", &charged()).is_err());
    Ok(())
}

#[test]
fn what_senders_were_told_must_be_what_stations_did() {
    let mut tally = charged();
    let told = |key: &str, answer: Value| -> Told { (key.to_owned(), Some(answer)) };
    tally.commands = [("once".to_owned(), 1), ("twice".to_owned(), 2)].into();
    let answered = |key: &str| json!({ "outcome": "answered", "payload": { "data": format!("done {key}") } });
    let of = |told: &[Told]| {
        let judged = judge(told.len(), told, &tally);
        [judged.without_outcome, judged.doubled, judged.invented.len(), judged.unknown, judged.silent]
    };
    assert_eq!(of(&[told("once", answered("once"))]), [0; 5]);
    assert_eq!(of(&[("once".to_owned(), None)]), [1, 0, 0, 0, 0]);
    assert_eq!(of(&[told("twice", answered("twice"))]), [0, 1, 0, 0, 0]);
    assert_eq!(of(&[told("never", answered("never"))]), [0, 0, 1, 0, 0], "no station had it");
    assert_eq!(of(&[told("once", answered("other"))]), [0, 0, 1, 0, 0], "not the answer to this");
    assert_eq!(of(&[told("once", json!({ "outcome": "notSent" }))]), [0, 0, 1, 0, 0], "its station had it");
    assert_eq!(of(&[told("never", json!({ "outcome": "offline" }))]), [0; 5]);
    assert_eq!(of(&[told("once", json!({ "outcome": "unknown" }))]), [0, 0, 0, 1, 0]);
    assert_eq!(of(&[told("once", json!({ "outcome": "silence" }))]), [0, 0, 0, 0, 1]);
    assert_eq!(of(&[told("once", json!({}))]), [0, 0, 1, 0, 0]);
    assert_eq!(judge(3, &[], &tally).without_outcome, 3, "their senders never came back");
}

/// Makes one number wrong.
type Change = dyn Fn(&mut Tally, &mut Judged);

#[test]
fn each_number_breaks_a_cell_that_does_not_allow_it() -> Result<()> {
    let clean = || Judged { sent: 1, ..Judged::default() };
    let audited = audit(&rows().join("\n"), &charged())?;
    let of = |cell: &str, bus: Bus, change: &Change| {
        let (mut tally, mut judged) = (charged(), clean());
        change(&mut tally, &mut judged);
        broken(cell, bus, &tally, &judged, &audited)
    };
    let nats = |change: &Change| of("worker-kill", Bus::Nats, change);
    assert_eq!(nats(&|_, _| {}), "");
    let changes: [(&Change, &str); 10] = [
        (&|tally, _| tally.unanswered = 1, "1 calls lost"),
        (&|tally, _| tally.wrong.push(String::new()), "1 wrong or late answers"),
        (&|tally, _| tally.closed = [(1006, 2)].into(), "2 sockets closed with 1006"),
        (&|tally, _| tally.hasty.push(String::new()), "1 calls refused or closed before their deadline"),
        (&|tally, _| tally.refused = [("Heartbeat: InternalError".to_owned(), 3)].into(), "3 calls refused"),
        (&|_, judged| judged.without_outcome = 1, "1 commands without an outcome"),
        (&|_, judged| judged.silent = 1, "1 commands lost without a word"),
        (&|_, judged| judged.doubled = 1, "1 effects doubled"),
        (&|_, judged| judged.invented.push(String::new()), "1 invented outcomes"),
        (&|_, judged| judged.sent = 0, "nothing happened at all"),
    ];
    for (change, why) in changes {
        assert_eq!(nats(change), why);
    }
    let money = |tally: &mut Tally, _: &mut Judged| {
        tally.refused.insert("StopTransaction: InternalError".to_owned(), 1);
    };
    assert_eq!(of("workers-away-90s", Bus::Nats, &money), "1 calls about money refused");
    let dead = |tally: &mut Tally, _: &mut Judged| tally.closed = [(1006, 1)].into();
    assert_eq!(of("gateway-kill", Bus::Nats, &dead), "", "its sockets die with it");
    assert_eq!(of("workers-away-90s", Bus::Nats, &dead), "1 sockets closed with 1006", "that is no deadline");
    let late = |tally: &mut Tally, _: &mut Judged| tally.closed = [(1013, 1)].into();
    assert_eq!(of("worker-kill", Bus::Bare, &late), "", "nobody hands it over again");
    assert_eq!(of("worker-kill", Bus::Mqtt, &late), "1 sockets closed with 1013");
    assert_eq!(of("broker-restart", Bus::Amqp, &late), "1 sockets closed with 1013");
    let long = (Duration::from_secs(21), 1.0);
    let mut tally = charged();
    late(&mut tally, &mut clean());
    let slow_broker = Findings::new(&plan("broker-restart", Bus::Amqp), &tally, &clean(), &audited, 0, long);
    assert_eq!(
        slow_broker.broken(),
        Vec::<String>::new(),
        "it was away for nearly as long as a call may take"
    );
    // The longest gap is judged beside all that.
    let mut slow = charged();
    slow.longest.0 = Duration::from_millis(1501);
    let good = |cell| Findings::new(&plan(cell, Bus::Nats), &slow, &clean(), &audited, 0, SHORT).is_good();
    assert!(!good("worker-kill") && good("worker-freeze"));
    let unfinished = Findings::new(&plan("worker-kill", Bus::Nats), &charged(), &clean(), &audited, 1, SHORT);
    assert_eq!(unfinished.broken(), ["1 calls lost"]);
    Ok(())
}

/// What a central system does wrong to the first Heartbeat it gets.
#[derive(Clone, Copy, Debug)]
enum Lie {
    None,
    AnswersTwice,
    AnswersAnother,
    Refuses,
    Closes,
    CommandsTwice,
}

/// A central system in one task that lies once.
async fn liar(listener: TcpListener, lie: Lie) -> Result<()> {
    let mut has_lied = false;
    loop {
        let (stream, _) = listener.accept().await?;
        #[expect(clippy::result_large_err, reason = "the library's type")]
        let agree = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            let headers = response.headers_mut();
            headers.insert("sec-websocket-protocol", HeaderValue::from_static("ocpp1.6"));
            Ok(response)
        };
        let mut line = tokio_tungstenite::accept_hdr_async(stream, agree).await?;
        while let Some(Ok(Message::Text(text))) = line.next().await {
            let call: Value = serde_json::from_str(&text)?;
            if call[0] != 2 {
                continue;
            }
            let answer = match call[2].as_str() {
                Some("StartTransaction") => {
                    json!({ "transactionId": 7, "idTagInfo": { "status": "Accepted" } })
                }
                _ => json!({}),
            };
            let right = json!([3, call[1], answer]);
            let mut frames = vec![right.clone()];
            if call[2] == "Heartbeat" && !std::mem::replace(&mut has_lied, true) {
                let command = json!([2, "c", "DataTransfer", { "vendorId": "v", "data": "order" }]);
                match lie {
                    Lie::None => {}
                    Lie::AnswersTwice => frames.push(right),
                    Lie::AnswersAnother => frames.insert(0, json!([3, "another", {}])),
                    Lie::Refuses => frames = vec![json!([4, call[1], "InternalError", "", {}])],
                    Lie::CommandsTwice => frames.splice(0..0, [command.clone(), command]).for_each(drop),
                    Lie::Closes => {
                        let why = CloseFrame { code: CloseCode::Again, reason: "".into() };
                        line.close(Some(why)).await?;
                        break;
                    }
                }
            }
            for frame in frames {
                line.send(Message::text(frame.to_string())).await?;
            }
        }
    }
}

#[tokio::test]
async fn stations_notice_what_a_central_system_does_wrong() -> Result<()> {
    for lie in
        [Lie::None, Lie::AnswersTwice, Lie::AnswersAnother, Lie::Refuses, Lie::Closes, Lie::CommandsTwice]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let lying = tokio::spawn(liar(listener, lie));
        let mut fleet = Fleet::start(vec![address], &plan("worker-kill", Bus::Nats));
        let second = wait::until("the station charges again", async || {
            fleet.tally().transactions.get(&(0, 1)).filter(|second| second.id != 0).map(|_| ())
        });
        second.await.with_context(|| format!("{lie:?}"))?;
        assert_eq!(fleet.finish(wait::DEADLINE).await, 0);
        lying.abort();
        let tally = fleet.tally();
        let noticed = [
            tally.wrong.len(),
            tally.hasty.len(),
            tally.refused.values().sum::<u64>() as usize,
            tally.closed.get(&1013).map_or(0, |count| *count as usize),
            tally.commands.get("order").map_or(0, |count| *count as usize),
        ];
        let expected = match lie {
            Lie::None => [0, 0, 0, 0, 0],
            Lie::AnswersTwice | Lie::AnswersAnother => [1, 0, 0, 0, 0],
            Lie::Refuses => [0, 1, 1, 0, 0],
            Lie::Closes => [0, 1, 0, 1, 0],
            Lie::CommandsTwice => [0, 0, 0, 0, 2],
        };
        assert_eq!(noticed, expected, "{lie:?}: {:?}", tally.wrong);
    }
    Ok(())
}
