//! The local authorization list, and the tags that the central system answered to.

use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use switchboard_rpc::Version;

/// How many tags the list may hold.
pub(crate) const ENTRIES_MAX: usize = 1000;
/// How many one message may bring.
pub(crate) const ENTRIES_IN_MESSAGE_MAX: usize = 250;
/// How many answered tags are remembered; the oldest is forgotten first.
const CACHE_MAX: usize = 32;

/// The tags that a station knows by itself.
#[derive(Debug, Default)]
pub(crate) struct LocalList {
    version: i64,
    entries: BTreeMap<String, String>,
    cache: VecDeque<(String, String)>,
}

impl LocalList {
    /// The number of the list; 0: there is none.
    pub(crate) const fn version(&self) -> i64 {
        self.version
    }

    /// Takes over a list or the changes to it; the answer's status.
    pub(crate) fn update(&mut self, version: Version, request: &Value) -> &'static str {
        let old = version == Version::V16;
        let number = request[if old { "listVersion" } else { "versionNumber" }].as_i64().unwrap_or(-1);
        let full = request["updateType"] == "Full";
        let changes = request["localAuthorizationList"].as_array().map(Vec::as_slice).unwrap_or_default();
        if number <= 0 || changes.len() > ENTRIES_IN_MESSAGE_MAX {
            return "Failed";
        }
        if !full && number <= self.version {
            // 1.6 section 5.15, 2.0.1 D01.FR.19: an older list than the own one.
            return "VersionMismatch";
        }
        let mut entries = if full { BTreeMap::new() } else { self.entries.clone() };
        for change in changes {
            let (tag, info) = if old {
                (&change["idTag"], &change["idTagInfo"])
            } else {
                (&change["idToken"]["idToken"], &change["idTokenInfo"])
            };
            // Tags are compared without regard to case in all versions.
            let Some(tag) = tag.as_str().map(str::to_ascii_uppercase) else { return "Failed" };
            match info["status"].as_str() {
                Some(status) => drop(entries.insert(tag, status.to_owned())),
                None if full => return "Failed",
                None => drop(entries.remove(&tag)),
            }
        }
        if entries.len() > ENTRIES_MAX {
            return "Failed";
        }
        self.entries = entries;
        self.version = number;
        "Accepted"
    }

    /// What the central system said to a tag.
    pub(crate) fn remember(&mut self, tag: &str, status: &str) {
        let tag = tag.to_ascii_uppercase();
        self.cache.retain(|(one, _)| *one != tag);
        if self.cache.len() >= CACHE_MAX {
            self.cache.pop_front();
        }
        self.cache.push_back((tag, status.to_owned()));
    }

    /// Forgets what the central system said.
    pub(crate) fn clear_cache(&mut self) {
        self.cache.clear();
    }

    /// What is known of a tag: by the list, else, if that may be asked, by the memory.
    pub(crate) fn status(&self, tag: &str, list: bool, cache: bool) -> Option<&str> {
        let tag = tag.to_ascii_uppercase();
        let listed = self.entries.get(&tag).filter(|_| list);
        let cached = || self.cache.iter().find(|(one, _)| cache && *one == tag).map(|(_, status)| status);
        listed.or_else(cached).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_replaced_changed_and_protected_from_older_ones() {
        let mut list = LocalList::default();
        let full = json!({ "listVersion": 5, "updateType": "Full", "localAuthorizationList": [
            { "idTag": "a1", "idTagInfo": { "status": "Accepted" } }, { "idTag": "B2", "idTagInfo": { "status": "Blocked" } }] });
        assert_eq!(list.update(Version::V16, &full), "Accepted");
        assert_eq!(list.status("A1", true, false), Some("Accepted"));
        let change = json!({ "listVersion": 6, "updateType": "Differential", "localAuthorizationList": [
            { "idTag": "A1" }, { "idTag": "C3", "idTagInfo": { "status": "Accepted" } }] });
        assert_eq!(list.update(Version::V16, &change), "Accepted");
        assert_eq!(
            (list.status("A1", true, false), list.status("c3", true, false)),
            (None, Some("Accepted"))
        );
        assert_eq!(list.update(Version::V16, &change), "VersionMismatch");
        assert_eq!((list.version(), list.entries.len()), (6, 2));
        let newer = json!({ "versionNumber": 7, "updateType": "Full", "localAuthorizationList": [
            { "idToken": { "idToken": "D4", "type": "ISO14443" }, "idTokenInfo": { "status": "Invalid" } }] });
        assert_eq!(list.update(Version::V201, &newer), "Accepted");
        assert_eq!(list.status("D4", true, false), Some("Invalid"));
        assert_eq!(list.status("D4", false, true), None);
    }

    #[test]
    fn what_was_answered_is_remembered_within_a_bound() {
        let mut list = LocalList::default();
        for number in 0..100 {
            list.remember(&format!("T{number}"), "Accepted");
        }
        list.remember("t99", "Blocked");
        assert_eq!(list.cache.len(), CACHE_MAX);
        assert_eq!(list.status("T99", true, true), Some("Blocked"));
        assert_eq!((list.status("T1", true, true), list.status("T99", true, false)), (None, None));
        list.clear_cache();
        assert_eq!(list.status("T99", true, true), None);
    }
}
