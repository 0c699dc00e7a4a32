//! What the programs of the benchmark share: the frames that stations send, and how a server announces itself.
//!
//! The programs: `floor`, a bare WebSocket server that answers a fixed string; `inprocess`, our gateway, bus, worker
//! and router with trivial typed handlers; `durable`, the same with `central` behind it, which stores before it answers;
//! `load`, the stations; `answer`, one message through the router alone. For the split, with the feature of that name:
//! `worker`, the handlers of `inprocess` behind a broker; `minimal`, the least that does the same; `broker`, which starts
//! one. `cargo xtask bench` builds and runs them, and servers of others that stand in `benches/others`.
#![expect(clippy::print_stdout, reason = "the programs tell the one that runs them by standard output")]

pub mod handlers;

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

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

/// Random times that come as often as is asked for, the same in each run: what arrives by itself arrives in crowds.
#[derive(Debug)]
pub struct Times {
    mean: f64,
    next: f64,
    state: u64,
}

impl Times {
    /// So many a second.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        let mut times = Self { mean: 1.0 / per_second, next: 0.0, state: 0x9e37_79b9_7f4a_7c15 };
        times.advance();
        times
    }

    /// The next time, if it has come.
    pub fn next_until(&mut self, elapsed: Duration) -> Option<Duration> {
        let due = Duration::from_secs_f64(self.next);
        (due <= elapsed).then(|| {
            self.advance();
            due
        })
    }

    fn advance(&mut self) {
        // Marsaglia's xorshift: good enough, and the same everywhere.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let uniform = ((self.state >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        self.next -= self.mean * uniform.ln();
    }
}

/// Tells whoever started this program that it is there, and where.
///
/// # Errors
/// Standard output is closed.
pub fn announce(place: impl Display) -> std::io::Result<()> {
    println!("listening {place}");
    std::io::stdout().flush()
}

const BUFFER_BYTES: usize = 4096;

/// A station's WebSocket as a bare server takes it, and the path that was asked for.
///
/// # Errors
/// It is no WebSocket.
pub async fn accept(stream: TcpStream) -> tungstenite::Result<(WebSocketStream<TcpStream>, String)> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(1 << 20);
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the library's callback has this signature")]
    let with_subprotocol = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(&mut path);
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("ocpp1.6"));
        Ok(response)
    };
    let socket =
        tokio_tungstenite::accept_hdr_async_with_config(stream, with_subprotocol, Some(config)).await?;
    Ok((socket, path))
}
