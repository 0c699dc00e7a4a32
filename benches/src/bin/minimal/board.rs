//! Who waits for which answer, and what a call carries.

use anyhow::Result;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use switchboard_benches::METER_VALUES;
use switchboard_messages::Timestamp;
use tokio::sync::oneshot;

/// Stations that wait, each for one answer.
#[derive(Default)]
pub(crate) struct Board(Mutex<HashMap<String, oneshot::Sender<Bytes>>>);

impl Board {
    pub(crate) fn wait_for(&self, station: &str) -> oneshot::Receiver<Bytes> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(station.to_owned(), sender);
        receiver
    }

    pub(crate) fn answered(&self, station: &str, answer: Bytes) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(station);
        // A station that went away meanwhile waits for nothing.
        drop(waiting.map(|waiting| waiting.send(answer)));
    }
}

/// One call of a station.
pub(crate) struct Call<'a> {
    pub(crate) station: &'a str,
    pub(crate) action: &'a str,
    pub(crate) seq: u64,
}

/// A call as a station writes it, for the broker alone.
pub(crate) fn meter_values() -> Bytes {
    format!(r#"[2,"00000000-0000-4000-8000-000000000000","MeterValues",{METER_VALUES}]"#).into()
}

/// The gateway's name.
pub(crate) const GATEWAY: &str = "gateway-00000000000000000000000000000000";
/// The worker's.
pub(crate) const WORKER: &str = "00000000-0000-4000-8000-000000000000";
/// How long a call may take.
pub(crate) const REMAINING_MS: &str = "25000";

/// Each header of a call, with its value.
pub(crate) fn each_header(call: &Call<'_>, mut put: impl FnMut(&'static str, &str)) -> Result<()> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = Timestamp::from_unix_millis(i64::try_from(since.as_millis())?);
    put("ocpp-envelope", "1");
    put("ocpp-kind", "call");
    put("ocpp-tenant", "default");
    put("ocpp-station", call.station);
    put("ocpp-version", "1.6");
    put("ocpp-action", call.action);
    put("ocpp-gateway", GATEWAY);
    put("ocpp-generation", "1795341600000");
    put("ocpp-seq", &call.seq.to_string());
    put("ocpp-received-at", &now.to_string());
    put("ocpp-remaining-ms", REMAINING_MS);
    put("ocpp-reply-to", GATEWAY);
    put("ocpp-attempt", "1");
    Ok(())
}

/// Where a station's calls go.
pub(crate) fn partition(station: &str) -> u16 {
    switchboard_bus::partition("default", station, 256)
}
