//! What is printed at the end.

use std::fmt::Write;

use indicatif::HumanBytes;

use super::{Ingest, Latencies, Load, PERCENTILES, Run, StressResult};
use crate::stress::baseline;

/// All of it.
pub(super) fn report(result: &StressResult, baseline: Option<&StressResult>) -> String {
    let mut text = format!("\nEnvironment   {}\n", result.environment);
    for run in &result.runs {
        add_run(&mut text, run);
        if let Some(before) = baseline.and_then(|baseline| baseline::same_run(baseline, run)) {
            text += &baseline::comparison(before, run);
        }
    }
    if result.runs.len() > 1 {
        add_sweep(&mut text, result);
    }
    if !result.conditions.is_empty() {
        text += "\nConditions\n";
        for judged in &result.conditions {
            line(&mut text, format_args!("  {judged}"));
        }
    }
    text
}

fn add_run(text: &mut String, run: &Run) {
    let tool = if run.tool == "own" {
        String::new()
    } else {
        format!(", by {}", run.tool)
    };
    line(text, format_args!("\n── {}{tool}", run.title));
    if let Some(reads) = &run.reads {
        add_load(text, reads, "Reads");
    }
    if let Some(publishes) = &run.publishes {
        add_load(text, publishes, "Publishes");
    }
    if let Some(ingest) = &run.ingest {
        add_ingest(text, ingest);
    }
    for used in &run.cpu {
        line(
            text,
            format_args!(
                "CPU           {:<14} {:.2} s, {:.2} cores",
                used.name, used.seconds, used.cores
            ),
        );
    }
    for warning in &run.warnings {
        line(text, format_args!("\n!!! {warning}"));
    }
}

/// The rows that vegeta prints, and the percentiles as a table.
fn add_load(text: &mut String, load: &Load, kind: &str) {
    let response = &load.response;
    let seconds = |ms: f64| format!("{:.3}s", ms / 1e3);
    let target = match load.target_rate {
        Some(target) => {
            let reached = load.rate / target.max(1e-9) * 100.0;
            format!(
                "{} asked for, {} achieved ({reached:.1} %)",
                rate(target),
                rate(load.rate)
            )
        }
        None => format!("as many as were answered: {}", rate(load.rate)),
    };
    let share = |bytes: u64| bytes as f64 / (load.requests as f64).max(1.0);
    let mut row = |name: &str, units: &str, values: &str| {
        line(text, format_args!("{name:<14}{units:<34}{values}"));
    };
    let connections = match load.connections {
        0 => "as many as it takes".to_owned(),
        connections => connections.to_string(),
    };
    row(kind, "[connections, rate]", &format!("{connections}, {target}"));
    row(
        "Requests",
        "[total, rate, throughput]",
        &format!("{}, {:.2}, {:.2}", load.requests, load.rate, load.throughput),
    );
    row(
        "Duration",
        "[total, attack, wait]",
        &format!(
            "{}, {}, {}",
            seconds(load.duration_ms + load.wait_ms),
            seconds(load.duration_ms),
            milliseconds(load.wait_ms)
        ),
    );
    row(
        "Latencies",
        "[min, mean, 50, 90, 95, 99, max]",
        &[
            response.min_ms,
            response.mean_ms,
            response.at(50.0),
            response.at(90.0),
            response.at(95.0),
            response.at(99.0),
            response.max_ms,
        ]
        .map(milliseconds)
        .join(", "),
    );
    row(
        "Bytes In",
        "[total, mean]",
        &format!("{}, {:.2}", load.bytes_in, share(load.bytes_in)),
    );
    row(
        "Bytes Out",
        "[total, mean]",
        &format!("{}, {:.2}", load.bytes_out, share(load.bytes_out)),
    );
    row("Success", "[ratio]", &format!("{:.2}%", load.success * 100.0));
    if !load.statuses.is_empty() {
        let statuses = load
            .statuses
            .iter()
            .map(|(status, count)| format!("{status}:{count}"));
        row(
            "Status Codes",
            "[code:count]",
            &statuses.collect::<Vec<_>>().join("  "),
        );
    }
    let read = HumanBytes((load.bytes_in as f64 / (load.duration_ms / 1e3).max(1e-9)) as u64);
    if load.bytes_in > 0 {
        row("Transfer", "[a second]", &read.to_string());
    }
    row("Error Set", "", if load.errors.is_empty() { "none" } else { "" });
    for (error, count) in &load.errors {
        line(text, format_args!("  {count:>8} × {error}"));
    }
    add_percentiles(text, load);
    if let Some(used) = &load.generator {
        let waited = used.waited.map_or(String::new(), |waited| {
            format!(", waited for a core {:.1} % of the time", waited * 100.0)
        });
        line(
            text,
            format_args!(
                "Generator     {} {}, busy {:.1} % of the time ({:.2} s of CPU){waited}",
                used.threads,
                if used.threads == 1 { "thread" } else { "threads" },
                used.busy * 100.0,
                used.cpu_seconds
            ),
        );
    }
}

