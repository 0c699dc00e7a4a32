//! The directory of a data directory: opened by the process, or by a command when no process runs.

use crate::exit::{Exit, Failure};
use anyhow::Context;
use serde_json::Value;
use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use switchboard_api::{AccountError, StationView};
use switchboard_directory::{Directory, DirectoryError, Embedded, StationKey, embedded};
use switchboard_rpc::StationId;

const TENANT: &str = "default";
const PAGE: usize = 1000;

/// Opens it; it belongs to this process then.
pub(crate) async fn open(path: &Path) -> Result<Arc<dyn Directory>, Failure> {
    let config = embedded::Config::in_dir(path);
    // Checking a large file takes a while.
    let opened =
        tokio::task::spawn_blocking(move || Embedded::open(&config)).await.context("the directory")?;
    match opened {
        Ok(directory) => Ok(Arc::new(directory)),
        Err(error @ DirectoryError::Owned { .. }) => {
            Err(Failure { exit: Exit::Unreachable, error: error.into() })
        }
        Err(error) => {
            let error = anyhow::Error::from(error)
                .context(format!("the data directory {} cannot be used", path.display()));
            Err(Failure { exit: Exit::Unreachable, error })
        }
    }
}

/// All stations.
pub(crate) async fn list(path: &Path) -> Result<Vec<Value>, Failure> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let directory = open(path).await?;
    let mut list: Vec<Value> = Vec::new();
    let mut after: Option<StationId> = None;
    loop {
        let page =
            directory.stations(TENANT, after.as_ref(), PAGE, now_ms()).await.map_err(anyhow::Error::from)?;
        after = page.last().map(|last| last.key.station.clone());
        let length = page.len();
        for record in page {
            list.push(serde_json::to_value(StationView::from(record)).map_err(anyhow::Error::from)?);
        }
        if length < PAGE {
            break;
        }
    }
    close(&*directory).await?;
    Ok(list)
}

/// Registers a station.
pub(crate) async fn add(path: &Path, station: &str, password: Option<&str>) -> Result<(), Failure> {
    let account = switchboard_api::account(TENANT, station, password, now_ms()).await.map_err(|error| {
        let exit = if matches!(error, AccountError::Hash) { Exit::Internal } else { Exit::Data };
        Failure { exit, error: error.into() }
    })?;
    let directory = open(path).await?;
    directory.put_account(account).await.map_err(anyhow::Error::from)?;
    close(&*directory).await
}

/// Removes a station; whether there was one.
pub(crate) async fn remove(path: &Path, station: &str) -> Result<bool, Failure> {
    let station =
        StationId::new(station, 255).map_err(|error| Failure { exit: Exit::Data, error: error.into() })?;
    let directory = open(path).await?;
    let key = StationKey { tenant: TENANT.into(), station };
    let removed = directory.remove_account(&key).await.map_err(anyhow::Error::from)?;
    close(&*directory).await?;
    Ok(removed)
}

async fn close(directory: &dyn Directory) -> Result<(), Failure> {
    directory.close().await.map_err(|error| anyhow::Error::from(error).into())
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "an account is registered now")]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
