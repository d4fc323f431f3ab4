//! Settings from every source, and `.env.example`, which must name every one of them with its default.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use order_app::{LogFormat, Settings, Sources};

fn environment(variables: &[(&str, &str)]) -> Sources {
    let environment = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Sources {
        environment,
        ..Sources::default()
    }
}

fn fault(variables: &[(&str, &str)]) -> String {
    environment(variables)
        .load()
        .expect_err("these settings are wrong")
        .to_string()
}

/// The commented assignments of `.env.example`.
fn example() -> HashMap<String, String> {
    include_str!("../../../.env.example")
        .lines()
        .filter_map(|line| line.strip_prefix("# ORDERS__")?.split_once('='))
        .map(|(name, value)| (format!("ORDERS__{name}"), value.to_owned()))
        .collect()
}

#[test]
fn the_example_gives_the_defaults() {
    let settings = Sources {
        environment: example(),
        ..Sources::default()
    }
    .load()
    .expect("the example is valid");
    assert_eq!(format!("{settings:#?}"), format!("{:#?}", Settings::default()));
}

#[test]
fn the_example_names_every_setting() {
    let documented: BTreeSet<String> = example().into_keys().collect();
    let mut known = BTreeSet::new();
    collect_settings("ORDERS", &mut known);
    assert!(
        known.len() > 40,
        "the way to learn all names has broken: {known:?}"
    );
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "not in .env.example: {missing:?}");
}

/// Learns the settings below `prefix` from what the error about an unknown one says was expected.
fn collect_settings(prefix: &str, known: &mut BTreeSet<String>) {
    let text = fault(&[(&format!("{prefix}__NO_SUCH_SETTING"), "1")]);
    match text.split_once("unknown field `no_such_setting`, expected ") {
        Some((_, expected)) => {
            let (names, _) = expected.split_once(" for key").unwrap_or((expected, ""));
            for name in names.split('`').skip(1).step_by(2) {
                collect_settings(&format!("{prefix}__{}", name.to_uppercase()), known);
            }
        }
        None => {
            known.insert(prefix.to_owned());
        }
    }
}

#[test]
fn later_sources_win() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("later_sources_win.toml");
    std::fs::write(
        &file,
        "[http]\nworkers = 1\n[log]\nformat = \"json\"\nfilter = \"warn\"\n",
    )
    .expect("writable");
    let mut sources = environment(&[("ORDERS__HTTP__WORKERS", "3")]);
    sources.file = Some(file);
    sources.dot_env = [("ORDERS__HTTP__WORKERS", "2"), ("ORDERS__LOG__FILTER", "debug")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let settings = sources.load().expect("valid");
    assert_eq!(settings.http.workers, 3);
    assert_eq!(settings.log.filter, "debug");
    assert_eq!(settings.log.format, LogFormat::Json);
}

#[test]
fn an_unknown_setting_is_refused_by_name_with_those_there_are() {
    let text = fault(&[("ORDERS__HTTP__ADRESS", "127.0.0.1:1")]);
    assert!(
        text.contains("ORDERS__HTTP") && text.contains("adress") && text.contains("`address`"),
        "{text}"
    );
    let text = fault(&[("ORDERS__HTPP__ADDRESS", "127.0.0.1:1")]);
    assert!(text.contains("htpp") && text.contains("`http`"), "{text}");
}

#[test]
fn a_wrong_setting_is_refused_by_name_with_what_was_expected() {
    for (name, value, expected) in [
        ("ORDERS__HTTP__WORKERS", "many", "integer"),
        ("ORDERS__HTTP__ADDRESS", "here", "socket address"),
        ("ORDERS__CACHE__LEASE", "soon", "duration"),
        ("ORDERS__LOG__FORMAT", "xml", "pretty"),
        ("ORDERS__POSTGRES__URL", "mysql://h/x", "postgres://"),
        (
            "ORDERS__FOLLOWER__LOOK_DEADLINE",
            "2s",
            "less than ORDERS__CACHE__LEASE",
        ),
        ("ORDERS__SHUTDOWN__DEADLINE", "6s", "more than"),
        (
            "ORDERS__HTTP__TLS_CERTIFICATE",
            "shop.crt",
            "ORDERS__HTTP__TLS_KEY",
        ),
        ("ORDERS__HTTP__CORS_ORIGINS", "https://a,b", "no origin"),
        (
            "ORDERS__HTTP__MAX_BODIES_BYTES",
            "1",
            "ORDERS__HTTP__MAX_BODY_BYTES",
        ),
    ] {
        let text = fault(&[(name, value)]);
        assert!(text.starts_with(name) && text.contains(expected), "{text}");
    }
}

#[test]
fn who_is_reached_by_others_needs_tokens_or_says_that_it_wants_none() {
    let exposure = |variables: &[(&str, &str)]| {
        let settings = environment(variables).load().expect("valid");
        settings.check_exposure().map_err(|fault| fault.to_string())
    };
    assert_eq!(exposure(&[]), Ok(()), "nobody else reaches loopback");
    for address in ["[::1]:0", "127.8.8.8:80", "[::ffff:127.0.0.1]:80"] {
        assert_eq!(exposure(&[("ORDERS__HTTP__ADDRESS", address)]), Ok(()));
    }
    for name in ["ORDERS__HTTP__ADDRESS", "ORDERS__MANAGEMENT__ADDRESS"] {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
            let text = exposure(&[(name, address)]).expect_err("others reach it");
            assert!(
                text.starts_with("ORDERS__HTTP__TOKENS_FILE: ") && text.contains(name),
                "{text}"
            );
            for (told, value) in [
                ("ORDERS__HTTP__TOKENS_FILE", "tokens"),
                ("ORDERS__HTTP__INSECURE", "true"),
            ] {
                assert_eq!(exposure(&[(name, address), (told, value)]), Ok(()));
            }
        }
    }
    let both = [
        ("ORDERS__HTTP__TOKENS_FILE", "tokens"),
        ("ORDERS__HTTP__INSECURE", "true"),
    ];
    assert!(
        exposure(&both)
            .expect_err("they contradict")
            .contains("give only one")
    );
}

#[test]
fn a_text_that_looks_like_a_number_stays_as_it_is() {
    let settings = environment(&[("ORDERS__NATS__STREAM", "007")])
        .load()
        .expect("valid");
    assert!(format!("{:?}", settings.nats).contains("\"007\""));
}

#[test]
fn a_secret_may_stand_in_a_file_and_is_never_shown() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("a_secret_may_stand_in_a_file");
    std::fs::write(&file, "postgres://u:hunter2@db:5433/shop\n").expect("writable");
    let path = file.to_str().expect("Unicode");
    let settings = environment(&[("ORDERS__POSTGRES__URL_FILE", path)])
        .load()
        .expect("valid");
    assert_eq!(settings.postgres.url.to_string(), "db:5433/shop");
    assert!(!format!("{settings:#?}").contains("hunter2"));

    let both = [
        ("ORDERS__POSTGRES__URL_FILE", path),
        ("ORDERS__POSTGRES__URL", "postgres://h/x"),
    ];
    assert!(fault(&both).contains("give only one"));
    let text = fault(&[("ORDERS__POSTGRES__URL_FILE", "/nowhere")]);
    assert!(
        text.starts_with("ORDERS__POSTGRES__URL_FILE") && text.contains("/nowhere"),
        "{text}"
    );
}
