//! What the ring keeps on the disk, what it gives back, and what it gives up.

use super::*;
use crate::{Direction, Filter, Query};
use std::path::Path;
use switchboard_rpc::Version;

#[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of fake time")]
fn now() -> Instant {
    Instant::now()
}

fn ring(folder: &Path, bytes_max: u64) -> Ring {
    Ring::new(folder.to_owned(), bytes_max, Metrics::default())
}

fn head(number: i64) -> Head<'static> {
    Head {
        time_ms: number,
        station: Some(if number % 2 == 0 { "EVEN" } else { "ODD" }),
        version: Some(Version::V201),
        action: Some("MeterValues"),
        direction: Some(Direction::In),
        is_error: number % 10 == 0,
        latency: Some(Duration::from_micros(1_500)),
        is_for_all: false,
    }
}

/// Appends entries of these numbers, each in a write of its own.
fn append(ring: &mut Ring, numbers: std::ops::Range<i64>) {
    for number in numbers {
        ring.append(&head(number), &format!("{{\"n\":{number},\"x\":\"{}\"}}", "y".repeat(200)), now());
        ring.flush(now(), number);
    }
}

/// The numbers that a query finds, and the remarks on the way.
fn found(snapshot: &Snapshot, query: &Query) -> (Vec<i64>, Vec<String>) {
    let (mut numbers, mut remarks) = (Vec::new(), Vec::new());
    snapshot.look_back(query, &mut |found| {
        match found {
            LookBack::Found(Stored { head, line }) => {
                assert!(line.starts_with(&format!("{{\"n\":{},", head.time_ms)), "{line}");
                numbers.push(head.time_ms);
            }
            LookBack::Remark(remark) => remarks.push(remark),
        }
        true
    });
    (numbers, remarks)
}

fn all(folder: &Path) -> (Vec<i64>, Vec<String>) {
    found(&Snapshot::of(folder), &Query::default())
}

#[test]
fn what_was_recorded_is_found_again_by_time_by_filter_and_from_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut ring = ring(folder.path(), 64 << 20);
    append(&mut ring, 0..100);
    drop(ring);
    // Each process begins a segment of its own.
    let mut ring = self::ring(folder.path(), 64 << 20);
    append(&mut ring, 100..200);
    let snapshot = ring.snapshot();
    assert_eq!(snapshot.0.len(), 2);
    let range = |since_ms, until_ms| Query { since_ms, until_ms, ..Query::default() };
    let last = |last| Query { last: Some(last), ..Query::default() };
    let errors = |query: Query| Query { filter: Filter { errors: true, ..Filter::default() }, ..query };
    for (name, query, expected) in [
        ("all", Query::default(), (0..200).collect::<Vec<i64>>()),
        ("since", range(Some(150), None), (150..200).collect()),
        ("until", range(None, Some(49)), (0..50).collect()),
        ("between", range(Some(95), Some(104)), (95..105).collect()),
        ("the last", last(3), (197..200).collect()),
        ("the last over segments", last(150), (50..200).collect()),
        ("the last of fewer", last(500), (0..200).collect()),
        ("none of the last", last(0), vec![]),
        ("errors", errors(range(Some(150), None)), (15..20).map(|ten| ten * 10).collect()),
        ("the last errors", errors(last(2)), vec![180, 190]),
    ] {
        assert_eq!(found(&snapshot, &query), (expected, vec![]), "{name}");
    }
    // What is written after the snapshot is not in it.
    append(&mut ring, 200..201);
    assert_eq!(found(&snapshot, &last(1)).0, [199]);
}

