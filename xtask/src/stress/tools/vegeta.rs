//! vegeta: a constant rate, over as many connections as that takes.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask::load::{Outcome, Recording};

use super::{Known, Load};
use crate::stress::args::PaceArgs;
use crate::stress::runs::Session;
use crate::stress::targets::{CLASSES, Targets};

/// How many targets it is given. It asks for them one after another, and then again.
const TARGETS: u64 = 20_000;

/// How it is called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    rate: f64,
    duration: Duration,
    warm_up: Duration,
    timeout: Duration,
    connections: Option<u32>,
}

impl Plan {
    /// At 1,000 a second for 30 s, where the arguments say nothing else.
    pub(super) fn new(args: &PaceArgs) -> Plan {
        Plan {
            rate: args.rate.unwrap_or(1_000.0).round().max(1.0),
            duration: args.duration.unwrap_or(Duration::from_secs(30)),
            warm_up: args.warmup,
            timeout: args.timeout,
            connections: args.connections,
        }
    }

    fn attack(&self, lasts: Duration) -> Vec<String> {
        let milliseconds = |duration: Duration| format!("{}ms", duration.as_millis());
        let mut arguments = vec![
            "attack".to_owned(),
            "-targets=targets.txt".to_owned(),
            format!("-rate={}/1s", self.rate),
            format!("-duration={}", milliseconds(lasts)),
            format!("-timeout={}", milliseconds(self.timeout)),
            "-output=vegeta.bin".to_owned(),
        ];
        if let Some(connections) = self.connections {
            arguments.push(format!("-max-connections={connections}"));
        }
        arguments
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = crate::stress::report::rate(self.rate);
        write!(f, "at {rate} for {} s", self.duration.as_secs_f64())
    }
}

/// Runs it.
pub(super) async fn run(known: &Known, session: &Session, plan: &Plan, targets: &Targets) -> Result<Load> {
    let folder = &session.folder;
    let endpoint = &session.world.endpoint;
    let mut lines = String::new();
    let mut known_urls = HashMap::new();
    for (class, path) in targets.mixed(session.seed, TARGETS) {
        let url = endpoint.url(&path);
        lines += &format!("GET {url}\n");
        known_urls.insert(url, class);
    }
    std::fs::write(folder.join("targets.txt"), lines)?;
    if !plan.warm_up.is_zero() {
        known
            .call(session, folder, &plan.attack(plan.warm_up), plan.warm_up)
            .await?;
    }
    known
        .call(session, folder, &plan.attack(plan.duration), plan.duration)
        .await?;
    let encode = ["encode", "-to=csv", "vegeta.bin"].map(str::to_owned);
    let results = known
        .call(session, folder, &encode, Duration::from_secs(60))
        .await?;
    std::fs::remove_file(folder.join("vegeta.bin"))?;
    let results = str::from_utf8(&results).context("vegeta wrote something that is no text")?;
    let recording = parse(results, &known_urls)?;
    let connections = plan.connections.unwrap_or_default() as usize;
    let mut load = Load::of(
        &recording,
        &CLASSES,
        Some(plan.rate),
        connections,
        plan.duration.as_secs_f64(),
    );
    // From when it was sent: vegeta knows no other moment.
    load.service = None;
    Ok(load)
}

/// Reads its results, one request a line: when, status, nanoseconds, bytes out and in, error, body, name, number, method, URL, headers.
fn parse(results: &str, classes: &HashMap<String, usize>) -> Result<Recording> {
    let rows = results.lines().map(fields).map(|fields| row(&fields));
    let rows: Vec<Row> = rows
        .collect::<Option<_>>()
        .context("vegeta wrote results that cannot be read")?;
    let first = rows
        .iter()
        .map(|row| row.at)
        .min()
        .context("vegeta has sent nothing")?;
    let begin = Instant::now();
    let mut recording = Recording::new(CLASSES.len(), begin, Duration::ZERO);
    for row in rows {
        let sent = begin + Duration::from_nanos(row.at - first);
        let class = classes.get(&row.url).copied().unwrap_or_default();
        let right = if class == 2 { 404 } else { 200 };
        let outcome = Outcome {
            class,
            status: row.status,
            bytes_out: row.bytes_out,
            bytes_in: row.bytes_in,
            fault: (row.status != right).then(|| match row.status {
                // It begins with what was asked for, which differs each time, and ends with what went wrong.
                0 => row.error.rsplit(": ").next().unwrap_or_default().to_owned(),
                status => format!("{status} where {right} is right"),
            }),
        };
        recording.record(sent, sent, sent + Duration::from_nanos(row.latency), outcome);
    }
    Ok(recording)
}

