//! `cargo xtask chaos` as anyone runs it: a few rounds with fixed seeds, and what is left when it is stopped in the middle.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use xtask::account::Account;
use xtask::folders;
use xtask::process::Signal;

mod stopping;

use stopping::{assert_none_stays_behind, eventually};

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
        let run = chaos(&["--faults", "freeze-postgres,freeze-nats,freeze-replica"])
            .env("TMPDIR", &temporary)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Until some of them are frozen.
        assert_none_stays_behind(run, Duration::from_secs(4), signal);
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
