//! What an operator can set about the trace.

use std::{path::PathBuf, time::Duration};

/// The settings of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The folder of the ring and of the key of its digests. It belongs to one process.
    pub folder: PathBuf,
    /// Bytes of the ring on disk. 0: nothing is kept, and what was kept is removed.
    pub ring_bytes: u64,
    /// What the ring keeps of personal data.
    pub personal: Personal,
    /// Lines that a slow reader may be behind before it misses some.
    pub lines_behind_max: usize,
    /// How long processing has for an answer: what the gateway is set to.
    pub answer_deadline: Duration,
}

/// What the ring keeps of personal data. Secrets are never kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Personal {
    /// A short digest with a key: equal tags can be seen to be equal.
    #[default]
    Redact,
    /// As it came. Readers see it only if they ask for it.
    Keep,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("trace"),
            ring_bytes: 0,
            personal: Personal::default(),
            lines_behind_max: 1_024,
            answer_deadline: Duration::from_secs(25),
        }
    }
}
