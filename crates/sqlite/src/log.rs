//! Whether a write-ahead log is whole, by SQLite's own checksums.
//!
//! SQLite reads its log up to the first frame whose checksum is wrong and takes the rest for the tail of a write that a
//! crash cut short. Where the rest was committed and synced, it would be lost without a word. The two can be told apart:
//! every commit is synced before the next one is begun, so that a committed frame which is followed by another frame was
//! on the disk, and so was everything before it.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

/// What is wrong with the log; none if what cannot be read of it was never committed.
pub(crate) fn check(path: &Path) -> std::io::Result<Option<String>> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut head = [0; HEAD];
    if !fill(&mut file, &mut head)? {
        // The head is synced before the first frame is written: nothing was in it yet.
        return Ok(None);
    }
    let big = match number(&head, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return Ok(Some("it does not begin as a log does".to_owned())),
    };
    let mut sum = Sum { big, one: 0, two: 0 };
    sum.add(head.get(..24).unwrap_or_default());
    if (sum.one, sum.two) != (number(&head, 24), number(&head, 28)) {
        return Ok(Some("the checksum of its head is wrong".to_owned()));
    }
    let salts = (number(&head, 16), number(&head, 20));
    let page = usize::try_from(number(&head, 8)).unwrap_or(usize::MAX).clamp(512, 65_536);
    let mut frame = vec![0; FRAME + page];
    let mut first_bad = None;
    // Behind the first bad frame: a commit that is surely of this log, so that a further frame proves that it was synced.
    let mut commit_behind = false;
    for index in 0_u64.. {
        if !fill(&mut file, &mut frame)? {
            break;
        }
        let ours = (number(&frame, 8), number(&frame, 12)) == salts && number(&frame, 0) != 0;
        if first_bad.is_none() {
            let (start, data) = frame.split_at_checked(FRAME).unwrap_or_default();
            sum.add(start.get(..8).unwrap_or_default());
            sum.add(data);
            if ours && (sum.one, sum.two) == (number(&frame, 16), number(&frame, 20)) {
                continue;
            }
            first_bad = Some(index);
        }
        if ours && commit_behind {
            let bad = first_bad.unwrap_or_default();
            return Ok(Some(format!("frame {bad} is not what was written, and committed ones follow it")));
        }
        commit_behind |= ours && number(&frame, 4) != 0;
    }
    Ok(None)
}

/// Reads as much as fits; whether there was so much.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The running checksum of SQLite's file format, section 4.2.
struct Sum {
    /// Whether words are read with the high byte first.
    big: bool,
    one: u32,
    two: u32,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            let word = |at: usize| {
                let bytes = pair.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 4]);
                if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
            };
            let (first, second) = (word(0), word(4));
            self.one = self.one.wrapping_add(first).wrapping_add(self.two);
            self.two = self.two.wrapping_add(second).wrapping_add(self.one);
        }
    }
}

const HEAD: usize = 32;
const FRAME: usize = 24;
