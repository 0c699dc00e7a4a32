//! The simulated stations of `--demo`.

use crate::{exit::Failure, settings::Settings};
use anyhow::Context;
use std::{net::SocketAddr, time::Duration};
use switchboard_directory::{Directory, StationKey};
use switchboard_rpc::{StationId, Version};
use switchboard_station::{Config, Simulated};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Simulated stations within this process. They come through the front door as every other station.
#[derive(Debug)]
pub(crate) struct Demo {
    stop: CancellationToken,
    stations: TaskTracker,
}

/// How long they may take to end their sessions.
const STOP_MAX: Duration = Duration::from_secs(5);

impl Demo {
    /// Starts as many as the settings say.
    pub(crate) async fn start(
        settings: &Settings,
        address: SocketAddr,
        directory: &dyn Directory,
    ) -> Result<Self, Failure> {
        let demo = Self { stop: CancellationToken::new(), stations: TaskTracker::new() };
        let mut reached = address;
        if reached.ip().is_unspecified() {
            reached.set_ip(if reached.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        for number in 1..=settings.demo {
            let id = station_id(number);
            let mut config = Config::new(format!("ws://{reached}/ocpp"), &id);
            config.version = if number % 2 == 1 { Version::V16 } else { Version::V201 };
            config.speed = settings.demo_speed;
            config.password = password(settings, &id, directory).await?;
            demo.stations.spawn(Simulated::new(config).run(demo.stop.clone()));
        }
        demo.stations.close();
        Ok(demo)
    }

    /// Switches them off, and lets them tell it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        // Whoever cannot say goodbye in time is cut off with the gateway.
        drop(tokio::time::timeout(STOP_MAX, self.stations.wait()).await);
    }
}

/// `DEMO001` and so on.
pub(crate) fn station_id(number: u32) -> String {
    format!("DEMO{number:03}")
}

/// A new password where one is asked for: where only registered stations are let in, or where this one is registered.
async fn password(
    settings: &Settings,
    id: &str,
    directory: &dyn Directory,
) -> Result<Option<Vec<u8>>, Failure> {
    let station = StationId::new(id, 48).context("the id of a simulated station")?;
    let key = StationKey { tenant: "default".into(), station };
    let known = directory.account(&key).await.context("the directory cannot be read")?;
    if settings.accepts_unknown() && known.is_none_or(|account| account.password.is_none()) {
        return Ok(None);
    }
    let password = crate::commands::stations::generate();
    let account = switchboard_api::account("default", id, Some(&password), super::store::now_ms())
        .await
        .context("the account of a simulated station")?;
    directory.put_account(account).await.context("the account of a simulated station")?;
    Ok(Some(password.into_bytes()))
}
