//! What can go wrong with the store, by who must act.

use std::path::PathBuf;
use std::sync::Arc;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("{} is in use by another process; stop it, or reach the data through its API", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// It was written by a later version of this program.
    #[error(
        "{} has schema version {found}, and this program knows versions up to {known}; use a newer program",
        path.display()
    )]
    NewerSchema {
        /// Which file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// It is an SQLite database of some other program.
    #[error("{} is a database of another program", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// It is no database, or a damaged one.
    #[error("{} is damaged: {detail}; nothing was changed. Restore a copy of it, or save what can still be read: switchboard \
         salvage. Docs: operating.md, \"A database is damaged\"", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file system refused.
    #[error("cannot open {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused for another reason.
    #[error("cannot open {}", path.display())]
    Sql {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A new file could not be made.
    #[error("a new database cannot be made")]
    Create(#[from] rusqlite::Error),
}

/// Why something was not stored or not read. Nothing of it is in the books.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No room on the disk, or the quota is used up. Works again when there is room.
    #[error("the disk is full")]
    Full,
    /// The disk failed.
    #[error("the disk failed")]
    Io(#[source] Arc<rusqlite::Error>),
    /// The disk failed for another call of the same commit.
    #[error("the disk failed for another call of the same commit")]
    RolledBack,
    /// What is stored cannot be read.
    #[error("the database is damaged")]
    Damaged(#[source] Arc<rusqlite::Error>),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The work itself went wrong; a mistake of ours.
    #[error("an operation panicked")]
    Panicked,
    /// What was asked for cannot be done.
    #[error("{0}")]
    Invalid(String),
    /// SQLite refused for another reason.
    #[error("a statement failed")]
    Sql(#[source] Arc<rusqlite::Error>),
}

impl StoreError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Full | Self::Io(_) | Self::RolledBack | Self::Sql(_) => true,
            Self::Damaged(_) | Self::Closed | Self::Panicked | Self::Invalid(_) => false,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => Self::Io(Arc::new(error)),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(Arc::new(error)),
            _ => Self::Sql(Arc::new(error)),
        }
    }
}
