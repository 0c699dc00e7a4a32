//! Each promise has a test: `docs/promises.md` against the files that it names.

use crate::root;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;

/// Which ids there are: the letter and the numbers of its rows that are kept today.
const IDS: &[(char, &[u8])] = &[
    ('F', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]),
    ('H', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16]),
    ('C', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ('L', &[1, 2, 3, 4, 5, 6, 7, 8]),
    ('V', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ('S', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
];

/// Reports ids without a row, and rows without a test or with one that is not there.
pub(crate) fn look_at(faults: &mut Vec<String>) -> Result<()> {
    let table = fs::read_to_string(root().join(TABLE)).with_context(|| format!("there is no {TABLE}"))?;
    compare(&table, &|file| fs::read_to_string(root().join(file)).ok(), faults);
    Ok(())
}

fn compare(table: &str, read: &dyn Fn(&str) -> Option<String>, faults: &mut Vec<String>) {
    let rows: BTreeMap<&str, Vec<&str>> = table.lines().filter_map(row).collect();
    for id in IDS.iter().flat_map(|(letter, numbers)| numbers.iter().map(move |n| format!("{letter}{n:02}")))
    {
        if rows.get(&*id).is_none_or(Vec::is_empty) {
            faults.push(format!("{TABLE}: no test holds {id}"));
        }
    }
    for (id, tests) in rows {
        for test in tests {
            let there = test.rsplit_once("::").is_some_and(|(file, name)| {
                read(file).is_some_and(|text| text.contains(&format!("fn {name}(")) && names(&text, id))
            });
            if !there {
                faults
                    .push(format!("{TABLE}: {id} names `{test}`, which is not there or does not name {id}"));
            }
        }
    }
}

/// The id of a row of the table, and its tests.
fn row(line: &str) -> Option<(&str, Vec<&str>)> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    let (id, tests) = (cells.next()?, cells.next()?);
    let is_id = id.len() == 3 && id.starts_with(|first: char| first.is_ascii_uppercase());
    is_id.then(|| (id, tests.split('`').skip(1).step_by(2).collect()))
}

/// Whether a file of tests names an id, in a comment or in the name of a test; `h01_to_h05` names all five.
fn names(text: &str, id: &str) -> bool {
    let id = id.to_ascii_lowercase();
    let (letter, number) = id.split_at(1);
    let in_range = |range: &str| {
        let ends = range.split_once("_to_").and_then(|(first, rest)| {
            let last = rest.get(..3)?.strip_prefix(letter)?;
            Some((first.get(first.len().checked_sub(3)?..)?.strip_prefix(letter)?, last))
        });
        ends.is_some_and(|(first, last)| (first..=last).contains(&number))
    };
    text.to_ascii_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|word| word == id || word.split('_').any(|part| part == id) || in_range(word))
}

const TABLE: &str = "docs/promises.md";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_names_what_is_in_it_and_nothing_else() {
        let text =
            "fn h02_to_h05_the_first() {} // See C09, and S01.\n fn from_a_to_b() {} fn l01_l03_x() {}";
        for id in ["H02", "H03", "H05", "C09", "S01", "L01", "L03"] {
            assert!(names(text, id), "{id}");
        }
        for id in ["H01", "H06", "C02", "S02", "L02", "F01"] {
            assert!(!names(text, id), "{id}");
        }
    }

    #[test]
    fn a_promise_without_a_test_and_a_test_that_is_not_there_are_faults() {
        let read = |file: &str| (file == "a.rs").then(|| "fn f01_so_it_is() {}".to_owned());
        let check = |table: &str| {
            let mut faults = Vec::new();
            compare(table, &read, &mut faults);
            faults.into_iter().filter(|fault| fault.contains("F01")).count()
        };
        assert_eq!(check("| F01 | `a.rs::f01_so_it_is` |"), 0);
        for (name, table) in [
            ("no row", "| F02 | `a.rs::f01_so_it_is` |"),
            ("no test", "| F01 | |"),
            ("another test", "| F01 | `a.rs::f01_so_it_was` |"),
            ("another file", "| F01 | `b.rs::f01_so_it_is` |"),
        ] {
            assert_eq!(check(table), 1, "{name}");
        }
    }
}
