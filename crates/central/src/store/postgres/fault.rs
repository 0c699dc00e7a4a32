//! What PostgreSQL answered instead, by what follows from it.

use tokio_postgres::error::SqlState;

/// Why PostgreSQL did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be reached, or does not answer.
    #[error("PostgreSQL is away: {0}")]
    Away(String),
    /// What is in it was made by a later version of this program.
    #[error("{0}")]
    Newer(String),
    /// Something in the transaction failed before, and whoever asked for it went on.
    #[error("a statement failed before in the same transaction")]
    Spoilt,
    /// It refused.
    #[error("{}", words(.0))]
    Refused(#[from] tokio_postgres::Error),
}

/// What its driver prints is `db error`, and the rest stands in the source.
fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(refused) => match refused.detail() {
            Some(detail) => format!("{} ({detail})", refused.message()),
            None => refused.message().to_owned(),
        },
        None => super::super::writer::chain(error),
    }
}

/// What may be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Connect anew.
    Away,
    /// Another transaction was in the way; the same again may succeed at once.
    Contended,
    /// The disk is full.
    Full,
    /// The disk failed.
    Io,
    /// What is stored cannot be read.
    Damaged,
    /// None of these.
    Other,
}

impl Error {
    pub(crate) fn nature(&self) -> Nature {
        let error = match self {
            Self::Refused(error) => error,
            Self::Away(_) => return Nature::Away,
            Self::Spoilt | Self::Newer(_) => return Nature::Other,
        };
        let Some(code) = error.code() else {
            return if error.is_closed() || is_io(error) { Nature::Away } else { Nature::Other };
        };
        if *code == SqlState::DISK_FULL {
            Nature::Full
        } else if [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
        ]
        .contains(code)
        {
            Nature::Contended
        } else if *code == SqlState::IO_ERROR {
            Nature::Io
        } else if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) {
            Nature::Damaged
        } else if IS_AWAY.contains(code) || code.code().starts_with("08") {
            Nature::Away
        } else {
            Nature::Other
        }
    }

    /// Whether no later attempt can succeed, unless somebody changes the settings or the server.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Refused(error) => error.code().is_some_and(|code| LASTING.contains(code)),
            Self::Newer(_) => true,
            Self::Away(_) | Self::Spoilt => false,
        }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// The server goes, is not there yet, has thrown us out, or is one that only reads.
const IS_AWAY: &[SqlState] = &[
    SqlState::ADMIN_SHUTDOWN,
    SqlState::CRASH_SHUTDOWN,
    SqlState::CANNOT_CONNECT_NOW,
    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    SqlState::TOO_MANY_CONNECTIONS,
    SqlState::READ_ONLY_SQL_TRANSACTION,
];

/// Who we are, or where we want to go, is wrong.
const LASTING: &[SqlState] = &[
    SqlState::INVALID_PASSWORD,
    SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
    SqlState::INVALID_CATALOG_NAME,
    SqlState::INSUFFICIENT_PRIVILEGE,
    SqlState::FEATURE_NOT_SUPPORTED,
];
