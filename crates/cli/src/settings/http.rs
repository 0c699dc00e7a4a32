//! Where a process is reached on a bus over HTTP, and what cannot work there.

use super::{BusPlace, DatabasePlace, Engine, Fault, Role, Settings};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use switchboard_bus::{Connect, Endpoint};

/// Where a gateway listens for commands, where nobody says.
const GATEWAY_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8183);

impl Settings {
    /// Whether the bus is over HTTP.
    pub(crate) fn bus_is_http(&self) -> bool {
        matches!(self.bus, BusPlace::Broker(Engine::Http, _))
    }

    /// Where the others of a bus over HTTP reach this process; none if it is another bus.
    pub(crate) fn bus_listens_at(&self, role: Role) -> Option<Result<SocketAddr, Fault>> {
        if !self.bus_is_http() {
            return None;
        }
        if let Some(address) = self.bus_listen {
            return Some(Ok(address));
        }
        if !role.has_processing() {
            return Some(Ok(GATEWAY_DEFAULT));
        }
        let endpoints = self.http_endpoints();
        let fault = |problem: String| Some(Err(Fault::new("bus_listen", problem)));
        match endpoints.as_slice() {
            // What is wrong with the URL is told by whoever opens it.
            [] => Some(Ok(GATEWAY_DEFAULT)),
            [one] => match address(one) {
                Some(address) => Some(Ok(address)),
                None => fault(format!(
                    "must say at which address of this machine the function {} listens, for example 0.0.0.0:{}",
                    self.bus, one.port
                )),
            },
            _ => fault(format!(
                "must say which of {} this worker is: the address at which it listens, for example 127.0.0.1:{}",
                self.bus, endpoints[0].port
            )),
        }
    }

    /// Whether what the others of the bus reach is served with TLS, as its driver does it.
    pub(crate) fn bus_serves_tls(&self) -> bool {
        self.bus_access.certificate_file.is_some()
            && self.http_endpoints().iter().all(|endpoint| endpoint.scheme.tls)
    }

    /// What cannot work for this role over HTTP.
    pub(super) fn http_faults(&self, role: Role) -> Vec<Fault> {
        let address = match self.bus_listens_at(role) {
            None => return Vec::new(),
            Some(Err(fault)) => return vec![fault],
            Some(Ok(address)) => address,
        };
        let mut faults = Vec::new();
        let endpoints = self.http_endpoints();
        if !address.ip().is_loopback() && endpoints.iter().all(|endpoint| endpoint.password.is_none()) {
            faults.push(Fault::new(
                "bus_password",
                format!(
                    "must be set together with bus_user, the same for all gateways and workers, since others can reach \
                     {address}; or put them into the URL: http://USER:PASSWORD@HOST/PATH, or http://TOKEN@HOST/PATH"
                ),
            ));
        }
        if role.has_stations() && address.ip().is_unspecified() && self.bus_advertise.is_none() {
            faults.push(Fault::new(
                "bus_advertise",
                format!(
                    "must be set to the URL by which workers reach this gateway for commands, for example \
                     http://10.0.0.1:{}: {address} is no address that anybody could reach",
                    address.port()
                ),
            ));
        }
        if role == Role::Worker
            && endpoints.len() > 1
            && let place @ DatabasePlace::Sqlite(_) = self.database_place()
        {
            faults.push(Fault::new(
                "database",
                format!(
                    "{place} belongs to one worker, and the bus names {} of them: give all of them the same postgres://…",
                    endpoints.len()
                ),
            ));
        }
        faults
    }

    fn http_endpoints(&self) -> Vec<Endpoint> {
        let BusPlace::Broker(Engine::Http, urls) = &self.bus else { return Vec::new() };
        let mut connect = Connect::to(urls.join(","));
        connect.user.clone_from(&self.bus_access.user);
        connect.password = self.bus_access.secret();
        switchboard_bus_http::endpoints(&connect).unwrap_or_default()
    }
}

