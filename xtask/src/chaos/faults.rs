//! What is broken, when and for how long: a pure function of the seed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use xtask::orders::Dice;

use super::proxy::Passage;

/// A kind of fault. By its name on the command line and in the table at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum FaultKind {
    /// kill -9 of a replica, which is started again.
    KillReplica,
    /// SIGTERM to a replica, which must end by itself with exit code 0, and is started again.
    StopReplica,
    /// SIGSTOP of a replica, and SIGCONT.
    FreezeReplica,
    /// kill -9 of PostgreSQL, which is started again.
    KillPostgres,
    /// An orderly restart of PostgreSQL.
    RestartPostgres,
    /// SIGSTOP of PostgreSQL with all its processes, and SIGCONT.
    FreezePostgres,
    /// kill -9 of the broker, which is started again.
    KillNats,
    /// An orderly restart of the broker.
    RestartNats,
    /// SIGSTOP of the broker, and SIGCONT.
    FreezeNats,
    /// One replica's connections to PostgreSQL end, and no new ones can be made.
    CutPostgres,
    /// One replica's connections to PostgreSQL fall silent: nothing arrives, or no answer does.
    SilencePostgres,
    /// One replica's connections to PostgreSQL answer late, each by a time of its own, so that a read is overtaken by a commit.
    DelayPostgres,
    /// One replica's connections to the broker end, and no new ones can be made.
    CutNats,
    /// One replica's connections to the broker fall silent.
    SilenceNats,
    /// The consumer that all replicas share is deleted.
    DeleteConsumer,
    /// With publishers quiet and everything consumed: the stream is deleted and made anew.
    RecreateStream,
    /// With publishers quiet and everything consumed: the broker's store is set back to what it was rounds ago.
    RestoreStore,
}

impl FaultKind {
    /// All of them.
    pub(super) fn all() -> Vec<FaultKind> {
        FaultKind::value_variants().to_vec()
    }

    /// Whether it can only be done between rounds, when nothing is published.
    pub(super) fn needs_quiet(self) -> bool {
        matches!(self, FaultKind::RecreateStream | FaultKind::RestoreStore)
    }

    fn component(self) -> Component {
        match self {
            FaultKind::KillReplica | FaultKind::StopReplica | FaultKind::FreezeReplica => Component::Replica,
            FaultKind::KillPostgres | FaultKind::RestartPostgres | FaultKind::FreezePostgres => {
                Component::Postgres
            }
            FaultKind::CutPostgres | FaultKind::SilencePostgres | FaultKind::DelayPostgres => {
                Component::WayToPostgres
            }
            FaultKind::CutNats | FaultKind::SilenceNats => Component::WayToNats,
            FaultKind::KillNats
            | FaultKind::RestartNats
            | FaultKind::FreezeNats
            | FaultKind::DeleteConsumer
            | FaultKind::RecreateStream
            | FaultKind::RestoreStore => Component::Nats,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        f.pad(name.as_ref().map_or("", |name| name.get_name()))
    }
}

/// What a fault befalls. One thing has at most one fault at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Component {
    Replica,
    Postgres,
    Nats,
    WayToPostgres,
    WayToNats,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is done.
    pub(super) kind: FaultKind,
    /// Which replica it befalls, where it befalls one.
    pub(super) replica: usize,
    /// When it begins, from the beginning of the round.
    pub(super) at: Duration,
    /// How long it lasts.
    pub(super) lasts: Duration,
    /// What a way that falls silent still lets through.
    pub(super) silence: Passage,
    /// Whether a way that fell silent is cut before it is open again, so that what was under way never arrives.
    pub(super) cut_after: bool,
}

/// What a round does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The fault before it, while nothing is published.
    pub(super) quiet: Option<FaultKind>,
    /// Whether the broker is to begin the round by delivering all that it holds once more.
    pub(super) redeliver: bool,
    /// The faults while orders are published, in the order of their beginnings.
    pub(super) faults: Vec<Fault>,
}

/// How many faults a round has at least and at most.
const FAULTS_A_ROUND: (i64, i64) = (3, 7);
/// How many rounds of a hundred begin with a fault that needs quiet.
const QUIET_PERCENT: f64 = 40.0;

