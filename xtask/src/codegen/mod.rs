//! `cargo xtask codegen`: the types of crate `switchboard-messages`, made from the official schemas.
//!
//! The schemas come from PyPI and are neither committed nor copied: no text of theirs gets into the output, only names
//! and limits. What is wrong or missing in them stands in `errata`.

/// Adds a line to a text.
macro_rules! line {
    ($text:expr, $($part:tt)*) => {{
        $text.push_str(&format!($($part)*));
        $text.push('\n');
    }};
}

/// Adds to a line.
macro_rules! piece {
    ($text:expr, $($part:tt)*) => { $text.push_str(&format!($($part)*)) };
}

mod errata;
mod model;
mod names;
mod source;
mod tables;
mod types;

use anyhow::{Context, Result, bail, ensure};
use errata::Sender;
use model::Model;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tables::Tables;
use types::{GENERATED, Types};

const VERSIONS: [&str; 3] = ["v16", "v201", "v21"];

/// Generates, or with `check` compares with what is committed.
pub(super) fn run(check: bool) -> Result<()> {
    let root = root()?;
    let folder = root.join("crates/messages/src/generated");
    let mut files = BTreeMap::new();
    for (name, text) in generate(&root)? {
        files.insert(folder.join(&name), format(&text).with_context(|| format!("rustfmt refuses {name}"))?);
    }
    if check { compare(&folder, &files) } else { write(&folder, &files) }
}

fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask has no folder above it")?.to_owned())
}

/// The files by their path below the folder, not yet formatted.
fn generate(root: &Path) -> Result<BTreeMap<String, String>> {
    let package = source::package(root)?;
    let mut files = BTreeMap::new();
    let mut modules = format!(
        "//! What `cargo xtask codegen` makes from the official schemas.\n{GENERATED}\npub(crate) mod actions;\n"
    );
    let mut actions = format!(
        "//! The actions of all versions.\n{GENERATED}\nuse crate::actions::ActionInfo;\nuse crate::contract::Sender::{{Csms, Either, Station}};\n"
    );
    for version in VERSIONS {
        let mut schemas = source::load(&package, version)?;
        errata::correct(version, &mut schemas)?;
        let model = Model::build(version, &schemas)?;
        let types = Types { model: &model };
        let schema = Tables::build(&model).emit(&model);
        for (file, about, text) in [
            ("enumerations", "Enumerations.", types.enumerations()?),
            ("objects", "Objects that messages are made of.", types.objects()?),
            ("requests", "Requests.", types.messages(false)?),
            ("responses", "Responses.", types.messages(true)?),
            ("schema", "The schemas as tables.", schema),
        ] {
            files.insert(format!("{version}/{file}.rs"), format!("//! {about}\n{GENERATED}\n{text}"));
        }
        files.insert(format!("{version}/mod.rs"), types.root());
        line!(modules, "#[cfg(feature = \"{version}\")]\npub mod {version};");
        actions.push_str(&action_table(&model));
    }
    files.insert("mod.rs".to_owned(), modules);
    files.insert("actions.rs".to_owned(), actions);
    Ok(files)
}

fn action_table(model: &Model) -> String {
    let mut text = format!("\npub(crate) static {}: &[ActionInfo] = &[\n", model.version.to_uppercase());
    let mut names: Vec<&str> = model.messages.iter().map(|message| message.action.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let sender = match errata::sender(model.version, name) {
            Sender::Station => "Station",
            Sender::Csms => "Csms",
            Sender::Either => "Either",
        };
        let has_response = model.messages.iter().any(|message| message.is_response && message.action == name);
        line!(text, "ActionInfo {{ name: {name:?}, sender: {sender}, has_response: {has_response} }},");
    }
    text.push_str("];\n");
    text
}

/// Formats Rust text as the workspace does.
fn format(text: &str) -> Result<String> {
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config", "max_width=110,use_small_heuristics=Max"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start rustfmt")?;
    let mut input = rustfmt.stdin.take().context("rustfmt has no input")?;
    let text = text.to_owned();
    // Written from a thread of its own, since rustfmt may answer before it has read all.
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = rustfmt.wait_with_output()?;
    match writer.join() {
        Ok(written) => written?,
        Err(_) => bail!("writing to rustfmt failed"),
    }
    ensure!(output.status.success(), "rustfmt failed with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn write(folder: &Path, files: &BTreeMap<PathBuf, String>) -> Result<()> {
    for stale in committed(folder)?.into_iter().filter(|path| !files.contains_key(path)) {
        std::fs::remove_file(stale)?;
    }
    for (path, text) in files {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // Unchanged files keep their time, so that nothing is compiled again for nothing.
        if std::fs::read_to_string(path).ok().as_ref() != Some(text) {
            std::fs::write(path, text)?;
        }
    }
    Ok(())
}

fn compare(folder: &Path, files: &BTreeMap<PathBuf, String>) -> Result<()> {
    let mut stale: Vec<PathBuf> =
        committed(folder)?.into_iter().filter(|path| !files.contains_key(path)).collect();
    for (path, text) in files {
        if std::fs::read_to_string(path).ok().as_ref() != Some(text) {
            stale.push(path.clone());
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = stale.iter().map(|path| path.display().to_string()).collect();
    bail!("generated files are not what the schemas give; run `cargo xtask codegen`:\n{}", names.join("\n"))
}

fn committed(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(committed(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
