//! One round: faults while orders are published and read, then peace, then the judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use order_domain::OrderUid;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::broker;
use super::checker::{self, Violation, ViolationKind};
use super::database::Database;
use super::faults::{Fault, FaultKind, Plan};
use super::history::Reply;
use super::publisher::Publisher;
use super::reader::Reader;
use super::recorder::{Recorder, Shop};
use super::replica::LEASE;
use super::report::{Answers, Report};
use super::world::World;

/// How long everything may take to be well again once the last fault has ended. Far longer than it takes, for a machine that is busy with
/// other things: only what never comes back is to be found.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long what is not well by then is still waited for, so that what is only late is not judged as lost.
const LAST_PATIENCE: Duration = Duration::from_secs(300);
/// How many messages the stream keeps from one round to the next: what a deleted consumer begins with again.
const MESSAGES_KEPT: u64 = 1_500;

/// What all rounds of a run share.
#[derive(Debug)]
pub(super) struct Arena {
    /// What is broken.
    pub(super) world: Arc<World>,
    /// Who publishes.
    pub(super) publisher: Publisher,
    /// What is written down.
    pub(super) recorder: Arc<Recorder>,
    /// What is published.
    pub(super) shop: Arc<Shop>,
    /// Where the tables are looked at.
    pub(super) database: Database,
    /// When each fault began and ended.
    pub(super) journal: Journal,
}

/// A log of what was done when, to be read beside the logs of the replicas.
#[derive(Debug)]
pub(super) struct Journal(Mutex<File>);

impl Journal {
    /// Writes to this file.
    pub(super) fn new(file: File) -> Journal {
        Journal(Mutex::new(file))
    }

    fn note(&self, text: &str) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A line that is missing here costs nobody more than a little time.
        let _ = writeln!(file, "{} {text}", jiff::Timestamp::now());
    }
}

impl Arena {
    /// Plays a round. What was found is added to the report; answers which faults were injected, and what replicas answered.
    ///
    /// # Errors
    ///
    /// Where something that we do ourselves fails.
    pub(super) async fn play(
        &mut self,
        plan: &Plan,
        duration: Duration,
        report: &mut Report,
    ) -> Result<(Vec<FaultKind>, Answers)> {
        let quiet = self.begin_quietly(plan, report).await?;
        self.shop.cool();

        let stop = CancellationToken::new();
        let breaking = break_things(Arc::clone(&self.world), plan.faults.clone(), &self.journal);
        let publishing = self.publisher.run(stop.clone(), PATIENCE);
        let (injected, unacknowledged) = tokio::join!(
            async {
                let (injected, ()) = tokio::join!(breaking, sleep(duration));
                stop.cancel();
                injected
            },
            publishing
        );
        let injected: Vec<FaultKind> = quiet.into_iter().chain(injected?).collect();
        for kind in &injected {
            *report.injected.entry(*kind).or_default() += 1;
        }
        self.journal.note("all faults have ended");
        let mut found = Vec::new();
        if unacknowledged > 0 {
            let text = format!("{unacknowledged} messages were not acknowledged");
            found.push(Violation::new(ViolationKind::Stuck, text));
        }

        let peace = Instant::now();
        found.extend(self.settle().await);
        report.slowest = report.slowest.max(peace.elapsed());
        let tables = self.database.tables().await?;
        let answers = {
            let mut history = self.recorder.history();
            found.extend(checker::check(&history, &tables, LEASE));
            let answers = report.count(&history);
            history.forget_checked();
            answers
        };
        found.extend(self.world.findings().await?);
        self.journal.note("judged");
        report.violations.append(&mut found);
        report.rounds += 1;
        Ok((injected, answers))
    }

    /// What can only be done while nothing is published and everything was consumed. Answers the fault that was injected.
    async fn begin_quietly(&mut self, plan: &Plan, report: &Report) -> Result<Option<FaultKind>> {
        if report.rounds == 0 {
            // There is no stream yet; the first replica makes it.
            return Ok(None);
        }
        broker::keep_newest(&self.world.nats_url().await, MESSAGES_KEPT).await?;
        let Some(kind) = plan.quiet else {
            return Ok(None);
        };
        if kind == FaultKind::RestoreStore && !self.world.has_copy() {
            self.journal.note("copying the broker's store");
            self.world.copy_store().await?;
            return Ok(None);
        }
        self.journal.note(&format!("{kind}"));
        let fault = Fault {
            kind,
            replica: 0,
            at: Duration::ZERO,
            lasts: Duration::ZERO,
            silence: super::proxy::Passage::Silent,
            cut_after: false,
        };
        self.world.inject(fault).await?;
        self.publisher.begin_epoch();
        if kind == FaultKind::RecreateStream {
            // A store from before it would hand out sequences of a stream that there is no more.
            self.world.forget_copy()?;
        } else if plan.redeliver {
            broker::delete_consumer(&self.world.nats_url().await).await?;
        }
        Ok(Some(kind))
    }

