//! What makes the calls of duties and judges their outcomes: one [`Kind`] for each sort of work.

use super::Duty;
use crate::books::configuring::{Configuration, Refresh, Reset};
use crate::books::local_list::LocalList;
use crate::store::{Connection, StoreError};
use std::borrow::Cow;
use std::time::Duration;
use switchboard_router::Outcome;
use switchboard_rpc::Version;

/// All kinds. A duty whose kind is not among them is not sent.
static KINDS: &[&dyn Kind] = &[&Plain, &LocalList, &Configuration, &Refresh, &Reset];
/// And those of further modules.
static MORE_KINDS: &[&[&dyn Kind]] = &[crate::operations::KINDS];

/// The kind of this name.
pub(super) fn kind(name: &str) -> &'static dyn Kind {
    KINDS
        .iter()
        .chain(MORE_KINDS.iter().copied().flatten())
        .find(|kind| kind.name() == name)
        .copied()
        .unwrap_or(&Plain)
}

/// A sort of work. Its functions run inside a write transaction, and may run again after a rollback: they keep nothing
/// outside of it.
pub(crate) trait Kind: Sync {
    /// Its name in the books.
    fn name(&self) -> &'static str;

    /// The call to make, at the moment of sending. Unless a kind says otherwise, what was laid down when it came to be
    /// owed.
    fn make(&self, at: At<'_>, duty: &Duty, version: Version) -> Result<Make, StoreError> {
        let _ = at;
        Ok(duty.laid_down(version))
    }

    /// What follows from an outcome: writes it down where the kind keeps its things, and says how the duty goes on.
    /// `proposed` is what becomes of it otherwise.
    ///
    /// It is asked when the station answered or refused, when nobody knows whether it did, and when the duty expired;
    /// not when the call did not reach the station, as then nothing has happened. `version` is what the call was
    /// written in; none if it never was.
    fn settle(
        &self,
        at: At<'_>,
        duty: &Duty,
        version: Option<Version>,
        outcome: &Outcome,
        proposed: Settled,
    ) -> Result<Settled, StoreError>;
}

/// The books at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'t> {
    pub(crate) db: &'t Connection,
    pub(crate) now_ms: i64,
}

/// What to do for a duty now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// Make this call: action and payload, a JSON object.
    Call(Cow<'static, str>, String),
    /// Nothing is left to be done.
    Nothing,
    /// It cannot be done at this station; why, in words.
    Cannot(String),
}

/// How a duty goes on after an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is done; with what is to be remembered of that.
    Done(Option<String>),
    /// The station does not do it; why, in words.
    Refused(String),
    /// The next call of it is due after this time; the present one was no failure.
    Next(Duration),
    /// It failed this time and is tried again, later each time.
    Again(String),
    /// Nobody knows, and it must not be repeated.
    Unknown,
    /// Its time is over.
    Expired,
}

impl Settled {
    /// What becomes of a duty unless its kind knows better.
    pub(super) fn proposed(duty: &Duty, outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered(_) => Self::Done(None),
            Outcome::Refused { .. } => Self::Refused(words(outcome)),
            Outcome::Expired => Self::Expired,
            _ if duty.repeatable => Self::Again(words(outcome)),
            _ => Self::Unknown,
        }
    }
}

/// An outcome in words.
pub(crate) fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(_) => "the station answered".to_owned(),
        Outcome::Refused { code, description, .. } if code.is_empty() => {
            format!("the station's answer is no answer: {description}")
        }
        Outcome::Refused { code, description, .. } if description.is_empty() => {
            format!("the station refused with {code}")
        }
        Outcome::Refused { code, description, .. } => {
            format!("the station refused with {code}: {description}")
        }
        Outcome::Offline => "the station is not connected".to_owned(),
        Outcome::Busy => "too many commands wait for the station".to_owned(),
        Outcome::Expired => "its time was over before it could be sent".to_owned(),
        Outcome::Cancelled => "it was taken back".to_owned(),
        Outcome::NotSent => "the station was never given the command".to_owned(),
        _ => "no answer came, and the station may have acted on it".to_owned(),
    }
}

/// Duties that only are to be sent as they were laid down.
#[derive(Debug)]
pub(crate) struct Plain;

impl Kind for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn settle(
        &self,
        _: At<'_>,
        _: &Duty,
        _: Option<Version>,
        _: &Outcome,
        proposed: Settled,
    ) -> Result<Settled, StoreError> {
        Ok(proposed)
    }
}

impl Duty {
    /// The call that was laid down when it came to be owed.
    fn laid_down(&self, version: Version) -> Make {
        match (&self.action, &self.payload, self.version) {
            (Some(action), Some(payload), Some(written)) if written == version => {
                Make::Call(action.clone().into(), payload.clone())
            }
            (Some(_), Some(_), Some(written)) => {
                Make::Cannot(format!("it is written in {written} and the station speaks {version} now"))
            }
            _ => Make::Cannot(format!("nobody here makes calls of the kind {}", self.kind)),
        }
    }
}
