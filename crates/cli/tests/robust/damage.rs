//! Databases that are not what was written: told, left alone, saved as far as they can be read.

use crate::{BINARY, charging::Fleet, refused};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use switchboard_testkit::{RawStation, Switchboard, wait};
use tempfile::TempDir;

/// A data directory as a kill leaves it, with transactions and an account in it.
async fn killed() -> Result<(TempDir, usize)> {
    let mut server = Switchboard::start(BINARY, &["--log", "error"]).await?;
    let fleet = Fleet::start(&server.url(""), 4);
    let added = server.run(&["stations", "add", "KNOWN", "--no-password"]).await?;
    assert_eq!(added.code, 0, "{added:?}");
    wait::until("answers", async || (fleet.answers() > 120).then_some(())).await?;
    server.kill().await?;
    let folder = tempfile::tempdir()?;
    copy(&server.data_dir(), folder.path())?;
    let booked = fleet.audit(folder.path())?;
    Ok((folder, booked))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        // Folders hold what was looked at lately, and nothing of the books.
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// All files and what is in them, but for locks.
fn content(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut content = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // The index of the log is made anew at each start and holds nothing of its own.
        if path.is_file()
            && path.extension().is_none_or(|kind| kind != "lock" && kind != "db-shm" && kind != "sqlite3-shm")
        {
            content.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(content)
}

/// Runs the binary on this data directory to its end.
async fn ran(data: &Path, arguments: &[&str]) -> Result<(i32, String)> {
    let mut command = tokio::process::Command::new(BINARY);
    command.args(arguments).arg("--data-dir").arg(data).kill_on_drop(true);
    if arguments.first() == Some(&"run") {
        for flag in ["--listen", "--api-listen", "--admin-listen"] {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    let output = tokio::time::timeout(2 * wait::DEADLINE, command.output()).await.context("it runs")??;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned()))
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let mut bytes = std::fs::read(path)?;
    change(&mut bytes);
    Ok(std::fs::write(path, bytes)?)
}

#[tokio::test]
async fn a_damaged_database_is_told_with_what_to_do_and_never_begun_anew() -> Result<()> {
    let (sound, _) = killed().await?;
    type Spoil = fn(&Path, &str) -> Result<()>;
    let cases: [(&str, Spoil); 9] = [
        ("emptied", |folder, name| edit(&folder.join(name), Vec::clear)),
        ("another kind of file", |folder, name| {
            Ok(std::fs::write(folder.join(name), "a text of somebody\n".repeat(500))?)
        }),
        ("its first page overwritten", |folder, name| {
            edit(&folder.join(name), |bytes| bytes[..100].fill(0xa5))
        }),
        ("a database of another program", |folder, name| {
            for file in [name.to_owned(), format!("{name}-wal")] {
                drop(std::fs::remove_file(folder.join(file)));
            }
            rusqlite::Connection::open(folder.join(name))?.execute_batch("CREATE TABLE theirs (x)")?;
            Ok(())
        }),
        ("its log cut out in the middle", |folder, name| {
            edit(&folder.join(format!("{name}-wal")), |bytes| {
                let middle = bytes.len() / 2;
                bytes.drain(middle..middle + 4120);
            })
        }),
        ("a bit of its log flipped", |folder, name| {
            edit(&folder.join(format!("{name}-wal")), |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            })
        }),
        ("gone, and its log left", |folder, name| Ok(std::fs::remove_file(folder.join(name))?)),
        // What SQLite itself finds, and would write the log into when it closes the file.
        ("cut off, with a log beside it", |folder, name| {
            edit(&folder.join(name), |bytes| bytes.truncate(9_000))
        }),
        ("pages overwritten, with a log beside it", |folder, name| {
            edit(&folder.join(name), |bytes| bytes[8_192..].fill(0xa5))
        }),
    ];
    for name in ["central.db", "directory.sqlite3"] {
        for (what, spoil) in cases {
            // The directory's log has too few commits to tell a flipped bit from a write that was cut short.
            if name == "directory.sqlite3" && what.contains("its log") && what != "gone, and its log left" {
                continue;
            }
            let folder = tempfile::tempdir()?;
            copy(sound.path(), folder.path())?;
            spoil(folder.path(), name)?;
            let before = content(folder.path())?;
            let (code, said) = ran(folder.path(), &["run"]).await?;
            assert_eq!(code, 74, "{name}, {what}: {said}");
            assert!(said.contains(name), "{name}, {what}: {said}");
            assert!(said.contains("salvage") || said.contains("another"), "{name}, {what}: {said}");
            let changed: Vec<_> = content(folder.path())?
                .into_iter()
                .filter(|(path, bytes)| {
                    let file = path.file_name().unwrap_or_default().to_string_lossy();
                    file.starts_with(name) && before.get(path) != Some(bytes)
                })
                .map(|(path, _)| path)
                .collect();
            assert!(changed.is_empty(), "{name}, {what}: changed {changed:?}");
            let log = folder.path().join(format!("{name}-wal"));
            assert!(!before.contains_key(&log) || log.exists(), "{name}, {what}: its log is gone");
        }
    }
    // And the copy that nobody spoilt is fine.
    let mut server = Switchboard::start_in(BINARY, &[], sound.path()).await?;
    assert_eq!(server.terminate().await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_can_be_read_of_damaged_databases_is_saved_and_the_process_goes_on() -> Result<()> {
    let (folder, booked) = killed().await?;
    // A sound one is left alone.
    let (code, said) = ran(folder.path(), &["salvage"]).await?;
    assert_eq!((code, said.matches("left alone").count()), (0, 2), "{said}");
    // The first page of one table in each, when everything is in the file.
    for (name, table) in [("central.db", "status_change"), ("directory.sqlite3", "outbox")] {
        let path = folder.path().join(name);
        let connection = rusqlite::Connection::open(&path)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let root: u32 = connection.query_row(sql, [table], |row| row.get(0))?;
        drop(connection);
        edit(&path, |bytes| bytes[(root as usize - 1) * 4096..root as usize * 4096].fill(0xa5))?;
    }
    let (code, said) = ran(folder.path(), &["run"]).await?;
    assert_eq!(code, 74, "{said}");
    let (code, said) = ran(folder.path(), &["salvage", "--json"]).await?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(r#""damaged": true"#) && said.contains("-damaged-1"), "{said}");
    let mut server = Switchboard::start_in(BINARY, &[], folder.path()).await?;
    let mut station = RawStation::connect(&server.url("F0"), &["ocpp1.6"]).await?.map_err(refused)?;
    station.ask(r#"[2,"1","Heartbeat",{}]"#).await?;
    let list = server.run(&["transactions", "--json", "--limit", "1000"]).await?.json()?;
    let saved = list["transactions"].as_array().context("no list")?.len();
    assert_eq!(saved, booked, "transactions");
    assert_eq!(server.terminate().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_says_why_and_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    std::fs::write(&file, "")?;
    for (name, path, text) in [
        ("a file", file.clone(), "a directory is needed"),
        ("below a file", file.join("data"), "a directory is needed"),
    ] {
        let (code, said) = ran(&path, &["run"]).await?;
        assert_eq!(code, 69, "{name}: {said}");
        assert!(said.contains(text) && said.contains("--data-dir"), "{name}: {said}");
        assert!(!said.contains("away"), "{name}: {said}");
    }
    Ok(())
}
