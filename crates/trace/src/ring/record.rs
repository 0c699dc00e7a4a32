//! A record of a segment: its length, a checksum, what filters ask for, and the line.
//!
//! ```text
//! length u32 | CRC-32 of the rest u32 | time i64 | latency u32 | flags u8 | version u8 | station length u16
//! | action length u16 | station | action | line          (little-endian; the length is that of all after the checksum)
//! ```

use crate::entry::{Direction, Head};
use std::time::Duration;
use switchboard_rpc::Version;

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) line: &'a str,
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    Record(Stored<'a>),
    /// There is nothing more.
    End,
    /// What is there cannot be read.
    Damaged,
}

/// Appends a record.
pub(crate) fn write(head: &Head<'_>, line: &str, out: &mut Vec<u8>) {
    let cut = |text: Option<&str>| {
        let text = text.unwrap_or_default();
        text[..text.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
    };
    let (station, action) = (cut(head.station), cut(head.action));
    let start = out.len();
    out.extend([0; PREFIX_BYTES]);
    out.extend(head.time_ms.to_le_bytes());
    let latency = head.latency.map_or(NO_LATENCY, |latency| {
        u32::try_from(latency.as_micros()).unwrap_or(NO_LATENCY).min(NO_LATENCY - 1)
    });
    out.extend(latency.to_le_bytes());
    let direction = match head.direction {
        None => 0,
        Some(Direction::In) => IN,
        Some(Direction::Out) => OUT,
    };
    out.push(
        direction
            | if head.is_error { ERROR } else { 0 }
            | if head.is_for_all { FOR_ALL } else { 0 }
            | if head.station.is_some() { STATION } else { 0 }
            | if head.action.is_some() { ACTION } else { 0 },
    );
    let version = head.version.and_then(|version| Version::ALL.iter().position(|one| *one == version));
    out.push(version.map_or(0, |index| u8::try_from(index + 1).unwrap_or(0)));
    for name in [&station, &action] {
        out.extend(u16::try_from(name.len()).unwrap_or(0).to_le_bytes());
    }
    for text in [&*station, &*action, line] {
        out.extend(text.as_bytes());
    }
    let rest = &out[start + PREFIX_BYTES..];
    let (length, sum) = (u32::try_from(rest.len()).unwrap_or(0), crc32fast::hash(rest));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Reads the record at the beginning of some bytes, and how many it takes.
pub(crate) fn read(bytes: &[u8]) -> (Next<'_>, usize) {
    let Some((length, rest)) = number::<4>(bytes).map(|(n, rest)| (u32::from_le_bytes(n) as usize, rest))
    else {
        // Less than a length: torn, or the end.
        return (Next::End, bytes.len());
    };
    if !(FIXED_BYTES..=FIXED_BYTES + 2 * NAME_BYTES_MAX + LINE_BYTES_MAX).contains(&length) {
        // A file system may leave zeros where a crash kept data from coming.
        let next = if bytes.iter().all(|byte| *byte == 0) { Next::End } else { Next::Damaged };
        return (next, bytes.len());
    }
    let torn = (Next::End, bytes.len());
    let Some((sum, rest)) = number::<4>(rest) else { return torn };
    let Some(rest) = rest.get(..length) else { return torn };
    let next = if crc32fast::hash(rest) == u32::from_le_bytes(sum) {
        contents(rest).map_or(Next::Damaged, Next::Record)
    } else {
        Next::Damaged
    };
    (next, PREFIX_BYTES + length)
}

fn contents(bytes: &[u8]) -> Option<Stored<'_>> {
    let (time, rest) = number::<8>(bytes)?;
    let (latency, rest) = number::<4>(rest)?;
    let ([flags, version], rest) = number::<2>(rest)?;
    let (station_bytes, rest) = number::<2>(rest)?;
    let (action_bytes, rest) = number::<2>(rest)?;
    let rest = std::str::from_utf8(rest).ok()?;
    let (station, rest) = rest.split_at_checked(u16::from_le_bytes(station_bytes).into())?;
    let (action, line) = rest.split_at_checked(u16::from_le_bytes(action_bytes).into())?;
    let latency = u32::from_le_bytes(latency);
    let is = |flag: u8| flags & flag != 0;
    Some(Stored {
        head: Head {
            time_ms: i64::from_le_bytes(time),
            station: is(STATION).then_some(station),
            version: usize::from(version).checked_sub(1).and_then(|index| Version::ALL.get(index)).copied(),
            action: is(ACTION).then_some(action),
            direction: if is(IN) { Some(Direction::In) } else { is(OUT).then_some(Direction::Out) },
            is_error: is(ERROR),
            latency: (latency != NO_LATENCY).then(|| Duration::from_micros(latency.into())),
            is_for_all: is(FOR_ALL),
        },
        line,
    })
}

fn number<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<N>()?;
    Some((*number, rest))
}

/// Bytes of a line; longer ones are not recorded.
pub(crate) const LINE_BYTES_MAX: usize = 8 << 20;
/// Bytes of a station or an action; longer ones are cut, for filters only.
const NAME_BYTES_MAX: usize = 1024;
const PREFIX_BYTES: usize = 8;
const FIXED_BYTES: usize = 18;
const NO_LATENCY: u32 = u32::MAX;
const IN: u8 = 1;
const OUT: u8 = 2;
const ERROR: u8 = 4;
const FOR_ALL: u8 = 8;
const STATION: u8 = 16;
const ACTION: u8 = 32;
