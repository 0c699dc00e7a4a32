//! A connector (1.6) or an EVSE with its one connector (2.0.1), and the car at it.

use super::whole;
use std::time::{Duration, Instant};

/// How a connector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Free.
    Available,
    /// A car is there and does not charge yet.
    Preparing,
    /// A car charges.
    Charging,
    /// A car has charged and is about to go.
    Finishing,
    /// Taken out of service.
    Unavailable,
}

impl Status {
    /// As 1.6 says it.
    pub(crate) const fn v16(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Preparing => "Preparing",
            Self::Charging => "Charging",
            Self::Finishing => "Finishing",
            Self::Unavailable => "Unavailable",
        }
    }

    /// As 2.0.1 says it, which tells charging in transactions.
    pub(crate) const fn v201(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Preparing | Self::Charging | Self::Finishing => "Occupied",
            Self::Unavailable => "Unavailable",
        }
    }
}

/// A car that charges.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its number in the books.
    pub(crate) transaction: u64,
    /// How fast it charges, in W.
    pub(crate) power_w: f64,
    /// When its driver comes back.
    pub(crate) until: Instant,
    /// How often its meter is read.
    pub(crate) read_every: Duration,
    /// When next.
    pub(crate) next_reading: Instant,
    /// The number of the next message about it (2.0.1).
    pub(crate) next_seq_no: u32,
}

/// A connector.
#[derive(Debug)]
pub(crate) struct Connector {
    /// From 1.
    pub(crate) id: u32,
    /// All energy that it ever gave, in Wh.
    pub(crate) register_wh: f64,
    /// How it is.
    pub(crate) status: Status,
    /// The tag that was shown last, and what kind it is (2.0.1).
    pub(crate) token: String,
    /// See `token`.
    pub(crate) token_type: String,
    /// Whether its driver waits for consent.
    pub(crate) authorizing: bool,
    /// Who charges.
    pub(crate) session: Option<Session>,
    /// When the next car comes.
    pub(crate) next_car: Option<Instant>,
}

impl Connector {
    /// A free connector whose meter stands at this.
    pub(crate) const fn new(id: u32, register_wh: f64) -> Self {
        Self {
            id,
            register_wh,
            status: Status::Available,
            token: String::new(),
            token_type: String::new(),
            authorizing: false,
            session: None,
            next_car: None,
        }
    }

    /// What the meter shows, in Wh.
    pub(crate) fn meter_wh(&self) -> u64 {
        whole(self.register_wh)
    }

    /// When its meter is read next.
    pub(crate) fn next_reading(&self) -> Option<Instant> {
        self.session.as_ref().map(|session| session.next_reading)
    }

    /// The number of the transaction that goes on here.
    pub(crate) fn transaction(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.transaction)
    }
}