impl Plan {
    /// The plan of a round: with these kinds of faults, for so many replicas, over so long a time.
    pub(super) fn new(
        seed: u64,
        round: u64,
        kinds: &[FaultKind],
        replicas: usize,
        duration: Duration,
    ) -> Plan {
        // Far from the rows that the generator of orders takes from the same seed.
        let mut dice = Dice::new(seed, u64::MAX / 2 + round);
        let (quiet, busy): (Vec<FaultKind>, Vec<FaultKind>) =
            kinds.iter().partition(|kind| kind.needs_quiet());
        let with_quiet = dice.percent(QUIET_PERCENT) && !quiet.is_empty();
        let quiet = with_quiet.then(|| *dice.pick(&quiet));
        let redeliver = dice.percent(50.0);

        let mut faults = Vec::<Fault>::new();
        let wanted = dice.between(FAULTS_A_ROUND.0, FAULTS_A_ROUND.1);
        let mut taken = BTreeMap::<(Component, usize), Vec<(Duration, Duration)>>::new();
        for _ in 0..wanted {
            if busy.is_empty() {
                break;
            }
            let kind = *dice.pick(&busy);
            let share = |percent: i64| duration.mul_f64(percent as f64 / 100.0);
            let at = share(dice.between(0, 80));
            // Short ones go unnoticed, long ones outlast every deadline.
            let lasts = share(dice.between(2, 50)).min(duration.saturating_sub(at));
            let component = kind.component();
            let replica = match component {
                Component::Postgres | Component::Nats => 0,
                _ => dice.below(replicas as u64) as usize,
            };
            let silence = *dice.pick(&[Passage::Silent, Passage::Unanswered]);
            let cut_after = dice.percent(50.0);
            let slots = taken.entry((component, replica)).or_default();
            // With room to come back in between.
            let room = share(10);
            if slots
                .iter()
                .any(|(begin, end)| at < *end + room && *begin < at + lasts + room)
            {
                continue;
            }
            slots.push((at, at + lasts));
            faults.push(Fault {
                kind,
                replica,
                at,
                lasts,
                silence,
                cut_after,
            });
        }
        faults.sort_by_key(|fault| fault.at);
        Plan {
            quiet,
            redeliver,
            faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DURATION: Duration = Duration::from_secs(8);

    fn plans(seed: u64) -> Vec<Plan> {
        let plan = |round| Plan::new(seed, round, &FaultKind::all(), 3, DURATION);
        (0..200).map(plan).collect()
    }

    #[test]
    fn a_seed_gives_its_plans_again_and_another_gives_others() {
        assert_eq!(plans(1), plans(1));
        assert_ne!(plans(1), plans(2));
    }

    #[test]
    fn every_fault_and_every_replica_has_its_turn_and_ends_in_time() {
        let plans = plans(1);
        let faults = plans.iter().flat_map(|plan| &plan.faults);
        let mut kinds: BTreeSet<FaultKind> = faults.clone().map(|fault| fault.kind).collect();
        kinds.extend(plans.iter().filter_map(|plan| plan.quiet));
        assert_eq!(kinds, FaultKind::all().into_iter().collect());
        let replicas: BTreeSet<usize> = faults.clone().map(|fault| fault.replica).collect();
        assert_eq!(replicas, [0, 1, 2].into());
        assert!(faults.clone().all(|fault| fault.at + fault.lasts <= DURATION));
    }

    #[test]
    fn one_thing_has_one_fault_at_a_time() {
        for plan in plans(3) {
            for (index, fault) in plan.faults.iter().enumerate() {
                for later in &plan.faults[index + 1..] {
                    let same =
                        fault.kind.component() == later.kind.component() && fault.replica == later.replica;
                    assert!(!same || fault.at + fault.lasts <= later.at, "{plan:?}");
                }
            }
        }
    }

    #[test]
    fn only_what_was_asked_for_is_done() {
        let kinds = [FaultKind::KillNats, FaultKind::RestoreStore];
        for round in 0..50 {
            let plan = Plan::new(1, round, &kinds, 1, DURATION);
            assert!(plan.faults.iter().all(|fault| fault.kind == FaultKind::KillNats));
            assert!(plan.quiet.is_none_or(|kind| kind == FaultKind::RestoreStore));
        }
    }
}
