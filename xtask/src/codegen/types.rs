//! Types, with their reading and writing.

use super::errata::{self, Sender};
use super::model::{Member, Message, Model, Shape};
use super::names::{field, variant};
use super::tables::{high, low, many, message_schema};
use anyhow::{Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// An optional object that needs more bytes than this is boxed.
const INLINE_BYTES_MAX: usize = 128;

/// Writes the types of a version.
pub(super) struct Types<'a> {
    pub(super) model: &'a Model,
}

impl Types<'_> {
    /// The module of enumerations.
    pub(super) fn enumerations(&self) -> Result<String> {
        let mut text = String::from("use crate::enumeration::enumeration;\n");
        for (name, shape) in &self.model.types {
            let Shape::Enumeration { values, .. } = shape else { continue };
            let mut seen = BTreeSet::new();
            line!(text, "\nenumeration! {{\n    /// Values of `{name}`.\n    {name} {{");
            for value in values {
                let variant = variant(value);
                let usable = variant.starts_with(|first: char| first.is_ascii_uppercase())
                    && variant != "Unlisted"
                    && seen.insert(variant.clone());
                ensure!(usable, "{name} has a value {value:?} that gives no name");
                line!(text, "        {variant} {value:?},");
            }
            text.push_str("    }\n}\n");
        }
        Ok(text)
    }

    /// The module of objects that messages are made of.
    pub(super) fn objects(&self) -> Result<String> {
        let mut text = String::from(IMPORTS);
        text.push_str("use super::enumerations::*;\n");
        let mut names = Vec::new();
        for (name, shape) in &self.model.types {
            let Shape::Object { members, .. } = shape else { continue };
            let doc = format!("An object of type `{name}`.");
            self.object(&mut text, name, members, &doc)?;
            names.push(name.as_str());
        }
        line!(text, "\ndebug! {{ {} }}", names.join(" "));
        Ok(text)
    }

    /// The module of requests or responses.
    pub(super) fn messages(&self, responses: bool) -> Result<String> {
        let mut text = String::from(IMPORTS);
        text.push_str("use super::enumerations::*;\nuse super::objects::*;\nuse crate::message::message;\n");
        if !responses {
            text.push_str("use crate::message::request;\n");
        }
        let messages: Vec<&Message> =
            self.model.messages.iter().filter(|message| message.is_response == responses).collect();
        let constant = self.model.version.to_uppercase();
        for message in &messages {
            let Shape::Object { members, .. } = &message.shape else { bail!("a message that is no object") };
            let Message { action, name, .. } = *message;
            let sender = errata::sender(self.model.version, action);
            let way = match (sender, responses) {
                (Sender::Either, _) => "either side",
                (Sender::Station, false) | (Sender::Csms, true) => "the station",
                (Sender::Csms, false) | (Sender::Station, true) => "the CSMS",
            };
            let kind = if responses { "Response" } else { "Request" };
            self.object(&mut text, name, members, &format!("{kind} of `{action}`, sent by {way}."))?;
            line!(text, "\nmessage!({constant} {action:?} {name} {});", message_schema(name));
            if !responses {
                let response = format!("{action}Response");
                let has_response = self.model.messages.iter().any(|message| message.name == response);
                let response = if has_response { response } else { String::new() };
                line!(text, "request!({name} {sender:?} {response});");
            }
        }
        let names: Vec<&str> = messages.iter().map(|message| message.name.as_str()).collect();
        line!(text, "\ndebug! {{ {} }}", names.join(" "));
        Ok(text)
    }

    /// The version's own module.
    pub(super) fn root(&self) -> String {
        let version = match self.model.version {
            "v16" => "OCPP 1.6 with its security extension",
            "v201" => "OCPP 2.0.1",
            _ => "OCPP 2.1",
        };
        let mut text = format!("//! Messages of {version}.\n");
        text.push_str(GENERATED);
        text.push_str(
            "\nmod enumerations;\nmod objects;\nmod requests;\nmod responses;\npub(crate) mod schema;\n\n\
             pub use enumerations::*;\npub use objects::*;\npub use requests::*;\npub use responses::*;\n\n\
             use crate::message::dispatch;\n\n",
        );
        line!(text, "dispatch! {{\n    {}", self.model.version.to_uppercase());
        for (heading, responses) in [("requests", false), ("responses", true)] {
            line!(text, "    {heading} {{");
            for message in self.model.messages.iter().filter(|message| message.is_response == responses) {
                let schema = message_schema(&message.name);
                line!(text, "        {} {} {schema},", message.action, message.name);
            }
            text.push_str("    }\n");
        }
        text.push_str("}\n");
        text
    }

    fn object(&self, text: &mut String, name: &str, members: &[Member], doc: &str) -> Result<()> {
        let mut fields = BTreeMap::new();
        for member in members {
            let clash = fields.insert(field(&member.wire), &member.wire);
            ensure!(clash.is_none(), "{name}.{} has the name of another member", member.wire);
        }
        let derives = if members.iter().any(|member| member.required) { "" } else { ", Default" };
        line!(text, "\n/// {doc}\n#[derive(Clone, PartialEq{derives})]\npub struct {name} {{");
        for member in members {
            line!(text, "    /// {}", member_doc(member));
            line!(text, "    pub {}: {},", field(&member.wire), self.field_type(member));
        }
        text.push_str("}\n\n");
        self.constructor(text, name, members);
        self.reading(text, name, members)?;
        writing(text, name, members);
        Ok(())
    }

    fn constructor(&self, text: &mut String, name: &str, members: &[Member]) {
        if !members.iter().any(|member| member.required) {
            return;
        }
        let mut parameters = Vec::new();
        let mut values = Vec::new();
        for member in members {
            let field = field(&member.wire);
            if !member.required {
                values.push(format!("{field}: None"));
            } else if matches!(member.shape, Shape::Text { .. } | Shape::Uri { .. }) {
                parameters.push(format!("{field}: impl Into<String>"));
                values.push(format!("{field}: {field}.into()"));
            } else {
                parameters.push(format!("{field}: {}", self.field_type(member)));
                values.push(field);
            }
        }
        line!(
            text,
            "impl {name} {{\n    /// With its required members; the others are absent.\n    #[must_use]\n    \
             pub fn new({}) -> Self {{\n        Self {{ {} }}\n    }}\n}}\n",
            parameters.join(", "),
            values.join(", ")
        );
    }

    fn reading(&self, text: &mut String, name: &str, members: &[Member]) -> Result<()> {
        line!(text, "impl Value for {name} {{\n    fn read(reader: &mut Reader<'_>) -> Read<Self> {{");
        for member in members {
            line!(text, "        let mut {} = None;", field(&member.wire));
        }
        text.push_str("        reader.object_begins()?;\n");
        if members.is_empty() {
            text.push_str(
                "        while reader.key()?.is_some() {\n            reader.unknown()?;\n        }\n",
            );
        } else {
            text.push_str(
                "        while let Some(wire_name) = reader.key()? {\n            match &*wire_name {\n",
            );
            for member in members {
                let call = reader_call(member)?;
                line!(text, "                {:?} => reader.{call},", member.wire);
            }
            text.push_str("                _ => reader.unknown(),\n            }?;\n        }\n");
        }
        let mut values = Vec::new();
        for member in members {
            let field = field(&member.wire);
            values.push(if member.required { format!("{field}: {field}.ok_or(Stop)?") } else { field });
        }
        line!(text, "        Ok(Self {{ {} }})\n    }}\n}}\n", values.join(", "));
        Ok(())
    }

    fn field_type(&self, member: &Member) -> String {
        let plain = plain_type(&member.shape);
        let boxed = !member.required
            && match &member.shape {
                Shape::Object { .. } => size(&member.shape) > INLINE_BYTES_MAX,
                Shape::CustomData => true,
                _ => false,
            };
        match (member.required, boxed) {
            (true, _) => plain,
            (false, false) => format!("Option<{plain}>"),
            (false, true) => format!("Option<Box<{plain}>>"),
        }
    }
}

