//! Judges what happened against the promises. A pure function of what was written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use order_domain::OrderUid;

use super::history::{Answer, Digest, History, Published, Reply, Tables};

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// Which promise.
    pub(super) kind: ViolationKind,
    /// What was found, in words.
    pub(super) text: String,
}

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ViolationKind {
    /// An acknowledged message is neither in the tables at its newest version nor among the dead letters.
    Lost,
    /// A replica answered with a version that was overtaken for longer than promised.
    Stale,
    /// An order that nobody published: parts of several versions, or bytes under another version's revision.
    Torn,
    /// Anything else that must not be: rows without an order, counts that are off, a good order among the dead letters.
    Wrong,
    /// Something that did not come back by itself in time.
    Stuck,
}

impl ViolationKind {
    /// All of them.
    pub(super) const ALL: [ViolationKind; 5] = [
        ViolationKind::Lost,
        ViolationKind::Stale,
        ViolationKind::Torn,
        ViolationKind::Wrong,
        ViolationKind::Stuck,
    ];
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ViolationKind::Lost => "lost",
            ViolationKind::Stale => "stale",
            ViolationKind::Torn => "torn",
            ViolationKind::Wrong => "wrong",
            ViolationKind::Stuck => "stuck",
        })
    }
}

impl Violation {
    /// Puts a finding into words.
    pub(super) fn new(kind: ViolationKind, text: impl Into<String>) -> Violation {
        Violation {
            kind,
            text: text.into(),
        }
    }
}

/// Judges everything. `bound` is how long after a direct query saw a version a GET may still be begun that is answered with an older one.
///
/// The tables must have been read when nothing was being published and everything had been consumed.
pub(super) fn check(history: &History, tables: &Tables, bound: Duration) -> Vec<Violation> {
    let mut found = Vec::new();
    let versions = versions(&history.published);
    check_orders(&versions, tables, &mut found);
    check_rows(&versions, tables, &mut found);
    check_dead_letters(&history.published, tables, &mut found);
    check_sightings(history, &mut found);
    for answer in &history.answers {
        found.extend(check_answer(answer, &versions, history, bound));
    }
    found
}

/// What was published of each order.
type Versions<'a> = BTreeMap<&'a OrderUid, Vec<&'a Published>>;

fn versions(published: &[Published]) -> Versions<'_> {
    let mut versions = Versions::new();
    for message in published {
        if let Some(uid) = &message.uid {
            versions.entry(uid).or_default().push(message);
        }
    }
    versions
}

/// The version that must be stored in the end: the last one that the broker acknowledged. `None` where none was.
fn newest<'a>(versions: &[&'a Published]) -> Option<&'a Published> {
    let acknowledged = versions.iter().filter(|version| version.place.is_some());
    acknowledged.max_by_key(|version| version.place).copied()
}

fn check_orders(versions: &Versions<'_>, tables: &Tables, found: &mut Vec<Violation>) {
    for (uid, versions) in versions {
        let Some(newest) = newest(versions) else {
            continue;
        };
        let Some(stored) = tables.orders.get(*uid) else {
            let text = format!("{uid} was acknowledged at {newest:?} and is not in the tables");
            found.push(Violation::new(ViolationKind::Lost, text));
            continue;
        };
        match &stored.content {
            Err(reason) => {
                let text = format!("the rows of {uid} make no order: {reason}");
                found.push(Violation::new(ViolationKind::Torn, text));
            }
            Ok(content) => match versions.iter().find(|version| version.content == *content) {
                None => {
                    let text = format!("the rows of {uid} make an order that nobody published");
                    found.push(Violation::new(ViolationKind::Torn, text));
                }
                // One that was not acknowledged may be stored all the same, and be the newer one.
                Some(version) if version.place.is_none() => {}
                Some(version) if version.place < newest.place => {
                    let text = format!(
                        "{uid} is stored as of {:?}, and {:?} was acknowledged",
                        version.place, newest.place
                    );
                    found.push(Violation::new(ViolationKind::Lost, text));
                }
                Some(version) => {
                    let under = version.place.map(|place| place.sequence);
                    if under != Some(stored.revision.sequence) {
                        let text = format!(
                            "{uid} holds what was published at {:?}, under revision {}",
                            version.place, stored.revision
                        );
                        found.push(Violation::new(ViolationKind::Torn, text));
                    }
                }
            },
        }
    }
}

