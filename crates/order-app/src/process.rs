//! What the operating system says of this process, under the names that every Prometheus client uses.
//!
//! Read from `/proc` by hand: elsewhere than on Linux these metrics are absent. Written by hand as well, since the processor's time is a
//! counter with a fraction, which the metrics facade does not have.

use std::fs;

/// What `/proc` counts time in: a hundredth of a second, on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// Appends the metrics of this process to a scrape.
pub(crate) fn write_metrics(scrape: &mut String) {
    let mut write = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            scrape.push_str(&format!(
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n"
            ));
        }
    };
    let stat = Stat::read();
    let stat = stat.as_ref();
    write(
        "process_cpu_seconds_total",
        "counter",
        "Time that processors have spent on this process",
        stat.and_then(Stat::cpu_seconds),
    );
    write(
        "process_start_time_seconds",
        "gauge",
        "When this process began, in Unix time",
        stat.and_then(Stat::start_time),
    );
    write(
        "process_threads",
        "gauge",
        "Threads of this process",
        stat.and_then(|stat| stat.field(20)),
    );
    write(
        "process_virtual_memory_bytes",
        "gauge",
        "Memory that is mapped",
        stat.and_then(|stat| stat.field(23)),
    );
    write(
        "process_resident_memory_bytes",
        "gauge",
        "Memory that is in use",
        resident_bytes(),
    );
    write(
        "process_open_fds",
        "gauge",
        "Open files and sockets",
        open_files(),
    );
    write(
        "process_max_fds",
        "gauge",
        "How many files and sockets may be open",
        most_open_files(),
    );
}

/// `/proc/self/stat`, from its third field on: the second is a name that may hold anything.
struct Stat(Vec<String>);

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, fields) = text.rsplit_once(") ")?;
        Some(Stat(fields.split_ascii_whitespace().map(str::to_owned).collect()))
    }

    /// The field of this number in proc(5).
    fn field(&self, number: usize) -> Option<f64> {
        self.0.get(number - 3)?.parse().ok()
    }

    fn cpu_seconds(&self) -> Option<f64> {
        Some((self.field(14)? + self.field(15)?) / TICKS_A_SECOND)
    }

    fn start_time(&self) -> Option<f64> {
        let system = fs::read_to_string("/proc/stat").ok()?;
        let booted: f64 = after(&system, "btime")?.parse().ok()?;
        Some(booted + self.field(22)? / TICKS_A_SECOND)
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes: f64 = after(&status, "VmRSS:")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn open_files() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

fn most_open_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    match after(&limits, "Max open files")? {
        "unlimited" => None,
        most => most.parse().ok(),
    }
}

/// The word after `label`, at the beginning of a line.
fn after<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_ascii_whitespace().next()
}
