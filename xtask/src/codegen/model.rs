//! The schemas of a version as shapes and named types.

use super::errata;
use super::source::{Schema, Schemas};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// What a value may be, with all references resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    Object {
        name: String,
        members: Vec<Member>,
    },
    /// The one open object.
    CustomData,
    Array {
        item: Box<Self>,
        min: usize,
        max: usize,
    },
    Text {
        max: usize,
    },
    Uri {
        max: usize,
    },
    DateTime,
    Enumeration {
        name: String,
        values: Vec<String>,
    },
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: Option<i64>,
        max: Option<i64>,
        decimals: Option<u8>,
    },
    Boolean,
    Any,
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) wire: String,
    pub(super) shape: Shape,
    pub(super) required: bool,
}

/// A request or response.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) action: String,
    pub(super) name: String,
    pub(super) is_response: bool,
    pub(super) shape: Shape,
    /// Every named shape in it is the one that its type is read as.
    pub(super) exact: bool,
}

/// All of a version.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) version: &'static str,
    /// By action, the request first.
    pub(super) messages: Vec<Message>,
    /// The shapes that types are made of, by name; without the messages.
    pub(super) types: BTreeMap<String, Shape>,
}

impl Model {
    pub(super) fn build(version: &'static str, schemas: &Schemas) -> Result<Self> {
        let names = type_names(version, schemas)?;
        let mut model = Self { version, messages: Vec::new(), types: BTreeMap::new() };
        for (file, schema) in schemas {
            let builder = Builder { version, names: &names, definitions: &schema.definitions };
            let (action, is_response) = match file.strip_suffix("Response") {
                Some(action) => (action, true),
                None => (file.strip_suffix("Request").unwrap_or(file), false),
            };
            let name = format!("{action}{}", if is_response { "Response" } else { "Request" });
            let shape = builder.shape(schema, &mut vec![file.clone()], Some(name.clone()))?;
            ensure!(matches!(shape, Shape::Object { .. }), "{file} is no object");
            model.messages.push(Message { action: action.to_owned(), name, is_response, shape, exact: true });
        }
        model.messages.sort_by(|a, b| (&a.action, a.is_response).cmp(&(&b.action, b.is_response)));
        model.collect_types()?;
        for index in 0..model.messages.len() {
            model.messages[index].exact = model.is_exact(&model.messages[index].shape, true);
        }
        Ok(model)
    }

    fn collect_types(&mut self) -> Result<()> {
        // The message that shared types take their shape from comes first.
        let (first, rest): (Vec<_>, Vec<_>) =
            self.messages.iter().partition(|message| message.action == errata::SHARED_FROM);
        let mut types = BTreeMap::new();
        for message in first.into_iter().chain(rest) {
            collect(&message.shape, true, &mut types)
                .with_context(|| format!("{} of {}", message.name, self.version))?;
        }
        for message in &self.messages {
            ensure!(!types.contains_key(&message.name), "{} is a message and a type", message.name);
        }
        self.types = types;
        Ok(())
    }

    fn is_exact(&self, shape: &Shape, is_message: bool) -> bool {
        let same = match shape {
            Shape::Object { name, .. } | Shape::Enumeration { name, .. } if !is_message => {
                self.types.get(name) == Some(shape)
            }
            _ => true,
        };
        same && match shape {
            Shape::Object { members, .. } => members.iter().all(|member| self.is_exact(&member.shape, false)),
            Shape::Array { item, .. } => self.is_exact(item, false),
            _ => true,
        }
    }
}

/// Notes all named shapes. One name has one shape, except for those that the errata allow to differ.
fn collect(shape: &Shape, is_message: bool, types: &mut BTreeMap<String, Shape>) -> Result<()> {
    if let Shape::Object { name, .. } | Shape::Enumeration { name, .. } = shape
        && !is_message
    {
        match types.get(name) {
            None => {
                types.insert(name.clone(), shape.clone());
            }
            Some(known) if known == shape || errata::SHARED.contains(&name.as_str()) => {}
            Some(_) => bail!("{name} has two shapes"),
        }
    }
    match shape {
        Shape::Object { members, .. } => {
            members.iter().try_for_each(|member| collect(&member.shape, false, types))
        }
        Shape::Array { item, .. } => collect(item, false, types),
        _ => Ok(()),
    }
}

