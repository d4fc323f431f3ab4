//! wrk: many connections, each as fast as it is answered.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Known, Load};
use crate::stress::args::PaceArgs;
use crate::stress::report::Latencies;
use crate::stress::runs::Session;
use crate::stress::targets::Targets;

/// What asks for the paths, and writes the results down in full: wrk's own report has four percentiles.
const SCRIPT: &str = include_str!("wrk.lua");
/// What the line with the results begins with.
const RESULT: &str = "RESULT ";

/// How it is called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    threads: u32,
    connections: u32,
    duration: Duration,
    warm_up: Duration,
    timeout: Duration,
}

impl Plan {
    /// As `wrk -t12 -c400 -d30s`, where the arguments say nothing else.
    pub(super) fn new(args: &PaceArgs) -> Plan {
        let connections = args.connections.unwrap_or(400);
        Plan {
            // wrk wants a connection for each thread.
            threads: args.threads.unwrap_or(12).min(connections),
            connections,
            duration: args.duration.unwrap_or(Duration::from_secs(30)),
            warm_up: args.warmup,
            timeout: args.timeout,
        }
    }

    fn arguments(&self, lasts: Duration, url: &str) -> Vec<String> {
        // It counts whole seconds.
        let seconds = |duration: Duration| format!("{}s", duration.as_secs_f64().ceil().max(1.0));
        let mut arguments = vec![
            format!("-t{}", self.threads),
            format!("-c{}", self.connections),
            format!("-d{}", seconds(lasts)),
            "--latency".to_owned(),
            "--timeout".to_owned(),
            seconds(self.timeout),
        ];
        arguments.extend(["-s", "wrk.lua", url, "--"].map(str::to_owned));
        arguments
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            threads,
            connections,
            duration,
            ..
        } = self;
        write!(
            f,
            "-t{threads} -c{connections} -d{}s",
            duration.as_secs_f64().ceil()
        )
    }
}

/// Runs it.
pub(super) async fn run(known: &Known, session: &Session, plan: &Plan, targets: &Targets) -> Result<Load> {
    let folder = &session.folder;
    std::fs::write(folder.join("wrk.lua"), SCRIPT)?;
    let endpoint = &session.world.endpoint;
    let mut classes = vec![session.seed.to_string()];
    for class in targets.classes() {
        let file = format!("{}.txt", class.name);
        let paths: Vec<String> = class
            .paths
            .iter()
            .map(|path| format!("{}{path}\n", endpoint.base))
            .collect();
        std::fs::write(folder.join(&file), paths.concat())?;
        classes.extend([class.percent.to_string(), file]);
    }
    let call = async |lasts: Duration| {
        let mut arguments = plan.arguments(lasts, &endpoint.url(""));
        arguments.extend(classes.iter().cloned());
        known.call(session, folder, &arguments, lasts).await
    };
    if !plan.warm_up.is_zero() {
        call(plan.warm_up).await?;
    }
    let output = call(plan.duration).await?;
    let output = String::from_utf8_lossy(&output);
    std::fs::write(folder.join("wrk.txt"), output.as_bytes())?;
    Ok(parse(&output)?.into_load(plan))
}

/// What the script writes down.
#[derive(Debug, Deserialize)]
struct Results {
    duration_us: f64,
    requests: u64,
    bytes: u64,
    /// Hits, misses and unknown ones that were asked for.
    asked: [u64; 3],
    errors: BTreeMap<String, u64>,
    min_us: f64,
    mean_us: f64,
    stdev_us: f64,
    max_us: f64,
    percentiles_us: BTreeMap<String, f64>,
    curve_us: Vec<(f64, f64)>,
}

fn parse(output: &str) -> Result<Results> {
    let line = output.lines().find_map(|line| line.strip_prefix(RESULT));
    let line = line.with_context(|| format!("wrk wrote no results: {output}"))?;
    serde_json::from_str(line).context("wrk wrote results that cannot be read")
}

