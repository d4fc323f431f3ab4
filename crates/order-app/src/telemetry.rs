//! Logs and metrics of the process.

use std::fmt;
use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogFormat, LogSettings};
use crate::http::with_current_request_id;
use crate::instruments;

/// Most answers take less than half a millisecond, so the buckets begin well below; an order may wait for days in the stream, so they
/// end well above. In seconds.
const SECONDS: [f64; 20] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    60.0, 600.0, 3_600.0, 86_400.0,
];

/// Batches, in messages.
const MESSAGES: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0,
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
            .map_event_format(|format| WithRequestId { format, as_json })
            .try_init(),
        false => logs
            .map_event_format(|format| WithRequestId { format, as_json })
            .try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        let location = panic.location().map(ToString::to_string);
        tracing::error!(location, message, "panicked");
    }));
    Ok(())
}

/// Names the request in each line that is logged while it is worked on. A span would say the same, and cost every request that
/// logs nothing.
struct WithRequestId<F> {
    format: F,
    as_json: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithRequestId<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        with_current_request_id(|id| match id {
            None => self.format.format_event(context, writer, event),
            Some(id) if self.as_json => {
                let mut line = String::new();
                self.format.format_event(context, Writer::new(&mut line), event)?;
                let rest = line.strip_prefix('{').ok_or(fmt::Error)?;
                write!(writer, "{{\"request_id\":{},{rest}", serde_json::json!(id))
            }
            Some(id) => {
                write!(writer, "[{id}] ")?;
                self.format.format_event(context, writer, event)
            }
        })
    }
}

/// Collects metrics from here on: of what is built after this, since instruments are made only once.
/// [`PrometheusHandle::run_upkeep`] must be called every second or so, or memory grows.
///
/// # Errors
///
/// There is a recorder already.
pub fn init_metrics() -> anyhow::Result<PrometheusHandle> {
    let collected = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_messages".to_owned()), &MESSAGES)?
        .install_recorder()?;
    instruments::describe_metrics();
    order_domain::describe_metrics();
    order_nats::describe_metrics();
    order_postgres::describe_metrics();
    Ok(collected)
}
