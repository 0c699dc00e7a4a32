//! `cargo xtask chaos`: runs cells of the kill matrix, keeps what they found, and writes the table of `docs/continuity.md`.
#![expect(clippy::print_stdout, reason = "a command-line tool talks to its user")]

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use switchboard_testkit::chaos::{Bus, CELLS, Cell, Plan, Servers, results, run};
use switchboard_testkit::tools;

#[derive(Debug, Parser)]
struct Arguments {
    /// The switchboard to be tried.
    #[arg(long)]
    binary: PathBuf,
    #[arg(long)]
    cell: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    bus: Vec<String>,
    #[arg(long)]
    list: bool,
    #[arg(long)]
    resume: bool,
    #[arg(long)]
    stations: usize,
    #[arg(long)]
    seed: u64,
    /// How the binary was built, for the document.
    #[arg(long)]
    build: String,
    /// Of which commit it is, for the document.
    #[arg(long)]
    commit: String,
    /// Where the table goes.
    #[arg(long, default_value = "docs/continuity.md")]
    document: PathBuf,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(chaos(&arguments))
}

async fn chaos(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = wanted(arguments)?;
    if arguments.list {
        for (cell, bus) in wanted {
            let note = cell.why_not(bus).map_or_else(String::new, |why| format!("  N/A: {why}"));
            println!("{:<26} {:<9} {}{note}", cell.name, bus.name(), cell.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let file = results(&tools::root());
    let folder = file.parent().context("no folder")?;
    std::fs::create_dir_all(folder)?;
    if !arguments.resume && arguments.cell.is_empty() && arguments.bus.is_empty() && file.exists() {
        std::fs::remove_file(&file)?;
    }
    let done = known(&file)?;
    let mut servers = Servers::new("chaos");
    let (mut failed, mut skipped) = (0, 0);
    for (cell, bus) in wanted {
        if cell.why_not(bus).is_some()
            || (arguments.resume && done.contains_key(&(cell.name.to_owned(), bus.name().to_owned())))
        {
            continue;
        }
        let plan = Plan {
            cell,
            bus,
            stations: arguments.stations,
            seed: arguments.seed,
            // A machine that is at its limit would measure its own queue.
            pause: if cell.is_measured(bus) {
                PAUSE.max(Duration::from_secs_f64(arguments.stations as f64 / MEASURED_RATE))
            } else {
                PAUSE
            },
            measured: true,
            binary: arguments.binary.clone(),
            build: arguments.build.clone(),
            commit: arguments.commit.clone(),
            logs: Some(folder.join("logs")),
        };
        match run(&mut servers, &plan).await {
            Ok(Some(findings)) => {
                println!("{}", findings.line());
                let mut known = std::fs::OpenOptions::new().create(true).append(true).open(&file)?;
                writeln!(known, "{}", findings.json())?;
                if !findings.is_good() {
                    failed += 1;
                    println!("{}", findings.details());
                }
            }
            Ok(None) => skipped += 1,
            Err(error) => {
                failed += 1;
                // What one cell did to the servers must not be the next one's trouble.
                servers = Servers::new("chaos");
                println!(
                    "FAILED {} {}: could not be run: {error:#}\nalone: cargo xtask chaos --cell {} --bus {} --seed {}",
                    cell.name,
                    bus.name(),
                    cell.name,
                    bus.name(),
                    arguments.seed
                );
            }
        }
    }
    let document = tools::root().join(&arguments.document);
    std::fs::write(&document, table(&known(&file)?)?)?;
    println!("{failed} failed, {skipped} skipped; written to {}", document.display());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wanted(arguments: &Arguments) -> Result<Vec<(Cell, Bus)>> {
    let mut cells = Vec::new();
    for name in &arguments.cell {
        cells.push(Cell::named(name).with_context(|| format!("no cell {name}; see --list"))?);
    }
    let mut buses = Vec::new();
    for name in &arguments.bus {
        buses.push(Bus::named(name).with_context(|| format!("no bus {name}; see --list"))?);
    }
    if cells.is_empty() {
        cells = CELLS.to_vec();
    }
    if buses.is_empty() {
        buses = Bus::ALL.to_vec();
    }
    if cells.is_empty() || buses.is_empty() {
        bail!("nothing to do");
    }
    Ok(buses.into_iter().flat_map(|bus| cells.iter().map(move |cell| (*cell, bus))).collect())
}

type Known = BTreeMap<(String, String), Value>;

/// The last result of each cell.
fn known(file: &Path) -> Result<Known> {
    let text = if file.exists() { std::fs::read_to_string(file)? } else { String::new() };
    let mut known = Known::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line)?;
        let name = |member: &str| value[member].as_str().unwrap_or_default().to_owned();
        known.insert((name("cell"), name("bus")), value);
    }
    Ok(known)
}

fn table(known: &Known) -> Result<String> {
    let mut text = String::from(INTRODUCTION);
    let of = |cell: &Cell, bus: Bus| known.get(&(cell.name.to_owned(), bus.name().to_owned()));
    text.push_str("\n## Overview\n\n| |");
    for bus in Bus::ALL {
        write!(text, " {} |", bus.name())?;
    }
    text.push_str("\n|---|---|---|---|---|---|---|\n");
    for cell in &CELLS {
        write!(text, "| {} |", cell.about)?;
        for bus in Bus::ALL {
            let shown = match (cell.why_not(bus), of(cell, bus)) {
                (Some(_), _) => "N/A".to_owned(),
                (None, None) => "not run".to_owned(),
                (None, Some(found)) => {
                    let gap = found["gapMs"].as_f64().unwrap_or_default() / 1000.0;
                    if found["good"] == true {
                        format!("kept, {gap:.1} s")
                    } else {
                        format!("**broken**, {gap:.1} s")
                    }
                }
            };
            write!(text, " {shown} |")?;
        }
        text.push('\n');
    }
    text.push_str(
        "\nThe seconds are the longest that any call waited for its answer. *optimised* binaries are the profile of this name, \
         *release* ones what is released, *debug* ones not optimised at all.\n",
    );
    for bus in Bus::ALL {
        let rows: Vec<_> = CELLS.iter().filter_map(|cell| Some((cell, of(cell, bus)?))).collect();
        if rows.is_empty() {
            continue;
        }
        write!(text, "\n## {}\n\n", bus.name())?;
        text.push_str(
            "| cell | answers | commands | sockets closed | lost | doubled | wrong or late | without outcome | silent | \
             invented | refused | unknown | longest gap | stations | binary |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for (cell, found) in rows {
            let closed = match found["codes"].as_str() {
                Some(codes) if !codes.is_empty() => format!("{} ({codes})", found["closed"]),
                _ => "0".to_owned(),
            };
            writeln!(
                text,
                "| `{}` | {} | {} | {closed} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2} s | {} | {} {} |",
                cell.name,
                found["answers"],
                found["commands"],
                found["lost"],
                found["doubled"],
                found["wrong"],
                found["withoutOutcome"],
                found["silent"],
                found["invented"],
                found["refused"],
                found["unknown"],
                found["gapMs"].as_f64().unwrap_or_default() / 1000.0,
                found["stations"],
                found["build"].as_str().unwrap_or("?"),
                found["commit"].as_str().unwrap_or("?"),
            )?;
        }
    }
    Ok(text)
}

/// How long a station rests between two calls, on average.
const PAUSE: Duration = Duration::from_secs(2);
/// How many stations go on after a rest in a second, where it is measured how long a call waits: about a hundred calls.
const MEASURED_RATE: f64 = 60.0;

const INTRODUCTION: &str = "\
# Continuity

What dies, and what that costs. `cargo xtask chaos` writes this file from what it measured; `--list` names the cells, and
`--cell NAME --bus NAME` runs one of them alone.

In each cell real gateways, three workers, a broker, a directory and the books (two PostgreSQL servers) run as processes of
their own, every two of them over a line that can be cut, held up or slowed down. Stations are in transactions and commands
go out to them all the time. Then something dies. Afterwards the stations' own books are compared, by SQL, with those of the
central system, and what senders of commands were told with what stations got. In bare mode there are functions of others
instead of workers, which keep their effects in a file that none of them owns; what is promised there is less, and said in
[bare-mode.md](bare-mode.md). Over HTTP there is no broker: *gateway and broker* are the lines over which gateways post calls to
workers, *workers and broker* those over which workers post commands to gateways.

- *lost*: answered and not in the books, or never answered.
- *doubled*: one message and two effects, or a command that a station got twice.
- *wrong or late*: an answer to nothing that was open, or not the answer to this, or one after more than 30 s.
- *without outcome*: a command whose sender was told nothing. *unknown* is an outcome: it was written, and nobody can say
  more.
- *silent*: a command that was lost without a word. Only in bare mode, where it is said to the broker and to no API of ours.
- *invented*: an outcome that the station does not confirm.
- *refused*: calls that were answered with an error. Promised is none, unless processing is away for longer than an answer
  may take (or, in bare mode, a call was lost); never before the deadline, and never a call about money.
- *sockets closed*: only where the gateway itself died (1006), or calls about money passed their deadline (1013: the station
  keeps them and sends them again).
";