/// The names of the defined types: without `Type` or `EnumType`, where that leaves no two alike.
fn type_names(version: &str, schemas: &Schemas) -> Result<BTreeMap<String, String>> {
    let definitions: BTreeMap<&String, &Schema> =
        schemas.values().flat_map(|schema| &schema.definitions).collect();
    let objects: Vec<&str> = definitions
        .iter()
        .filter(|(_, schema)| schema.values.is_none())
        .map(|(name, _)| name.strip_suffix("Type").unwrap_or(name))
        .collect();
    let mut names = BTreeMap::new();
    for (definition, schema) in definitions {
        let name = if let Some(name) = errata::defined_name(version, definition) {
            name
        } else if schema.values.is_some() {
            let short = definition.strip_suffix("EnumType").context("an enumeration without EnumType")?;
            if objects.contains(&short) {
                definition.strip_suffix("Type").unwrap_or(definition)
            } else {
                short
            }
        } else {
            definition.strip_suffix("Type").unwrap_or(definition)
        };
        names.insert(definition.clone(), name.to_owned());
    }
    Ok(names)
}

struct Builder<'a> {
    version: &'a str,
    names: &'a BTreeMap<String, String>,
    definitions: &'a BTreeMap<String, Schema>,
}

impl Builder<'_> {
    fn shape(&self, schema: &Schema, path: &mut Vec<String>, name: Option<String>) -> Result<Shape> {
        if let Some(reference) = &schema.reference {
            let definition = reference.strip_prefix("#/definitions/").context("a reference elsewhere")?;
            let target = self.definitions.get(definition).with_context(|| format!("no {definition}"))?;
            ensure!(target.reference.is_none(), "{definition} refers on");
            return self.shape(target, path, self.names.get(definition).cloned());
        }
        let name = || -> Result<String> {
            let steps: Vec<&str> = path.iter().map(String::as_str).collect();
            name.or_else(|| errata::inline_name(&steps).map(str::to_owned))
                .with_context(|| format!("{} {} needs a name", self.version, path.join("/")))
        };
        let shape = match (schema.kind.as_deref(), schema.format.as_deref()) {
            (None, None) => Shape::Any,
            (Some("boolean"), None) => Shape::Boolean,
            (Some("string"), Some("date-time")) => Shape::DateTime,
            (Some("string"), Some("uri")) => Shape::Uri { max: schema.max_length.unwrap_or(usize::MAX) },
            (Some("string"), None) => match &schema.values {
                Some(values) => Shape::Enumeration { name: name()?, values: values.clone() },
                None => Shape::Text { max: schema.max_length.unwrap_or(usize::MAX) },
            },
            (Some("integer"), None) => Shape::Integer {
                min: whole(schema.minimum)?.unwrap_or(i64::MIN),
                max: whole(schema.maximum)?.unwrap_or(i64::MAX),
            },
            (Some("number"), None) => Shape::Number {
                min: whole(schema.minimum)?,
                max: whole(schema.maximum)?,
                decimals: match schema.multiple_of {
                    None => None,
                    Some(0.1) => Some(1),
                    Some(step) => bail!("multipleOf {step} is new"),
                },
            },
            (Some("array"), None) => {
                path.push("[]".to_owned());
                let items = schema.items.as_ref().context("an array of anything")?;
                let item = Box::new(self.shape(items, path, None)?);
                path.pop();
                let (min, max) = (schema.min_items.unwrap_or(0), schema.max_items.unwrap_or(usize::MAX));
                Shape::Array { item, min, max }
            }
            (Some("object"), None) if schema.additional_properties != Some(false) => {
                let members = &schema.properties.0;
                let known = members.len() == 1
                    && members[0].0 == "vendorId"
                    && members[0].1.max_length == Some(255)
                    && schema.required == ["vendorId"];
                ensure!(known, "{} is an open object, and not customData", path.join("/"));
                Shape::CustomData
            }
            (Some("object"), None) => {
                let name = name()?;
                Shape::Object { name, members: self.members(schema, path)? }
            }
            (kind, format) => bail!("{}: {kind:?} {format:?} is new", path.join("/")),
        };
        Ok(shape)
    }

    fn members(&self, schema: &Schema, path: &mut Vec<String>) -> Result<Vec<Member>> {
        for required in &schema.required {
            ensure!(
                schema.properties.0.iter().any(|(wire, _)| wire == required),
                "{} requires {required}, which it does not have",
                path.join("/")
            );
        }
        let mut members = Vec::new();
        for (wire, property) in &schema.properties.0 {
            path.push(wire.clone());
            let shape = self.shape(property, path, None)?;
            path.pop();
            members.push(Member { wire: wire.clone(), shape, required: schema.required.contains(wire) });
        }
        // What belongs to nobody comes last.
        members.sort_by_key(|member| member.wire == "customData");
        ensure!(members.len() <= 128, "{} has more than 128 members", path.join("/"));
        Ok(members)
    }
}

/// A bound as an integer; the schemas have no others.
fn whole(bound: Option<f64>) -> Result<Option<i64>> {
    bound
        .map(|bound| {
            ensure!(bound.fract() == 0.0 && bound.abs() < 1e15, "the bound {bound} is new");
            Ok(bound as i64)
        })
        .transpose()
}
