//! Stations that charge, one transaction after another, and keep count of what they were answered.

use anyhow::Result;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_testkit::RawStation;
use tokio::task::JoinSet;

/// What was answered, by station and number of the transaction.
#[derive(Debug, Default)]
pub(crate) struct Count {
    answers: usize,
    transactions: BTreeMap<(usize, u32), Answered>,
}

#[derive(Debug, Default)]
struct Answered {
    id: i64,
    metered: bool,
    stopped: bool,
}

/// Stations at work, until this is dropped.
pub(crate) struct Fleet {
    pub(crate) count: Arc<Mutex<Count>>,
    stations: usize,
    _tasks: JoinSet<()>,
}

impl Fleet {
    /// Has so many stations connect to `url` (with `/` at its end) and charge.
    pub(crate) fn start(url: &str, stations: usize) -> Self {
        let count = Arc::new(Mutex::new(Count::default()));
        let mut tasks = JoinSet::new();
        for station in 0..stations {
            tasks.spawn(charge(format!("{url}F{station}"), station, Arc::clone(&count)));
        }
        Self { count, stations, _tasks: tasks }
    }

    pub(crate) fn answers(&self) -> usize {
        self.count.lock().unwrap().answers
    }

    /// Compares a copy of the books with the count: all that was answered is there, exactly once, and the file is sound.
    pub(crate) fn audit(&self, data: &Path) -> Result<usize> {
        let copy = tempfile::tempdir()?;
        for entry in std::fs::read_dir(data)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), copy.path().join(entry.file_name()))?;
            }
        }
        for file in ["central.db", "directory.sqlite3"] {
            let sound: String =
                Connection::open(copy.path().join(file))?
                    .query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            assert_eq!(sound, "ok", "{file}");
        }
        let books = Connection::open(copy.path().join("central.db"))?;
        let mut charges = BTreeMap::new();
        let mut statement = books.prepare(
            "SELECT c.id, s.identity, c.start_at, c.start_wh, c.stop_wh, c.ended,
             (SELECT count(*) FROM known_reading r WHERE r.charge = c.id AND r.station = s.id)
             FROM charge c JOIN station s ON s.id = c.station",
        )?;
        let mut rows = statement.query([])?;
        let mut begun = Vec::new();
        while let Some(row) = rows.next()? {
            let (station, at): (String, String) = (row.get(1)?, row.get(2)?);
            begun.push((station.clone(), at.clone()));
            let energy: (Option<String>, Option<String>, bool) = (row.get(3)?, row.get(4)?, row.get(5)?);
            charges.insert(row.get::<_, i64>(0)?, (station, at, energy, row.get::<_, i64>(6)?));
        }
        begun.sort_unstable();
        let all = begun.len();
        begun.dedup();
        assert_eq!(begun.len(), all, "a transaction is booked twice");
        let count = self.count.lock().unwrap();
        for ((station, number), answered) in &count.transactions {
            let Some((of, at, (begin, end, ended), readings)) = charges.get(&answered.id) else {
                panic!("F{station} was told of transaction {}, which is not in the books", answered.id);
            };
            assert_eq!((of, at), (&format!("F{station}"), &time(*number, 0)));
            assert_eq!(begin.as_deref(), Some(&*meter(*number, 0).to_string()));
            if answered.metered {
                assert!(*readings >= 1, "the reading of {} was answered and is gone", answered.id);
            }
            if answered.stopped {
                assert!(*ended, "the end of {} was answered and is gone", answered.id);
                assert_eq!(end.as_deref(), Some(&*meter(*number, 900).to_string()));
            }
        }
        assert!(
            all <= count.transactions.len() + self.stations,
            "{all} booked, {} answered",
            count.transactions.len()
        );
        Ok(all)
    }
}

fn time(number: u32, minute: u32) -> String {
    format!(
        "2025-{:02}-{:02}T{:02}:{minute:02}:00Z",
        1 + number / 600 % 12,
        1 + number % 600 / 24,
        number % 24
    )
}

fn meter(number: u32, more: u32) -> u32 {
    number * 1000 + more
}

/// Charges for ever. Whatever is not answered is sent again, with a new id, on a new connection if need be.
async fn charge(url: String, station: usize, count: Arc<Mutex<Count>>) {
    let mut socket = None;
    let mut messages = 0_u32;
    for number in 0.. {
        let start = json!({
            "connectorId": 1, "idTag": "TAG", "timestamp": time(number, 0), "meterStart": meter(number, 0)
        });
        let answer = say(&mut socket, &url, &mut messages, "StartTransaction", &start).await;
        let id = answer["transactionId"].as_i64().expect("a transactionId");
        note(&count, station, number, |one| {
            assert!(one.id == 0 || one.id == id, "two ids for one transaction");
            one.id = id;
        });
        let values = json!({
            "connectorId": 1, "transactionId": id,
            "meterValue": [{ "timestamp": time(number, 10), "sampledValue": [{ "value": meter(number, 500).to_string() }] }]
        });
        say(&mut socket, &url, &mut messages, "MeterValues", &values).await;
        note(&count, station, number, |one| one.metered = true);
        let stop =
            json!({ "transactionId": id, "timestamp": time(number, 20), "meterStop": meter(number, 900) });
        say(&mut socket, &url, &mut messages, "StopTransaction", &stop).await;
        note(&count, station, number, |one| one.stopped = true);
    }
}

fn note(count: &Mutex<Count>, station: usize, number: u32, set: impl FnOnce(&mut Answered)) {
    let mut count = count.lock().unwrap();
    count.answers += 1;
    set(count.transactions.entry((station, number)).or_default());
}

/// Sends until there is an answer that is no error.
async fn say(
    socket: &mut Option<RawStation>,
    url: &str,
    messages: &mut u32,
    action: &str,
    payload: &Value,
) -> Value {
    loop {
        if socket.is_none() {
            *socket = RawStation::connect(url, &["ocpp1.6"]).await.ok().and_then(Result::ok);
        }
        if let Some(open) = socket {
            *messages += 1;
            match open.ask(&format!(r#"[2,"{messages}","{action}",{payload}]"#)).await {
                Ok(mut answer) if answer[0] == 3 => return answer[2].take(),
                Ok(_) => {}
                Err(_) => *socket = None,
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