#[derive(Debug)]
struct Row {
    at: u64,
    status: u16,
    latency: u64,
    bytes_out: u64,
    bytes_in: u64,
    error: String,
    url: String,
}

fn row(fields: &[String]) -> Option<Row> {
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Row {
        at: number(0)?,
        status: u16::try_from(number(1)?).ok()?,
        latency: number(2)?,
        bytes_out: number(3)?,
        bytes_in: number(4)?,
        error: fields.get(5)?.clone(),
        url: fields.get(10)?.clone(),
    })
}

/// The fields of a line of CSV; one with a quote in it stands in quotes, and has two for each.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                fields.last_mut().expect("there is a first one").push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().expect("there is a first one").push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As vegeta 12.13.0 wrote it, less most of bodies and headers: not in the order in which they were sent.
    const RESULTS: &str = r#"1795638344839742650,200,7726892,0,1200,,eHh4eHh4,,1,GET,http://127.0.0.1:18099/api/o2,Q29udGVu
1795638344820982738,200,4515573,0,1200,,eHh4eHh4,,0,GET,http://127.0.0.1:18099/api/o1,Q29udGVu
1795638344865815161,404,6388837,0,335,404 File not found,PCFET0NU,,2,GET,http://127.0.0.1:18099/api/none1,Q29udGVu
1795638344871000000,404,6388837,0,335,404 File not found,PCFET0NU,,3,GET,http://127.0.0.1:18099/api/o1,Q29udGVu
1795638344881360698,0,557640,0,0,"Get ""http://127.0.0.1:18099/api/o1"": dial tcp 0.0.0.0:0->127.0.0.1:18099: connect: connection refused",,,4,GET,http://127.0.0.1:18099/api/o1,
"#;

    #[test]
    fn what_vegeta_wrote_becomes_a_recording() {
        let classes = HashMap::from([("http://127.0.0.1:18099/api/none1".to_owned(), 2)]);
        let recording = parse(RESULTS, &classes).unwrap();
        assert_eq!(
            (recording.requests, recording.successes, recording.bytes_in),
            (5, 3, 3_070)
        );
        assert_eq!(
            recording.statuses.into_iter().collect::<Vec<_>>(),
            [(200, 2), (404, 2)]
        );
        let faults: Vec<&String> = recording.faults.keys().collect();
        assert_eq!(faults, ["404 where 200 is right", "connection refused"]);
        assert_eq!((recording.response[0].len(), recording.response[2].len()), (4, 1));
        assert!(recording.response[0].max().abs_diff(7_726_892) < 10_000);
        assert_eq!(recording.last_sent, Duration::from_nanos(60_377_960));
    }

    #[test]
    fn what_is_no_result_is_an_error() {
        let classes = HashMap::new();
        assert!(parse("", &classes).is_err());
        assert!(parse("1795638344839742650,200\n", &classes).is_err());
    }

    #[test]
    fn it_is_called_as_the_preset_says() {
        let plan = Plan {
            rate: 1_000.0,
            duration: Duration::from_secs(30),
            warm_up: Duration::ZERO,
            timeout: Duration::from_secs(10),
            connections: None,
        };
        assert_eq!(
            plan.attack(plan.duration).join(" "),
            "attack -targets=targets.txt -rate=1000/1s -duration=30000ms -timeout=10000ms -output=vegeta.bin"
        );
        assert_eq!(plan.to_string(), "at 1,000/s for 30 s");
    }
}
