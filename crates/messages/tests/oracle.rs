//! All 387 schemas against an independent judge: instances made from the official schemas by `oracle/instances.py`,
//! each judged by Python's `jsonschema`. Nothing valid may be refused, nothing invalid accepted in strict mode, and no
//! value lost on the way through the types.
#![cfg(all(feature = "v16", feature = "v201", feature = "v21"))]
#![expect(clippy::print_stderr, reason = "a test tells its findings")]

use anyhow::{Context, Result};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use switchboard_messages::{
    Decimal, DecodeError, Decoded, Mode, Sender, Timestamp, Violation, ViolationKind, v16, v21, v201,
};

#[test]
fn the_judge_agrees_about_1_6() -> Result<()> {
    compare("v16", 78)
}

#[test]
fn the_judge_agrees_about_2_0_1() -> Result<()> {
    compare("v201", 128)
}

#[test]
fn the_judge_agrees_about_2_1() -> Result<()> {
    compare("v21", 181)
}

/// One instance and what the judge says.
struct Instance<'a> {
    message: &'a str,
    valid: bool,
    what: &'a str,
    pointer: &'a str,
    finding: &'a str,
    text: &'a str,
}

fn compare(version: &str, schemas: usize) -> Result<()> {
    let Some(python) = switchboard_testkit::tools::python(&format!("oracle {version}"))? else {
        return Ok(());
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/instances.py");
    let mut judge = Command::new(python).arg(script).arg(version).stdout(Stdio::piped()).spawn()?;
    let output = judge.stdout.take().context("the judge says nothing")?;
    let mut messages = BTreeMap::new();
    let mut faults = Vec::new();
    let mut counts = [0_u32; 2];
    for line in BufReader::new(output).lines() {
        let line = line?;
        let mut fields = line.splitn(7, '\t').skip(1);
        let mut next = || fields.next().context("a line without seven fields");
        let instance = Instance {
            message: next()?,
            valid: next()? == "valid",
            what: next()?,
            pointer: next()?,
            finding: next()?,
            text: next()?,
        };
        counts[usize::from(instance.valid)] += 1;
        *messages.entry(instance.message.to_owned()).or_insert(0) += 1;
        let result = match version {
            "v16" => judged::<V16>(&instance),
            "v201" => judged::<V201>(&instance),
            _ => judged::<V21>(&instance),
        };
        if let Err(fault) = result {
            let text: String = instance.text.chars().take(300).collect();
            faults.push(format!("{} ({}): {fault}\n    {text}", instance.message, instance.what));
        }
    }
    assert!(judge.wait()?.success(), "the judge broke off");
    assert_eq!(messages.len(), schemas, "every schema has instances");
    eprintln!("{version}: {} valid and {} invalid instances, {} faults", counts[1], counts[0], faults.len());
    let shown: Vec<_> = faults.iter().take(20).map(String::as_str).collect();
    assert!(faults.is_empty(), "{} faults, the first of them:\n{}", faults.len(), shown.join("\n"));
    Ok(())
}

/// What the three versions have in common without sharing a type.
trait Messages {
    type Request: PartialEq;
    type Response: PartialEq;
    fn request(action: &str, payload: &[u8], mode: Mode) -> Result<Decoded<Self::Request>, DecodeError>;
    fn response(action: &str, payload: &[u8], mode: Mode) -> Result<Decoded<Self::Response>, DecodeError>;
    fn write_request(message: &Self::Request) -> Result<Vec<u8>, String>;
    fn write_response(message: &Self::Response) -> Result<Vec<u8>, String>;
    fn validate(action: &str, is_response: bool, payload: &[u8]) -> Option<Vec<Violation>>;
}

macro_rules! messages {
    ($name:ident $module:ident) => {
        struct $name;
        impl Messages for $name {
            type Request = $module::AnyRequest;
            type Response = $module::AnyResponse;
            fn request(
                action: &str,
                payload: &[u8],
                mode: Mode,
            ) -> Result<Decoded<Self::Request>, DecodeError> {
                $module::decode(action, Sender::Either, payload, mode)
            }
            fn response(
                action: &str,
                payload: &[u8],
                mode: Mode,
            ) -> Result<Decoded<Self::Response>, DecodeError> {
                $module::decode_response(action, payload, mode)
            }
            fn write_request(message: &Self::Request) -> Result<Vec<u8>, String> {
                let mut out = Vec::new();
                message.encode(&mut out).map_err(|violations| violations.to_string())?;
                Ok(out)
            }
            fn write_response(message: &Self::Response) -> Result<Vec<u8>, String> {
                let mut out = Vec::new();
                message.encode(&mut out).map_err(|violations| violations.to_string())?;
                Ok(out)
            }
            fn validate(action: &str, is_response: bool, payload: &[u8]) -> Option<Vec<Violation>> {
                $module::validate(action, is_response, payload)
            }
        }
    };
}
messages!(V16 v16);
messages!(V201 v201);
messages!(V21 v21);

/// What became of an instance.
struct Outcome {
    strict: Result<Vec<u8>, Vec<Violation>>,
    /// The warnings, and whether the value is that of strict reading.
    lenient: Result<(Vec<Violation>, bool), Vec<Violation>>,
    validated: Vec<Violation>,
}

fn judged<M: Messages>(instance: &Instance<'_>) -> Result<(), String> {
    let payload = instance.text.as_bytes();
    let (action, is_response) = match instance.message.strip_suffix("Response") {
        Some(action) => (action, true),
        None => (instance.message.strip_suffix("Request").unwrap_or(instance.message), false),
    };
    let outcome = if is_response {
        outcome(|mode| M::response(action, payload, mode), M::write_response)?
    } else {
        outcome(|mode| M::request(action, payload, mode), M::write_request)?
    };
    let validated = M::validate(action, is_response, payload).ok_or("no such message")?;
    let outcome = Outcome { validated, ..outcome };
    if instance.valid { accepted(instance, &outcome) } else { refused(instance, outcome) }
}

fn outcome<T: PartialEq>(
    read: impl Fn(Mode) -> Result<Decoded<T>, DecodeError>,
    write: impl Fn(&T) -> Result<Vec<u8>, String>,
) -> Result<Outcome, String> {
    let violations = |error| match error {
        DecodeError::Violations(violations) => Ok(violations.0),
        other => Err(other.to_string()),
    };
    let strict = match read(Mode::Strict) {
        Ok(decoded) => Ok(decoded),
        Err(error) => Err(violations(error)?),
    };
    let lenient = match read(Mode::Lenient) {
        Ok(decoded) => {
            let same = strict.as_ref().is_ok_and(|strict| strict.value == decoded.value);
            Ok((decoded.warnings, same))
        }
        Err(error) => Err(violations(error)?),
    };
    let strict = match strict {
        Ok(decoded) if decoded.warnings.is_empty() => Ok(write(&decoded.value)?),
        Ok(_) => return Err("strict reading warns".to_owned()),
        Err(violations) => Err(violations),
    };
    Ok(Outcome { strict, lenient, validated: Vec::new() })
}

fn accepted(instance: &Instance<'_>, outcome: &Outcome) -> Result<(), String> {
    if let Some(violation) = outcome.validated.first() {
        return Err(format!("valid, and found wrong: {violation}"));
    }
    match &outcome.lenient {
        Ok((warnings, true)) if warnings.is_empty() => {}
        other => return Err(format!("valid, and read leniently as {other:?}")),
    }
    let written =
        outcome.strict.as_ref().map_err(|violations| format!("valid, and refused: {violations:?}"))?;
    let written = str::from_utf8(written).map_err(|error| error.to_string())?;
    if same(instance.text, written, instance.what.starts_with("integer")) {
        Ok(())
    } else {
        Err(format!("a value was lost: {written}"))
    }
}

fn refused(instance: &Instance<'_>, outcome: Outcome) -> Result<(), String> {
    let Err(violations) = outcome.strict else { return Err("invalid, and accepted".to_owned()) };
    if violations != outcome.validated {
        return Err(format!("reading finds {violations:?}, validation {:?}", outcome.validated));
    }
    if instance.finding.is_empty() {
        return Ok(());
    }
    let (kind, member) = instance
        .finding
        .split_once(' ')
        .map_or((instance.finding, None), |(kind, member)| (kind, Some(member)));
    let pointer =
        member.map_or_else(|| instance.pointer.to_owned(), |member| format!("{}/{member}", instance.pointer));
    let is_expected =
        |violation: &Violation| format!("{:?}", violation.kind) == kind && violation.pointer == pointer;
    if violations.len() != 1 || !is_expected(&violations[0]) {
        return Err(format!("{kind} expected at {pointer}, found {violations:?}"));
    }
    forgiven(instance, &violations[0], &outcome.lenient)
}

/// Whether lenient reading forgives what it should and nothing else (V08).
fn forgiven(
    instance: &Instance<'_>,
    violation: &Violation,
    lenient: &Result<(Vec<Violation>, bool), Vec<Violation>>,
) -> Result<(), String> {
    let passes = match violation.kind {
        ViolationKind::UnknownMember
        | ViolationKind::TooLong
        | ViolationKind::UnknownValue
        | ViolationKind::OutOfRange
        | ViolationKind::NotAMultiple
        | ViolationKind::BadUri
        | ViolationKind::TooFewItems
        | ViolationKind::TooManyItems => Some(true),
        ViolationKind::MissingMember => Some(false),
        // `null` is as if the member were absent, which may be right or wrong; a timestamp may be readable or not.
        ViolationKind::WrongType | ViolationKind::NotAnObject if instance.what == "null" => None,
        ViolationKind::BadDateTime => None,
        _ => Some(false),
    };
    match lenient {
        Ok((warnings, _)) if passes != Some(false) => {
            if warnings.len() == 1
                && warnings[0].pointer == violation.pointer
                && warnings[0].kind == violation.kind
            {
                Ok(())
            } else {
                Err(format!("{violation:?} forgiven with {warnings:?}"))
            }
        }
        Err(violations) if passes != Some(true) => {
            let as_missing = instance.what == "null"
                && violations.iter().all(|found| found.kind == ViolationKind::MissingMember);
            if as_missing || violations.first() == Some(violation) {
                Ok(())
            } else {
                Err(format!("{violation:?} refused leniently with {violations:?}"))
            }
        }
        Ok(_) => Err(format!("{violation:?} was forgiven")),
        Err(violations) => Err(format!("{violation:?} was not forgiven: {violations:?}")),
    }
}

/// Whether two JSON texts hold the same values: numbers with the same digits, timestamps with the same instant to the
/// millisecond, which is the finest that OCPP writes. A whole number may be respelt where `respelt` is set.
fn same(left: &str, right: &str, respelt: bool) -> bool {
    let (left, right) = (left.trim(), right.trim());
    if left == right {
        return true;
    }
    match left.as_bytes().first() {
        Some(b'{') => {
            let read = serde_json::from_str::<BTreeMap<String, &RawValue>>;
            let (Ok(left), Ok(right)) = (read(left), read(right)) else { return false };
            left.len() == right.len()
                && left.iter().zip(&right).all(|((name, left), (other, right))| {
                    name == other && same(left.get(), right.get(), respelt)
                })
        }
        Some(b'[') => {
            let read = serde_json::from_str::<Vec<&RawValue>>;
            let (Ok(left), Ok(right)) = (read(left), read(right)) else { return false };
            left.len() == right.len()
                && left.iter().zip(&right).all(|(left, right)| same(left.get(), right.get(), respelt))
        }
        Some(b'"') => {
            let read = serde_json::from_str::<String>;
            let (Ok(left), Ok(right)) = (read(left), read(right)) else { return false };
            let millis = |text: &str| Timestamp::parse(text).map(Timestamp::unix_millis);
            left == right || matches!((millis(&left), millis(&right)), (Ok(left), Ok(right)) if left == right)
        }
        Some(b'-' | b'0'..=b'9') if respelt => {
            matches!((Decimal::parse(left), Decimal::parse(right)), (Ok(left), Ok(right)) if left == right)
        }
        _ => false,
    }
}
