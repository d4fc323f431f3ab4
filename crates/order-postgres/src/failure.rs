//! What went wrong, sorted by what the caller may do next.

use std::error::Error;
use std::fmt;
use std::io;

use order_domain::{CommitLogError, DeadLetterError, RepositoryError};
use tokio_postgres::error::SqlState;

type Source = Box<dyn Error + Send + Sync>;

/// Why the database did not do what it was asked, before it is told in a port's own words.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Out of reach or too slow; a write may or may not have happened.
    Unavailable(Source),
    /// The data is at fault; a write did not happen.
    Rejected(Source),
    /// A fault of ours; a write did not happen.
    Other(Source),
}

impl Failure {
    pub(crate) fn unavailable(reason: impl Into<Source>) -> Self {
        Failure::Unavailable(reason.into())
    }

    pub(crate) fn rejected(reason: impl Into<Source>) -> Self {
        Failure::Rejected(reason.into())
    }

    pub(crate) fn other(reason: impl Into<Source>) -> Self {
        Failure::Other(reason.into())
    }

    /// The same for somebody else who waited for what failed.
    pub(crate) fn copy(&self) -> Self {
        match self {
            Failure::Unavailable(source) => Failure::unavailable(source.to_string()),
            Failure::Rejected(source) => Failure::rejected(source.to_string()),
            Failure::Other(source) => Failure::other(source.to_string()),
        }
    }

    /// A row that was read back and is not what we store: someone else wrote it.
    pub(crate) fn undecodable(error: impl Into<Source>) -> Self {
        Failure::Other(error.into())
    }
}

/// Poison is decided by cause: only a state that says that the *value* is impossible blames the data, never one that says
/// that the tables are not what we think they are.
fn of_state(state: &SqlState, source: Source) -> Failure {
    let class = &state.code()[..2];
    match (class, state.code()) {
        ("22", _) | (_, "23514" | "54000") => Failure::Rejected(source),
        // 25006 is a former primary, 25P03 a transaction that rested too long; 58 are the errors of the server's own system.
        ("08" | "40" | "53" | "55" | "57" | "58", _) | (_, "25006" | "25P03") => Failure::Unavailable(source),
        _ => Failure::Other(source),
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::from_driver(&error)
    }
}

impl Failure {
    /// Sorts an error of the driver.
    pub(crate) fn from_driver(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            // A statement prepared before a migration changed its columns. The next connection prepares it anew.
            Some(told) if told.routine() == Some("RevalidateCachedQuery") => {
                Failure::Unavailable(ServerError::new(told).into())
            }
            Some(told) => {
                let source = ServerError::new(told);
                of_state(told.code(), source.into())
            }
            // A parameter that does not fit its statement, or a password that is missing: nothing that passes by itself.
            None if error.source().is_some_and(|source| !source.is::<io::Error>()) => {
                Failure::Other(error_chain(error).into())
            }
            // Everything else the driver tells of its own is about the connection: closed, refused, cut off.
            None => Failure::Unavailable(error_chain(error).into()),
        }
    }
}

impl From<Failure> for RepositoryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(source) => RepositoryError::Unavailable(source),
            Failure::Rejected(source) => RepositoryError::Rejected(source),
            Failure::Other(source) => RepositoryError::Other(source),
        }
    }
}

impl From<Failure> for CommitLogError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(source) => CommitLogError::Unavailable(source),
            Failure::Rejected(source) | Failure::Other(source) => CommitLogError::Other(source),
        }
    }
}

impl From<Failure> for DeadLetterError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(source) => DeadLetterError::Unavailable(source),
            Failure::Rejected(source) | Failure::Other(source) => DeadLetterError::Other(source),
        }
    }
}

/// What the server said, without its DETAIL: that quotes whole rows, and with them names and addresses.
#[derive(Debug)]
pub(crate) struct ServerError {
    state: String,
    message: String,
    table: Option<String>,
    column: Option<String>,
    constraint: Option<String>,
}

impl ServerError {
    fn new(told: &tokio_postgres::error::DbError) -> Self {
        ServerError {
            state: told.code().code().to_owned(),
            message: told.message().to_owned(),
            table: told.table().map(str::to_owned),
            column: told.column().map(str::to_owned),
            constraint: told.constraint().map(str::to_owned),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {}", self.message, self.state)?;
        for (kind, name) in [
            ("table", &self.table),
            ("column", &self.column),
            ("constraint", &self.constraint),
        ] {
            if let Some(name) = name {
                write!(f, ", {kind} {name}")?;
            }
        }
        f.write_str(")")
    }
}

impl Error for ServerError {}

/// An error of the driver in one line: its own text often says less than its cause.
pub(crate) fn error_chain(error: &tokio_postgres::Error) -> String {
    if let Some(told) = error.as_db_error() {
        return ServerError::new(told).to_string();
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_is_decided_by_cause() {
        let sorted = |code: &str| match of_state(&SqlState::from_code(code), "".into()) {
            Failure::Unavailable(_) => "unavailable",
            Failure::Rejected(_) => "rejected",
            Failure::Other(_) => "other",
        };
        for code in ["22001", "22003", "22008", "22021", "22P05", "23514", "54000"] {
            assert_eq!(sorted(code), "rejected", "{code}");
        }
        for code in [
            "08006", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P03", "25006",
            "25P03", "58030",
        ] {
            assert_eq!(sorted(code), "unavailable", "{code}");
        }
        for code in [
            "23502", "23503", "23505", "42P01", "42703", "28P01", "3D000", "54001", "XX000", "P0001",
        ] {
            assert_eq!(sorted(code), "other", "{code}");
        }
    }
}
