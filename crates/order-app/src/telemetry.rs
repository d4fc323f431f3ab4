//! Logs and metrics of the process.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};

/// Most answers take less than half a millisecond, so the buckets begin well below. In seconds.
const BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Logs to standard error from here on: for people on a terminal, as JSON elsewhere.
///
/// # Errors
///
/// The filter cannot be read, or there is a subscriber already.
pub fn init_logs(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&settings.filter)?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let as_json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let started = match as_json {
        true => logs
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        false => logs.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
}

/// Collects metrics from here on. [`PrometheusHandle::run_upkeep`] must be called from time to time, or memory grows.
///
/// # Errors
///
/// There is a recorder already.
pub fn init_metrics() -> anyhow::Result<PrometheusHandle> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?;
    Ok(builder.install_recorder()?)
}
