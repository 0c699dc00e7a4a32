//! Rules of the house that no compiler knows: `cargo xtask tidy`.

use crate::{cargo, root};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Which crate of ours may use which, beside development dependencies. This *is* the picture of the layers: an edge
/// that is not here is refused, and one that is here and not used has to go.
const EDGES: &[(&str, &[&str])] = &[
    ("rpc", &[]),
    ("deflate", &[]),
    ("messages", &["rpc"]),
    ("sqlite", &[]),
    ("postgres", &[]),
    ("bus", &["rpc"]),
    ("bus-amqp", &["bus"]),
    ("nats", &["bus"]),
    ("bus-nats", &["rpc", "bus", "nats"]),
    ("bus-mqtt", &["rpc", "bus"]),
    ("directory-nats", &["rpc", "bus", "nats", "directory"]),
    ("bus-http", &["rpc", "bus"]),
    ("directory", &["rpc", "bus", "sqlite"]),
    ("directory-postgres", &["rpc", "bus", "directory", "postgres"]),
    ("router", &["rpc", "messages"]),
    ("worker", &["rpc", "bus", "router", "messages"]),
    ("gateway", &["rpc", "deflate", "bus", "directory"]),
    ("switchboard", &["rpc", "messages", "bus", "router", "worker", "station"]),
    ("central", &["rpc", "messages", "router", "sqlite", "postgres"]),
    ("station", &["rpc", "messages", "router", "deflate"]),
    ("trace", &["rpc", "gateway"]),
    ("api", &["rpc", "messages", "bus", "directory", "trace", "central"]),
    (
        "cli",
        &[
            "rpc",
            "sqlite",
            "messages",
            "bus",
            "bus-amqp",
            "bus-http",
            "bus-nats",
            "bus-mqtt",
            "directory",
            "directory-nats",
            "directory-postgres",
            "router",
            "worker",
            "gateway",
            "central",
            "station",
            "api",
            "trace",
        ],
    ),
    ("testkit", &[]),
    (
        "benches",
        &[
            "rpc",
            "deflate",
            "messages",
            "bus",
            "bus-amqp",
            "bus-mqtt",
            "bus-nats",
            "directory",
            "router",
            "worker",
            "gateway",
            "central",
            "testkit",
        ],
    ),
    ("xtask", &[]),
];

/// Libraries that would bring a clock, a socket or a runtime into the core. Its tests may have them.
const NOT_IN_THE_CORE: &[&str] = &[
    "tokio",
    "futures-util",
    "tracing",
    "fastrand",
    "uuid",
    "rusqlite",
    "hyper",
    "mio",
    "socket2",
    "async-trait",
];

/// Crates whose whole dependency list is looked at for [`NOT_IN_THE_CORE`].
const CORE: &[&str] = &["rpc", "messages"];

/// Of one machine only, or of one mirror of a registry. Split so that this file passes its own check.
const NOT_PORTABLE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("registry.npmjs", ".org"),
    concat!("files.pythonhosted", ".org"),
    concat!("deb.debian", ".org"),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    rust_version: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Looks at everything and reports all faults at once.
pub(crate) fn run() -> Result<()> {
    let metadata = metadata()?;
    let mut faults = Vec::new();
    edges(&metadata, &mut faults);
    for package in &metadata.packages {
        let manifest = fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("cannot read {}", package.manifest_path))?;
        if !inherits_lints(&manifest)? {
            faults.push(format!("{} does not say `[lints] workspace = true`", package.manifest_path));
        }
    }
    for file in tracked_files()? {
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue };
        look_at(&file, &text, &mut faults);
    }
    version_facts(&metadata, &mut faults)?;
    crate::tidy_promises::look_at(&mut faults)?;
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{}\n{} faults", faults.join("\n"), faults.len())
}

/// Compares the dependencies among our crates with the table.
fn edges(metadata: &Metadata, faults: &mut Vec<String>) {
    let table: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    for package in &metadata.packages {
        let from = short(&package.name);
        let Some(allowed) = table.get(from) else {
            faults.push(format!(
                "{from} is a new crate: give it a row in the table of edges in xtask/src/tidy.rs"
            ));
            continue;
        };
        let normal =
            || package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        let ours = normal().filter(|dependency| dependency.name.starts_with("switchboard-"));
        let used: BTreeSet<&str> = ours.map(|dependency| short(&dependency.name)).collect();
        for to in used.difference(allowed) {
            faults.push(format!("{from} must not depend on {to}: dependencies point downwards only"));
        }
        for to in allowed.difference(&used) {
            faults.push(format!("{from} does not use {to}: strike it from the table of edges"));
        }
        if CORE.contains(&from) {
            for dependency in normal().filter(|dependency| NOT_IN_THE_CORE.contains(&&*dependency.name)) {
                faults.push(format!("{from} must not depend on {}: the core has no I/O", dependency.name));
            }
        }
    }
}

