//! A process that dies in the middle of appending: what it was told is there, is there.

use super::{entry, key};
use crate::embedded::Config;
use crate::{Directory, Embedded};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const STATIONS: u64 = 8;
/// Where the child is to append to; set only for the child.
const CHILD: &str = "SWITCHBOARD_TEST_CRASH_DIR";

#[test]
#[expect(clippy::disallowed_methods, reason = "the child is this test again, told so by the environment")]
fn everything_that_was_told_is_there_after_a_kill() {
    if let Some(folder) = std::env::var_os(CHILD) {
        append_for_ever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut told: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for lines in [0, 1, 7, 50, 120, 300] {
        told.extend(killed_after(lines, folder.path()));
        let there = journal(folder.path());
        for (id, entry) in &told {
            assert_eq!(there.get(id), Some(entry), "entry {id} was told and is not there");
        }
        // What nobody was told of may be there too; each station's entries are without a gap, in order.
        let mut next = HashMap::new();
        for (station, seq) in there.values() {
            let expected = next.entry(*station).or_insert(0);
            assert_eq!(seq, expected, "station {station}");
            *expected += 1;
        }
    }
    assert!(told.len() >= 478, "{}", told.len());
}

/// What the child told before it was killed: by id the station and its seq.
fn killed_after(lines: usize, folder: &Path) -> Vec<(u64, (u64, u64))> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::tests::crash::everything_that_was_told_is_there_after_a_kill"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(numbers) = line.strip_prefix("appended ").and_then(|rest| rest.strip_suffix('.')) else {
            continue;
        };
        let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        told.push((numbers[0], (numbers[1], numbers[2])));
        // After that, what is in the pipe still counts.
        if told.len() > lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(killed, "the child ended by itself: {status}");
    told
}

fn journal(folder: &Path) -> BTreeMap<u64, (u64, u64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let directory = Embedded::open(&Config::in_dir(folder)).unwrap();
    let entries = runtime.block_on(directory.journal_read(None, 0, usize::MAX)).unwrap();
    runtime.block_on(directory.close()).unwrap();
    entries
        .into_iter()
        .map(|entry| (entry.id, (entry.key.station.as_str()[2..].parse().unwrap(), entry.seq)))
        .collect()
}

/// Several at once, so that they share transactions.
fn append_for_ever(folder: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let directory = Arc::new(Embedded::open(&Config::in_dir(folder)).unwrap());
    for station in 0..STATIONS {
        let directory = Arc::clone(&directory);
        drop(runtime.spawn(async move {
            let name = format!("CP{station}");
            let mut seq = directory.journal_count(Some(&key(&name))).await.unwrap();
            loop {
                let id = directory.journal_append(entry(&name, seq)).await.unwrap();
                // One write per line, so that a kill leaves whole lines, or part of the last one.
                let line = format!("appended {id} {station} {seq}.\n");
                std::io::stdout().write_all(line.as_bytes()).unwrap();
                seq += 1;
            }
        }));
    }
    loop {
        std::thread::park();
    }
}
