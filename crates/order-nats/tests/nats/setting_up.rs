//! Streams and consumers that are there already, and settings that cannot be used.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Config as ConsumerConfig, DeliverPolicy, pull, push};
use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};
use order_domain::{BusError, OrderBus};
use order_nats::{NatsOrderBus, NatsSettings, Secret};

use crate::server::Server;
use crate::support::{PATIENCE, TestBus, settings, settings_for, take};

fn stream(settings: &NatsSettings) -> Config {
    Config {
        name: settings.stream.to_string(),
        subjects: vec![settings.subject.to_string()],
        discard: DiscardPolicy::New,
        max_age: settings.max_age,
        ..Config::default()
    }
}

fn consumer(settings: &NatsSettings) -> pull::Config {
    pull::Config {
        durable_name: Some(settings.consumer.to_string()),
        filter_subject: settings.subject.to_string(),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    }
}

async fn unsuitable(it: &TestBus) -> String {
    match it.bus.subscribe().await.err() {
        Some(BusError::Unsuitable(text)) => text,
        Some(other) => panic!("expected Unsuitable, found: {other}"),
        None => panic!("expected Unsuitable, found a subscription"),
    }
}

#[tokio::test]
async fn what_we_create_is_what_the_rules_ask_for() {
    let it = TestBus::new(settings()).await;
    it.subscribe().await;
    let mut stream = it
        .jetstream
        .get_stream(it.settings.stream.as_str())
        .await
        .unwrap();
    let found = stream.info().await.unwrap().config.clone();
    assert_eq!(found.subjects, [it.settings.subject.to_string()]);
    assert_eq!(
        (found.storage, found.retention),
        (StorageType::File, RetentionPolicy::Limits)
    );
    assert_eq!(
        (found.discard, found.max_age),
        (DiscardPolicy::New, Duration::from_secs(7 * 86_400))
    );
    assert_eq!(
        (
            found.max_messages,
            found.max_bytes,
            found.max_messages_per_subject
        ),
        (-1, -1, -1)
    );
    assert_eq!(found.duplicate_window, Duration::from_secs(120));
    let found = stream
        .consumer_info(it.settings.consumer.as_str())
        .await
        .unwrap()
        .config;
    assert_eq!(
        (found.ack_policy, found.deliver_policy),
        (AckPolicy::Explicit, DeliverPolicy::All)
    );
    assert_eq!((found.max_deliver, found.max_ack_pending), (-1, 20_000));
    assert_eq!(found.ack_wait, Duration::from_secs(15));
    assert_eq!(found.inactive_threshold, Duration::ZERO);
    it.delete_stream().await;
}

#[tokio::test]
async fn each_stream_that_cannot_serve_is_refused_by_name() {
    type Change = fn(&mut Config);
    let cases: [(&str, Change); 9] = [
        ("subjects is [elsewhere.", |it| {
            it.subjects = vec![format!("elsewhere.{}", it.name)]
        }),
        ("storage is Memory, expected File", |it| {
            it.storage = StorageType::Memory
        }),
        ("retention is Interest, expected Limits", |it| {
            it.retention = RetentionPolicy::Interest
        }),
        ("retention is WorkQueue, expected Limits", |it| {
            it.retention = RetentionPolicy::WorkQueue
        }),
        ("no_ack is true, expected false", |it| it.no_ack = true),
        ("max_msgs_per_subject is 1, expected -1", |it| {
            it.max_messages_per_subject = 1
        }),
        (
            "discard of a stream with max_bytes or max_msgs is Old, expected New",
            |it| {
                it.discard = DiscardPolicy::Old;
                it.max_messages = 10;
            },
        ),
        ("max_age is 3600s, expected at least 604800s", |it| {
            it.max_age = Duration::from_secs(3_600)
        }),
        ("persist_mode is Some(Async), expected Default", |it| {
            it.persist_mode = Some(PersistenceMode::Async)
        }),
    ];
    for (expected, change) in cases {
        let it = TestBus::new(settings()).await;
        let mut config = stream(&it.settings);
        change(&mut config);
        it.jetstream
            .create_stream(config)
            .await
            .unwrap_or_else(|error| panic!("{expected}: {error}"));
        let text = unsuitable(&it).await;
        assert!(
            text.contains(expected) && text.contains(it.settings.stream.as_str()),
            "{text}"
        );
        it.delete_stream().await;
    }
}

