//! The stream and the consumer: made where they are missing, checked where they are there.
//!
//! An existing one is never changed: it may be the work of an operator who had a reason. What cannot serve is refused by name; what
//! merely differs is logged.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    self, ConsumerCreateStrictErrorKind, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{Context, Error as JetStreamError, ErrorCode};
use order_domain::BusError;

use crate::settings::NatsSettings;

/// Longer than any name, subject and acknowledgement address that the broker counts towards a pull's bytes.
const OVERHEAD_A_MESSAGE: usize = 4 << 10;

/// How often a stream or consumer that others make and remove at the same time is looked for again.
const ATTEMPTS: usize = 3;

/// Finds the consumer, or makes it, and the stream under it.
pub(crate) async fn ensure(jetstream: &Context, settings: &NatsSettings) -> Result<PullConsumer, BusError> {
    let stream = ensure_stream(jetstream, settings).await?;
    ensure_consumer(&stream, settings, pull_bytes(jetstream, settings)).await
}

/// How many bytes to ask for at a time. A message that is larger than one pull would never be delivered.
pub(crate) fn pull_bytes(jetstream: &Context, settings: &NatsSettings) -> usize {
    settings
        .pull_bytes
        .max(jetstream.client().max_payload() + OVERHEAD_A_MESSAGE)
}

async fn ensure_stream(jetstream: &Context, settings: &NatsSettings) -> Result<Stream, BusError> {
    let name = settings.stream.as_str();
    for _ in 0..ATTEMPTS {
        match jetstream.get_stream(name).await {
            Ok(stream) => {
                let found = &stream.cached_info().config;
                let (faults, differences) = judge_stream(found, settings);
                report(&format!("the stream `{name}`"), faults, differences)?;
                return Ok(stream);
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                }
                GetStreamErrorKind::JetStream(error) => return Err(from_jetstream("the stream", error)),
                _ => return Err(BusError::Unavailable(error.into())),
            },
        }
        match jetstream.create_stream(wanted_stream(settings)).await {
            Ok(_) => tracing::info!(stream = name, "created the stream"),
            Err(error) => match error.kind() {
                // Another replica was faster.
                CreateStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
                CreateStreamErrorKind::JetStream(error) => return Err(from_jetstream("the stream", error)),
                _ => return Err(BusError::Unavailable(error.into())),
            },
        }
    }
    Err(BusError::Unavailable(
        format!("the stream `{name}` comes and goes").into(),
    ))
}

async fn ensure_consumer(
    stream: &Stream,
    settings: &NatsSettings,
    pull_bytes: usize,
) -> Result<PullConsumer, BusError> {
    let name = settings.consumer.as_str();
    for _ in 0..ATTEMPTS {
        match stream.consumer_info(name).await {
            Ok(info) => {
                let (faults, differences) = judge_consumer(&info.config, settings, pull_bytes);
                let label = format!("the consumer `{name}` of the stream `{}`", settings.stream);
                report(&label, faults, differences)?;
                return stream.get_consumer(name).await.map_err(BusError::Unavailable);
            }
            Err(error) => match error.kind() {
                ConsumerInfoErrorKind::NotFound => {}
                ConsumerInfoErrorKind::JetStream(error) => {
                    return Err(from_jetstream("the consumer", error));
                }
                _ => return Err(BusError::Unavailable(error.into())),
            },
        }
        match stream.create_consumer_strict(wanted_consumer(settings)).await {
            Ok(_) => tracing::info!(consumer = name, "created the consumer"),
            Err(error) => match error.kind() {
                // Another replica was faster.
                ConsumerCreateStrictErrorKind::AlreadyExists => {}
                ConsumerCreateStrictErrorKind::JetStream(error) => {
                    return Err(from_jetstream("the consumer", error));
                }
                _ => return Err(BusError::Unavailable(error.into())),
            },
        }
    }
    Err(BusError::Unavailable(
        format!("the consumer `{name}` comes and goes").into(),
    ))
}

fn wanted_stream(settings: &NatsSettings) -> stream::Config {
    stream::Config {
        name: settings.stream.to_string(),
        subjects: vec![settings.subject.to_string()],
        storage: StorageType::File,
        // Read or not, an order stays: the database is the one that may be restored.
        retention: RetentionPolicy::Limits,
        max_age: settings.max_age,
        // A full stream must refuse a publisher, not drop an order that nobody has read.
        discard: DiscardPolicy::New,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        duplicate_window: settings.duplicate_window,
        num_replicas: settings.replicas,
        description: Some("Orders for Order Tracker".to_owned()),
        ..stream::Config::default()
    }
}

