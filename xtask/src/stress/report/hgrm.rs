//! `latency.hgrm`: the percentile distribution in the form that HdrHistogram's own tools write and plot.

use std::fmt::Write;

use super::Latencies;

/// A distribution, in milliseconds.
pub(super) fn percentiles(latencies: &Latencies) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let total = latencies.count;
    // The last point is the slowest of all, and stands in a row of its own form.
    let (slowest, points) = match latencies.curve.split_last() {
        Some(((_, slowest), points)) => (*slowest, points),
        None => (0.0, &[][..]),
    };
    for (one_in, value) in points {
        let quantile = 1.0 - 1.0 / one_in;
        let count = (quantile * total as f64).round() as u64;
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{value:>12.3} {quantile:>2.12} {count:>10} {one_in:>14.2}");
    }
    let _ = writeln!(
        text,
        "{slowest:>12.3} {:>2.12} {total:>10}\n\
         #[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n\
         #[Max     = {slowest:>12.3}, Total count    = {total:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]",
        1.0,
        latencies.mean_ms,
        latencies.stdev_ms,
        buckets(slowest),
        2_048
    );
    text
}

/// How many powers of two a histogram of nanoseconds with three digits has up to there.
fn buckets(milliseconds: f64) -> u32 {
    ((milliseconds * 1e6) as u64 / 2_048).max(1).ilog2() + 2
}

#[cfg(test)]
mod tests {
    use xtask::load::new_histogram;

    use super::*;

    #[test]
    fn the_file_has_the_form_that_the_plotters_read() {
        let mut histogram = new_histogram();
        for millis in 1..=1_000_u64 {
            histogram.record(millis * 1_000_000).unwrap();
        }
        let text = percentiles(&Latencies::of(&histogram));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        let rows: Vec<Vec<f64>> = lines[2..]
            .iter()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|field| field.parse().unwrap())
                    .collect()
            })
            .collect();
        assert!(rows.len() > 30);
        for row in &rows {
            // So many of a thousand evenly spread values take so many milliseconds: value, share and count say the same.
            assert!((row[0] - row[2]).abs() <= row[0] * 0.002 + 1.0, "{row:?}");
            assert!((row[2] - row[1] * 1_000.0).abs() <= 0.5, "{row:?}");
        }
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        let last = rows.last().unwrap();
        assert_eq!(
            (last[1], last[2], last.len()),
            (1.0, 1_000.0, 3),
            "the last has no 1/(1-Percentile)"
        );
        assert!(lines[lines.len() - 2].contains("Total count    =         1000"));
        assert!(lines[lines.len() - 3].starts_with("#[Mean    =      500."));
    }

    #[test]
    fn nothing_measured_is_a_file_all_the_same() {
        assert!(percentiles(&Latencies::default()).contains("Total count    =            0"));
    }
}
