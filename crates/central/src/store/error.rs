//! What can go wrong with the store, by who must act.

use super::postgres::Nature;
use super::sql::Error;
use std::path::PathBuf;
use std::sync::Arc;

/// What a database said, in its driver's words.
type Cause = Arc<dyn std::error::Error + Send + Sync>;

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
    /// The server in PostgreSQL's place refuses in a way that no waiting mends.
    #[error("the books in PostgreSQL ({server}) cannot be opened: {reason}")]
    Postgres {
        /// Its host and database.
        server: String,
        /// Why.
        reason: String,
    },
    /// No connection can ever be made by this address.
    #[error("the books in PostgreSQL cannot be opened: {reason}")]
    Address {
        /// Why.
        reason: String,
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
    Io(#[source] Cause),
    /// The disk failed for another call of the same commit.
    #[error("the disk failed for another call of the same commit")]
    RolledBack,
    /// What is stored cannot be read.
    #[error("the database is damaged")]
    Damaged(#[source] Cause),
    /// The database server cannot be reached. It is not known whether what was under way is stored.
    #[error("the database is away")]
    Away(#[source] Cause),
    /// Other processes were in the way for too long.
    #[error("another process holds what is needed")]
    Contended(#[source] Cause),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The work itself went wrong; a mistake of ours.
    #[error("an operation panicked")]
    Panicked,
    /// What was asked for cannot be done.
    #[error("{0}")]
    Invalid(String),
    /// The database refused for another reason.
    #[error("a statement failed")]
    Sql(#[source] Cause),
}

impl StoreError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Full
            | Self::Io(_)
            | Self::RolledBack
            | Self::Away(_)
            | Self::Contended(_)
            | Self::Sql(_) => true,
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

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::Sqlite(error) => return error.into(),
            Error::Postgres(error) => error,
        };
        match error.nature() {
            Nature::Away => Self::Away(Arc::new(error)),
            Nature::Contended => Self::Contended(Arc::new(error)),
            Nature::Full => Self::Full,
            Nature::Io => Self::Io(Arc::new(error)),
            Nature::Damaged => Self::Damaged(Arc::new(error)),
            Nature::Other => Self::Sql(Arc::new(error)),
        }
    }
}
