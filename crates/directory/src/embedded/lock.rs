//! One owner per data directory: a lock of the operating system, which a crash releases by itself.

use crate::DirectoryError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::Path;

/// Held as long as the data directory is ours.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes `file`'s lock file. Whose it is stands in there as a process id, for people; the lock is what counts. The
    /// file stays when the lock goes: removing it would let two processes lock two files of one name.
    pub(super) fn take(file: &Path) -> Result<Self, DirectoryError> {
        let path = file.with_added_extension("lock");
        let unusable =
            |source: std::io::Error| DirectoryError::Unusable { path: path.display().to_string(), source };
        let mut options = OpenOptions::new();
        let mut lock =
            options.create(true).read(true).write(true).truncate(false).open(&path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DirectoryError::Owned { path: file.display().to_string() });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // On a full disk there is no process id to read, and still a lock.
        if lock.set_len(0).and_then(|()| lock.rewind()).is_ok() {
            drop(writeln!(lock, "{}", std::process::id()));
        }
        Ok(Self(lock))
    }

    #[cfg(test)]
    pub(super) fn copy(&self) -> File {
        self.0.try_clone().unwrap()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is being started at this moment has a copy of it until it runs
        // its own program. An error leaves the lock to the end of this process.
        drop(self.0.unlock());
    }
}
