//! What stations in the field do although no specification lets them: on demand, one by one and by name.
//!
//! Each was seen in reports about real stations. A central system has to survive all of them, and to bill rightly.
//!
//! [`payload`] changes payloads, [`wire`] whole messages, [`unasked`] is what is told beside them; what a station does
//! otherwise is in the charger.

mod payload;
#[cfg(test)]
mod reports;
pub(crate) mod unasked;
mod wire;

use std::fmt;
pub(crate) use wire::Wire;

/// One thing that a station does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quirk {
    /// Timestamps have no zone.
    ZonelessTime,
    /// The zone of timestamps has two digits.
    ShortZone,
    /// Hours of timestamps have one digit.
    ShortHours,
    /// Texts are empty instead of absent, and the vendor is.
    EmptyTexts,
    /// Optional members are null instead of absent, or a text that says so.
    Nulls,
    /// Texts are longer than they may be.
    LongTexts,
    /// Names of model, firmware and meter that look like none.
    OddNames,
    /// What may be left out is, and the default is meant.
    Sparse,
    /// Messages have the shape of OCPP 1.5 or 2.0.
    OldShapes,
    /// Message ids are integers.
    IntegerIds,
    /// Message ids are counted from one on every connection.
    CountedIds,
    /// Message ids are of all makes.
    OddIds,
    /// There is white space between all parts of a message.
    Spaces,
    /// Numbers where texts belong (1.6), texts where numbers belong (2.x).
    ValueTypes,
    /// The energy is told in kWh with a long tail of digits.
    FloatNoise,
    /// Units and contexts that no enumeration has.
    OddUnits,
    /// Meter values without samples, and samples without values, come with each reading.
    EmptySamples,
    /// Members that the message does not have, and members twice.
    ExtraMembers,
    /// Reports of status lack what they are about.
    StatuslessStatus,
    /// Error codes that no enumeration has.
    OddErrorCodes,
    /// Events of transactions do not say what triggered them.
    NoTrigger,
    /// The end of a transaction is told twice, as two messages.
    RepeatedStop,
    /// Zero stands for the transaction or the reservation that there is not.
    Zeros,
    /// What lay in a queue for long is told after a boot.
    OldNews,
    /// A security event comes before the first status.
    EarlyEvents,
    /// Errors have three elements.
    ShortErrors,
    /// Frames that are no answers to anything, of unknown types, and broken ones.
    Noise,
    /// Empty messages.
    EmptyMessages,
    /// There is no BootNotification after a reset.
    NoBoot,
    /// There is a BootNotification after every reconnection.
    BootAlways,
    /// Settings are told as numbers and booleans.
    SettingTypes,
    /// Settings that are booleans are told as figures.
    SettingDigits,
    /// A composite schedule that is refused is told all the same, with nothing in it.
    HollowSchedules,
    /// The status of the whole station is told for EVSE zero.
    StatusOfZero,
}

/// All of them: name and what it does.
const TABLE: &[(Quirk, &str, &str)] = &[
    (Quirk::ZonelessTime, "zoneless-time", "timestamps have no zone"),
    (Quirk::ShortZone, "short-zone", "the zone of timestamps has two digits"),
    (Quirk::ShortHours, "short-hours", "hours of timestamps have one digit"),
    (Quirk::EmptyTexts, "empty-texts", "optional texts are empty instead of absent, and so is the vendor"),
    (Quirk::Nulls, "nulls", "optional members are null instead of absent, or the text null"),
    (Quirk::LongTexts, "long-texts", "texts are longer than they may be"),
    (Quirk::OddNames, "odd-names", "odd names of model, firmware and meter, with colons"),
    (Quirk::Sparse, "sparse", "no time of a status, no measurand of the energy: what may be left out is"),
    (Quirk::OldShapes, "old-shapes", "MeterValues as in OCPP 1.5, TransactionEvent as in 2.0"),
    (Quirk::IntegerIds, "integer-ids", "message ids are integers"),
    (Quirk::CountedIds, "counted-ids", "message ids are counted from one on every connection"),
    (Quirk::OddIds, "odd-ids", "message ids of all makes: times, counted from 1000000, UUIDs that are none"),
    (Quirk::Spaces, "spaces", "white space between all parts of a message"),
    (Quirk::ValueTypes, "value-types", "sampled values are numbers in 1.6 and texts in 2.x"),
    (Quirk::FloatNoise, "float-noise", "the energy is in kWh with a long tail of digits"),
    (Quirk::OddUnits, "odd-units", "units and contexts that no enumeration has"),
    (
        Quirk::EmptySamples,
        "empty-samples",
        "meter values without samples and samples without values beside each reading",
    ),
    (Quirk::ExtraMembers, "extra-members", "members that the message does not have, and members twice"),
    (Quirk::StatuslessStatus, "statusless-status", "StatusNotification lacks a required member"),
    (Quirk::OddErrorCodes, "odd-error-codes", "1.6: error codes that no enumeration has"),
    (Quirk::NoTrigger, "no-trigger", "2.x: TransactionEvent lacks its triggerReason"),
    (Quirk::RepeatedStop, "repeated-stop", "the end of a transaction is sent again under a new message id"),
    (Quirk::Zeros, "zeros", "0 for the transaction or the reservation that there is not"),
    (
        Quirk::OldNews,
        "old-news",
        "after a boot, a fault of two days ago and readings of unknown transactions of years ago",
    ),
    (Quirk::EarlyEvents, "early-events", "a SecurityEventNotification before the first status, also in 1.6"),
    (Quirk::ShortErrors, "short-errors", "a CALLERROR has three elements"),
    (Quirk::Noise, "noise", "stray answers, unknown message types and broken JSON among the messages"),
    (Quirk::EmptyMessages, "empty-messages", "empty text messages among the others"),
    (Quirk::NoBoot, "no-boot", "no BootNotification after a reset or a loss of power"),
    (Quirk::BootAlways, "boot-always", "a BootNotification after every reconnection"),
    (Quirk::SettingTypes, "setting-types", "settings are told as numbers and booleans instead of texts"),
    (Quirk::SettingDigits, "setting-digits", "settings that are booleans are told as 0 and 1"),
    (
        Quirk::HollowSchedules,
        "hollow-schedules",
        "a composite schedule that is refused is told with zeros and nothing in it",
    ),
    (Quirk::StatusOfZero, "status-of-zero", "2.x: StatusNotification for EVSE 0 and connector 0"),
];

