//! What really happened, and the judgement of everything that was said about it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::samples::{Kind, Sample};
use super::{Counts, LEASE};
use crate::{Batch, OrderDocument, OrderUid, Revision};

/// Everything that was published, stored and answered in a history. Times count from long before its beginning.
#[derive(Default)]
pub(super) struct Ledger {
    published: BTreeMap<Revision, Published>,
    /// What a direct look at the database would have found, from when on. Before the first entry: nothing.
    visible: HashMap<OrderUid, Vec<(Duration, Option<Revision>)>>,
    /// Each version that was ever visible.
    stored: HashSet<(OrderUid, Revision)>,
    letters: BTreeSet<Revision>,
    pub(super) counts: Counts,
    /// How often the stream was deleted and made anew.
    pub(super) stream: u64,
    violation: Option<String>,
    /// What happened, in words, where someone wants to read it.
    pub(super) trace: Option<Vec<String>>,
}

struct Published {
    sample: Sample,
    /// Which stream it was published to.
    stream: u64,
    /// Its publisher knows that it was stored.
    acknowledged: bool,
}

/// What one reader was told.
pub(super) struct Answer<'a> {
    pub(super) replica: usize,
    pub(super) uid: &'a OrderUid,
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) found: Option<&'a OrderDocument>,
    pub(super) age: Option<Duration>,
}

impl Ledger {
    /// Knows nothing yet; writes down what happens, if told to.
    pub(super) fn new(trace: bool) -> Self {
        Ledger {
            trace: trace.then(Vec::new),
            ..Ledger::default()
        }
    }

