//! The settings: what there is, and how default, file, environment and flags are merged.
//!
//! [`TABLE`] is the only list of settings. File keys, variables, flags, the help, `docs/configuration.md` and what
//! `check-config` prints all come from it, so that none of them can forget one.

mod advice;
mod choices;
mod fault;
mod http;
mod places;
mod reference;
mod resolve;
mod roles;
mod table;
mod value;

pub(crate) use advice::advice;
pub(crate) use fault::{Fault, Faults};
pub(crate) use places::{Access, BusPlace, DatabasePlace, DirectoryPlace, Engine};
pub(crate) use reference::{effective_json, effective_toml, reference};
pub(crate) use resolve::{Origin, Resolved, Sources, resolve};
pub(crate) use roles::{Role, split};
pub(crate) use table::{Setting, TABLE};
pub(crate) use value::{Secret, Size, duration, duration_text};

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use value::Raw;

/// Where the configuration file is looked for when nobody says.
pub(crate) const FILE_DEFAULT: &str = "switchboard.toml";

/// Every setting of the binary.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where stations connect.
    pub(crate) listen: SocketAddr,
    /// Whether stations that nobody registered may connect; nobody said: only on loopback.
    pub(crate) accept_unknown: Option<bool>,
    /// Where everything durable is.
    pub(crate) data_dir: PathBuf,
    /// What carries calls between gateways and workers.
    pub(crate) bus: BusPlace,
    /// As whom it is reached.
    pub(crate) bus_access: Access,
    /// Where others reach this process on a bus over HTTP; nobody said: as the role wants it.
    pub(crate) bus_listen: Option<SocketAddr>,
    /// The URL that leads there; nobody said: that address itself.
    pub(crate) bus_advertise: Option<String>,
    /// Where stations are, where their accounts are, and what is kept for them; none: in the data directory.
    pub(crate) directory: Option<DirectoryPlace>,
    /// As whom it is reached.
    pub(crate) directory_access: Access,
    /// Where the books of the central system are; none: in the data directory.
    pub(crate) database: Option<DatabasePlace>,
    /// As whom they are reached.
    pub(crate) database_access: Access,
    /// Keeps installations apart that share a broker.
    pub(crate) namespace: String,
    /// Over how many partitions the stations of an installation are spread.
    pub(crate) partitions: u16,
    /// How long processing may be away before stations that come are sent away; nobody said: as the role wants it.
    pub(crate) refuse_upgrades_after: Option<Duration>,
    /// How many calls a worker takes at once.
    pub(crate) worker_in_hand_max: u32,
    /// Where to write the ports that were bound.
    pub(crate) ports_file: Option<PathBuf>,
    /// How many simulated stations to start.
    pub(crate) demo: u32,
    /// How much faster than life they live.
    pub(crate) demo_speed: f64,
    /// What to log.
    pub(crate) log: Directives,
    /// How to write it.
    pub(crate) log_format: LogFormat,
    /// Where the API listens.
    pub(crate) api_listen: SocketAddr,
    /// Its bearer token.
    pub(crate) api_token: Option<Secret>,
    /// Where health and metrics are.
    pub(crate) admin_listen: SocketAddr,
    /// How much of the recent traffic is kept on disk.
    pub(crate) trace_ring: Size,
    /// What is kept of personal data in it.
    pub(crate) trace_personal: switchboard_trace::Personal,
    /// How many lines a reader of the traffic may be behind.
    pub(crate) trace_lines_behind_max: usize,
    /// Whether messages of stations must be valid by the letter.
    pub(crate) strict: bool,
    /// The gateway's own settings; its address and whom it lets in come from above.
    pub(crate) gateway: switchboard_gateway::Config,
    /// The central system's own settings; its file lies in the data directory.
    pub(crate) central: switchboard_central::Config,
}

