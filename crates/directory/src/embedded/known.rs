//! The stations that are known: found by their keys, and listed in order.

use crate::{StationKey, Terms};
use bytestring::ByteString;
use foldhash::HashMap;
use std::collections::BTreeSet;
use std::ops::Bound;
use switchboard_bus::Registration;
use switchboard_rpc::StationId;

/// What is known of all stations. A storm of connections looks up several times for each, which a map that is in order makes
/// the dearer the more there are; so there is one that is not, beside the order.
#[derive(Debug, Default)]
pub(super) struct Stations {
    known: HashMap<StationKey, Known>,
    order: BTreeSet<StationKey>,
}

/// What is known of one.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) generation: u64,
    pub(super) connection: Option<Connected>,
    pub(super) registration: Option<Registration>,
    pub(super) seen_ms: Option<i64>,
    /// Registered, and whether with a password.
    pub(super) account: Option<bool>,
    pub(super) dirty: bool,
}

#[derive(Debug)]
pub(super) struct Connected {
    pub(super) gateway: ByteString,
    pub(super) terms: Terms,
    pub(super) since_ms: i64,
}

impl Known {
    /// Its row is to be written.
    pub(super) fn touch(&mut self, key: &StationKey, changed: &mut Changed) {
        if changed.is_written && !self.dirty {
            self.dirty = true;
            changed.keys.push(key.clone());
        }
    }
}

/// Stations whose row in the database is older than what is here, each once.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) keys: Vec<StationKey>,
    /// Rows that nobody reads when this process has ended are not written.
    is_written: bool,
}

impl Changed {
    pub(super) const fn new(is_written: bool) -> Self {
        Self { keys: Vec::new(), is_written }
    }

    pub(super) const fn is_written(&self) -> bool {
        self.is_written
    }

    /// Of a station that is not known any more, and whose row is to go.
    pub(super) fn forgotten(&mut self, key: StationKey) {
        if self.is_written {
            self.keys.push(key);
        }
    }
}

impl Stations {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn get(&self, key: &StationKey) -> Option<&Known> {
        self.known.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &StationKey) -> Option<&mut Known> {
        self.known.get_mut(key)
    }

    /// What is known of a station; nothing yet if it is new.
    pub(super) fn get_or_add(&mut self, key: &StationKey) -> &mut Known {
        if !self.known.contains_key(key) {
            return self.add(key);
        }
        self.known.entry(key.clone()).or_default()
    }

    /// Begins with a station of which nothing is known.
    pub(super) fn add(&mut self, key: &StationKey) -> &mut Known {
        let own = key.detached();
        self.order.insert(own.clone());
        self.known.entry(own).or_default()
    }

    /// The stations of a tenant in order, after one of them.
    pub(super) fn of_tenant<'a>(
        &'a self,
        tenant: &'a str,
        after: Option<&StationId>,
    ) -> impl Iterator<Item = (&'a StationKey, &'a Known)> {
        let key = |station: &StationId| StationKey { tenant: tenant.into(), station: station.clone() };
        let first = match after {
            Some(station) => Bound::Excluded(key(station)),
            // A space is the lowest character that an identity may have, so that no identity comes before this one.
            None => match StationId::new(" ", 1) {
                Ok(lowest) => Bound::Included(key(&lowest)),
                Err(_) => Bound::Unbounded,
            },
        };
        let known = &self.known;
        self.order
            .range((first, Bound::Unbounded))
            .skip_while(move |key| *key.tenant < *tenant)
            .take_while(move |key| key.tenant == *tenant)
            .filter_map(move |key| known.get_key_value(key))
    }

    /// Takes out those that are like this.
    pub(super) fn remove_if(&mut self, mut is: impl FnMut(&Known) -> bool) -> Vec<(StationKey, Known)> {
        let removed: Vec<_> = self.known.extract_if(|_, known| is(known)).collect();
        for (key, _) in &removed {
            self.order.remove(key);
        }
        removed
    }
}