    pub(super) fn note(&mut self, at: Duration, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} s  {}", at.as_secs_f64() % 3_600.0, what()));
        }
    }

    /// Only the first is kept: what follows from it tells nothing.
    pub(super) fn violated(&mut self, at: Duration, what: String) {
        self.note(at, || format!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
    }

    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(super) fn published(&mut self, at: Duration, revision: Revision, sample: Sample) {
        self.note(at, || {
            format!("published {} of {} ({:?})", revision, sample.uid, sample.kind)
        });
        self.counts.published += 1;
        self.published.insert(
            revision,
            Published {
                sample,
                stream: self.stream,
                acknowledged: false,
            },
        );
    }

    pub(super) fn publish_acknowledged(&mut self, revision: Revision) {
        if let Some(published) = self.published.get_mut(&revision) {
            published.acknowledged = true;
        }
    }

    /// A batch was committed: this is what the database holds of its orders now.
    pub(super) fn committed(&mut self, at: Duration, batch: &Batch, now: &[Option<OrderDocument>]) {
        for (revised, now) in batch.orders().iter().zip(now) {
            let uid = &revised.order.order_uid;
            if now.as_ref().is_some_and(|now| now.revision == revised.revision) {
                self.stored.insert((uid.clone(), revised.revision));
            }
            let revision = now.as_ref().map(|document| document.revision);
            self.note(at, || {
                format!(
                    "stored {} of {uid}; the newest is {}",
                    revised.revision,
                    Shown(revision)
                )
            });
            self.set_visible(at, uid, revision);
        }
        for letter in batch.dead_letters() {
            self.note(at, || {
                format!("recorded the dead letter {}: {}", letter.revision, letter.reason)
            });
            self.letters.insert(letter.revision);
        }
    }

    /// The database holds this from now on.
    pub(super) fn set_visible(&mut self, at: Duration, uid: &OrderUid, revision: Option<Revision>) {
        let states = self.visible.entry(uid.clone()).or_default();
        if states.last().map(|(_, last)| *last) != Some(revision) {
            states.push((at, revision));
        }
    }

    /// A replica tells the bus that this need never be delivered again.
    pub(super) fn consumed(&mut self, at: Duration, replica: usize, revision: Revision) {
        self.note(at, || format!("replica {replica} acknowledged {revision}"));
        let kept = self.letters.contains(&revision)
            || self.published.get(&revision).is_some_and(|published| {
                self.visible
                    .get(&published.sample.uid)
                    .is_some_and(|states| states.iter().any(|(_, state)| *state >= Some(revision)))
            });
        if !kept {
            self.violated(
                at,
                format!("replica {replica} acknowledged {revision}, which was not stored"),
            );
        }
    }

    /// The oldest state that was visible at some moment between the two, both included.
    fn oldest_visible(&self, uid: &OrderUid, from: Option<Duration>, until: Duration) -> Option<Revision> {
        let states = self.visible.get(uid)?;
        let from = from?;
        // What was there before a change at the very moment counts too: which came first, nobody can tell.
        let first = states
            .iter()
            .position(|(at, _)| *at >= from)
            .unwrap_or(states.len());
        let before = first.checked_sub(1).and_then(|last| states[last].1);
        let meanwhile = states[first..]
            .iter()
            .take_while(|(at, _)| *at <= until)
            .map(|(_, state)| *state);
        std::iter::once(before).chain(meanwhile).min().flatten()
    }

    pub(super) fn answered(&mut self, answer: &Answer<'_>) {
        let Answer {
            replica,
            uid,
            began,
            ended,
            found,
            age,
        } = *answer;
        let revision = found.map(|document| document.revision);
        self.note(ended, || {
            let asked = ended.saturating_sub(began);
            format!(
                "replica {replica} answered {uid} with {} after {asked:?}, age {age:?}",
                Shown(revision)
            )
        });
        self.counts.answers += 1;
        self.counts.absent += u64::from(found.is_none());
        self.counts.aged += u64::from(age.is_some());
        if let Some(document) = found {
            let published = self.published.get(&document.revision);
            if !self.stored.contains(&(uid.clone(), document.revision)) {
                self.violated(
                    ended,
                    format!(
                        "{uid} was answered at {}, which was never stored",
                        document.revision
                    ),
                );
            } else if published.is_none_or(|published| published.sample.json != document.json) {
                self.violated(
                    ended,
                    format!("{uid} was answered at {} with other bytes", document.revision),
                );
            }
        }
        let believed_for = age.unwrap_or(LEASE);
        let floor = self.oldest_visible(uid, began.checked_sub(believed_for), ended);
        if revision < floor {
            self.violated(
                ended,
                format!(
                    "replica {replica} answered {uid} with {} after {:?} (age {age:?}), though {} was committed more than \
                     {believed_for:?} before it was asked",
                    Shown(revision),
                    ended.saturating_sub(began),
                    Shown(floor),
                ),
            );
        }
    }

    /// What the database must hold of each order when every message is consumed.
    fn newest(&self, letters: &BTreeSet<Revision>) -> BTreeMap<OrderUid, Revision> {
        let mut newest = BTreeMap::new();
        // They are sorted by revision, so the last one stays.
        for (revision, published) in &self.published {
            // One that is behind the clock of a version that was refused is kept as a dead letter, and that is judged apart.
            if published.sample.kind == Kind::Order && !letters.contains(revision) {
                newest.insert(published.sample.uid.clone(), *revision);
            }
        }
        newest
    }

    /// Every message is consumed: judges what the database holds.
    pub(super) fn judge(
        &mut self,
        at: Duration,
        held: &HashMap<OrderUid, Revision>,
        letters: &BTreeSet<Revision>,
    ) {
        let newest = self.newest(letters);
        let mut wrong = Vec::new();
        for (uid, revision) in &newest {
            // A newer one may be both stored and, when it was delivered again beside one that was refused, a dead letter.
            if held.get(uid) < Some(revision) {
                wrong.push(format!(
                    "the database has {uid} at {}; the newest is {revision}",
                    Shown(held.get(uid).copied())
                ));
            }
        }
        for (uid, revision) in held {
            let published = self.published.get(revision).map(|published| &published.sample);
            // One that was refused may have been replayed when it no longer was.
            if published.is_none_or(|sample| sample.kind == Kind::Bad || sample.uid != *uid) {
                wrong.push(format!(
                    "the database has {uid} at {revision}, which nobody published"
                ));
            }
        }
        for (revision, published) in &self.published {
            let recorded = letters.contains(revision);
            let acknowledged = published.acknowledged;
            match published.sample.kind {
                Kind::Order if !recorded && self.vanished(revision, published) => {
                    wrong.push(format!(
                        "{revision} was never stored and is no dead letter, though the clock stepped back before it"
                    ));
                }
                Kind::Order if recorded && !self.is_behind_the_clock(revision, &published.sample.uid) => {
                    wrong.push(format!("{revision}, an order, is a dead letter"));
                }
                // One that is refused may also have been superseded before the database ever saw it.
                Kind::Refused if !recorded && held.get(&published.sample.uid) < Some(revision) => {
                    wrong.push(format!(
                        "{revision} (acknowledged: {acknowledged}) is neither stored nor a dead letter"
                    ));
                }
                Kind::Bad if !recorded => {
                    wrong.push(format!(
                        "{revision} (acknowledged: {acknowledged}) is not among the dead letters"
                    ));
                }
                _ => {}
            }
        }
        if let Some(unknown) = letters
            .iter()
            .find(|revision| !self.published.contains_key(revision))
        {
            wrong.push(format!("nobody published the dead letter {unknown}"));
        }
        for what in wrong {
            self.violated(at, what);
        }
    }

    /// Whether this version was neither stored nor overtaken by one that is newer by time and by sequence.
    fn vanished(&self, revision: &Revision, version: &Published) -> bool {
        let uid = &version.sample.uid;
        let is_newer = |(other, published): (&Revision, &Published)| {
            published.sample.uid == *uid
                && (published.stream > version.stream
                    || other.published_at > revision.published_at && other.sequence > revision.sequence)
        };
        !self.stored.contains(&(uid.clone(), *revision)) && !self.published.iter().any(is_newer)
    }

    /// Whether the clock stepped back before this version, so that it may have become a dead letter.
    fn is_behind_the_clock(&self, revision: &Revision, uid: &OrderUid) -> bool {
        self.published
            .iter()
            .any(|(other, published)| published.sample.uid == *uid && revision.is_behind_the_clock_of(other))
    }
}

/// A revision that may be absent, for people.
pub(super) struct Shown(pub(super) Option<Revision>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(revision) => revision.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}
