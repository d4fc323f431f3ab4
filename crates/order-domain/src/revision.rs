//! Which version of an order a message carries.

use std::fmt;
use std::str::FromStr;

/// The version of an order: when JetStream stored its message, and under which sequence.
///
/// A pure function of the message, so that however often and in whatever order it is delivered, it is the same version. The
/// time leads: a stream that was recreated, restored or lost its tail hands out old sequences again, and still makes newer
/// versions newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// When the broker stored the message: microseconds since the Unix epoch.
    pub published_at: i64,
    /// The message's sequence in its stream; at most `i64::MAX`, so that it fits a `bigint`.
    pub sequence: u64,
}

impl Revision {
    /// Not older than any.
    pub(crate) const NEWEST: Revision = Revision {
        published_at: i64::MAX,
        sequence: u64::MAX,
    };

    /// Whether the broker's clock stepped back between `self` and `stored`: older by time, yet ahead by sequence.
    ///
    /// Such a message may be the newer one in truth. It must not vanish as superseded; it becomes a dead letter and an alarm.
    pub fn is_behind_the_clock_of(&self, stored: &Revision) -> bool {
        self.published_at < stored.published_at && self.sequence > stored.sequence
    }
}

/// `1637907727000000-42`: the time in microseconds, then the sequence.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.published_at, self.sequence)
    }
}

/// Why a text is not a [`Revision`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a revision is microseconds, a hyphen and a sequence, as in `1637907727000000-42`")]
pub struct RevisionError;

impl FromStr for Revision {
    type Err = RevisionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A time before 1970 begins with a hyphen of its own, so the last one divides.
        let (published_at, sequence) = text.rsplit_once('-').ok_or(RevisionError)?;
        Ok(Revision {
            published_at: published_at.parse().map_err(|_| RevisionError)?,
            sequence: sequence.parse().map_err(|_| RevisionError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn revision(published_at: i64, sequence: u64) -> Revision {
        Revision {
            published_at,
            sequence,
        }
    }

    #[test]
    fn the_time_leads_and_the_sequence_breaks_ties() {
        assert!(revision(2, 1) > revision(1, 900));
        assert!(revision(2, 2) > revision(2, 1));
    }

    #[test]
    fn a_clock_that_stepped_back_is_told_from_an_ordinary_older_version() {
        let stored = revision(100, 10);
        assert!(revision(99, 11).is_behind_the_clock_of(&stored));
        assert!(!revision(99, 9).is_behind_the_clock_of(&stored));
        assert!(!revision(101, 11).is_behind_the_clock_of(&stored));
        assert!(!stored.is_behind_the_clock_of(&stored));
    }

    #[test]
    fn its_text_reads_back() {
        for it in [
            revision(1_637_907_727_000_000, 42),
            revision(-5, 0),
            revision(0, u64::MAX),
        ] {
            assert_eq!(it.to_string().parse(), Ok(it));
        }
        for bad in ["", "1", "1-", "-1", "a-b", "1-2-x"] {
            assert_eq!(bad.parse::<Revision>(), Err(RevisionError), "{bad}");
        }
    }
}
