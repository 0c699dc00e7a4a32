//! What the central system tells about itself: numbers that the store counts anyway, read when somebody asks.

use crate::central::Central;
use crate::store::StoreStats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::atomic::Ordering;

#[derive(Debug)]
struct Metrics(Central);

impl Central {
    /// Adds the central system's numbers to a registry, under names that begin with `switchboard_central`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Metrics(self.clone())));
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let StoreStats { commits, written, failed, repeated } = self.0.stats();
        for (name, help, value) in [
            ("commits", "Commits, each with one sync of the disk", commits),
            ("calls_stored", "Calls that were part of a commit", written),
            ("calls_failed", "Calls that could not be stored", failed),
            ("batches_repeated", "Batches done again because a call in them failed", repeated),
        ] {
            let counter = ConstCounter::new(value);
            let name = format!("switchboard_central_{name}");
            counter.encode(encoder.encode_descriptor(&name, help, None, counter.metric_type())?)?;
        }
        let agenda = &self.0.0.agenda;
        let counts = &agenda.counts;
        for (name, help, value) in [
            ("duties_sent", "Calls that were handed over because they were owed to a station", &counts.sent),
            ("duties_answered", "Owed calls that the station answered", &counts.answered),
            ("duties_refused", "Owed calls that the station answered with a CALLERROR", &counts.refused),
            ("duties_unknown", "Owed calls without an answer in time", &counts.unknown),
            (
                "duties_not_sent",
                "Owed calls that did not reach the station and are still owed",
                &counts.not_sent,
            ),
            ("duties_expired", "Duties whose time was over before they could be sent", &counts.expired),
        ] {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            let name = format!("switchboard_central_{name}");
            counter.encode(encoder.encode_descriptor(&name, help, None, counter.metric_type())?)?;
        }
        let stations = ConstGauge::new(i64::try_from(agenda.stations()).unwrap_or(i64::MAX));
        let (name, help) = ("switchboard_central_stations_owed", "Stations to which something is owed");
        stations.encode(encoder.encode_descriptor(name, help, None, stations.metric_type())?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Central, Config};
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use switchboard_router::Context;
    use switchboard_rpc::{StationId, Version};

    #[tokio::test]
    async fn stored_calls_are_counted_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let central = Central::open(Config::at(folder.path().join("central.db"))).unwrap();
        let context = Context::new(StationId::new("CP1", 48).unwrap(), Version::V16);
        let frame = r#"[2,"1","FirmwareStatusNotification",{"status":"Installed"}]"#;
        assert!(central.router().answer(&context, frame.into()).await.frame.is_some());
        let mut registry = Registry::default();
        central.register_metrics(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("switchboard_central_commits_total 1\n"), "{text}");
        assert!(text.contains("switchboard_central_calls_stored_total 1\n"), "{text}");
    }
}
