//! Which addresses were bound, for people and scripts.

use anyhow::Context;
use std::{net::SocketAddr, path::Path};

/// The addresses that were bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// For stations.
    pub(crate) stations: SocketAddr,
    /// For the API.
    pub(crate) api: SocketAddr,
    /// For health and metrics.
    pub(crate) admin: SocketAddr,
}

impl Addresses {
    /// Writes them as JSON; whoever sees the file sees all of it.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::json!({
            "stations": self.stations.to_string(),
            "api": self.api.to_string(),
            "admin": self.admin.to_string(),
            "pid": std::process::id(),
        });
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        std::fs::write(&name, format!("{text}\n"))
            .and_then(|()| std::fs::rename(&name, path))
            .with_context(|| format!("the ports file {} cannot be written", path.display()))
    }
}