/// Rules about the text of one file.
fn look_at(file: &str, text: &str, faults: &mut Vec<String>) {
    if !file.ends_with(".lock") && !file.starts_with("LICENSE") {
        for (number, line) in text.lines().enumerate() {
            for bad in NOT_PORTABLE.iter().filter(|bad| line.contains(**bad)) {
                faults.push(format!("{file}:{}: {bad} is not portable", number + 1));
            }
        }
    }
    if Path::new(file).extension().is_none_or(|extension| extension != "rs") {
        return;
    }
    let begins = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    if begins.is_some_and(|line| !line.starts_with("//!")) {
        faults.push(format!("{file}: does not begin with a `//!` line that says what it is"));
    }
    for (number, line) in text.lines().enumerate() {
        if line.split_once("//").is_some_and(|(_, comment)| names_an_issue(comment)) {
            faults.push(format!("{file}:{}: write the reason, not the number of an issue", number + 1));
        }
    }
}

/// Whether a comment points at an issue or pull request by number. Those of others are cited by `owner/name#number`.
fn names_an_issue(comment: &str) -> bool {
    let words: Vec<&str> = comment.split_whitespace().collect();
    let number = |word: &str| word.trim_end_matches(['.', ',', ')', ':']).parse::<u32>().is_ok();
    words.iter().any(|word| word.trim_start_matches('(').strip_prefix('#').is_some_and(number))
        || words.windows(2).any(|pair| {
            matches!(pair, [what, which]
                if matches!(what.to_ascii_lowercase().trim_start_matches('('), "issue" | "pr") && number(which))
        })
}

/// What README and the files beside it say of versions must be what is used.
fn version_facts(metadata: &Metadata, faults: &mut Vec<String>) -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md")).context("there is no README.md")?;
    let rust =
        metadata.packages.iter().find_map(|package| package.rust_version.as_deref()).unwrap_or_default();
    if !readme.contains(&format!("Rust {rust}")) {
        faults.push(format!("README.md does not name Rust {rust}, which Cargo.toml asks for"));
    }
    for command in ["cargo run --release -- run --demo 5", "cargo xtask test --install"] {
        if !readme.contains(command) {
            faults.push(format!("README.md lacks the command `{command}`"));
        }
    }
    let ci = fs::read_to_string(root().join(".ci/run")).context("there is no .ci/run")?;
    if !ci.contains("cargo xtask test --install") {
        faults.push(".ci/run does not run `cargo xtask test --install`".to_owned());
    }
    Ok(())
}

fn inherits_lints(manifest: &str) -> Result<bool> {
    let manifest: toml::Table = manifest.parse().context("a manifest is not TOML")?;
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    Ok(lints.and_then(toml::Value::as_bool).unwrap_or(false))
}

fn metadata() -> Result<Metadata> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata says")
}

/// All files that git knows, or would take.
fn tracked_files() -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .context("cannot run git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect())
}

fn short(package: &str) -> &str {
    package.strip_prefix("switchboard-").unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        look_at(file, text, &mut faults);
        faults
    }

    #[test]
    fn files_without_a_first_word_or_with_numbers_for_reasons_are_found() {
        let commented = |comment: &str| faults("a.rs", &["//! What.\n/", "/ ", comment, "\n"].concat()).len();
        assert_eq!(faults("a.rs", "#![forbid(unsafe_code)]\n//! What this is.\n"), Vec::<String>::new());
        assert_eq!(faults("a.rs", "use std::fmt;\n").len(), 1);
        assert_eq!(commented("see (#12), it broke"), 1);
        assert_eq!(commented("issue 7 asks for it"), 1);
        assert_eq!(commented("owner/name#12 has the story"), 0);
        assert_eq!(faults("a.md", concat!("run /wo", "rk/x\n")).len(), 1);
    }

    #[test]
    fn an_edge_upwards_is_refused() {
        let dependency = |name: &str| Dependency { name: name.to_owned(), kind: None };
        let package = |name: &str, dependencies| Package {
            name: name.to_owned(),
            manifest_path: String::new(),
            rust_version: None,
            dependencies,
        };
        let check = |package| {
            let mut faults = Vec::new();
            edges(&Metadata { packages: vec![package] }, &mut faults);
            faults
        };
        let rpc = "switchboard-rpc";
        assert!(check(package("switchboard-bus", vec![dependency(rpc)])).is_empty());
        let up = package("switchboard-bus", vec![dependency(rpc), dependency("switchboard-gateway")]);
        assert_eq!(check(up), ["bus must not depend on gateway: dependencies point downwards only"]);
        let clock = package(rpc, vec![dependency("tokio")]);
        assert_eq!(check(clock), ["rpc must not depend on tokio: the core has no I/O"]);
    }

    #[test]
    fn a_manifest_without_the_common_lints_is_found() {
        assert!(inherits_lints("[lints]\nworkspace = true\n").is_ok_and(|inherits| inherits));
        assert!(inherits_lints("[package]\nname = \"x\"\n").is_ok_and(|inherits| !inherits));
    }
}
