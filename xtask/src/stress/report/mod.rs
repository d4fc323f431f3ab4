//! What a stress run found: the form in which it is kept, and the four in which it is shown.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use xtask::load::{Measured, Recording};

use super::environment::Environment;
use super::verdict::Judged;

mod hgrm;
mod html;
mod latencies;
mod text;

pub(super) use latencies::{Latencies, PERCENTILES};
pub(super) use text::{milliseconds, rate};

/// The version of `result.json`.
const FORMAT: u32 = 1;

/// Everything that one call of the task found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StressResult {
    format: u32,
    /// `read`, `ingest` or `mixed`.
    pub(super) mode: String,
    /// How it was called.
    pub(super) command: String,
    /// When it began.
    pub(super) began: String,
    /// On what it ran.
    pub(super) environment: Environment,
    /// One run, or one for each step of a sweep.
    pub(super) runs: Vec<Run>,
    /// Which run the others are summed up by: of a sweep the fastest that was not saturated.
    pub(super) headline: usize,
    /// What `--fail-if` asked for, and whether it held.
    pub(super) conditions: Vec<Judged>,
}

/// One run at one pace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Run {
    /// What was done.
    pub(super) title: String,
    /// `own`, `wrk` or `vegeta`.
    pub(super) tool: String,
    /// Requests a second that were asked for; none in a closed loop.
    pub(super) target_rate: Option<f64>,
    /// Reading orders over HTTP.
    pub(super) reads: Option<Load>,
    /// Publishing orders to the broker.
    pub(super) publishes: Option<Load>,
    /// What became of the published orders.
    pub(super) ingest: Option<Ingest>,
    /// What each process took.
    pub(super) cpu: Vec<CpuUse>,
    /// What a reader of the figures must know first.
    pub(super) warnings: Vec<String>,
    /// Whether less was achieved than asked for.
    pub(super) saturated: bool,
}

impl Run {
    /// What the run is judged by: the reads, or where there were none, the publishing.
    pub(super) fn main(&self) -> Option<&Load> {
        self.reads.as_ref().or(self.publishes.as_ref())
    }
}

/// One kind of request under load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Load {
    /// How many could be under way at once.
    pub(super) connections: usize,
    /// Requests a second that were asked for; none in a closed loop.
    pub(super) target_rate: Option<f64>,
    /// Requests.
    pub(super) requests: u64,
    /// Requests a second that were sent.
    pub(super) rate: f64,
    /// Successes a second, up to the last answer.
    pub(super) throughput: f64,
    /// How long requests were sent.
    pub(super) duration_ms: f64,
    /// How long the last answers took after that.
    pub(super) wait_ms: f64,
    /// Bytes of all answers' bodies.
    pub(super) bytes_in: u64,
    /// Bytes of all requests' bodies.
    pub(super) bytes_out: u64,
    /// The share that was answered with what was asked for.
    pub(super) success: f64,
    /// Answers by status.
    pub(super) statuses: BTreeMap<String, u64>,
    /// Failures by what they were.
    pub(super) errors: BTreeMap<String, u64>,
    /// From the moment a request was meant for to its answer.
    pub(super) response: Latencies,
    /// From when it was sent to its answer; none where a tool does not tell them apart.
    pub(super) service: Option<Latencies>,
    /// The response times of each class of requests.
    pub(super) classes: Vec<ClassOfRequests>,
    /// How long each slice of the timeline is.
    pub(super) slice_ms: f64,
    /// What happened when.
    pub(super) timeline: Vec<Moment>,
    /// What sending took; none for other tools.
    pub(super) generator: Option<GeneratorUse>,
}

impl Load {
    /// What the generator has measured. `names` are those of the classes.
    pub(super) fn new(
        measured: &Measured,
        names: &[&str],
        target_rate: Option<f64>,
        connections: usize,
    ) -> Load {
        let recording = &measured.recording;
        let mut load = Load::of(
            recording,
            names,
            target_rate,
            connections,
            measured.duration.as_secs_f64(),
        );
        let effort = measured.effort;
        load.service = Some(Latencies::of(&recording.all_services()));
        load.generator = Some(GeneratorUse {
            threads: effort.threads,
            cpu_seconds: effort.busy.as_secs_f64(),
            busy: effort.busy_share(),
            waited: effort.waited_share(),
        });
        load
    }

