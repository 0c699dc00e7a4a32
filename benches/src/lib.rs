//! What the programs of the benchmark share: the frames that stations send, and how a server announces itself.
//!
//! The programs: `floor`, a bare WebSocket server that answers a fixed string; `inprocess`, our gateway, bus, worker
//! and router with trivial typed handlers; `durable`, the same with `central` behind it, which stores before it answers;
//! `load`, the stations; `answer`, one message through the router alone. `cargo xtask bench` builds and runs them, and
//! servers of others that stand in `benches/others`.
#![expect(clippy::print_stdout, reason = "the programs tell the one that runs them by standard output")]

pub mod handlers;

use std::io::Write;
use std::net::SocketAddr;

/// A MeterValues.req of 1.6 with six sampled values; with its frame around it 942 bytes.
pub const METER_VALUES: &str = concat!(
    r#"{"connectorId":1,"transactionId":170042,"meterValue":[{"timestamp":"2026-11-22T10:15:30.000Z","sampledValue":["#,
    r#"{"value":"1534782.412","context":"Sample.Periodic","format":"Raw","measurand":"Energy.Active.Import.Register","location":"Outlet","unit":"Wh"},"#,
    r#"{"value":"11040.512","context":"Sample.Periodic","format":"Raw","measurand":"Power.Active.Import","location":"Outlet","unit":"W"},"#,
    r#"{"value":"16.02","context":"Sample.Periodic","format":"Raw","measurand":"Current.Import","phase":"L1","location":"Outlet","unit":"A"},"#,
    r#"{"value":"15.98","context":"Sample.Periodic","format":"Raw","measurand":"Current.Import","phase":"L2","location":"Outlet","unit":"A"},"#,
    r#"{"value":"16.00","context":"Sample.Periodic","format":"Raw","measurand":"Current.Import","phase":"L3","location":"Outlet","unit":"A"},"#,
    r#"{"value":"64.25","context":"Sample.Periodic","measurand":"SoC","location":"EV","unit":"Percent"}]}]}"#
);

/// A StatusNotification.req of 1.6.
pub const STATUS_NOTIFICATION: &str = concat!(
    r#"{"connectorId":1,"errorCode":"NoError","status":"Charging","#,
    r#""timestamp":"2026-11-22T10:15:30.000Z","vendorId":"com.example"}"#
);

/// A BootNotification.req of 1.6.
pub const BOOT_NOTIFICATION: &str = concat!(
    r#"{"chargePointVendor":"Example","chargePointModel":"Two outlets","chargePointSerialNumber":"EX-000001","#,
    r#""firmwareVersion":"1.4.2"}"#
);

/// A StartTransaction.req of 1.6.
pub const START_TRANSACTION: &str = r#"{"connectorId":1,"idTag":"04A1B2C3D4E5F6","meterStart":1534000,"timestamp":"2026-11-22T10:15:30.000Z"}"#;

/// The transaction in [`METER_VALUES`].
pub const TRANSACTION_ID: &str = "170042";

/// The time in these messages, which a station moves on from call to call.
pub const TIME: &str = "2026-11-22T10:15:30.000Z";

/// The id that a station puts into its calls has this many characters, as a UUID has.
pub const ID_LENGTH: usize = 36;

/// What `floor` answers, whatever it is asked.
pub const FIXED_ANSWER: &str =
    r#"[3,"00000000-0000-4000-8000-000000000000",{"currentTime":"2026-11-22T10:15:30.000Z"}]"#;

/// A MeterValues.req of 1.6 with as many sampled values of one time.
#[must_use]
pub fn meter_values(samples: usize) -> String {
    let sample = |number: usize| {
        format!(
            r#"{{"value":"{}.{number}","context":"Sample.Periodic","format":"Raw","measurand":"Current.Import","phase":"L{}","location":"Outlet","unit":"A"}}"#,
            16 + number,
            number % 3 + 1
        )
    };
    let samples: Vec<String> = (0..samples).map(sample).collect();
    format!(
        r#"{{"connectorId":1,"transactionId":170042,"meterValue":[{{"timestamp":"2026-11-22T10:15:30.000Z","sampledValue":[{}]}}]}}"#,
        samples.join(",")
    )
}

/// Tells whoever started this program where it listens.
///
/// # Errors
/// Standard output is closed.
pub fn announce(address: SocketAddr) -> std::io::Result<()> {
    println!("listening {address}");
    std::io::stdout().flush()
}
