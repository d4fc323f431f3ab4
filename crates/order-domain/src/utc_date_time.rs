//! A moment in UTC, to the microsecond.

/// A moment in UTC, in the years 0001 to 9999, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcDateTime(i64);

/// Why something is not a [`UtcDateTime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 date and time in the years 0001 to 9999 of UTC")]
pub struct UtcDateTimeError;

impl UtcDateTime {
    /// The moment so many microseconds after the Unix epoch.
    pub fn from_unix_micros(micros: i64) -> Result<Self, UtcDateTimeError> {
        Ok(UtcDateTime(micros))
    }

    /// Microseconds since the Unix epoch.
    pub fn as_unix_micros(self) -> i64 {
        self.0
    }
}