#[tokio::test]
async fn each_consumer_that_cannot_serve_is_refused_by_name() {
    type Change = fn(&mut pull::Config);
    let cases: [(&str, Change); 9] = [
        ("ack_policy is All, expected Explicit", |it| {
            it.ack_policy = AckPolicy::All
        }),
        ("ack_policy is None, expected Explicit", |it| {
            it.ack_policy = AckPolicy::None;
            it.max_ack_pending = 0;
        }),
        ("max_deliver is 5, expected -1", |it| it.max_deliver = 5),
        ("deliver_policy is New, expected All", |it| {
            it.deliver_policy = DeliverPolicy::New
        }),
        ("headers_only is true, expected false", |it| {
            it.headers_only = true
        }),
        ("filter_subject is [elsewhere.", |it| {
            it.filter_subject = format!("elsewhere.{}", it.filter_subject)
        }),
        ("max_batch is 10, expected at least 1000", |it| it.max_batch = 10),
        ("max_bytes is 1000, expected at least", |it| it.max_bytes = 1_000),
        ("max_expires is 1s, expected at least 5s", |it| {
            it.max_expires = Duration::from_secs(1)
        }),
    ];
    for (expected, change) in cases {
        let it = TestBus::new(settings()).await;
        let mut config = stream(&it.settings);
        config.subjects.push(format!("elsewhere.{}", it.settings.subject));
        let made = it.jetstream.create_stream(config).await.unwrap();
        let mut config = consumer(&it.settings);
        change(&mut config);
        made.create_consumer(config)
            .await
            .unwrap_or_else(|error| panic!("{expected}: {error}"));
        let text = unsuitable(&it).await;
        assert!(
            text.contains(expected) && text.contains("order-tracker"),
            "{text}"
        );
        it.delete_stream().await;
    }
}

#[tokio::test]
async fn a_push_consumer_is_refused() {
    let it = TestBus::new(settings()).await;
    let made = it.jetstream.create_stream(stream(&it.settings)).await.unwrap();
    let config = push::Config {
        durable_name: Some(it.settings.consumer.to_string()),
        deliver_subject: "elsewhere".to_owned(),
        ..push::Config::default()
    };
    made.create_consumer(config).await.unwrap();
    let text = unsuitable(&it).await;
    assert!(
        text.contains("deliver_subject is Some(elsewhere), expected none: a pull consumer"),
        "{text}"
    );
    it.delete_stream().await;
}

#[tokio::test]
async fn what_merely_differs_serves() {
    let it = TestBus::new(settings()).await;
    let config = Config {
        subjects: vec![
            "also.here".to_owned() + it.settings.stream.as_str(),
            "test.*".to_owned(),
        ],
        max_age: Duration::ZERO,
        discard: DiscardPolicy::Old,
        duplicate_window: Duration::from_secs(7),
        ..stream(&it.settings)
    };
    // Other tests publish to `test.…` too, so the pattern is made to take in only our subject.
    let subjects = vec![config.subjects[0].clone(), it.settings.subject.to_string()];
    let made = it
        .jetstream
        .create_stream(Config { subjects, ..config })
        .await
        .unwrap();
    let config = pull::Config {
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 7,
        filter_subject: String::new(),
        ..consumer(&it.settings)
    };
    let before: ConsumerConfig = made
        .create_consumer(config)
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    let mut subscription = it.subscribe().await;
    it.publish("a", "x").await;
    assert_eq!(take(&mut *subscription).await.len(), 1);
    // It is somebody's work, and left as it was.
    assert_eq!(
        made.consumer_info(it.settings.consumer.as_str())
            .await
            .unwrap()
            .config,
        before
    );
    it.delete_stream().await;
}

#[tokio::test]
async fn a_subject_of_another_stream_is_unsuitable() {
    let it = TestBus::new(settings()).await;
    let other = format!("OTHER-{}", it.settings.stream);
    it.jetstream
        .create_stream(Config {
            name: other.clone(),
            ..stream(&it.settings)
        })
        .await
        .unwrap();
    let text = unsuitable(&it).await;
    assert!(text.contains("subjects overlap"), "{text}");
    it.jetstream.delete_stream(other).await.unwrap();
}

#[tokio::test]
async fn more_replicas_than_servers_are_unsuitable() {
    let mut settings = settings();
    settings.replicas = 3;
    let it = TestBus::new(settings).await;
    let text = unsuitable(&it).await;
    assert!(text.contains("replicas"), "{text}");
}

#[tokio::test]
async fn credentials_are_shown_to_the_broker() {
    let mut server = Server::prepared("credentials");
    server.start_with(&["--user", "shop", "--pass", "hunter@2"]).await;
    let address = server.url().replace("nats://", "");
    let in_url = settings_for(&format!("nats://shop:hunter%402@{address}"));
    let mut apart = settings_for(&server.url());
    apart.user = Some("shop".to_owned());
    apart.password = Some(Secret::new("hunter@2"));
    for settings in [in_url, apart] {
        let bus = NatsOrderBus::connect(settings).await.unwrap();
        let opened = tokio::time::timeout(PATIENCE, bus.subscribe()).await.unwrap();
        assert!(opened.is_ok(), "{:?}", opened.err());
    }
    let mut wrong = settings_for(&server.url());
    wrong.request_timeout = Duration::from_millis(500);
    let bus = NatsOrderBus::connect(wrong).await.unwrap();
    let refused = bus.subscribe().await.err();
    assert!(matches!(refused, Some(BusError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let missing = Some("/nonexistent/file".into());
    let credentials = NatsSettings {
        credentials_file: missing.clone(),
        ..NatsSettings::default()
    };
    let certificates = NatsSettings {
        root_certificates: missing,
        ..NatsSettings::default()
    };
    for (settings, setting) in [
        (credentials, "credentials_file"),
        (certificates, "root_certificates"),
    ] {
        let error = NatsOrderBus::connect(settings).await.unwrap_err().to_string();
        assert!(error.starts_with(setting), "{error}");
    }
}