/// Where a worker listens that is this function.
fn address(endpoint: &Endpoint) -> Option<SocketAddr> {
    let ip = match endpoint.host.as_str() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().ok()?,
    };
    Some(SocketAddr::new(ip, endpoint.port))
}

/// Whether others can be told this URL.
#[expect(clippy::ptr_arg, reason = "what the table of settings asks with")]
pub(super) fn is_url(text: &String) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with(['/', ':']) && !rest.contains(['@', '?', '#', ' '])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Sources, resolve};

    fn with(flags: &[(&'static str, &str)]) -> Settings {
        let flags = flags.iter().map(|(path, value)| (*path, (*value).to_owned())).collect();
        resolve(&Sources { flags, ..Sources::default() }).unwrap().settings
    }

    #[test]
    fn a_worker_listens_where_its_bus_is_and_a_gateway_beside_its_other_ports() {
        let at = |flags: &[(&'static str, &str)], role| {
            let at = with(flags).bus_listens_at(role);
            at.map(|at| at.map(|at| at.to_string()).map_err(|fault| fault.place))
        };
        let bus = ("bus", "http://127.0.0.1:8090/ocpp");
        assert_eq!(at(&[], Role::Run), None);
        assert_eq!(at(&[bus], Role::Worker), Some(Ok("127.0.0.1:8090".into())));
        assert_eq!(at(&[bus], Role::Gateway), Some(Ok("127.0.0.1:8183".into())));
        assert_eq!(at(&[("bus", "http://localhost:8090")], Role::Worker), Some(Ok("127.0.0.1:8090".into())));
        let listen = ("bus_listen", "0.0.0.0:9");
        assert_eq!(at(&[bus, listen], Role::Worker), Some(Ok("0.0.0.0:9".into())));
        for several in ["http://functions.example/ocpp", "http://127.0.0.1:1,127.0.0.1:2"] {
            assert_eq!(at(&[("bus", several)], Role::Worker), Some(Err("bus_listen".into())));
            assert!(at(&[("bus", several), listen], Role::Worker).is_some_and(|at| at.is_ok()));
        }
    }

    #[test]
    fn what_cannot_work_over_http_is_named() {
        let faults = |flags: &[(&'static str, &str)], role| -> Vec<String> {
            with(flags).http_faults(role).into_iter().map(|fault| fault.place).collect()
        };
        let none: &[&str] = &[];
        let (local, token) =
            (("bus", "http://127.0.0.1:8090/ocpp"), ("bus", "http://token@10.0.0.9:8090/ocpp"));
        let open = ("bus_listen", "0.0.0.0:8183");
        for (flags, role, expected) in [
            (&[local][..], Role::Gateway, none),
            (&[local], Role::Worker, none),
            (&[local, open], Role::Worker, &["bus_password"]),
            (&[local, open], Role::Gateway, &["bus_password", "bus_advertise"]),
            (&[local, open, ("bus_user", "u"), ("bus_password", "p")], Role::Worker, none),
            (&[token, open, ("bus_advertise", "http://10.0.0.1:8183")], Role::Gateway, none),
            (&[token], Role::Worker, none),
            (
                &[("bus", "http://127.0.0.1:1,127.0.0.1:2"), ("bus_listen", "127.0.0.1:1")],
                Role::Worker,
                &["database"],
            ),
            (&[("bus", "nats://a")], Role::Worker, none),
        ] {
            assert_eq!(faults(flags, role), expected, "{flags:?}");
        }
    }

    #[test]
    fn what_is_told_to_others_is_a_url() {
        for good in ["http://10.0.0.1:8183", "https://gw-1.example/bus"] {
            assert!(is_url(&good.to_owned()), "{good}");
        }
        for bad in ["10.0.0.1:8183", "http://", "http://u@h", "http://h?x", "ftp://h", "http://:1"] {
            assert!(!is_url(&bad.to_owned()), "{bad}");
        }
    }
}
