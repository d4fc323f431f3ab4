//! `cargo xtask bench` as anyone runs it, with next to nothing to do: that every figure comes out, not how large it is.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use xtask::account::Account;
use xtask::{environment, folders};

/// What needs neither wrk nor pgbench, and how many figures that makes.
const WITHOUT_READS: ([&str; 6], usize) = (["ingest", "updates", "warm-up", "lag", "stored", "replicas"], 9);
const READS: [&str; 2] = ["hot", "cold"];

/// Whether reads can be measured here.
fn has_wrk_and_pgbench() -> bool {
    let wrk = Command::new("wrk")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let postgres = environment::variable("ORDERS_TEST_POSTGRES_BIN").unwrap_or_default();
    wrk.is_ok() && Path::new(&postgres).join("pgbench").is_file()
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that tried only a part has to say so")]
fn every_figure_is_measured_against_its_floor() {
    let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
    let service = xtask.with_file_name("order-tracker");
    assert!(
        service.is_file(),
        "the service is not built: run `cargo xtask test`"
    );
    let built = Command::new(env!("CARGO"))
        .args(["build", "--workspace", "--all-features", "--example", "bare"])
        .current_dir(folders::project())
        .status();
    assert!(built.unwrap().success());
    let (mut works, mut expected) = (WITHOUT_READS.0.to_vec(), WITHOUT_READS.1);
    if has_wrk_and_pgbench() {
        works.extend(READS);
        expected += READS.len();
    } else {
        eprintln!("NOT TRIED: reads, which need wrk and pgbench");
    }
    let folder = folders::temporary("order-tracker-bench-test", &Account::current()).unwrap();
    let json = folder.join("result.json");
    let output = Command::new(xtask)
        .args([
            "bench",
            "--as-built",
            "--orders",
            "500",
            "--rounds",
            "1",
            "--seconds",
            "1",
        ])
        .args(works)
        .args(["--stored", "100,1000", "--set", "LOG__FORMAT=json"])
        .arg("--json")
        .arg(&json)
        .arg("--service")
        .arg(service)
        .arg("--bare")
        .arg(xtask.with_file_name("examples").join("bare"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let result = std::fs::read(&json).unwrap_or_default();
    std::fs::remove_dir_all(&folder).unwrap();
    let result: Value = serde_json::from_slice(&result).unwrap_or_else(|_| panic!("{text}{errors}"));

    assert!(
        errors.contains("fsync on") && errors.contains("sync every 2 min"),
        "{errors}"
    );
    let figures = result["figures"].as_array().unwrap();
    assert_eq!(figures.len(), expected, "{text}");
    for (figure, row) in figures.iter().zip(text.lines().skip(2)) {
        let work = figure["work"].as_str().unwrap();
        assert!(row.starts_with(&format!("| {work} |")), "{row}");
        let rounds = figure["rounds"].as_array().unwrap();
        assert!(rounds.len() == 1 && rounds[0].as_f64() > Some(0.0), "{figure}");
        assert!(figure["reach"].is_object(), "{figure}");
    }
    let rates = |side: &str| {
        figures
            .iter()
            .filter(|figure| !figure[side].as_array().unwrap().is_empty())
            .count()
    };
    // The service's own CPU time stands for itself.
    assert_eq!(
        (rates("ours"), rates("beside")),
        (expected - 1, expected - 1),
        "{text}"
    );
    // With so little to do not all bounds can hold, nor will they all be missed: the exit code says which.
    let holds = !text.contains("**missed**");
    assert_eq!(
        output.status.code(),
        Some(if holds { 0 } else { 1 }),
        "{text}{errors}"
    );
}
