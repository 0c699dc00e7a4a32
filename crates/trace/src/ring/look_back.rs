//! Reads what a ring has recorded.

use super::{
    Place, Stored,
    record::{self, Next},
    segment,
};
use crate::{Query, line::remark};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The segments of a ring at a moment, the oldest first, and how long they were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot(pub(crate) Vec<(Place, u64)>);

/// What a look back gives.
#[derive(Debug)]
pub(crate) enum LookBack<'a> {
    /// An entry that was asked for.
    Found(Stored<'a>),
    /// A line about the reading itself.
    Remark(String),
}

impl Snapshot {
    /// Of a folder into which nobody writes now.
    pub(crate) fn of(folder: &Path) -> Self {
        Self(segment::list(folder))
    }

    /// Gives what the query asks for, the oldest first, until it is told to stop. It reads files, one segment at a time.
    pub(crate) fn look_back(&self, query: &Query, give: &mut dyn FnMut(LookBack<'_>) -> bool) {
        let wanted = |stored: &Stored<'_>| {
            query.since_ms.is_none_or(|since| stored.head.time_ms >= since)
                && query.until_ms.is_none_or(|until| stored.head.time_ms <= until)
                && query.filter.wants(&stored.head)
        };
        let segments = self.between(query);
        // The newest so many: counted from the end first, so that nothing has to be kept.
        let (mut first, mut skip) = (0, 0);
        if let Some(last) = query.last {
            let mut counted = 0;
            for (index, (place, length)) in segments.iter().enumerate().rev() {
                if counted >= last {
                    first = index + 1;
                    break;
                }
                let mut here = 0;
                drop(each(place, *length, &mut |stored| {
                    here += usize::from(wanted(&stored));
                    true
                }));
                counted += here;
            }
            skip = counted.saturating_sub(last);
        }
        for (place, length) in segments.iter().skip(first) {
            let mut goes_on = true;
            let mut last_ms = place.begun_ms;
            let end = each(place, *length, &mut |stored| {
                last_ms = stored.head.time_ms;
                if !wanted(&stored) {
                    return true;
                }
                if skip > 0 {
                    skip -= 1;
                    return true;
                }
                goes_on = give(LookBack::Found(stored));
                goes_on
            });
            if goes_on && let Err(reason) = end {
                let name = place.path.file_name().unwrap_or_default().to_string_lossy();
                let reason = format!("the segment {name} of the record {reason}");
                goes_on = give(LookBack::Remark(remark("damaged", last_ms, &reason, None)));
            }
            if !goes_on {
                return;
            }
        }
    }

    /// The segments in which something of the time that is asked for can be.
    fn between(&self, query: &Query) -> &[(Place, u64)] {
        let segments = &self.0;
        // A segment ends before the next one begins.
        let first = query.since_ms.map_or(0, |since| {
            segments.iter().skip(1).take_while(|(place, _)| place.begun_ms < since).count()
        });
        &segments[first.min(segments.len())..]
    }
}

/// Gives each record of a segment until it is told to stop.
fn each(place: &Place, length: u64, give: &mut dyn FnMut(Stored<'_>) -> bool) -> Result<(), String> {
    let mut bytes = Vec::new();
    match File::open(&place.path) {
        Ok(file) => {
            if let Err(error) = file.take(length).read_to_end(&mut bytes) {
                return Err(format!("cannot be read: {error}"));
            }
        }
        // It was the oldest, and was dropped meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot be read: {error}")),
    }
    let header = segment::header();
    let Some(mut rest) = bytes.strip_prefix(&header[..]) else {
        // A crash may have left less than a header.
        return if header.starts_with(&bytes) {
            Ok(())
        } else {
            Err("is damaged from its beginning".to_owned())
        };
    };
    while !rest.is_empty() {
        let (next, taken) = record::read(rest);
        match next {
            Next::Record(stored) => {
                if !give(stored) {
                    return Ok(());
                }
            }
            Next::End => return Ok(()),
            Next::Damaged => {
                let at = bytes.len() - rest.len();
                return Err(format!("is damaged at byte {at}; what followed there is lost"));
            }
        }
        rest = &rest[taken..];
    }
    Ok(())
}
