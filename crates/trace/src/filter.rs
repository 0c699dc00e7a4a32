//! What of the traffic somebody wants to see.

use crate::entry::{Direction, Head};
use std::time::Duration;
use switchboard_rpc::Version;

/// What of the traffic somebody wants to see. What is empty asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Patterns of stations, of which one must match: `*` is any text, `?` any character.
    pub stations: Vec<String>,
    /// Patterns of actions, in any case of letters.
    pub actions: Vec<String>,
    /// Only who calls this way.
    pub direction: Option<Direction>,
    /// Versions of OCPP.
    pub versions: Vec<Version>,
    /// Only what went wrong.
    pub errors: bool,
    /// Only calls that took at least so long.
    pub slow: Option<Duration>,
}

impl Filter {
    /// Whether something about this station may be wanted.
    pub(crate) fn wants_station(&self, station: Option<&str>) -> bool {
        self.stations.is_empty()
            || station
                .is_some_and(|station| self.stations.iter().any(|pattern| is_like(pattern, station, false)))
    }

    /// Whether this entry is wanted.
    pub(crate) fn wants(&self, head: &Head<'_>) -> bool {
        if head.is_for_all {
            return true;
        }
        let action = || {
            head.action
                .is_some_and(|action| self.actions.iter().any(|pattern| is_like(pattern, action, true)))
        };
        self.wants_station(head.station)
            && (self.actions.is_empty() || action())
            && (self.direction.is_none() || self.direction == head.direction)
            && (self.versions.is_empty()
                || head.version.is_some_and(|version| self.versions.contains(&version)))
            && (!self.errors || head.is_error)
            && self.slow.is_none_or(|slow| head.latency.is_some_and(|latency| latency >= slow))
    }
}

/// Whether a text is like a pattern.
fn is_like(pattern: &str, text: &str, any_case: bool) -> bool {
    let same = |a: char, b: char| a == b || (any_case && a.eq_ignore_ascii_case(&b));
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on if what follows the last `*` does not match: that `*` then takes one character more.
    let mut again = None;
    loop {
        let (before_pattern, before_text) = (pattern.clone(), text.clone());
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                again = Some((pattern.clone(), before_text.clone()));
                text = before_text;
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if same(wanted, found) => {}
            _ => {
                let Some((after, mut rest)) = again.take() else { return false };
                if rest.next().is_none() {
                    return false;
                }
                drop(before_pattern);
                pattern = after.clone();
                text = rest.clone();
                again = Some((after, rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, text, expected) in [
            ("CP001", "CP001", true),
            ("CP001", "CP0011", false),
            ("CP*", "CP001", true),
            ("*", "", true),
            ("*", "x", true),
            ("*1", "CP001", true),
            ("C*0*1", "CP00x1", true),
            ("C*0*2", "CP00x1", false),
            ("CP???", "CP001", true),
            ("CP???", "CP01", false),
            ("**", "x", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("", "", true),
            ("", "x", false),
            ("?", "", false),
            ("cp001", "CP001", false),
        ] {
            assert_eq!(is_like(pattern, text, false), expected, "{pattern} {text}");
        }
        assert!(is_like("metervalues", "MeterValues", true));
    }

    #[test]
    fn each_wish_leaves_out_what_does_not_fit_it() {
        let head = Head {
            time_ms: 0,
            station: Some("CP1"),
            version: Some(Version::V16),
            action: Some("MeterValues"),
            direction: Some(Direction::In),
            is_error: false,
            latency: Some(Duration::from_millis(20)),
            is_for_all: false,
        };
        let none = Filter::default();
        let rows: [(&str, Filter, bool); 13] = [
            ("nothing asked", none.clone(), true),
            ("the station", Filter { stations: vec!["X".into(), "CP*".into()], ..none.clone() }, true),
            ("another station", Filter { stations: vec!["CP2".into()], ..none.clone() }, false),
            ("the action", Filter { actions: vec!["meter*".into()], ..none.clone() }, true),
            ("another action", Filter { actions: vec!["Boot*".into()], ..none.clone() }, false),
            ("the direction", Filter { direction: Some(Direction::In), ..none.clone() }, true),
            ("the other direction", Filter { direction: Some(Direction::Out), ..none.clone() }, false),
            ("the version", Filter { versions: vec![Version::V16], ..none.clone() }, true),
            ("another version", Filter { versions: vec![Version::V21], ..none.clone() }, false),
            ("errors", Filter { errors: true, ..none.clone() }, false),
            ("slow enough", Filter { slow: Some(Duration::from_millis(20)), ..none.clone() }, true),
            ("too quick", Filter { slow: Some(Duration::from_millis(21)), ..none.clone() }, false),
            (
                "all of them",
                Filter { stations: vec!["CP1".into()], actions: vec!["Boot*".into()], ..none },
                false,
            ),
        ];
        for (name, filter, expected) in rows {
            assert_eq!(filter.wants(&head), expected, "{name}");
            assert!(filter.wants(&Head { is_for_all: true, ..head }), "{name}");
        }
    }
}