fn wanted_consumer(settings: &NatsSettings) -> pull::Config {
    pull::Config {
        durable_name: Some(settings.consumer.to_string()),
        deliver_policy: DeliverPolicy::All,
        // Never `All`: it would acknowledge what other replicas have in hand.
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        // A finite one strands a message without a word.
        max_deliver: -1,
        max_ack_pending: i64::try_from(settings.max_ack_pending).unwrap_or(i64::MAX),
        filter_subject: settings.subject.to_string(),
        ..pull::Config::default()
    }
}

/// What is wrong with a stream or a consumer, and what is merely not as we would have made it.
type Judgement = (Vec<String>, Vec<String>);

fn judge_stream(found: &stream::Config, settings: &NatsSettings) -> Judgement {
    let mut faults = Faults::default();
    let subject = settings.subject.as_str();
    faults.check(
        found
            .subjects
            .iter()
            .any(|pattern| settings.subject.is_matched_by(pattern)),
        "subjects",
        &found.subjects,
        subject,
    );
    faults.check(
        found.storage == StorageType::File,
        "storage",
        found.storage,
        StorageType::File,
    );
    faults.check(
        found.retention == RetentionPolicy::Limits,
        "retention",
        found.retention,
        RetentionPolicy::Limits,
    );
    faults.check(found.mirror.is_none(), "mirror", "one", "none");
    faults.check(!found.sealed, "sealed", found.sealed, false);
    faults.check(!found.no_ack, "no_ack", found.no_ack, false);
    faults.check(
        found.max_messages_per_subject <= 0,
        "max_msgs_per_subject",
        found.max_messages_per_subject,
        -1,
    );
    faults.check(
        found.persist_mode != Some(PersistenceMode::Async),
        "persist_mode",
        found.persist_mode,
        PersistenceMode::Default,
    );
    let bounded = found.max_bytes > 0 || found.max_messages > 0;
    faults.check(
        found.discard == DiscardPolicy::New || !bounded,
        "discard of a stream with max_bytes or max_msgs",
        found.discard,
        DiscardPolicy::New,
    );
    let kept_long_enough = found.max_age.is_zero() || found.max_age >= settings.max_age;
    faults.check(
        kept_long_enough,
        "max_age",
        found.max_age,
        format!("at least {:?}", settings.max_age),
    );

    let mut differences = Faults::default();
    differences.check(
        found.discard == DiscardPolicy::New,
        "discard",
        found.discard,
        DiscardPolicy::New,
    );
    differences.check(
        found.num_replicas == settings.replicas,
        "num_replicas",
        found.num_replicas,
        settings.replicas,
    );
    let window = settings.duplicate_window;
    differences.check(
        found.duplicate_window == window,
        "duplicate_window",
        found.duplicate_window,
        window,
    );
    differences.check(
        found.max_message_size <= 0,
        "max_msg_size",
        found.max_message_size,
        -1,
    );
    differences.check(
        !bounded,
        "max_bytes, max_msgs",
        [found.max_bytes, found.max_messages],
        [-1, -1],
    );
    (faults.0, differences.0)
}

