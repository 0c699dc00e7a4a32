//! How many may come in, in all, per address, per tenant and per second (H16).

use crate::{config::Config, handshake::Refusal};
use bytestring::ByteString;
use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Counts who is in.
#[derive(Debug)]
pub(crate) struct Limits {
    connections_max: usize,
    per_address_max: usize,
    per_tenant_max: usize,
    connections: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    tenants: Mutex<HashMap<ByteString, usize>>,
    rate: Option<Mutex<Rate>>,
}

/// A place among the connections; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    limits: Arc<Limits>,
    address: Option<IpAddr>,
    tenant: Option<ByteString>,
}

/// How often something may happen: as if each time took an equal share of a second, with up to a second's worth ahead.
#[derive(Debug)]
struct Rate {
    share: Duration,
    booked: Instant,
}

impl Limits {
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let rate = (config.accept_rate > 0)
            .then(|| Mutex::new(Rate { share: Duration::from_secs(1) / config.accept_rate, booked: now }));
        Self {
            connections_max: config.connections_max,
            per_address_max: config.connections_per_address_max,
            per_tenant_max: config.connections_per_tenant_max,
            connections: AtomicUsize::new(0),
            addresses: Mutex::default(),
            tenants: Mutex::default(),
            rate,
        }
    }

    /// Takes a place for one more connection.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        tenant: &ByteString,
        now: Instant,
    ) -> Result<Place, Refusal> {
        if let Some(rate) = &self.rate {
            rate.lock().unwrap_or_else(PoisonError::into_inner).book(now)?;
        }
        let mut place = Place { limits: Arc::clone(self), address: None, tenant: None };
        // From here on dropping the place takes back what was counted.
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.connections_max {
            return Err(Refusal::Busy);
        }
        if self.per_address_max > 0 {
            if !count(&self.addresses, &address, self.per_address_max) {
                return Err(Refusal::AddressLimit);
            }
            place.address = Some(address);
        }
        if self.per_tenant_max > 0 {
            if !count(&self.tenants, tenant, self.per_tenant_max) {
                return Err(Refusal::TenantLimit);
            }
            place.tenant = Some(tenant.clone());
        }
        Ok(place)
    }

    /// How many are in.
    #[cfg(test)]
    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limits.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = &self.address {
            uncount(&self.limits.addresses, address);
        }
        if let Some(tenant) = &self.tenant {
            uncount(&self.limits.tenants, tenant);
        }
    }
}

impl Rate {
    fn book(&mut self, now: Instant) -> Result<(), Refusal> {
        let next = self.booked.max(now) + self.share;
        if next > now + Duration::from_secs(1).max(self.share) {
            return Err(Refusal::Busy);
        }
        self.booked = next;
        Ok(())
    }
}

fn count<K: Hash + Eq + Clone>(counts: &Mutex<HashMap<K, usize>>, key: &K, max: usize) -> bool {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(key.clone()).or_insert(0);
    let room = *count < max;
    *count += usize::from(room);
    room
}

fn uncount<K: Hash + Eq>(counts: &Mutex<HashMap<K, usize>>, key: &K) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of fake time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn h16_each_limit_refuses_with_its_own_reason_and_places_come_back() {
        let now = start();
        let a = ByteString::from_static("a");
        let b = ByteString::from_static("b");
        let limits = Arc::new(Limits::new(
            &Config {
                connections_max: 3,
                connections_per_address_max: 2,
                connections_per_tenant_max: 1,
                ..Config::default()
            },
            now,
        ));
        let first = limits.enter(HERE, &a, now).unwrap();
        assert_eq!(limits.enter(HERE, &a, now).unwrap_err(), Refusal::TenantLimit);
        let second = limits.enter(HERE, &b, now).unwrap();
        assert_eq!(
            limits.enter(HERE, &ByteString::from_static("c"), now).unwrap_err(),
            Refusal::AddressLimit
        );
        let third = limits.enter(THERE, &ByteString::from_static("c"), now).unwrap();
        assert_eq!(limits.enter(THERE, &ByteString::from_static("d"), now).unwrap_err(), Refusal::Busy);
        assert_eq!(limits.connections(), 3);
        drop((first, second, third));
        assert_eq!(limits.connections(), 0);
        assert!(limits.addresses.lock().unwrap().is_empty() && limits.tenants.lock().unwrap().is_empty());
    }

    #[test]
    fn h16_the_accept_rate_lets_a_second_through_at_once_and_then_its_share() {
        let start = start();
        let tenant = ByteString::from_static("default");
        let limits = Arc::new(Limits::new(&Config { accept_rate: 10, ..Config::default() }, start));
        let through = |now| (0..100).filter(|_| limits.enter(HERE, &tenant, now).is_ok()).count();
        assert_eq!(through(start), 10);
        assert_eq!(through(start), 0);
        assert_eq!(through(start + Duration::from_millis(200)), 2);
        assert_eq!(through(start + Duration::from_secs(60)), 10);
    }
}
