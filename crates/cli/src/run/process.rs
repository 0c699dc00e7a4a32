//! What the process itself costs, by the names that operators know from everywhere: `process_…`.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};
use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// Registers them, and which version this is.
pub(super) fn register(registry: &mut Registry) {
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    registry.register("switchboard_build", "Which version runs", Info::new(version));
    registry.register_collector(Box::new(Process { began: seconds_since_1970() }));
}

/// Looks when it is asked, and costs nothing else.
#[derive(Debug)]
struct Process {
    began: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "process_start_time_seconds",
            "When the process began, in seconds since 1970.",
            Some(self.began),
        )?;
        gauge("process_resident_memory_bytes", "Resident memory.", status("VmRSS:").map(|kib| kib * 1024.0))?;
        gauge("process_virtual_memory_bytes", "Virtual memory.", status("VmSize:").map(|kib| kib * 1024.0))?;
        gauge("process_threads", "Threads.", status("Threads:"))?;
        gauge("process_open_fds", "Open files and sockets.", open_files())?;
        gauge("process_max_fds", "How many of them there may be.", open_files_max())?;
        let Some(cpu) = cpu_seconds() else { return Ok(()) };
        let counter = ConstCounter::new(cpu);
        let help = "Processor time, of the user and of the system.";
        counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?)
    }
}

/// A number of `/proc/self/status`; none where there is no such thing.
fn status(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    /// `USER_HZ`, the same on all platforms that we run on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the process, in brackets, may hold blanks.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn open_files() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the folder that is being read.
    u32::try_from(count.saturating_sub(1)).ok().map(f64::from)
}

fn open_files_max() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "the time of day is what is asked for")]
fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE process_cpu_seconds counter",
            "# TYPE process_resident_memory_bytes gauge",
            "switchboard_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") > value("process_open_fds"));
        assert!(value("process_cpu_seconds_total") < 1e5);
    }
}
