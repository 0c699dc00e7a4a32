//! Making a new database of what can still be read of a damaged one.
//!
//! Rows are read table by table from both ends towards the damage, and between damages by halving, so that one bad page
//! costs the rows on it and not those behind it. The damaged files stay, under another name.

use crate::create::{beside, create};
use crate::spare;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// What was saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// Table by table, those with rows.
    pub tables: Vec<SavedTable>,
    /// Where the damaged file is now.
    pub kept: PathBuf,
}

/// What was saved of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedTable {
    /// Its name.
    pub name: String,
    /// Rows that could be read.
    pub rows: u64,
    /// Whether reading went through without a fault. If not, there were more rows.
    pub whole: bool,
}

/// Puts a new database in the place of a damaged one, with all rows that can be read. To be called by the file's only
/// owner. The damaged one is kept beside it.
///
/// `fill` makes the tables of the new one, `after` may set it right when the rows are in.
///
/// # Errors
/// When nothing can be read at all, or the new one cannot be written. Then everything is as it was.
pub fn salvage<E: From<rusqlite::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut Connection) -> Result<(), E>,
    after: impl FnOnce(&Connection) -> Result<(), E>,
) -> Result<Saved, E> {
    let kept = free_name(path);
    // What is read is a copy: SQLite changes the files that it opens, and these may be all that there is.
    let copied = std::fs::copy(path, &kept).and_then(|_| match beside(path, "wal") {
        log if log.exists() => std::fs::copy(log, beside(&kept, "wal")).map(|_| ()),
        _ => Ok(()),
    });
    copied.map_err(file_error)?;
    let fresh = beside(path, "salvaged");
    drop(std::fs::remove_file(&fresh));
    let mut saved = Saved { kept: kept.clone(), ..Saved::default() };
    let made = create(&fresh, |new| {
        fill(new)?;
        let old = Connection::open(&kept)?;
        spare(&old, true)?;
        saved.tables = copy_all(&old, new)?;
        after(new)
    });
    if let Err(error) = made {
        for file in [kept.clone(), beside(&kept, "wal"), beside(&kept, "shm")] {
            drop(std::fs::remove_file(file));
        }
        return Err(error);
    }
    // From here on a crash leaves the new file beside the old one, which nobody opens then: see `examine`. The log goes
    // first, as it would be taken for that of the new file.
    for kind in ["wal", "shm"] {
        drop(std::fs::remove_file(beside(path, kind)));
    }
    std::fs::rename(&fresh, path).map_err(file_error)?;
    Ok(saved)
}

/// Copies the rows of all tables of the new database that the old one has too.
fn copy_all(old: &Connection, new: &Connection) -> rusqlite::Result<Vec<SavedTable>> {
    // Rows that others refer to may be gone.
    new.pragma_update(None, "foreign_keys", false)?;
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'sqlite_sequence'";
    let mut names = new.prepare(tables)?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    new.execute_batch("BEGIN")?;
    let mut tables = Vec::new();
    let mut readable = false;
    for name in names {
        let columns = columns(new, &name)?;
        let theirs = self::columns(old, &name).unwrap_or_default();
        let columns: Vec<String> = columns.into_iter().filter(|column| theirs.contains(column)).collect();
        if columns.is_empty() {
            continue;
        }
        readable = true;
        let mut table = Table { old, new, name: &name, columns: &columns, rows: 0, whole: true };
        table.copy()?;
        if table.rows > 0 || !table.whole {
            tables.push(SavedTable { rows: table.rows, whole: table.whole, name });
        }
    }
    if !readable {
        // Not even the list of its tables: that is the caller's to tell.
        old.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    keep_numbers(old, new)?;
    new.execute_batch("COMMIT")?;
    Ok(tables)
}

/// Has the new database go on where the old one was: numbers of removed rows are not given again. What cannot be read
/// of that is made up for by the rows themselves.
fn keep_numbers(old: &Connection, new: &Connection) -> rusqlite::Result<()> {
    let Ok(mut statement) = old.prepare("SELECT name, seq FROM sqlite_sequence") else { return Ok(()) };
    let Ok(rows) = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
    else {
        return Ok(());
    };
    for (name, number) in rows.flatten() {
        let sql = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
        if new.execute(sql, (&name, number))? == 0 {
            new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (&name, number))?;
        }
    }
    Ok(())
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut columns = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    columns.query_map([table], |row| row.get(0))?.collect()
}

struct Table<'a> {
    old: &'a Connection,
    new: &'a Connection,
    name: &'a str,
    columns: &'a [String],
    rows: u64,
    whole: bool,
}

