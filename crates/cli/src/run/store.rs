//! The accounts of stations in a data directory that no process uses.

use crate::exit::{Exit, Failure};
use serde_json::Value;
use std::path::Path;

/// All stations.
pub(crate) async fn list(_path: &Path) -> Result<Vec<Value>, Failure> {
    Err(Failure::new(Exit::Internal, "not yet"))
}

/// Registers a station.
pub(crate) async fn add(_path: &Path, _station: &str, _password: Option<&str>) -> Result<(), Failure> {
    Err(Failure::new(Exit::Internal, "not yet"))
}

/// Removes a station; whether there was one.
pub(crate) async fn remove(_path: &Path, _station: &str) -> Result<bool, Failure> {
    Err(Failure::new(Exit::Internal, "not yet"))
}
