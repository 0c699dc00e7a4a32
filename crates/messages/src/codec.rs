//! Reading and writing of whole messages: the typed reader in front, the schema check behind.

use crate::check::{self, not_json};
use crate::contract::{Decoded, Mode, Violation, ViolationKind, Violations};
use crate::read::{Value, read};
use crate::schema::Schema;
use crate::write::{Write, Writer};
use std::borrow::Cow;

pub(crate) fn decode<T: Value>(
    payload: &[u8],
    mode: Mode,
    schema: &Schema,
) -> Result<Decoded<T>, Violations> {
    let Ok(text) = str::from_utf8(payload) else { return Err(Violations(vec![not_json()])) };
    if schema.exact
        && let Ok(value) = read(text, false)
    {
        return Ok(Decoded { value, warnings: Vec::new() });
    }
    let warnings = check::check(text, mode, schema).into_result()?;
    // F07: `null` in the place of the payload counts as an empty object.
    let text = if text.trim_ascii() == "null" { "{}" } else { text };
    match read(text, true) {
        Ok(value) => Ok(Decoded { value, warnings }),
        Err(_) => Err(unreadable()),
    }
}

pub(crate) fn encode(value: &dyn Write, out: &mut Vec<u8>, schema: &Schema) -> Result<(), Violations> {
    let before = out.len();
    value.write(&mut Writer::new(out));
    // What was written is judged, not what was meant: nothing else can promise V09.
    let verdict = validate(out.get(before..).unwrap_or_default(), Mode::Strict, schema);
    match verdict.into_result() {
        Ok(_) => Ok(()),
        Err(violations) => {
            out.truncate(before);
            Err(violations)
        }
    }
}

pub(crate) fn validate(payload: &[u8], mode: Mode, schema: &Schema) -> check::Findings {
    match str::from_utf8(payload) {
        Ok(text) => check::check(text, mode, schema),
        Err(_) => check::Findings { violations: vec![not_json()], warnings: Vec::new() },
    }
}

/// The check found nothing that refuses the message, and yet it cannot be read into its type. Tests hold that this
/// does not happen; if it ever does, the message is refused and not half read.
fn unreadable() -> Violations {
    Violations(vec![Violation {
        kind: ViolationKind::NotAnObject,
        pointer: String::new(),
        expected: Cow::Borrowed("a message that can be read"),
    }])
}
