//! What the embedded directory costs on this disk: `cargo run --release -p switchboard-directory --example directory_cost`.
//!
//! Its data go to a new folder below the current one, since a temporary folder is often memory.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;
use switchboard_bus::ConnectionKey;
use switchboard_directory::password::{Verifier, hash};
use switchboard_directory::{Account, Directory, Embedded, JournalEntry, StationKey, embedded::Config};
use switchboard_rpc::{StationId, Version};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(".")?;
    let directory = Arc::new(Embedded::open(&Config::in_dir(folder.path()))?);
    for tasks in [1, 10, 100, 1000] {
        let (begin, each) = (Instant::now(), 2000 / tasks + 5);
        let mut running = Vec::new();
        for task in 0..tasks {
            let directory = Arc::clone(&directory);
            running.push(tokio::spawn(async move {
                for seq in 0..each {
                    directory.journal_append(entry(key(task)?, seq)).await?;
                }
                Ok::<(), Failure>(())
            }));
        }
        for task in running {
            task.await??;
        }
        let rate = begin.elapsed() / u32::try_from(tasks * each)?;
        writeln!(std::io::stdout(), "{rate:>12.1?}  per journalled call, {tasks} at once")?;
    }
    let gateway = "gateway-1".into();
    let begin = Instant::now();
    for station in 0..10_000 {
        directory.claim(&key(station)?, &gateway, Version::V16.into(), 1_000).await?;
    }
    writeln!(std::io::stdout(), "{:>12.1?}  per claim, ten thousand stations", begin.elapsed() / 10_000)?;
    directory.close().await?;

    let account = Account { key: key(1)?, password: Some(hash(b"correct horse")?), created_ms: 0 };
    let verifier = Verifier::new()?;
    for time in ["first", "second"] {
        let begin = Instant::now();
        verifier.verify(&account, b"correct horse").await?;
        writeln!(std::io::stdout(), "{:>12.1?}  for a password, the {time} time", begin.elapsed())?;
    }
    Ok(())
}

fn key(station: u64) -> Result<StationKey, Failure> {
    Ok(StationKey { tenant: "default".into(), station: StationId::new(format!("CP{station:05}"), 48)? })
}

fn entry(key: StationKey, seq: u64) -> JournalEntry {
    JournalEntry {
        id: 0,
        key,
        version: Version::V16,
        connection: ConnectionKey { gateway: "gateway-1".into(), generation: 1_795_341_600_000 },
        seq,
        action: "MeterValues".into(),
        frame: vec![b' '; 600].into(),
        received_ms: 1_795_341_600_000,
    }
}