#[test]
fn the_oldest_segments_go_and_the_ring_stays_within_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut ring = ring(folder.path(), 1 << 20);
    append(&mut ring, 0..8000);
    let on_disk: u64 = segment::list(folder.path()).iter().map(|(_, bytes)| bytes).sum();
    assert!(on_disk <= 1 << 20, "{on_disk}");
    assert_eq!(on_disk, ring.bytes);
    let (numbers, remarks) = all(folder.path());
    assert!(remarks.is_empty());
    assert_eq!(*numbers.last().unwrap(), 7999);
    assert!(
        numbers.len() > 3000 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{}",
        numbers.len()
    );
    // A smaller setting counts at once.
    drop(ring);
    let ring = self::ring(folder.path(), 128 << 10);
    assert!(ring.bytes <= 128 << 10);
    drop(ring);
    self::ring(folder.path(), 0);
    assert!(segment::list(folder.path()).is_empty(), "what is switched off keeps nothing");
}

#[test]
fn a_torn_end_is_passed_over_and_damage_costs_only_its_segment() {
    let folder = tempfile::tempdir().unwrap();
    for start in [0, 10, 20] {
        append(&mut ring(folder.path(), 64 << 20), start..start + 10);
    }
    let places: Vec<_> = segment::list(folder.path()).into_iter().map(|(place, _)| place.path).collect();
    let whole = fs::read(&places[1]).unwrap();
    // Torn at every byte: all before the tear is found, and nobody is told of it.
    for length in 0..whole.len() {
        fs::write(&places[1], &whole[..length]).unwrap();
        let (numbers, remarks) = all(folder.path());
        assert!(remarks.is_empty(), "{length}: {remarks:?}");
        let between = numbers.iter().filter(|number| (10..20).contains(*number)).count();
        assert_eq!(numbers.len(), 20 + between, "{length}");
    }
    fs::write(&places[1], [&whole[..], &[0; 512]].concat()).unwrap();
    assert_eq!(all(folder.path()), ((0..30).collect(), vec![]), "zeros after a power cut");
    // A changed byte, anywhere: what is found is right, and the other segments are whole.
    for at in (0..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 0x55;
        fs::write(&places[1], changed).unwrap();
        let (numbers, remarks) = all(folder.path());
        let others: Vec<_> = numbers.iter().filter(|number| !(10..20).contains(*number)).copied().collect();
        assert_eq!(others, (0..10).chain(20..30).collect::<Vec<_>>(), "{at}");
        assert!(numbers.len() < 30, "{at}: what was changed is not shown");
        // A length that was changed looks like a torn end if it is too long by little.
        for remark in remarks {
            assert!(remark.contains("is damaged") && remark.contains("\"event\":\"damaged\""), "{remark}");
        }
    }
    let mut changed = whole;
    changed[60] ^= 1;
    fs::write(&places[1], changed).unwrap();
    assert_eq!(all(folder.path()).1.len(), 1);
}

#[test]
fn where_nothing_can_be_written_the_ring_stops_once_and_goes_on_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("trace");
    fs::write(&place, "a file in the way").unwrap();
    let mut ring = ring(&place, 64 << 20);
    let mut at = now();
    let record = |ring: &mut Ring, at: Instant| {
        if !ring.is_recording(at) {
            ring.pass_over();
            return None;
        }
        ring.append(&head(1), "{\"n\":1,", at);
        ring.flush(at, 1)
    };
    assert_eq!(record(&mut ring, at), Some(News::Stopped));
    assert_eq!(record(&mut ring, at), None, "it is not even tried");
    at += RETRY_AFTER;
    assert_eq!(record(&mut ring, at), None, "it is said once");
    fs::remove_file(&place).unwrap();
    assert_eq!(record(&mut ring, at), None);
    at += RETRY_AFTER;
    assert_eq!(record(&mut ring, at), Some(News::Resumed(4)));
    assert_eq!(record(&mut ring, at), None);
    assert_eq!(found(&ring.snapshot(), &Query::default()).0.len(), 2);
}

#[test]
fn what_is_too_large_for_the_ring_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut ring = ring(folder.path(), 1 << 20);
    append(&mut ring, 0..2);
    ring.append(&head(2), &"x".repeat(1 << 19), now());
    ring.flush(now(), 2);
    append(&mut ring, 3..4);
    assert_eq!(all(folder.path()).0, [0, 1, 3]);
}
