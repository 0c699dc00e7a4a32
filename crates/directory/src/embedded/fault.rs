//! What can go wrong inside the database, and what its user is told.

use crate::DirectoryError;
use rusqlite::ErrorCode;

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite says so.
    Sql(rusqlite::Error),
    /// We say so.
    Refused(DirectoryError),
}

/// A value in the database that cannot be.
pub(super) fn damaged(detail: impl Into<String>) -> Fault {
    Fault::Refused(DirectoryError::Damaged { detail: detail.into() })
}

/// A bound of ours is reached.
pub(super) fn full(what: &'static str) -> DirectoryError {
    DirectoryError::Full(what.into())
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Fault> for DirectoryError {
    fn from(fault: Fault) -> Self {
        let error = match fault {
            Fault::Sql(error) => error,
            Fault::Refused(error) => return error,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(Box::new(error)),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { detail: error.to_string() }
            }
            // The shared memory file could not grow: the disk is full as well.
            _ if extended(&error) == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => Self::Full(Box::new(error)),
            _ => Self::Away(Box::new(error)),
        }
    }
}

fn extended(error: &rusqlite::Error) -> Option<std::ffi::c_int> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.extended_code),
        _ => None,
    }
}
