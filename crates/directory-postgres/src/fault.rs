//! What can go wrong at the server or on the way to it, and what the directory's user is told.

use std::error::Error as _;
use switchboard_directory::DirectoryError;
use tokio_postgres::error::SqlState;

/// Why an operation failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection is of no use any more; whether the server has done it nobody knows.
    Lost(String),
    /// The server says no.
    Sql(tokio_postgres::Error),
    /// We say no.
    Refused(DirectoryError),
}

/// A value in the database that cannot be.
pub(crate) fn damaged(detail: impl Into<String>) -> Fault {
    Fault::Refused(DirectoryError::Damaged { detail: detail.into() })
}

/// A bound of ours is reached.
pub(crate) fn full(what: &'static str) -> Fault {
    Fault::Refused(DirectoryError::Full(what.into()))
}

/// It cannot be reached.
pub(crate) fn away(why: impl Into<String>) -> DirectoryError {
    DirectoryError::Away(why.into().into())
}

impl Fault {
    /// Why, with all that the library knows, which tells the cause apart from itself.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Lost(why) => why.clone(),
            Self::Sql(error) => reason(error),
            Self::Refused(error) => error.to_string(),
        }
    }
}

fn reason(error: &tokio_postgres::Error) -> String {
    let Some(told) = error.as_db_error() else {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        return format!("{error}{cause}");
    };
    format!("{} ({})", told.message(), told.code().code())
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(code) = error.code() else {
            // Not the server's word, so it is about the connection; also what it sent that makes no sense.
            return Self::Lost(reason(&error));
        };
        let gone = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            // What we made is not there any more: connecting anew makes it again, or tells what is wrong.
            SqlState::UNDEFINED_TABLE,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ];
        if gone.contains(code) { Self::Lost(reason(&error)) } else { Self::Sql(error) }
    }
}

impl From<Fault> for DirectoryError {
    fn from(fault: Fault) -> Self {
        let error = match fault {
            Fault::Refused(error) => return error,
            Fault::Lost(why) => return away(why),
            Fault::Sql(error) => error,
        };
        let text = reason(&error);
        match error.code() {
            Some(&(SqlState::DISK_FULL | SqlState::OUT_OF_MEMORY)) => Self::Full(text.into()),
            Some(&(SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED)) => Self::Damaged { detail: text },
            _ => away(text),
        }
    }
}
