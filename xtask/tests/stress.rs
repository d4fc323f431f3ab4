//! `cargo xtask stress` as anyone runs it: each mode for a few seconds, and what is left when it is stopped in the middle.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use xtask::account::Account;
use xtask::folders;
use xtask::process::{ProcessId, Signal};

mod stopping;

use stopping::{assert_none_stays_behind, eventually};

/// The task with the service that was built together with this test, and a folder for its results, removed at the end.
struct Stress {
    folder: PathBuf,
}

impl Stress {
    fn new() -> Stress {
        let folder = folders::temporary("order-tracker-stress-test", &Account::for_postgres()).unwrap();
        Stress { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
        let service = xtask.with_file_name("order-tracker");
        assert!(
            service.is_file(),
            "{} is not built: run `cargo xtask test`",
            service.display()
        );
        let mut command = Command::new(xtask);
        command.arg("stress").args(arguments);
        command
            .arg("--out")
            .arg(&self.folder)
            .arg("--as-built")
            .arg("--service")
            .arg(service);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> (Output, Value) {
        let output = self.command(arguments).output().unwrap();
        let written = self.folder.join("result.json").is_file();
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        assert!(written, "no result: {}", String::from_utf8_lossy(&said));
        (output, self.result())
    }

    fn result(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.folder.join("result.json")).unwrap()).unwrap()
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{errors}", output.status);
    text
}

#[test]
fn reads_of_each_kind_are_answered_and_reported() {
    let stress = Stress::new();
    let arguments = [
        "read",
        "--sweep",
        "100,200",
        "--duration",
        "2s",
        "--warmup",
        "500ms",
        "--orders",
        "300",
    ];
    let mix = [
        "--misses",
        "20",
        "--unknown",
        "10",
        "--seed",
        "5",
        "--fail-if",
        "errors<1%,p50<10s",
    ];
    let (output, result) = stress.run(&[&arguments[..], &mix[..]].concat());
    let text = said(&output);
    for expected in [
        "Environment ",
        "fsync on",
        "Status Codes",
        "200:",
        "404:",
        "  miss ",
        "Sweep ",
        "holds   errors<1%",
    ] {
        assert!(text.contains(expected), "no `{expected}` in {text}");
    }
    let runs = result["runs"].as_array().unwrap();
    // On a machine with no time left the second step may be one too many, and is not asked for then.
    let reads = &runs[0]["reads"];
    assert_eq!(reads["requests"], 200);
    assert_eq!(reads["success"], 1.0, "{reads}");
    let classes: Vec<&Value> = reads["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| &class["name"])
        .collect();
    assert_eq!(classes, ["hit", "miss", "unknown"]);
    let page = std::fs::read_to_string(stress.folder.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("\"mode\":\"read\""));
    let percentiles = std::fs::read_to_string(stress.folder.join("latency.hgrm")).unwrap();
    assert!(percentiles.contains("#[Max "));

    // Once more, held against the first, with a condition that cannot hold.
    let baseline = stress.folder.join("before.json");
    std::fs::rename(stress.folder.join("result.json"), &baseline).unwrap();
    let arguments = [
        "read",
        "--max",
        "--duration",
        "1s",
        "--warmup",
        "0s",
        "--orders",
        "50",
        "--connections",
        "4",
    ];
    let more = ["--fail-if", "p50<1ns", "--baseline", baseline.to_str().unwrap()];
    let (output, result) = stress.run(&[&arguments[..], &more[..]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("FAILED  p50<1ns") && text.contains("Baseline "),
        "{text}"
    );
    assert!(result["runs"][0]["target_rate"].is_null());
}

#[test]
fn what_is_published_is_followed_until_it_is_durable_and_readable() {
    let stress = Stress::new();
    let (output, result) = stress.run(&["ingest", "--count", "2000", "--samples", "100"]);
    let text = said(&output);
    assert!(text.contains("rows equal messages sent"), "{text}");
    let ingest = &result["runs"][0]["ingest"];
    assert_eq!(
        (&ingest["sent"], &ingest["durable"], &ingest["complete"]),
        (&2_000.into(), &2_000.into(), &true.into())
    );
    assert!(ingest["redeliveries"].is_u64(), "{ingest}");
    assert_eq!(
        ingest["lag"]["count"], 100,
        "one in twenty, however slow some are: {ingest}"
    );
    assert!(ingest["acknowledge_rate"].as_f64() > ingest["durable_rate"].as_f64().map(|rate| rate / 2.0));
}

/// The service stands still for a second of eight. Of 500 requests that were meant for it eight are under way, one a connection.
#[test]
#[cfg(target_os = "linux")]
fn a_service_that_is_frozen_shows_in_the_response_times_and_hides_in_the_service_times() {
    let stress = Stress::new();
    let arguments = ["read", "--rate", "500", "--duration", "8s", "--warmup", "0s"];
    let more = ["--orders", "100", "--connections", "8"];
    let mut run = stress
        .command(&[&arguments[..], &more[..]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(run.stderr.take().unwrap());
    // Written 5 s after the load began.
    let mut lines = stderr.lines().map(Result::unwrap);
    assert!(
        lines.any(|line| line.contains(" read ")),
        "no line tells how far it is"
    );
    let service = ProcessId::of(run.id())
        .unwrap()
        .descendants()
        .into_iter()
        .find(|process| {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid));
            name.is_ok_and(|name| name.trim() == "order-tracker")
        });
    let service = service.expect("the service runs");
    service.signal(Signal::STOP).unwrap();
    sleep(Duration::from_secs(1));
    service.signal(Signal::CONT).unwrap();
    lines.for_each(drop);
    let text = said(&run.wait_with_output().unwrap());
    assert!(text.contains("Something stalled"), "{text}");
    let reads = &stress.result()["runs"][0]["reads"];
    let p95 = |times: &str| reads[times]["percentiles_ms"]["95"].as_f64().unwrap();
    assert!(
        p95("response") > 300.0 && p95("service") < p95("response") / 2.0,
        "response {} ms, service {} ms",
        p95("response"),
        p95("service")
    );
}

#[test]
fn reads_and_publishing_go_together() {
    let stress = Stress::new();
    let arguments = [
        "mixed",
        "--rate",
        "100",
        "--publish-rate",
        "50",
        "--duration",
        "2s",
        "--warmup",
        "500ms",
    ];
    let (output, result) = stress.run(&[&arguments[..], &["--orders", "100"]].concat());
    said(&output);
    let run = &result["runs"][0];
    assert_eq!(
        (&run["reads"]["requests"], &run["publishes"]["requests"]),
        (&200.into(), &100.into())
    );
    assert_eq!(
        (&run["ingest"]["sent"], &run["ingest"]["complete"]),
        (&125.into(), &true.into())
    );
}

#[test]
fn what_cannot_be_asked_for_is_refused_before_anything_starts() {
    let stress = Stress::new();
    for (arguments, expected) in [
        (&["read", "--fail-if", "p99<20"][..], "no time such as 20ms"),
        (&["read", "--rate", "0"], "not more than 0"),
        (
            &["read", "--misses", "70", "--unknown", "60"],
            "together at most 100",
        ),
        (
            &["read", "--baseline", "/nowhere.json"],
            "cannot read /nowhere.json",
        ),
        (&["read", "--max", "--rate", "5"], "cannot be used with"),
    ] {
        let output = stress.command(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && errors.contains(expected),
            "{arguments:?}: {errors}"
        );
        assert!(!errors.contains("Starting PostgreSQL"), "{errors}");
    }
    // A service that is not ours: what it has is not known.
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args([
            "stress",
            "read",
            "--as-built",
            "--url",
            "http://127.0.0.1:1",
            "--out",
        ])
        .arg(&stress.folder);
    let errors = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(
        errors.contains("which orders does http://127.0.0.1:1 have?"),
        "{errors}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn however_it_is_stopped_no_process_stays_behind() {
    for signal in [Signal::INT, Signal::KILL] {
        let stress = Stress::new();
        let temporary = stress.folder.join("tmp");
        std::fs::create_dir(&temporary).unwrap();
        // PostgreSQL runs as another user, who has to get there.
        std::fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let run = stress
            .command(&["mixed", "--duration", "10m", "--rate", "50", "--orders", "50"])
            .env("TMPDIR", &temporary)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        assert_none_stays_behind(run, Duration::from_secs(3), signal);
        let emptied = eventually(|| std::fs::read_dir(&temporary).unwrap().next().is_none());
        assert!(emptied, "data are left in {}", temporary.display());
    }
}
