//! How a client behaves.

use super::{back_off::BackOff, tls::Tls};
use bytestring::ByteString;
use std::{fmt, time::Duration};
use switchboard_messages::{Request, Sender, Violations};
use switchboard_rpc::Version;

/// Who a station is, where its central system is, and how the client behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The endpoint without the identity: `ws://127.0.0.1:8180/ocpp`, or `wss` with [`tls`](Self::tls).
    pub url: String,
    /// The identity, as it will be percent-encoded into the URL.
    pub id: String,
    /// What is spoken.
    pub version: Version,
    /// The password for Basic authentication; none: no credentials are sent. Any bytes.
    pub password: Option<Vec<u8>>,
    /// Whom to believe that it is the central system; needed for `wss`. Default none.
    pub tls: Option<Tls>,
    /// Whether compression is offered (permessage-deflate, message by message). Default false.
    pub compression: bool,
    /// The payload of the BootNotification.
    pub boot: ByteString,
    /// How long an answer may take. Default 30 s.
    pub answer_timeout: Duration,
    /// How many calls wait at most behind the one that is being answered; further ones are refused. Default 64.
    pub calls_max: usize,
    /// How long a call waits at most until it is sent. Default 30 s.
    pub call_wait_max: Duration,
    /// How long to wait before it connects again.
    pub back_off: BackOff,
    /// The wait before the next BootNotification, and between Heartbeats, where the central system leaves it to the station.
    /// Default 30 s for the former, 300 s for the latter.
    pub boot_retry_interval: Duration,
    /// See [`boot_retry_interval`](Self::boot_retry_interval).
    pub heartbeat_interval: Duration,
    /// How often a billing message is sent that is refused or not answered, before it is given up; 0: for ever. A lost
    /// connection does not count. `TransactionMessageAttempts` in 1.6, `MessageAttempts` in 2.x. Default 5.
    pub message_attempts: u32,
    /// How long to wait before the second attempt; before the third twice as long, and so on.
    /// `TransactionMessageRetryInterval` in 1.6, `MessageAttemptInterval` in 2.x. Default 10 s.
    pub message_retry_interval: Duration,
    /// How many billing messages wait at most. At the bound every second reading is left out and told; where there is
    /// none, no transaction can be started, and those that go on have as much room again. Default 10,000.
    pub queue_messages_max: usize,
    /// How often the station pings (`WebSocketPingInterval`); zero: never. Three pings without any sign of life end the
    /// connection. Default 30 s.
    pub ping_interval: Duration,
    /// How long [`Client::stop`](super::Client::stop) waits for billing messages to be answered. Default 3 s.
    pub stop_grace: Duration,
    /// Whether [`Event::Exchanged`](super::Event::Exchanged) tells how each call ended, and after how long. Default false.
    pub tells_exchanges: bool,
    /// From which the random part of the back-off comes; none: from the system. Ids never come from it, since they must
    /// not be used twice.
    pub seed: Option<u64>,
}

impl Config {
    /// The station with this identity at this endpoint, which boots with this BootNotificationRequest; its type says which
    /// version is spoken. Everything else is as it usually is.
    ///
    /// ```
    /// use switchboard_messages::v201::{BootNotificationRequest, BootReason, ChargingStation};
    /// use switchboard_station::client::Config;
    ///
    /// let about = ChargingStation::new("One".to_owned(), "Example".to_owned());
    /// let boot = BootNotificationRequest::new(about, BootReason::PowerUp);
    /// let config = Config::new("ws://127.0.0.1:8180/ocpp", "CP001", &boot)?;
    /// # Ok::<(), switchboard_messages::Violations>(())
    /// ```
    ///
    /// # Errors
    /// What is wrong with the request.
    ///
    /// # Panics
    /// Does not: another request than a BootNotification does not compile.
    pub fn new<B: Request>(
        url: impl Into<String>,
        id: impl Into<String>,
        boot: &B,
    ) -> Result<Self, Violations> {
        const {
            assert!(
                matches!(B::ACTION.as_bytes(), b"BootNotification") && matches!(B::SENDER, Sender::Station),
                "a station boots with a BootNotificationRequest"
            );
        }
        let mut payload = Vec::new();
        boot.encode(&mut payload)?;
        // What a message writes is JSON and so UTF-8.
        Ok(Self::raw(url, id, B::VERSION, ByteString::try_from(payload).unwrap_or_default()))
    }

    /// The same with the BootNotification's payload as JSON text.
    #[must_use]
    pub fn raw(
        url: impl Into<String>,
        id: impl Into<String>,
        version: Version,
        boot: impl Into<ByteString>,
    ) -> Self {
        Self {
            url: url.into(),
            id: id.into(),
            version,
            password: None,
            tls: None,
            compression: false,
            boot: boot.into(),
            answer_timeout: Duration::from_secs(30),
            calls_max: 64,
            call_wait_max: Duration::from_secs(30),
            back_off: BackOff::default(),
            boot_retry_interval: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(300),
            message_attempts: 5,
            message_retry_interval: Duration::from_secs(10),
            queue_messages_max: 10_000,
            ping_interval: Duration::from_secs(30),
            stop_grace: Duration::from_secs(3),
            tells_exchanges: false,
            seed: None,
        }
    }
}

impl fmt::Debug for Config {
    /// Without password and boot payload.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("url", &self.url)
            .field("id", &self.id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
