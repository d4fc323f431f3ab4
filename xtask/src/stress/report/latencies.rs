//! How long requests took, in the few numbers and the one curve that are kept of it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The percentiles that every table shows.
pub(in crate::stress) const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99];

/// A distribution of times, in milliseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::stress) struct Latencies {
    pub(in crate::stress) count: u64,
    pub(in crate::stress) min_ms: f64,
    pub(in crate::stress) mean_ms: f64,
    pub(in crate::stress) stdev_ms: f64,
    pub(in crate::stress) max_ms: f64,
    /// By percentile: "50", "99.9".
    pub(in crate::stress) percentiles_ms: BTreeMap<String, f64>,
    /// The whole curve: one in how many requests takes so long or longer, and how long.
    pub(in crate::stress) curve: Vec<(f64, f64)>,
}

impl Latencies {
    /// Of a histogram of nanoseconds.
    pub(in crate::stress) fn of(histogram: &Histogram<u64>) -> Latencies {
        if histogram.is_empty() {
            return Latencies::default();
        }
        let count = histogram.len();
        let percentiles = PERCENTILES.iter().map(|percentile| {
            let value = in_milliseconds(histogram.value_at_percentile(*percentile));
            (percentile.to_string(), value)
        });
        // Twelve points from one power of ten to the next, as far as there are requests.
        let one_in = (0..).map(|step| 10_f64.powf(f64::from(step) / 12.0));
        let points = one_in.take_while(|one_in| *one_in < count as f64).map(|one_in| {
            (
                one_in,
                in_milliseconds(histogram.value_at_quantile(1.0 - 1.0 / one_in)),
            )
        });
        let last = (count as f64, in_milliseconds(histogram.max()));
        Latencies {
            count,
            min_ms: in_milliseconds(histogram.min()),
            mean_ms: histogram.mean() / 1e6,
            stdev_ms: histogram.stdev() / 1e6,
            max_ms: in_milliseconds(histogram.max()),
            percentiles_ms: percentiles.collect(),
            curve: points.chain([last]).collect(),
        }
    }

    /// One of the [`PERCENTILES`], or another as near as the curve tells.
    pub(in crate::stress) fn at(&self, percentile: f64) -> f64 {
        if let Some(value) = self.percentiles_ms.get(&percentile.to_string()) {
            return *value;
        }
        let one_in = 1.0 / (1.0 - (percentile / 100.0).min(1.0)).max(1e-12);
        let point = self.curve.iter().find(|(known, _)| *known >= one_in);
        point.map_or(self.max_ms, |(_, value)| *value)
    }
}

/// As all times are shown.
pub(super) fn in_milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