impl Results {
    fn into_load(self, plan: &Plan) -> Load {
        // A 404 is the right answer to who asks for what does not exist; wrk counts it among the errors. What was asked for
        // at the very end has no answer, so a few fewer are counted.
        let not_found = self.errors.get("status").copied().unwrap_or_default();
        let wrong = not_found.saturating_sub(self.asked[2]);
        let mut errors = self.errors;
        errors.remove("status");
        errors.insert("not the status that is right".to_owned(), wrong);
        errors.retain(|_, count| *count > 0);
        let failed: u64 = errors.values().sum();
        let seconds = self.duration_us / 1e6;
        let (rate, successes) = (
            self.requests as f64 / seconds.max(1e-9),
            self.requests.saturating_sub(failed),
        );
        let milliseconds = |micros: f64| micros / 1e3;
        let statuses = [
            ("2xx", self.requests.saturating_sub(not_found)),
            ("other", not_found),
        ];
        Load {
            connections: plan.connections as usize,
            target_rate: None,
            requests: self.requests,
            rate,
            throughput: successes as f64 / seconds.max(1e-9),
            duration_ms: seconds * 1e3,
            wait_ms: 0.0,
            bytes_in: self.bytes,
            bytes_out: 0,
            success: successes as f64 / (self.requests as f64).max(1.0),
            statuses: statuses
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(status, count)| (status.to_owned(), count))
                .collect(),
            errors,
            response: Latencies {
                count: self.requests,
                min_ms: milliseconds(self.min_us),
                mean_ms: milliseconds(self.mean_us),
                stdev_ms: milliseconds(self.stdev_us),
                max_ms: milliseconds(self.max_us),
                percentiles_ms: self
                    .percentiles_us
                    .into_iter()
                    .map(|(percentile, micros)| (percentile, milliseconds(micros)))
                    .collect(),
                curve: self
                    .curve_us
                    .into_iter()
                    .map(|(one_in, micros)| (one_in, milliseconds(micros)))
                    .chain([(self.requests as f64, milliseconds(self.max_us))])
                    .collect(),
            },
            service: None,
            classes: Vec::new(),
            slice_ms: 0.0,
            timeline: Vec::new(),
            generator: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wrk 4.1.0 wrote it with our script, less the middle of its curve.
    const OUTPUT: &str = r#"Running 2s test @ http://127.0.0.1:18099
  2 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    46.63ms    6.11ms  89.60ms   90.34%
    Req/Sec    42.60      6.66    60.00     80.00%
  Latency Distribution
     50%   45.53ms
     75%   47.96ms
     90%   51.91ms
     99%   64.26ms
  176 requests in 2.06s, 241.17KB read
Requests/sec:     85.52
Transfer/sec:    117.19KB
RESULT {"duration_us":2057990,"requests":176,"bytes":246954,"asked":[171,7,0],"errors":{"connect":0,"read":0,"write":0,"status":0,"timeout":0},"min_us":13253,"mean_us":46627.778409,"stdev_us":6106.338521,"max_us":89595,"percentiles_us":{"50":45527,"75":47957,"90":51908,"95":56405,"99":64256,"99.9":89595,"99.99":89595},"curve_us":[[1.000000,13253],[1.211528,43877],[10.000000,51908],[100.000000,64256]]}
"#;

    fn plan() -> Plan {
        Plan {
            threads: 12,
            connections: 400,
            duration: Duration::from_secs(30),
            warm_up: Duration::ZERO,
            timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn what_wrk_wrote_becomes_a_load() {
        let load = parse(OUTPUT).unwrap().into_load(&plan());
        assert_eq!((load.requests, load.bytes_in, load.success), (176, 246_954, 1.0));
        assert!(
            (load.rate - 85.52).abs() < 0.01,
            "as wrk says itself: {}",
            load.rate
        );
        assert_eq!((load.response.at(50.0), load.response.at(99.9)), (45.527, 89.595));
        assert_eq!(load.response.curve.last(), Some(&(176.0, 89.595)));
        assert!(load.errors.is_empty());
    }

    #[test]
    fn a_404_is_no_error_where_it_is_the_right_answer() {
        let output = OUTPUT
            .replace("\"asked\":[171,7,0]", "\"asked\":[160,7,11]")
            .replace("\"status\":0", "\"status\":15");
        let load = parse(&output).unwrap().into_load(&plan());
        assert_eq!(
            load.errors,
            BTreeMap::from([("not the status that is right".to_owned(), 4)])
        );
        assert_eq!(load.statuses["other"], 15);
        assert!((load.success - 172.0 / 176.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_result_is_an_error() {
        assert!(parse("unable to connect").is_err());
        assert!(parse("RESULT {\"duration_us\":1}").is_err());
    }

    #[test]
    fn it_is_called_as_the_preset_says() {
        let arguments = plan().arguments(Duration::from_secs(30), "http://127.0.0.1:1");
        assert_eq!(
            arguments.join(" "),
            "-t12 -c400 -d30s --latency --timeout 10s -s wrk.lua http://127.0.0.1:1 --"
        );
    }
}
