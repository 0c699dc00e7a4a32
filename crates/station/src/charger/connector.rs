//! A connector (1.6) or an EVSE with its one connector (2.x), and the car at it.

use super::{billing::Sample, whole};
use crate::model::vehicle::{VOLTS, Vehicle};
use std::time::{Duration, Instant};
use switchboard_rpc::Version;

/// How a connector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Free.
    Available,
    /// A driver or a car is there and does not charge yet.
    Preparing,
    /// A car charges.
    Charging,
    /// A car could charge and does not want to.
    SuspendedEv,
    /// A car wants to charge and may not.
    SuspendedEvse,
    /// A car has charged and is about to go.
    Finishing,
    /// Somebody has reserved it.
    Reserved,
    /// Taken out of service.
    Unavailable,
    /// Broken.
    Faulted,
}

impl Status {
    /// As 1.6 says it.
    pub(crate) const fn v16(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Preparing => "Preparing",
            Self::Charging => "Charging",
            Self::SuspendedEv => "SuspendedEV",
            Self::SuspendedEvse => "SuspendedEVSE",
            Self::Finishing => "Finishing",
            Self::Reserved => "Reserved",
            Self::Unavailable => "Unavailable",
            Self::Faulted => "Faulted",
        }
    }

    /// As 2.x says it, which tells charging in transactions.
    pub(crate) const fn v2(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Preparing | Self::Charging | Self::SuspendedEv | Self::SuspendedEvse | Self::Finishing => {
                "Occupied"
            }
            Self::Reserved => "Reserved",
            Self::Unavailable => "Unavailable",
            Self::Faulted => "Faulted",
        }
    }

    /// The state of charging that goes with it in 2.x.
    pub(crate) const fn charging_state(self) -> &'static str {
        match self {
            Self::SuspendedEv => "SuspendedEV",
            Self::SuspendedEvse => "SuspendedEVSE",
            Self::Preparing | Self::Finishing => "EVConnected",
            _ => "Charging",
        }
    }
}

/// A car that charges.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its number in the books.
    pub(crate) transaction: u64,
    /// When it began, in milliseconds since 1970.
    pub(crate) since_ms: i64,
    /// The car.
    pub(crate) vehicle: Vehicle,
    /// What the station gives at most, in W.
    pub(crate) offered_w: f64,
    /// When its driver comes back.
    pub(crate) until: Instant,
    /// When what flows is judged again.
    pub(crate) look_at: Instant,
    /// How often its meter is read.
    pub(crate) read_every: Duration,
    /// When next.
    pub(crate) next_reading: Instant,
    /// The number of the next message about it (2.x).
    pub(crate) next_seq_no: u32,
    /// When it breaks, if it does.
    pub(crate) breaks_at: Option<Instant>,
    /// What it has charged, in Wh.
    pub(crate) charged_wh: f64,
    /// How much it may charge, in Wh (2.1).
    pub(crate) limit_wh: Option<f64>,
    /// Whether it goes before others (2.1).
    pub(crate) priority: bool,
}

impl Session {
    /// What flows, in W.
    pub(crate) fn power_w(&self) -> f64 {
        self.vehicle.accepts_w().min(self.offered_w)
    }

    /// Whether it has charged what it may. Less than a watt-hour is not waited for.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.limit_wh.is_some_and(|limit| self.charged_wh + 1.0 > limit)
    }

    /// What its meter shows beside the energy.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of one hundred fits a byte"
    )]
    pub(crate) fn sample(&self) -> Sample {
        let power_w = self.power_w();
        Sample {
            power_w: whole(power_w),
            current_a: (power_w / VOLTS / f64::from(self.vehicle.phases()) * 10.0).round() / 10.0,
            offered_w: whole(self.offered_w),
            soc: self.vehicle.share().map(|share| (share * 100.0).round() as u8),
        }
    }
}

/// Whether a driver may charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Nobody was asked.
    None,
    /// The central system was asked.
    Asked,
    /// Yes.
    Given,
}

/// A driver or a car without a transaction: before it, or after.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Whether the cable is in the car.
    pub(crate) plugged: bool,
    /// When the driver plugs in.
    pub(crate) plugs_at: Option<Instant>,
    /// When the driver shows a tag.
    pub(crate) shows_at: Option<Instant>,
    /// Whether it may charge.
    pub(crate) consent: Consent,
    /// When it goes.
    pub(crate) goes_at: Option<Instant>,
    /// Whether a command brought the consent, and the id that it carried (2.x).
    pub(crate) remote: Option<Option<i64>>,
    /// Whether it has charged already.
    pub(crate) served: bool,
    /// The profile that the command brought for its transaction.
    pub(crate) profile: Option<Box<serde_json::Value>>,
}

impl Guest {
    /// Somebody whose cable is in the car, or not.
    pub(crate) const fn new(plugged: bool) -> Self {
        Self {
            plugged,
            plugs_at: None,
            shows_at: None,
            consent: Consent::None,
            goes_at: None,
            remote: None,
            served: false,
            profile: None,
        }
    }

