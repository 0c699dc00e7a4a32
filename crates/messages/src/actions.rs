//! The actions of each version, as data.

use crate::contract::Sender;
use switchboard_rpc::Version;

/// An action of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionInfo {
    /// The name on the wire; names are case-sensitive (V01).
    pub name: &'static str,
    /// Who sends the request.
    pub sender: Sender,
    /// Whether it is answered: false for what 2.1 sends as SEND.
    pub has_response: bool,
}

/// All actions of a version, by name; those of 1.6 with its security extension. Needs none of the crate's features.
#[must_use]
pub const fn actions(version: Version) -> &'static [ActionInfo] {
    match version {
        Version::V16 => crate::generated::actions::V16,
        Version::V201 => crate::generated::actions::V201,
        Version::V21 => crate::generated::actions::V21,
    }
}

/// The action with this name.
#[must_use]
pub fn action(version: Version, name: &str) -> Option<&'static ActionInfo> {
    let actions = actions(version);
    actions.binary_search_by(|action| action.name.cmp(name)).ok().and_then(|index| actions.get(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_actions() {
        let count =
            |version, sender| actions(version).iter().filter(|action| action.sender == sender).count();
        let rows = [(Version::V16, 13, 25), (Version::V201, 24, 39), (Version::V21, 36, 54)];
        for (version, station, csms) in rows {
            assert_eq!(count(version, Sender::Station), station, "{version}");
            assert_eq!(count(version, Sender::Csms), csms, "{version}");
            assert_eq!(count(version, Sender::Either), 1, "{version}");
        }
        let unanswered: Vec<_> = Version::ALL
            .into_iter()
            .flat_map(actions)
            .filter(|action| !action.has_response)
            .map(|action| action.name)
            .collect();
        assert_eq!(unanswered, ["NotifyPeriodicEventStream"]);
    }

    #[test]
    fn v01_actions_are_case_sensitive() {
        assert_eq!(action(Version::V16, "Heartbeat").unwrap().sender, Sender::Station);
        assert!(action(Version::V16, "heartbeat").is_none());
        assert!(action(Version::V16, "TransactionEvent").is_none());
        for version in Version::ALL {
            for known in actions(version) {
                assert_eq!(action(version, known.name), Some(known));
            }
        }
    }
}
