//! What is left of a task that is stopped in the middle.

use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use xtask::process::{ProcessId, Signal};

/// Stops a task with this signal, once its servers are started and `a_while` has passed, and finds that none of its processes
/// stays behind. PostgreSQL with its own processes, nats-server, the watchdog and the service make more than eight.
pub(crate) fn assert_none_stays_behind(mut run: Child, a_while: Duration, signal: Signal) {
    let process = ProcessId::of(run.id()).unwrap();
    let all_started = eventually(|| process.descendants().len() > 8);
    sleep(a_while);
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
}

/// Whether it holds within a minute.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if holds() {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    false
}
