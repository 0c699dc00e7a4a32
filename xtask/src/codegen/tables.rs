//! The tables that the schema check walks along.

use super::model::{Model, Shape};
use super::names::screaming;
use std::collections::BTreeMap;

/// All distinct shapes of a version, each with the name of its static.
#[derive(Default)]
pub(super) struct Tables {
    names: BTreeMap<Shape, String>,
    statics: BTreeMap<String, String>,
}

impl Tables {
    pub(super) fn build(model: &Model) -> Self {
        let mut tables = Self::default();
        for message in &model.messages {
            tables.name(&message.shape);
        }
        tables
    }

    /// The text of the module.
    pub(super) fn emit(&mut self, model: &Model) -> String {
        let mut text = String::from("use crate::schema::{MANY, Node, Schema, optional, required};\n\n");
        for message in &model.messages {
            let node = self.name(&message.shape);
            let schema = message_schema(&message.name);
            let exact = message.exact;
            line!(text, "pub(crate) static {schema}: Schema = Schema {{ node: &{node}, exact: {exact} }};");
        }
        for (name, value) in &self.statics {
            line!(text, "static {name}: Node = {value};");
        }
        text
    }

    fn name(&mut self, shape: &Shape) -> String {
        if let Some(name) = self.names.get(shape) {
            return name.clone();
        }
        let (base, value) = match shape {
            Shape::Object { name, members } => {
                let mut list = String::new();
                for member in members {
                    let node = self.name(&member.shape);
                    let need = if member.required { "required" } else { "optional" };
                    piece!(list, "{need}({:?}, &{node}),", member.wire);
                }
                (screaming(name), format!("Node::Object {{ members: &[{list}], open: false }}"))
            }
            Shape::CustomData => {
                let node = self.name(&Shape::Text { max: 255 });
                let members = format!("required(\"vendorId\", &{node})");
                ("CUSTOM_DATA".to_owned(), format!("Node::Object {{ members: &[{members}], open: true }}"))
            }
            Shape::Array { item, min, max } => {
                let item = self.name(item);
                let base = format!("{item}_LIST{}{}", bound(*min as u64, 0), bound(*max as u64, u64::MAX));
                (base, format!("Node::Array {{ item: &{item}, min: {min}, max: {} }}", many(*max)))
            }
            Shape::Text { max } => {
                let base = format!("TEXT{}", bound(*max as u64, u64::MAX));
                (base, format!("Node::Text {{ max: {} }}", many(*max)))
            }
            Shape::Uri { max } => {
                let base = format!("URI{}", bound(*max as u64, u64::MAX));
                (base, format!("Node::Uri {{ max: {} }}", many(*max)))
            }
            Shape::DateTime => ("DATE_TIME".to_owned(), "Node::DateTime".to_owned()),
            Shape::Enumeration { name, values } => {
                (format!("{}_VALUES", screaming(name)), format!("Node::Enumeration(&{values:?})"))
            }
            Shape::Integer { min, max } => {
                ("INTEGER".to_owned(), format!("Node::Integer {{ min: {}, max: {} }}", low(*min), high(*max)))
            }
            Shape::Number { min, max, decimals } => (
                "NUMBER".to_owned(),
                format!("Node::Number {{ min: {min:?}, max: {max:?}, decimals: {decimals:?} }}"),
            ),
            Shape::Boolean => ("BOOLEAN".to_owned(), "Node::Boolean".to_owned()),
            Shape::Any => ("ANY".to_owned(), "Node::Any".to_owned()),
        };
        let mut name = base.clone();
        let mut number = 2;
        while self.statics.contains_key(&name) {
            name = format!("{base}_{number}");
            number += 1;
        }
        self.statics.insert(name.clone(), value);
        self.names.insert(shape.clone(), name.clone());
        name
    }
}

/// The static of a message's schema.
pub(super) fn message_schema(name: &str) -> String {
    format!("{}_SCHEMA", screaming(name))
}

fn bound(value: u64, none: u64) -> String {
    if value == none { String::new() } else { format!("_{value}") }
}

/// A length without bound has a name.
pub(super) fn many(max: usize) -> String {
    if max == usize::MAX { "MANY".to_owned() } else { max.to_string() }
}

pub(super) fn low(min: i64) -> String {
    if min == i64::MIN { "i64::MIN".to_owned() } else { min.to_string() }
}

pub(super) fn high(max: i64) -> String {
    if max == i64::MAX { "i64::MAX".to_owned() } else { max.to_string() }
}
