//! What an operator can set about a gateway.

use bytestring::ByteString;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use switchboard_rpc::Version;

/// The settings of a gateway. `Config::default()` is a working gateway on loopback.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The name of this gateway in envelopes and in the directory, and of its inbox. Empty: a random one at each start,
    /// which is right unless something outside must know it. Two running gateways of one name fence each other.
    pub name: String,
    /// Which directory it has, as workers say of theirs: so that one that has another is noticed. None: nobody looks.
    pub directory: Option<ByteString>,
    /// Where stations connect: address and port. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The path in front of the identity. Whatever stands between it and the last segment is ignored, so that
    /// `/ocpp/1.6/CP001` and `/ocpp/CP001` are the same station (H05). Empty: any path.
    pub path: String,
    /// Whether the segment after the path names the tenant: `/ocpp/{tenant}/{station}`. Off: everybody is `default`.
    pub tenants: bool,
    /// Characters that an identity may have, 1 to 255. OCPP 2.x says 48; 1.6 says nothing.
    pub identity_characters_max: usize,
    /// The versions that are spoken, in any order; the station's own order of preference decides (H02).
    pub versions: Vec<Version>,
    /// What becomes of a station that offers no version that is spoken (H03).
    pub no_common_version: NoCommonVersion,
    /// The version of a station that sends no `Sec-WebSocket-Protocol` header at all (H04). None: such a station is
    /// treated as one without a common version.
    pub assume_version: Option<Version>,
    /// What becomes of an identity that nobody registered. Accepting lets anybody in who can reach the port.
    pub unknown_stations: UnknownStations,
    /// Whether an unknown identity gets 401 instead of 404 (H06), so that identities cannot be probed from outside.
    /// Danger: operators then cannot tell a wrong identity from a wrong password.
    pub hide_unknown: bool,
    /// The realm in `WWW-Authenticate`. Plain text without quotes.
    pub realm: String,
    /// Whether a connection without credentials keeps its place when another claims the same identity (L01). Off: the
    /// newest wins. On, a station whose network went away is locked out until its dead socket is noticed.
    pub keep_old: bool,

    /// Sockets in all. Beyond it new ones get 503.
    pub connections_max: usize,
    /// Sockets from one address. Beyond it new ones get 429. 0: no limit, since stations often share an address behind
    /// a mobile network or a TLS terminator.
    pub connections_per_address_max: usize,
    /// Sockets of one tenant. Beyond it new ones get 429. 0: no limit.
    pub connections_per_tenant_max: usize,
    /// Upgrades per second. Beyond it new ones get 503 with `Retry-After`. 0: no limit.
    pub accept_rate: u32,
    /// Sockets that have not finished their handshake. Beyond it accepting waits, and the kernel's queue fills.
    pub handshakes_max: usize,
    /// How long a handshake may take from the accept to the 101, look-ups and password included.
    pub handshake_timeout: Duration,
    /// What `Retry-After` says with 429 and 503. Each answer varies it by half, so that stations do not return at once.
    pub retry_after: Duration,
    /// Bytes of a request's head. Beyond it 431.
    pub head_bytes_max: usize,

    /// Bytes of a message, and of one frame. Beyond it close 1009 (F10).
    pub message_bytes_max: usize,
    /// Whether binary frames are read as text (F09). Off: close 1003.
    pub binary_as_text: bool,
    /// Whether messages are compressed where the station offers it (permessage-deflate, H14).
    pub compression: bool,
    /// The ids of stations with which nothing is compressed although they offer it, for those that do it wrong: patterns
    /// with `*` for any characters and `?` for one.
    pub compression_refused: Vec<String>,
    /// Bytes that a message of ours must have to be compressed. Most answers are so small that compressing them costs
    /// time and saves nothing.
    pub compression_bytes_min: usize,
    /// How long a station may leave what we send unread before it is disconnected (C02). Until then nothing more is
    /// read from it, so that at most one message of ours waits beside its queue of commands.
    pub write_timeout: Duration,
    /// How long we wait for the station's side of a close.
    pub close_timeout: Duration,
    /// How often a station is pinged (L02). Zero: never, and then a half-open socket is noticed only when we write.
    pub ping_interval: Duration,
    /// How long a station may be silent before it is disconnected. Any frame counts, answers to pings too.
    pub silence_max: Duration,
    /// Whether a station that answers no ping is disconnected although it sends other frames (L02). Some never do.
    pub require_pong: bool,
    /// The protocol core's own limits: frames, queues, repeats.
    pub rpc: switchboard_rpc::connection::Config,

    /// How long processing has for an answer, from the receipt of the call. Stations wait 30 s; stay below it.
    pub answer_deadline: Duration,
    /// How old an attempt must at least be before the call is handed over again (four times the recent p99 if that is
    /// more), provided that no worker says that it has it in hand.
    pub patience_min: Duration,
    /// How often workers say what they have in hand. Must be what the workers are set to.
    pub beat: Duration,
    /// What becomes of a StartTransaction or a TransactionEvent with a token at the deadline.
    pub billing_deadline: BillingDeadline,
    /// Whether Heartbeat is answered by the gateway itself at once. Processing then never sees one.
    pub local_heartbeat: bool,
    /// Whether calls whose answer needs nothing from processing are journalled at the deadline. Off: InternalError.
    pub journal: bool,
    /// Entries in the journal. Beyond it calls are not journalled: billing ones close the connection, others get
    /// InternalError.
    pub journal_entries_max: u64,
    /// How long processing may be away before upgrades get 503. None: never, which is right where processing and
    /// gateway are one process.
    pub refuse_upgrades_after: Option<Duration>,
    /// How long a command waits for its answer where the sender does not say. It may wait as long again for its turn.
    pub command_timeout: Duration,

    /// The time over which connections are closed at shutdown (L05). Fewer stations take less.
    pub drain_time: Duration,
    /// Connections closed per second at shutdown, at least as many as the drain time demands.
    pub drain_rate: u32,
    /// How long a connection may finish what it has in hand once it was asked to end.
    pub drain_grace: Duration,
    /// How often sockets are compared with the directory, in case a message about a newer connection was lost. Zero:
    /// never.
    pub sweep_interval: Duration,
    /// How long the directory takes this gateway for alive without a renewal.
    pub lease: Duration,
    /// Replacements of one identity within a minute that raise an alarm: two stations share an identity (L01).
    pub flapping_alarm: u32,
}

