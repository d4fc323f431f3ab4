//! 10,000 connections that send heads which do not end, and what others notice of them. Takes minutes, and says
//! something only on a machine that does nothing else, in a build with optimisation. So it is started by hand:
//!
//! `cargo xtask test --release --test slow_loris -- --ignored --nocapture`

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use order_domain::testing::orders::sample_order;
use order_tests::{Process, Shop};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xtask::cpu;
use xtask::process::ProcessId;

const CONNECTIONS: usize = 10_000;
const ROUNDS: usize = 5;
/// How long one measurement takes.
const PHASE: Duration = Duration::from_secs(6);
const READERS: usize = 4;
/// How often each reader asks.
const EVERY: Duration = Duration::from_millis(4);
/// How often each connection of the attack is made anew: a little more than what a head may take.
const TURN: Duration = Duration::from_millis(5_200);
/// How long an attack lasts: the second turn is as all that follow, since as many are cut off as come, and then it is measured.
const LASTS: Duration = Duration::from_secs(17);
/// Where reads are slower than this without an attack, the machine has other things to do, and what is measured says nothing.
const HEALTHY: Duration = Duration::from_millis(2);

/// What has become of the connections of an attack.
#[derive(Debug, Default)]
struct Attack {
    begun: AtomicUsize,
    cut_off: AtomicUsize,
    outlived: AtomicUsize,
}

impl Attack {
    /// Holds all connections from one thread that does little, and that evenly: one is made anew, and another one gets a byte more of
    /// its head, then it sleeps. What others notice shall be the service, not this.
    fn run(&self, address: SocketAddr) {
        let mut streams: Vec<Option<TcpStream>> = (0..CONNECTIONS).map(|_| None).collect();
        let began = Instant::now();
        for step in 0.. {
            if began.elapsed() > LASTS {
                return;
            }
            sleep((TURN * step / CONNECTIONS as u32).saturating_sub(began.elapsed()));
            let place = step as usize % CONNECTIONS;
            if let Some(stream) = streams[place].take() {
                let counter = if is_cut_off(&stream) {
                    &self.cut_off
                } else {
                    &self.outlived
                };
                counter.fetch_add(1, Relaxed);
            }
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.set_nonblocking(true).expect("a socket");
            stream
                .write_all(b"GET / HTTP/1.1\r\nx: ")
                .expect("it is connected");
            streams[place] = Some(stream);
            self.begun.fetch_add(1, Relaxed);
            if let Some(stream) = &mut streams[(place + CONNECTIONS / 2) % CONNECTIONS] {
                let _ = stream.write_all(b"x");
            }
        }
    }
}

/// Whether the other side has ended it, after whatever answer.
fn is_cut_off(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 256];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Reads one order again and again, as many do, and answers how long each read took, sorted.
fn read(address: SocketAddr) -> Vec<Duration> {
    let read = || {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let (mut took, mut answer) = (Vec::new(), vec![0; 16 * 1024]);
        let mut due = Instant::now();
        let end = due + PHASE;
        while due < end {
            sleep(due.saturating_duration_since(Instant::now()));
            stream
                .write_all(b"GET /api/v1/orders/a HTTP/1.1\r\nhost: shop\r\n\r\n")
                .expect("it is connected");
            let length = stream.read(&mut answer).expect("an answer");
            assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
            // From when the read was due, so that waiting for a slow one before it counts.
            took.push(due.elapsed());
            due += EVERY;
        }
        took
    };
    let mut took = scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                // Not all at once.
                sleep(EVERY / READERS as u32 * reader as u32 / 4);
                scope.spawn(read)
            })
            .collect();
        let took = readers
            .into_iter()
            .map(|it| it.join().expect("it does not panic"));
        took.collect::<Vec<_>>().concat()
    });
    took.sort_unstable();
    took
}

fn quantile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// Reads, and answers the p99 of it.
#[expect(clippy::print_stdout, reason = "the figures are what it is started for")]
fn measure(what: &str, address: SocketAddr, service: &ProcessId) -> Duration {
    let before = cpu::of_family(service);
    let took = read(address);
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| quantile(&took, part));
    let cpu = cpu::of_family(service)
        .zip(before)
        .map(|(after, before)| after - before);
    println!(
        "{what:>8}: p50 {p50:.2?} p99 {p99:.2?} p99.9 {p999:.2?} of {} reads; the service took {cpu:.2?} of CPU",
        took.len()
    );
    p99
}

fn open_files(process: &Process) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", process.id()));
    files.expect("it is running").count()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, on a machine that does nothing else"]
#[expect(clippy::print_stdout, reason = "the figures are what it is started for")]
async fn ten_thousand_slow_connections_do_not_slow_the_others_down() {
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("as many open files as are allowed");

    let mut shop = Shop::open().await;
    shop.set("HTTP__WORKERS", "0");
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    client.ready().await;
    shop.publish_order(&sample_order("a")).await;
    client.get_when_there("a").await;
    let address = client.address();
    let service = ProcessId::of(process.id()).expect("it is running");
    let files_without = open_files(&process);

    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let without = measure("without", address, &service);
        assert!(
            without <= HEALTHY,
            "this machine does something else: p99 is {without:?}"
        );
        let attack = Attack::default();
        let (held, with) = scope(|scope| {
            scope.spawn(|| attack.run(address));
            sleep(TURN * 2);
            let held = open_files(&process) - files_without;
            (held, measure("with", address, &service))
        });
        println!("round {round}: {held} connections held; {attack:?}");
        assert!(held > CONNECTIONS * 8 / 10, "too few to be an attack");
        assert_eq!(attack.outlived.into_inner(), 0, "some were not cut off");
        ratios.push(with.as_secs_f64() / without.as_secs_f64());
        // What is measured next must not be what it takes to clear up after this.
        while open_files(&process) > files_without + 10 {
            sleep(Duration::from_millis(100));
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!("p99 with / without: {ratios:.2?}");
    assert!(ratios[ROUNDS / 2] <= 2.0, "{ratios:?}");
    process.terminate().await;
    shop.close().await;
}
