//! What commands do with a directory when no process runs, and what is said when a database cannot be used.

use super::directory::open;
use crate::{
    exit::{Exit, Failure},
    settings::{DirectoryPlace, Settings},
};
use serde_json::Value;
use std::{
    io::ErrorKind,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};
use switchboard_api::{AccountError, StationView};
use switchboard_central::OpenError;
use switchboard_directory::{Directory, DirectoryError, StationKey};
use switchboard_rpc::StationId;

const TENANT: &str = "default";
const PAGE: usize = 1000;

/// Why a data directory cannot be used, and what to do about it.
pub(crate) fn failure(path: &Path, error: DirectoryError) -> Failure {
    let exit = match error {
        DirectoryError::Damaged { .. } => Exit::Damaged,
        _ => Exit::Unreachable,
    };
    let folder = path.display();
    let source = match error {
        DirectoryError::Unusable { path, source } => {
            let why = match source.kind() {
                ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
                    format!(
                        "the data directory {folder} cannot be used: {path} is there and is of another kind; a directory is needed"
                    )
                }
                ErrorKind::PermissionDenied => format!(
                    "the data directory {folder} cannot be used: this user may not write {path}; give it to the user that runs switchboard"
                ),
                ErrorKind::ReadOnlyFilesystem => {
                    format!(
                        "the data directory {folder} cannot be used: its file system is mounted read-only"
                    )
                }
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    format!("the data directory {folder} cannot be used: the disk is full; make room")
                }
                _ => format!("the data directory {folder} cannot be used: {path}: {source}"),
            };
            return Failure::new(exit, format!("{why}, or choose another with --data-dir"));
        }
        DirectoryError::Full(_) => {
            return Failure::new(
                exit,
                format!(
                    "the data directory {folder} cannot be used: the disk is full; make room, or choose another with --data-dir"
                ),
            );
        }
        other => other,
    };
    let owned = matches!(source, DirectoryError::Owned { .. } | DirectoryError::Damaged { .. });
    let error = anyhow::Error::from(source);
    let context = || format!("the data directory {folder} cannot be used");
    Failure { exit, error: if owned { error } else { error.context(context()) } }
}

/// Why the books cannot be opened.
pub(crate) fn books_failure(error: OpenError) -> Failure {
    let exit = match error {
        OpenError::Damaged { .. } | OpenError::Foreign { .. } => Exit::Damaged,
        _ => Exit::Unreachable,
    };
    Failure { exit, error: error.into() }
}

/// All stations.
pub(crate) async fn list(settings: &Settings) -> Result<Vec<Value>, Failure> {
    if matches!(settings.directory_place(), DirectoryPlace::Sqlite(path) if !path.exists()) {
        return Ok(Vec::new());
    }
    let directory = open(settings).await?.directory;
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
pub(crate) async fn add(settings: &Settings, station: &str, password: Option<&str>) -> Result<(), Failure> {
    let account = switchboard_api::account(TENANT, station, password, now_ms()).await.map_err(|error| {
        let exit = if matches!(error, AccountError::Hash) { Exit::Internal } else { Exit::Data };
        Failure { exit, error: error.into() }
    })?;
    let directory = open(settings).await?.directory;
    directory.put_account(account).await.map_err(anyhow::Error::from)?;
    close(&*directory).await
}

/// Removes a station; whether there was one.
pub(crate) async fn remove(settings: &Settings, station: &str) -> Result<bool, Failure> {
    let station =
        StationId::new(station, 255).map_err(|error| Failure { exit: Exit::Data, error: error.into() })?;
    let directory = open(settings).await?.directory;
    let key = StationKey { tenant: TENANT.into(), station };
    let removed = directory.remove_account(&key).await.map_err(anyhow::Error::from)?;
    close(&*directory).await?;
    Ok(removed)
}

async fn close(directory: &dyn Directory) -> Result<(), Failure> {
    directory.close().await.map_err(|error| anyhow::Error::from(error).into())
}

/// Makes the folder for what a process keeps; what stations send is nobody else's business.
pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| {
        failure(path, DirectoryError::Unusable { path: path.display().to_string(), source })
    })
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "an account is registered now")]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
