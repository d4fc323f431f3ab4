//! `--baseline`: this run beside an earlier one.

use super::report::{Load, Run, StressResult};

/// The run of an earlier result that is to be held against this one: of the same kind and at the same pace, else its headline.
pub(super) fn same_run<'a>(baseline: &'a StressResult, run: &Run) -> Option<&'a Run> {
    let alike = |other: &&Run| {
        other.reads.is_some() == run.reads.is_some() && other.publishes.is_some() == run.publishes.is_some()
    };
    let same = baseline
        .runs
        .iter()
        .filter(alike)
        .find(|other| other.target_rate == run.target_rate && other.tool == run.tool);
    same.or_else(|| Some(baseline.headline()).filter(alike))
}

/// What has become better and worse, in a few lines.
pub(super) fn comparison(before: &Run, run: &Run) -> String {
    let mut text = format!("Baseline      {}\n", before.title);
    let pairs = [
        ("reads", before.reads.as_ref().zip(run.reads.as_ref())),
        ("publishes", before.publishes.as_ref().zip(run.publishes.as_ref())),
    ];
    for (kind, pair) in pairs {
        if let Some((before, now)) = pair {
            text += &format!("              {kind}: {}\n", changes(before, now).join(", "));
        }
    }
    if let (Some(before), Some(now)) = (&before.ingest, &run.ingest) {
        text += &format!(
            "              durable {}, lag p99 {}\n",
            change(before.durable_rate, now.durable_rate),
            change(before.lag.at(99.0), now.lag.at(99.0))
        );
    }
    text
}

fn changes(before: &Load, now: &Load) -> Vec<String> {
    let mut changes = vec![format!(
        "throughput {}",
        change(before.throughput, now.throughput)
    )];
    for percentile in [50.0, 99.0, 99.9] {
        let (before, now) = (before.response.at(percentile), now.response.at(percentile));
        changes.push(format!("p{percentile} {}", change(before, now)));
    }
    changes
}

/// The change in percent, with its sign.
fn change(before: f64, now: f64) -> String {
    if before > 0.0 {
        format!("{:+.1} %", (now / before - 1.0) * 100.0)
    } else {
        "not comparable".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn a_change_has_its_sign() {
        assert_eq!(change(100.0, 150.0), "+50.0 %");
        assert_eq!(change(100.0, 95.5), "-4.5 %");
        assert_eq!(change(0.0, 1.0), "not comparable");
    }

    #[test]
    fn a_run_is_held_against_the_one_at_its_pace() {
        let mut baseline = sample();
        let mut other = baseline.runs[0].clone();
        other.target_rate = Some(2_000.0);
        baseline.runs.push(other.clone());
        let found = |target| {
            let mut run = other.clone();
            run.target_rate = target;
            same_run(&baseline, &run).and_then(|run| run.target_rate)
        };
        assert_eq!(found(Some(2_000.0)), Some(2_000.0));
        // Nothing at that pace: the headline is.
        assert_eq!(found(Some(3_000.0)), Some(1_000.0));
        other.reads = None;
        assert!(same_run(&baseline, &other).is_none(), "not of the same kind");
        let text = comparison(&baseline.runs[0], &baseline.runs[1]);
        assert!(text.contains("throughput +0.0 %, p50 +0.0 %"), "{text}");
    }
}
