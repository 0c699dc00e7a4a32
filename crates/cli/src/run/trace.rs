//! The trace of the process: in the folder `trace` of the data directory.

use crate::settings::Settings;
use anyhow::Context;
use prometheus_client::registry::Registry;
use std::path::{Path, PathBuf};
use switchboard_gateway::Gateway;
use switchboard_trace::{Config, Trace};

/// Follows the traffic of the gateway.
pub(super) fn start(
    settings: &Settings,
    data_dir: &Path,
    gateway: &Gateway,
    registry: &mut Registry,
) -> anyhow::Result<Trace> {
    let mut config = Config::default();
    config.folder = folder(data_dir);
    config.ring_bytes = settings.trace_ring.0;
    config.personal = settings.trace_personal;
    config.lines_behind_max = settings.trace_lines_behind_max;
    config.answer_deadline = settings.gateway.answer_deadline;
    Trace::start(gateway.tap().clone(), config, registry).context("the trace cannot start")
}

/// Where the traffic of a data directory is recorded.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("trace")
}
