//! A figure: what we measured, as a ratio to a floor that was measured in the same run.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What one piece of work took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// By the clock.
    pub(super) wall: Duration,
    /// CPU time of those who took part.
    pub(super) cpu: Cpu,
}

/// CPU time, by who took it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cpu {
    /// The service, all replicas; of a floor the bare server in its place.
    pub(super) service: Duration,
    /// PostgreSQL, all its processes.
    pub(super) postgres: Duration,
    /// nats-server.
    pub(super) nats: Duration,
    /// Who asked for the work: wrk, pgbench, or this program.
    pub(super) client: Duration,
}

impl Cpu {
    /// What was taken since `earlier`.
    pub(super) fn since(&self, earlier: &Cpu) -> Cpu {
        Cpu {
            service: self.service.saturating_sub(earlier.service),
            postgres: self.postgres.saturating_sub(earlier.postgres),
            nats: self.nats.saturating_sub(earlier.nats),
            client: self.client.saturating_sub(earlier.client),
        }
    }
}

/// How large a figure has to be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reach {
    AtLeast(f64),
    AtMost(f64),
}

/// The same work done by us and by a floor, alternating.
#[derive(Debug)]
pub(super) struct Contest {
    /// What each side calls a piece of its work, as in `orders`.
    unit: &'static str,
    rounds: Vec<(PerUnit, PerUnit)>,
}

/// What one unit costs, in microseconds.
#[derive(Debug, Clone, Copy)]
struct PerUnit {
    wall: f64,
    parts: [(&'static str, f64); 4],
}

impl Contest {
    pub(super) fn new(unit: &'static str) -> Self {
        Contest {
            unit,
            rounds: Vec::new(),
        }
    }

    /// Takes in one round: what so many units cost us, and what so many cost the floor.
    pub(super) fn add(&mut self, ours: (Cost, u64), floor: (Cost, u64)) {
        self.rounds.push((per_unit(ours), per_unit(floor)));
    }

    /// The ratio of the rates where more is better, of the times where less is.
    pub(super) fn figure(&self, work: impl Into<String>, floor: impl Into<String>, reach: Reach) -> Figure {
        let ratio = |(ours, floor): &(PerUnit, PerUnit)| match reach {
            Reach::AtLeast(_) => floor.wall / ours.wall,
            Reach::AtMost(_) => ours.wall / floor.wall,
        };
        Figure {
            work: work.into(),
            floor: floor.into(),
            reach,
            unit: "×",
            rounds: self.rounds.iter().map(ratio).collect(),
            ours: self.side(|(ours, _)| ours),
            beside: self.side(|(_, floor)| floor),
        }
    }

    /// The CPU time that a unit takes of the service itself.
    pub(super) fn service_cpu(&self, work: &str, reach: Reach) -> Figure {
        Figure {
            work: work.to_owned(),
            floor: String::new(),
            reach,
            unit: "µs",
            rounds: self.rounds.iter().map(|(ours, _)| ours.parts[0].1).collect(),
            ours: Vec::new(),
            beside: Vec::new(),
        }
    }

    /// The rate of one side and the CPU time that each process took a unit: medians of the rounds.
    fn side(&self, of: fn(&(PerUnit, PerUnit)) -> &PerUnit) -> Vec<Number> {
        let wall = median(self.rounds.iter().map(|round| of(round).wall));
        let mut numbers = vec![Number::new(format!("{}/s", self.unit), 1e6 / wall)];
        for part in 0..4 {
            let micros = median(self.rounds.iter().map(|round| of(round).parts[part].1));
            if let Some((_, first)) = self.rounds.first()
                && micros >= 0.05
            {
                numbers.push(Number::new(format!("µs {}", first.parts[part].0), micros));
            }
        }
        numbers
    }
}

fn per_unit((cost, units): (Cost, u64)) -> PerUnit {
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / units.max(1) as f64;
    PerUnit {
        wall: micros(cost.wall),
        parts: [
            ("service", micros(cost.cpu.service)),
            ("PostgreSQL", micros(cost.cpu.postgres)),
            ("nats-server", micros(cost.cpu.nats)),
            ("client", micros(cost.cpu.client)),
        ],
    }
}

/// One row of the table.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    pub(super) work: String,
    /// What it is measured against; empty where it stands for itself.
    pub(super) floor: String,
    pub(super) reach: Reach,
    pub(super) unit: &'static str,
    /// The figure of each round.
    pub(super) rounds: Vec<f64>,
    /// What is behind it, on our side and on that of the floor.
    pub(super) ours: Vec<Number>,
    pub(super) beside: Vec<Number>,
}

/// A number with its name and unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Number {
    pub(super) name: String,
    pub(super) value: f64,
}