fn writing(text: &mut String, name: &str, members: &[Member]) {
    line!(
        text,
        "impl Write for {name} {{\n    fn write(&self, writer: &mut Writer<'_>) {{\n        writer.open();"
    );
    for member in members {
        let is_text = matches!(member.shape, Shape::Text { .. });
        let method = match member.required {
            _ if is_text && errata::is_secret(name, &member.wire) => "secret",
            true => "member",
            false => "optional",
        };
        let key = format!("\"{}\":", member.wire);
        line!(text, "        writer.{method}({key:?}, &self.{});", field(&member.wire));
    }
    text.push_str("        writer.close();\n    }\n}\n");
}

/// How the reader takes the member.
fn reader_call(member: &Member) -> Result<String> {
    let slot = format!("&mut {}", field(&member.wire));
    let call = match &member.shape {
        Shape::Object { .. } | Shape::CustomData => format!("member({slot}, Value::read)"),
        Shape::Array { item, min, max } => {
            let read = match &**item {
                Shape::Object { .. } => "Value::read".to_owned(),
                Shape::Text { max } => format!("|reader| reader.text_item({})", many(*max)),
                Shape::Enumeration { .. } => "Reader::enumeration_item".to_owned(),
                Shape::Integer { min, max } => {
                    format!("|reader| reader.integer_item({}, {})", low(*min), high(*max))
                }
                other => bail!("an array of {other:?} is new"),
            };
            format!("array({slot}, {min}, {}, {read})", many(*max))
        }
        Shape::Text { max } => format!("text({slot}, {})", many(*max)),
        Shape::Uri { max } => format!("uri({slot}, {})", many(*max)),
        Shape::DateTime => format!("timestamp({slot})"),
        Shape::Enumeration { .. } => format!("enumeration({slot}, {})", !member.required),
        Shape::Integer { min, max } => format!("integer({slot}, {}, {})", low(*min), high(*max)),
        Shape::Number { min: None, max: None, decimals: None } => format!("number({slot})"),
        Shape::Number { min, max, decimals } => {
            format!("number_within({slot}, {min:?}, {max:?}, {decimals:?})")
        }
        Shape::Boolean => format!("boolean({slot})"),
        Shape::Any => format!("any({slot})"),
    };
    Ok(call)
}

