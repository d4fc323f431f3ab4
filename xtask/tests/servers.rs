//! Real servers, found or fetched, killed and started again; and the watchdog that stops them when nobody else can.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use xtask::account::Account;
use xtask::folders;
use xtask::process::{ProcessId, Signal};
use xtask::progress::Progress;
use xtask::servers::{Binaries, Durability, Nats, Postgres, Role, Running};

/// A temporary folder, removed when the test ends, and the servers in it, stopped before that.
struct Place {
    folder: PathBuf,
    running: Vec<Running>,
}

impl Place {
    fn new() -> Place {
        let folder = folders::temporary("order-tracker-servers", &Account::for_postgres()).expect("a folder");
        Place {
            folder,
            running: Vec::new(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for running in &self.running {
            running.process.stop(Signal::QUIT, Duration::from_secs(10)).ok();
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}

fn binaries() -> Binaries {
    Binaries::find(&Account::for_postgres(), &Progress::new(2)).expect("PostgreSQL and nats-server")
}

async fn query(url: &str, statement: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect("a connection");
    let connection = tokio::spawn(connection);
    let rows = client.simple_query(statement).await.expect("an answer");
    connection.abort();
    let first = |row: &tokio_postgres::SimpleQueryMessage| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    rows.iter().filter_map(first).collect()
}

#[tokio::test]
async fn a_killed_postgres_comes_back_on_its_port_with_what_it_had_committed() {
    let mut place = Place::new();
    let server = Postgres {
        binaries: binaries().postgres,
        account: Account::for_postgres(),
        data: place.folder.join("data"),
        log: place.folder.join("log"),
        durability: Durability::LostWithPower,
        settings: Vec::new(),
    };
    assert!(!server.is_prepared());
    server.prepare(Role::Owner, "secret").expect("set up");
    let first = server.start(None, |_| Ok(())).expect("started");
    place.running.push(first.clone());

    let user = fs::metadata(format!("/proc/{}", first.process.pid)).map(|found| found.uid());
    assert_ne!(user.ok(), Some(0), "PostgreSQL must never run as root");

    let url = Postgres::url(&first, "secret");
    query(&url, "CREATE TABLE kept AS SELECT 42 AS answer").await;
    assert_eq!(query(&url, "SHOW server_encoding").await, ["UTF8"]);
    assert_eq!(
        query(&url, "SELECT usesuper FROM pg_user WHERE usename = current_user").await,
        ["f"]
    );
    let wrong = Postgres::url(&first, "wrong");
    assert!(
        tokio_postgres::connect(&wrong, tokio_postgres::NoTls)
            .await
            .is_err(),
        "the password counts"
    );

    first.process.signal(Signal::KILL).expect("killed");
    let second = server.start(Some(first.port), |_| Ok(())).expect("started again");
    place.running.push(second.clone());
    assert_eq!(second.port, first.port);
    assert_ne!(second.process, first.process);
    assert_eq!(query(&url, "SELECT answer FROM kept").await, ["42"]);

    Postgres::stop(&second).expect("stopped");
    assert!(!second.process.is_alive());
}

#[test]
fn a_killed_nats_server_comes_back_on_its_port() {
    let mut place = Place::new();
    let server = Nats {
        binary: binaries().nats,
        store: place.folder.join("store"),
        log: place.folder.join("log"),
    };
    let mut told = Vec::new();
    let first = server
        .start(None, |started| {
            told.push(started.process.clone());
            Ok(())
        })
        .expect("started");
    place.running.push(first.clone());
    assert_eq!(
        told,
        std::slice::from_ref(&first.process),
        "whoever starts it knows of it in time"
    );

    first.process.signal(Signal::KILL).expect("killed");
    assert!(first.process.wait(Duration::from_secs(10)));
    let second = server.start(Some(first.port), |_| Ok(())).expect("started again");
    place.running.push(second.clone());
    assert_eq!(second.port, first.port);
}

#[test]
fn a_port_that_is_taken_is_refused_with_the_end_of_the_log() {
    let mut place = Place::new();
    let server = Nats {
        binary: binaries().nats,
        store: place.folder.join("store"),
        log: place.folder.join("log"),
    };
    let first = server.start(None, |_| Ok(())).expect("started");
    place.running.push(first.clone());
    let other = Nats {
        store: place.folder.join("other"),
        log: place.folder.join("other-log"),
        ..server
    };
    let error = other
        .start(Some(first.port), |_| Ok(()))
        .expect_err("the port is taken");
    assert!(error.to_string().contains("address already in use"), "{error}");
}

#[test]
fn the_watchdog_stops_what_it_was_told_of_when_the_task_is_gone_and_nothing_else() {
    let place = Place::new();
    let inner = place.folder.join("inner");
    fs::create_dir(&inner).expect("a folder");
    let (mut known, mut stranger) = (sleeper(), sleeper());
    let (known_id, stranger_id) = (id(&known), id(&stranger));
    // The number of a process that runs, and the moment of one that has long ended.
    let mut reused = serde_json::to_value(&stranger_id).expect("JSON");
    reused["started"] = json!("long ago");

    let mut watchdog = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg(xtask::watchdog::SUBCOMMAND)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the watchdog");
    let mut pipe = watchdog.stdin.take().expect("a pipe");
    for duty in [
        json!({ "Remove": { "folder": inner } }),
        json!({ "Stop": { "process": reused, "signal": Signal::TERM.as_raw(), "patience": 5 } }),
        json!({ "Stop": { "process": known_id, "signal": Signal::TERM.as_raw(), "patience": 5 } }),
    ] {
        writeln!(pipe, "{duty}").expect("told");
    }
    write!(pipe, "{{\"Stop\":{{\"proc").expect("a line that a killed task did not finish");
    assert!(
        known_id.is_alive() && Path::new(&inner).exists(),
        "nothing happens while the task lives"
    );

    drop(pipe);
    assert!(watchdog.wait().expect("it ends").success());
    assert!(!known_id.is_alive());
    assert!(
        stranger_id.is_alive(),
        "another process that was given the number"
    );
    assert!(!inner.exists());
    known.wait().expect("it ended");
    stranger.kill().and_then(|()| stranger.wait()).expect("it ends");
}

fn sleeper() -> Child {
    Command::new("sleep").arg("300").spawn().expect("sleep")
}

fn id(child: &Child) -> ProcessId {
    ProcessId::of(child.id()).expect("it runs")
}
