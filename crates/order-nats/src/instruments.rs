//! What the bus measures, by OpenTelemetry's names for it.

use metrics::{Counter, Histogram, Label, Unit, counter, describe_counter, describe_histogram, histogram};
use order_domain::{BusError, PublishAck};
use tokio::time::Instant;

use crate::settings::NatsSettings;

const CONSUMED: &str = "messaging_client_consumed_messages_total";
const SENT: &str = "messaging_client_sent_messages_total";
const OPERATION_DURATION: &str = "messaging_client_operation_duration_seconds";

/// Says what each metric of this crate means, to whatever collects metrics. To be called once, before anything else is made.
pub fn describe_metrics() {
    describe_counter!(CONSUMED, Unit::Count, "Messages that were taken from the broker");
    describe_counter!(SENT, Unit::Count, "Messages that were published, or tried to be");
    describe_histogram!(
        OPERATION_DURATION,
        Unit::Seconds,
        "How long it took until the broker had acknowledged a published message, or until that failed"
    );
}

/// What publishing measures.
#[derive(Debug)]
pub(crate) struct PublishInstruments {
    sent: Counter,
    stored: Histogram,
    unavailable: Histogram,
    refused: Histogram,
    unsuitable: Histogram,
}

impl PublishInstruments {
    pub(crate) fn new(settings: &NatsSettings) -> Self {
        let labels = labels(settings, "publish");
        let failed = |error: &'static str| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts("error_type", error));
            histogram!(OPERATION_DURATION, labels)
        };
        PublishInstruments {
            unavailable: failed("unavailable"),
            refused: failed("refused"),
            unsuitable: failed("unsuitable"),
            stored: histogram!(OPERATION_DURATION, labels.clone()),
            sent: counter!(SENT, labels),
        }
    }

    pub(crate) fn record(&self, began: Instant, answer: &Result<PublishAck, BusError>) {
        let duration = match answer {
            Ok(_) => &self.stored,
            Err(BusError::Unavailable(_)) => &self.unavailable,
            Err(BusError::Refused(_)) => &self.refused,
            Err(BusError::Unsuitable(_)) => &self.unsuitable,
        };
        duration.record(began.elapsed());
        self.sent.increment(1);
    }
}

/// Counts the messages that are taken.
pub(crate) fn consumed(settings: &NatsSettings) -> Counter {
    let mut labels = labels(settings, "receive");
    let group = settings.consumer.to_string();
    labels.push(Label::new("messaging_consumer_group_name", group));
    counter!(CONSUMED, labels)
}

fn labels(settings: &NatsSettings, operation: &'static str) -> Vec<Label> {
    vec![
        Label::from_static_parts("messaging_system", "nats"),
        Label::from_static_parts("messaging_operation_name", operation),
        Label::new("messaging_destination_name", settings.subject.to_string()),
    ]
}
