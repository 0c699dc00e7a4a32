//! What a driver remembers of leases, to find out that a database has forgotten them.

use bytestring::ByteString;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The leases that a process was given. A database that knows only of an earlier one than the last was restored from a copy,
/// and has lost what was recorded since.
#[derive(Debug, Default)]
pub struct Given(Mutex<HashMap<ByteString, i64>>);

impl Given {
    /// A lease was given until `until_ms`, and the one before was `found`. Whether the last one that we know of is not
    /// forgotten.
    pub fn renewed(&self, gateway: &ByteString, found: Option<i64>, until_ms: i64) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if until_ms <= 0 {
            given.remove(gateway);
            return true;
        }
        // What was found may also be later: of a renewal whose answer was lost.
        match given.insert(ByteString::from(&**gateway), until_ms) {
            Some(last) => found.is_some_and(|found| found >= last),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_that_has_gone_back_has_forgotten() {
        let (given, gateway) = (Given::default(), ByteString::from_static("gateway"));
        assert!(given.renewed(&gateway, None, 1_000), "the first one");
        assert!(given.renewed(&gateway, Some(1_000), 2_000));
        assert!(given.renewed(&gateway, Some(2_500), 3_000), "an answer was lost");
        assert!(!given.renewed(&gateway, Some(2_500), 4_000), "a copy of a while ago");
        assert!(!given.renewed(&gateway, None, 5_000), "another database");
        assert!(
            given.renewed(&gateway, Some(5_000), 0) && given.renewed(&gateway, None, 6_000),
            "it was given up"
        );
    }
}