impl Quirk {
    /// All quirks.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(quirk, ..)| *quirk)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|(one, ..)| *one == self).map_or("", |(_, name, _)| name)
    }

    /// What it does, in a few words.
    #[must_use]
    pub fn about(self) -> &'static str {
        TABLE.iter().find(|(one, ..)| *one == self).map_or("", |(.., about)| about)
    }

    /// Those with these names; all if there are no names.
    ///
    /// # Errors
    /// A name that none has, in a sentence.
    pub fn named<T: AsRef<str>>(names: &[T]) -> Result<Vec<Self>, String> {
        if names.is_empty() {
            return Ok(Self::all().collect());
        }
        let find = |name: &str| TABLE.iter().find(|(_, one, _)| *one == name).map(|(quirk, ..)| *quirk);
        names
            .iter()
            .map(|name| {
                let unknown = || format!("there is no quirk {:?}; see --quirks list", name.as_ref());
                find(name.as_ref()).ok_or_else(unknown)
            })
            .collect()
    }

    /// Whether the charger does it, and not its end of the line.
    const fn is_a_deed(self) -> bool {
        matches!(
            self,
            Self::NoBoot
                | Self::BootAlways
                | Self::RepeatedStop
                | Self::OldNews
                | Self::EarlyEvents
                | Self::SettingTypes
                | Self::SettingDigits
                | Self::HollowSchedules
        )
    }
}

impl fmt::Display for Quirk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{wire::spaced, *};
    use crate::client::link::Filter;
    use serde_json::{Value, json};
    use std::collections::HashSet;
    use switchboard_rpc::Version;

    #[test]
    fn names_are_unique_and_lead_back() {
        for (quirk, name, about) in TABLE {
            assert_eq!(Quirk::named(&[name]).unwrap(), [*quirk]);
            assert!(!about.is_empty());
        }
        assert!(Quirk::named(&["flying"]).unwrap_err().contains("flying"));
        assert_eq!(Quirk::named::<&str>(&[]).unwrap().len(), TABLE.len());
    }

    #[test]
    fn white_space_changes_no_value() {
        let frame = json!([2, "a,\"b:\\", "Action", { "text": "[{\\\"", "list": [1, 2] }]);
        let spaced = spaced(&frame.to_string());
        assert!(spaced.len() > frame.to_string().len() + 5);
        assert_eq!(serde_json::from_str::<Value>(&spaced).unwrap(), frame);
    }

    #[test]
    fn ids_of_another_kind_are_found_back_and_never_repeat() {
        for quirk in [Quirk::IntegerIds, Quirk::CountedIds, Quirk::OddIds] {
            let mut wire = Wire::new(Version::V16, &[quirk], 1_700_000_000_000).unwrap();
            let mut seen = HashSet::new();
            for _ in 0..50 {
                let sent = wire.outgoing(r#"[2,"my-id","Heartbeat",{}]"#);
                let id = serde_json::from_str::<Value>(&sent[0]).unwrap()[1].clone();
                assert_eq!(id.is_number(), quirk == Quirk::IntegerIds, "{id}");
                assert!(id.as_str().is_none_or(|id| id.len() <= 36), "{id}");
                assert!(seen.insert(id.to_string()), "{id}");
                let answer = json!([3, id, {}]).to_string();
                assert_eq!(wire.incoming(&answer).unwrap(), r#"[3,"my-id",{}]"#);
            }
            assert_eq!(wire.incoming(r#"[2,"1","Reset",{}]"#), None, "calls of the other side are not ours");
            assert_eq!(wire.incoming(r#"[3,"other",{}]"#), None);
            wire.connected();
            let again = wire.outgoing(r#"[2,"my-id","Heartbeat",{}]"#);
            assert_eq!(again[0].starts_with("[2,\"1\""), quirk == Quirk::CountedIds, "{again:?}");
        }
    }

    #[test]
    fn an_error_is_cut_and_noise_is_rare() {
        let mut wire = Wire::new(Version::V16, &[Quirk::ShortErrors, Quirk::Noise], 0).unwrap();
        assert_eq!(wire.outgoing(r#"[4,"1","NotSupported","no",{}]"#), [r#"[4,"1","NotSupported"]"#]);
        let extra: usize = (0..1200).map(|_| wire.outgoing(r#"[2,"1","Heartbeat",{}]"#).len() - 1).sum();
        assert_eq!(extra, 60);
        assert!(Wire::new(Version::V16, &[Quirk::NoBoot], 0).is_none());
    }
}