impl Number {
    pub(super) fn new(name: impl Into<String>, value: f64) -> Self {
        Number {
            name: name.into(),
            value,
        }
    }
}

impl Figure {
    /// The median of the rounds.
    pub(super) fn value(&self) -> f64 {
        median(self.rounds.iter().copied())
    }

    /// Whether it is what it has to be.
    pub(super) fn holds(&self) -> bool {
        match self.reach {
            Reach::AtLeast(least) => self.value() >= least,
            Reach::AtMost(most) => self.value() <= most,
        }
    }
}

/// A row of a Markdown table, see [`HEAD`].
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, bound) = match self.reach {
            Reach::AtLeast(least) => ('≥', least),
            Reach::AtMost(most) => ('≤', most),
        };
        let verdict = if self.holds() { "reached" } else { "**missed**" };
        let (value, unit) = (self.value(), self.unit);
        let least = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.rounds.iter().copied().fold(0.0, f64::max);
        write!(
            f,
            "| {} | {} | {sign} {bound} {unit} | {value:.2} {unit} ({least:.2}–{most:.2}) | {verdict} | {} | {} |",
            self.work,
            self.floor,
            Side(&self.ours),
            Side(&self.beside)
        )
    }
}

/// The head of the table whose rows figures are.
pub(super) const HEAD: &str = "\
| work | floor | reach | median (range) | verdict | ours | floor's |
|---|---|---|---|---|---|---|";

struct Side<'a>(&'a [Number]);

impl fmt::Display for Side<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Number { name, value }) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            let digits = if *value < 1_000.0 { 1 } else { 0 };
            write!(f, "{separator}{value:.digits$} {name}")?;
        }
        Ok(())
    }
}

/// The middle one; NaN of none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(millis: u64) -> (Cost, u64) {
        let cpu = Cpu {
            service: Duration::from_millis(millis / 2),
            ..Cpu::default()
        };
        let wall = Duration::from_millis(millis);
        (Cost { wall, cpu }, 1_000)
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds() {
        let mut contest = Contest::new("orders");
        for (ours, floor) in [(100, 80), (100, 90), (1_000, 90)] {
            contest.add(cost(ours), cost(floor));
        }
        let figure = contest.figure("work", "floor", Reach::AtLeast(0.8));
        assert!((figure.value() - 0.8).abs() < 1e-9);
        assert!(figure.holds());
        assert_eq!(
            figure.to_string(),
            "| work | floor | ≥ 0.8 × | 0.80 × (0.09–0.90) | reached | 10000 orders/s, 50.0 µs service | \
             11111 orders/s, 45.0 µs service |"
        );
        contest.add(cost(1_000), cost(1));
        assert!(!contest.figure("work", "floor", Reach::AtLeast(0.8)).holds());
    }

    #[test]
    fn where_less_is_better_the_ratio_is_of_times() {
        let mut contest = Contest::new("runs");
        contest.add(cost(190), cost(100));
        let figure = contest.figure("work", "floor", Reach::AtMost(2.0));
        assert!((figure.value() - 1.9).abs() < 1e-9);
        assert!(figure.holds());
        let cpu = contest.service_cpu("work", Reach::AtMost(94.0));
        assert!((cpu.value() - 95.0).abs() < 1e-9);
        assert!(!cpu.holds());
    }
}
