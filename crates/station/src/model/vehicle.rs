//! A car: how much it wants, and how fast it takes it.

use crate::scenario::{Session, between, one_of};

/// Up to this share of its capacity a battery takes full power; above it ever less.
const BEND: f64 = 0.8;
/// What it takes when it is full, as a share of its full power.
const LAST: f64 = 0.1;
/// Of a phase, in V.
pub(crate) const VOLTS: f64 = 230.0;
/// From this power on a connector gives direct current, to which phases do not apply.
const DC_W: f64 = 44_000.0;

/// A car.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Vehicle {
    /// The most that it takes, in W.
    power_w: f64,
    /// The phases that its charger uses; 3 where the connector gives direct current.
    phases: u8,
    direct: bool,
    /// Of its battery, in Wh; none: it takes the same power for ever.
    capacity_wh: Option<f64>,
    charge_wh: f64,
    /// With how much its driver is content.
    target_wh: f64,
}

impl Vehicle {
    /// A car that takes the same power as long as it is there.
    pub(crate) const fn steady(power_w: f64) -> Self {
        Self { power_w, phases: 3, direct: false, capacity_wh: None, charge_wh: 0.0, target_wh: f64::MAX }
    }

    /// One of those that come to a connector of this power.
    pub(crate) fn by_chance(session: &Session, connector_w: f64, random: &mut fastrand::Rng) -> Self {
        let wanted_wh = between(session.energy_kwh, random).max(0.01) * 1000.0;
        let (empty, full) = (0.1 + 0.5 * random.f64(), 0.8 + 0.2 * random.f64());
        let capacity_wh = wanted_wh / (full - empty);
        let direct = connector_w >= DC_W;
        let phases = if direct { 3 } else { one_of(&session.phases, random).max(1) };
        let power_w = one_of(&session.car_kw, random) * 1000.0;
        // A charger on board takes at most 32 A from each of its phases.
        let power_w =
            if direct { power_w.max(20_000.0) } else { power_w.min(f64::from(phases) * 32.0 * VOLTS) };
        Self {
            power_w,
            phases,
            direct,
            capacity_wh: Some(capacity_wh),
            charge_wh: empty * capacity_wh,
            target_wh: full * capacity_wh,
        }
    }

    /// What it would take now, in W.
    pub(crate) fn accepts_w(&self) -> f64 {
        if self.is_content() {
            return 0.0;
        }
        let share = self.share().unwrap_or_default();
        if share <= BEND {
            self.power_w
        } else {
            self.power_w * (1.0 - (1.0 - LAST) * (share - BEND) / (1.0 - BEND))
        }
    }

    /// Takes what flows at no more than `offered_w` for so many hours; gives back how much it was, in Wh.
    pub(crate) fn take(&mut self, offered_w: f64, hours: f64) -> f64 {
        let energy = (self.accepts_w().min(offered_w) * hours).min(self.target_wh - self.charge_wh).max(0.0);
        self.charge_wh += energy;
        energy
    }

    /// In how many hours it has what it wants, at the power of now; none if that is never.
    pub(crate) fn hours_left(&self, offered_w: f64) -> Option<f64> {
        self.capacity_wh?;
        let power = self.accepts_w().min(offered_w);
        (power > 0.0).then(|| (self.target_wh - self.charge_wh) / power)
    }

    /// Whether it takes no more.
    pub(crate) fn is_content(&self) -> bool {
        // A rest below one watt-hour takes for ever by a falling curve.
        self.capacity_wh.is_some() && self.target_wh - self.charge_wh < 1.0
    }

    /// How full its battery is, 0 to 1, if that is known.
    pub(crate) fn share(&self) -> Option<f64> {
        self.capacity_wh.map(|capacity| (self.charge_wh / capacity).clamp(0.0, 1.0))
    }

    /// The phases that it uses.
    pub(crate) const fn phases(&self) -> u8 {
        self.phases
    }

    /// The least that is worth switching on, in W: 6 A on each phase (IEC 61851), nothing for direct current.
    pub(crate) fn least_w(&self) -> f64 {
        if self.direct { 0.0 } else { 6.0 * VOLTS * f64::from(self.phases) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_battery_takes_full_power_and_then_less_and_then_none() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..100 {
            let mut car = Vehicle::by_chance(&Session::default(), 22_000.0, &mut random);
            let (mut last, mut total, wanted) = (f64::MAX, 0.0, car.target_wh - car.charge_wh);
            for _ in 0..100_000 {
                let power = car.accepts_w();
                assert!(power <= last + 1e-9, "never more than before");
                last = power;
                total += car.take(f64::MAX, 1.0 / 60.0);
                if car.is_content() {
                    break;
                }
            }
            assert!(car.is_content() && car.accepts_w() == 0.0);
            assert!((total - wanted).abs() < 1.01, "{total} of {wanted}");
        }
    }

    #[test]
    fn what_is_offered_is_not_exceeded() {
        let mut car = Vehicle::steady(11_000.0);
        assert!((car.take(3_600.0, 0.5) - 1_800.0).abs() < 1e-9);
        assert!((car.take(36_000.0, 0.5) - 5_500.0).abs() < 1e-9);
        assert_eq!((car.hours_left(1.0), car.share(), car.is_content()), (None, None, false));
    }
}