fn check_rows(versions: &Versions<'_>, tables: &Tables, found: &mut Vec<Violation>) {
    for orphan in &tables.orphans {
        let text = format!("a row without its order: {orphan}");
        found.push(Violation::new(ViolationKind::Wrong, text));
    }
    for uid in tables.orders.keys().filter(|uid| !versions.contains_key(uid)) {
        let text = format!("{uid} is in the tables and was never published");
        found.push(Violation::new(ViolationKind::Wrong, text));
    }
    // Where something was not acknowledged, it may be there or not, and no count can be exact.
    if versions.values().flatten().any(|version| version.place.is_none()) {
        return;
    }
    let orders = versions.len() as u64;
    let items = versions.values().filter_map(|versions| newest(versions));
    let items = items.map(|version| version.items as u64).sum();
    let names = ["orders", "delivery", "payment", "items"];
    for ((name, rows), expected) in names.iter().zip(tables.rows).zip([orders, orders, orders, items]) {
        if rows != expected {
            let text = format!("{name} has {rows} rows, expected {expected}");
            found.push(Violation::new(ViolationKind::Wrong, text));
        }
    }
}

fn check_dead_letters(published: &[Published], tables: &Tables, found: &mut Vec<Violation>) {
    let mut held = BTreeMap::<(u64, Digest), u32>::new();
    for letter in &tables.dead_letters {
        *held.entry(*letter).or_default() += 1;
    }
    let bad = published.iter().filter(|message| message.uid.is_none());
    let mut unknown = BTreeSet::new();
    for message in bad {
        let Some(place) = message.place else {
            unknown.insert(message.content);
            continue;
        };
        match held.get_mut(&(place.sequence, message.content)) {
            Some(left) if *left > 0 => *left -= 1,
            _ => {
                let text = format!("a message at {place:?} is not among the dead letters");
                found.push(Violation::new(ViolationKind::Lost, text));
            }
        }
    }
    for ((sequence, content), left) in held {
        if left > 0 && !unknown.contains(&content) {
            let text = format!("{left} dead letters too many under sequence {sequence}");
            found.push(Violation::new(ViolationKind::Wrong, text));
        }
    }
}

/// A committed version must never give way to an older one.
fn check_sightings(history: &History, found: &mut Vec<Violation>) {
    for (uid, seen) in &history.sightings {
        for pair in seen.windows(2) {
            if pair[1].revision < pair[0].revision {
                let text = format!(
                    "{uid} was committed as {} and later as {}",
                    pair[0].revision, pair[1].revision
                );
                found.push(Violation::new(ViolationKind::Wrong, text));
            }
        }
    }
}

fn check_answer(
    answer: &Answer,
    versions: &Versions<'_>,
    history: &History,
    bound: Duration,
) -> Option<Violation> {
    let Answer {
        replica,
        begun,
        uid,
        reply,
    } = answer;
    let seen = history.sightings.get(uid).map_or(&[][..], Vec::as_slice);
    // The newest version that had been committed for so long that this answer may not be older.
    let due = begun.checked_sub(bound).and_then(|before| {
        let seen = seen.iter().filter(|sighting| sighting.at < before);
        seen.max_by_key(|sighting| sighting.revision)
    });
    let late = |at: Duration| (*begun - at).as_secs_f64();
    match reply {
        Reply::Unavailable => None,
        Reply::Other(what) => {
            let text = format!("replica {replica} answered {what} for {uid}");
            Some(Violation::new(ViolationKind::Wrong, text))
        }
        Reply::Absent => due.map(|due| {
            let text = format!(
                "replica {replica} knew nothing of {uid}, {:.3} s after {} was seen",
                late(due.at),
                due.revision
            );
            Violation::new(ViolationKind::Stale, text)
        }),
        Reply::Order {
            revision,
            content,
            aged,
            proof_required,
        } => {
            let of_uid = versions.get(uid).map_or(&[][..], Vec::as_slice);
            let Some(version) = of_uid.iter().find(|version| version.content == *content) else {
                let text = format!("replica {replica} answered an order {uid} that nobody published");
                return Some(Violation::new(ViolationKind::Torn, text));
            };
            if version
                .place
                .is_some_and(|place| place.sequence != revision.sequence)
            {
                let text = format!(
                    "replica {replica} answered {uid} of {:?} under revision {revision}",
                    version.place
                );
                return Some(Violation::new(ViolationKind::Torn, text));
            }
            if *aged && *proof_required {
                let text =
                    format!("replica {replica} answered {uid} with Age to someone who asked for proof");
                return Some(Violation::new(ViolationKind::Wrong, text));
            }
            due.filter(|due| !aged && *revision < due.revision).map(|due| {
                let text = format!(
                    "replica {replica} answered {uid} as of {revision}, {:.3} s after {} was seen",
                    late(due.at),
                    due.revision
                );
                Violation::new(ViolationKind::Stale, text)
            })
        }
    }
}

#[cfg(test)]
mod tests;
