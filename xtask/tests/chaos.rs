//! `cargo xtask chaos` as anyone runs it: a few rounds with fixed seeds, and what is left when it is stopped in the middle.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use xtask::account::Account;
use xtask::folders;
use xtask::process::{ProcessId, Signal};

/// About three minutes together.
#[test]
fn nothing_is_lost_stale_or_torn() {
    for seed in ["1", "2"] {
        let run = chaos(&["--seed", seed, "--rounds", "6"]).output().unwrap();
        assert!(
            run.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&run.stderr),
            String::from_utf8_lossy(&run.stdout)
        );
    }
}

/// What finds nothing must be able to find something: with a lease far longer than promised, a replica that is cut off from the commit
/// log goes on answering what others have overtaken.
#[test]
fn a_lease_that_is_too_long_is_found_out() {
    let run = chaos(&["--seed", "3", "--rounds", "5", "--set", "CACHE__LEASE=30s"])
        .args(["--faults", "silence-postgres,cut-postgres"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(!run.status.success(), "{said}");
    assert!(said.contains("\nstale: replica "), "{said}");
    assert!(!said.contains("\nlost: "), "{said}");
    let logs = said
        .lines()
        .find_map(|line| line.strip_prefix("The logs are in ")?.strip_suffix('.'));
    std::fs::remove_dir_all(logs.unwrap_or_else(|| panic!("no logs were kept: {said}"))).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn however_it_is_stopped_no_process_stays_behind() {
    for signal in [Signal::INT, Signal::KILL] {
        let temporary = folders::temporary("order-tracker-chaos-test", &Account::for_postgres()).unwrap();
        let mut run = chaos(&["--faults", "freeze-postgres,freeze-nats,freeze-replica"])
            .env("TMPDIR", &temporary)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = ProcessId::of(run.id()).unwrap();
        // PostgreSQL with its own processes, nats-server, the watchdog and three replicas; and then some of them frozen.
        let all_started = eventually(|| process.descendants().len() > 8);
        sleep(Duration::from_secs(4));
        let started = process.descendants();
        process.signal(signal).unwrap();
        run.wait().unwrap();
        let mut left = started.clone();
        let ended = eventually(|| {
            left.retain(ProcessId::is_alive);
            left.is_empty()
        });
        assert!(all_started, "only {started:?} were started");
        assert!(ended, "{left:?} are left after {signal:?}");
        let data = || entries(&temporary).any(|path| path.join("postgres").exists());
        assert!(eventually(|| !data()), "data are left in {}", temporary.display());
        std::fs::remove_dir_all(&temporary).unwrap();
    }
}

/// The task, with the service that was built together with this test.
fn chaos(arguments: &[&str]) -> Command {
    let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
    let service = xtask.with_file_name("order-tracker");
    assert!(
        service.is_file(),
        "{} is not built: run `cargo xtask test`",
        service.display()
    );
    let mut command = Command::new(xtask);
    command
        .args(["chaos", "--service"])
        .arg(service)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if holds() {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    false
}
