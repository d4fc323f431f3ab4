//! The line that tells how far a run is.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::time::interval;
use xtask::load::{Gauge, Generator};

use super::args::PaceArgs;
use super::database::Committed;
use super::publishing::Ledger;
use super::report::{milliseconds, rate};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where it cannot be written over.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// So many points of progress are kept at most.
const MOST_POINTS: usize = 400;

/// One load as it is shown.
#[derive(Debug)]
pub(super) struct Shown {
    name: &'static str,
    gauge: Gauge,
    target: Option<f64>,
    whole: Duration,
    count: Option<u64>,
}

impl Shown {
    /// A load of this name.
    pub(super) fn new(
        generator: &Generator,
        args: &PaceArgs,
        name: &'static str,
        target: Option<f64>,
    ) -> Shown {
        Shown {
            name,
            gauge: generator.gauge(),
            target,
            whole: args.warmup + args.duration(),
            count: None,
        }
    }

    /// It ends after so many, and not after a time.
    pub(super) fn of(self, count: Option<u64>) -> Shown {
        Shown { count, ..self }
    }
}

/// What becomes of published orders: who was acknowledged, what is committed, and since when.
pub(super) type Fates = (Arc<Ledger>, Committed, Instant);

/// How many were acknowledged and how many committed by when, in milliseconds.
pub(super) type Points = Vec<(f64, u64, u64)>;

/// The line.
pub(super) struct Line {
    bar: ProgressBar,
    begin: Instant,
    plain: Option<Instant>,
    shown: Vec<Shown>,
    before: Vec<(u64, Instant)>,
    fates: Option<Fates>,
    points: Points,
    every: usize,
    looks: usize,
}

impl Line {
    /// Shows it until `done`.
    pub(super) async fn until<T>(
        done: impl Future<Output = Result<T>>,
        shown: Vec<Shown>,
        fates: Option<Fates>,
    ) -> Result<T> {
        let with_nothing = async { Ok((done.await?, ())) };
        let (result, (), _) = Line::until_with(with_nothing, shown, fates).await?;
        Ok(result)
    }

    /// The same, and answers what became of published orders when.
    pub(super) async fn until_with<T, U>(
        done: impl Future<Output = Result<(T, U)>>,
        shown: Vec<Shown>,
        fates: Option<Fates>,
    ) -> Result<(T, U, Points)> {
        let mut line = Line::new(shown, fates);
        let mut look = interval(LOOK_EVERY);
        let mut done = std::pin::pin!(done);
        loop {
            tokio::select! {
                done = &mut done => {
                    line.note_point();
                    line.bar.finish_and_clear();
                    let (first, second) = done?;
                    return Ok((first, second, line.points));
                }
                _ = look.tick() => line.show(),
            }
        }
    }

    fn new(shown: Vec<Shown>, fates: Option<Fates>) -> Line {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain {
            ProgressBar::hidden()
        } else {
            ProgressBar::new_spinner()
        };
        let style = ProgressStyle::with_template("{spinner} {msg}").expect("the template is a constant");
        bar.set_style(style);
        let now = Instant::now();
        Line {
            bar,
            begin: now,
            plain: plain.then_some(now),
            before: shown.iter().map(|_| (0, now)).collect(),
            shown,
            fates,
            points: Vec::new(),
            every: 1,
            looks: 0,
        }
    }

    fn show(&mut self) {
        self.looks += 1;
        if self.looks.is_multiple_of(self.every) {
            self.note_point();
        }
        let now = Instant::now();
        let due = match &mut self.plain {
            Some(last) if now.duration_since(*last) < PLAIN_EVERY => false,
            Some(last) => {
                *last = now;
                true
            }
            None => self.looks.is_multiple_of(5),
        };
        if !due {
            return;
        }
        let text = self.text(now);
        if self.plain.is_some() {
            eprintln!("{text}");
        } else {
            self.bar.set_message(text);
        }
    }

    fn text(&mut self, now: Instant) -> String {
        let elapsed = now.duration_since(self.begin).as_secs();
        let mut text = format!("{elapsed:>4} s");
        for (index, shown) in self.shown.iter().enumerate() {
            let standing = shown.gauge.standing();
            let (before, at) = std::mem::replace(&mut self.before[index], (standing.done, now));
            let achieved = (standing.done - before) as f64 / now.duration_since(at).as_secs_f64().max(1e-3);
            let of = match (shown.count, shown.target) {
                (Some(count), _) => format!(", {} of {}", HumanCount(standing.done), HumanCount(count)),
                (None, Some(target)) => format!(" of {}, {} s", rate(target), shown.whole.as_secs()),
                (None, None) => format!(", {} s", shown.whole.as_secs()),
            };
            text += &format!(
                "   {} {}{of}, {} failed, slowest {}",
                shown.name,
                rate(achieved),
                HumanCount(standing.failed),
                milliseconds(standing.slowest.as_secs_f64() * 1e3)
            );
        }
        if let Some((_, committed, _)) = &self.fates {
            text += &format!("   durable {}", HumanCount(committed.orders()));
        }
        text
    }

    fn note_point(&mut self) {
        let Some((ledger, committed, started)) = &self.fates else {
            return;
        };
        let at = started.elapsed().as_secs_f64() * 1e3;
        self.points.push((at, ledger.acknowledged(), committed.orders()));
        if self.points.len() >= MOST_POINTS {
            // Half as often from now on, and what there is thinned out alike.
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
    }
}
