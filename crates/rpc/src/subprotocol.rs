//! Which version is spoken on a connection: the choice among the subprotocols that the station offers.

use crate::Version;

/// What came of the subprotocols that a station offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This one; the 101 names [`Version::subprotocol`] and nothing else (H01).
    Chosen(Version),
    /// Some are offered, and none of them is enabled (H03).
    NoneAcceptable,
    /// None is offered: the header is absent or empty (H04).
    NoneOffered,
}

/// The first subprotocol of the client's list that is enabled (H02). Names are case-sensitive (H05).
///
/// `headers` are the values of all `Sec-WebSocket-Protocol` headers in their order; each may hold several names,
/// separated by commas. The station's order counts and not ours: it lists what it does best first.
pub fn choose<'header>(
    headers: impl IntoIterator<Item = &'header str>,
    enabled: impl Fn(Version) -> bool,
) -> Choice {
    let mut choice = Choice::NoneOffered;
    for name in headers.into_iter().flat_map(|value| value.split(',')).map(str::trim) {
        if name.is_empty() {
            continue;
        }
        match Version::from_subprotocol(name) {
            Some(version) if enabled(version) => return Choice::Chosen(version),
            _ => choice = Choice::NoneAcceptable,
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[&str], enabled: &[Version], expected: Choice) {
        let found = choose(headers.iter().copied(), |version| enabled.contains(&version));
        assert_eq!(found, expected, "{headers:?}");
    }

    /// H01, H02
    #[test]
    fn the_first_enabled_one_of_the_clients_list_is_chosen() {
        use Version::{V16, V21, V201};
        let all = &Version::ALL;
        check(&["ocpp1.6"], all, Choice::Chosen(V16));
        check(&["ocpp2.0.1,ocpp1.6"], all, Choice::Chosen(V201));
        check(&["ocpp1.6,ocpp2.0.1"], all, Choice::Chosen(V16));
        check(&["ocpp2.1, ocpp2.0.1", "ocpp1.6"], &[V16], Choice::Chosen(V16));
        check(&["ocpp1.6", "ocpp2.1"], &[V21, V201], Choice::Chosen(V21));
        check(&["xmpp ,\tocpp2.0.1 "], all, Choice::Chosen(V201));
        check(&["ocpp1.2", "ocpp2.0", "ocpp1.6"], all, Choice::Chosen(V16));
    }

    /// H03, H05
    #[test]
    fn other_names_and_other_cases_are_not_acceptable() {
        for offered in ["OCPP1.6", "ocpp1.6j", "ocpp1.5", "ocpp2.0", "ocpp16", "xmpp", "ocpp1.6 x"] {
            check(&[offered], &Version::ALL, Choice::NoneAcceptable);
        }
        check(&["ocpp2.1"], &[Version::V16], Choice::NoneAcceptable);
    }

    /// H04
    #[test]
    fn no_header_and_an_empty_header_offer_nothing() {
        check(&[], &Version::ALL, Choice::NoneOffered);
        check(&["", " , "], &Version::ALL, Choice::NoneOffered);
    }
}
