//! Where the schemas come from, and reading them.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that carries the official schemas of all versions.
const PACKAGE: &str = "ocpp==2.1.0";

/// A JSON Schema, as far as OCPP uses it. A keyword that is not here is an error, so that none is overlooked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Schema {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) properties: Members,
    pub(super) required: Vec<String>,
    pub(super) additional_properties: Option<bool>,
    #[serde(rename = "enum")]
    pub(super) values: Option<Vec<String>>,
    pub(super) max_length: Option<usize>,
    pub(super) format: Option<String>,
    pub(super) items: Option<Box<Self>>,
    pub(super) min_items: Option<usize>,
    pub(super) max_items: Option<usize>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) multiple_of: Option<f64>,
    #[serde(rename = "$ref")]
    pub(super) reference: Option<String>,
    pub(super) definitions: BTreeMap<String, Self>,
    // What says nothing about validity.
    #[serde(rename = "$schema")]
    _dialect: IgnoredAny,
    #[serde(rename = "$id")]
    _id: IgnoredAny,
    #[serde(rename = "id")]
    _old_id: IgnoredAny,
    _title: IgnoredAny,
    _description: IgnoredAny,
    _comment: IgnoredAny,
    _java_type: IgnoredAny,
    _default: IgnoredAny,
    _additional_items: IgnoredAny,
}

/// The members of an object, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(pub(super) Vec<(String, Schema)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered;
        impl<'de> Visitor<'de> for Ordered {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of schemas")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Ordered)
    }
}

/// The schemas of one version, by file name without its ending.
pub(super) type Schemas = BTreeMap<String, Schema>;

/// Reads the schemas of a version (`v16`, `v201`, `v21`) from the package's folder.
pub(super) fn load(package: &Path, version: &str) -> Result<Schemas> {
    let folder = package.join(version).join("schemas");
    let mut schemas = Schemas::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("no schemas in {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let schema = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .with_context(|| format!("cannot make sense of {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        schemas.insert(name, schema);
    }
    let expected = match version {
        "v16" => 78,
        "v201" => 128,
        _ => 181,
    };
    ensure!(
        schemas.len() == expected,
        "{} holds {} schemas and not {expected}: is this PyPI {PACKAGE}?",
        folder.display(),
        schemas.len()
    );
    Ok(schemas)
}

/// The package in the project's tool folder, if it is there.
pub(super) fn present(root: &Path) -> Result<Option<PathBuf>> {
    let tools = root.join(".tools");
    let unpacked = tools.join("wheels/ocpp");
    let found = installed(&tools.join("venv/lib"))?;
    Ok(found.or_else(|| unpacked.join("v21/schemas").is_dir().then_some(unpacked)))
}

/// Finds the package in the project's tool folder, or downloads it there.
pub(super) fn package(root: &Path) -> Result<PathBuf> {
    if let Some(found) = present(root)? {
        return Ok(found);
    }
    let wheels = root.join(".tools/wheels");
    download(&wheels).with_context(|| {
        format!(
            "the schemas are not at hand: neither installed in .tools/venv nor could pip fetch {PACKAGE}; \
             `cargo xtask tools --install` installs them"
        )
    })?;
    Ok(wheels.join("ocpp"))
}

fn installed(library: &Path) -> Result<Option<PathBuf>> {
    if !library.is_dir() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(library)? {
        let package = entry?.path().join("site-packages/ocpp");
        if package.join("v21/schemas").is_dir() {
            found.push(package);
        }
    }
    found.sort();
    Ok(found.pop())
}

fn download(wheels: &Path) -> Result<()> {
    std::fs::create_dir_all(wheels)?;
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
        .arg(wheels)
        .arg(PACKAGE))?;
    let wheel = std::fs::read_dir(wheels)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .context("pip left no wheel behind")?;
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(wheels))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed with {status}");
    }
    Ok(())
}
