//! What the station itself knows of its business: the truth that a test compares the central system with.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many ended transactions are kept. Older ones are forgotten; their energy stays in the sum.
const ENDED_MAX: usize = 1000;

/// How the station is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Not at all.
    #[default]
    Offline,
    /// Connected, and not accepted yet.
    Connected,
    /// Connected and accepted.
    Accepted,
}

/// One transaction as the station knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The id that the central system gave (1.6) or the station itself (2.0.1). In 1.6 none until it is known.
    pub id: Option<String>,
    /// At which connector or EVSE.
    pub connector: u32,
    /// Whose tag.
    pub token: String,
    /// The meter at its start, in Wh.
    pub start_wh: u64,
    /// The meter at its last reading, in Wh.
    pub meter_wh: u64,
    /// Whether it has ended at the station.
    pub ended: bool,
    /// Whether its last message was answered.
    pub settled: bool,
}

impl Transaction {
    /// What was charged so far, in Wh.
    #[must_use]
    pub const fn energy_wh(&self) -> u64 {
        self.meter_wh.saturating_sub(self.start_wh)
    }
}

/// What the station knows of its business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// How it is connected.
    pub link: Link,
    /// How often it was connected.
    pub connections: u64,
    /// How many of its BootNotifications were answered.
    pub boots: u64,
    /// Transactions by a number of the station's own, which rises.
    pub transactions: BTreeMap<u64, Transaction>,
    /// Billing messages that wait to be sent or answered.
    pub unsent: usize,
    /// Billing messages that were given up.
    pub given_up: u64,
    /// Calls that got an error.
    pub refused: u64,
    /// Calls that got no answer in time, or none that could be understood.
    pub unanswered: u64,
    /// Transactions that are no longer listed.
    pub forgotten: u64,
    /// What they have charged, in Wh.
    pub forgotten_wh: u64,
}

impl Books {
    /// What was charged in all, in Wh.
    #[must_use]
    pub fn energy_wh(&self) -> u64 {
        self.forgotten_wh + self.transactions.values().map(Transaction::energy_wh).sum::<u64>()
    }

    /// Whether everything that happened was told and answered.
    #[must_use]
    pub fn all_settled(&self) -> bool {
        self.unsent == 0
            && self.transactions.values().all(|transaction| !transaction.ended || transaction.settled)
    }

    /// Forgets the oldest settled transactions beyond the bound.
    pub(crate) fn forget(&mut self) {
        while self.transactions.len() > ENDED_MAX {
            let Some(number) = self
                .transactions
                .iter()
                .find(|(_, transaction)| transaction.settled)
                .map(|(number, _)| *number)
            else {
                return;
            };
            if let Some(transaction) = self.transactions.remove(&number) {
                self.forgotten += 1;
                self.forgotten_wh += transaction.energy_wh();
            }
        }
    }
}

/// A look into the books of a station that runs elsewhere.
#[derive(Clone, Debug, Default)]
pub struct BooksHandle(Arc<Mutex<Books>>);

impl BooksHandle {
    /// The books as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Books {
        self.lock().clone()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Books> {
        // The books are consistent after every statement; a panic elsewhere does not spoil them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_transactions_are_forgotten_and_their_energy_is_not() {
        let mut books = Books::default();
        for number in 0..1500 {
            books.transactions.insert(
                number,
                Transaction {
                    id: None,
                    connector: 1,
                    token: "A".to_owned(),
                    start_wh: 100,
                    meter_wh: 110,
                    ended: true,
                    settled: number != 3,
                },
            );
            books.forget();
        }
        assert_eq!(books.transactions.len(), 1000);
        assert_eq!(books.energy_wh(), 15_000);
        assert!(books.transactions.contains_key(&3), "what is not settled stays");
    }
}