    /// What was written down, by whomever, of a run that was to last so many seconds.
    pub(super) fn of(
        recording: &Recording,
        names: &[&str],
        target_rate: Option<f64>,
        connections: usize,
        lasts: f64,
    ) -> Load {
        let sending = recording.last_sent.as_secs_f64().max(lasts);
        let wait = (recording.last_done.as_secs_f64() - sending).max(0.0);
        let classes = names.iter().zip(&recording.response);
        let several = recording
            .response
            .iter()
            .filter(|class| !class.is_empty())
            .count()
            > 1;
        let slice = recording.slice.as_secs_f64();
        let timeline = recording.slices.iter().enumerate().map(|(index, slice)| Moment {
            at_ms: index as f64 * recording.slice.as_secs_f64() * 1e3,
            done: slice.done,
            failed: slice.failed,
            p50_ms: at_least_one(&slice.response, 50.0),
            p99_ms: at_least_one(&slice.response, 99.0),
        });
        Load {
            connections,
            target_rate,
            requests: recording.requests,
            rate: (recording.requests - recording.unsent) as f64 / sending.max(1e-9),
            throughput: recording.successes as f64 / (sending + wait).max(1e-9),
            duration_ms: sending * 1e3,
            wait_ms: wait * 1e3,
            bytes_in: recording.bytes_in,
            bytes_out: recording.bytes_out,
            success: recording.successes as f64 / (recording.requests as f64).max(1.0),
            statuses: recording
                .statuses
                .iter()
                .map(|(status, count)| (status.to_string(), *count))
                .collect(),
            errors: recording.faults.clone(),
            response: Latencies::of(&recording.all_responses()),
            service: None,
            classes: classes
                .filter(|(_, class)| several && !class.is_empty())
                .map(|(name, class)| ClassOfRequests {
                    name: (*name).to_owned(),
                    response: Latencies::of(class),
                })
                .collect(),
            slice_ms: slice * 1e3,
            timeline: timeline.collect(),
            generator: None,
        }
    }
}

fn at_least_one(histogram: &Histogram<u64>, percentile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| latencies::in_milliseconds(histogram.value_at_percentile(percentile)))
}

/// Requests that are alike.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ClassOfRequests {
    pub(super) name: String,
    pub(super) response: Latencies,
}

/// What happened within one slice of time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Moment {
    pub(super) at_ms: f64,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// What the generator took itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct GeneratorUse {
    pub(super) threads: usize,
    pub(super) cpu_seconds: f64,
    /// The share of the time in which its threads were busy.
    pub(super) busy: f64,
    /// The share in which they had to wait for a core.
    pub(super) waited: Option<f64>,
}

/// What a process took during a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CpuUse {
    pub(super) name: String,
    pub(super) seconds: f64,
    /// How many cores it kept busy on average.
    pub(super) cores: f64,
}

/// What became of published orders.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ingest {
    /// Messages that were sent.
    pub(super) sent: u64,
    /// Those that the broker acknowledged, and how many a second.
    pub(super) acknowledged: u64,
    pub(super) acknowledge_rate: f64,
    /// Those that a look at the database has seen committed, how many a second, and how long it took from the first message on.
    pub(super) durable: u64,
    pub(super) durable_rate: f64,
    pub(super) durable_seconds: f64,
    /// From the moment a message was published to the first answer that had it.
    pub(super) lag: Latencies,
    /// How often a message was delivered once more; none where the broker could not be asked.
    pub(super) redeliveries: Option<u64>,
    /// Whether rows equal messages, and what was counted.
    pub(super) complete: bool,
    pub(super) verdict: Vec<String>,
    /// How many were acknowledged and durable by when, in milliseconds.
    pub(super) progress: Vec<(f64, u64, u64)>,
}

impl StressResult {
    /// Of these runs.
    pub(super) fn new(mode: &str, environment: Environment, mut runs: Vec<Run>) -> StressResult {
        for run in &mut runs {
            run.warnings.extend(environment.warnings());
        }
        let headline = runs.iter().rposition(|run| !run.saturated).unwrap_or(0);
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let arguments = as_called(&arguments);
        StressResult {
            format: FORMAT,
            mode: mode.to_owned(),
            command: format!("cargo xtask {}", without_secrets(arguments).join(" ")),
            began: environment.began.clone(),
            environment,
            runs,
            headline,
            conditions: Vec::new(),
        }
    }

    /// The run that sums the others up.
    pub(super) fn headline(&self) -> &Run {
        &self.runs[self.headline]
    }

    /// Reads one that was written before.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or is none.
    pub(super) fn read(path: &Path) -> Result<StressResult> {
        let shown = path.display();
        let text = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let result: StressResult = serde_json::from_slice(&text)
            .with_context(|| format!("{shown} is no result.json of `cargo xtask stress`"))?;
        anyhow::ensure!(
            result.format == FORMAT && result.headline < result.runs.len(),
            "{shown} was written by another version of `cargo xtask stress`"
        );
        Ok(result)
    }

