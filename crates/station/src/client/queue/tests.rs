//! What every queue promises, and what a file does when the machine does not keep its own promises.

use super::{Change, FileQueue, Kind, Open, Queue, QueueError, Record, log};
use std::{fs, path::PathBuf};

fn added(number: u64) -> Change {
    Change::Added(Record {
        number,
        transaction: format!("T{number}\"\u{e9}").into(),
        kind: [Kind::Start, Kind::Update, Kind::Reading, Kind::Stop][usize::try_from(number % 4).unwrap()],
        action: "TransactionEvent".into(),
        payload: format!(r#"{{"seqNo":{number},"x":[1.10,"\u00e9"]}}"#).into(),
    })
}

fn changes() -> Vec<Change> {
    let mut open = Open::new("T1".into());
    open.id = Some(-42);
    open.ended = true;
    open.seq_no = Some(7);
    vec![
        added(1),
        added(2),
        Change::Open(open),
        Change::Done(1),
        added(3),
        Change::Closed("T1".into()),
        Change::Open(Open::new("T2".into())),
        added(4),
    ]
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("CP1.queue")
    }

    fn open(&self) -> FileQueue {
        FileQueue::open(self.path()).unwrap()
    }
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let folder = Folder::new();
    let mut queue = folder.open();
    assert_eq!(queue.load().unwrap(), []);
    for change in changes() {
        queue.append(&[change]).unwrap();
    }
    drop(queue);
    let mut queue = folder.open();
    assert_eq!(queue.load().unwrap(), changes());
    assert_eq!(queue.recovered().cut_bytes, 0);
    queue.append(&[Change::Done(4), added(5)]).unwrap();
    drop(queue);
    assert_eq!(folder.open().load().unwrap().len(), changes().len() + 2);
}

#[test]
fn a_rewriting_leaves_what_it_is_given_and_goes_on() {
    let folder = Folder::new();
    let mut queue = folder.open();
    queue.load().unwrap();
    let mut number = 0;
    while !queue.wants_rewrite(1) {
        number += 1;
        queue.append(&[added(number)]).unwrap();
        queue.append(&[Change::Done(number)]).unwrap();
    }
    let before = fs::metadata(folder.path()).unwrap().len();
    queue.rewrite(&[added(number)]).unwrap();
    assert!(fs::metadata(folder.path()).unwrap().len() < before / 100);
    queue.append(&[added(number + 1)]).unwrap();
    drop(queue);
    assert_eq!(folder.open().load().unwrap(), [added(number), added(number + 1)]);
}

#[test]
fn wherever_the_last_write_was_torn_all_before_it_is_there() {
    let folder = Folder::new();
    let mut queue = folder.open();
    queue.load().unwrap();
    queue.append(&changes()).unwrap();
    drop(queue);
    let whole = fs::read(folder.path()).unwrap();
    for length in 0..whole.len() {
        fs::write(folder.path(), &whole[..length]).unwrap();
        let mut queue = folder.open();
        let loaded = queue.load().unwrap();
        assert!(changes().starts_with(&loaded), "cut at {length}");
        let cut = queue.recovered().cut_bytes;
        if length >= log::HEADER.len() {
            let left = fs::metadata(folder.path()).unwrap().len();
            assert_eq!(left + cut, length as u64, "cut at {length}");
        }
        // And it can be used.
        queue.append(&[added(9)]).unwrap();
        drop(queue);
        let again = folder.open().load().unwrap();
        assert_eq!(again.len(), loaded.len() + 1, "cut at {length}");
    }
    assert!(folder.0.path().join("CP1.queue.cut").exists(), "what was cut off is kept for people");
}

#[test]
fn a_changed_byte_is_noticed() {
    let folder = Folder::new();
    let mut queue = folder.open();
    queue.load().unwrap();
    queue.append(&changes()).unwrap();
    drop(queue);
    let mut bytes = fs::read(folder.path()).unwrap();
    let middle = bytes.len() - 10;
    bytes[middle] ^= 1;
    fs::write(folder.path(), bytes).unwrap();
    let mut queue = folder.open();
    assert_eq!(queue.load().unwrap(), changes()[..changes().len() - 1]);
    assert!(queue.recovered().cut_bytes > 10);
}

#[test]
fn another_process_and_another_file_are_told_apart() {
    let folder = Folder::new();
    let queue = folder.open();
    let Err(QueueError::InUse(_)) = FileQueue::open(folder.path()) else { panic!() };
    drop(queue);
    fs::write(folder.path(), "shopping list: milk, bread, more of both").unwrap();
    let Err(QueueError::NotAQueue(path)) = folder.open().load() else { panic!() };
    assert_eq!(path, folder.path());
    assert!(fs::read_to_string(path).unwrap().starts_with("shopping"), "and left alone");
}

/// Linux has a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_takes_nothing_and_loses_nothing() {
    let folder = Folder::new();
    let mut queue = folder.open();
    queue.load().unwrap();
    queue.append(&changes()).unwrap();
    // From here on the file is a device that has no room.
    let real =
        std::mem::replace(&mut queue.file, fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let Err(QueueError::Io { source, .. }) = queue.append(&[added(7)]) else { panic!() };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    queue.file = real;
    queue.append(&[added(8)]).unwrap();
    drop(queue);
    let loaded = folder.open().load().unwrap();
    assert_eq!((loaded.len(), loaded.last()), (changes().len() + 1, Some(&added(8))));
}
