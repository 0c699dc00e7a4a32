//! What a simulated station is and how it behaves.

use crate::{
    Pace, Quirk, Scenario, Statistics,
    client::{BackOff, Tls},
};
use std::{fmt, sync::Arc, time::Duration};
use switchboard_rpc::Version;

/// What a simulated station is and how it behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The endpoint without the identity: `ws://127.0.0.1:8180/ocpp`, or `wss` with [`tls`](Self::tls).
    pub url: Arc<str>,
    /// The identity, as it will be percent-encoded into the URL.
    pub id: String,
    /// What it speaks.
    pub version: Version,
    /// The password for Basic authentication; none: no credentials are sent. Any bytes.
    pub password: Option<Vec<u8>>,
    /// Whom to believe that it is the central system; needed for `wss`.
    pub tls: Option<Tls>,
    /// Whether it offers compression.
    pub compression: bool,
    /// From which its chances come: the same seed lives the same life. Ids are never made from it, since they must not
    /// be used twice.
    pub seed: u64,
    /// How much faster than life it charges: at 60 an hour takes a minute. Timestamps stay true, and what the central
    /// system demands in seconds is kept in true seconds.
    pub speed: f64,
    /// How many connectors (1.6) or EVSEs with one connector each (2.0.1). At least 1.
    pub connectors: u32,
    /// To how many connectors, from the first, cars come by themselves. The others wait for remote starts. By default
    /// the last one does.
    pub visited: u32,
    /// The tags that drivers present, one at random each time.
    pub tokens: Arc<[String]>,
    /// How long a car charges, before `speed`; varied by half either way.
    pub session: Duration,
    /// How long a connector is free between two cars, before `speed`; varied by half either way.
    pub pause: Duration,
    /// How often the meter is read while a car charges, before `speed`.
    pub meter_interval: Duration,
    /// How long an answer may take.
    pub answer_timeout: Duration,
    /// How long to wait before it connects again.
    pub back_off: BackOff,
    /// How often a billing message that was refused or not answered is sent before it is given up. A lost connection does not count.
    pub billing_attempts: u32,
    /// How long to wait before the second attempt; before the third twice as long, and so on.
    pub billing_interval: Duration,
    /// How often it pings the central system.
    pub ping_interval: Duration,
    /// How long a reset or the end waits for bills to be sent.
    pub finish: Duration,
    /// What it lives through; none: one car after the other, as `session`, `pause` and `visited` say.
    pub scenario: Option<Arc<Scenario>>,
    /// The time that it shares with others; none: one of its own, at `speed`.
    pub pace: Option<Pace>,
    /// Where it counts what it does.
    pub statistics: Arc<Statistics>,
    /// The power of a connector, in W; none: what a scenario's chance gives it, or 22 kW.
    pub power_w: Option<f64>,
    /// What it does that it should not.
    pub quirks: Vec<Quirk>,
}

impl Config {
    /// A 1.6 station at this endpoint and with this identity, with everything else as it usually is.
    #[must_use]
    pub fn new(url: impl Into<Arc<str>>, id: impl Into<String>) -> Self {
        let id = id.into();
        Self {
            url: url.into(),
            version: Version::V16,
            password: None,
            tls: None,
            compression: false,
            // Stations that nobody gave a seed still live different lives.
            seed: id.bytes().fold(0xcbf2_9ce4_8422_2325, |seed, byte| {
                (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            }),
            id,
            speed: 1.0,
            connectors: 2,
            visited: 1,
            tokens: ["04A1B2C3D4E5F6", "04B7C8D9EAFB01", "047788990A1B2C", "04D3E4F5061728"]
                .map(str::to_owned)
                .into(),
            session: Duration::from_secs(40 * 60),
            pause: Duration::from_secs(10 * 60),
            meter_interval: Duration::from_secs(5 * 60),
            answer_timeout: Duration::from_secs(30),
            // Sooner than a real one, since whoever looks on wants to see it come back.
            back_off: BackOff {
                wait_minimum: Duration::from_secs(1),
                random_range: Duration::from_secs(3),
                repeat_times: 5,
            },
            billing_attempts: 5,
            billing_interval: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            finish: Duration::from_secs(3),
            scenario: None,
            pace: None,
            statistics: Arc::default(),
            power_w: None,
            quirks: Vec::new(),
        }
    }
}

impl fmt::Debug for Config {
    /// Without password and tags.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("url", &self.url)
            .field("id", &self.id)
            .field("version", &self.version)
            .field("seed", &self.seed)
            .field("speed", &self.speed)
            .finish_non_exhaustive()
    }
}
