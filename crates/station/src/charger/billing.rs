//! What a billing message tells.

/// What a billing message tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A transaction has begun.
    Start {
        /// Whether a command began it, and the id that the command carried (2.0.1).
        remote: Option<Option<i64>>,
        /// What kind of tag the driver showed (2.0.1).
        token_type: String,
        /// The reservation that it uses up.
        reservation: Option<i64>,
        /// How much its driver wants at most, in Wh (2.1).
        limit_wh: Option<f64>,
    },
    /// The meter was read.
    Meter {
        /// What it showed.
        sample: Sample,
        /// Why it was read.
        cause: Cause,
    },
    /// Energy flows or does not (2.x, which tells it within transactions).
    State {
        /// In the words of 2.x.
        state: &'static str,
        /// Why it changed.
        trigger: &'static str,
    },
    /// The central system has set a limit (2.1).
    Limit {
        /// How much may be charged, in Wh.
        most_wh: f64,
    },
    /// A transaction has ended.
    Stop {
        /// Why.
        reason: Reason,
    },
}

/// Why a transaction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The driver ended it.
    Local,
    /// A command ended it.
    Remote,
    /// The central system did not accept the driver.
    DeAuthorized,
    /// The station was reset and finished first.
    SoftReset,
    /// The station was reset at once.
    HardReset,
    /// The power failed, or the station is being switched off.
    PowerLoss,
    /// The connector broke.
    Fault {
        /// Whether current went to earth, which 2.x has a word for.
        ground: bool,
    },
    /// A command unlocked the connector.
    Unlock,
    /// New firmware is installed.
    Reboot,
}

/// What a meter showed beside the energy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// What flows, in W.
    pub(crate) power_w: u64,
    /// On each phase, in A.
    pub(crate) current_a: f64,
    /// What the station would give, in W.
    pub(crate) offered_w: u64,
    /// How full the car is, in per cent.
    pub(crate) soc: Option<u8>,
}

/// Why a meter was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was time.
    Periodic,
    /// The clock stood at a multiple of the interval.
    Clock,
    /// Somebody asked.
    Trigger,
}

/// A billing message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The number of its transaction in the books.
    pub(crate) transaction: u64,
    /// What it tells.
    pub(crate) kind: Kind,
    /// The meter at that time, in Wh.
    pub(crate) meter_wh: u64,
    /// When, in milliseconds since 1970.
    pub(crate) unix_ms: i64,
    /// Which message of its transaction it is (2.0.1).
    pub(crate) seq_no: u32,
}
