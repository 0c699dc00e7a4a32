//! What a reader of the trace asks for, as pairs of a name and a text: a URL's query, or the flags of a command.

use crate::{Direction, Filter};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use percent_encoding::percent_decode_str;
use std::time::Duration;
use switchboard_rpc::Version;

/// What a reader of the trace asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// What of the traffic.
    pub filter: Filter,
    /// Single frames instead of calls with their answers.
    pub frames: bool,
    /// With personal data.
    pub personal: bool,
    /// Not before this, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Not after this.
    pub until_ms: Option<i64>,
    /// Of what was recorded only so many, the newest.
    pub last: Option<usize>,
    /// Go on with what happens from now on, after what was recorded.
    pub follow: bool,
}

/// A query that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// There is no such name.
    #[error(
        "there is no {0}; there are station, action, direction, version, errors, slow, frames, personal, since, until, \
         last and follow"
    )]
    Unknown(String),
    /// The value is not what the name asks for.
    #[error("{name}: {value:?} is not what was expected: {expected}")]
    Value {
        /// The name.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
}

impl Query {
    /// Understands the query of a URL, after its `?`.
    ///
    /// # Errors
    /// When something in it cannot be understood.
    pub fn parse_url(query: &str, now_ms: i64) -> Result<Self, QueryError> {
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self::parse(
            pairs.map(|pair| match pair.split_once('=') {
                Some((name, value)) => (decode(name), decode(value)),
                None => (decode(pair), "true".to_owned()),
            }),
            now_ms,
        )
    }

    /// Understands pairs of a name and a value. Ages, such as `10m`, are reckoned from `now_ms`.
    ///
    /// # Errors
    /// When something in them cannot be understood.
    pub fn parse(pairs: impl IntoIterator<Item = (String, String)>, now_ms: i64) -> Result<Self, QueryError> {
        let mut query = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "station" => query.filter.stations.push(value),
                "action" => query.filter.actions.push(value),
                "direction" => {
                    query.filter.direction = Some(match value.as_str() {
                        "in" => Direction::In,
                        "out" => Direction::Out,
                        _ => return Err(wrong("direction", value, "in or out")),
                    });
                }
                "version" => {
                    let version = Version::ALL.iter().find(|version| version.as_str() == value).copied();
                    let expected = "1.6, 2.0.1 or 2.1";
                    query.filter.versions.push(version.ok_or_else(|| wrong("version", value, expected))?);
                }
                "errors" => query.filter.errors = yes("errors", value)?,
                "slow" => {
                    let slow = duration(&value).and_then(|slow| Duration::try_from(slow).ok());
                    query.filter.slow =
                        Some(slow.ok_or_else(|| wrong("slow", value, "a duration such as 500ms"))?);
                }
                "frames" => query.frames = yes("frames", value)?,
                "personal" => query.personal = yes("personal", value)?,
                "since" => query.since_ms = Some(moment("since", &value, now_ms)?),
                "until" => query.until_ms = Some(moment("until", &value, now_ms)?),
                "last" => {
                    let last = value.parse().ok();
                    query.last = Some(last.ok_or_else(|| wrong("last", value, "a whole number"))?);
                }
                "follow" => query.follow = yes("follow", value)?,
                _ => return Err(QueryError::Unknown(name)),
            }
        }
        Ok(query)
    }

    /// Whether what was recorded is asked for.
    #[must_use]
    pub const fn looks_back(&self) -> bool {
        self.since_ms.is_some() || self.until_ms.is_some() || self.last.is_some()
    }

    /// Whether what happens from now on is asked for.
    #[must_use]
    pub const fn looks_on(&self) -> bool {
        self.follow || !self.looks_back()
    }
}

fn wrong(name: &'static str, value: String, expected: &'static str) -> QueryError {
    QueryError::Value { name, value, expected }
}

fn yes(name: &'static str, value: String) -> Result<bool, QueryError> {
    match value.as_str() {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(wrong(name, value, "true or false")),
    }
}

/// A moment: an age or a time.
fn moment(name: &'static str, value: &str, now_ms: i64) -> Result<i64, QueryError> {
    let expected = "an age such as 10m, 2h30m or 1d, or a time such as 2026-11-23T05:00:00Z";
    let time = || value.parse::<Timestamp>().ok().map(Timestamp::as_millisecond);
    let age = || {
        let age = i64::try_from(duration(value)?.as_millis()).ok()?;
        now_ms.checked_sub(age)
    };
    age().or_else(time).ok_or_else(|| wrong(name, value.to_owned(), expected))
}

fn duration(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (!duration.is_negative()).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_understood_or_refused_with_what_would_be_right() {
        let parse = |text| Query::parse_url(text, 10_000_000);
        assert_eq!(parse("").unwrap(), Query::default());
        let all = parse(
            "station=CP%201&station=D*&action=Boot*&direction=in&version=2.0.1&errors=true&slow=500ms&frames&personal=1&\
             since=10s&until=1970-01-01T00:00:05Z&last=50&follow=true",
        )
        .unwrap();
        let filter = Filter {
            stations: vec!["CP 1".to_owned(), "D*".to_owned()],
            actions: vec!["Boot*".to_owned()],
            direction: Some(Direction::In),
            versions: vec![Version::V201],
            errors: true,
            slow: Some(Duration::from_millis(500)),
        };
        let expected = Query {
            filter,
            frames: true,
            personal: true,
            since_ms: Some(9_990_000),
            until_ms: Some(5_000),
            last: Some(50),
            follow: true,
        };
        assert_eq!(all, expected);
        for (text, said) in [
            ("stations=x", "there is no stations"),
            ("since=yesterday", "since: \"yesterday\" is not what was expected: an age"),
            ("since=-10m", "since"),
            ("slow=5", "slow"),
            ("direction=up", "in or out"),
            ("version=1.5", "1.6, 2.0.1 or 2.1"),
            ("last=-1", "a whole number"),
            ("errors=maybe", "true or false"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn ages_have_the_usual_units() {
        for (text, milliseconds) in [
            ("10m", 600_000),
            ("2h30m", 9_000_000),
            ("1d", 86_400_000),
            ("500ms", 500),
            ("90s", 90_000),
            ("1w", 604_800_000),
        ] {
            assert_eq!(moment("since", text, 1_000_000_000).unwrap(), 1_000_000_000 - milliseconds, "{text}");
        }
    }

    #[test]
    fn without_a_beginning_or_an_end_it_is_about_what_happens_now() {
        let parse = |text| Query::parse_url(text, 0).unwrap();
        for (text, back, on) in [
            ("", false, true),
            ("since=1m", true, false),
            ("last=5", true, false),
            ("last=5&follow", true, true),
        ] {
            assert_eq!((parse(text).looks_back(), parse(text).looks_on()), (back, on), "{text}");
        }
    }
}
