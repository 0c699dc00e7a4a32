//! The one table of settings.

use super::{
    Settings,
    value::{Raw, Readable},
};

/// One setting: its name, how to read it and what it means.
pub(crate) struct Setting {
    /// Its path in the file: `api.listen`.
    pub(crate) path: &'static str,
    /// What it means: one or two sentences. Its unit, default and danger belong here.
    pub(crate) help: &'static str,
    /// What a value must be.
    pub(crate) expected: fn() -> String,
    /// The part of a value that is wrong, where that is not all of it.
    pub(crate) culprit: fn(Raw<'_>) -> Option<String>,
    /// Reads a value into the settings; nothing if it is not what was expected.
    pub(crate) read: fn(&mut Settings, Raw<'_>) -> Option<()>,
    /// The value as TOML writes it; nothing if it is not set.
    pub(crate) show: fn(&Settings) -> Option<String>,
    /// Whether faults and listings must not show the value.
    pub(crate) secret: bool,
    /// Whether the flag may stand without a value, for `true`.
    pub(crate) switch: bool,
}

impl Setting {
    /// The variable: `SWITCHBOARD_API_LISTEN`.
    pub(crate) fn variable(&self) -> String {
        format!("SWITCHBOARD_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// The flag without its dashes: `api-listen`.
    pub(crate) fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    /// The setting with this path.
    pub(crate) fn find(path: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.path == path)
    }
}

/// A row: path, field, `in range` or `where test, words` where there is a bound, and the help.
macro_rules! setting {
    ($path:literal, $($field:ident).+ : $type:ty, in $low:expr, $high:expr, $help:literal) => {
        Setting {
            path: $path,
            help: $help,
            expected: || {
                format!(
                    "{} from {} to {}",
                    <$type as Readable>::expected(),
                    <$type as Readable>::show(&$low).unwrap_or_default(),
                    <$type as Readable>::show(&$high).unwrap_or_default()
                )
            },
            read: |settings, raw| {
                let value = <$type as Readable>::read(raw)?;
                if !($low..=$high).contains(&value) {
                    return None;
                }
                settings.$($field).+ = value.into();
                Some(())
            },
            culprit: <$type as Readable>::culprit,
            show: |settings| Readable::show(&settings.$($field).+),
            secret: <$type as Readable>::SECRET,
            switch: false,
        }
    };
    ($path:literal, $($field:ident).+ : $type:ty, where $test:path, $words:literal, $help:literal) => {
        Setting {
            expected: || $words.to_owned(),
            read: |settings, raw| {
                let value = <$type as Readable>::read(raw).filter($test)?;
                settings.$($field).+ = value.into();
                Some(())
            },
            ..setting!($path, $($field).+ : $type, $help)
        }
    };
    ($path:literal, $($field:ident).+ : $type:ty, switch, $help:literal) => {
        Setting { switch: true, ..setting!($path, $($field).+ : $type, $help) }
    };
    ($path:literal, $($field:ident).+ : $type:ty, $help:literal) => {
        Setting {
            path: $path,
            help: $help,
            expected: <$type as Readable>::expected,
            read: |settings, raw| {
                settings.$($field).+ = <$type as Readable>::read(raw)?.into();
                Some(())
            },
            culprit: <$type as Readable>::culprit,
            show: |settings| Readable::show(&settings.$($field).+),
            secret: <$type as Readable>::SECRET,
            switch: false,
        }
    };
}

/// Every setting, in the order in which the reference shows them.
pub(crate) const TABLE: &[Setting] = &[
    setting!("listen", listen: SocketAddr,
        "Where stations connect: ws://ADDRESS/ocpp/STATION. On any but a loopback address stations must be registered, or accept_unknown set. Port 0 takes a free one."),
    setting!("accept_unknown", accept_unknown: bool, switch,
        "Whether stations that nobody registered may connect, without credentials. Not set: only if listen is a loopback address."),
    setting!("data_dir", data_dir: PathBuf,
        "The directory for everything durable. It belongs to one process at a time."),
    setting!("bus", bus: BusPlace,
        "What carries calls between gateways and workers: embedded: within one process, or a broker's URL, several endpoints with commas between them. http: the URL of the function that calls are posted to; for a worker, which is one, it says where to listen. mqtt: ?mode=bare carries raw frames for functions that were written for AWS IoT Core."),
    setting!("bus_ca_file", bus_access.ca_file: PathBuf,
        "Whom to trust as the broker besides the authorities of the system: certificates in PEM."),
    setting!("bus_certificate_file", bus_access.certificate_file: PathBuf,
        "Our certificate for the broker, in PEM, with those between it and its authority. Goes with bus_key_file."),
    setting!("bus_key_file", bus_access.key_file: PathBuf,
        "The key of that certificate, in PEM."),
    setting!("bus_user", bus_access.user: String,
        "Our name at the broker, where the URL has none."),
    setting!("bus_password", bus_access.password: Password,
        "Our password at the broker, where the URL has none."),
    setting!("bus_listen", bus_listen: SocketAddr,
        "Over http:// only: where the others of the bus reach this process: a worker for calls, a gateway for commands. On any but a loopback address the bus must have credentials. With an https:// bus and bus_certificate_file it is served with TLS. Port 0 takes a free one. Not set: for a worker host and port of the bus, for a gateway 127.0.0.1:8183."),
    setting!("bus_advertise", bus_advertise: String, where is_url, "a URL such as http://10.0.0.1:8183",
        "The URL by which the others of the bus reach what bus_listen is, for this process alone: not that of a load balancer. The directory gives it out with the name of the gateway. Not set: the address of bus_listen."),
    setting!("directory", directory: DirectoryPlace,
        "Where is kept which gateway has which station, who may connect, and what waits for stations. sqlite:PATH belongs to one process; postgres://HOST/DATABASE and nats://HOST/BUCKET are shared by all. NATS keeps neither commands nor the journal. Not set: directory.sqlite3 in the data directory."),
    setting!("directory_ca_file", directory_access.ca_file: PathBuf,
        "Whom to trust as the directory's server besides the authorities of the system: certificates in PEM."),
    setting!("directory_certificate_file", directory_access.certificate_file: PathBuf,
        "Our certificate for the directory's server, in PEM. Goes with directory_key_file."),
    setting!("directory_key_file", directory_access.key_file: PathBuf,
        "The key of that certificate, in PEM."),
    setting!("directory_user", directory_access.user: String,
        "Our name at the directory's server, where the URL has none."),
    setting!("directory_password", directory_access.password: Password,
        "Our password at the directory's server, where the URL has none."),
    setting!("database", database: DatabasePlace,
        "Where the central system keeps its books: sqlite:PATH, which belongs to one worker, or postgres://HOST/DATABASE, which any number share. Not set: central.db in the data directory."),
    setting!("database_ca_file", database_access.ca_file: PathBuf,
        "Whom to trust as the database's server besides the authorities of the system: certificates in PEM."),
    setting!("database_certificate_file", database_access.certificate_file: PathBuf,
        "Our certificate for the database's server, in PEM. Goes with database_key_file."),
    setting!("database_key_file", database_access.key_file: PathBuf,
        "The key of that certificate, in PEM."),
    setting!("database_user", database_access.user: String,
        "Our name at the database's server, where the URL has none."),
    setting!("database_password", database_access.password: Password,
        "Our password at the database's server, where the URL has none."),
    setting!("namespace", namespace: String,
        "Keeps installations apart that share a broker: part of every address on it. Letters, digits, - and _."),
    setting!("partitions", partitions: u16, where is_partitions, "a power of two from 1 to 32768",
        "Over how many partitions the stations are spread on the bus. The same for all processes of a namespace, and fixed once it was used."),
    setting!("ports_file", ports_file: PathBuf,
        "A file to write once all ports are bound: a JSON object with the addresses of stations, api, admin and, over http://, bus. For scripts that use port 0."),
    setting!("demo", demo: u32, in 0, 1000,
        "How many simulated stations to start with the process, DEMO001 and so on."),
    setting!("demo_speed", demo_speed: f64, in 0.1, 10_000.0,
        "How much faster than life the simulated stations live: at 60 an hour of charging takes a minute."),
    setting!("log", log: Directives,
        "What to log: error, warn, info, debug or trace, or a list of directives such as info,switchboard_gateway=debug."),
    setting!("log_format", log_format: LogFormat,
        "How to write the log: text for people, json for machines, one object a line."),
    setting!("api.listen", api_listen: SocketAddr,
        "Where the API listens. On any but a loopback address api.token must be set. Port 0 takes a free one."),
    setting!("api.token", api_token: Secret,
        "The bearer token that every request to the API must carry. Not set: none is asked for, which is allowed on a loopback address only."),
    setting!("admin.listen", admin_listen: SocketAddr,
        "Where /healthz, /readyz and /metrics are. Port 0 takes a free one."),
    setting!("gateway.id", gateway.name: String,
        "The name of this gateway on the bus and in the directory. No two that run may have the same. Empty: a new one at each start, which is right unless something outside must know it."),
    setting!("gateway.path", gateway.path: String,
        "The path in front of a station's id. What stands between it and the last segment is ignored, so that /ocpp/1.6/CP001 and /ocpp/CP001 are the same station. Empty: any path."),
    setting!("gateway.versions", gateway.versions: Vec<Version>,
        "The versions of OCPP that are spoken. Of those that a station offers, the first in its own order is taken."),
    setting!("gateway.identity_characters_max", gateway.identity_characters_max: usize, in 1, 255,
        "How many characters a station's id may have. OCPP 2.x says 48; 1.6 says nothing."),
    setting!("gateway.no_common_version", gateway.no_common_version: NoCommonVersion,
        "What becomes of a station that offers no version that is spoken: reject answers with HTTP 400, as the certification test demands; accept_then_close upgrades and closes with 1002, as the text of the specification says."),
    setting!("gateway.assume_version", gateway.assume_version: Version,
        "The version of a station that offers none at all. Not set: it is treated as one that offers none that is spoken."),
    setting!("gateway.hide_unknown", gateway.hide_unknown: bool, switch,
        "Whether an unknown station gets 401 instead of 404, so that ids cannot be probed from outside. Operators then cannot tell a wrong id from a wrong password."),
    setting!("gateway.realm", gateway.realm: String,
        "The realm in WWW-Authenticate. Plain text without quotation marks."),
    setting!("gateway.keep_old", gateway.keep_old: bool, switch,
        "Whether a connection without credentials keeps its place when another claims the same id. Off: the newest wins. On, a station whose network went away is locked out until its dead socket is noticed."),
    setting!("gateway.connections_max", gateway.connections_max: usize, in 1, 10_000_000,
        "How many stations may be connected. Further ones get 503."),
    setting!("gateway.connections_per_address_max", gateway.connections_per_address_max: usize, in 0, 10_000_000,
        "How many connections one address may have; further ones get 429. 0: no limit, since stations often share an address."),
    setting!("gateway.accept_rate", gateway.accept_rate: u32, in 0, 1_000_000,
        "How many connections are accepted per second; further ones get 503 with Retry-After. 0: no limit."),
    setting!("gateway.handshakes_max", gateway.handshakes_max: usize, in 1, 1_000_000,
        "How many connections may be in their handshake. Further ones wait for their turn, some of them in the kernel."),
    setting!("gateway.handshake_timeout", gateway.handshake_timeout: Duration, in Duration::from_millis(100), Duration::from_secs(300),
        "How long a handshake may take, password included."),
    setting!("gateway.retry_after", gateway.retry_after: Duration, in Duration::from_secs(1), Duration::from_secs(3600),
        "What Retry-After says with 429 and 503, varied by half, so that stations do not return at once."),
    setting!("gateway.head_bytes_max", gateway.head_bytes_max: usize, in 8192, 1_048_576,
        "Bytes of a request's head. Beyond it 431."),
    setting!("gateway.message_bytes_max", gateway.message_bytes_max: usize, in 1024, 67_108_864,
        "Bytes of a message. Beyond it the connection is closed with 1009."),
    setting!("gateway.binary_as_text", gateway.binary_as_text: bool, switch,
        "Whether binary frames are read as text. Off: the connection is closed with 1003."),
    setting!("gateway.compression", gateway.compression: bool,
        "Whether messages are compressed (permessage-deflate) with stations that offer it. No connection keeps a window, so that an idle one costs no more than without."),
    setting!("gateway.compression_refused", gateway.compression_refused: Vec<String>,
        "The ids of stations with which nothing is compressed although they offer it, for those that do it wrong. * stands for any characters, ? for one: ACME-*."),
    setting!("gateway.compression_bytes_min", gateway.compression_bytes_min: usize, in 1, 67_108_864,
        "Bytes that a message to a station must have to be compressed. Most answers are so small that it costs time and saves nothing."),
    setting!("gateway.write_timeout", gateway.write_timeout: Duration, in Duration::from_secs(1), Duration::from_secs(600),
        "How long a station may leave unread what is sent to it before it is disconnected."),
    setting!("gateway.ping_interval", gateway.ping_interval: Duration, in Duration::ZERO, Duration::from_secs(86_400),
        "How often a station is pinged, unless it was heard in the second half of this time. 0s: never, and then a half-open socket is noticed only when something is sent."),
    setting!("gateway.silence_max", gateway.silence_max: Duration, in Duration::from_secs(1), Duration::from_secs(172_800),
        "How long a station may be silent before it is disconnected. Any frame counts, answers to pings too."),
    setting!("gateway.require_pong", gateway.require_pong: bool, switch,
        "Whether a station that answers no ping is disconnected although it sends other frames. Some never do."),
    setting!("gateway.answer_deadline", gateway.answer_deadline: Duration, in Duration::from_millis(100), Duration::from_secs(600),
        "How long processing has for an answer, from the receipt of the call. Stations wait 30 s; stay below it."),
    setting!("gateway.billing_deadline", gateway.billing_deadline: BillingDeadline,
        "What becomes of a StartTransaction, or a TransactionEvent with a token, at the deadline: close ends the connection with 1013, and most stations then keep the message and send it again; silence sends nothing."),
    setting!("gateway.local_heartbeat", gateway.local_heartbeat: bool, switch,
        "Whether Heartbeat is answered by the gateway itself at once. Processing then never sees one."),
    setting!("gateway.refuse_upgrades_after", refuse_upgrades_after: Duration, in Duration::from_secs(1), Duration::from_secs(86_400),
        "How long nobody may take calls before stations that connect get 503 with Retry-After; those that are connected stay. Not set: 10s for switchboard gateway; never for switchboard run, where processing is in the same process."),
    setting!("gateway.journal", gateway.journal: bool,
        "Whether calls whose answer needs nothing from processing are journalled at the deadline. Off: they get InternalError."),
    setting!("gateway.journal_entries_max", gateway.journal_entries_max: u64, in 0, 1_000_000_000,
        "How many calls the journal holds. Beyond it none is journalled."),
    setting!("gateway.command_timeout", gateway.command_timeout: Duration, in Duration::from_millis(1), Duration::from_secs(600),
        "How long a command waits for its answer where its sender does not say."),
    setting!("gateway.hold_max", gateway.rpc.hold_max: Duration, in Duration::ZERO, Duration::from_secs(600),
        "How long commands wait, after a station connected, for its first call and for the answer to its BootNotification. 0s lets them go at once, which breaks some stations."),
    setting!("gateway.bad_frames_max", gateway.rpc.bad_frames_max: usize, in 0, 100_000,
        "How many bad frames within a minute are borne before the connection is closed with 1002."),
    setting!("gateway.outgoing_calls_max", gateway.rpc.outgoing_calls_max: usize, in 1, 10_000,
        "How many commands may wait for one station, in each lane. Further ones are busy."),
    setting!("gateway.drain_time", gateway.drain_time: Duration, in Duration::ZERO, Duration::from_secs(3600),
        "The time over which connections are closed at shutdown. Few stations take less."),
    setting!("gateway.drain_rate", gateway.drain_rate: u32, in 1, 1_000_000,
        "How many connections are closed per second at shutdown, at least as many as the drain time demands."),
    setting!("gateway.drain_grace", gateway.drain_grace: Duration, in Duration::ZERO, Duration::from_secs(600),
        "How long a connection may finish what it has in hand once it was asked to end."),
    setting!("gateway.flapping_alarm", gateway.flapping_alarm: u32, in 1, 10_000,
        "How many times within a minute a connection of one id must be replaced by another to raise an alarm: then two stations share an id."),
    setting!("trace.ring", trace_ring: Size, where Size::is_zero_or_a_mebibyte, "a size such as \"64MiB\", at least 1MiB, or 0",
        "How much of the recent traffic is kept on disk, below trace in the data directory, for switchboard trace --since: about 1 KiB per call. 0 keeps nothing and removes what was kept."),
    setting!("trace.personal", trace_personal: Personal,
        "What is kept of drivers' tags, tokens and other personal data: redact keeps a short digest instead, by which equal ones can be seen to be equal; keep keeps them as they are, for those who ask with --show-personal. Passwords are never kept."),
    setting!("trace.lines_behind_max", trace_lines_behind_max: usize, in 16, 65_536,
        "How many lines a slow reader of the live traffic may be behind before it misses some, which it is told."),
    setting!("worker.strict", strict: bool, switch,
        "Whether messages of stations must be valid by the letter. Off: what can be read is read, with warnings."),
    setting!("worker.in_hand_max", worker_in_hand_max: u32, in 1, 65_536,
        "How many calls a worker takes at once; more go to other workers, or wait at the broker and the gateways."),
    setting!("central.registration", central.registration: Registration,
        "How BootNotifications are answered, except where `switchboard stations policy` says otherwise: accepted, pending or rejected."),
    setting!("central.heartbeat_interval", central.heartbeat_interval: Duration, in Duration::ZERO, Duration::from_secs(86_400),
        "How often an accepted station sends a Heartbeat. 0s leaves it to the station."),
    setting!("central.boot_interval", central.boot_interval: Duration, in Duration::ZERO, Duration::from_secs(86_400),
        "How long a station that is pending or rejected waits before it boots again. 0s leaves it to the station."),
    setting!("central.unknown_tokens", central.unknown_tokens: UnknownTokens,
        "Whether drivers whose tag is not registered may charge: while_none lets them until the first accepted tag is registered, accept always (everybody charges), refuse never."),
    setting!("central.refuse_concurrent", central.refuse_concurrent: bool, switch,
        "Whether a token may have only one transaction at a time."),
    setting!("central.refuse_unregistered_16", central.refuse_unregistered_16: bool, switch,
        "Whether calls of a 1.6 station that is not accepted are refused with SecurityError."),
    setting!("central.refuse_unregistered_2x", central.refuse_unregistered_2x: bool,
        "The same for 2.x, where the specification wants it."),
];

use super::http::is_url;
use super::places::{Password, is_partitions};
use super::{BusPlace, DatabasePlace, Directives, DirectoryPlace, LogFormat, Secret, Size};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use switchboard_central::UnknownTokens;
use switchboard_gateway::{BillingDeadline, NoCommonVersion};
use switchboard_router::Registration;
use switchboard_rpc::Version;
use switchboard_trace::Personal;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_settings_share_a_path_a_flag_or_a_variable() {
        let paths: HashSet<_> = TABLE.iter().map(|setting| setting.path).collect();
        let flags: HashSet<_> = TABLE.iter().map(Setting::flag).collect();
        let variables: HashSet<_> = TABLE.iter().map(Setting::variable).collect();
        assert_eq!((paths.len(), flags.len(), variables.len()), (TABLE.len(), TABLE.len(), TABLE.len()));
    }

    #[test]
    fn every_default_that_is_shown_can_be_read_again() {
        for setting in TABLE.iter().filter(|setting| !setting.secret) {
            let Some(shown) = (setting.show)(&Settings::default()) else { continue };
            let table: toml::Table = toml::from_str(&format!("value = {shown}")).unwrap();
            let mut read = Settings::default();
            assert!((setting.read)(&mut read, Raw::Toml(&table["value"])).is_some(), "{}", setting.path);
            assert_eq!((setting.show)(&read), Some(shown), "{}", setting.path);
        }
    }

    #[test]
    fn every_setting_says_what_it_means() {
        for setting in TABLE {
            assert!(setting.help.ends_with('.') && setting.help.len() > 20, "{}", setting.path);
            assert!(!(setting.expected)().is_empty(), "{}", setting.path);
        }
    }
}
