//! How a worker is set.

use bytestring::ByteString;
use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};
use switchboard_bus::{
    Commander,
    presence::{BEAT_DEFAULT, Facts},
};
use switchboard_messages::Mode;
use switchboard_rpc::StationId;

/// How a worker is set.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Its name on the bus and of its inbox; no two workers may have the same. Default: a new UUID.
    pub id: ByteString,
    /// How many calls it takes at once. Each pending handler holds its message and its future, so that this bounds the
    /// memory; what is above it goes to other workers, or waits at the gateway. Default: 1024.
    pub in_hand_max: NonZeroU32,
    /// How forgiving messages are read. Default: lenient.
    pub mode: Mode,
    /// How forgiving the messages of one station are read, where it differs. Asked for each call, so it must be quick.
    /// Default: every station as `mode` says.
    pub mode_of: Option<ModeOf>,
    /// How often it says that it is there. Gateways take calls from a worker that was silent for longer than that, so
    /// that all processes of an installation must agree. Default: 500 ms.
    pub beat: Duration,
    /// How long [`Worker::stop`](crate::Worker::stop) waits for the calls in hand. Default: 25 s, after which no station
    /// waits for an answer any more.
    pub drain: Duration,
    /// What it says of itself in its signs of life. Default: nothing.
    pub facts: Facts,
    /// The way to stations for [`Station::call`](switchboard_router::Station::call). Default: none.
    pub commander: Option<Commander>,
}

/// Decides by tenant and station how forgiving messages are read.
pub type ModeOf = Arc<dyn Fn(&str, &StationId) -> Mode + Send + Sync>;

impl Default for Config {
    fn default() -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string().into(),
            in_hand_max: NonZeroU32::MIN.saturating_add(1023),
            mode: Mode::Lenient,
            mode_of: None,
            beat: BEAT_DEFAULT,
            drain: Duration::from_secs(25),
            facts: Facts::default(),
            commander: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("id", &self.id)
            .field("in_hand_max", &self.in_hand_max)
            .field("mode", &self.mode)
            .field("mode_of", &self.mode_of.as_ref().map(|_| "…"))
            .field("beat", &self.beat)
            .field("drain", &self.drain)
            .field("facts", &self.facts)
            .field("commander", &self.commander)
            .finish()
    }
}
