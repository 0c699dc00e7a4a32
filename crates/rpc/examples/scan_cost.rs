//! What it costs to take a frame apart, and to carry a call through a connection: `cargo run --release -p
//! switchboard-rpc --example scan_cost`.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a stopwatch for people")]

use bytes::Bytes;
use bytestring::ByteString;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};
use switchboard_rpc::{
    Connection, Frame, Version,
    connection::{Config, Event, Role},
    frame,
};

const ROUNDS: u32 = 500;

fn main() {
    let samples = r#"{"value":"3058620.000","context":"Sample.Periodic","measurand":"Energy.Active.Import.Register","unit":"Wh"}"#;
    let meter_values = format!(
        r#"[2,"9f0e7a52-6c1f-4f0e-8f65-0b9f0a7f2f10","MeterValues",{{"connectorId":1,"transactionId":17,"meterValue":[{{"timestamp":"2026-01-01T00:00:00Z","sampledValue":[{}]}}]}}]"#,
        [samples; 12].join(",")
    );
    for (name, text) in [
        ("Heartbeat", r#"[2,"9f0e7a52-6c1f-4f0e-8f65-0b9f0a7f2f10","Heartbeat",{}]"#),
        (
            "StatusNotification",
            r#"[2,"9f0e7a52-6c1f-4f0e-8f65-0b9f0a7f2f10","StatusNotification",{"connectorId":1,"errorCode":"NoError","status":"Available","timestamp":"2026-01-01T00:00:00Z"}]"#,
        ),
        ("MeterValues, 12 samples", meter_values.as_str()),
    ] {
        // From a buffer that is shared, as one from a socket is.
        let text = ByteString::from(text);
        let slice = measure(|| {
            black_box(black_box(&text).slice_ref(&text));
        });
        let parse = measure(|| {
            black_box(Frame::parse(black_box(&text), Version::V16).is_ok());
        });
        let now = Instant::now();
        let mut connection = Connection::new(Role::Csms, Version::V16, Config::default(), now);
        let answer = Bytes::from_static(br#"[3,"9f0e7a52-6c1f-4f0e-8f65-0b9f0a7f2f10",{}]"#);
        let mut clock = now;
        let carry = measure(|| {
            // Far enough apart that none counts as a repetition.
            clock += Duration::from_secs(100);
            connection.handle_timeout(clock);
            connection.handle_text(text.clone(), clock);
            let Some(Event::Called(called)) = connection.poll_event() else { return };
            black_box(&called);
            black_box(connection.answer(called.seq, answer.clone(), clock).is_ok());
            black_box(connection.poll_transmit(clock));
        });
        let write = measure(|| {
            let id = frame::MessageId::new("9f0e7a52-6c1f-4f0e-8f65-0b9f0a7f2f10");
            black_box(frame::write_result(&id, b"{}"));
        });
        println!(
            "{name}, {} bytes: parse {parse:.0} ns (a slice {slice:.0} ns), through a connection {carry:.0} ns, write an answer {write:.0} ns",
            text.len()
        );
    }
    println!("an idle connection: {} bytes", size_of::<Connection>());
}

/// Nanoseconds per round, the best of many short runs, since a machine has other things to do.
fn measure(mut round: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..1000 {
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            round();
        }
        best = best.min(begin.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    best
}