fn judge_consumer(found: &consumer::Config, settings: &NatsSettings, pull_bytes: usize) -> Judgement {
    let mut faults = Faults::default();
    faults.check(
        found.deliver_subject.is_none(),
        "deliver_subject",
        &found.deliver_subject,
        "none: a pull consumer",
    );
    faults.check(
        found.ack_policy == AckPolicy::Explicit,
        "ack_policy",
        found.ack_policy,
        AckPolicy::Explicit,
    );
    faults.check(found.max_deliver <= 0, "max_deliver", found.max_deliver, -1);
    faults.check(
        found.deliver_policy == DeliverPolicy::All,
        "deliver_policy",
        found.deliver_policy,
        DeliverPolicy::All,
    );
    faults.check(!found.headers_only, "headers_only", found.headers_only, false);
    faults.check(
        found.priority_groups.is_empty(),
        "priority_groups",
        &found.priority_groups,
        "none",
    );
    let filters: Vec<&String> = std::iter::once(&found.filter_subject)
        .filter(|it| !it.is_empty())
        .chain(&found.filter_subjects)
        .collect();
    faults.check(
        filters.is_empty()
            || filters
                .iter()
                .any(|filter| settings.subject.is_matched_by(filter)),
        "filter_subject",
        &filters,
        settings.subject.as_str(),
    );
    let allows = |limit: i64, needed: usize| limit <= 0 || limit as u64 >= needed as u64;
    let (messages, expires) = (settings.pull_messages, settings.pull_expires);
    faults.check(
        allows(found.max_batch, messages),
        "max_batch",
        found.max_batch,
        format!("at least {messages}"),
    );
    faults.check(
        allows(found.max_bytes, pull_bytes),
        "max_bytes",
        found.max_bytes,
        format!("at least {pull_bytes}"),
    );
    let waits = found.max_expires.is_zero() || found.max_expires >= expires;
    faults.check(
        waits,
        "max_expires",
        found.max_expires,
        format!("at least {expires:?}"),
    );

    let mut differences = Faults::default();
    differences.check(
        found.ack_wait == settings.ack_wait,
        "ack_wait",
        found.ack_wait,
        settings.ack_wait,
    );
    let pending = settings.max_ack_pending;
    differences.check(
        found.max_ack_pending == pending as i64,
        "max_ack_pending",
        found.max_ack_pending,
        pending,
    );
    differences.check(
        filters == [settings.subject.as_str()],
        "filter_subject",
        &filters,
        settings.subject.as_str(),
    );
    differences.check(!found.memory_storage, "mem_storage", found.memory_storage, false);
    differences.check(found.backoff.is_empty(), "backoff", &found.backoff, "none");
    differences.check(
        found.pause_until.is_none(),
        "pause_until",
        found.pause_until,
        "none",
    );
    let lives = found.inactive_threshold;
    differences.check(lives.is_zero(), "inactive_threshold", lives, Duration::ZERO);
    (faults.0, differences.0)
}

/// What is not as it should be, each as one phrase.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(
        &mut self,
        holds: bool,
        field: &str,
        found: impl std::fmt::Debug,
        expected: impl std::fmt::Debug,
    ) {
        if !holds {
            // Debug's quotation marks around texts only get in the way.
            let phrase = format!("{field} is {found:?}, expected {expected:?}").replace('"', "");
            self.0.push(phrase);
        }
    }
}

fn report(what: &str, faults: Vec<String>, differences: Vec<String>) -> Result<(), BusError> {
    if !faults.is_empty() {
        return Err(BusError::Unsuitable(format!("{what}: {}", faults.join("; "))));
    }
    for difference in differences {
        tracing::info!("{what} serves, though {difference}");
    }
    Ok(())
}

/// A refusal in the broker's words. What asking again cannot change is told apart from what may pass.
fn from_jetstream(what: &str, error: JetStreamError) -> BusError {
    let for_good = matches!(
        error.error_code(),
        ErrorCode::STREAM_SUBJECT_OVERLAP
            | ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED
            | ErrorCode::JETSTREAM_NOT_ENABLED
            | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
    );
    if for_good || error.code() == 400 {
        BusError::Unsuitable(format!("{what} cannot be had: {error}"))
    } else {
        BusError::Unavailable(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::jetstream::consumer::IntoConsumerConfig;

    #[test]
    fn what_we_make_ourselves_serves() {
        let settings = NatsSettings::default();
        assert_eq!(
            judge_stream(&wanted_stream(&settings), &settings),
            Judgement::default()
        );
        let consumer = wanted_consumer(&settings).into_consumer_config();
        assert_eq!(
            judge_consumer(&consumer, &settings, 1 << 30),
            Judgement::default()
        );
    }

    #[test]
    fn a_fault_names_field_found_and_expected() {
        let settings = NatsSettings::default();
        let found = stream::Config {
            storage: StorageType::Memory,
            subjects: vec!["a".to_owned()],
            ..wanted_stream(&settings)
        };
        let error = report(
            "the stream `ORDERS`",
            judge_stream(&found, &settings).0,
            Vec::new(),
        )
        .unwrap_err();
        let expected = "the bus cannot serve: the stream `ORDERS`: subjects is [a], expected orders; storage is Memory, expected File";
        assert_eq!(error.to_string(), expected);
    }
}
