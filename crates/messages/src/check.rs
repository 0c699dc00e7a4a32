//! The schema check: everything that is wrong with a payload, with its place.
//!
//! It walks over the text along a [`Schema`]'s tables and builds nothing. It has the last word about a message: the
//! typed reader only spares it where there is nothing to find.

use crate::contract::{Mode, Violation, ViolationKind, Violations};
use crate::decimal::{NotAnInteger, fits_step, integer, within};
use crate::read::is_longer;
use crate::scan::{NotJson, Scanner};
use crate::schema::{MANY, Member, Node, Schema};
use crate::timestamp::{Form, Timestamp};
use crate::uri::is_uri;
use std::borrow::Cow;

/// At most so many violations, and as many warnings, are told of one message; what comes after is only judged.
const TOLD_MAX: usize = 100;
/// At most so many characters of an unknown member's name are repeated in a pointer.
const NAME_MAX: usize = 64;

/// What was found.
#[derive(Debug)]
pub(crate) struct Findings {
    /// What refuses the message.
    pub(crate) violations: Vec<Violation>,
    /// What was forgiven.
    pub(crate) warnings: Vec<Violation>,
}

/// Judges a payload. A text that is not JSON has this one violation and no others.
pub(crate) fn check(text: &str, mode: Mode, schema: &Schema) -> Findings {
    let mut checker = Checker {
        scan: Scanner::new(text),
        lenient: mode == Mode::Lenient,
        path: Vec::new(),
        findings: Findings { violations: Vec::new(), warnings: Vec::new() },
    };
    let result = checker.payload(schema.node);
    match result {
        Ok(()) if checker.scan.at_end() => checker.findings,
        _ => Findings { violations: vec![not_json()], warnings: Vec::new() },
    }
}

/// The verdict about a text that is not JSON at all.
pub(crate) fn not_json() -> Violation {
    Violation {
        kind: ViolationKind::NotJson,
        pointer: String::new(),
        expected: Cow::Borrowed("JSON text in UTF-8, nested at most 32 deep"),
    }
}

impl Findings {
    /// The warnings, or what refuses the message.
    pub(crate) fn into_result(self) -> Result<Vec<Violation>, Violations> {
        if self.violations.is_empty() { Ok(self.warnings) } else { Err(Violations(self.violations)) }
    }
}

enum Step<'a> {
    Member(Cow<'a, str>),
    Item(usize),
}

/// Whether the value counts as there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Present,
    /// Forgiven as if it had been left out.
    Absent,
}

struct Checker<'a> {
    scan: Scanner<'a>,
    lenient: bool,
    path: Vec<Step<'a>>,
    findings: Findings,
}

impl<'a> Checker<'a> {
    fn payload(&mut self, node: &'static Node) -> Result<(), NotJson> {
        match self.scan.peek() {
            b'{' => {
                self.value(node, true)?;
            }
            b'n' if self.lenient => {
                self.scan.literal()?;
                self.warn(ViolationKind::NotAnObject, Cow::Borrowed("an object"));
                self.missing(node, 0);
            }
            _ => {
                self.scan.value()?;
                self.refuse(ViolationKind::NotAnObject, Cow::Borrowed("an object"));
            }
        }
        Ok(())
    }

    fn value(&mut self, node: &'static Node, required: bool) -> Result<Presence, NotJson> {
        if self.lenient && self.scan.peek() == b'n' && !matches!(node, Node::Any) {
            self.scan.literal()?;
            if !required {
                self.warn(ViolationKind::WrongType, wrong_type(node));
            }
            return Ok(Presence::Absent);
        }
        self.present(node, required)
    }