impl Table<'_> {
    fn copy(&mut self) -> rusqlite::Result<()> {
        let has_rowid = self.new.prepare(&format!("SELECT rowid FROM \"{}\"", self.name)).is_ok();
        if has_rowid {
            return self.ranges();
        }
        // Without numbers to halve: from both ends.
        if self.read("", &[])?.is_err() {
            self.whole = false;
            let key: Vec<String> = self.key()?.iter().map(|column| format!("\"{column}\" DESC")).collect();
            // Whatever that brings.
            let _end = self.read(&format!("ORDER BY {}", key.join(", ")), &[])?;
        }
        Ok(())
    }

    fn key(&self) -> rusqlite::Result<Vec<String>> {
        let mut key = self.new.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
        key.query_map([self.name], |row| row.get(0))?.collect()
    }

    /// Reads the rows by their numbers, around what cannot be read: a range in which something cannot is read from both
    /// ends, and what lies between is halved, the largest ranges first.
    fn ranges(&mut self) -> rusqlite::Result<()> {
        let mut ranges = VecDeque::from([(i64::MIN, i64::MAX)]);
        // Where the root of a table is gone every range fails: then it is not worth while to halve for ever.
        for _ in 0..RANGES_MAX {
            let Some((low, high)) = ranges.pop_front() else { break };
            let from_low = self.read("WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid", &[low, high])?;
            let Err(last_low) = from_low else { continue };
            self.whole = false;
            let low = last_low.map_or(low, |last| last.saturating_add(1));
            let from_high = self.read("WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid DESC", &[low, high])?;
            let Err(last_high) = from_high else { continue };
            let high = last_high.map_or(high, |last| last.saturating_sub(1));
            if low < high {
                let middle = low.midpoint(high);
                ranges.push_back((low, middle));
                ranges.push_back((middle.saturating_add(1), high));
            }
        }
        Ok(())
    }

    /// Copies rows until there are no more, or one cannot be read: then the number of the last that could.
    fn read(&mut self, which: &str, bounds: &[i64]) -> rusqlite::Result<Result<(), Option<i64>>> {
        let list: Vec<String> = self.columns.iter().map(|column| format!("\"{column}\"")).collect();
        let list = list.join(", ");
        let marks = vec!["?"; self.columns.len()].join(", ");
        let mut put = self
            .new
            .prepare_cached(&format!("INSERT OR REPLACE INTO \"{}\" ({list}) VALUES ({marks})", self.name))?;
        let number = if bounds.is_empty() { "0" } else { "rowid" };
        let mut last = None;
        let sql = format!("SELECT {number}, {list} FROM \"{}\" {which}", self.name);
        let Ok(mut statement) = self.old.prepare(&sql) else { return Ok(Err(last)) };
        let Ok(mut rows) = statement.query(params_from_iter(bounds)) else { return Ok(Err(last)) };
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(Ok(())),
                Err(_) => return Ok(Err(last)),
            };
            let values: rusqlite::Result<Vec<Value>> =
                (1..=self.columns.len()).map(|column| row.get(column)).collect();
            let Ok(values) = values else { return Ok(Err(last)) };
            last = row.get(0).ok();
            match put.execute(params_from_iter(values)) {
                Ok(_) => self.rows += 1,
                // A row that the table does not allow was no row of it.
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    self.whole = false;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A name beside the file that nobody has: `central.db-damaged-1`.
fn free_name(path: &Path) -> PathBuf {
    (1_u32..)
        .map(|number| beside(path, &format!("damaged-{number}")))
        .find(|name| !name.exists())
        .unwrap_or_else(|| beside(path, "damaged"))
}

fn file_error(error: std::io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// How many ranges of a table are tried on the way to what can be read between two damages.
const RANGES_MAX: usize = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "CREATE TABLE entry (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL);
        CREATE TABLE station (name TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID;";

    fn fill(connection: &mut Connection) -> rusqlite::Result<()> {
        connection.execute_batch(TABLES)
    }

    #[test]
    fn one_bad_page_costs_the_rows_on_it_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        create(&path, fill).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        for number in 0..2000 {
            let text = format!("{number:0>180}");
            connection.execute("INSERT INTO entry (text) VALUES (?1)", [&text]).unwrap();
            connection.execute("INSERT INTO station VALUES ('S' || ?1, 'x')", [&text]).unwrap();
        }
        connection.execute_batch("COMMIT; DELETE FROM entry WHERE id = 2000;").unwrap();
        connection.close().unwrap();
        // A leaf of the table of entries, far from both ends.
        let mut bytes = std::fs::read(&path).unwrap();
        let needle = format!("{:0>180}", 1000);
        let found = |at: &usize| bytes[*at..].starts_with(needle.as_bytes()) && bytes[at - 1] != b'S';
        let at = (1..bytes.len()).find(found).unwrap();
        let page = at / 4096 * 4096;
        bytes[page..page + 4096].fill(0xa5);
        std::fs::write(&path, &bytes).unwrap();

        let saved = salvage(&path, fill, |_| Ok::<_, rusqlite::Error>(())).unwrap();
        let of = |name: &str| saved.tables.iter().find(|table| table.name == name).unwrap();
        let entries = of("entry");
        assert!(!entries.whole && (1940..1999).contains(&entries.rows), "{entries:?}");
        let stations = of("station");
        assert!(stations.rows >= 1900, "{stations:?}");
        let connection = Connection::open(&path).unwrap();
        let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        let ends: (i64, i64) = connection
            .query_row("SELECT min(id), max(id) FROM entry", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!(ends, (1, 1999));
        // The number of a removed entry is not given again.
        connection.execute("INSERT INTO entry (text) VALUES ('new')", []).unwrap();
        assert_eq!(connection.last_insert_rowid(), 2001);
        assert_eq!(std::fs::read(&saved.kept).unwrap(), bytes, "the damaged file is kept as it was");
    }

    #[test]
    fn a_table_whose_root_is_gone_is_given_up_and_the_others_are_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        create(&path, fill).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute("INSERT INTO entry (text) VALUES ('gone')", []).unwrap();
        connection.execute("INSERT INTO station VALUES ('S', 'x')", []).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'entry'";
        let root: usize = connection.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
        connection.close().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[(root - 1) * 4096..root * 4096].fill(0xa5);
        std::fs::write(&path, &bytes).unwrap();
        let saved = salvage(&path, fill, |_| Ok::<_, rusqlite::Error>(())).unwrap();
        let rows: Vec<_> = saved.tables.iter().map(|one| (&*one.name, one.rows, one.whole)).collect();
        assert_eq!(rows, [("entry", 0, false), ("station", 1, true)]);
    }

    #[test]
    fn where_nothing_can_be_read_everything_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let text = b"no database".repeat(1000);
        std::fs::write(&path, &text).unwrap();
        assert!(salvage(&path, fill, |_| Ok::<_, rusqlite::Error>(())).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), text);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