/// What becomes of a station that offers no version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoCommonVersion {
    /// HTTP 400, as the certification test demands.
    #[default]
    Reject,
    /// 101 without the header and close 1002, as the text of the specification says.
    AcceptThenClose,
}

/// What becomes of an identity that nobody registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownStations {
    /// It is let in without credentials.
    Accept,
    /// It is refused with 404.
    #[default]
    Reject,
}

/// What becomes of a billing call that nobody answered in time. A refusal would make the station forget it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BillingDeadline {
    /// Close 1013: most stations keep the message and send it again after they reconnect.
    #[default]
    Close,
    /// No answer at all: the station repeats after its own timeout.
    Silence,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            directory: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8180)),
            path: "/ocpp".to_owned(),
            tenants: false,
            identity_characters_max: 48,
            versions: Version::ALL.to_vec(),
            no_common_version: NoCommonVersion::default(),
            assume_version: None,
            unknown_stations: UnknownStations::default(),
            hide_unknown: false,
            realm: "OCPP".to_owned(),
            keep_old: false,
            connections_max: 100_000,
            connections_per_address_max: 0,
            connections_per_tenant_max: 0,
            accept_rate: 0,
            handshakes_max: 4_096,
            handshake_timeout: Duration::from_secs(10),
            retry_after: Duration::from_secs(10),
            head_bytes_max: 16 * 1024,
            message_bytes_max: 1024 * 1024,
            binary_as_text: true,
            compression: true,
            compression_refused: Vec::new(),
            compression_bytes_min: 256,
            write_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_secs(30),
            silence_max: Duration::from_secs(90),
            require_pong: false,
            rpc: switchboard_rpc::connection::Config::default(),
            answer_deadline: Duration::from_secs(25),
            patience_min: Duration::from_millis(500),
            beat: Duration::from_millis(500),
            billing_deadline: BillingDeadline::default(),
            local_heartbeat: false,
            journal: true,
            journal_entries_max: 1_000_000,
            refuse_upgrades_after: None,
            command_timeout: Duration::from_secs(30),
            drain_time: Duration::from_secs(10),
            drain_rate: 1_000,
            drain_grace: Duration::from_secs(5),
            sweep_interval: Duration::from_secs(30),
            lease: Duration::from_secs(3),
            flapping_alarm: 10,
        }
    }
}
