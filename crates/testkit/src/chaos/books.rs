//! What is in the books, by SQL, compared with what the stations did.

use super::fleet::{Billed, READINGS, STOP, Tally, identity, meter, minute, time};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// One row of the books about a transaction, or about a reading of it: as both kinds of database print it.
///
/// Columns: `charge`, identity, number, start time, start, end, ended; or `reading`, identity, number, time, energy.
pub(super) const CHARGES: &str = "SELECT 'charge', s.identity, c.id, coalesce(c.start_at, ''), coalesce(c.start_wh, ''), \
     coalesce(c.stop_wh, ''), c.ended FROM {schema}charge c JOIN {schema}station s ON s.id = c.station";
/// See [`CHARGES`].
pub(super) const READINGS_SQL: &str = "SELECT 'reading', s.identity, r.charge, r.at, coalesce(r.energy_wh, '') \
     FROM {schema}reading r JOIN {schema}station s ON s.id = r.station";

/// In bare mode: messages that functions were given more than once. Columns: `heard`, identity, message id, action, how often.
pub(super) const HEARD: &str = "SELECT 'heard', s.identity, h.id, h.action, count(*) FROM heard h \
     JOIN station s ON s.id = h.station GROUP BY s.identity, h.id, h.action HAVING count(*) > 1";

/// What the journal hands over again as long as it has no answer, as `docs/bare-mode.md` says.
const KEPT: [&str; 3] = ["MeterValues", "StatusNotification", "StopTransaction"];

/// What is wrong with the books.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) transactions: usize,
    pub(super) lost: Vec<String>,
    pub(super) doubled: Vec<String>,
    pub(super) wrong: Vec<String>,
}

#[derive(Debug)]
struct Charge {
    id: i64,
    start: String,
    stop: String,
    ended: bool,
}

/// Compares rows, each with `|` between its columns, with the tally.
pub(super) fn audit(rows: &str, tally: &Tally) -> Result<Audit> {
    let mut audit = Audit::default();
    let mut charges: BTreeMap<(&str, &str), Vec<Charge>> = BTreeMap::new();
    let mut readings: BTreeMap<(&str, i64, &str), Vec<&str>> = BTreeMap::new();
    for row in rows.lines().filter(|row| !row.is_empty()) {
        let columns: Vec<&str> = row.split('|').collect();
        let odd = || format!("an odd row: {row}");
        match columns[..] {
            ["charge", station, id, at, start, stop, ended] => {
                let charge = Charge {
                    id: id.parse().with_context(odd)?,
                    start: start.to_owned(),
                    stop: stop.to_owned(),
                    ended: !matches!(ended, "0" | "f" | "false"),
                };
                charges.entry((station, at)).or_default().push(charge);
            }
            ["reading", station, charge, at, energy] => {
                readings.entry((station, charge.parse().with_context(odd)?, at)).or_default().push(energy);
            }
            ["heard", station, id, action, times] => {
                if !KEPT.contains(&action) {
                    audit.doubled.push(format!("{station}: {action} {id} was handed over {times} times"));
                }
            }
            _ => anyhow::bail!(odd()),
        }
    }
    audit.transactions = charges.len();
    let mut expected = BTreeMap::new();
    for ((station, number), billed) in &tally.transactions {
        let (name, at) = (identity(*station), time(*number, 0));
        transaction(&mut audit, &name, &at, *number, billed, &charges, &readings);
        expected.insert((name, at), ());
    }
    for (station, at) in charges.keys() {
        if !expected.contains_key(&((*station).to_owned(), (*at).to_owned())) {
            audit.wrong.push(format!("{station} never began anything at {at}"));
        }
    }
    Ok(audit)
}

fn transaction(
    audit: &mut Audit,
    name: &str,
    at: &str,
    number: u32,
    billed: &Billed,
    charges: &BTreeMap<(&str, &str), Vec<Charge>>,
    readings: &BTreeMap<(&str, i64, &str), Vec<&str>>,
) {
    let rows = charges.get(&(name, at)).map(Vec::as_slice).unwrap_or_default();
    let about = format!("{name}, transaction {number}");
    let Some(charge) = rows.first() else {
        if billed.id != 0 {
            audit.lost.push(format!("{about}: answered with {}, and not in the books", billed.id));
        }
        return;
    };
    if rows.len() > 1 {
        audit.doubled.push(format!("{about}: {} times in the books: {rows:?}", rows.len()));
    }
    if billed.id != 0 && billed.id != charge.id {
        audit.wrong.push(format!("{about}: answered with {}, in the books as {}", billed.id, charge.id));
    }
    if !same(&charge.start, meter(number, 0)) {
        audit.wrong.push(format!("{about}: begins with {}", charge.start));
    }
    for reading in 1..=READINGS {
        let at = time(number, minute(reading));
        let rows = readings.get(&(name, charge.id, &*at)).map(Vec::as_slice).unwrap_or_default();
        match rows {
            [] if reading <= billed.readings => audit.lost.push(format!("{about}: reading {reading}")),
            [] => {}
            [energy] => {
                if !same(energy, meter(number, minute(reading))) || reading > billed.readings_sent {
                    audit.wrong.push(format!("{about}: reading {reading} is {energy}"));
                }
            }
            _ => audit.doubled.push(format!("{about}: reading {reading}, {} times", rows.len())),
        }
    }
    if billed.stopped && !charge.ended {
        audit.lost.push(format!("{about}: its end"));
    }
    if charge.ended && (!billed.stop_sent || !same(&charge.stop, meter(number, STOP))) {
        audit.wrong.push(format!("{about}: ends with {}", charge.stop));
    }
}

/// Whether a decimal text is this number.
fn same(text: &str, number: u32) -> bool {
    text.parse::<f64>().is_ok_and(|found| (found - f64::from(number)).abs() < 0.001)
}
