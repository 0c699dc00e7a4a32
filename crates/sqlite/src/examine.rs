//! A look at a database file before SQLite opens it.

use crate::create::beside;
use crate::log;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// What a look at a file has shown.
#[derive(Debug)]
#[non_exhaustive]
pub enum Examined {
    /// There is no such file, and nothing that belonged to one.
    Absent,
    /// Nothing speaks against opening it. What is wrong inside shows then.
    Sound,
    /// It is not what was written; opening it would hide that. In a clause for people.
    Damaged(String),
    /// A database of some other program.
    Foreign,
}

/// Looks at the file, and at the log that SQLite keeps beside it. To be called by the file's only owner, before it is opened.
///
/// `application` is what the program writes as `PRAGMA application_id`.
///
/// # Errors
/// When the file cannot be read.
pub fn examine(path: &Path, application: i32) -> std::io::Result<Examined> {
    if beside(path, "salvaged").exists() {
        return Ok(Examined::Damaged("a salvage of it was cut short; run it again".to_owned()));
    }
    let log_path = beside(path, "wal");
    let log_bytes = size(&log_path)?;
    let Some(bytes) = size(path)? else {
        return Ok(match log_bytes {
            Some(1..) => Examined::Damaged(format!(
                "the file is gone, but its log {} is there with what was stored last",
                log_path.display()
            )),
            _ => Examined::Absent,
        });
    };
    if !std::fs::metadata(path)?.is_file() {
        return Ok(Examined::Damaged("it is no file".to_owned()));
    }
    if bytes == 0 {
        return Ok(Examined::Damaged("it is empty: something has taken all that was in it".to_owned()));
    }
    let mut head = [0; HEAD];
    let mut file = File::open(path)?;
    match file.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Ok(Examined::Damaged(format!("it has {bytes} bytes, which is no database")));
        }
        Err(error) => return Err(error),
    }
    if !head.starts_with(MAGIC) {
        return Ok(Examined::Damaged("it does not begin as an SQLite database does".to_owned()));
    }
    let number = |at: usize| {
        head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    if number(68).cast_signed() != application {
        return Ok(Examined::Foreign);
    }
    if let Some(1..) = log_bytes {
        // With a log the file may lag behind it in every respect; whether the log itself is whole is what counts.
        return Ok(match log::check(&log_path)? {
            None => Examined::Sound,
            Some(fault) => Examined::Damaged(format!("its log {} is damaged: {fault}", log_path.display())),
        });
    }
    let page: u64 = match number(16) >> 16 {
        1 => 65_536,
        size => size.into(),
    };
    // The count of pages in the head holds if the last writer of the head knew of it.
    let pages = if number(24) == number(92) { u64::from(number(28)) } else { 0 };
    if bytes < pages * page {
        return Ok(Examined::Damaged(format!(
            "it was cut off: it has {bytes} bytes and should have {}",
            pages * page
        )));
    }
    Ok(Examined::Sound)
}

fn size(path: &Path) -> std::io::Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Bytes of a database's head.
const HEAD: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create;
    use rusqlite::Connection;
    use std::path::PathBuf;

    const OURS: i32 = 0x5377_5465;

    /// A database as a kill leaves it: rows in the file, rows in the log.
    fn killed(folder: &Path) -> PathBuf {
        let made = folder.join("made.db");
        create(&made, |connection| {
            connection.pragma_update(None, "application_id", OURS)?;
            connection.execute_batch("CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT)")
        })
        .unwrap();
        let connection = Connection::open(&made).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        for round in 0..40 {
            let text = "x".repeat(2000);
            connection.execute("INSERT INTO entry (text) VALUES (?1)", [text]).unwrap();
            if round == 20 {
                connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            }
        }
        let copy = folder.join("a.db");
        std::fs::copy(&made, &copy).unwrap();
        std::fs::copy(beside(&made, "wal"), beside(&copy, "wal")).unwrap();
        copy
    }

    fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn what_would_be_lost_in_silence_is_told() {
        type Spoil = fn(&Path);
        let cases: [(&str, Spoil, &str); 10] = [
            ("emptied", |path| edit(path, Vec::clear), "empty"),
            ("gone, with its log left", |path| std::fs::remove_file(path).unwrap(), "gone"),
            ("a few bytes", |path| edit(path, |bytes| bytes.truncate(50)), "50 bytes"),
            ("another kind of file", |path| std::fs::write(path, [b'x'; 9000]).unwrap(), "begin"),
            (
                "cut off",
                |path| {
                    std::fs::remove_file(beside(path, "wal")).unwrap();
                    edit(path, |bytes| bytes.truncate(bytes.len() - 4096));
                },
                "cut off",
            ),
            ("the log's head", |path| edit(&beside(path, "wal"), |bytes| bytes[20] ^= 1), "log"),
            ("an early frame of the log", |path| edit(&beside(path, "wal"), |bytes| bytes[900] ^= 1), "log"),
            (
                "a late frame of the log",
                |path| {
                    edit(&beside(path, "wal"), |bytes| {
                        let at = bytes.len() - 5 * 4120;
                        bytes[at] ^= 1;
                    });
                },
                "log",
            ),
            (
                "a log of other bytes",
                |path| std::fs::write(beside(path, "wal"), [b'x'; 9000]).unwrap(),
                "log",
            ),
            (
                "zeros in the log",
                |path| edit(&beside(path, "wal"), |bytes| bytes[8000..17_000].fill(0)),
                "log",
            ),
        ];
        for (name, spoil, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            let path = killed(folder.path());
            assert!(matches!(examine(&path, OURS).unwrap(), Examined::Sound), "{name}: before");
            spoil(&path);
            match examine(&path, OURS).unwrap() {
                Examined::Damaged(detail) => assert!(detail.contains(expected), "{name}: {detail}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_a_crash_leaves_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let path = killed(folder.path());
        let log_path = beside(&path, "wal");
        let whole = std::fs::read(&log_path).unwrap();
        // Cut anywhere, as a kill in the middle of a write leaves it.
        for cut in [0, 10, 32, 40, whole.len() / 2, whole.len() - 4119, whole.len() - 1] {
            std::fs::write(&log_path, &whole[..cut]).unwrap();
            assert!(matches!(examine(&path, OURS).unwrap(), Examined::Sound), "cut at {cut}");
        }
        // The last commit was being written: some of its sectors came to the disk, and some did not.
        let mut torn = whole.clone();
        let at = torn.len() - 2000;
        torn[at..at + 512].fill(0);
        std::fs::write(&log_path, &torn).unwrap();
        assert!(matches!(examine(&path, OURS).unwrap(), Examined::Sound));
        assert!(matches!(examine(&folder.path().join("none.db"), OURS).unwrap(), Examined::Absent));
        std::fs::write(&log_path, &whole).unwrap();
        assert!(matches!(examine(&path, OURS + 1).unwrap(), Examined::Foreign));
    }
}