    /// When something happens by itself.
    pub(crate) fn next(&self) -> Option<Instant> {
        [self.plugs_at, self.shows_at, self.goes_at].into_iter().flatten().min()
    }
}

/// A connector that is kept for somebody.
#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    /// Its number.
    pub(crate) id: i64,
    /// For whom.
    pub(crate) token: String,
    /// Until when.
    pub(crate) until: Instant,
}

/// A connector.
#[derive(Debug)]
pub(crate) struct Connector {
    /// From 1.
    pub(crate) id: u32,
    /// All energy that it ever gave, in Wh.
    pub(crate) register_wh: f64,
    /// The most that it gives, in W.
    pub(crate) power_w: f64,
    /// How it was told to be.
    pub(crate) status: Status,
    /// The tag that was shown last, and what kind it is (2.x).
    pub(crate) token: String,
    /// See `token`.
    pub(crate) token_type: &'static str,
    /// Who charges.
    pub(crate) session: Option<Box<Session>>,
    /// Who is there and does not charge.
    pub(crate) guest: Option<Box<Guest>>,
    /// When the next car comes.
    pub(crate) next_car: Option<Instant>,
    /// Whether it is in service.
    pub(crate) operative: bool,
    /// Whether it goes out of service when the car has gone.
    pub(crate) closes: bool,
    /// Why it is broken, and until when.
    pub(crate) broken: Option<(&'static str, Instant)>,
    /// For whom it is kept.
    pub(crate) reservation: Option<Reservation>,
}

impl Connector {
    /// A free connector whose meter stands at this.
    pub(crate) const fn new(id: u32, register_wh: f64, power_w: f64) -> Self {
        Self {
            id,
            register_wh,
            power_w,
            status: Status::Available,
            token: String::new(),
            token_type: "ISO14443",
            session: None,
            guest: None,
            next_car: None,
            operative: true,
            closes: false,
            broken: None,
            reservation: None,
        }
    }

    /// How it is now.
    pub(crate) fn now(&self, version: Version) -> Status {
        if self.broken.is_some() {
            return Status::Faulted;
        }
        if let Some(session) = &self.session {
            return if session.power_w() > 0.0 {
                Status::Charging
            } else if session.offered_w > 0.0 {
                Status::SuspendedEv
            } else {
                Status::SuspendedEvse
            };
        }
        match &self.guest {
            Some(guest) if guest.served => return Status::Finishing,
            // 2.x knows a driver without a cable by the reader only.
            Some(guest) if guest.plugged || version == Version::V16 && guest.consent != Consent::None => {
                return Status::Preparing;
            }
            _ => {}
        }
        if !self.operative {
            Status::Unavailable
        } else if self.reservation.is_some() {
            Status::Reserved
        } else {
            Status::Available
        }
    }

    /// What the meter shows, in Wh.
    pub(crate) fn meter_wh(&self) -> u64 {
        whole(self.register_wh)
    }

    /// The number of the transaction that goes on here.
    pub(crate) fn transaction(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.transaction)
    }

    /// Whether somebody may begin to charge here with this tag.
    pub(crate) fn is_free_for(&self, token: &str) -> bool {
        self.broken.is_none()
            && self.operative
            && self.session.is_none()
            && self.guest.as_ref().is_none_or(|guest| guest.consent == Consent::None && !guest.served)
            && self.reservation.as_ref().is_none_or(|kept| kept.token.eq_ignore_ascii_case(token))
    }

    /// Shifts what is planned in the own time; a reservation and, where the central system has ordered them, readings are in
    /// true time.
    pub(crate) fn replan(&mut self, shift: impl Fn(&mut Instant), readings: bool) {
        self.next_car.iter_mut().for_each(&shift);
        if let Some(session) = &mut self.session {
            shift(&mut session.until);
            shift(&mut session.look_at);
            session.breaks_at.iter_mut().for_each(&shift);
            if readings {
                shift(&mut session.next_reading);
            }
        }
        if let Some(guest) = &mut self.guest {
            let Guest { plugs_at, shows_at, goes_at, .. } = &mut **guest;
            [plugs_at, shows_at, goes_at].into_iter().flatten().for_each(&shift);
        }
        if let Some((_, until)) = &mut self.broken {
            shift(until);
        }
    }

    /// When something happens here by itself.
    pub(crate) fn next(&self) -> Option<Instant> {
        let session = self.session.as_ref().map(|session| {
            let least = session.until.min(session.next_reading).min(session.look_at);
            session.breaks_at.map_or(least, |at| at.min(least))
        });
        [
            self.next_car,
            session,
            self.guest.as_ref().and_then(|guest| guest.next()),
            self.broken.map(|(_, until)| until),
            self.reservation.as_ref().map(|kept| kept.until),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
