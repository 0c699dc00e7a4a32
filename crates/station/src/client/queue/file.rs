//! A queue in a file: what is added goes to its end, and what is of no use any more is left out now and then.
//!
//! A log and no database: a station writes a few hundred bytes per message, reads everything once at its start, and looks
//! for nothing in between; five hundred stations of a load test would be five hundred databases.

use super::{Change, Queue, QueueError, log};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Below this size nothing is rewritten.
const REWRITE_BYTES_MIN: u64 = 64 * 1024;

/// What was found when the file was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// How many changes were read.
    pub changes: usize,
    /// How many bytes at the end were no whole change and were cut off: what was being written when the machine stopped.
    pub cut_bytes: u64,
}

/// Keeps messages in a file, through restarts, kills and, unless [`without_sync`](Self::without_sync), power cuts.
///
/// Every change is written behind the others with its length and a checksum. What was written only in part is cut off at the
/// next start, and kept beside the file with the ending `.cut`. When more than half of a file of 64 KiB or more is of
/// no use any more, what is left is written into a new file that takes its place. While it is open it is locked, by a
/// file with the ending `.lock`. Only its owner may read it, since messages hold tags.
#[derive(Debug)]
pub struct FileQueue {
    path: PathBuf,
    pub(super) file: File,
    /// Where the last whole change ends.
    end: u64,
    changes: usize,
    sync: bool,
    recovered: Recovered,
    /// After a rewriting that failed: not again below this size.
    rewrite_from: u64,
    _lock: Lock,
}

/// Held as long as the queue is ours.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is being started at this moment has a copy of it until it runs
        // its own program. An error leaves the lock to the end of this process.
        drop(self.0.unlock());
    }
}

impl FileQueue {
    /// Opens the queue in this file, and makes it where there is none.
    ///
    /// # Errors
    /// When the file cannot be opened, is something else, or another process has it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, QueueError> {
        let path = path.into();
        let lock_path = beside(&path, "lock");
        let lock = private().open(&lock_path).map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(QueueError::InUse(path)),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let file = private().open(&path).map_err(failed("open", &path))?;
        Ok(Self {
            path,
            file,
            end: 0,
            changes: 0,
            sync: true,
            recovered: Recovered::default(),
            rewrite_from: REWRITE_BYTES_MIN,
            _lock: Lock(lock),
        })
    }

    /// Does not wait until the disk has what is written. Nothing is lost when the process is killed; a power cut may take
    /// the last messages.
    #[must_use]
    pub fn without_sync(mut self) -> Self {
        self.sync = false;
        self
    }

    /// What was found when it was loaded.
    #[must_use]
    pub const fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Writes behind what is there; when that fails, takes back what was written of it.
    fn write(&mut self, bytes: &[u8], sync: bool) -> io::Result<()> {
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(bytes));
        let written = match written {
            Ok(()) if sync => self.file.sync_data(),
            other => other,
        };
        if written.is_err() {
            // Half a change in the middle would hide all that comes later. Should this fail as well, the next
            // write still begins at `end`.
            drop(self.file.set_len(self.end));
        } else {
            self.end += bytes.len() as u64;
        }
        written
    }

    fn error(&self, doing: &'static str) -> impl FnOnce(io::Error) -> QueueError + use<> {
        failed(doing, &self.path)
    }

    fn replace(&mut self, bytes: &[u8]) -> Result<(), QueueError> {
        let path = beside(&self.path, "new");
        let mut file = private().open(&path).map_err(failed("open", &path))?;
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| if self.sync { file.sync_all() } else { Ok(()) })
            .and_then(|()| std::fs::rename(&path, &self.path));
        if let Err(source) = written {
            // Only tidying: it will be overwritten at the next try anyway.
            drop(std::fs::remove_file(&path));
            return Err(failed("rewrite", &self.path)(source));
        }
        self.file = file;
        self.end = bytes.len() as u64;
        if self.sync
            && let Some(folder) = self.path.parent()
        {
            // Not every system can sync a folder; the old file, which it would then show, is complete as well.
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            drop(File::open(folder).and_then(|folder| folder.sync_all()));
        }
        Ok(())
    }
}

impl Queue for FileQueue {
    fn load(&mut self) -> Result<Vec<Change>, QueueError> {
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_end(&mut bytes))
            .map_err(self.error("read"))?;
        // Also a header may have been written only in part.
        if bytes.len() < log::HEADER.len() && log::HEADER.starts_with(&bytes) {
            self.end = 0;
            self.write(log::HEADER, self.sync).map_err(self.error("write to"))?;
            return Ok(Vec::new());
        }
        let Some(entries) = bytes.strip_prefix(log::HEADER) else {
            return Err(QueueError::NotAQueue(self.path.clone()));
        };
        let (changes, whole) = log::read(entries);
        let torn = entries.get(whole..).unwrap_or_default();
        self.end = (log::HEADER.len() + whole) as u64;
        self.changes = changes.len();
        self.recovered = Recovered { changes: changes.len(), cut_bytes: torn.len() as u64 };
        if !torn.is_empty() {
            let cut = beside(&self.path, "cut");
            tracing::warn!(
                queue = %self.path.display(), bytes = torn.len(), kept_in = %cut.display(),
                "the end of the queue was not written completely and is cut off"
            );
            // For people only; when it cannot be kept, the log has said what there was.
            drop(private().truncate(true).open(&cut).and_then(|mut file| file.write_all(torn)));
            self.file.set_len(self.end).map_err(self.error("cut"))?;
        }
        Ok(changes)
    }

    fn append(&mut self, changes: &[Change]) -> Result<(), QueueError> {
        let mut bytes = Vec::new();
        for change in changes {
            log::write(&mut bytes, change).map_err(|error| self.error("write to")(error.into()))?;
        }
        // That a message is done may get lost in a power cut: then it is sent once more, and recognised.
        let sync =
            self.sync && changes.iter().any(|change| matches!(change, Change::Added(_) | Change::Open(_)));
        self.write(&bytes, sync).map_err(self.error("write to"))?;
        self.changes += changes.len();
        Ok(())
    }

    fn rewrite(&mut self, changes: &[Change]) -> Result<(), QueueError> {
        let mut bytes = log::HEADER.to_vec();
        for change in changes {
            log::write(&mut bytes, change).map_err(|error| self.error("write to")(error.into()))?;
        }
        if let Err(error) = self.replace(&bytes) {
            self.rewrite_from = self.end.saturating_mul(2);
            return Err(error);
        }
        self.changes = changes.len();
        self.rewrite_from = REWRITE_BYTES_MIN;
        Ok(())
    }

    fn wants_rewrite(&self, live: usize) -> bool {
        self.end >= self.rewrite_from && live * 2 < self.changes
    }

    fn is_durable(&self) -> bool {
        true
    }
}

/// Read and write, made where it is not there, for its owner only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> QueueError + use<> {
    let path = path.to_owned();
    move |source| QueueError::Io { doing, path, source }
}
