//! The ring on disk: segments of a folder, written one after another, the oldest dropped.
//!
//! A segment is only ever appended to, by one write per batch, and never again after its process ended: what a crash
//! left torn at its end stays there and is passed over. Nothing is synced; a power cut may cost the last seconds. What
//! cannot be written is not kept: the ring stops, says so once, and tries again after a while.

mod look_back;
mod record;
mod segment;

pub(crate) use look_back::{LookBack, Snapshot};
pub(crate) use record::Stored;
pub(crate) use segment::Place;

use crate::{entry::Head, metrics::Metrics};
use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Writes the ring. One at a time has the folder.
#[derive(Debug)]
pub(crate) struct Ring {
    folder: PathBuf,
    /// Bytes of all segments.
    bytes_max: u64,
    segments: VecDeque<(Place, u64)>,
    bytes: u64,
    current: Option<File>,
    next: u64,
    buffer: Vec<u8>,
    /// Records in the buffer.
    buffered: u64,
    /// When the buffer got its first record.
    buffered_at: Option<Instant>,
    stopped: Option<Stopped>,
    metrics: Metrics,
}

/// The disk took nothing more.
#[derive(Clone, Copy, Debug)]
struct Stopped {
    retry_at: Instant,
    unrecorded: u64,
}

/// What the ring has to tell beside what it records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It has just stopped.
    Stopped,
    /// It records again; so many entries were not.
    Resumed(u64),
}

impl Ring {
    /// Opens the ring of a folder, which is made if need be. A folder that cannot be used now may be later.
    pub(crate) fn new(folder: PathBuf, bytes_max: u64, metrics: Metrics) -> Self {
        let mut segments: VecDeque<_> = segment::list(&folder).into();
        let next = segments.back().map_or(1, |(place, _)| place.number + 1);
        // A setting that was made smaller counts at once, and one of nothing means that nothing is kept.
        let mut bytes: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
        while bytes > bytes_max
            && let Some((place, length)) = segments.pop_front()
        {
            bytes -= length;
            remove(&place);
        }
        metrics.ring_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Self {
            folder,
            bytes_max,
            segments,
            bytes,
            current: None,
            next,
            buffer: Vec::new(),
            buffered: 0,
            buffered_at: None,
            stopped: None,
            metrics,
        }
    }

    /// Whether entries are kept now. While the disk is full it is not worth making their lines.
    pub(crate) fn is_recording(&self, now: Instant) -> bool {
        self.bytes_max > 0 && self.stopped.is_none_or(|stopped| now >= stopped.retry_at)
    }

    /// An entry was not recorded, since the ring is not recording.
    pub(crate) const fn pass_over(&mut self) {
        if let Some(stopped) = &mut self.stopped {
            stopped.unrecorded += 1;
        }
    }

    /// Records an entry, which is on disk after the next flush.
    pub(crate) fn append(&mut self, head: &Head<'_>, line: &str, now: Instant) {
        if line.len() as u64 > self.bytes_max / 4 || line.len() > record::LINE_BYTES_MAX {
            // One alone would push out most of the others.
            self.metrics.unrecorded.inc();
            return;
        }
        record::write(head, line, &mut self.buffer);
        self.buffered += 1;
        self.buffered_at.get_or_insert(now);
    }

    /// When the buffer should be written at the latest.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let at = self.buffered_at?;
        Some(if self.buffer.len() >= BUFFER_BYTES { at } else { at + FLUSH_INTERVAL })
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&mut self, now: Instant, now_ms: i64) -> Option<News> {
        if self.buffer.is_empty() {
            return None;
        }
        let written = self.write(now_ms);
        let length = self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        self.buffered_at = None;
        let count = std::mem::take(&mut self.buffered);
        self.metrics.ring_bytes.set(i64::try_from(self.bytes).unwrap_or(i64::MAX));
        match written {
            Ok(()) => {
                self.metrics.recorded.inc_by(count);
                self.metrics.recorded_bytes.inc_by(length);
                let stopped = self.stopped.take()?;
                tracing::info!(unrecorded = stopped.unrecorded, "the trace is recorded again");
                Some(News::Resumed(stopped.unrecorded))
            }
            Err(error) => {
                self.metrics.unrecorded.inc_by(count);
                let is_new = self.stopped.is_none();
                if is_new {
                    tracing::warn!(
                        %error, folder = %self.folder.display(),
                        "the trace cannot be recorded; tried again every {} s. Nothing else is affected",
                        RETRY_AFTER.as_secs()
                    );
                }
                let unrecorded = self.stopped.map_or(0, |stopped| stopped.unrecorded) + count;
                self.stopped = Some(Stopped { retry_at: now + RETRY_AFTER, unrecorded });
                is_new.then_some(News::Stopped)
            }
        }
    }

    /// The segments as they are now, with what is flushed.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot(self.segments.iter().cloned().collect())
    }

    fn write(&mut self, now_ms: i64) -> io::Result<()> {
        let length = self.buffer.len() as u64;
        let is_full =
            |bytes: u64| bytes + length > segment_bytes(self.bytes_max) && bytes > segment::HEADER_BYTES;
        if self.current.is_some() && self.segments.back().is_some_and(|(_, bytes)| is_full(*bytes)) {
            self.current = None;
        }
        let needed = length + if self.current.is_some() { 0 } else { segment::HEADER_BYTES };
        while self.bytes + needed > self.bytes_max || self.segments.len() >= SEGMENTS_MAX {
            // The current one goes last of all, when the buffer alone is as large as the ring.
            let Some((place, bytes)) = self.segments.pop_front() else { break };
            self.bytes -= bytes;
            remove(&place);
            if self.segments.is_empty() {
                self.current = None;
            }
        }
        let file = match &mut self.current {
            Some(file) => file,
            None => {
                fs::create_dir_all(&self.folder)?;
                let place = Place::new(&self.folder, self.next, now_ms);
                let mut file = open_new(&place)?;
                self.next += 1;
                if let Err(error) = file.write_all(&segment::header()) {
                    remove(&place);
                    return Err(error);
                }
                self.segments.push_back((place, segment::HEADER_BYTES));
                self.bytes += segment::HEADER_BYTES;
                self.current.insert(file)
            }
        };
        if let Err(error) = file.write_all(&self.buffer) {
            // What was written of it goes, and with it the segment if there is nothing else in it, so that room comes
            // back; it is not written to any more in any case.
            if let Some((place, bytes)) = self.segments.back() {
                let bytes = *bytes;
                drop(file.set_len(bytes));
                if bytes <= segment::HEADER_BYTES {
                    remove(place);
                    self.bytes -= bytes;
                    self.segments.pop_back();
                }
            }
            self.current = None;
            return Err(error);
        }
        if let Some((_, bytes)) = self.segments.back_mut() {
            *bytes += length;
        }
        self.bytes += length;
        Ok(())
    }
}

/// Bytes of a segment: small enough that dropping the oldest costs little of the past.
fn segment_bytes(bytes_max: u64) -> u64 {
    (bytes_max / 16).clamp(64 << 10, 4 << 20)
}

fn open_new(place: &Place) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&place.path)
}

fn remove(place: &Place) {
    // Somebody may have cleared the folder.
    if let Err(error) = fs::remove_file(&place.path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, segment = %place.path.display(), "a segment of the trace cannot be removed");
    }
}

/// How often the buffer is written, if it does not fill before.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of the buffer that are written at once.
const BUFFER_BYTES: usize = 256 << 10;
/// How long the ring pauses after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Segments, which are many only if the process was started as often.
const SEGMENTS_MAX: usize = 4096;

#[cfg(test)]
mod tests;