    fn present(&mut self, node: &'static Node, required: bool) -> Result<Presence, NotJson> {
        let fits = matches!(
            (node, self.scan.peek()),
            (Node::Any, _)
                | (Node::Object { .. }, b'{')
                | (Node::Array { .. }, b'[')
                | (Node::Text { .. } | Node::Uri { .. } | Node::DateTime | Node::Enumeration(_), b'"')
                | (Node::Integer { .. } | Node::Number { .. }, b'-' | b'0'..=b'9')
                | (Node::Boolean, b't' | b'f')
        );
        if !fits {
            self.scan.value()?;
            self.refuse(ViolationKind::WrongType, wrong_type(node));
            return Ok(Presence::Present);
        }
        match node {
            Node::Object { members, open } => self.object(members, *open)?,
            Node::Array { item, min, max } => self.array(item, *min, *max)?,
            Node::Text { max } => {
                let text = self.scan.string()?.text();
                self.length(&text, *max);
            }
            Node::Uri { max } => {
                let text = self.scan.string()?.text();
                self.length(&text, *max);
                if !is_uri(&text) {
                    self.pass(ViolationKind::BadUri, Cow::Borrowed("a URI"));
                }
            }
            Node::DateTime => return self.timestamp(required),
            Node::Enumeration(listed) => {
                let text = self.scan.string()?.text();
                if !listed.contains(&&*text) {
                    self.pass(ViolationKind::UnknownValue, one_of(listed));
                    if self.lenient && text.is_empty() && !required {
                        return Ok(Presence::Absent);
                    }
                }
            }
            Node::Integer { min, max } => {
                let lexeme = self.scan.number()?;
                match integer(lexeme) {
                    Ok(number) if (*min..=*max).contains(&number) => {}
                    Ok(_) => self.pass(ViolationKind::OutOfRange, range(*min, *max)),
                    Err(NotAnInteger::Fraction) => {
                        self.refuse(ViolationKind::WrongType, wrong_type(node));
                    }
                    Err(NotAnInteger::TooBig) => {
                        self.refuse(ViolationKind::OutOfRange, range(*min, *max));
                    }
                }
            }
            Node::Number { min, max, decimals } => {
                let lexeme = self.scan.number()?;
                if !within(lexeme, *min, *max) {
                    let bounds = range(min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX));
                    self.pass(ViolationKind::OutOfRange, bounds);
                }
                if let Some(places) = decimals
                    && !fits_step(lexeme, *places)
                {
                    let expected = format!("at most {places} decimal place(s)");
                    self.pass(ViolationKind::NotAMultiple, Cow::Owned(expected));
                }
            }
            Node::Boolean => {
                self.scan.literal()?;
            }
            Node::Any => {
                self.scan.value()?;
            }
        }
        Ok(Presence::Present)
    }

    fn object(&mut self, members: &'static [Member], open: bool) -> Result<(), NotJson> {
        self.scan.open(b'{')?;
        // No object of the schemas has more than 128 members: the generator sees to it.
        let (mut seen, mut there) = (0_u128, 0_u128);
        while let Some(key) = self.scan.key()? {
            let name = key.text();
            let Some(index) = members.iter().position(|member| member.name == name) else {
                if !open {
                    self.path.push(Step::Member(name));
                    self.pass(ViolationKind::UnknownMember, Cow::Borrowed("no such member"));
                    self.path.pop();
                }
                self.scan.value()?;
                continue;
            };
            self.path.push(Step::Member(name));
            let bit = 1 << index;
            if seen & bit != 0 {
                self.pass(ViolationKind::DuplicateMember, Cow::Borrowed("each member once"));
            }
            seen |= bit;
            match self.value(members[index].node, members[index].required)? {
                Presence::Present => there |= bit,
                // Of a member that comes twice the last one counts.
                Presence::Absent => there &= !bit,
            }
            self.path.pop();
        }
        self.missing_of(members, there);
        Ok(())
    }

    fn missing(&mut self, node: &'static Node, there: u128) {
        if let Node::Object { members, .. } = node {
            self.missing_of(members, there);
        }
    }

    fn missing_of(&mut self, members: &'static [Member], there: u128) {
        for (index, member) in members.iter().enumerate() {
            if member.required && there & (1 << index) == 0 {
                self.path.push(Step::Member(Cow::Borrowed(member.name)));
                self.refuse(ViolationKind::MissingMember, Cow::Borrowed("a required member"));
                self.path.pop();
            }
        }
    }

    fn array(&mut self, item: &'static Node, min: usize, max: usize) -> Result<(), NotJson> {
        self.scan.open(b'[')?;
        let mut count = 0;
        while self.scan.item()? {
            self.path.push(Step::Item(count));
            // Items are never absent: `null` among them is a wrong type also in lenient mode.
            self.present(item, true)?;
            self.path.pop();
            count += 1;
        }
        if count < min {
            self.pass(ViolationKind::TooFewItems, Cow::Owned(format!("at least {min} item(s)")));
        }
        if count > max {
            self.pass(ViolationKind::TooManyItems, Cow::Owned(format!("at most {max} item(s)")));
        }
        Ok(())
    }

    fn timestamp(&mut self, required: bool) -> Result<Presence, NotJson> {
        let text = self.scan.string()?.text();
        let expected = Cow::Borrowed("a date and time as RFC 3339 has it");
        match Timestamp::parse(&text) {
            Ok(timestamp) if timestamp.form() == Form::Rfc3339 => {}
            Ok(_) => self.pass(ViolationKind::BadDateTime, expected),
            Err(_) if self.lenient && text.is_empty() && !required => {
                self.warn(ViolationKind::BadDateTime, expected);
                return Ok(Presence::Absent);
            }
            Err(_) => self.refuse(ViolationKind::BadDateTime, expected),
        }
        Ok(Presence::Present)
    }

    fn length(&mut self, text: &str, max: usize) {
        if is_longer(text, max) {
            self.pass(ViolationKind::TooLong, Cow::Owned(format!("at most {max} characters")));
        }
    }

    /// What lenient reading passes with a warning.
    fn pass(&mut self, kind: ViolationKind, expected: Cow<'static, str>) {
        if self.lenient {
            self.warn(kind, expected);
        } else {
            self.refuse(kind, expected);
        }
    }

    fn refuse(&mut self, kind: ViolationKind, expected: Cow<'static, str>) {
        if self.findings.violations.len() < TOLD_MAX {
            let pointer = self.pointer();
            self.findings.violations.push(Violation { kind, pointer, expected });
        }
    }

    fn warn(&mut self, kind: ViolationKind, expected: Cow<'static, str>) {
        if self.findings.warnings.len() < TOLD_MAX {
            let pointer = self.pointer();
            self.findings.warnings.push(Violation { kind, pointer, expected });
        }
    }

    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.path {
            pointer.push('/');
            match step {
                Step::Member(name) => {
                    for character in name.chars().take(NAME_MAX) {
                        match character {
                            '~' => pointer.push_str("~0"),
                            '/' => pointer.push_str("~1"),
                            other => pointer.push(other),
                        }
                    }
                }
                Step::Item(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }
}

const fn wrong_type(node: &Node) -> Cow<'static, str> {
    Cow::Borrowed(match node {
        Node::Object { .. } => "an object",
        Node::Array { .. } => "an array",
        Node::Text { .. } | Node::Uri { .. } | Node::DateTime | Node::Enumeration(_) => "a string",
        Node::Integer { .. } => "an integer",
        Node::Number { .. } => "a number",
        Node::Boolean => "true or false",
        Node::Any => "any value",
    })
}

fn one_of(listed: &[&str]) -> Cow<'static, str> {
    const NAMED_MAX: usize = 8;
    match listed.get(..NAMED_MAX) {
        Some(first) if listed.len() > NAMED_MAX => {
            let more = listed.len() - NAMED_MAX;
            Cow::Owned(format!("one of {} and {more} more", first.join(", ")))
        }
        _ => Cow::Owned(format!("one of {}", listed.join(", "))),
    }
}

fn range(min: i64, max: i64) -> Cow<'static, str> {
    match (min, max) {
        (i64::MIN, i64::MAX) => Cow::Borrowed("a number of at most 64 bits"),
        (min, i64::MAX) => Cow::Owned(format!("at least {min}")),
        (i64::MIN, max) => Cow::Owned(format!("at most {max}")),
        (min, max) => Cow::Owned(format!("{min} to {max}")),
    }
}

const _: () = assert!(MANY == usize::MAX, "an unbounded text or array is one with the largest bound");
