//! What commands that show lists have in common.

use crate::{
    client::{Answer, segment},
    exit::{Exit, Failure},
    output,
    settings::duration,
};
use serde_json::Value;

/// A value as a cell of a table.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A list of the answer.
pub(super) fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Prints a table, or says that there is nothing.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>], nothing: &str) -> Result<Exit, Failure> {
    if rows.is_empty() {
        output::note(nothing)?;
    } else {
        output::line(output::table(heading, rows).trim_end())?;
    }
    Ok(Exit::Done)
}

/// Prints the answer as it came, or says a sentence.
pub(super) fn done(answer: &Answer, json: bool, sentence: &str) -> Result<Exit, Failure> {
    if json {
        output::line(&answer.text)?;
    } else {
        output::note(output::printable(sentence))?;
    }
    Ok(Exit::Done)
}

/// A time that somebody gave: itself, or a duration that is over (`sign` -1) or to come (1). In UTC.
pub(super) fn moment(given: &str, sign: i64) -> Result<String, Failure> {
    let wrong = || {
        Failure::new(
            Exit::Data,
            format!("{given:?} is neither a time like 2026-11-23T10:00:00Z nor a duration like 30m"),
        )
    };
    let moment = match duration(given) {
        Some(duration) => {
            let milliseconds = i64::try_from(duration.as_millis()).map_err(|_| wrong())?;
            let now = jiff::Timestamp::now().as_millisecond();
            jiff::Timestamp::from_millisecond(now.saturating_add(sign * milliseconds)).map_err(|_| wrong())?
        }
        None => given.parse::<jiff::Timestamp>().map_err(|_| wrong())?,
    };
    Ok(format!("{moment:.3}"))
}

/// The same for what need not be given.
pub(super) fn moment_if(given: Option<&String>, sign: i64) -> Result<Option<String>, Failure> {
    given.map(|given| moment(given, sign)).transpose()
}

/// A query of those members that are there.
pub(super) fn query(members: &[(&str, Option<String>)]) -> String {
    let mut query = String::new();
    for (name, value) in members {
        if let Some(value) = value {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&format!("{name}={}", segment(value)));
        }
    }
    query
}