fn plain_type(shape: &Shape) -> String {
    match shape {
        Shape::Object { name, .. } | Shape::Enumeration { name, .. } => name.clone(),
        Shape::CustomData => "crate::CustomData".to_owned(),
        Shape::Array { item, .. } => format!("Vec<{}>", plain_type(item)),
        Shape::Text { .. } | Shape::Uri { .. } => "String".to_owned(),
        Shape::DateTime => "crate::Timestamp".to_owned(),
        Shape::Integer { .. } => "i64".to_owned(),
        Shape::Number { .. } => "crate::Decimal".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::Any => "crate::Json".to_owned(),
    }
}

/// About how many bytes a value takes in place.
fn size(shape: &Shape) -> usize {
    match shape {
        Shape::Object { members, .. } => members
            .iter()
            .map(|member| match (&member.shape, member.required) {
                (Shape::CustomData, false) => 8,
                (Shape::Object { .. }, false) if size(&member.shape) > INLINE_BYTES_MAX => 8,
                (Shape::Integer { .. }, false) => 16,
                (shape, _) => size(shape),
            })
            .sum(),
        Shape::CustomData => 48,
        Shape::Array { .. } | Shape::Text { .. } | Shape::Uri { .. } | Shape::Number { .. } => 24,
        Shape::DateTime | Shape::Enumeration { .. } | Shape::Any => 16,
        Shape::Integer { .. } => 8,
        Shape::Boolean => 1,
    }
}

fn member_doc(member: &Member) -> String {
    let need = if member.required { "required" } else { "optional" };
    let limits = limits(&member.shape);
    format!("`{}`, {need}{}{limits}.", member.wire, if limits.is_empty() { "" } else { ": " })
}

fn limits(shape: &Shape) -> String {
    match shape {
        Shape::Array { item, min, max } => {
            let count = match (*min, *max) {
                (0, usize::MAX) => "any number of items".to_owned(),
                (min, usize::MAX) => format!("at least {min} item{}", if min == 1 { "" } else { "s" }),
                (min, max) => format!("{min} to {max} items"),
            };
            let each = limits(item);
            if each.is_empty() { count } else { format!("{count}, each {each}") }
        }
        Shape::Text { max: usize::MAX } => String::new(),
        Shape::Text { max } => format!("at most {max} characters"),
        Shape::Uri { max: usize::MAX } => "a URI".to_owned(),
        Shape::Uri { max } => format!("a URI of at most {max} characters"),
        Shape::Integer { min, max } => {
            range((*min != i64::MIN).then_some(*min), (*max != i64::MAX).then_some(*max))
        }
        Shape::Number { min, max, decimals } => {
            let range = range(*min, *max);
            match decimals {
                None => range,
                Some(places) => format!("{range}at most {places} decimal place"),
            }
        }
        Shape::Any => "any JSON".to_owned(),
        _ => String::new(),
    }
}

fn range(min: Option<i64>, max: Option<i64>) -> String {
    match (min, max) {
        (None, None) => String::new(),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (Some(min), Some(max)) => format!("{min} to {max}"),
    }
}

/// What the first lines of a generated file say.
pub(super) const GENERATED: &str =
    "// Generated by `cargo xtask codegen` from the official schemas. Do not edit.\n";

const IMPORTS: &str = "#![allow(unused_imports, clippy::wildcard_imports, clippy::too_many_arguments, \
reason = \"generated: one head for all files, and constructors take what the schema requires\")]\n\
use crate::message::debug;\nuse crate::read::{Read, Reader, Stop, Value};\nuse crate::schema::MANY;\n\
use crate::write::{Write, Writer};\n";