impl Default for Settings {
    fn default() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            listen: loopback(8180),
            accept_unknown: None,
            data_dir: PathBuf::from("./switchboard-data"),
            ports_file: None,
            bus: BusPlace::Embedded,
            bus_access: Access::default(),
            bus_listen: None,
            bus_advertise: None,
            directory: None,
            directory_access: Access::default(),
            database: None,
            database_access: Access::default(),
            namespace: "default".to_owned(),
            partitions: switchboard_bus::PARTITIONS_DEFAULT,
            refuse_upgrades_after: None,
            worker_in_hand_max: switchboard_worker::Config::default().in_hand_max.get(),
            demo: 0,
            demo_speed: 60.0,
            log: Directives("info".to_owned()),
            log_format: LogFormat::Text,
            api_listen: loopback(8181),
            api_token: None,
            admin_listen: loopback(8182),
            trace_ring: Size(64 << 20),
            trace_personal: switchboard_trace::Personal::default(),
            trace_lines_behind_max: switchboard_trace::Config::default().lines_behind_max,
            strict: false,
            gateway: switchboard_gateway::Config::default(),
            central: switchboard_central::Config::default(),
        }
    }
}

impl Settings {
    /// Whether a station that nobody registered may connect.
    pub(crate) fn accepts_unknown(&self) -> bool {
        self.accept_unknown.unwrap_or_else(|| self.listen.ip().is_loopback())
    }

    /// What is wrong between settings that are right one by one. `bad` are those that are not: nothing is said of them,
    /// since only their defaults are here.
    fn contradictions(&self, bad: &[&str]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let good = |path: &str| !bad.contains(&path);
        if good("api.token")
            && good("api.listen")
            && !self.api_listen.ip().is_loopback()
            && self.api_token.is_none()
        {
            faults.push(Fault::new(
                "api.token",
                format!(
                    "must be set, since the API listens on {}, which others can reach; set it, or use a loopback address",
                    self.api_listen
                ),
            ));
        }
        if good("namespace")
            && (self.namespace.is_empty()
                || !self.namespace.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)))
        {
            faults.push(Fault::new(
                "namespace",
                format!(
                    "{:?} is part of addresses on the bus: give letters, digits, '-' or '_'",
                    self.namespace
                ),
            ));
        }
        if good("bus")
            && good("bus_listen")
            && (self.bus_listen.is_some() || self.bus_advertise.is_some())
            && !matches!(self.bus, BusPlace::Broker(Engine::Http, _))
        {
            let place = if self.bus_listen.is_some() { "bus_listen" } else { "bus_advertise" };
            faults.push(Fault::new(
                place,
                format!("is for a bus over http:// only, and the bus is {}: leave it away", self.bus),
            ));
        }
        if good("gateway.ping_interval")
            && good("gateway.silence_max")
            && self.gateway.silence_max <= self.gateway.ping_interval
        {
            faults.push(Fault::new(
                "gateway.silence_max",
                format!(
                    "must be longer than gateway.ping_interval ({:?}), or stations that have nothing to say are closed \
                     before they are asked; three times as long is usual",
                    self.gateway.ping_interval
                ),
            ));
        }
        if good("gateway.versions")
            && good("gateway.assume_version")
            && let Some(assumed) = self.gateway.assume_version
            && !self.gateway.versions.contains(&assumed)
        {
            faults.push(Fault::new(
                "gateway.assume_version",
                format!("OCPP {assumed} is not among gateway.versions: add it there, or assume another"),
            ));
        }
        let listeners = [
            ("listen", Some(self.listen)),
            ("api.listen", Some(self.api_listen)),
            ("admin.listen", Some(self.admin_listen)),
            ("bus_listen", self.bus_listen),
        ];
        for (index, (path, address)) in listeners.iter().enumerate() {
            let Some(address) = address else { continue };
            for (other, taken) in &listeners[..index] {
                if good(path) && good(other) && address.port() != 0 && Some(*address) == *taken {
                    faults.push(Fault::new(*path, format!("{address} is the address of {other} already")));
                }
            }
        }
        faults
    }
}

/// What to log, as directives: `info`, `info,switchboard_gateway=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directives(pub(crate) String);

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}
