//! CPU time: what threads and processes have taken of it. Wall time alone misleads on a machine that others use too.

use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::process::ProcessId;

/// What the calling thread has taken so far.
pub fn of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// How long the calling thread has been ready to run and had no core so far; `None` where the system does not tell.
pub fn waited_by_this_thread() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace()
        .nth(1)?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// What a process and all that it has started have taken so far, those that have ended included; `None` where the system does not
/// tell, or the process is gone. Exact to one tick of the system's clock, most often 10 ms.
///
/// PostgreSQL is a process a connection, so that its first one alone says nothing.
pub fn of_family(process: &ProcessId) -> Option<Duration> {
    if !process.is_alive() {
        return None;
    }
    let family = process.descendants().into_iter().chain([process.clone()]);
    // One that ended meanwhile is counted by its parent once that has taken note.
    let ticks: u64 = family.filter_map(|member| ticks(member.pid)).sum();
    Path::new("/proc/self/stat").exists().then(|| in_time(ticks))
}

/// What this process and those of its children that have ended have taken so far; zero where the system does not tell.
pub fn of_this_process() -> Duration {
    in_time(ticks(std::process::id()).unwrap_or_default())
}

/// The ticks that a process, and its children that have ended, have taken.
fn ticks(pid: u32) -> Option<u64> {
    parse_ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn in_time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn parse_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in brackets and may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let times = after_name.split_whitespace().skip(11).take(4);
    times.map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_four_times_of_a_process_are_read() {
        let stat = "42 (a) R b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 15 16 17 18 777 19";
        assert_eq!(parse_ticks(stat), Some(127));
        assert_eq!(parse_ticks("42 (x) S 1 2"), Some(0));
    }

    #[test]
    fn a_thread_that_computes_takes_cpu_time() {
        let before = of_this_thread();
        let mut number = 1_u64;
        while of_this_thread() < before + Duration::from_millis(5) {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(of_this_thread() > before);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_children_take_counts_for_the_family_also_when_they_have_ended() {
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let script = format!("sh -c '{busy}'; echo done; exec sleep 60");
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = ProcessId::of(shell.id()).unwrap();
        let mut line = String::new();
        let output = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        assert!(of_family(&process).unwrap() > Duration::ZERO);
        shell.kill().and_then(|()| shell.wait()).unwrap();
        assert_eq!(of_family(&process), None);
    }
}