    /// Waits until everything is consumed, and every replica serves the newest versions as proven. Answers what came late or never.
    async fn settle(&mut self) -> Option<Violation> {
        let expected = self.expected();
        let uids: Vec<OrderUid> = expected.keys().cloned().collect();
        let bad = {
            let history = self.recorder.history();
            let bad = history.published.iter().filter(|message| message.uid.is_none());
            bad.filter(|message| message.place.is_some()).count() as u64
        };
        let begin = Instant::now();
        let mut served = BTreeSet::new();
        let mut late = None;
        loop {
            let Some(missing) = self.missing(&uids, &expected, bad, &mut served).await else {
                return late;
            };
            self.journal.note(&missing);
            let waited = begin.elapsed();
            if waited > PATIENCE {
                let text = format!("{:.0} s after the last fault {missing}", waited.as_secs_f64());
                late = Some(Violation::new(ViolationKind::Stuck, text));
            }
            if waited > LAST_PATIENCE {
                return late;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The sequence of the newest version of each hot order.
    fn expected(&self) -> BTreeMap<OrderUid, u64> {
        let mut newest = BTreeMap::new();
        let history = self.recorder.history();
        for message in &history.published {
            if let (Some(uid), Some(place)) = (&message.uid, message.place) {
                let known = newest.entry(uid).or_insert(place);
                *known = place.max(*known);
            }
        }
        let hot = self.shop.hot_uids().into_iter();
        hot.filter_map(|uid| newest.get(&uid).map(|place| (uid.clone(), place.sequence)))
            .collect()
    }

    /// What is still to come, in words. What a replica has `served` once is not asked for again: nothing changes any more, and on a
    /// machine that is busy with other things one read out of many always fails.
    async fn missing(
        &mut self,
        uids: &[OrderUid],
        expected: &BTreeMap<OrderUid, u64>,
        bad: u64,
        served: &mut BTreeSet<(usize, OrderUid)>,
    ) -> Option<String> {
        let Ok(stored) = self.database.revisions(uids).await else {
            return Some("the database does not answer".to_owned());
        };
        let behind = expected
            .iter()
            .filter(|(uid, sequence)| stored.get(*uid).is_none_or(|found| found.sequence != **sequence))
            .count();
        if behind > 0 {
            return Some(format!("{behind} orders are not stored at their newest version"));
        }
        match self.database.dead_letters().await {
            Ok(letters) if letters < bad => {
                return Some(format!("{} dead letters are missing", bad - letters));
            }
            Ok(_) => {}
            Err(_) => return Some("the database does not answer".to_owned()),
        }
        match self.publisher.backlog().await {
            Some(0) => {}
            Some(backlog) => return Some(format!("{backlog} messages are not acknowledged by the replicas")),
            None => return Some("the broker has no consumer, or does not answer".to_owned()),
        }
        for (index, replica) in self.world.replicas.iter().enumerate() {
            let mut reader = Reader::new(index, replica.address());
            for uid in uids {
                if served.contains(&(index, uid.clone())) {
                    continue;
                }
                let reply = match reader.ask(uid, false).await {
                    Ok(reply) => reply,
                    Err(error) => return Some(format!("replica {index} does not answer: {error:#}")),
                };
                let serves = matches!(&reply, Reply::Order { revision, aged: false, .. }
                    if Some(&revision.sequence) == expected.get(uid));
                if !serves {
                    return Some(format!(
                        "replica {index} does not serve {uid} at its newest version: {reply:?}"
                    ));
                }
                served.insert((index, uid.clone()));
            }
        }
        None
    }
}

/// Injects each fault at its time. Returns when all have ended, with those that really were.
async fn break_things(world: Arc<World>, faults: Vec<Fault>, journal: &Journal) -> Result<Vec<FaultKind>> {
    let breaking = faults.into_iter().map(|fault| {
        let world = &world;
        async move {
            let Fault {
                kind, replica, lasts, ..
            } = fault;
            sleep(fault.at).await;
            journal.note(&format!(
                "{kind} begins (replica {replica}, {:.1} s)",
                lasts.as_secs_f64()
            ));
            let done = world.inject(fault).await;
            journal.note(&format!("{kind} has ended"));
            match done {
                Ok(()) => Ok(Some(kind)),
                // It was gone already, or the broker is away: nothing was injected, and nothing is wrong.
                Err(error) if kind == FaultKind::DeleteConsumer => {
                    journal.note(&format!("{error:#}"));
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        }
    });
    let injected = futures::future::try_join_all(breaking).await?;
    Ok(injected.into_iter().flatten().collect())
}
