//! The ports that a role has: bound, and told to people and scripts.

use super::listen;
use crate::{
    exit::Failure,
    settings::{Role, Settings},
};
use anyhow::Context;
use std::{net::SocketAddr, path::Path};
use tokio::net::TcpListener;

/// The ports of a role.
pub(super) struct Ports {
    /// For stations.
    pub(super) stations: Option<TcpListener>,
    /// For the API.
    pub(super) api: Option<TcpListener>,
    /// For health and metrics.
    pub(super) admin: TcpListener,
    /// For the others of a bus over HTTP.
    pub(super) bus: Option<TcpListener>,
}

/// The addresses that were bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// For stations.
    pub(crate) stations: Option<SocketAddr>,
    /// For the API.
    pub(crate) api: Option<SocketAddr>,
    /// For health and metrics.
    pub(crate) admin: SocketAddr,
    /// For the others of a bus over HTTP.
    pub(crate) bus: Option<SocketAddr>,
}

impl Ports {
    /// Binds what the role serves.
    pub(super) async fn bind(role: Role, settings: &Settings) -> Result<(Self, Addresses), Failure> {
        let bind = async |wanted: bool, flag: &str, address: SocketAddr| {
            if wanted { listen::bind(flag, address).await.map(Some) } else { Ok(None) }
        };
        let stations = bind(role.has_stations(), "--listen", settings.listen).await?;
        let api = bind(role.has_processing(), "--api-listen", settings.api_listen).await?;
        let admin = listen::bind("--admin-listen", settings.admin_listen).await?;
        let bus = match settings.bus_listens_at(role) {
            Some(Ok(address)) => Some(listen::bind("--bus-listen", address).await?),
            // Checked before anything was begun.
            Some(Err(_)) | None => None,
        };
        let address =
            |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        let addresses = Addresses {
            stations: address(&stations)?,
            api: address(&api)?,
            admin: admin.local_addr()?,
            bus: address(&bus)?,
        };
        Ok((Self { stations, api, admin, bus }, addresses))
    }
}

impl Addresses {
    /// Writes them as JSON; whoever sees the file sees all of it.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::json!({
            "stations": self.stations.map(|address| address.to_string()),
            "api": self.api.map(|address| address.to_string()),
            "admin": self.admin.to_string(),
            "bus": self.bus.map(|address| address.to_string()),
            "pid": std::process::id(),
        });
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        std::fs::write(&name, format!("{text}\n"))
            .and_then(|()| std::fs::rename(&name, path))
            .with_context(|| format!("the ports file {} cannot be written", path.display()))
    }
}