fn add_percentiles(text: &mut String, load: &Load) {
    let mut heading = format!("\n{:<14}", "Percentiles");
    for percentile in PERCENTILES {
        heading += &format!("{percentile:>11}");
    }
    line(text, format_args!("{heading}{:>11}", "max"));
    let mut row = |name: &str, latencies: &Latencies| {
        let mut row = format!("{name:<14}");
        for percentile in PERCENTILES {
            row += &format!("{:>11}", milliseconds(latencies.at(percentile)));
        }
        line(text, format_args!("{row}{:>11}", milliseconds(latencies.max_ms)));
    };
    // Other tools measure from when they sent; without a schedule both are the same.
    let name = if load.generator.is_some() {
        "  response"
    } else {
        "  service"
    };
    row(name, &load.response);
    if let (Some(service), Some(_)) = (&load.service, load.target_rate) {
        row("  service", service);
    }
    for class in &load.classes {
        row(&format!("  {}", class.name), &class.response);
    }
}

fn add_ingest(text: &mut String, ingest: &Ingest) {
    line(
        text,
        format_args!(
            "\nAcknowledged  {} of {} messages, {}",
            ingest.acknowledged,
            ingest.sent,
            rate(ingest.acknowledge_rate)
        ),
    );
    line(
        text,
        format_args!(
            "Durable       {} orders in the four tables after {:.2} s, {}",
            ingest.durable,
            ingest.durable_seconds,
            rate(ingest.durable_rate)
        ),
    );
    if ingest.lag.count > 0 {
        let lag = PERCENTILES.map(|p| format!("p{p} {}", milliseconds(ingest.lag.at(p))));
        line(
            text,
            format_args!(
                "Lag           publish → readable, {} sampled: {}, max {}",
                ingest.lag.count,
                lag.join(", "),
                milliseconds(ingest.lag.max_ms)
            ),
        );
    }
    match ingest.redeliveries {
        Some(count) => line(text, format_args!("Redeliveries  {count}")),
        None => line(
            text,
            format_args!("Redeliveries  not known: the broker did not tell"),
        ),
    }
    let verdict = if ingest.complete {
        "complete"
    } else {
        "NOT COMPLETE"
    };
    line(
        text,
        format_args!("Verdict       {verdict}: {}", ingest.verdict.join("; ")),
    );
}

fn add_sweep(text: &mut String, result: &StressResult) {
    line(
        text,
        format_args!(
            "\nSweep   {:>12} {:>12} {:>11} {:>11} {:>11} {:>9}",
            "asked for", "achieved", "p50", "p99", "max", "success"
        ),
    );
    for (index, run) in result.runs.iter().enumerate() {
        let Some(load) = run.main() else { continue };
        let mark = match (run.saturated, index == result.headline) {
            (true, _) => "  saturated",
            (_, true) => "  ← the fastest that was not",
            _ => "",
        };
        line(
            text,
            format_args!(
                "        {:>12} {:>12} {:>11} {:>11} {:>11} {:>8.2}%{mark}",
                load.target_rate.map_or("max".to_owned(), rate),
                rate(load.rate),
                milliseconds(load.response.at(50.0)),
                milliseconds(load.response.at(99.0)),
                milliseconds(load.response.max_ms),
                load.success * 100.0
            ),
        );
    }
}

/// A time with three digits, in the unit that suits it.
pub(in crate::stress) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{:.1}µs", ms * 1e3),
        ms if ms < 10.0 => format!("{ms:.3}ms"),
        ms if ms < 1_000.0 => format!("{ms:.1}ms"),
        ms => format!("{:.2}s", ms / 1e3),
    }
}

/// A rate a second.
pub(in crate::stress) fn rate(rate: f64) -> String {
    let whole = indicatif::HumanCount(rate.round() as u64);
    if rate < 100.0 {
        format!("{rate:.1}/s")
    } else {
        format!("{whole}/s")
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_report_has_every_row() {
        let result = sample();
        let text = report(&result, Some(&result));
        for expected in [
            "Environment ",
            "Requests      [total, rate, throughput]         1000, 1000.00, ",
            "Duration      [total, attack, wait]",
            "Latencies     [min, mean, 50, 90, 95, 99, max]",
            "Bytes In      [total, mean]                     1000000, 1000.00",
            "Bytes Out     [total, mean]                     0, 0.00",
            "Success       [ratio]                           99.90%",
            "Status Codes  [code:count]                      200:1000",
            "Error Set",
            "1 × 503 where 200 is right",
            "1,000/s asked for, 1,000/s achieved (100.0 %)",
            "  service ",
            "  miss ",
            "Baseline",
        ] {
            assert!(text.contains(expected), "no `{expected}` in {text}");
        }
    }

    #[test]
    fn times_are_shown_in_the_unit_that_suits_them() {
        let shown = [0.0123, 1.5, 15.0, 1_500.0].map(milliseconds);
        assert_eq!(shown, ["12.3µs", "1.500ms", "15.0ms", "1.50s"]);
        assert_eq!([rate(12.0), rate(12_345.4)], ["12.0/s", "12,345/s"]);
    }
}
