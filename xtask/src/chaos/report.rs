//! What a run adds up to.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::checker::{Violation, ViolationKind};
use super::faults::FaultKind;
use super::history::{History, Reply};

/// Everything that was counted.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// How often each fault was injected.
    pub(super) injected: BTreeMap<FaultKind, u64>,
    /// What was found.
    pub(super) violations: Vec<Violation>,
    /// Rounds that were played to their end.
    pub(super) rounds: u64,
    /// The longest round, from its beginning to its judgement.
    pub(super) longest: Duration,
    /// The longest that it took until all was well again, from when the last fault had ended.
    pub(super) slowest: Duration,
    acknowledged: u64,
    bad: u64,
    answers: Answers,
}

/// Answers by what they claim.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answers {
    proven: u64,
    aged: u64,
    absent: u64,
    unavailable: u64,
}

impl Report {
    /// Counts the answers of a round, and everything that was published until its end.
    pub(super) fn count(&mut self, history: &History) -> Answers {
        let acknowledged = history.published.iter().filter(|message| message.place.is_some());
        self.acknowledged = acknowledged.clone().count() as u64;
        self.bad = acknowledged.filter(|message| message.uid.is_none()).count() as u64;
        let mut answers = Answers::default();
        for answer in &history.answers {
            match answer.reply {
                Reply::Order { aged: false, .. } => answers.proven += 1,
                Reply::Order { aged: true, .. } => answers.aged += 1,
                Reply::Absent => answers.absent += 1,
                Reply::Unavailable | Reply::Other(_) => answers.unavailable += 1,
            }
        }
        self.answers.proven += answers.proven;
        self.answers.aged += answers.aged;
        self.answers.absent += answers.absent;
        self.answers.unavailable += answers.unavailable;
        answers
    }

    /// The table at the end.
    pub(super) fn table(&self, seed: u64, replicas: usize) -> String {
        let mut table = String::new();
        // Writing to a text cannot fail.
        let _ = writeln!(table, "\nfault              injected");
        for (kind, count) in &self.injected {
            let _ = writeln!(table, "{kind:<18} {count:>8}");
        }
        let _ = writeln!(table, "\nviolation             found");
        for kind in ViolationKind::ALL {
            let count = self.violations.iter().filter(|found| found.kind == kind).count();
            let _ = writeln!(table, "{kind:<18} {count:>8}");
        }
        let _ = writeln!(
            table,
            "\n{} messages acknowledged, {} of them bad; answers: {}\n\
             all was well again within {:.1} s of the last fault of each round, and each round was over within {:.1} s\n\
             seed {seed}, {} rounds, {replicas} replicas: {} faults, {} violations",
            self.acknowledged,
            self.bad,
            self.answers,
            self.slowest.as_secs_f64(),
            self.longest.as_secs_f64(),
            self.rounds,
            self.injected.values().sum::<u64>(),
            self.violations.len(),
        );
        table
    }
}

impl std::fmt::Display for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Answers {
            proven,
            aged,
            absent,
            unavailable,
        } = self;
        write!(
            f,
            "{proven} proven, {aged} with their age, {absent} not found, {unavailable} unavailable"
        )
    }
}
