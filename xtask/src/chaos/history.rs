//! What happened in a run, as those who published, asked and looked wrote it down. Nothing here talks to anyone.
//!
//! All moments are durations since one beginning, by one clock. Contents are kept as digests: a run sees millions of bytes again
//! and again, and only has to tell versions apart.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use order_domain::{OrderUid, Revision};

/// Everything that was written down.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Every message that was published, whether or not it was acknowledged.
    pub(super) published: Vec<Published>,
    /// For each order the versions that direct queries saw, in the order in which they were seen.
    pub(super) sightings: BTreeMap<OrderUid, Vec<Sighting>>,
    /// Every answer of every replica.
    pub(super) answers: Vec<Answer>,
}

/// One message, written down before it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Published {
    /// Which order it is; `None` for a message that can only become a dead letter.
    pub(super) uid: Option<OrderUid>,
    /// The digest of the canonical JSON, or of a message that is none as it was sent.
    pub(super) content: Digest,
    /// How many items the order has.
    pub(super) items: usize,
    /// Where the broker stored it; `None` while that was not acknowledged.
    pub(super) place: Option<Place>,
}

/// Where the broker stored a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Counts how often the stream was made anew or set back: after that old sequences are handed out again.
    pub(super) epoch: u32,
    /// The sequence in the stream.
    pub(super) sequence: u64,
}

/// That a version of an order was committed by a moment, as a direct query saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sighting {
    /// When the query had ended.
    pub(super) at: Duration,
    /// The version.
    pub(super) revision: Revision,
}

/// What a replica answered to one GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Which replica, from 0.
    pub(super) replica: usize,
    /// When the request began: before its first byte was sent.
    pub(super) begun: Duration,
    /// Which order was asked for.
    pub(super) uid: OrderUid,
    /// What came back.
    pub(super) reply: Reply,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// The order.
    Order {
        /// By its `ETag`.
        revision: Revision,
        /// The digest of its bytes.
        content: Digest,
        /// Whether it was marked by `Age` as one that could not be proven.
        aged: bool,
        /// Whether the request had asked for proof by `Cache-Control: no-cache`.
        proof_required: bool,
    },
    /// 404.
    Absent,
    /// 503: nothing is claimed.
    Unavailable,
    /// Anything else.
    Other(String),
}

/// What the database holds in the end, read by queries of our own.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// The orders.
    pub(super) orders: BTreeMap<OrderUid, Stored>,
    /// How many rows `orders`, `delivery`, `payment` and `items` have.
    pub(super) rows: [u64; 4],
    /// Rows of the other three whose order is not there: `table uid`.
    pub(super) orphans: Vec<String>,
    /// The dead letters: under which sequence, and the digest of what they hold.
    pub(super) dead_letters: Vec<(u64, Digest)>,
}

/// One order as its rows add up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Which version its row says it is.
    pub(super) revision: Revision,
    /// The digest of the canonical JSON of all its rows, or why they make no order.
    pub(super) content: Result<Digest, String>,
}

/// Tells contents apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest(u64);

impl Digest {
    /// How many bytes of a dead letter are compared; of the rest only its length.
    pub(super) const LETTER_BYTES: usize = 4_096;

    /// Of an order's canonical JSON.
    pub(super) fn of(json: &[u8]) -> Digest {
        let mut hasher = DefaultHasher::new();
        json.hash(&mut hasher);
        Digest(hasher.finish())
    }

    /// Of a message that becomes a dead letter, from its beginning and its length: the database is asked for no more.
    pub(super) fn of_letter(beginning: &[u8], length: usize) -> Digest {
        let mut hasher = DefaultHasher::new();
        (&beginning[..beginning.len().min(Self::LETTER_BYTES)], length).hash(&mut hasher);
        Digest(hasher.finish())
    }
}

impl History {
    /// Writes down that a direct query which ended at `at` saw this version. Only what is new is kept.
    pub(super) fn sight(&mut self, uid: &OrderUid, sighting: Sighting) {
        let seen = self.sightings.entry(uid.clone()).or_default();
        if seen.last().is_none_or(|last| last.revision != sighting.revision) {
            seen.push(sighting);
        }
    }

    /// Forgets what has been checked and no later check needs: all answers, and of each order all sightings but the last.
    pub(super) fn forget_checked(&mut self) {
        self.answers.clear();
        for seen in self.sightings.values_mut() {
            seen.drain(..seen.len().saturating_sub(1));
        }
    }
}