    /// Writes `result.json`, `latency.hgrm` and `report.html`.
    ///
    /// # Errors
    ///
    /// Where they cannot be written.
    pub(super) fn write(&self, folder: &Path, baseline: Option<&StressResult>) -> Result<()> {
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
        };
        write("result.json", &serde_json::to_string_pretty(self)?)?;
        if let Some(load) = self.headline().main() {
            write("latency.hgrm", &hgrm::percentiles(&load.response))?;
        }
        write("report.html", &html::page(self, baseline)?)
    }

    /// What is printed at the end.
    pub(super) fn text(&self, baseline: Option<&StressResult>) -> String {
        text::report(self, baseline)
    }
}

/// The arguments less those at the end by which a release is told to run as it was built.
fn as_called(arguments: &[String]) -> &[String] {
    match arguments {
        [called @ .., last] if last == "--as-built" => called,
        [called @ .., as_built, service, _] if as_built == "--as-built" && service == "--service" => called,
        all => all,
    }
}

/// The arguments less what a URL holds of a password: the report is made to be shown.
fn without_secrets(arguments: &[String]) -> Vec<String> {
    let hide = |argument: &String| match (argument.find("://"), argument.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…{}", &argument[..scheme], &argument[at..])
        }
        _ if argument.contains([' ', '<', '>', '&', ';']) => format!("'{argument}'"),
        _ => argument.clone(),
    };
    arguments.iter().map(hide).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use xtask::load::Outcome;

    use super::*;

    /// A result as a run gives it, with one failure.
    pub(in crate::stress) fn sample() -> StressResult {
        let begin = Instant::now();
        let mut recording = Recording::new(2, begin, Duration::from_secs(1));
        for number in 0..1_000_u64 {
            let meant = begin + Duration::from_millis(number);
            let done = meant + Duration::from_micros(100 + number);
            let outcome = Outcome {
                class: usize::from(number % 10 == 0),
                status: 200,
                bytes_in: 1_000,
                fault: (number == 500).then(|| "503 where 200 is right <b>".to_owned()),
                ..Outcome::default()
            };
            recording.record(meant, meant, done, outcome);
        }
        let run = Run {
            title: "read at 1,000/s".to_owned(),
            tool: "own".to_owned(),
            target_rate: Some(1_000.0),
            reads: Some(Load::of(&recording, &["hit", "miss"], Some(1_000.0), 64, 1.0)),
            publishes: None,
            ingest: None,
            cpu: Vec::new(),
            warnings: Vec::new(),
            saturated: false,
        };
        StressResult::new("read", Environment::default(), vec![run])
    }

    #[test]
    fn the_figures_are_those_of_the_recording() {
        let result = sample();
        let load = result.headline().main().unwrap();
        assert_eq!((load.requests, load.bytes_in), (1_000, 1_000_000));
        assert!((load.success - 0.999).abs() < 1e-9);
        assert!((load.rate - 1_000.0).abs() < 1.0);
        assert!((load.response.at(50.0) - 0.6).abs() < 0.01, "{:?}", load.response);
        assert!((load.response.at(98.0) - 1.08).abs() < 0.02);
        assert_eq!(load.response.at(100.0), load.response.max_ms);
        assert_eq!(load.classes.len(), 2);
        assert_eq!(load.timeline.iter().map(|moment| moment.failed).sum::<u64>(), 1);
    }

    #[test]
    fn a_result_reads_back_as_it_was_written() {
        let folder = xtask::folders::temporary("order-tracker-stress", &xtask::account::Account::current());
        let folder = folder.unwrap();
        let result = sample();
        result.write(&folder, None).unwrap();
        let back = StressResult::read(&folder.join("result.json")).unwrap();
        let (written, read) = (result.headline().main().unwrap(), back.headline().main().unwrap());
        assert_eq!((read.requests, &read.errors), (written.requests, &written.errors));
        assert_eq!(read.response.curve.len(), written.response.curve.len());
        assert!((read.response.at(99.0) - written.response.at(99.0)).abs() < 1e-9);
        assert!(StressResult::read(&folder.join("latency.hgrm")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn how_it_was_called_is_told_without_what_was_added() {
        for (given, told) in [
            ("stress read", "stress read"),
            ("stress read --url U --as-built", "stress read --url U"),
            ("stress read --max --as-built --service S", "stress read --max"),
            ("stress read --as-built --max", "stress read --as-built --max"),
        ] {
            let given: Vec<String> = given.split(' ').map(str::to_owned).collect();
            assert_eq!(as_called(&given).join(" "), told);
        }
    }

    #[test]
    fn a_password_does_not_get_into_the_report() {
        let arguments = ["--nats", "nats://u:hunter2@h:1", "--fail-if", "p99<1ms"].map(str::to_owned);
        assert_eq!(
            without_secrets(&arguments),
            ["--nats", "nats://…@h:1", "--fail-if", "'p99<1ms'"]
        );
    }
}
